//! A run that is not trained: something gives its measurements in the place of a model.

use crate::error::Result;
use crate::recipe::Recipe;
use crate::record::{Outcome, RunDir};
use crate::train::{Ending, Progress};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is measured at the end of an epoch, by column.
pub type Values = Vec<(&'static str, f64)>;

/// What stands in the place of training.
pub trait Substitute {
    /// The columns of metrics.csv.
    fn columns(&self) -> Vec<&'static str>;

    /// Steps of an epoch.
    fn steps_per_epoch(&self) -> u64;

    /// What made the run, as env.json says it; none where there is no such file.
    fn made_by(&self) -> Option<&'static str> {
        None
    }

    /// Goes on to the end of `epoch`, of which each is asked for in its turn from 0, the start, on;
    /// what is measured there. It may look at `stop`.
    ///
    /// # Errors
    /// The ending of a run that comes no further.
    fn measure(&mut self, epoch: u64, stop: &AtomicBool) -> Result<Values, Ending>;
}

/// Makes the run of `recipe`: the files of a run that was trained, but weights and checkpoints. One
/// that was stopped begins again.
///
/// # Errors
/// Where the folder cannot be written.
pub fn drive(
    substitute: &mut dyn Substitute,
    recipe: &Recipe,
    dir: &RunDir,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    dir.resume()?;
    if let Some(made_by) = substitute.made_by() {
        let mut environment = json!({
            "made_by": made_by,
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        });
        crate::train::version().into_iter().for_each(|(key, value)| environment[key] = value);
        dir.write_env(&environment)?;
    }
    let mut log = dir.metrics(&substitute.columns())?;
    let (per_epoch, epochs) = (substitute.steps_per_epoch(), recipe.schedule.epochs);
    // A detector's epochs are those of its own images.
    let passed = |epoch: u64| recipe.last_epoch() * epoch as f64 / epochs as f64;
    watch(Progress::Begun { steps: per_epoch * epochs, resumed_at: 0 });
    for epoch in 0..=epochs {
        if stop.load(Ordering::Relaxed) {
            return Ok(Ending::Stopped);
        }
        let values = match substitute.measure(epoch, stop) {
            Ok(values) => values,
            Err(ending) => {
                if let Ending::Diverged { step } = ending {
                    dir.set_outcome(&Outcome::Diverged { step })?;
                }
                return Ok(ending);
            }
        };
        let step = epoch * per_epoch;
        log.row(step, passed(epoch), step * recipe.schedule.batch as u64, 0.0, &values)?;
        watch(Progress::Measured { step, epoch: passed(epoch), values });
    }
    dir.set_outcome(&Outcome::Finished)?;
    Ok(Ending::Finished)
}
