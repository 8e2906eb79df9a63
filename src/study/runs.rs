//! The numbers of runs that claims are judged by, and when they decide nothing.

use crate::measure::metrics;
use serde::Deserialize;

/// A number of a metric's curve, the value at random initialisation left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// The last value.
    #[default]
    End,
    /// The highest.
    Highest,
    /// The lowest.
    Lowest,
    /// The mean over all measurements: an early riser's is higher.
    Mean,
    /// The first measurement after training began.
    First,
}

impl Of {
    /// What a sentence about a claim ends with.
    pub fn words(self) -> &'static str {
        match self {
            Of::End => "",
            Of::Highest => ", by the run's highest value",
            Of::Lowest => ", by the run's lowest value",
            Of::Mean => ", by the mean over the run",
            Of::First => ", at the first measurement of training",
        }
    }
}

/// One metric of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// At random initialisation, where it was measured there.
    pub start: Option<f64>,
    /// Every later measurement, in order.
    pub values: Vec<f64>,
}

impl Curve {
    /// The curve's number that `of` names; none where nothing was measured.
    pub fn number(&self, of: Of) -> Option<f64> {
        let values = self.values.iter().copied();
        match of {
            Of::End => values.last(),
            Of::First => self.values.first().copied(),
            // A value that is not a number must not vanish in a maximum.
            Of::Highest => values.reduce(|a, b| if a.is_nan() || a >= b { a } else { b }),
            Of::Lowest => values.reduce(|a, b| if a.is_nan() || a <= b { a } else { b }),
            Of::Mean => {
                let n = self.values.len();
                (n > 0).then(|| values.sum::<f64>() / n as f64)
            }
        }
    }
}

/// Where claims find the runs' numbers.
pub struct Runs<'a> {
    /// (arm, seed, metric) → its curve; none for a run that did not finish.
    pub curve: &'a dyn Fn(&str, u64, &str) -> Option<Curve>,
    /// Whether the run of (arm, seed) diverged; none for one that has not ended, or that there is
    /// not.
    pub diverged: &'a dyn Fn(&str, u64) -> Option<bool>,
    /// The classes of the images, where their number is known; 0 of images without labels.
    pub classes: Option<u64>,
    /// The SGD steps of the shortest run of an arm, where they are known.
    pub steps: &'a dyn Fn(&str) -> Option<u64>,
    /// The dimension d of an arm's outputs z, where it is known.
    pub dim: &'a dyn Fn(&str) -> Option<usize>,
}

/// Runs of fewer SGD steps have hardly left their random initialisation: they decide nothing.
pub const FEW_STEPS: u64 = 50;

impl Runs<'_> {
    /// Why a verdict on `metric` of `arms` would mean nothing, whatever its values are.
    pub(super) fn means_nothing(&self, metric: &str, arms: &[&str]) -> Option<String> {
        let accuracy = metrics::of(metric).is_accuracy();
        match self.classes.filter(|_| accuracy) {
            Some(0) => return Some("the images have no labels".to_string()),
            Some(1) => return Some("the images have one class, of which every guess is right".to_string()),
            _ => {}
        }
        let steps = arms.iter().filter_map(|arm| (self.steps)(arm)).min();
        let few = steps.filter(|steps| *steps < FEW_STEPS)?;
        Some(format!("{few} steps of training decide nothing; a larger scale makes at least {FEW_STEPS}"))
    }
}
