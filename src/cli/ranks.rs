//! `--ranks`: processes that share each run. The first one is the program as ever; the others wait
//! for what it tells them, and neither write nor speak.

use super::flags::option;
use crate::device::ranks::{self, One, Ranks};
use crate::error::{Error, Result};
use crate::study::Job;
use clap::{Arg, ArgMatches};
use std::sync::Arc;

/// `--ranks`.
pub fn flag() -> Arg {
    let help = "Processes that share each run: as many as mpiexec or srun has started, or N of them";
    option("ranks", "auto|N", help).default_value("auto").value_parser(parsed)
}

/// None for `auto`.
type Asked = Option<usize>;

fn parsed(word: &str) -> std::result::Result<Asked, String> {
    match word.parse() {
        _ if word == "auto" => Ok(None),
        Ok(count @ 1..=65536) => Ok(Some(count)),
        _ => Err("expected auto, or a number from 1 on".into()),
    }
}

/// Who shares the runs of a command; this process alone where it has no such flag.
///
/// # Errors
/// As [`ranks::join`].
pub fn joined(matches: &ArgMatches) -> Result<Arc<dyn Ranks>> {
    match matches.try_get_one::<Asked>("ranks") {
        Ok(Some(asked)) => ranks::join(*asked),
        _ => Ok(Arc::new(One)),
    }
}

/// Refuses runs that `size` ranks cannot share.
///
/// # Errors
/// [`Error::Usage`] with the way out.
pub fn check(jobs: &[Job], size: usize) -> Result<()> {
    let trained = jobs.iter().filter(|job| job.recipe.closed_form.is_none());
    let shards = trained.map(|job| (&job.arm, job.recipe.schedule.shards));
    let Some((arm, shards)) = shards.into_iter().find(|(_, shards)| !shards.is_multiple_of(size)) else {
        return Ok(());
    };
    Err(Error::Usage(format!(
        "--ranks: {size} ranks share a run whose batches are cut into {size} shards or a multiple, and arm {arm} has {shards}; \
         --set schedule.shards={size} cuts them (runs of their own, whose bytes are the same for any number of ranks)"
    )))
}
