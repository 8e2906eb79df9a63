//! What is read off a state: weighted kNN, linear probe, collapse metrics, the gap between η and
//! its expectation; what is known of each column; and what numbers over seeds are evidence of.
//!
//! Plain arrays in, numbers out: rows are images, columns dimensions. Sums run in a fixed order, so
//! that the numbers do not depend on the number of threads.

pub mod average_precision;
pub mod collapse;
pub mod em;
pub mod estimate;
pub mod evidence;
pub mod field;
pub mod knn;
pub mod linear_map;
pub mod linear_probe;
pub mod metrics;
pub mod one_shot;
pub mod plane;
pub mod tracking;
pub mod tsne;
pub mod verification;
pub mod voc_precision;

use crate::defaults::is_default;
use crate::error::{Error, Result};
use metrics::{COLUMNS, EIGENVALUES, FIELD, ONE_SHOT, PREDICTOR, RANKS, SPECTRUM, TRACKING, VERIFICATION};
use ndarray::ArrayView2;
use one_shot::OneShotConfig;
use serde::{Deserialize, Serialize};
use tracking::TrackingConfig;
use verification::VerificationConfig;

/// More epochs of a linear probe are taken for a slip of the hand.
const MOST_PROBE_EPOCHS: u64 = 1_000_000;

/// More images in a plane hide one another.
const MOST_FILMED: usize = 512;

/// Features with their classes.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// One row for each image, (N, D).
    pub x: ArrayView2<'a, f32>,
    /// The class of each, (N).
    pub labels: &'a [u32],
}

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureConfig {
    /// Epochs between kNN and collapse measurements; the last epoch is always measured.
    pub every: u64,
    /// Neighbours of the weighted kNN classifier (200 on full CIFAR-10).
    pub knn_k: usize,
    /// Training images whose labels it reads, the first of each class in equal parts, so that runs
    /// on more and on fewer images are compared with the same labels; 0 reads all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub knn_images: usize,
    /// Temperature of its weights exp(cos/T).
    pub knn_temperature: f64,
    /// Epochs of the linear probe at the end of the run; 0 leaves it out.
    pub probe_epochs: u64,
    /// The probe's learning rate is this × batch/256.
    pub probe_base_lr: f64,
    /// The probe's batch.
    pub probe_batch: usize,
    /// Runs the probe at every measurement, for a curve, and not at the end alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub probe_always: bool,
    /// Held-out images whose outputs are kept after every epoch, for a film; 0 keeps none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub film: usize,
    /// Whether the spectrum of the features is measured, the `spectrum/` columns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spectrum: bool,
    /// Whether a linear predictor is compared with the identity and with projections, the
    /// `predictor/` columns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub predictor: bool,
    /// What is measured of the alternation itself; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub em: Option<em::EmConfig>,
    /// What is measured of verification, the `verify/` columns; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationConfig>,
    /// What is measured of one-shot recognition, the `oneshot/` columns; nothing where it is left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_shot: Option<OneShotConfig>,
    /// What is measured of tracking, the `track/` columns; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<TrackingConfig>,
}

impl MeasureConfig {
    /// Refuses zeros where a count or a temperature is needed.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str| Err(Error::Usage(format!("measure.{key}: must be above 0")));
        match self {
            _ if self.every == 0 => fail("every"),
            _ if self.knn_k == 0 => fail("knn_k"),
            _ if self.knn_temperature.is_nan() || self.knn_temperature <= 0.0 => fail("knn_temperature"),
            _ if self.probe_batch == 0 => fail("probe_batch"),
            _ if self.probe_epochs > MOST_PROBE_EPOCHS => Err(Error::Usage(format!(
                "measure.probe_epochs: {} epochs; at most {MOST_PROBE_EPOCHS}",
                self.probe_epochs
            ))),
            _ if self.film > MOST_FILMED => Err(Error::Usage(format!(
                "measure.film: {} images; at most {MOST_FILMED} are told apart",
                self.film
            ))),
            _ if self.probe_base_lr.is_nan() || self.probe_base_lr <= 0.0 => fail("probe_base_lr"),
            _ => {
                self.em.as_ref().map_or(Ok(()), em::EmConfig::check)?;
                self.verification.as_ref().map_or(Ok(()), VerificationConfig::check)?;
                self.one_shot.as_ref().map_or(Ok(()), OneShotConfig::check)?;
                self.tracking.as_ref().map_or(Ok(()), TrackingConfig::check)
            }
        }
    }

    /// Whether the field of the update is measured.
    pub fn measures_field(&self) -> bool {
        self.em.as_ref().is_some_and(|em| em.field > 0)
    }

    /// The columns of metrics.csv of a run that measures this: those of every run, then those that
    /// it asks for.
    pub fn columns(&self) -> Vec<&'static str> {
        let asked = [
            (self.measures_field(), FIELD),
            (self.spectrum, SPECTRUM),
            (self.predictor, PREDICTOR),
            (self.em.as_ref().is_some_and(|em| em.ranks), RANKS),
            (self.em.as_ref().is_some_and(|em| em.eigenvalues), EIGENVALUES),
            (self.verification.is_some(), VERIFICATION),
            (self.one_shot.is_some(), ONE_SHOT),
            (self.tracking.is_some(), TRACKING),
        ];
        let own = asked.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, metrics)| metrics);
        COLUMNS.into_iter().chain(own.map(|metric| metric.name)).collect()
    }
}
