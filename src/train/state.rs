//! The state of a run: exactly what a checkpoint holds, and what is made of it at the end of an epoch.

use super::alternation::Outcome;
use super::em::{self, HalfSteps};
use super::evaluate::held_out_spectrum;
use super::weights;
use super::{Alternation, COLUMNS, Model, Progress, Rates, evaluate};
use crate::data::{Dataset, loader};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::eta::{BankPlace, Held, Rule, Size, Views};
use crate::measure::collapse;
use crate::recipe::Recipe;
use crate::record::{MetricsLog, RunDir, SavedTensor, Snapshot, write_durable};
use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2};
use std::collections::BTreeMap;
use std::time::Instant;

/// What the measurement of L is called in a checkpoint.
const HALF_STEPS: &str = "half_steps.";
/// Banks beyond this go into a memory-mapped file.
pub(super) const BANK_MEMORY_BYTES: u64 = 1 << 30;

/// The tensor of a checkpoint that holds DirectPred's F.
const CORRELATION: &str = "predictor.correlation";

/// θ, momentum, η, running statistics and integers.
pub struct State {
    /// SGD steps made.
    pub step: u64,
    /// SGD steps of the whole run.
    pub steps: u64,
    /// θ, η, momentum and running statistics.
    pub alternation: Alternation,
    /// L around the half-steps, where the recipe asks for it.
    half_steps: Option<HalfSteps>,
    /// What the last step's η was compared with, for the row that follows.
    eta_gap: Vec<(&'static str, f64)>,
    /// Sums over the current epoch.
    epoch: EpochSums,
    /// Images that E-steps passed through F beside the M-steps', over the whole run.
    e_passed: u64,
    logs: MetricsLog,
    /// Seconds that earlier processes spent on this run.
    wall_before: f64,
    started: Instant,
    batch: usize,
}

#[derive(Clone, Copy, Default)]
struct EpochSums {
    steps: u64,
    loss: f64,
    z_std: f64,
    lr: f64,
}

/// The place for banks of `rule` at `site`, where it keeps any and they may lie beside the outputs: [`Site::room_for_bank`].
pub(super) fn beside(rule: &Rule, site: &Site, on_host: u64) -> Result<Option<(Device, u64)>> {
    if rule.keeps_bank() { site.room_for_bank(on_host) } else { Ok(None) }
}

impl State {
    /// The state at the newest checkpoint in `dir`, or at step 0.
    pub fn open(recipe: &Recipe, dataset: &Dataset, dir: &RunDir, site: &Site) -> Result<Self> {
        let kernel = site.host_kernel(recipe.encoder.precision)?;
        let model = Model::of(recipe, &kernel)?.on(site)?;
        let per_epoch = loader::steps_per_epoch(dataset.train.len(), recipe.schedule.batch);
        let place = BankPlace {
            memory_limit_bytes: BANK_MEMORY_BYTES,
            folder: dir.path().to_path_buf(),
            beside: beside(&recipe.eta, site, BANK_MEMORY_BYTES)?,
        };
        let dim = recipe.encoder.projector.dim;
        let em = recipe.measure.em.as_ref();
        let size = Size {
            images: dataset.train.len(),
            dim,
            per_epoch,
            steps: per_epoch * recipe.schedule.epochs,
            elements: recipe.elements(),
            views: recipe.views(),
            seed: recipe.seed,
            second: em.is_some_and(|em| em.eta),
        };
        let rule = recipe.eta.build(&size, &place)?;
        let half_steps = em
            .filter(|em| em.objective)
            .map(|em| HalfSteps::new(recipe, em, dataset, per_epoch))
            .transpose()?;
        let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
        let alternation = Alternation::new(model, &recipe.eta, rule, objective, optim);
        let snapshot = dir.resume()?;
        let mut state = Self {
            step: 0,
            steps: per_epoch * recipe.schedule.epochs,
            alternation,
            half_steps,
            eta_gap: Vec::new(),
            epoch: EpochSums::default(),
            e_passed: 0,
            logs: dir.metrics(&COLUMNS)?,
            wall_before: 0.0,
            started: Instant::now(),
            batch: recipe.schedule.batch,
        };
        if let Some(snapshot) = snapshot {
            state.restore(snapshot).map_err(|e| e.in_file(dir.path()))?;
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

    /// Before the next SGD step, on `views`: what the recipe wants to know of θ as it is now. Gives the samples
    /// with which the step's η is to be compared, where it is.
    pub fn before_step(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        per_epoch: u64,
        views: &mut dyn FnMut(u64) -> Result<Views>,
    ) -> Result<Option<Vec<Array2<f32>>>> {
        let model = &self.alternation.model;
        if let Some(half_steps) = &mut self.half_steps {
            half_steps.before(model, recipe, dataset, self.step)?;
        }
        match recipe.measure.em.as_ref().filter(|em| em.eta) {
            Some(em) if self.measured_after(recipe, self.step + 1, per_epoch) => {
                let indices = views(self.step)?.indices;
                em::samples(model, dataset, recipe, em, &indices, self.step).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Compares the η that a step on `views` trained on with `samples`.
    pub fn compare(
        &mut self,
        recipe: &Recipe,
        eta: &Tensor,
        views: &Views,
        samples: &[Array2<f32>],
    ) -> Result<()> {
        let rule = &self.alternation.rule;
        let gap = em::trained_gap(eta, rule.second(views)?, samples, recipe)?;
        let parts = [gap.bias.map(|b| ("em/eta_bias", b)), gap.variance.map(|v| ("em/eta_variance", v))];
        self.eta_gap = vec![("em/eta_cosine", gap.cosine), ("em/eta_age", rule.age(views))];
        self.eta_gap.extend(parts.into_iter().flatten());
        Ok(())
    }

    /// Takes note of what a step gave, and of its learning rate.
    pub fn observe(&mut self, made: &Outcome, lr: f64) -> Result<()> {
        self.observe_numbers(made.loss, lr, spread(&made.z)?, made.e_passed);
        Ok(())
    }

    /// The same in numbers.
    pub fn observe_numbers(&mut self, loss: f64, lr: f64, z_std: f64, e_passed: u64) {
        self.epoch.steps += 1;
        self.epoch.loss += loss;
        self.epoch.z_std += z_std;
        self.e_passed += e_passed;
        self.epoch.lr += lr;
    }

    /// What a watcher is told after a step of loss `loss`.
    pub fn progress(&self, loss: f64, per_epoch: u64) -> Progress {
        self.progress_at(self.step, loss, per_epoch)
    }

    /// The same after `step` steps.
    pub fn progress_at(&self, step: u64, loss: f64, per_epoch: u64) -> Progress {
        let z_std = self.epoch.z_std / self.epoch.steps.max(1) as f64;
        Progress::Step { step, epoch: step as f64 / per_epoch as f64, loss, z_std }
    }

    /// Writes the row of the initial weights.
    pub fn measure(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        dir: &RunDir,
        watch: &dyn Fn(Progress),
    ) -> Result<()> {
        self.write_trajectory(recipe, dir)?;
        let values = self.evaluation(recipe, dataset, false)?;
        self.row(0.0, values, watch)
    }

    /// Writes the row of the epoch that has just ended and starts the next.
    pub fn close_epoch(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        dir: &RunDir,
        per_epoch: u64,
        watch: &dyn Fn(Progress),
    ) -> Result<()> {
        let epoch = self.step / per_epoch;
        let last = self.step == self.steps;
        let sums = std::mem::take(&mut self.epoch);
        let n = sums.steps.max(1) as f64;
        let mut values =
            vec![("train/loss", sums.loss / n), ("train/lr", sums.lr / n), ("train/z_std", sums.z_std / n)];
        let samples = (self.step * self.batch as u64) as f64;
        values.push(("train/e_passes", self.e_passed as f64 / samples));
        if let Some(half_steps) = &mut self.half_steps {
            values.extend(half_steps.row(&self.alternation.model, recipe, self.step)?);
        }
        values.append(&mut self.eta_gap);
        if self.measured_after(recipe, self.step, per_epoch) {
            values.extend(self.evaluation(recipe, dataset, last)?);
            self.write_trajectory(recipe, dir)?;
        }
        self.row(epoch as f64, values, watch)
    }

    fn evaluation(&self, recipe: &Recipe, dataset: &Dataset, last: bool) -> Result<Vec<(&'static str, f64)>> {
        let probe = last || recipe.measure.probe_always;
        let e =
            evaluate(&self.alternation.model, dataset, &recipe.augment, &recipe.measure, probe, recipe.seed)?;
        let linear = e.linear_top1.map(|top1| ("val/linear_top1", top1));
        let always = [("val/knn_top1", e.knn_top1), ("val/z_std", e.z_std), ("val/rankme", e.rankme)];
        let mut values: Vec<_> = always.into_iter().chain(linear).collect();
        if let Some(em) = &recipe.measure.em {
            let gap = em::held_out_gap(&self.alternation.model, dataset, recipe, em)?;
            values.extend([("em/alignment", gap.alignment)]);
            // Collapsed outputs have no variation to remove.
            let numbers = [("em/r2", gap.r2), ("em/r2_linear", gap.r2_linear)];
            values.extend(numbers.into_iter().filter(|(_, value)| value.is_finite()));
        }
        Ok(values)
    }

    fn row(&mut self, epoch: f64, values: Vec<(&'static str, f64)>, watch: &dyn Fn(Progress)) -> Result<()> {
        let samples = self.step * self.batch as u64;
        self.logs.row(self.step, epoch, samples, self.wall_s(), &values)?;
        watch(Progress::Measured { step: self.step, epoch, values });
        Ok(())
    }

    fn wall_s(&self) -> f64 {
        self.wall_before + self.started.elapsed().as_secs_f64()
    }

    /// Saves a checkpoint.
    pub fn save(&mut self, dir: &RunDir) -> Result<()> {
        let mut tensors = Vec::new();
        for (part, sgd) in self.alternation.model.parts().zip(&self.alternation.momentum) {
            let mut add = |kind: &str, values: Vec<f32>| {
                let shape = vec![values.len()];
                tensors.push(SavedTensor {
                    name: format!("{}.{kind}", part.name),
                    shape,
                    data: values.into(),
                });
            };
            add("theta", part.theta.to_vec1()?);
            add("velocity", sgd.velocity()?);
            add("running", part.engine.running()?);
        }
        if let Some(direct) = &self.alternation.direct {
            let (data, dim) = (direct.correlation().into(), self.alternation.model.output_dim());
            tensors.push(SavedTensor { name: CORRELATION.into(), shape: vec![dim, dim], data });
        }
        for (name, shape, data) in self.alternation.rule.state()? {
            tensors.push(SavedTensor { name: format!("eta.{name}"), shape, data });
        }
        let mut integers = BTreeMap::from([
            ("epoch.steps".to_string(), self.epoch.steps),
            ("epoch.loss".to_string(), self.epoch.loss.to_bits()),
            ("epoch.z_std".to_string(), self.epoch.z_std.to_bits()),
            ("epoch.lr".to_string(), self.epoch.lr.to_bits()),
            ("e_passed".to_string(), self.e_passed),
            ("wall_s".to_string(), self.wall_s().to_bits()),
        ]);
        if let Some(half_steps) = &self.half_steps {
            let named =
                |(name, shape, data)| SavedTensor { name: format!("{HALF_STEPS}{name}"), shape, data };
            tensors.extend(half_steps.tensors()?.into_iter().map(named));
            let numbers =
                half_steps.numbers().into_iter().map(|(name, value)| (format!("{HALF_STEPS}{name}"), value));
            integers.extend(numbers);
        }
        dir.save(&Snapshot { step: self.step, tensors, integers }, &mut self.logs)
    }

    fn restore(&mut self, snapshot: Snapshot<'static>) -> Result<()> {
        let integer = |name: &str| {
            let missing = || Error::Failure(format!("the checkpoint lacks '{name}'"));
            snapshot.integers.get(name).copied().ok_or_else(missing)
        };
        self.epoch = EpochSums {
            steps: integer("epoch.steps")?,
            loss: f64::from_bits(integer("epoch.loss")?),
            z_std: f64::from_bits(integer("epoch.z_std")?),
            lr: f64::from_bits(integer("epoch.lr")?),
        };
        self.e_passed = integer("e_passed")?;
        self.wall_before = f64::from_bits(integer("wall_s")?);
        self.step = snapshot.step;
        let mut tensors: BTreeMap<String, SavedTensor> =
            snapshot.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        let mut take = |name: String| {
            let missing = || Error::Failure(format!("the checkpoint lacks '{name}'"));
            let data = tensors.remove(&name).ok_or_else(missing)?.data;
            data.into_f32().map_err(|e| Error::Failure(format!("the checkpoint's '{name}': {e}")))
        };
        for (part, sgd) in self.alternation.model.parts().zip(&mut self.alternation.momentum) {
            let name = part.name;
            self.alternation.model.set(
                name,
                take(format!("{name}.theta"))?,
                &take(format!("{name}.running"))?,
            )?;
            let fail = |e| Error::Failure(format!("the checkpoint's '{name}': {e}"));
            sgd.restore(take(format!("{name}.velocity"))?).map_err(fail)?;
        }
        if let Some(direct) = &mut self.alternation.direct {
            direct.restore(take(CORRELATION.into())?)?;
        }
        let mut held = |prefix: &str| -> Vec<Held<'static>> {
            let names: Vec<String> =
                tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
            let take = |name: String| {
                let t = tensors.remove(&name)?;
                Some((name[prefix.len()..].to_string(), t.shape, t.data))
            };
            names.into_iter().filter_map(take).collect()
        };
        self.alternation.rule.restore(held("eta."))?;
        match &mut self.half_steps {
            Some(half_steps) => {
                half_steps.restore(held(HALF_STEPS), &|name| integer(&format!("{HALF_STEPS}{name}")))
            }
            None => Ok(()),
        }
    }

    /// Writes `spectrum.csv`: the singular values of z of held-out images, largest first.
    pub fn write_spectrum(&self, recipe: &Recipe, dataset: &Dataset, dir: &RunDir) -> Result<()> {
        let spectrum = held_out_spectrum(&self.alternation.model, dataset, &recipe.augment)?;
        let rows = spectrum.iter().enumerate().map(|(i, value)| format!("{},{value}\n", i + 1));
        let text: String = std::iter::once("index,singular_value\n".to_string()).chain(rows).collect();
        write_durable(&dir.path().join("spectrum.csv"), text.as_bytes())
    }

    /// Keeps θ as it is now, where the recipe asks for it.
    fn write_trajectory(&self, recipe: &Recipe, dir: &RunDir) -> Result<()> {
        match &recipe.measure.em {
            Some(em) if em.trajectory => em::write_trajectory(&self.alternation.model, self.step, dir.path()),
            _ => Ok(()),
        }
    }

    /// Writes `weights.safetensors`: θ and running statistics under torchvision's names.
    pub fn write_weights(&self, dir: &RunDir) -> Result<()> {
        write_durable(
            &dir.path().join("weights.safetensors"),
            &weights::to_safetensors(&self.alternation.model)?,
        )
    }
}

/// std of z/‖z‖ times √d, for z (B, d); 0 for a batch of one, which has no spread to measure.
fn spread(z: &Tensor) -> Result<f64> {
    let (batch, dim) = z.dims2()?;
    if batch < 2 {
        return Ok(0.0);
    }
    let values = z.flatten_all()?.to_vec1::<f32>()?;
    let z = ArrayView2::from_shape((batch, dim), &values).map_err(|e| Error::Failure(e.to_string()))?;
    Ok(collapse::std(z) * (dim as f64).sqrt())
}
