//! A study file: the question, the arms as differences, the flags it offers, the claims that can
//! fail.

use super::embedded;
use super::fault;
use super::head::{Head, Names};
use super::layer::Entry;
use super::nearest::hint;
use super::seeds::Seeds;
use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use crate::measure::metrics;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Keys of a study file that are not keys of a recipe.
pub(super) const HEAD: [&str; 10] =
    ["title", "question", "paper", "base", "suite", "shows", "facts", "figures", "flag", "claim"];
/// Keys of a study file with recipes inside.
pub(super) const BODY: [&str; 2] = ["arm", "scale"];
/// Keys of a recipe.
pub(super) const RECIPE: [&str; 13] = [
    "seed",
    "schedule",
    "eta",
    "data",
    "augment",
    "encoder",
    "predictor",
    "objective",
    "optim",
    "measure",
    "closed_form",
    "pretraining",
    "transfer",
];
/// Flags that every study has already.
const RESERVED: &str = "scale data skip-bad set epochs lr batch-size learning-rate bs seeds until-decided max-seeds jobs \
     threads out device fresh quiet json help only slurm max-parallel max-restarts dry-run gather";
/// Keys of an arm that are not keys of a recipe.
pub(super) const ARM: [&str; 6] = ["name", "title", "reference", "at", "base", "from"];
/// Keys of a scale that are not keys of a recipe.
pub(super) const SCALE: [&str; 2] = ["about", "seeds"];

/// A question and how it is put to the test.
#[derive(Clone, Debug)]
pub struct Study {
    /// Name of its folder of runs.
    pub name: String,
    /// What names it on the command line: its name, or its file's path.
    pub given: String,
    /// What the file says of itself.
    pub head: Head,
    /// The arms, in the file's order.
    pub arms: Vec<ArmSpec>,
    /// What the study changes for all arms.
    pub overlay: Entry,
    /// What it changes at some scales.
    pub scales: BTreeMap<String, Scale>,
    /// The file.
    pub source: Arc<Source>,
}

/// An arm as the file declares it.
#[derive(Clone, Debug)]
pub struct ArmSpec {
    /// Name of its folder.
    pub name: String,
    /// Its name in tables, when that is longer.
    pub title: Option<String>,
    /// Trained whatever the flags ask for, because others are compared with it.
    pub reference: bool,
    /// The scales at which it is trained without being asked for by a flag; every one, if there
    /// are none.
    pub at: Option<Names>,
    /// Its base method, where that is not the study's.
    pub base: Option<String>,
    /// The arm whose weights it begins with, those of the same seed.
    pub from: Option<String>,
    /// Its differences.
    pub overlay: Entry,
    /// What else is different at some scales.
    pub scales: BTreeMap<String, Scale>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmHead {
    name: String,
    title: Option<String>,
    #[serde(default)]
    reference: bool,
    at: Option<Names>,
    base: Option<String>,
    from: Option<String>,
}

/// A scale, or what a study changes at one.
#[derive(Clone, Debug)]
pub struct Scale {
    /// What it is for.
    pub about: Option<String>,
    /// The seeds of every arm, when the command line does not say.
    pub seeds: Option<Seeds>,
    /// What it changes.
    pub overlay: Entry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleHead {
    about: Option<String>,
    seeds: Option<Seeds>,
}

impl Study {
    /// The embedded study called `name`, or the one in the file `name` when it ends in `.toml`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that no study has, [`Error::Disk`] for a file that cannot be
    /// read, [`Error::Config`] for a mistake inside it.
    pub fn find(name: &str) -> Result<Study> {
        if name.ends_with(".toml") {
            let path = Path::new(name);
            let text = files::text(path, files::SHORT).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::Usage(format!("{name}: there is no such study file")),
                _ if files::is_refusal(&error) => {
                    Error::Usage(format!("{name}: cannot be read as a study: {error}"))
                }
                _ => Error::disk(path, "read the study")(error),
            })?;
            let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            if stem.is_empty() || stem.starts_with('.') {
                return Err(Error::Usage(format!(
                    "{name}: a study's folder has the name of its file, and `{stem}` cannot be one; give the file another name"
                )));
            }
            // Its path may be that of a built-in study's file.
            return Ok(Study { given: name.to_string(), ..Study::parse(&stem, name, text)? });
        }
        let Some(file) = embedded::find("", name) else {
            if embedded::find("base", name).is_some() {
                return Err(Error::Usage(format!(
                    "`{name}` is a method, not a study: `methods` compares it with others, and base = \"{name}\" in a study \
                     file of your own begins from it"
                )));
            }
            let hint = hint(name, embedded::names(""));
            let known: Vec<&str> = embedded::names("").collect();
            return Err(Error::Usage(format!(
                "unknown study `{name}`{hint} (studies: {}; or give a file ending in .toml)",
                known.join(", ")
            )));
        };
        Study::parse(name, file.path, file.text.to_string())
    }

