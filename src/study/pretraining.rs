//! Runs that begin with the weights of another run (an arm's `from`): that run is looked for, or
//! made first.

use super::identity;
use super::job::Job;
use super::trainer::Trainer;
use crate::error::Result;
use crate::record::{Outcome, RunDir, find_twin, read_outcome};
use crate::train::{Ending, Progress, Resources};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The folder of a run's pre-training, inside its own, where no other run is it.
const FOLDER: &str = "pretraining";

/// Makes the run of `job` in `dir`, and before it its pre-training, where it has one that no
/// finished run below the same folder is. A pre-training that diverges leaves no weights to begin
/// with: the run ends as it did.
///
/// # Errors
/// As [`Trainer::train`].
pub fn train(
    trainer: &dyn Trainer,
    job: &Job,
    dir: &RunDir,
    resources: Resources,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let Some(recipe) = &job.recipe.pretraining else {
        return trainer.train(job, dir, resources, stop, watch);
    };
    let own = dir.path().join(FOLDER);
    let first = Job { recipe: (**recipe).clone(), path: own.clone(), ..job.clone() };
    let config = first.config()?;
    let accepts = |run: &Path| {
        let finished = read_outcome(run).is_ok_and(|outcome| outcome == Some(Outcome::Finished));
        finished && identity::is_twin(run, &first, trainer)
    };
    let made = job.path.ancestors().nth(3).zip(job.path.file_name());
    let made = made.and_then(|(out, seed)| find_twin(out, seed, &config, &own, &accepts));
    let ending = match &made {
        Some(_) => Ending::Finished,
        None => {
            let inner = RunDir::open(&own, &config, false)?;
            trainer.train(&first, &inner, resources.clone(), stop, watch)?
        }
    };
    let run = made.unwrap_or(own);
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
