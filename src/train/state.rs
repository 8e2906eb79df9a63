//! The state of a run: exactly what a checkpoint holds, and what is made of it at the end of an epoch.

use super::evaluate::held_out_spectrum;
use super::weights;
use super::{Alternation, COLUMNS, Model, Progress, Rates, evaluate};
use crate::data::{Dataset, loader};
use crate::error::{Error, Result};
use crate::eta::BankPlace;
use crate::kernel;
use crate::measure::collapse;
use crate::optim::Sgd;
use crate::recipe::Recipe;
use crate::record::{MetricsLog, RunDir, SavedTensor, Snapshot, write_durable};
use candle_core::Tensor;
use ndarray::ArrayView2;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

/// Banks beyond this go into a memory-mapped file.
const BANK_MEMORY_BYTES: u64 = 1 << 30;

/// θ, momentum, η, running statistics and integers.
pub struct State {
    /// SGD steps made.
    pub step: u64,
    /// SGD steps of the whole run.
    pub steps: u64,
    /// θ, η, momentum and running statistics.
    pub alternation: Alternation,
    /// Sums over the current epoch.
    epoch: EpochSums,
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

impl State {
    /// The state at the newest checkpoint in `dir`, or at step 0.
    pub fn open(recipe: &Recipe, dataset: &Dataset, dir: &RunDir) -> Result<Self> {
        let kernel = kernel::select(recipe.encoder.precision)?;
        let model =
            Model::new(&recipe.encoder, &recipe.predictor, recipe.augment.size, recipe.seed, &kernel)?;
        let per_epoch = loader::steps_per_epoch(dataset.train.len(), recipe.schedule.batch);
        let place = BankPlace { memory_limit_bytes: BANK_MEMORY_BYTES, folder: dir.path().to_path_buf() };
        let dim = recipe.encoder.projector.dim;
        let rule = recipe.eta.build(dataset.train.len(), dim, per_epoch, &place)?;
        let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
        let alternation = Alternation::new(model, &recipe.eta, rule, objective, optim);
        let snapshot = dir.resume()?;
        let mut state = Self {
            step: 0,
            steps: per_epoch * recipe.schedule.epochs,
            alternation,
            epoch: EpochSums::default(),
            logs: dir.metrics(&COLUMNS)?,
            wall_before: 0.0,
            started: Instant::now(),
            batch: recipe.schedule.batch,
        };
        if let Some(snapshot) = snapshot {
            state.restore(snapshot).map_err(|e| Error::data(dir.path(), e.to_string()))?;
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

    /// Takes note of a step's loss, its learning rate and the spread of its outputs z (B, d).
    pub fn observe(&mut self, loss: f64, lr: f64, z: &Tensor) -> Result<()> {
        self.epoch.steps += 1;
        self.epoch.loss += loss;
        self.epoch.z_std += spread(z)?;
        self.epoch.lr += lr;
        Ok(())
    }

    /// What a watcher is told after a step of loss `loss`.
    pub fn progress(&self, loss: f64, per_epoch: u64) -> Progress {
        let z_std = self.epoch.z_std / self.epoch.steps.max(1) as f64;
        Progress::Step { step: self.step, epoch: self.step as f64 / per_epoch as f64, loss, z_std }
    }

    /// Writes the row of the initial weights.
    pub fn measure(&mut self, recipe: &Recipe, dataset: &Dataset, watch: &dyn Fn(Progress)) -> Result<()> {
        let values = self.evaluation(recipe, dataset, false)?;
        self.row(0.0, values, watch)
    }

    /// Writes the row of the epoch that has just ended and starts the next.
    pub fn close_epoch(
        &mut self,
        recipe: &Recipe,
        dataset: &Dataset,
        per_epoch: u64,
        watch: &dyn Fn(Progress),
    ) -> Result<()> {
        let epoch = self.step / per_epoch;
        let last = self.step == self.steps;
        let sums = std::mem::take(&mut self.epoch);
        let n = sums.steps.max(1) as f64;
        let mut values =
            vec![("train/loss", sums.loss / n), ("train/lr", sums.lr / n), ("train/z_std", sums.z_std / n)];
        if last || epoch.is_multiple_of(recipe.measure.every) {
            values.extend(self.evaluation(recipe, dataset, last)?);
        }
        self.row(epoch as f64, values, watch)
    }

    fn evaluation(&self, recipe: &Recipe, dataset: &Dataset, last: bool) -> Result<Vec<(&'static str, f64)>> {
        let probe = last || recipe.measure.probe_always;
        let e =
            evaluate(&self.alternation.model, dataset, &recipe.augment, &recipe.measure, probe, recipe.seed)?;
        let linear = e.linear_top1.map(|top1| ("val/linear_top1", top1));
        let always = [("val/knn_top1", e.knn_top1), ("val/z_std", e.z_std), ("val/rankme", e.rankme)];
        Ok(always.into_iter().chain(linear).collect())
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
                    data: Cow::Owned(values),
                });
            };
            add("theta", part.theta.to_vec1()?);
            add("velocity", sgd.velocity());
            add("running", part.engine.running());
        }
        for (name, shape, data) in self.alternation.rule.state()? {
            tensors.push(SavedTensor { name: format!("eta.{name}"), shape, data });
        }
        let integers = BTreeMap::from([
            ("epoch.steps".to_string(), self.epoch.steps),
            ("epoch.loss".to_string(), self.epoch.loss.to_bits()),
            ("epoch.z_std".to_string(), self.epoch.z_std.to_bits()),
            ("epoch.lr".to_string(), self.epoch.lr.to_bits()),
            ("wall_s".to_string(), self.wall_s().to_bits()),
        ]);
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
        self.wall_before = f64::from_bits(integer("wall_s")?);
        self.step = snapshot.step;
        let mut tensors: BTreeMap<String, SavedTensor> =
            snapshot.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        let mut take = |name: String| {
            let missing = || Error::Failure(format!("the checkpoint lacks '{name}'"));
            tensors.remove(&name).map(|t| t.data.into_owned()).ok_or_else(missing)
        };
        for (part, sgd) in self.alternation.model.parts().zip(&mut self.alternation.momentum) {
            let name = part.name;
            self.alternation.model.set(
                name,
                take(format!("{name}.theta"))?,
                &take(format!("{name}.running"))?,
            )?;
            let velocity = take(format!("{name}.velocity"))?;
            if velocity.len() != part.engine.network().theta_len() {
                return Err(Error::Failure(format!("the {name}'s momentum has another length")));
            }
            *sgd = Sgd::new(velocity);
        }
        let eta = |(name, t): (String, SavedTensor<'static>)| {
            name.strip_prefix("eta.").map(|name| (name.to_string(), t.shape, t.data))
        };
        self.alternation.rule.restore(tensors.into_iter().filter_map(eta).collect())
    }

    /// Writes `spectrum.csv`: the singular values of z of held-out images, largest first.
    pub fn write_spectrum(&self, recipe: &Recipe, dataset: &Dataset, dir: &RunDir) -> Result<()> {
        let spectrum = held_out_spectrum(&self.alternation.model, dataset, &recipe.augment)?;
        let rows = spectrum.iter().enumerate().map(|(i, value)| format!("{},{value}\n", i + 1));
        let text: String = std::iter::once("index,singular_value\n".to_string()).chain(rows).collect();
        write_durable(&dir.path().join("spectrum.csv"), text.as_bytes())
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
