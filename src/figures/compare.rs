//! Runs of several recipes side by side: what their folders hold, their last values, where their
//! recipes differ, and their curves.

use super::runs::Run;
use super::study::{curve_panels, curves_of};
use crate::error::{Error, Result};
use crate::files;
use crate::measure::evidence::quartiles;
use crate::measure::metrics::{self, Metric};
use crate::record::{
    CONFIG_FILE, Keys, METRICS_FILE, Outcome, differing, flatten, read_metrics, read_outcome,
};
use crate::report::Figure;
use std::path::{Path, PathBuf};

/// What is compared, where some run has it.
const SHOWN: [&str; 5] = ["train/loss", "val/z_std", "val/rankme", "val/knn_top1", "val/linear_top1"];
/// Keys in which runs of one recipe differ.
const OF_THE_SEED: [&str; 2] = ["seed", "data.shapes_seed"];

/// Runs of one recipe, which differ in their seeds.
pub struct Item {
    /// The last names of its folder, or the whole path where those of two items are the same.
    pub name: String,
    /// Its runs, by seed.
    pub runs: Vec<Run>,
    /// The first one's recipe: value by dotted key.
    pub recipe: Keys,
}

/// What the folders at `paths` hold, each a run, an arm's runs, or a study's arms.
///
/// # Errors
/// [`Error::Data`] for a folder without runs, or with a damaged recipe or outcome.
pub fn items(paths: &[PathBuf]) -> Result<Vec<Item>> {
    let mut found: Vec<(PathBuf, Item)> = Vec::new();
    for path in paths {
        let before = found.len();
        if path.join(CONFIG_FILE).is_file() {
            found.push((path.clone(), item(path, vec![path.clone()])?));
        } else {
            for folder in std::iter::once(path.clone()).chain(folders(path)?) {
                let runs: Vec<PathBuf> =
                    folders(&folder)?.into_iter().filter(|run| run.join(CONFIG_FILE).is_file()).collect();
                if !runs.is_empty() {
                    found.push((folder.clone(), item(&folder, runs)?));
                }
            }
        }
        if found.len() == before {
            let what = "holds no run: name a run's folder (it has a config.toml), an arm's or a study's";
            return Err(Error::data(path, what));
        }
    }
    let shared = |name: &str| found.iter().filter(|(_, item)| item.name == name).count() > 1;
    let whole: Vec<bool> = found.iter().map(|(_, item)| shared(&item.name)).collect();
    let named = found.into_iter().zip(whole).map(|((path, item), whole)| match whole {
        true => item.called(path.display().to_string()),
        false => item,
    });
    Ok(named.collect())
}

/// The folders in `folder`, sorted.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).map_err(|e| Error::data(folder, format!("cannot be read: {e}")))?;
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn item(folder: &Path, paths: Vec<PathBuf>) -> Result<Item> {
    let parts: Vec<_> = folder.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    // A run's own folder is called by its seed: its arm says more.
    let shown = if folder.join(CONFIG_FILE).is_file() { 3 } else { 2 };
    let name = parts[parts.len().saturating_sub(shown)..].join("/");
    let (mut runs, mut recipe) = (Vec::new(), None);
    for path in paths {
        let config = path.join(CONFIG_FILE);
        let wrong = |what: String| Error::data(&config, format!("is no recipe: {what}"));
        let text = files::text(&config, files::TABLE).map_err(|e| wrong(e.to_string()))?;
        if files::nested_too_deep(&text).is_some() {
            return Err(wrong("it is nested too deeply".into()));
        }
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.message().into()))?;
        let seed = table.get("seed").and_then(toml::Value::as_integer);
        let seed =
            seed.and_then(|seed| u64::try_from(seed).ok()).ok_or_else(|| wrong("it has no seed".into()))?;
        let mut keys = flatten(table);
        OF_THE_SEED.iter().for_each(|key| drop(keys.remove(*key)));
        recipe.get_or_insert(keys);
        let outcome = read_outcome(&path)?;
        runs.push(Run { arm: name.clone(), seed, path, outcome });
    }
    runs.sort_by_key(|run| run.seed);
    Ok(Item { name, runs, recipe: recipe.unwrap_or_default() })
}

impl Item {
    /// The same under another name, which its runs' curves have too.
    fn called(mut self, name: String) -> Item {
        self.runs.iter_mut().for_each(|run| run.arm.clone_from(&name));
        Item { name, ..self }
    }

    /// The last value of `metric` in each run that has it.
    ///
    /// # Errors
    /// [`Error::Data`] for damaged metrics.
    pub fn last(&self, metric: &str) -> Result<Vec<(u64, f64)>> {
        let mut values = Vec::new();
        for run in &self.runs {
            let path = run.path.join(METRICS_FILE);
            if path.is_file() {
                values.extend(read_metrics(&path)?.last(metric).map(|value| (run.seed, value)));
            }
        }
        Ok(values)
    }

    /// The median of `metric`'s last value over the runs; none where no run has it.
    ///
    /// # Errors
    /// As [`Item::last`].
    pub fn median(&self, metric: &str) -> Result<Option<f64>> {
        let values: Vec<f64> = self.last(metric)?.into_iter().map(|(_, value)| value).collect();
        Ok(quartiles(&values).map(|[_, median, _]| median))
    }

    /// Runs that ended as they should.
    pub fn finished(&self) -> usize {
        self.runs.iter().filter(|run| run.outcome == Some(Outcome::Finished)).count()
    }
}

/// What is shown of them: the metrics that some run has.
///
/// # Errors
/// As [`Item::last`].
pub fn shown(items: &[Item]) -> Result<Vec<Metric>> {
    let mut found = Vec::new();
    for name in SHOWN {
        let has = |item: &Item| item.last(name).map(|values| !values.is_empty());
        if items.iter().map(has).collect::<Result<Vec<_>>>()?.contains(&true) {
            found.push(*metrics::of(name));
        }
    }
    Ok(found)
}

/// The keys in which recipes differ, with each item's value; none where an item lacks the key.
pub fn differences(items: &[Item]) -> Vec<(String, Vec<Option<String>>)> {
    differing(&items.iter().map(|item| &item.recipe).collect::<Vec<_>>())
}

/// The figure of the curves of all `items`, made by `command`.
///
/// # Errors
/// [`Error::Data`] for damaged metrics.
pub fn curves(items: &[Item], command: &str) -> Result<Figure> {
    let columns = shown(items)?;
    let mut points = Vec::new();
    for run in items.iter().flat_map(|item| &item.runs) {
        points.extend(curves_of(run, &columns)?);
    }
    let panels = curve_panels(&columns, &mut points);
    let arms = items.iter().map(|item| (item.name.clone(), item.name.clone())).collect();
    let caption = format!("{command}   ·   sim {}", env!("CARGO_PKG_VERSION"));
    Ok(Figure { title: "Runs side by side".into(), caption, arms, panels, points })
}
