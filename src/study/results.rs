//! The answer: what the runs left in their folders, as numbers per arm and verdicts per claim.

use super::claim::{Judged, METRICS};
use super::file::{Paper, Study};
use super::resolve::Arm;
use crate::error::{Error, Result};
use crate::measure::estimate::Estimate;
use crate::record::{Outcome, read_metrics, read_outcome, write_durable};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How one run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Trained to its end.
    Finished,
    /// The loss stopped being finite at this step.
    Diverged(u64),
    /// Not at its end, or never begun.
    Unfinished,
}

/// One run's numbers.
#[derive(Clone, Debug)]
struct RunNumbers {
    end: RunEnd,
    first: BTreeMap<&'static str, f64>,
    last: BTreeMap<&'static str, f64>,
}

/// One arm over all seeds.
#[derive(Clone, Debug)]
pub struct ArmRow {
    /// The arm.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Runs that finished, diverged and did neither.
    pub ends: Vec<RunEnd>,
    /// Metric → mean with interval over the runs that finished.
    pub metrics: BTreeMap<&'static str, Estimate>,
    /// The paper's number.
    pub paper: Option<f64>,
}

/// A study's answer.
#[derive(Clone, Debug)]
pub struct Results {
    /// The study's folder.
    pub folder: PathBuf,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Arms in order.
    pub arms: Vec<ArmRow>,
    /// Claims in order.
    pub claims: Vec<Judged>,
    /// What the paper's column means.
    pub paper: Option<Paper>,
}

impl Results {
    /// Reads the runs of `arms` × `seeds` below `folder`.
    ///
    /// # Errors
    /// [`Error::Data`] for a damaged metrics file; a run that is not there counts as unfinished.
    pub fn read(study: &Study, arms: &[Arm], seeds: &[u64], folder: &Path) -> Result<Results> {
        let mut runs = BTreeMap::new();
        for arm in arms {
            for &seed in seeds {
                let path = folder.join(&arm.name).join(format!("seed-{seed}"));
                runs.insert((arm.name.as_str(), seed), numbers(&path, arm.recipe.schedule.epochs)?);
            }
        }
        let value = |arm: &str, seed: u64, metric: &str, start: bool| {
            let run = runs.get(&(arm, seed)).filter(|run| run.end == RunEnd::Finished)?;
            if start { &run.first } else { &run.last }.get(metric).copied()
        };
        let row = |arm: &Arm| {
            let metrics = METRICS.iter().filter_map(|(metric, ..)| {
                let values: Vec<f64> =
                    seeds.iter().filter_map(|&seed| value(&arm.name, seed, metric, false)).collect();
                Some((*metric, Estimate::of(&values)?))
            });
            let end = |seed| runs.get(&(arm.name.as_str(), seed)).map_or(RunEnd::Unfinished, |run| run.end);
            ArmRow {
                name: arm.name.clone(),
                title: arm.title.clone(),
                ends: seeds.iter().map(|&seed| end(seed)).collect(),
                metrics: metrics.collect(),
                paper: study.head.paper.as_ref().and_then(|paper| paper.values.get(&arm.name).copied()),
            }
        };
        let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
        let claims = study.head.claim.iter().flat_map(|claim| claim.judge(&names, seeds, &value)).collect();
        Ok(Results {
            folder: folder.to_path_buf(),
            seeds: seeds.to_vec(),
            arms: arms.iter().map(row).collect(),
            claims,
            paper: study.head.paper.clone(),
        })
    }

    /// Writes `summary.csv` and `claims.csv` into the study's folder and returns their paths.
    pub fn write(&self) -> Result<[PathBuf; 2]> {
        let mut summary =
            vec![["arm", "metric", "seeds", "mean", "half_width_95"].map(String::from).to_vec()];
        for arm in &self.arms {
            for (metric, estimate) in &arm.metrics {
                let half_width = estimate.half_width.map_or_else(String::new, |half| half.to_string());
                let n = estimate.n.to_string();
                summary.push(vec![
                    arm.name.clone(),
                    metric.to_string(),
                    n,
                    estimate.mean.to_string(),
                    half_width,
                ]);
            }
        }
        let header =
            ["claim", "metric", "arm", "asked", "verdict", "effect", "half_width_95", "seeds", "why"];
        let mut claims = vec![header.map(String::from).to_vec()];
        for claim in &self.claims {
            let effect = |f: &dyn Fn(&Estimate) -> Option<String>| {
                claim.effect.as_ref().and_then(f).unwrap_or_default()
            };
            claims.push(vec![
                claim.text.clone(),
                claim.metric.clone(),
                claim.arm.clone(),
                claim.asked.clone(),
                claim.verdict.word().to_string(),
                effect(&|e| Some(e.mean.to_string())),
                effect(&|e| e.half_width.map(|half| half.to_string())),
                effect(&|e| Some(e.n.to_string())),
                claim.why.clone().unwrap_or_default(),
            ]);
        }
        let paths = [self.folder.join("summary.csv"), self.folder.join("claims.csv")];
        for (path, rows) in paths.iter().zip([summary, claims]) {
            write_durable(path, &csv_bytes(&rows)?)?;
        }
        Ok(paths)
    }
}

fn csv_bytes(rows: &[Vec<String>]) -> Result<Vec<u8>> {
    let fail = |e: &dyn std::fmt::Display| Error::Failure(format!("cannot write CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).map_err(|e| fail(&e))?;
    }
    writer.into_inner().map_err(|e| fail(&e))
}

/// The first and the last value of every metric of the run in `path`, which has `epochs` epochs.
fn numbers(path: &Path, epochs: u64) -> Result<RunNumbers> {
    let end = match read_outcome(path)? {
        Some(Outcome::Finished) => RunEnd::Finished,
        Some(Outcome::Diverged { step }) => RunEnd::Diverged(step),
        None => RunEnd::Unfinished,
    };
    let mut numbers = RunNumbers { end, first: BTreeMap::new(), last: BTreeMap::new() };
    let file = path.join("metrics.csv");
    if end == RunEnd::Unfinished {
        return Ok(numbers);
    }
    let damaged = |what: String| {
        Error::data(&file, format!("{what}, though the run has ended; remove its folder and run again"))
    };
    if !file.exists() {
        return Err(damaged("is missing".into()));
    }
    let table = read_metrics(&file).map_err(|e| damaged(format!("is damaged ({e})")))?;
    let last = table.last("epoch");
    if end == RunEnd::Finished && last != Some(epochs as f64) {
        return Err(damaged(format!("does not reach epoch {epochs}")));
    }
    for (metric, ..) in METRICS {
        let Some(column) = table.column(metric) else { continue };
        // The initial weights have the first row to themselves.
        if let Some(Some(value)) = column.first() {
            numbers.first.insert(metric, *value);
        }
        if let Some(value) = column.iter().rev().find_map(|cell| *cell) {
            numbers.last.insert(metric, value);
        }
    }
    Ok(numbers)
}
