//! The state of a run: exactly what a checkpoint holds, and what is made of it at the end of an
//! epoch.

mod gap;
mod saved;

pub use saved::{saw, told};

use super::em;
use super::film;
use super::half_steps::HalfSteps;
use super::init::first_step;
use super::readings::Read;
use super::recognition;
use super::records::Records;
use super::standing;
use super::tracking;
use super::weights;
use super::{Alternation, Init, Model, Preprocessing, Progress, Protocol, Rates, evaluate};
use crate::data::{Dataset, loader};
use crate::device::Site;
use crate::error::Result;
use crate::eta::{BankPlace, Rule, Size};
use crate::kernel::ranks::Shards;
use crate::recipe::Recipe;
use crate::record::{EIGENVALUES, MetricsLog, SPECTRUM_FILE, Snapshot, WEIGHTS_FILE};
use candle_core::Device;
use ndarray::Array2;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Banks beyond this go into a memory-mapped file.
pub(super) const BANK_MEMORY_BYTES: u64 = 1 << 30;

/// θ, momentum, η, running statistics and integers.
///
/// Methods that compute fail as [`Alternation`]'s do, those that write with [`Error::Disk`], those
/// that take `stop` with [`Error::Stopped`] once it is set.
pub struct State {
    /// SGD steps made.
    pub step: u64,
    /// The step that the run begins with: 0, or those that its initial weights have behind them.
    pub first: u64,
    /// The step that it ends before.
    pub steps: u64,
    /// θ, η, momentum and running statistics.
    pub alternation: Alternation,
    /// L around the half-steps, where the recipe asks for it.
    half_steps: Option<HalfSteps>,
    /// What the last step's η and p were compared with, for the row that follows.
    eta_gap: Vec<(&'static str, f64)>,
    /// Whether the row of the initial weights is missing.
    pub unmeasured: bool,
    /// Sums over the current epoch; at its end, until its row is written.
    epoch: EpochSums,
    /// Images that E-steps passed through F beside the M-steps', over the whole run.
    e_passed: u64,
    /// Singular values of z of held-out images, largest first, as last measured.
    spectrum: Vec<f64>,
    /// How many images these are of.
    rows: usize,
    /// On the rank that writes.
    logs: Option<MetricsLog>,
    /// Seconds that earlier processes spent on this run.
    wall_before: f64,
    /// The first digits of the digest of the images, as a number.
    images: u64,
    started: Instant,
    batch: usize,
    /// What env.json keeps of the weights that this process began the run with, where it did.
    pub init: Option<Value>,
}

#[derive(Clone, Copy, Default)]
struct EpochSums {
    steps: u64,
    loss: f64,
    z_std: f64,
    lr: f64,
}

/// The place for banks of `rule` at `site`, where it keeps any and they may lie beside the outputs:
/// [`Site::room_for_bank`].
pub(super) fn beside(rule: &Rule, site: &Site, on_host: u64) -> Result<Option<(Device, u64)>> {
    if rule.keeps_bank() { site.room_for_bank(on_host) } else { Ok(None) }
}

impl State {
    /// The state at `snapshot`, the newest checkpoint in `dir`, or at step 0.
    pub fn open(
        recipe: &Recipe,
        dataset: &Dataset,
        records: Records,
        site: &Site,
        snapshot: Option<Snapshot<'static>>,
    ) -> Result<Self> {
        super::check_images(recipe, dataset)?;
        let kernel = site.host_kernel(recipe.encoder.precision)?;
        let schedule = &recipe.schedule;
        let shards = Shards::new(schedule.shards, site.ranks().clone(), schedule.sync_batch_norm)?;
        let model = Model::of(recipe, &kernel)?;
        let init = if snapshot.is_none() { Init::open(recipe)? } else { None };
        init.iter().try_for_each(|init| init.load(&model))?;
        let model = model.on(site)?.cut_by(&Arc::new(shards));
        let per_epoch = loader::steps_per_epoch(dataset.train.len(), recipe.schedule.batch);
        let place = BankPlace {
            memory_limit_bytes: BANK_MEMORY_BYTES,
            folder: records.folder().to_path_buf(),
            ranks: site.ranks().clone(),
            beside: beside(&recipe.eta, site, BANK_MEMORY_BYTES)?,
        };
        let em = recipe.measure.em.as_ref();
        let size =
            Size { second: em.is_some_and(|em| em.eta), ..recipe.rule_size(dataset.train.len(), per_epoch) };
        let rule = recipe.eta.build(&size, &place)?;
        let half_steps = em
            .filter(|em| em.objective)
            .map(|em| HalfSteps::new(recipe, em, dataset, per_epoch))
            .transpose()?;
        let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
        let alternation = Alternation::new(model, &recipe.eta, rule, objective, optim, recipe.seed)?;
        let first = first_step(recipe, per_epoch, alternation.rule.chunk())?;
        let mut state = Self {
            step: first,
            first,
            steps: first + size.steps,
            alternation,
            half_steps,
            eta_gap: Vec::new(),
            unmeasured: true,
            epoch: EpochSums::default(),
            e_passed: 0,
            spectrum: Vec::new(),
            rows: 0,
            logs: records.logs(&recipe.measure.columns())?,
            wall_before: 0.0,
            images: saved::number_of(&dataset.digest),
            started: Instant::now(),
            batch: recipe.schedule.batch,
            init: init.map(|init| init.record()),
        };
        if let Some(snapshot) = snapshot {
            state.restore(snapshot).map_err(|e| e.in_file(records.folder()))?;
        }
        Ok(state)
    }

