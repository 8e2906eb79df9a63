//! Making runs: the engine, or a formula in its place, watched until they have ended or a person
//! wants them to stop.

use super::output::Output;
use super::plan::{self, Say};
use super::progress::{Told, Watcher};
use super::signals;
use crate::error::{Error, Result};
use crate::study::{
    Engine, Event, Formula, Job, MOCK, Settings, Trainer, check_images, schedule, trained_scale,
};
use crate::train::{Ending, Init, Progress};
use clap::ArgMatches;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How each job ended, none where a signal came first.
pub type Ends = Vec<Option<Result<Ending>>>;

/// What became of the runs.
pub enum Made {
    /// All have ended: time for the answer.
    Ended(Ends),
    /// Some have not ended; the command ends with this code.
    Left(i32),
}

/// Who makes the runs of a command.
pub enum Way<'a> {
    /// This process, all of them.
    Here,
    /// This process, the one at this place.
    Only(usize),
    /// Others, to whom they are handed over.
    Elsewhere(&'a dyn HandOver),
}

/// Takes runs that have not ended.
pub trait HandOver {
    /// Hands over those of `jobs` behind the first `ended` that have not ended; the code with which
    /// the command ends then, none where all have.
    ///
    /// # Errors
    /// [`Error::Usage`] and [`Error::Failure`] where they are not taken.
    fn hand_over(&self, jobs: &[Job], ended: usize, output: &Output) -> Result<Option<i32>>;
}

/// What makes the runs of one command, in one round or several: its data sets are opened once, its
/// person stops it once, and is told everything once.
pub struct Workshop<'a> {
    matches: &'a ArgMatches,
    output: &'a Output,
    engine: &'a Engine,
    /// Set by a signal; none before there is anything to stop.
    stop: Option<Arc<AtomicBool>>,
    told: Told,
    skipped: usize,
    way: &'a Way<'a>,
}

impl<'a> Workshop<'a> {
    /// A workshop under the flags of `matches`, whose runs `engine` makes, the `way` that is asked
    /// for.
    pub fn new(matches: &'a ArgMatches, output: &'a Output, way: &'a Way, engine: &'a Engine) -> Self {
        let told = Told::default();
        Workshop { matches, output, engine, stop: None, told, skipped: 0, way }
    }

    /// Makes the runs of `jobs` behind the first `ended`, which earlier rounds made; the ends are
    /// of the others. With `expected`, the beginning of a sentence, it says how long they will
    /// take.
    pub fn make(
        &mut self,
        jobs: &[Job],
        ended: usize,
        settings: &Settings,
        expected: Option<&str>,
    ) -> Result<Made> {
        let (quiet, json) = (self.is("quiet"), self.is("json"));
        let new = &jobs[ended..];
        if !settings.fresh {
            plan::check_recipes(new)?;
        }
        let mock = is_mock(self.matches);
        if let Way::Elsewhere(others) = self.way
            && let Some(code) = self.hand_over(*others, jobs, ended)?
        {
            return Ok(Made::Left(code));
        }
        if !mock {
            self.prepare(jobs, ended, settings, expected)?;
        }
        let stop = match &self.stop {
            Some(stop) => stop.clone(),
            None => {
                let stop = Arc::new(AtomicBool::new(false));
                signals::listen(&stop)?;
                self.stop.insert(stop).clone()
            }
        };
        let trainer: &dyn Trainer = if mock { &Formula } else { self.engine };
        let scale = self.matches.get_one::<String>("scale").map(|scale| trained_scale(scale).to_string());
        let watcher = Watcher::new(jobs, scale, quiet, &self.told);
        let ends = schedule(jobs, ended, trainer, settings, &stop, &|index, event| {
            watcher.watch(index, event);
            if json
                && let Some(line) = epoch_line(&jobs[index], event)
                && self.output.line(&line).is_err()
            {
                stop.store(true, Ordering::Relaxed);
            }
        });
        self.skipped += watcher.skipped();
        if self.output.is_closed() {
            return Ok(Made::Left(0));
        }
        // A signal that comes after the last step has nothing to stop: the answer is finished,
        // unless a second one follows.
        if ends.iter().any(|end| matches!(end, None | Some(Ok(Ending::Stopped)))) {
            self.tell_skipped(jobs.len());
            super::note("stopped; the same command goes on from here");
            return Ok(Made::Left(75));
        }
        // Who holds a folder writes its study's answer.
        if ends.iter().any(|end| matches!(end, Some(Err(Error::InUse { .. })))) {
            return Ok(Made::Left(6));
        }
        Ok(Made::Ended(ends))
    }

    /// Opens the data of the runs behind the first `ended`, and says what a person should know
    /// before they are made.
    fn prepare(&self, jobs: &[Job], ended: usize, settings: &Settings, expected: Option<&str>) -> Result<()> {
        let say = Say { quiet: self.is("quiet"), expected, told: &self.told };
        plan::prepare(self.engine, jobs, ended, settings, &say)?;
        if !settings.fresh
            && let Some(note) = check_images(&jobs[ended..], self.engine)?
            && self.told.is_news(&note)
        {
            super::note(&note);
        }
        Ok(())
    }

    /// Hands the runs over that have not ended. A mistake in the data is told here first, and not
    /// by every job.
    fn hand_over(&self, others: &dyn HandOver, jobs: &[Job], ended: usize) -> Result<Option<i32>> {
        let trained = |job: &&Job| !is_mock(self.matches) && job.recipe.closed_form.is_none();
        if let Some(job) = jobs[ended..].first().filter(trained) {
            self.engine.dataset(&job.recipe.data)?;
            Init::open(&job.recipe)?;
        }
        others.hand_over(jobs, ended, self.output)
    }

    /// Says how many of `all` runs earlier commands had made.
    pub fn tell_skipped(&self, all: usize) {
        let skipped = self.skipped;
        if self.is("quiet") || skipped == 0 {
            return;
        }
        let nothing = if skipped == all { "; nothing to compute (--fresh starts over)" } else { "" };
        super::note(&format!("{skipped} of {all} runs had finished before{nothing}"));
    }

    fn is(&self, flag: &str) -> bool {
        self.matches.get_flag(flag)
    }
}

/// The exit code of the first run that failed, or 3 where one diverged of which that was not
/// `expected`; 0 otherwise.
pub fn exit_code(jobs: &[Job], ends: &Ends, expected: &dyn Fn(&Job) -> bool) -> i32 {
    let failed = ends.iter().find_map(|end| end.as_ref()?.as_ref().err());
    let diverged = jobs
        .iter()
        .zip(ends)
        .any(|(job, end)| matches!(end, Some(Ok(Ending::Diverged { .. }))) && !expected(job));
    failed.map_or(if diverged { 3 } else { 0 }, Error::exit_code)
}

/// Whether a formula takes the place of training.
pub fn is_mock(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("scale").is_some_and(|scale| scale == MOCK)
}

/// A row of metrics as JSON.
fn epoch_line(job: &Job, event: &Event) -> Option<String> {
    let Event::Progress(Progress::Measured { step, epoch, values }) = event else { return None };
    let mut line = json!({"event": "epoch", "study": job.study, "arm": job.arm, "seed": job.seed, "step": step, "epoch": epoch});
    for (name, value) in values {
        line[*name] = json!(value);
    }
    Some(line.to_string())
}
