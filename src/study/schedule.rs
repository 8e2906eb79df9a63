//! Arms × seeds on a few workers. One run that fails leaves the others alone.

use super::closed_form;
use super::identity;
use super::job::{Job, firsts};
use super::pretraining;
use super::trainer::Trainer;
use crate::device::Place;
use crate::device::ranks::Ranks;
use crate::error::{Error, Result};
use crate::record::{RunDir, find_twin};
use crate::threads::lock;
use crate::train::{Ending, Progress, Resources};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long to leave runs alone that another process makes before looking again.
const PATIENCE: Duration = Duration::from_millis(250);

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
    /// Who shares each run.
    pub ranks: Arc<dyn Ranks>,
}

impl Settings {
    /// What one run is given to compute with.
    pub fn resources(&self) -> Resources {
        Resources { threads: self.threads, place: self.place, ranks: self.ranks.clone() }
    }
}

/// What a watcher of the schedule is told about one run.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run had ended before; nothing was computed.
    Skipped(Ending),
    /// The run in this folder is the same one; its files were copied.
    Shared(PathBuf),
    /// Another process makes the run, which is looked after again at the end.
    Held,
    /// A worker has taken the run.
    Started,
    /// Progress of the run itself.
    Progress(Progress),
    /// The run ended.
    Ended(Ending),
    /// The run failed, for this reason.
    Failed(String),
}

/// Makes the runs of `jobs` behind the first `ended`, which earlier calls made. The result has one
/// entry for each of these, none where `stop` came first.
///
/// Jobs with the same recipe are the same run: the first of all is made, then copied for the
/// others. A finished run of another study below the same folder is copied too, unless everything
/// is to start over.
///
/// A run that another process is making is waited for, and made here if that process ends without
/// it: of two processes with the same jobs each makes a part, and both know all ends. Who is to
/// start over does not wait.
pub fn schedule(
    jobs: &[Job],
    ended: usize,
    trainer: &dyn Trainer,
    settings: &Settings,
    stop: &AtomicBool,
    watch: &(dyn Fn(usize, &Event) + Sync),
) -> Vec<Option<Result<Ending>>> {
    let shift = Shift { jobs, firsts: firsts(jobs), trainer, settings, stop, watch };
    let (made, copied): (Vec<usize>, Vec<usize>) =
        (ended..jobs.len()).partition(|&index| shift.firsts[index] == index);
    let ends: Ends = jobs.iter().map(|_| Mutex::new(None)).collect();
    // Runs that begin with another's weights come behind it, so that they find it made.
    let (begun, made): (Vec<usize>, Vec<usize>) =
        made.into_iter().partition(|&index| jobs[index].recipe.first().is_some());
    // Of those that begin with the same, one makes it.
    let (heads, begun) = heads(jobs, begun);
    for mut indices in [made, heads, begun, copied] {
        shift.work(&indices, &ends, true);
        indices.retain(|index| shift.is_held(&ends[*index]));
        while !indices.is_empty() && wait(PATIENCE, stop) {
            shift.work(&indices, &ends, false);
            indices.retain(|index| shift.is_held(&ends[*index]));
        }
        // Whoever is asked to stop has not seen how these end.
        indices.iter().for_each(|index| *lock(&ends[*index]) = None);
    }
    ends.iter().skip(ended).map(|end| lock(end).take()).collect()
}

/// Those at `indices` that are the first of `jobs` to begin with a run, and the others.
fn heads(jobs: &[Job], indices: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    let mut seen = Vec::new();
    indices.into_iter().partition(|&index| {
        let first = jobs[index].recipe.first();
        let is_new = !seen.contains(&first);
        seen.extend(is_new.then_some(first));
        is_new
    })
}

/// How each job ended, none before.
type Ends = Vec<Mutex<Option<Result<Ending>>>>;

/// What the workers have in common.
struct Shift<'a> {
    jobs: &'a [Job],
    firsts: Vec<usize>,
    trainer: &'a dyn Trainer,
    settings: &'a Settings,
    stop: &'a AtomicBool,
    watch: &'a (dyn Fn(usize, &Event) + Sync),
}

