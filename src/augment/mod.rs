//! T: the random views of an image (Sec. 3, "Experimental settings"; official code).

use serde::{Deserialize, Serialize};

/// The recipe of a random view. Probabilities are in [0, 1]; strengths are torchvision's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Side of the view in pixels.
    pub size: usize,
    /// RandomResizedCrop: area as a fraction of the image's, lowest and highest.
    pub crop_scale: [f32; 2],
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Probability of colour jitter.
    pub jitter: f32,
    /// Jitter strengths: brightness, contrast, saturation, hue.
    pub jitter_strength: [f32; 4],
    /// Probability of grayscale.
    pub grayscale: f32,
    /// Probability of Gaussian blur.
    pub blur: f32,
    /// Blur's σ in pixels, lowest and highest.
    pub blur_sigma: [f32; 2],
    /// Normalisation: mean per channel of values in [0, 1].
    pub mean: [f32; 3],
    /// Normalisation: standard deviation per channel.
    pub std: [f32; 3],
}
