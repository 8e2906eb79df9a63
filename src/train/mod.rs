//! One run: the alternation of Sec. 5.1, θᵗ ← argmin_θ L(θ, ηᵗ⁻¹), ηᵗ ← argmin_η L(θᵗ, η).
//!
//! Every method is a value on this one loop: its E-step rule, its objective, its optimiser. The
//! state at a step is exactly what a checkpoint holds; batches and augmentations are functions of
//! (seed, step), so a run that was interrupted ends with the bytes of one that was not.

mod alternation;
mod batches;
mod case;
mod comparison;
mod cost;
mod direct;
mod drive;
mod em;
mod environment;
mod evaluate;
mod field;
mod film;
mod fitting;
mod half_steps;
mod init;
mod linear;
mod model;
mod part;
mod preprocessing;
mod pretrained;
mod readings;
mod recognition;
mod records;
mod refusals;
mod replay;
mod standing;
mod state;
mod tracking;
mod transfer;
mod trial;
mod unknowns;
pub mod weights;

pub use crate::measure::metrics::COLUMNS;
pub use case::Case;
pub use comparison::{Compared, Losses};
pub use cost::{StepSeconds, memory_bytes, seconds, seconds_by_precision};
pub use direct::Direct;
pub use em::{read_eigenvalues, read_trajectory};
pub use environment::{NUMBERS, machine_of, version};
pub use evaluate::{BATCH, Evaluation, Protocol, embed, embed_some, evaluate};
pub use film::{FilmFrame, read_film};
pub use fitting::check_images;
pub use init::{Init, Share, settle as settle_init};
pub use model::Model;
pub use part::Part;
pub use preprocessing::Preprocessing;
pub use pretrained::{Pretrained, recipe_of};
pub use recognition::{Answers, Gallery, Verified, verify_pairs};
pub use replay::{Replayed, Trajectory, replay, replay_with};
pub use tracking::{Track, Tracker, held_out as held_out_tracks, threshold as track_threshold};
pub use transfer::{Judged, Start, Transferred, fine_tune, read_found, results, transfer};
pub use trial::{Trial, TrialPlan, trial};
pub use unknowns::{Alternation, Rates};

use crate::data::Dataset;
use crate::device::ranks::{One, Ranks};
use crate::device::{Place, Site};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::record::{Environment, INIT, Outcome, RunDir, Snapshot, UNKNOWN_IMAGES, images, read_env};
use drive::{Agreed, Around, alternate};
use environment::{environment, resumed};
use records::Records;
use state::State;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How a run ended. A value, not an error: a study goes on with its other arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs were trained.
    Finished,
    /// The loss stopped being a finite number at this step. Exit 3.
    Diverged {
        /// The step, counted from 0.
        step: u64,
    },
    /// A signal asked for it; a checkpoint was saved. Exit 75.
    Stopped,
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Ending {
        match outcome {
            Outcome::Finished => Ending::Finished,
            Outcome::Diverged { step } => Ending::Diverged { step },
        }
    }
}

/// What a watcher is told. Watchers only watch.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The run begins, or goes on.
    Begun {
        /// Steps of the whole run.
        steps: u64,
        /// The step it starts from: its first, or that of the checkpoint.
        resumed_at: u64,
    },
    /// A step was made.
    Step {
        /// Steps made so far.
        step: u64,
        /// Epochs made so far, with fraction.
        epoch: f64,
        /// The step's loss.
        loss: f64,
        /// std of z/‖z‖ times √d.
        z_std: f64,
    },
    /// A row of metrics.csv was written.
    Measured {
        /// Steps made so far.
        step: u64,
        /// Epochs made so far.
        epoch: f64,
        /// The row's values by column.
        values: Vec<(&'static str, f64)>,
    },
    /// A checkpoint was saved.
    Saved {
        /// Steps made so far.
        step: u64,
    },
    /// Something a person should know, such as a broken checkpoint that was passed over.
    Note(String),
}

/// What a run is given to compute with.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Threads: of the kernels on the processor; of the preparation of batches for a GPU.
    pub threads: usize,
    /// Where the networks are.
    pub place: Place,
    /// Who shares the run.
    pub ranks: Arc<dyn Ranks>,
}

impl From<usize> for Resources {
    /// So many threads of the processor.
    fn from(threads: usize) -> Resources {
        Resources { threads, place: Place::Cpu, ranks: Arc::new(One) }
    }
}

