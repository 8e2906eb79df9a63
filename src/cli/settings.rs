//! How the runs of a command are made: how many at the same time, on how many threads, by how many
//! processes, and where.

use super::{flags, ranks, signals};
use crate::device::Place;
use crate::device::ranks::{Ranks, abort, ranks_here};
use crate::error::{Error, Result};
use crate::study::{Engine, Order, Settings};
use clap::ArgMatches;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Threads of all runs together at most, on a machine of few cores.
const MOST_THREADS: usize = 256;

/// Refuses more threads than help on any machine.
///
/// # Errors
/// [`Error::Usage`] naming the flags.
pub fn check_threads(settings: &Settings) -> Result<()> {
    let Settings { jobs, threads, .. } = settings;
    let cores = cores();
    let (all, most) = (jobs * threads, MOST_THREADS.max(4 * cores));
    if all <= most {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--jobs, --threads: {jobs} at a time with {threads} each are {all} threads, and this machine has {cores} cores; at \
         most {most} are started"
    )))
}

/// Cores of this machine that the program may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How the `runs` runs of a command are made: how many at the same time, with how many threads
/// each, and where.
///
/// # Errors
/// As [`flags::place`] and [`ranks::joined`].
pub fn settings(matches: &ArgMatches, runs: usize) -> Result<Settings> {
    let (place, ranks, cores) = (flags::place(matches)?, ranks::joined(matches)?, cores());
    let count = |name: &str| matches.get_one::<u64>(name).map(|n| *n as usize);
    let fresh = matches.get_flag("fresh");
    if ranks.size() > 1 {
        if place != Place::Cpu {
            return Err(Error::Usage(
                "--ranks: several processes share a run on the processor only; --device cpu".into(),
            ));
        }
        let [jobs, threads] = shares(ranks.as_ref(), count("jobs"), count("threads"))?;
        return Ok(Settings { jobs, threads, fresh, place, ranks });
    }
    // Runs that share a GPU only wait for each other.
    let most = if place == Place::Cpu { cores } else { 1 };
    let jobs = count("jobs").unwrap_or(most).min(runs.max(1));
    let threads = count("threads").unwrap_or((cores / jobs).max(1));
    Ok(Settings { jobs, threads, fresh, place, ranks })
}

/// How many runs are made at the same time, and with how many threads each, where several ranks
/// share each run.
///
/// # Errors
/// [`Error::Usage`] for several runs at the same time.
fn shares(ranks: &dyn Ranks, jobs: Option<usize>, threads: Option<usize>) -> Result<[usize; 2]> {
    if jobs.is_some_and(|jobs| jobs > 1) {
        return Err(Error::Usage("--jobs: several ranks make one run at a time".into()));
    }
    Ok([1, threads.unwrap_or((cores() / ranks_here(ranks)).max(1))])
}

/// What `lead` gives, a command with the flags of `matches` whose runs an engine makes. Ranks
/// behind the first share its runs instead, until it ends; the exit code.
///
/// # Errors
/// Those of `lead`, and as [`ranks::joined`] and [`Engine::follow`].
pub fn led(matches: &ArgMatches, lead: impl FnOnce(&Engine) -> Result<i32>) -> Result<i32> {
    let (ranks, engine) = (ranks::joined(matches)?, Engine::default());
    if ranks.size() == 1 {
        return lead(&engine);
    }
    if !ranks.is_first() {
        return follow(&engine, matches).inspect_err(end_all);
    }
    let result = lead(&engine);
    let code = result.as_ref().map_or_else(Error::exit_code, |code| *code);
    // Where a run failed here, the others may wait in the midst of it.
    if engine.has_lost_ranks() || Order::End(code).give(ranks.as_ref()).is_err() {
        match &result {
            Err(error) => end_all(error),
            Ok(code) => abort(*code),
        }
    }
    result
}

/// What a rank behind the first does.
fn follow(engine: &Engine, matches: &ArgMatches) -> Result<i32> {
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    engine.follow(&settings(matches, 1)?.resources(), &stop)
}

/// Tells the error and ends all ranks: others would wait for this one.
fn end_all(error: &Error) {
    super::complain(error);
    abort(error.exit_code());
}
