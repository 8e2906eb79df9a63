//! T: the random views of an image (Sec. 3, "Experimental settings"; official code).
//!
//! A view is T(x): random resized crop, horizontal flip, colour jitter, grayscale, blur,
//! normalisation, in that order; or T is one of a finite set ([`FiniteConfig`]). Each operation equals torchvision's on float tensors given the
//! same parameters; parameters are drawn as torchvision draws them, from the stream handed in.
//! No operation looks at a clock, a thread count or another image.

mod finite;
mod ops;
mod resize;
mod sample;

pub use finite::{FiniteConfig, MOST_ELEMENTS, element};
pub use ops::{
    blur_kernel_size, brightness, contrast, gaussian_blur, grayscale, horizontal_flip, hue, normalise,
    saturation,
};
pub use resize::{resize_and_centre_crop, resized_crop};
pub use sample::{CropBox, crop_box};

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::rng::Stream;

/// An RGB image: 8 bits per channel, (H, W, 3), row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// H · W · 3 values.
    pub pixels: Vec<u8>,
}

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
    /// A finite set in the place of the random crops, flips, colours and blur above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finite: Option<FiniteConfig>,
}

/// Working memory of [`view`], kept between calls so that no view allocates.
#[derive(Default)]
pub struct Scratch {
    pub(crate) resize: resize::Resizer,
    planes: Vec<f32>,
    spare: Vec<f32>,
}

/// Draws one view of `image` from `rng` into `out`, (size, size, 3), normalised.
///
/// `out` must hold size · size · 3 values. `image` must not be empty.
pub fn view(config: &AugmentConfig, image: &Image, rng: &mut Stream, scratch: &mut Scratch, out: &mut [f32]) {
    if let Some(set) = &config.finite {
        let drawn = set.draw(rng);
        return element(config, set, image, drawn, scratch, out);
    }
    let size = config.size;
    let area = size * size;
    let Scratch { resize, planes, spare } = scratch;
    planes.resize(3 * area, 0.0);

    let region = crop_box(image.height, image.width, config.crop_scale, rng);
    resize.crop(image, region, size, size, planes);
    if chance(config.flip, rng) {
        horizontal_flip(planes, size);
    }
    if chance(config.jitter, rng) {
        jitter(config.jitter_strength, planes, rng);
    }
    if chance(config.grayscale, rng) {
        grayscale(planes);
    }
    if chance(config.blur, rng) {
        let [low, high] = config.blur_sigma;
        let sigma = uniform(low, high, rng);
        ops::blur_with(planes, size, size, blur_kernel_size(size), sigma, spare);
    }
    normalise(planes, config.mean, config.std, out);
}

/// Colour jitter: the four operations in random order, factors as torchvision's `ColorJitter` draws them.
fn jitter(strength: [f32; 4], planes: &mut [f32], rng: &mut Stream) {
    let mut order = [0, 1, 2, 3];
    for last in (1..4).rev() {
        order.swap(last, sample::below(last + 1, rng));
    }
    let [b, c, s, h] = strength;
    let mut factor = |strength: f32| uniform((1.0 - strength).max(0.0), 1.0 + strength, rng);
    let (b, c, s) = ((b, factor(b)), (c, factor(c)), (s, factor(s)));
    let turn = uniform(-h, h, rng);
    for operation in order {
        match operation {
            0 if b.0 > 0.0 => brightness(planes, b.1),
            1 if c.0 > 0.0 => contrast(planes, c.1),
            2 if s.0 > 0.0 => saturation(planes, s.1),
            3 if h > 0.0 => hue(planes, turn),
            _ => {}
        }
    }
}

/// True with probability `p`. Always draws once, so that one setting does not shift the others' draws.
fn chance(p: f32, rng: &mut Stream) -> bool {
    rng.random::<f32>() < p
}

/// Uniform in [low, high).
fn uniform(low: f32, high: f32, rng: &mut Stream) -> f32 {
    low + (high - low) * rng.random::<f32>()
}
