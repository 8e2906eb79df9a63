//! Everything one run needs, typed and complete.
//!
//! Layers of TOML (base method, scale, study, arm, flags, `--set`) resolve into one `Recipe`, which
//! alone reaches training and is written into the run directory as `config.toml`. Two runs with the
//! same recipe are the same run.

mod fits;
pub mod key;
pub mod keys;
mod predictor;
mod transfer;

use crate::augment::{AugmentConfig, FiniteConfig};
use crate::data::loader::BatchShape;
use crate::data::{DataConfig, Passes, RunSeed, ShapesSeed};
use crate::defaults::{is_default, is_yes, yes};
use crate::error::{Error, Result};
use crate::eta::{Rule, Samples, Size};
use crate::measure::{MeasureConfig, metrics};
use crate::network::Network;
use crate::network::config::{Backbone, EncoderConfig, HeadNorm};
use crate::objective::ObjectiveConfig;
use crate::optim::OptimConfig;
use crate::theory::ClosedForm;
pub use predictor::Predictor;
use serde::{Deserialize, Serialize};
use std::path::Path;
pub use transfer::{Beginning, TransferConfig};

/// One run, completely described.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of initial weights, order and augmentation.
    pub seed: u64,
    /// How long.
    pub schedule: ScheduleConfig,
    /// The E-step: how η is made from θ.
    pub eta: Rule,
    /// Images and labels.
    pub data: DataConfig,
    /// T, the random views.
    pub augment: AugmentConfig,
    /// F_θ.
    pub encoder: EncoderConfig,
    /// h; `none = true` leaves it out.
    pub predictor: Predictor,
    /// What the M-step minimises.
    pub objective: ObjectiveConfig,
    /// How the M-step minimises it.
    pub optim: OptimConfig,
    /// What is read off the state, and when.
    pub measure: MeasureConfig,
    /// A linear encoder of Gaussian images in the place of `data`, `augment` and `encoder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_form: Option<ClosedForm>,
    /// The run whose weights this one begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Box<Recipe>>,
    /// A detector that is fine-tuned from the weights of this recipe's run, in the place of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferConfig>,
}

/// How long a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Images per batch (per view).
    pub batch: usize,
    /// Passes over the training images.
    pub epochs: u64,
    /// Those of them that the weights of `encoder.init` have behind them: learning rate, order of
    /// images and augmentation begin there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start_epoch: u64,
    /// Epochs between checkpoints; the last epoch always makes one.
    pub checkpoint_every: u64,
    /// S: shards that a batch is cut into, a power of two. Ranks share them; sums over images are
    /// taken shard by shard, so that the bytes of a run depend on S and not on the ranks.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub shards: usize,
    /// Whether batch norm in F takes its statistics over all shards together (SyncBN), or over
    /// each alone.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub sync_batch_norm: bool,
    /// Which of the training images an epoch shows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passes: Passes,
}

fn one() -> usize {
    1
}

fn is_one(shards: &usize) -> bool {
    *shards == 1
}

impl ScheduleConfig {
    /// Epochs that the run itself makes.
    pub fn own_epochs(&self) -> u64 {
        self.epochs - self.start_epoch.min(self.epochs)
    }
}

/// More epochs are taken for a slip of the hand.
const MOST_EPOCHS: u64 = 10_000_000;
/// A larger batch is taken for a slip of the hand; the paper's largest is 4096.
const LARGEST_BATCH: usize = 1 << 20;

impl Recipe {
    /// The same run with another seed; procedural images that are drawn for each run follow it.
    pub fn with_seed(&self, seed: u64) -> Recipe {
        let mut recipe = Recipe { seed, ..self.clone() };
        if let Some(first) = &mut recipe.pretraining {
            **first = first.with_seed(seed);
        }
        if let ShapesSeed::Of(RunSeed::Run) = recipe.data.shapes_seed {
            // Other images are the same for every seed, and opened once.
            let drawn = if recipe.data.is_procedural() { seed } else { 0 };
            recipe.data.shapes_seed = ShapesSeed::Fixed(drawn);
        }
        recipe
    }

