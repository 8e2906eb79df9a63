//! How images become an encoder's inputs.

use crate::augment::AugmentConfig;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How an image becomes an encoder's input: the shorter side resized to `size`, cropped at the
/// centre, normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Side in pixels.
    pub size: usize,
    /// What is subtracted from each channel, of values in [0, 1].
    pub mean: [f32; 3],
    /// What each channel is divided by afterwards.
    pub std: [f32; 3],
}

/// Sides in pixels for which an encoder is made.
pub const SIDES: std::ops::RangeInclusive<usize> = 4..=4096;
/// Under which key a weights file keeps its preprocessing.
pub(super) const METADATA: &str = "preprocessing";
/// ImageNet's statistics, which the official code normalises with.
pub(super) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(super) const STD: [f32; 3] = [0.229, 0.224, 0.225];

impl Preprocessing {
    /// How images are prepared where a recipe's model is evaluated.
    pub fn of(augment: &AugmentConfig) -> Self {
        Self { size: augment.size, mean: augment.mean, std: augment.std }
    }

    /// Augmentation whose unaugmented images are these: it changes nothing else.
    pub fn augment(&self) -> AugmentConfig {
        AugmentConfig::none(self.size, self.mean, self.std)
    }

    /// The metadata by which a weights file keeps it: a name and JSON.
    ///
    /// # Errors
    /// [`Error::Failure`] for numbers that JSON cannot express.
    pub fn as_metadata(&self) -> Result<(String, String)> {
        let text = serde_json::to_string(self).map_err(|e| Error::Failure(format!("preprocessing: {e}")))?;
        Ok((METADATA.to_string(), text))
    }

    /// Refuses what no image can be prepared with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the number.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(what));
        if !SIDES.contains(&self.size) {
            return fail(format!("size: {} pixels; from {} to {}", self.size, SIDES.start(), SIDES.end()));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return fail(format!("mean: {mean} is not a finite number"));
        }
        match self.std.iter().find(|std| !(**std > 0.0 && std.is_finite())) {
            Some(std) => fail(format!("std: {std} is not a finite number above 0")),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for Preprocessing {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let numbers = |values: [f32; 3]| values.map(|value| value.to_string()).join(",");
        write!(f, "{} pixels, mean {}, std {}", self.size, numbers(self.mean), numbers(self.std))
    }
}
