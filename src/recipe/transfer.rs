//! Transfer (Sec. 4, Table 5): how a detector that begins with a run's weights is fine-tuned.

use super::Recipe;
use crate::data::objects::scenes::ScenesConfig;
use crate::data::objects::{ObjectSet, SOURCES, is_source};
use crate::error::{Error, Result};
use crate::network::Network;
use serde::{Deserialize, Serialize};

/// What the backbone of a detector begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beginning {
    /// The weights at the end of the run that the recipe describes without its table `transfer`.
    #[default]
    Pretraining,
    /// The same, the numbers of each tensor in random order: their statistics without their
    /// features.
    Permuted,
    /// The weights that the recipe begins with: drawn ones, or those of `encoder.init`.
    Init,
}

/// A detector, fine-tuned on images with objects and judged on others. What is left out is the
/// laptop's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferConfig {
    /// What the backbone begins with.
    pub from: Beginning,
    /// Images with objects: [`SOURCES`]. Scenes are drawn anew for each seed.
    pub data: String,
    /// Side of scenes in pixels; other images have theirs.
    pub size: usize,
    /// Training images used, the first so many.
    pub images: usize,
    /// Held-out scenes; of other sources all are judged on.
    pub test_images: usize,
    /// Images of a batch.
    pub batch: usize,
    /// SGD steps.
    pub steps: u64,
    /// The learning rate after the warm-up; it falls to a tenth after 3/4 and again after 11/12 of
    /// the steps.
    pub lr: f64,
    /// Steps over which it rises from a thousandth.
    pub warm_up: u64,
    /// Batches from which running statistics are made anew before the detector is judged.
    pub precise_batches: usize,
    /// Steps between rows of metrics.csv; each has a checkpoint.
    pub every: u64,
}

impl Default for TransferConfig {
    /// The laptop's: 100 images, 200 steps.
    fn default() -> Self {
        Self {
            from: Beginning::Pretraining,
            data: SOURCES[0].to_string(),
            size: 64,
            images: 100,
            test_images: 300,
            batch: 16,
            steps: 200,
            lr: 0.1,
            warm_up: 50,
            precise_batches: 20,
            every: 50,
        }
    }
}

/// More are taken for a slip of the hand.
const MOST_STEPS: u64 = 10_000_000;
const MOST_IMAGES: usize = 1_000_000;
const MOST_BATCHES: usize = 10_000;
/// Sides of scenes.
const SIDES: [usize; 2] = [32, 512];

impl TransferConfig {
    /// Refuses what cannot be trained.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("transfer.{key}: {what}")));
        let between = |key: &str, value: u64, [low, high]: [u64; 2]| match (low..=high).contains(&value) {
            true => Ok(()),
            false => fail(key, format!("{value} must be between {low} and {high}")),
        };
        if !is_source(&self.data) {
            return fail("data", format!("'{}' is not one of {}", self.data, SOURCES.join(", ")));
        }
        between("size", self.size as u64, SIDES.map(|side| side as u64))?;
        between("test_images", self.test_images as u64, [1, MOST_IMAGES as u64])?;
        between("steps", self.steps, [1, MOST_STEPS])?;
        between("precise_batches", self.precise_batches as u64, [1, MOST_BATCHES as u64])?;
        between("every", self.every, [1, MOST_STEPS])?;
        between("batch", self.batch as u64, [1, MOST_IMAGES as u64])?;
        if self.images < self.batch || self.images > MOST_IMAGES {
            let [least, most] = [self.batch, MOST_IMAGES];
            let what =
                format!("{} must be at least transfer.batch, {least}, and at most {most}", self.images);
            return fail("images", what);
        }
        match self.lr > 0.0 && self.lr.is_finite() {
            true => Ok(()),
            false => fail("lr", format!("{} must be above 0", self.lr)),
        }
    }

    /// Opens its images; scenes are those of `seed`.
    ///
    /// # Errors
    /// As [`ObjectSet::open`], and [`Error::Usage`] where there are fewer training images than are
    /// asked for, or no class of objects.
    pub fn open(&self, seed: u64) -> Result<ObjectSet> {
        let (size, train, test) = (self.size, self.images, self.test_images);
        let scenes = ScenesConfig { size, train, test, seed, crowd: false };
        let set = ObjectSet::open(self.data.trim_end_matches('/'), &scenes)?;
        let there = set.train.len();
        if self.images > there {
            let what = format!("transfer.images: {} are asked for, and there are {there}", self.images);
            return Err(Error::Usage(what));
        }
        match set.classes.is_empty() || set.test.is_empty() {
            true => Err(Error::Usage(format!("transfer.data: {} has no objects to find", set.name))),
            false => Ok(set),
        }
    }

    /// Whether its images are drawn, for each seed anew.
    pub fn is_drawn(&self) -> bool {
        self.data == SOURCES[0]
    }

    /// The learning rate of `step`.
    pub fn lr(&self, step: u64) -> f64 {
        let passed = |part: f64| step as f64 >= part * self.steps as f64;
        let fallen = [3.0 / 4.0, 11.0 / 12.0].into_iter().filter(|part| passed(*part)).count();
        let risen = if step < self.warm_up {
            let done = step as f64 / self.warm_up as f64;
            1e-3 * (1.0 - done) + done
        } else {
            1.0
        };
        self.lr * risen * 0.1f64.powi(fallen as i32)
    }

    /// Passes over the training images that `steps` steps make.
    pub fn epochs(&self, steps: u64) -> f64 {
        (steps * self.batch as u64) as f64 / self.images as f64
    }
}

impl Recipe {
    /// Refuses a detector that could not be made.
    pub(super) fn check_transfer(&self) -> Result<()> {
        let Some(config) = &self.transfer else { return Ok(()) };
        let fail = |what: &str| Err(Error::Usage(format!("transfer: {what}")));
        config.check()?;
        if self.closed_form.is_some() {
            return fail("a closed form has no weights for a detector to begin with");
        }
        if self.pretraining.is_some() {
            return fail("an arm that begins with another's weights (from) has a pre-training already");
        }
        let trunk = Network::trunk(&self.encoder.backbone, [config.size; 2]);
        trunk.map(drop).map_err(|error| Error::Usage(format!("transfer: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_twice() {
        let config = TransferConfig { steps: 240, warm_up: 40, lr: 0.2, ..TransferConfig::default() };
        let expected =
            [(0, 0.0002), (20, 0.1001), (40, 0.2), (179, 0.2), (180, 0.02), (219, 0.02), (220, 0.002)];
        for (step, lr) in expected {
            assert!((config.lr(step) - lr).abs() < 1e-12, "{step}: {}", config.lr(step));
        }
    }
}
