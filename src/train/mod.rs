//! One run: the alternation of Sec. 5.1, θᵗ ← argmin_θ L(θ, ηᵗ⁻¹), ηᵗ ← argmin_η L(θᵗ, η).
//!
//! Every method is a value on this one loop: its E-step rule, its objective, its optimiser. The state
//! at a step is exactly what a checkpoint holds; batches and augmentations are functions of (seed,
//! step), so a run that was interrupted ends with the bytes of one that was not.

mod alternation;
mod batches;
mod case;
mod comparison;
mod cost;
mod direct;
mod em;
mod environment;
mod evaluate;
mod half_steps;
mod model;
mod pending;
mod pretrained;
mod refusals;
mod replay;
mod state;
pub mod weights;

pub use crate::measure::metrics::COLUMNS;
pub use alternation::{Alternation, Rates};
pub use case::Case;
pub use comparison::{Compared, Losses};
pub use cost::{memory_bytes, seconds};
pub use direct::Direct;
pub use em::read_trajectory;
pub use environment::{NUMBERS, machine_of, version};
pub use evaluate::{BATCH, Evaluation, Protocol, embed, evaluate};
pub use model::{Model, Part};
pub use pretrained::{Preprocessing, Pretrained};
pub use replay::{Replayed, Trajectory, replay, replay_with};

use crate::data::{Dataset, loader};
use crate::device::{Place, Site};
use crate::error::{Error, Result, go_on};
use crate::recipe::Recipe;
use crate::record::{Environment, Outcome, RunDir, Snapshot, UNKNOWN_IMAGES, images, read_env};
use batches::Batches;
use environment::{environment, resumed};
use pending::Pending;
use refusals::Refusals;
use state::State;
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
        /// The step it starts from: 0, or that of the checkpoint.
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
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Threads: of the kernels on the processor; of the preparation of batches for a GPU.
    pub threads: usize,
    /// Where the networks are.
    pub place: Place,
}

impl From<usize> for Machine {
    /// So many threads of the processor.
    fn from(threads: usize) -> Machine {
        Machine { threads, place: Place::Cpu }
    }
}

/// Trains one run in `dir` to its end, from its newest checkpoint if it has one, on `machine`.
///
/// `stop` asks for a checkpoint and an early return. A run that has already ended returns at once.
///
/// # Errors
/// [`Error::Usage`] for a recipe that cannot be trained, [`Error::Data`] for images or a checkpoint that
/// cannot be read, [`Error::Disk`] when a record cannot be written.
pub fn run(
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    dir: &RunDir,
    machine: impl Into<Machine>,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let Machine { threads, place } = machine.into();
    if let Some(outcome) = dir.whole_outcome()? {
        same_images(dir, dataset, None)?;
        return Ok(outcome.into());
    }
    recipe.check()?;
    pool(threads)?.install(|| run_at(&place.open()?, recipe, dataset, dir, stop, watch))
}

/// [`run`] of a run that has not ended, at an open place, on the threads of the pool that it is called from.
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
    site.guard(|| {
        let snapshot = dir.resume()?;
        dir.take_notes().into_iter().for_each(|note| watch(Progress::Note(note)));
        // Before the state is restored: it fits no other images.
        let before = match &snapshot {
            Some(snapshot) => same_images(dir, dataset, Some(snapshot))?,
            None => None,
        };
        let mut state = State::open(recipe, dataset, dir, site, snapshot)?;
        dir.write_env(&resumed(environment(recipe, dataset, site)?, before.as_ref(), state.step))?;
        watch(Progress::Begun { steps: state.steps, resumed_at: state.step });
        let ending = alternate(recipe, dataset, dir, &mut state, stop, watch)?;
        match ending {
            Ending::Finished => {
                state.write_weights(recipe, dir)?;
                state.write_spectrum(dir)?;
                dir.set_outcome(&Outcome::Finished)?;
            }
            Ending::Diverged { step } => dir.set_outcome(&Outcome::Diverged { step })?,
            Ending::Stopped => {}
        }
        Ok(ending)
    })
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

