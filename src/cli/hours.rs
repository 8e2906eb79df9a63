//! How long the runs of a command will take, judging by a few steps of each kind.

use crate::data::Dataset;
use crate::error::Result;
use crate::recipe::{Beginning, Recipe, TransferConfig};
use crate::study::{Engine, Job, Settings, pretraining};
use crate::train::seconds;
use std::sync::Arc;

/// Times that were measured, by what tells what takes as long.
struct Measured {
    threads: usize,
    known: Vec<(String, f64)>,
}

impl Measured {
    /// Seconds of `recipe` on `data`, which takes as long as all that are called `name`.
    fn time(&mut self, name: String, recipe: &Recipe, data: &Dataset) -> Result<f64> {
        if let Some((_, time)) = self.known.iter().find(|(known, _)| *known == name) {
            return Ok(*time);
        }
        let time = seconds(recipe, data.train.len(), data.test.len(), self.threads)?;
        self.known.push((name, time));
        Ok(time)
    }
}

/// Hours that the runs of `jobs` take, each on its `data`, with the pre-trainings that detectors
/// lack. An arm's other seeds take as long as its first, and detectors that differ in their rate
/// and their beginning as long as each other.
///
/// # Errors
/// As [`seconds`].
pub fn expected(engine: &Engine, jobs: &[&Job], data: &[Arc<Dataset>], settings: &Settings) -> Result<f64> {
    let mut measured = Measured { threads: settings.threads, known: Vec::new() };
    let mut sum = 0.0;
    let mut firsts: Vec<Recipe> = jobs.iter().map(|job| job.recipe.clone()).collect();
    for (job, data) in jobs.iter().zip(data) {
        let arm = format!("{}/{}", job.study, job.arm);
        let Some(config) = &job.recipe.transfer else {
            sum += measured.time(arm, &job.recipe, data)?;
            continue;
        };
        let alike = TransferConfig { lr: 1.0, from: Beginning::Init, ..config.clone() };
        sum += measured.time(format!("{:?} {alike:?}", job.recipe.encoder.backbone), &job.recipe, data)?;
        let Some(first) = pretraining::first(job)? else { continue };
        if !firsts.contains(&first.recipe) && pretraining::made(&first, engine)?.is_none() {
            sum += measured.time(format!("{arm} before"), &first.recipe, data)?;
            firsts.push(first.recipe);
        }
    }
    Ok(sum / settings.jobs as f64 / 3600.0)
}