    /// Every embedded study.
    ///
    /// # Errors
    /// As [`Study::find`].
    pub fn all() -> Result<Vec<Study>> {
        embedded::names("").map(Study::find).collect()
    }

    /// Reads a study from `text`, which stands in the file `path`.
    ///
    /// # Errors
    /// [`Error::Config`] for a mistake, with its place.
    pub fn parse(name: &str, path: &str, text: String) -> Result<Study> {
        let source = Arc::new(Source { name: path.to_string(), text, flag: false });
        let mut tree = Entry::parse(&source)?;
        if tree.get("title").is_none() && tree.get("schedule").is_some() {
            return recipe_as_study(name, source, tree);
        }
        known_keys(&tree)?;
        let written = tree.split(&HEAD);
        let head: Head = fault::deserialize(&written, &[])?;
        let mut arms = Vec::new();
        let list = tree.take("arm");
        for mut arm in list.into_iter().flat_map(items) {
            let head = arm.split(&ARM);
            let ArmHead { name, title, reference, at, base, from } = fault::deserialize(&head, &[])?;
            if let (Some(base), Some(entry)) = (&base, head.get("base")) {
                known("base", base).map_err(|what| entry.origin.at_value(what, None))?;
            }
            let written = head.get("at").cloned().into_iter().flat_map(items);
            for (scale, entry) in at.iter().flat_map(Names::all).zip(written) {
                known("scale", scale).map_err(|what| entry.origin.at_value(what, None))?;
            }
            if let Some(entry) = head.get("name") {
                check_name(&name).map_err(|what| entry.origin.at_value(what, None))?;
                if arms.iter().any(|other: &ArmSpec| other.name == name) {
                    return Err(entry.origin.at_value(format!("a second arm called `{name}`"), None));
                }
            }
            if let (Some(from), Some(entry)) = (&from, head.get("from")) {
                let known = |other: &ArmSpec| other.name == *from && other.from.is_none();
                if !arms.iter().any(known) {
                    let what =
                        format!("`{from}` is no arm above this one that begins with weights of its own");
                    return Err(entry.origin.at_value(what, None));
                }
            }
            let scales = scales_of(&mut arm)?;
            arms.push(ArmSpec { name, title, reference, at, base, from, overlay: arm, scales });
        }
        if arms.is_empty() {
            let overlay = tree.split(&[]);
            arms.push(ArmSpec::only(name, overlay));
        }
        let scales = scales_of(&mut tree)?;
        let study = Study {
            name: name.to_string(),
            given: given(name, &source),
            head,
            arms,
            overlay: tree,
            scales,
            source,
        };
        study.check(&written)?;
        Ok(study)
    }

    /// Refuses references to bases, arms and metrics that do not exist, pointing into `written`.
    fn check(&self, written: &Entry) -> Result<()> {
        let fail = |path: [&str; 3], what: String| Err(fault::at_path(written, &path, what));
        let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        if let Some(base) = &self.head.base
            && let Err(what) = known("base", base)
        {
            return fail(["base", "", ""], what);
        }
        for (index, flag) in self.head.flag.iter().enumerate() {
            if !names.contains(&flag.like.as_str()) {
                let hint = hint(&flag.like, names.iter().copied());
                return fail(
                    ["flag", &index.to_string(), "like"],
                    format!("unknown arm `{}`{hint}", flag.like),
                );
            }
            if RESERVED.split(' ').any(|name| name == flag.name) || check_name(&flag.name).is_err() {
                let what = format!("`{}` cannot be the name of a flag", flag.name);
                return fail(["flag", &index.to_string(), "name"], what);
            }
        }
        for (index, metric) in self.head.shows.iter().enumerate() {
            if !metrics::of(metric).is_judged() {
                let hint = hint(metric, metrics::judged().map(|metric| metric.name));
                return fail(["shows", &index.to_string(), ""], format!("unknown metric `{metric}`{hint}"));
            }
        }
        for (index, claim) in self.head.claim.iter().enumerate() {
            if let Err((key, what)) = claim.check(&names) {
                return fail(["claim", &index.to_string(), key], what);
            }
        }
        Ok(())
    }

    /// Whether a claim expects the runs of `arm` to diverge: then it is an outcome and no failure.
    pub fn expects_divergence(&self, arm: &str) -> bool {
        self.head.claim.iter().any(|claim| claim.expects_divergence(arm))
    }

