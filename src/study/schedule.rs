//! Arms × seeds on a few workers. One run that fails leaves the others alone.

use super::resolve::Arm;
use super::trainer::Trainer;
use crate::device::Place;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::record::{Outcome, RunDir, find_twin, read_outcome};
use crate::train::{Ending, Machine, Progress};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    pub fn config(&self) -> Result<String> {
        toml::to_string(&self.recipe)
            .map_err(|e| Error::Failure(format!("cannot write the recipe as TOML: {e}")))
    }
}

/// How runs are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Runs at the same time.
    pub jobs: usize,
    /// Threads of each run.
    pub threads: usize,
    /// Starts over where runs exist.
    pub fresh: bool,
    /// Where the networks are.
    pub place: Place,
}

impl Settings {
    /// What one run is given to compute with.
    fn machine(&self) -> Machine {
        Machine { threads: self.threads, place: self.place }
    }
}

/// What a watcher of the schedule is told about one run.
#[derive(Clone, Debug)]
pub enum Event {
    /// It had ended before; nothing was computed.
    Skipped(Ending),
    /// The run in this folder is the same one; its files were copied.
    Shared(PathBuf),
    /// A worker took it.
    Started,
    /// News from inside.
    Progress(Progress),
    /// It ended.
    Ended(Ending),
    /// It failed, for this reason.
    Failed(String),
}

/// Every arm of `study` with every seed below `folder`, seed by seed, so that comparisons are complete early.
pub fn jobs(study: &str, arms: &[Arm], seeds: &[u64], folder: &Path) -> Vec<Job> {
    let job = |arm: &Arm, seed: u64| Job {
        study: study.to_string(),
        arm: arm.name.clone(),
        seed,
        recipe: Recipe { seed, ..arm.recipe.clone() },
        path: folder.join(&arm.name).join(format!("seed-{seed}")),
    };
    seeds.iter().flat_map(|seed| arms.iter().map(move |arm| job(arm, *seed))).collect()
}

/// For each job the first one with the same recipe, often itself.
pub fn firsts(jobs: &[Job]) -> Vec<usize> {
    let first = |job: &Job| jobs.iter().position(|other| other.recipe == job.recipe);
    jobs.iter().enumerate().map(|(index, job)| first(job).unwrap_or(index)).collect()
}

/// Makes all runs. The result has one entry per job, none where `stop` came first.
///
/// Jobs with the same recipe are the same run: the first of them is made, then copied for the others. A
/// finished run of another study below the same folder is copied too, unless everything is to start over.
pub fn schedule(
    jobs: &[Job],
    trainer: &dyn Trainer,
    settings: &Settings,
    stop: &AtomicBool,
    watch: &(dyn Fn(usize, &Event) + Sync),
) -> Vec<Option<Result<Ending>>> {
    let firsts = firsts(jobs);
    let (made, copied): (Vec<usize>, Vec<usize>) = (0..jobs.len()).partition(|&index| firsts[index] == index);
    let ends: Vec<Mutex<Option<Result<Ending>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = |next: &AtomicUsize, indices: &[usize]| {
        while !stop.load(Ordering::Relaxed) {
            let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let (Some(job), Some(end)) = (jobs.get(index), ends.get(index)) else { break };
            let twin =
                jobs.get(firsts[index]).filter(|_| firsts[index] != index).map(|job| job.path.as_path());
            let attempt = AssertUnwindSafe(|| run(index, job, twin, trainer, settings, stop, watch));
            let result = catch_unwind(attempt).unwrap_or_else(|_| {
                Err(Error::Failure(format!("{}: a defect of this program ended the run", job.path.display())))
            });
            if let Err(error) = &result {
                watch(index, &Event::Failed(error.to_string()));
            }
            *end.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
        }
    };
    for indices in [made, copied] {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..settings.jobs.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| work(&next, &indices));
            }
        });
    }
    ends.into_iter().map(|end| end.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).collect()
}

fn run(
    index: usize,
    job: &Job,
    twin: Option<&Path>,
    trainer: &dyn Trainer,
    settings: &Settings,
    stop: &AtomicBool,
    watch: &(dyn Fn(usize, &Event) + Sync),
) -> Result<Ending> {
    let config = job.config()?;
    let dir = RunDir::open(&job.path, &config, settings.fresh)?;
    let ended = match dir.outcome()? {
        Some(Outcome::Finished) => Some(Ending::Finished),
        Some(Outcome::Diverged { step }) => Some(Ending::Diverged { step }),
        None => None,
    };
    if let Some(ending) = ended {
        watch(index, &Event::Skipped(ending));
        return Ok(ending);
    }
    if let Some(twin) = finished_twin(job, twin, &config, settings.fresh)? {
        dir.adopt(&twin)?;
        watch(index, &Event::Shared(twin));
        return match dir.outcome()? {
            Some(Outcome::Diverged { step }) => Ok(Ending::Diverged { step }),
            _ => Ok(Ending::Finished),
        };
    }
    watch(index, &Event::Started);
    let watch_run = |progress| watch(index, &Event::Progress(progress));
    let ending = trainer.train(job, &dir, settings.machine(), stop, &watch_run)?;
    dir.notes().into_iter().for_each(|note| watch_run(Progress::Note(note)));
    watch(index, &Event::Ended(ending));
    Ok(ending)
}

/// The finished run that `job` can be copied from: `twin`, or one of another study below the same folder.
fn finished_twin(job: &Job, twin: Option<&Path>, config: &str, fresh: bool) -> Result<Option<PathBuf>> {
    match twin {
        Some(twin) => Ok(read_outcome(twin)?.map(|_| twin.to_path_buf())),
        None if fresh => Ok(None),
        None => match (job.path.ancestors().nth(3), job.path.file_name()) {
            (Some(out), Some(seed)) => find_twin(out, seed, config, &job.path),
            _ => Ok(None),
        },
    }
}