/// The alternation, from where `state` is to its end or until `stop` is set.
///
/// What was trained is saved before it is measured. Whatever can take long is asked for a
/// checkpoint at a place from which it goes on to the same bytes: see [`State::close_epoch`] and
/// [`Alternation::e_step`].
fn alternate(
    recipe: &Recipe,
    dataset: &Arc<Dataset>,
    dir: &RunDir,
    state: &mut State,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    let per_epoch = loader::steps_per_epoch(dataset.train.len(), recipe.schedule.batch);
    let batches = Batches::new(recipe, dataset, state);
    let (pending, saved) = (Pending::default(), (state.step > 0).then_some(state.step));
    let mut drive =
        Drive { recipe, dataset, dir, state, stop, watch, per_epoch, batches, pending, saved, moved: false };
    let mut refusals = Refusals::default();
    let mut ending = Ok(None);
    while matches!(ending, Ok(None)) {
        ending = drive.advance();
        refusals.tell(drive.state.alternation.model.site(), watch);
    }
    match ending {
        Err(Error::Stopped) => drive.leave(),
        Ok(ending) => Ok(ending.unwrap_or(Ending::Finished)),
        Err(error) => Err(error),
    }
}

/// What a run on its way needs at hand.
struct Drive<'a> {
    recipe: &'a Recipe,
    dataset: &'a Arc<Dataset>,
    dir: &'a RunDir,
    state: &'a mut State,
    stop: &'a AtomicBool,
    watch: &'a (dyn Fn(Progress) + Sync),
    per_epoch: u64,
    batches: Batches,
    pending: Pending,
    /// The step at which this process saved last.
    saved: Option<u64>,
    /// Whether this process made a step.
    moved: bool,
}

impl Drive<'_> {
    /// Writes the row that is due, or else makes the next step; how the run ended, where it did.
    ///
    /// # Errors
    /// [`Error::Stopped`] at a place from which a checkpoint goes on.
    fn advance(&mut self) -> Result<Option<Ending>> {
        let (recipe, dataset, stop) = (self.recipe, self.dataset, self.stop);
        if self.state.unmeasured {
            self.state.measure(recipe, dataset, self.dir, stop, self.watch)?;
        } else if self.state.owes_row(self.per_epoch) {
            self.state.close_epoch(recipe, dataset, self.dir, stop, self.watch)?;
        }
        if self.state.step == self.state.steps {
            return Ok(Some(Ending::Finished));
        }
        // Whoever is asked to stop at once gets a step further all the same.
        if self.moved {
            go_on(stop)?;
        }
        if let Some(ending) = self.step()? {
            return Ok(Some(ending));
        }
        self.moved = true;
        let state = &mut *self.state;
        let ended = state.step.is_multiple_of(self.per_epoch);
        let due = (state.step / self.per_epoch).is_multiple_of(recipe.schedule.checkpoint_every);
        if ended && (due || state.step == state.steps) {
            self.save()?;
        }
        Ok(None)
    }

    /// One step of the alternation; how the run ended, where it did.
    fn step(&mut self) -> Result<Option<Ending>> {
        let (recipe, dataset, stop, watch) = (self.recipe, self.dataset, self.stop, self.watch);
        let (state, batches, pending) = (&mut *self.state, &mut self.batches, &mut self.pending);
        let rates = state.rates(recipe);
        let samples = state.before_step(recipe, dataset, self.per_epoch, stop)?;
        state.alternation.e_step(state.step, state.steps, stop, &mut |step| batches.get(step))?;
        let made = state.alternation.m_step(state.step, rates, &mut |step| batches.get(step))?;
        if made.gradients.is_none() {
            return Ok(Some(Ending::Diverged { step: state.step }));
        }
        let is_pending = pending.push(&made, rates.encoder)?;
        if !is_pending {
            state.observe(&made, rates.encoder)?;
        }
        if let Some(samples) = samples {
            state.compare(recipe, &made.eta, &batches.get(state.step)?, &samples)?;
        }
        state.step += 1;
        if !is_pending {
            watch(state.progress(made.loss, self.per_epoch));
        } else if (pending.is_due() || state.step.is_multiple_of(self.per_epoch))
            && let Some(step) = pending.read(state, self.per_epoch, watch)?
        {
            return Ok(Some(Ending::Diverged { step }));
        }
        Ok(None)
    }

    fn save(&mut self) -> Result<()> {
        self.state.save(self.dir)?;
        self.saved = Some(self.state.step);
        (self.watch)(Progress::Saved { step: self.state.step });
        Ok(())
    }

    /// Leaves the run where it was asked to stop, for another process to go on.
    fn leave(&mut self) -> Result<Ending> {
        if let Some(step) = self.pending.read(self.state, self.per_epoch, self.watch)? {
            return Ok(Ending::Diverged { step });
        }
        // Before the first step there is nothing to keep; after a save without a step since,
        // nothing new.
        let kept = self.state.step == 0 || self.saved == Some(self.state.step);
        if self.state.observe_interrupted() || !kept {
            self.save()?;
        }
        Ok(Ending::Stopped)
    }
}
