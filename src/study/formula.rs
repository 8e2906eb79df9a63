//! A formula in place of training, so that schedule, verdicts and output are tested byte for byte
//! in no time: `sim run <study> --scale mock`.
//!
//! kNN, spread and loss follow saturating curves whose end depends on the recipe the way the paper
//! reports it; a seed shifts them a little. No image is opened and no weight is made.

use super::drive::{Substitute, Values, drive};
use super::job::Job;
use super::trainer::Trainer;
use crate::error::Result;
use crate::eta::{Rule, Steps};
use crate::measure::metrics::{COLUMNS, DETECTION, Metric};
use crate::objective::Comparison;
use crate::recipe::{Beginning, Predictor, Recipe};
use crate::record::RunDir;
use crate::train::{Ending, Progress, Resources};
use std::sync::atomic::AtomicBool;

/// Steps of a made-up epoch: enough for a verdict.
const PER_EPOCH: u64 = 100;

/// The scale that replaces training by the formula; not in the lists, for tests.
pub const MOCK: &str = "mock";

/// The scale of the recipes of runs at `scale`: the formula stands for training at the smallest
/// one.
pub fn trained_scale(scale: &str) -> &str {
    if scale == MOCK { "smoke" } else { scale }
}

/// The formula.
#[derive(Clone, Copy, Debug, Default)]
pub struct Formula;

/// Forward passes that the E-step makes beside the M-step's.
fn e_passes(recipe: &Recipe) -> f64 {
    match recipe.eta {
        Rule::OneStep {} | Rule::Sinkhorn { .. } | Rule::Labels {} | Rule::None {} => 0.0,
        Rule::MemoryBank { .. } => 1.0,
        Rule::Expectation { .. } => (recipe.views() - recipe.objective.trained_views()) as f64,
        _ => recipe.views() as f64,
    }
}

/// Where a run ends: kNN in percent, std·√d, loss.
fn end(recipe: &Recipe) -> (f64, f64, f64) {
    match (&recipe.eta, &recipe.predictor) {
        (Rule::None {}, _) => (20.0, 0.01, -0.999),
        (Rule::Labels {}, _) => (90.0, 0.9, 0.1),
        (Rule::MemoryBank { m, .. }, Predictor::None {}) if *m > 0.0 => (60.0 + 10.0 * m, 0.8, -0.5),
        (_, Predictor::None {}) => (20.0, 0.02, -0.998),
        _ if matches!(recipe.objective.comparison, Comparison::SymmetricPredictor | Comparison::Mirror) => {
            (20.0, 0.02, -0.998)
        }
        (Rule::KStep { k: Steps::Count(k) }, _) => (80.0 + 0.1 * (*k as f64).log10(), 0.95, -0.9),
        _ => (80.0, 0.95, -0.9),
    }
}

/// The row of metrics of an epoch.
fn row(recipe: &Recipe, epoch: u64) -> Values {
    let (knn_end, std_end, loss_end) = end(recipe);
    // Arms that end elsewhere move a little otherwise, so that their differences have an
    // interval.
    let own = (recipe.seed * (10.0 * knn_end).round() as u64) % 7;
    let shift = ((recipe.seed * 7 + 3) % 5) as f64 / 10.0 - 0.2 + 0.05 * own as f64;
    let way = 1.0 - (-9.0 * epoch as f64 / recipe.schedule.epochs as f64).exp();
    let mix = |from: f64, to: f64| from + way * (to - from);
    let z_std = mix(0.9, std_end + 0.005 * shift).max(0.0);
    let mut values = Vec::new();
    if epoch > 0 {
        values.extend([
            ("train/loss", mix(0.0, loss_end + 0.005 * shift)),
            ("train/lr", 0.1 * (1.0 - way)),
            ("train/z_std", z_std),
            ("train/e_passes", e_passes(recipe)),
        ]);
    }
    values.extend([
        ("val/knn_top1", mix(45.0, knn_end + shift)),
        ("val/z_knn_top1", mix(40.0, knn_end + shift - 5.0)),
        ("val/z_std", z_std),
        ("val/rankme", mix(10.0, 30.0)),
    ]);
    if epoch == recipe.schedule.epochs {
        values.push(("val/linear_top1", knn_end + 5.0 + shift));
    }
    values
}

/// The row of a detector, which is measured at the end: from drawn or permuted weights it finds
/// less.
fn detector(recipe: &Recipe, epoch: u64) -> Values {
    let begins = recipe.transfer.as_ref().map(|config| (config.from, config.images));
    let (from, images) = begins.unwrap_or((Beginning::Init, 1));
    let gain = if from == Beginning::Pretraining { 8.0 } else { 0.0 };
    let end = 50.0 + gain + (images as f64).log10() + ((recipe.seed * 7 + 3) % 5) as f64 / 10.0;
    let mut values = Vec::new();
    if epoch > 0 {
        values.extend([("train/loss", 5.0 / (1 + epoch) as f64), ("train/lr", 0.1)]);
    }
    if epoch == recipe.schedule.epochs {
        let of = |(place, metric): (usize, &Metric)| (metric.name, end - 2.0 * place as f64);
        values.extend(DETECTION.iter().enumerate().map(of));
    }
    values
}

/// The curves of a run.
struct Curves<'a> {
    recipe: &'a Recipe,
}

impl Substitute for Curves<'_> {
    fn columns(&self) -> Vec<&'static str> {
        match self.recipe.transfer {
            Some(_) => self.recipe.columns(),
            None => COLUMNS.to_vec(),
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        PER_EPOCH
    }

    fn measure(&mut self, epoch: u64, _stop: &AtomicBool) -> Result<Values, Ending> {
        // A learning rate beyond all reason stands for a run that diverges.
        if epoch == 1 && self.recipe.optim.base_lr > 1e6 {
            return Err(Ending::Diverged { step: PER_EPOCH });
        }
        Ok(if self.recipe.transfer.is_some() {
            detector(self.recipe, epoch)
        } else {
            row(self.recipe, epoch)
        })
    }
}

impl Trainer for Formula {
    fn train(
        &self,
        job: &Job,
        dir: &RunDir,
        _resources: Resources,
        stop: &AtomicBool,
        watch: &(dyn Fn(Progress) + Sync),
    ) -> Result<Ending> {
        let recipe = &job.recipe;
        drive(&mut Curves { recipe }, recipe, dir, stop, watch)
    }

    fn images(&self, _job: &Job) -> Result<Option<String>> {
        Ok(None)
    }
}