    /// Names at the top level of a study file beside those of a recipe.
    pub fn keys() -> Vec<&'static str> {
        HEAD.into_iter().chain(BODY).collect()
    }
}

impl Scale {
    /// The embedded scale called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that no scale has.
    pub fn find(name: &str) -> Result<Scale> {
        let Some(file) = embedded::find("scale", name) else {
            let known: Vec<&str> = embedded::names("scale").collect();
            let hint = hint(name, known.iter().copied());
            return Err(Error::Usage(format!(
                "--scale {name}: unknown scale{hint} (scales: {})",
                known.join(", ")
            )));
        };
        Scale::read(Entry::parse(&embedded_source(file))?)
    }

    fn read(mut entry: Entry) -> Result<Scale> {
        let head = entry.split(&SCALE);
        let ScaleHead { about, seeds } = fault::deserialize(&head, &[])?;
        Ok(Scale { about, seeds, overlay: entry })
    }
}

impl ArmSpec {
    /// The only arm of a study, which is trained whatever is asked for.
    fn only(name: &str, overlay: Entry) -> Self {
        let (name, scales) = (name.to_string(), BTreeMap::new());
        Self { name, title: None, reference: true, at: None, base: None, from: None, overlay, scales }
    }
}

/// Refuses the name of a file that is not in `folder`, of bases or of scales.
fn known(folder: &str, name: &str) -> Result<(), String> {
    match embedded::find(folder, name) {
        Some(_) => Ok(()),
        None => Err(format!("unknown {folder} `{name}`{}", hint(name, embedded::names(folder)))),
    }
}

/// Takes the tables `[scale.NAME]` out of a study, an arm or a base method.
///
/// # Errors
/// [`Error::Config`] for a scale that is not there.
pub(super) fn scales_of(tree: &mut Entry) -> Result<BTreeMap<String, Scale>> {
    let mut scales = BTreeMap::new();
    for (scale, entry) in tree.take("scale").into_iter().flat_map(table) {
        known("scale", &scale).map_err(|what| entry.origin.at_key(what, None))?;
        scales.insert(scale, Scale::read(entry)?);
    }
    Ok(scales)
}

/// Refuses keys at the top level that neither a study nor a recipe has.
fn known_keys(tree: &Entry) -> Result<()> {
    let known = || HEAD.into_iter().chain(BODY).chain(RECIPE);
    for (key, entry) in tree.entries() {
        if !known().any(|name| name == key) {
            let help = super::nearest::nearest(key, known()).map(|name| format!("did you mean `{name}`?"));
            return Err(entry.origin.at_key(format!("unknown key `{key}`"), help));
        }
    }
    Ok(())
}

/// An embedded file as the source of a layer.
pub fn embedded_source(file: embedded::Embedded) -> Arc<Source> {
    Arc::new(Source { name: file.path.to_string(), text: file.text.to_string(), flag: false })
}

/// The `config.toml` of a run is a study of one arm.
fn recipe_as_study(name: &str, source: Arc<Source>, mut tree: Entry) -> Result<Study> {
    let nothing = tree.split(&[]);
    let head =
        Head { title: name.to_string(), question: "One recipe, run again.".to_string(), ..Head::default() };
    let arms = vec![ArmSpec::only(name, nothing)];
    Ok(Study {
        name: name.to_string(),
        given: given(name, &source),
        head,
        arms,
        overlay: tree,
        scales: BTreeMap::new(),
        source,
    })
}

fn given(name: &str, source: &Source) -> String {
    let embedded = embedded::FILES.iter().any(|file| file.path == source.name);
    if embedded { name.to_string() } else { source.name.clone() }
}

fn items(entry: Entry) -> Vec<Entry> {
    match entry.node {
        super::layer::Node::List(items) => items,
        _ => vec![entry],
    }
}

fn table(entry: Entry) -> BTreeMap<String, Entry> {
    match entry.node {
        super::layer::Node::Table(table) => table,
        _ => BTreeMap::new(),
    }
}

/// Refuses names that are no folder's name everywhere.
pub fn check_name(name: &str) -> std::result::Result<(), String> {
    let allowed = |c: char| c.is_alphanumeric() || "=._+-, ".contains(c);
    match name {
        "" | "figures" => Err(format!("`{name}` cannot be the name of an arm")),
        _ if name.starts_with('.')
            || name.starts_with(' ')
            || name.ends_with(' ')
            || !name.chars().all(allowed) =>
        {
            Err(format!("`{name}` cannot be the name of a folder: letters, digits and = . _ + - , only"))
        }
        _ => Ok(()),
    }
}