    /// The learning rates of the next step.
    pub fn rates(&self, recipe: &Recipe) -> Rates {
        let (optim, epochs) = (&recipe.optim, recipe.schedule.epochs);
        Rates {
            encoder: optim.lr(self.batch, self.step, self.steps, epochs),
            predictor: optim.predictor_lr(self.batch, self.step, self.steps, epochs),
        }
    }

    /// Whether the epoch that ends with `step` steps made has a row with evaluations.
    fn measured_after(&self, recipe: &Recipe, step: u64, per_epoch: u64) -> bool {
        let epoch = step / per_epoch;
        let due = epoch.is_multiple_of(recipe.measure.every) || step == self.steps;
        step.is_multiple_of(per_epoch) && due
    }

    /// Whether the epoch that has just ended lacks its row.
    pub fn owes_row(&self, per_epoch: u64) -> bool {
        self.step.is_multiple_of(per_epoch) && self.epoch.steps > 0
    }

    /// Before the next SGD step: what the recipe wants to know of θ as it is now. Gives the samples
    /// with which the step's η is to be compared, where it is.
    pub fn before_step(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        per_epoch: u64,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Array2<f32>>>> {
        let model = &self.alternation.model;
        if let Some(half_steps) = &mut self.half_steps {
            half_steps.before(model, recipe, dataset, self.step, stop)?;
        }
        match recipe.measure.em.as_ref().filter(|em| em.eta) {
            Some(em) if self.measured_after(recipe, self.step + 1, per_epoch) => {
                em::samples(model, dataset, recipe, em, self.step, stop).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether an E-step was interrupted; takes note of what it passed.
    pub fn observe_interrupted(&mut self) -> bool {
        let interrupted = self.alternation.read > 0;
        if interrupted {
            self.e_passed += self.alternation.count_passed();
        }
        interrupted
    }

    /// Takes note of what a step gave.
    pub fn observe(&mut self, read: &Read) {
        self.epoch.steps += 1;
        self.epoch.loss += read.loss;
        self.epoch.z_std += read.z_std;
        self.e_passed += read.e_passed;
        self.epoch.lr += read.rate;
    }

    /// What a watcher is told after `step` steps, the last of loss `loss`.
    pub fn progress(&self, step: u64, loss: f64, per_epoch: u64) -> Progress {
        let z_std = self.epoch.z_std / self.epoch.steps.max(1) as f64;
        Progress::Step { step, epoch: step as f64 / per_epoch as f64, loss, z_std }
    }

    /// Writes the row of the initial weights.
    pub fn measure(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        records: Records,
        stop: &AtomicBool,
        watch: &dyn Fn(Progress),
    ) -> Result<()> {
        self.write_trajectory(recipe, records)?;
        self.write_film(recipe, dataset, records, stop)?;
        let values = self.evaluation(recipe, dataset, false, stop)?;
        self.write_eigenvalues(recipe, records)?;
        self.unmeasured = false;
        self.row(recipe.schedule.start_epoch as f64, values, watch)
    }

    /// Writes the row of the epoch that has just ended and starts the next.
    ///
    /// # Errors
    /// [`Error::Stopped`] once `stop` is set; the epoch still owes its row then.
    pub fn close_epoch(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        records: Records,
        stop: &AtomicBool,
        watch: &dyn Fn(Progress),
    ) -> Result<()> {
        let per_epoch = loader::steps_per_epoch(dataset.train.len(), self.batch);
        let epoch = self.step / per_epoch;
        let last = self.step == self.steps;
        // What can be interrupted comes before anything is changed.
        let measured = self.measured_after(recipe, self.step, per_epoch);
        self.write_film(recipe, dataset, records, stop)?;
        let evaluated = if measured { self.evaluation(recipe, dataset, last, stop)? } else { Vec::new() };
        let model = &self.alternation.model;
        let half_steps = self.half_steps.as_mut().map(|watched| watched.row(model, recipe, self.step, stop));
        let half_steps = half_steps.transpose()?.unwrap_or_default();
        let sums = std::mem::take(&mut self.epoch);
        let n = sums.steps.max(1) as f64;
        let mut values =
            vec![("train/loss", sums.loss / n), ("train/lr", sums.lr / n), ("train/z_std", sums.z_std / n)];
        let samples = ((self.step - self.first) * self.batch as u64) as f64;
        values.push(("train/e_passes", self.e_passed as f64 / samples));
        values.extend(half_steps);
        values.append(&mut self.eta_gap);
        values.extend(evaluated);
        if measured {
            self.write_trajectory(recipe, records)?;
            self.write_eigenvalues(recipe, records)?;
        }
        self.row(epoch as f64, values, watch)
    }

    fn evaluation(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        last: bool,
        stop: &AtomicBool,
    ) -> Result<Vec<(&'static str, f64)>> {
        let probe = last || recipe.measure.probe_always;
        let protocol = Protocol { config: &recipe.measure, probe, seed: recipe.seed };
        let e = evaluate(&self.alternation.model, dataset, &recipe.augment, &protocol, stop)?;
        let mut values = e.columns();
        (self.spectrum, self.rows) = (e.spectrum, e.rows);
        values.extend(standing::predictor_columns(&self.alternation.model, &recipe.measure)?);
        values.extend(recognition::measured(&self.alternation.model, recipe, dataset, stop)?);
        // A fine-tuned tracker costs as much as a probe: of the initial weights and of the last
        // ones.
        let tuned = last || self.step == self.first;
        values.extend(tracking::measured(&self.alternation.model, recipe, tuned, stop)?);
        if let Some(em) = &recipe.measure.em {
            values.extend(standing::spread_of_eigenvalues(em, &self.spectrum));
            values.extend(standing::columns(&self.alternation.model, dataset, recipe, em, stop)?);
        }
        Ok(values)
    }

    fn row(&mut self, epoch: f64, values: Vec<(&'static str, f64)>, watch: &dyn Fn(Progress)) -> Result<()> {
        let samples = self.step * self.batch as u64;
        let wall_s = self.wall_s();
        if let Some(logs) = &mut self.logs {
            logs.row(self.step, epoch, samples, wall_s, &values)?;
        }
        watch(Progress::Measured { step: self.step, epoch, values });
        Ok(())
    }

    /// Tells TensorBoard that the run has ended, `finished` or because it diverged.
    pub fn tell_ended(&mut self, finished: bool) -> Result<()> {
        self.logs.as_mut().map_or(Ok(()), |logs| logs.ended(self.step, finished))
    }

    fn wall_s(&self) -> f64 {
        self.wall_before + self.started.elapsed().as_secs_f64()
    }

    /// Writes `spectrum.csv`: the singular values of z of held-out images, largest first, as last
    /// measured.
    pub fn write_spectrum(&self, records: Records) -> Result<()> {
        let rows = self.spectrum.iter().enumerate().map(|(i, value)| format!("{},{value}\n", i + 1));
        let text: String = std::iter::once("index,singular_value\n".to_string()).chain(rows).collect();
        records.write(SPECTRUM_FILE, text.as_bytes())
    }

    /// Keeps θ as it is now, where the recipe asks for it.
    fn write_trajectory(&self, recipe: &Recipe, records: Records) -> Result<()> {
        match &recipe.measure.em {
            Some(em) if em.trajectory => em::write_trajectory(&self.alternation.model, self.step, records),
            _ => Ok(()),
        }
    }

    /// Keeps the eigenvalues of E\[z zᵀ\] as last measured, where the recipe asks for them.
    fn write_eigenvalues(&self, recipe: &Recipe, records: Records) -> Result<()> {
        if !recipe.measure.em.as_ref().is_some_and(|em| em.eigenvalues) {
            return Ok(());
        }
        let values = self.spectrum.iter().map(|s| (s * s / self.rows as f64) as f32).collect();
        em::write_vector((EIGENVALUES, EIGENVALUES), self.step, values, records)
    }

    /// Keeps the outputs of a few images as they are now, where the recipe asks for it.
    fn write_film(
        &self,
        recipe: &Recipe,
        dataset: &Dataset,
        records: Records,
        stop: &AtomicBool,
    ) -> Result<()> {
        let (model, of) = (&self.alternation.model, (&recipe.augment, recipe.measure.film));
        match recipe.measure.film {
            0 => Ok(()),
            _ => film::write_frame(model, dataset, of, self.step, records, stop),
        }
    }

    /// Writes `weights.safetensors`: θ and running statistics under torchvision's names, and how
    /// images are prepared for them.
    pub fn write_weights(&self, recipe: &Recipe, records: Records) -> Result<()> {
        let preprocessing = Preprocessing::of(&recipe.augment);
        let bytes = weights::to_safetensors(&self.alternation.model, Some(&preprocessing))?;
        records.write(WEIGHTS_FILE, &bytes)
    }
}
