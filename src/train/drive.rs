//! The way of a run: row, step, checkpoint, until it ends or is asked to stop.
//!
//! What was trained is saved before it is measured. Whatever can take long is asked for a
//! checkpoint at a place from which it goes on to the same bytes: see [`State::close_epoch`] and
//! [`super::Alternation::e_step`].

use super::batches::Batches;
use super::readings::Readings;
use super::records::Records;
use super::refusals::Refusals;
use super::state::State;
use super::{Ending, Progress};
use crate::data::{Dataset, loader};
use crate::error::{Error, Result, go_on};
use crate::kernel::ranks::Ranks;
use crate::recipe::Recipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What surrounds a run: what it is, its images, its records, and who may stop it or watch.
pub struct Around<'a> {
    pub recipe: &'a Recipe,
    pub dataset: &'a Arc<Dataset>,
    pub records: Records<'a>,
    pub stop: &'a Agreed<'a>,
    pub watch: &'a (dyn Fn(Progress) + Sync),
}

/// The wish to stop, as all ranks agree on it: they leave at one place.
pub struct Agreed<'a> {
    /// What this process was asked.
    asked: &'a AtomicBool,
    ranks: Arc<dyn Ranks>,
    agreed: AtomicBool,
}

impl<'a> Agreed<'a> {
    /// The wish `asked` of this process, shared with the other `ranks`.
    pub fn new(asked: &'a AtomicBool, ranks: Arc<dyn Ranks>) -> Self {
        Self { asked, ranks, agreed: AtomicBool::new(false) }
    }

    /// What pieces of a computation ask between them.
    fn flag(&self) -> &AtomicBool {
        if self.ranks.size() == 1 { self.asked } else { &self.agreed }
    }

    /// Asks the other ranks, at a place that all of them pass.
    fn ask(&self) -> Result<()> {
        if self.ranks.size() > 1 && self.ranks.any(self.asked.load(Ordering::Relaxed))? {
            self.agreed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A run on its way.
struct Drive<'a> {
    around: &'a Around<'a>,
    state: &'a mut State,
    per_epoch: u64,
    batches: Batches,
    readings: Readings,
    /// The step at which this process saved last.
    saved: Option<u64>,
    /// Whether this process made a step.
    moved: bool,
}

/// The alternation, from where `state` is to its end or until it is asked to stop.
pub fn alternate(around: &Around, state: &mut State) -> Result<Ending> {
    let Around { recipe, dataset, watch, .. } = *around;
    let per_epoch = loader::steps_per_epoch(dataset.train.len(), recipe.schedule.batch);
    let batches = Batches::new(recipe, dataset, &state.alternation, state.step..state.steps);
    let (readings, saved) = (Readings::default(), (state.step > state.first).then_some(state.step));
    let mut drive = Drive { around, state, per_epoch, batches, readings, saved, moved: false };
    let mut refusals = Refusals::default();
    loop {
        let ending = drive.advance();
        refusals.tell(drive.state.alternation.model.site(), watch);
        match ending {
            Ok(None) => {}
            Ok(Some(ending)) => return Ok(ending),
            Err(Error::Stopped) => return drive.leave(),
            Err(error) => return Err(error),
        }
    }
}

impl Drive<'_> {
    /// Writes the row that is due, or else makes the next step; how the run ended, where it did.
    ///
    /// # Errors
    /// [`Error::Stopped`] at a place from which a checkpoint goes on.
    fn advance(&mut self) -> Result<Option<Ending>> {
        let Around { recipe, dataset, records, stop, watch } = *self.around;
        stop.ask()?;
        let stop = stop.flag();
        if self.state.unmeasured {
            self.state.measure(recipe, dataset, records, stop, watch)?;
        } else if self.state.owes_row(self.per_epoch) {
            self.state.close_epoch(recipe, dataset, records, stop, watch)?;
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
        let (step, steps) = (self.state.step, self.state.steps);
        let ended = step.is_multiple_of(self.per_epoch);
        let due = (step / self.per_epoch).is_multiple_of(recipe.schedule.checkpoint_every);
        if ended && (due || step == steps) {
            self.save()?;
        }
        Ok(None)
    }

    /// One step of the alternation; how the run ended, where it did.
    fn step(&mut self) -> Result<Option<Ending>> {
        let Around { recipe, dataset, stop, .. } = *self.around;
        let (state, batches) = (&mut *self.state, &mut self.batches);
        let rates = state.rates(recipe);
        let samples = state.before_step(recipe, dataset, self.per_epoch, stop.flag())?;
        state.alternation.e_step(state.step, state.steps, stop.flag(), &mut |step| {
            stop.ask()?;
            batches.get(step)
        })?;
        let made = state.alternation.m_step(state.step, rates, &mut |step| batches.get(step))?;
        self.readings.push(&made, rates.encoder)?;
        if let Some(samples) = samples {
            state.compare(recipe, &made.eta, &batches.get(state.step)?, &samples)?;
        }
        state.take_ranks(recipe, &made, self.per_epoch)?;
        state.step += 1;
        let now = state.step.is_multiple_of(self.per_epoch);
        self.read(now)
    }

    /// Takes note of the steps whose numbers are known, of all where that is asked for `now`; after
    /// a loss that is not finite no number means anything, and the run has ended.
    fn read(&mut self, now: bool) -> Result<Option<Ending>> {
        let state = &mut *self.state;
        let read = self.readings.take(now)?;
        // The last one belongs to the step before `state.step`.
        let first = state.step - read.len() as u64;
        for (step, read) in (first..).zip(&read) {
            if !read.loss.is_finite() {
                return Ok(Some(Ending::Diverged { step }));
            }
            state.observe(read);
            (self.around.watch)(state.progress(step + 1, read.loss, self.per_epoch));
        }
        Ok(None)
    }

    fn save(&mut self) -> Result<()> {
        self.state.save(self.around.records)?;
        self.saved = Some(self.state.step);
        (self.around.watch)(Progress::Saved { step: self.state.step });
        Ok(())
    }

    /// Leaves the run where it was asked to stop, for another process to go on.
    fn leave(&mut self) -> Result<Ending> {
        if let Some(ending) = self.read(true)? {
            return Ok(ending);
        }
        // Before the first step there is nothing to keep; after a save without a step since,
        // nothing new.
        let kept = self.state.step == self.state.first || self.saved == Some(self.state.step);
        if self.state.observe_interrupted() || !kept {
            self.save()?;
        }
        Ok(Ending::Stopped)
    }
}