impl Shift<'_> {
    /// Makes the runs at `indices`, on as many workers as runs are to be made at the same time;
    /// `tell` says whether a run that another process makes is news.
    fn work(&self, indices: &[usize], ends: &Ends, tell: bool) {
        let next = AtomicUsize::new(0);
        let worker = || {
            while !self.stop.load(Ordering::Relaxed)
                && let Some(&index) = indices.get(next.fetch_add(1, Ordering::Relaxed))
            {
                *lock(&ends[index]) = Some(self.make(index, tell));
            }
        };
        std::thread::scope(|scope| {
            // This thread is a worker too, the only one where the system gives no more.
            for _ in 1..self.settings.jobs.min(indices.len()) {
                if Builder::new().spawn_scoped(scope, worker).is_err() {
                    break;
                }
            }
            worker();
        });
    }

    /// Makes the run of one job; a defect of it leaves the others alone.
    fn make(&self, index: usize, tell: bool) -> Result<Ending> {
        let (job, first) = (&self.jobs[index], self.firsts[index]);
        let twin = (first != index).then(|| self.jobs[first].path.as_path());
        let attempt = AssertUnwindSafe(|| self.run(index, twin));
        let result = catch_unwind(attempt).unwrap_or_else(|_| {
            Err(Error::Failure(format!("{}: a defect of this program ended the run", job.path.display())))
        });
        match &result {
            Err(Error::InUse { .. }) if !self.settings.fresh => {
                if tell {
                    (self.watch)(index, &Event::Held);
                }
            }
            Err(error) => (self.watch)(index, &Event::Failed(error.to_string())),
            Ok(_) => {}
        }
        result
    }

    /// Makes the run of one job, or takes it from where it was made before.
    fn run(&self, index: usize, twin: Option<&Path>) -> Result<Ending> {
        let Shift { jobs, trainer, settings, stop, watch, .. } = *self;
        let job = &jobs[index];
        let config = job.config()?;
        let dir = RunDir::open(&job.path, &config, settings.fresh)?;
        if let Some(ending) = dir.whole_outcome()?.map(Ending::from) {
            identity::check_run(job, trainer)?;
            watch(index, &Event::Skipped(ending));
            return Ok(ending);
        }
        if let Some(twin) = finished_twin(job, twin, &config, trainer, settings.fresh) {
            dir.adopt(&twin)?;
            watch(index, &Event::Shared(twin));
            return Ok(dir.outcome()?.map_or(Ending::Finished, Ending::from));
        }
        watch(index, &Event::Started);
        let watch_run = |progress| watch(index, &Event::Progress(progress));
        let ending = match &job.recipe.closed_form {
            Some(world) => closed_form::run(&job.recipe, world, &dir, stop, &watch_run),
            None => pretraining::train(trainer, job, &dir, settings.resources(), stop, &watch_run),
        };
        // Those that the trainer has not told, for one because it failed.
        dir.take_notes().into_iter().for_each(|note| watch_run(Progress::Note(note)));
        let ending = ending?;
        watch(index, &Event::Ended(ending));
        Ok(ending)
    }

    /// Whether a run waits for another process.
    fn is_held(&self, end: &Mutex<Option<Result<Ending>>>) -> bool {
        !self.settings.fresh && matches!(*lock(end), Some(Err(Error::InUse { .. })))
    }
}

/// Lets `time` pass; false where `stop` came first.
fn wait(time: Duration, stop: &AtomicBool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < time && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
    !stop.load(Ordering::Relaxed)
}

/// The finished run that `job` can be copied from: `twin`, or one of another study below the same
/// folder.
fn finished_twin(
    job: &Job,
    twin: Option<&Path>,
    config: &str,
    trainer: &dyn Trainer,
    fresh: bool,
) -> Option<PathBuf> {
    let accepts = |run: &Path| identity::is_twin(run, job, trainer);
    match twin {
        Some(twin) => Some(twin.to_path_buf()).filter(|twin| accepts(twin)),
        None if fresh => None,
        None => find_twin(job.path.ancestors().nth(3)?, job.path.file_name()?, config, &job.path, &accepts),
    }
}
