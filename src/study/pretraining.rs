//! Runs that begin with the weights of another run: an arm's (`from`), or that which a detector is
//! made from (`transfer`). That run is looked for, or made first.

use super::identity;
use super::job::Job;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::record::{Outcome, RunDir, find_twin, read_outcome};
use crate::train::{Ending, Progress, Resources};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// The folder of pre-trainings, beside those of studies, where no other run is one.
const FOLDER: &str = "pretraining";
/// Bytes of the digest that names a pre-training.
const NAMED_BY: usize = 6;

/// The run that `job` begins with, as a job of its own, where there is one. Its folder is named by
/// its recipe, so that all runs that begin with it, of several processes too, look at one place.
///
/// # Errors
/// As [`Job::config`].
pub fn first(job: &Job) -> Result<Option<Job>> {
    let Some(recipe) = job.recipe.first() else { return Ok(None) };
    let first = Job { recipe, ..job.clone() };
    let digest = Sha256::digest(first.config()?);
    let name: String = digest.iter().take(NAMED_BY).map(|byte| format!("{byte:02x}")).collect();
    let outside = || Error::Failure(format!("{}: not a run below a study", job.path.display()));
    let (out, seed) = job.path.ancestors().nth(3).zip(job.path.file_name()).ok_or_else(outside)?;
    Ok(Some(Job { path: out.join(FOLDER).join(name).join(seed), ..first }))
}

/// A finished run of another study that is the run of `first`, or that itself.
///
/// # Errors
/// As [`Job::config`].
pub fn made(first: &Job, trainer: &dyn Trainer) -> Result<Option<PathBuf>> {
    let accepts = |run: &Path| {
        let finished = read_outcome(run).is_ok_and(|outcome| outcome == Some(Outcome::Finished));
        finished && identity::is_twin(run, first, trainer)
    };
    let place = first.path.ancestors().nth(3).zip(first.path.file_name());
    let config = first.config()?;
    Ok(place.and_then(|(out, seed)| find_twin(out, seed, &config, Path::new(""), &accepts)))
}

/// Makes the run of `job` in `dir`, and before it its pre-training, where it has one that no
/// finished run below the same folder is. A pre-training that diverges leaves no weights to begin
/// with: the run ends as it did.
///
/// # Errors
/// As [`Trainer::train`], and [`Error::InUse`] while somebody else makes the pre-training.
pub fn train(
    trainer: &dyn Trainer,
    job: &Job,
    dir: &RunDir,
    resources: Resources,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let Some(first) = first(job)? else {
        return trainer.train(job, dir, resources, stop, watch);
    };
    let made = made(&first, trainer)?;
    let ending = match &made {
        Some(_) => Ending::Finished,
        None => {
            let inner = RunDir::open(&first.path, &first.config()?, false)?;
            trainer.train(&first, &inner, resources.clone(), stop, watch)?
        }
    };
    let run = made.unwrap_or(first.path);
    match ending {
        Ending::Finished => {
            watch(Progress::Note(format!("begins with the weights of {}", run.display())));
            let job = Job { recipe: job.recipe.beginning_with(&run), ..job.clone() };
            trainer.train(&job, dir, resources, stop, watch)
        }
        Ending::Diverged { step } => {
            dir.set_outcome(&Outcome::Diverged { step })?;
            Ok(ending)
        }
        Ending::Stopped => Ok(ending),
    }
}
