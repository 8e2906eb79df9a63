//! The runs of a study: every arm with each of its seeds.

use super::resolve::Arm;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::record::run_folder;
use std::path::{Path, PathBuf};

/// One run to make.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its study.
    pub study: String,
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// Everything about it.
    pub recipe: Recipe,
    /// Its folder.
    pub path: PathBuf,
}

impl Job {
    /// Its recipe as TOML, as config.toml holds it.
    ///
    /// # Errors
    /// [`Error::Failure`] for a recipe that TOML cannot express.
    pub fn config(&self) -> Result<String> {
        toml::to_string(&self.recipe)
            .map_err(|e| Error::Failure(format!("cannot write the recipe as TOML: {e}")))
    }
}

/// Every arm of `study` with every seed of its own below `folder`, seed by seed, so that
/// comparisons are complete early.
pub fn jobs(study: &str, arms: &[Arm], folder: &Path) -> Vec<Job> {
    let job = |arm: &Arm, seed: u64| Job {
        study: study.to_string(),
        arm: arm.name.clone(),
        seed,
        recipe: arm.recipe.with_seed(seed),
        path: run_folder(folder, &arm.name, seed),
    };
    let places = arms.iter().map(|arm| arm.seeds.len()).max().unwrap_or(0);
    let at = |place: usize| arms.iter().filter_map(move |arm| Some(job(arm, *arm.seeds.get(place)?)));
    (0..places).flat_map(at).collect()
}

/// For each job the place of the first job with the same recipe, often its own.
pub fn firsts(jobs: &[Job]) -> Vec<usize> {
    let first = |job: &Job| jobs.iter().position(|other| other.recipe == job.recipe);
    jobs.iter().enumerate().map(|(index, job)| first(job).unwrap_or(index)).collect()
}