    /// The run whose weights this one begins with, where it has to be made before.
    pub fn first(&self) -> Option<Recipe> {
        match &self.transfer {
            Some(transfer) if transfer.from == Beginning::Init => None,
            Some(_) => Some(Recipe { transfer: None, ..self.clone() }),
            None => self.pretraining.as_deref().cloned(),
        }
    }

    /// The columns of metrics.csv behind step, epoch, samples and seconds.
    pub fn columns(&self) -> Vec<&'static str> {
        match &self.transfer {
            Some(_) => metrics::OF_A_DETECTOR.iter().map(|metric| metric.name).collect(),
            None => self.measure.columns(),
        }
    }

    /// Passes over its training images at the end of the run.
    pub fn last_epoch(&self) -> f64 {
        self.transfer.as_ref().map_or(self.schedule.epochs as f64, |config| config.epochs(config.steps))
    }

    /// This run with the weights in the folder `run`, which [`Recipe::first`] made, to begin with.
    pub fn beginning_with(&self, run: &Path) -> Recipe {
        let mut recipe = Recipe { pretraining: None, ..self.clone() };
        recipe.encoder.init = Some(run.display().to_string());
        recipe
    }

    /// Views of a batch: those of the objective, or those with a term of the loss and the E-step's
    /// samples.
    pub fn views(&self) -> usize {
        self.eta.views(self.objective.views(), self.objective.trained_views(), self.elements())
    }

    /// Elements of a finite T; 0 where T is random.
    pub fn elements(&self) -> usize {
        self.augment.finite.as_ref().map_or(0, FiniteConfig::len)
    }

    /// What the E-step rule has to know of the run on `images` training images, whose epochs have
    /// `per_epoch` SGD steps.
    pub fn rule_size(&self, images: usize, per_epoch: u64) -> Size {
        Size {
            images,
            dim: self.encoder.projector.dim,
            per_epoch,
            steps: per_epoch * self.schedule.own_epochs(),
            elements: self.elements(),
            views: self.views(),
            seed: self.seed,
            second: false,
        }
    }

    /// What a batch of training consists of.
    pub fn batch_shape(&self) -> BatchShape {
        let exact = matches!(self.eta, Rule::Expectation { n: Samples::All, .. });
        let listed = if exact { self.elements() } else { 0 };
        let ScheduleConfig { batch, epochs, passes, .. } = self.schedule;
        BatchShape { listed, passes, epochs, ..BatchShape::drawn(batch, self.views()) }
    }

    /// Refuses values outside their range, naming the key as it stands in TOML.
    ///
    /// # Errors
    /// [`Error::Usage`], one sentence with the key, the value and the range.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("{key}: {what}")));
        self.check_schedule()?;
        self.check_pretraining()?;
        self.check_transfer()?;
        self.eta.check()?;
        self.objective.check()?;
        if self.objective.pairs > 1 && matches!(self.eta, Rule::MemoryBank { .. }) {
            return fail(
                "objective.pairs",
                "a memory bank keeps one target per image; it takes 1 pair".into(),
            );
        }
        self.optim.check()?;
        self.check_comparison()?;
        self.check_objective()?;
        self.measure.check()?;
        if let Some(world) = &self.closed_form {
            world.check(self.schedule.epochs)?;
        }
        self.augment.check()?;
        if self.augment.finite.is_none() && matches!(self.eta, Rule::Expectation { n: Samples::All, .. }) {
            let what = "\"all\" needs a finite set of augmentations, augment.finite";
            return fail("eta.expectation.n", what.into());
        }
        if !(1..=3).contains(&self.encoder.projector.layers) {
            return fail(
                "encoder.projector.layers",
                format!("{}; a projector has 1 to 3", self.encoder.projector.layers),
            );
        }
        self.networks().map(drop)
    }

    /// Refuses shards that do not cut the batch, and statistics of one image.
    fn check_shards(&self) -> Result<()> {
        let ScheduleConfig { batch, shards, sync_batch_norm, .. } = self.schedule;
        let fail = |what: String| Err(Error::Usage(format!("schedule.{what}")));
        if !shards.is_power_of_two() || !batch.is_multiple_of(shards) {
            return fail(format!(
                "shards: {shards} must be a power of two that divides the batch of {batch} images"
            ));
        }
        if shards > 1 && self.closed_form.is_some() {
            return fail("shards: the closed form has no batches; leave it out".into());
        }
        if !sync_batch_norm && shards == 1 {
            return fail(
                "sync_batch_norm: false takes statistics of each shard; there is one: schedule.shards".into(),
            );
        }
        if !sync_batch_norm && batch == shards && self.normalises_batches() {
            return fail("shards: 1 image in a shard leaves its batch norm nothing to compare".into());
        }
        Ok(())
    }

    /// Refuses lengths and batches out of their range, and a beginning that nobody made.
    fn check_schedule(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("{key}: {what}")));
        if !(1..=LARGEST_BATCH).contains(&self.schedule.batch) {
            let batch = self.schedule.batch;
            return fail("schedule.batch", format!("{batch} must be between 1 and {LARGEST_BATCH}"));
        }
        if !(1..=MOST_EPOCHS).contains(&self.schedule.epochs) {
            let epochs = self.schedule.epochs;
            return fail("schedule.epochs", format!("{epochs} must be at least 1 and at most {MOST_EPOCHS}"));
        }
        let ScheduleConfig { epochs, start_epoch, .. } = self.schedule;
        if start_epoch >= epochs {
            return fail(
                "schedule.start_epoch",
                format!("{start_epoch} must be below schedule.epochs, {epochs}; no epoch would be left"),
            );
        }
        if start_epoch > 0 && self.encoder.init.is_none() {
            let what = format!("{start_epoch} epochs were made by nobody without encoder.init");
            return fail("schedule.start_epoch", what);
        }
        if self.closed_form.is_some() && self.encoder.init.is_some() {
            return fail("encoder.init", "a closed form has no weights to begin with".into());
        }
        self.schedule.passes.check(epochs)?;
        if self.schedule.passes != Passes::default() && self.closed_form.is_some() {
            return fail("schedule.passes", "the closed form has no images".into());
        }
        if self.schedule.checkpoint_every == 0 {
            return fail("schedule.checkpoint_every", "must be at least 1".into());
        }
        self.check_shards()?;
        if self.schedule.batch == 1 && self.normalises_batches() {
            let what = "1 image leaves batch norm nothing to compare, so that nothing would be trained; take at least 2, or \
                        heads without it (encoder.projector.norm and predictor.mlp.norm)";
            return fail("schedule.batch", what.into());
        }
        Ok(())
    }

    /// Whether a layer normalises one number of each image over the images of a batch.
    fn normalises_batches(&self) -> bool {
        let heads = [Some(self.encoder.projector.norm), self.predictor.config().map(|h| h.norm)];
        let of_a_head = heads.into_iter().flatten().any(|norm| norm != HeadNorm::None);
        self.closed_form.is_none() && (of_a_head || matches!(self.encoder.backbone, Backbone::Mlp { .. }))
    }

    /// F_θ and, where there are such, h and h⁻¹, as lists of layers.
    ///
    /// # Errors
    /// [`Error::Usage`] when images are too small for the architecture or a width is out of range.
    pub fn networks(&self) -> Result<(Network, Vec<Network>)> {
        let size = self.augment.size;
        let encoder = Network::encoder(&self.encoder, (size, size))?;
        Ok((encoder, self.predictor.networks(self.encoder.projector.dim)?))
    }
}
