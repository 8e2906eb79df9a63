//! The world of the closed form, as a recipe describes it.

use crate::defaults::is_default;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Directions and outputs at most.
const MOST: usize = 64;
/// Steps of a run at most: seconds.
const MOST_STEPS: u64 = 10_000_000;

/// Gaussian images, Gaussian augmentations and a linear encoder, in their common eigenbasis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedForm {
    /// λ, the variance of images along each direction (n).
    pub signal: Vec<f64>,
    /// σ, the variance of augmentations along each direction (n).
    pub noise: Vec<f64>,
    /// The number d of the encoder's outputs.
    pub outputs: usize,
    /// SGD steps in an epoch, in each of which every image is seen once.
    pub steps_per_epoch: u64,
    /// Scales each output to variance 1 after every step, as a batch norm without affine parameters
    /// does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub normalised: bool,
    /// What jumps to its optimum instead of making a gradient step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimum: Optimum,
}

/// What jumps to its optimum in every step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimum {
    /// Nothing: gradient steps.
    #[default]
    None,
    /// W, so that the M-step is exact.
    Encoder,
    /// The predictor, which is then the best one for the present W.
    Predictor,
}

impl ClosedForm {
    /// The world of `sim theory` with variances of a tenth, in which the learning rates of the
    /// scales settle: where a sweep draws the prediction beside runs on images.
    pub fn beside_runs(steps_per_epoch: u64, normalised: bool) -> ClosedForm {
        ClosedForm {
            signal: vec![0.2, 0.1, 0.07, 0.03, 0.005],
            noise: vec![0.01, 0.05, 0.07, 0.09, 0.04],
            outputs: 5,
            steps_per_epoch,
            normalised,
            optimum: Optimum::None,
        }
    }

    /// Refuses what is no world, or a run of `epochs` epochs that would take minutes.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self, epochs: u64) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("closed_form.{key}: {what}")));
        let n = self.signal.len();
        if !(1..=MOST).contains(&n) {
            return fail("signal", format!("{n} directions; from 1 to {MOST}"));
        }
        if self.noise.len() != n {
            return fail("noise", format!("{} directions where signal has {n}", self.noise.len()));
        }
        for (key, values) in [("signal", &self.signal), ("noise", &self.noise)] {
            if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
                return fail(key, format!("{value} is no variance; each is at least 0"));
            }
        }
        if self.signal.iter().zip(&self.noise).any(|(signal, noise)| signal + noise <= 0.0) {
            return fail("signal", "a direction with 0 in signal and in noise has no views".into());
        }
        if !(1..=MOST).contains(&self.outputs) {
            return fail("outputs", format!("{} outputs; from 1 to {MOST}", self.outputs));
        }
        let steps = self.steps_per_epoch.saturating_mul(epochs);
        if steps == 0 || steps > MOST_STEPS {
            return fail(
                "steps_per_epoch",
                format!("{} in each of {epochs} epochs; from 1 to {MOST_STEPS} in all", self.steps_per_epoch),
            );
        }
        Ok(())
    }
}