/// Trains one run in `dir` to its end, from its newest checkpoint if it has one, with these
/// `resources`.
///
/// `stop` asks for a checkpoint and an early return. A run that has already ended returns at once.
///
/// # Errors
/// [`Error::Usage`] for a recipe that cannot be trained, [`Error::Data`] for images or a checkpoint
/// that cannot be read, [`Error::Disk`] when a record cannot be written.
pub fn run(
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    dir: &RunDir,
    resources: impl Into<Resources>,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let Resources { threads, place, ranks } = resources.into();
    if let Some(outcome) = dir.whole_outcome()? {
        same_images(dir, dataset, None)?;
        return Ok(outcome.into());
    }
    recipe.check()?;
    let open = || place.open_for(&ranks, recipe.schedule.shards);
    pool(threads)?.install(|| run_at(&open()?, recipe, dataset, dir, stop, watch))
}

/// [`run`] of a run that has not ended, at an open place, on the threads of the pool that it is
/// called from.
///
/// # Errors
/// As [`run`].
pub fn run_at(
    site: &Site,
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    dir: &RunDir,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    site.guard(|| shared(site, recipe, dataset, Records::of(dir), stop, watch))
}

/// [`run`] of a run that has not ended, on a rank that writes nothing: the first one writes into
/// `folder`.
///
/// # Errors
/// As [`run`], and [`Error::Failure`] where another rank has gone.
pub fn follow(
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    folder: &Path,
    resources: Resources,
    stop: &AtomicBool,
) -> Result<Ending> {
    let Resources { threads, place, ranks } = resources;
    recipe.check()?;
    let open = || place.open_for(&ranks, recipe.schedule.shards);
    pool(threads)?.install(|| follow_at(&open()?, recipe, dataset, folder, stop))
}

/// [`follow`] at an open place, on the threads of the pool that it is called from.
///
/// # Errors
/// As [`follow`].
pub fn follow_at(
    site: &Site,
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Ending> {
    site.guard(|| shared(site, recipe, dataset, Records::elsewhere(folder), stop, &|_| {}))
}

/// A run that has not ended, by all ranks of `site`.
fn shared(
    site: &Site,
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    records: Records,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let snapshot = records.resume(site.ranks())?;
    records.take_notes().into_iter().for_each(|note| watch(Progress::Note(note)));
    // Before the state is restored: it fits no other images.
    let before = match (&snapshot, records.dir()) {
        (Some(snapshot), Some(dir)) => same_images(dir, dataset, Some(snapshot))?,
        _ => None,
    };
    if let Some(note) = site.way_between_ranks()? {
        watch(Progress::Note(note));
    }
    let mut state = State::open(recipe, dataset, records, site, snapshot)?;
    let mut now = environment(recipe, dataset, site)?;
    // A run that goes on has its weights from a checkpoint.
    let kept = || before.as_ref()?.get(INIT).cloned();
    if let Some(init) = state.init.take().or_else(kept) {
        now[INIT] = init;
    }
    let before = before.filter(|_| state.step > state.first);
    records.write_env(&resumed(now, before.as_ref(), state.step))?;
    watch(Progress::Begun { steps: state.steps, resumed_at: state.step });
    let agreed = Agreed::new(stop, site.ranks().clone());
    let around = Around { recipe, dataset, records, stop: &agreed, watch };
    let ending = alternate(&around, &mut state)?;
    match ending {
        Ending::Finished => {
            state.write_weights(recipe, records)?;
            state.write_spectrum(records)?;
            state.tell_ended(true)?;
            records.set_outcome(&Outcome::Finished)?;
        }
        Ending::Diverged { step } => {
            state.tell_ended(false)?;
            records.set_outcome(&Outcome::Diverged { step })?;
        }
        Ending::Stopped => {}
    }
    Ok(ending)
}

/// What env.json of the run in `dir` holds. It, or the checkpoint where there is no such file, must
/// say that the run saw the images of `dataset`.
fn same_images(dir: &RunDir, dataset: &Dataset, snapshot: Option<&Snapshot>) -> Result<Option<Environment>> {
    let environment = read_env(dir.path())?;
    let seen = environment.as_ref().and_then(images).map(|seen| seen == dataset.digest);
    match seen.or_else(|| state::saw(snapshot?, &dataset.digest)) {
        Some(true) => Ok(environment),
        Some(false) => {
            let what =
                "the images have changed since this run was made; --fresh starts over, --out DIR keeps both";
            Err(Error::data(dir.path(), what))
        }
        None => Err(Error::data(dir.path(), UNKNOWN_IMAGES)),
    }
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::Failure(format!("cannot start {threads} threads: {e}")))
}
