//! T: the random views of an image (Sec. 3, "Experimental settings"; official code).
//!
//! A view is T(x): random resized crop, horizontal flip, colour jitter, grayscale, blur,
//! normalisation, in that order; or T is one of a finite set ([`FiniteConfig`]). Each operation
//! equals torchvision's on float tensors given the same parameters; parameters are drawn as
//! torchvision draws them, from the stream handed in. No operation looks at a clock, a thread count
//! or another image.

mod finite;
mod ops;
mod resize;
mod sample;

pub use finite::{FiniteConfig, MOST_ELEMENTS, element};
pub use ops::{
    blur_kernel_size, brightness, contrast, gaussian_blur, grayscale, horizontal_flip, hue, normalise,
    saturation,
};
pub use resize::{resize_and_centre_crop, resized_crop, shrunk};
pub use sample::{CropBox, crop_box};

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rng::{Stream, below};

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
    /// Small crops beside the views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_crop: Option<SmallCrops>,
}

/// Small crops of every image, beside its views: cheap samples of T (SwAV, Caron et al. 2020,
/// Sec. 3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallCrops {
    /// How many of each image.
    pub count: usize,
    /// Their side in pixels.
    pub size: usize,
    /// Their area as a fraction of the image's, lowest and highest.
    pub crop_scale: [f32; 2],
}

impl AugmentConfig {
    /// A view is the whole image, resized to `size` pixels and normalised.
    pub fn none(size: usize, mean: [f32; 3], std: [f32; 3]) -> AugmentConfig {
        AugmentConfig {
            size,
            crop_scale: [1.0, 1.0],
            flip: 0.0,
            jitter: 0.0,
            jitter_strength: [0.0; 4],
            grayscale: 0.0,
            blur: 0.0,
            blur_sigma: [0.1, 2.0],
            mean,
            std,
            finite: None,
            multi_crop: None,
        }
    }

    /// How one of the small `crops` is drawn.
    pub fn small(&self, crops: &SmallCrops) -> AugmentConfig {
        AugmentConfig { size: crops.size, crop_scale: crops.crop_scale, multi_crop: None, ..self.clone() }
    }

    /// Refuses values outside their range, naming the key as it stands in TOML.
    ///
    /// # Errors
    /// [`Error::Usage`], one sentence with the key, the value and the range.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("augment.{key}: {what}")));
        let probabilities = [
            ("flip", self.flip),
            ("jitter", self.jitter),
            ("grayscale", self.grayscale),
            ("blur", self.blur),
        ];
        for (key, p) in probabilities {
            if !(0.0..=1.0).contains(&p) {
                return fail(key, format!("{p} is not a probability between 0 and 1"));
            }
        }
        let crops = self.multi_crop.as_ref();
        let scales =
            [("crop_scale", Some(self.crop_scale)), ("multi_crop.crop_scale", crops.map(|c| c.crop_scale))];
        for (key, [low, high]) in scales.into_iter().filter_map(|(key, scale)| Some((key, scale?))) {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return fail(key, format!("[{low}, {high}] must satisfy 0 < low <= high <= 1"));
            }
        }
        let sizes = [("size", Some(self.size)), ("multi_crop.size", crops.map(|crops| crops.size))];
        for (key, size) in sizes.into_iter().filter_map(|(key, size)| Some((key, size?))) {
            if !SIDES.contains(&size) {
                let (least, most) = (SIDES.start(), SIDES.end());
                return fail(key, format!("{size} pixels; views are between {least} and {most}"));
            }
        }
        if let Some(crops) = crops.filter(|crops| !(1..=MOST_CROPS).contains(&crops.count)) {
            return fail("multi_crop.count", format!("{} must be between 1 and {MOST_CROPS}", crops.count));
        }
        if !self.std.iter().all(|s| *s > 0.0 && s.is_finite()) {
            return fail("std", "every channel's must be above 0".into());
        }
        if !self.mean.iter().all(|m| m.is_finite()) {
            return fail("mean", "every channel's must be a number".into());
        }
        let [low, high] = self.blur_sigma;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return fail("blur_sigma", format!("[{low}, {high}] must satisfy 0 < low <= high"));
        }
        let [brightness, contrast, saturation, hue] = self.jitter_strength;
        if ![brightness, contrast, saturation].iter().all(|s| (0.0..=1.0).contains(s))
            || !(0.0..=0.5).contains(&hue)
        {
            let what = "brightness, contrast and saturation lie in [0, 1], hue in [0, 0.5]";
            return fail("jitter_strength", what.into());
        }
        match (&self.finite, crops) {
            (Some(_), Some(_)) => fail("multi_crop", "a finite set of views has no small crops".into()),
            (Some(set), None) => set.check(),
            (None, _) => Ok(()),
        }
    }
}

/// Sides of a view in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 4..=1024;
/// More small crops are taken for a slip of the hand; SwAV has 6.
const MOST_CROPS: usize = 64;

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

/// The part of an image of `height` × `width` pixels that a view drawn from `rng` shows.
pub fn shown_part(config: &AugmentConfig, height: usize, width: usize, rng: &mut Stream) -> CropBox {
    match &config.finite {
        Some(set) => set.part(set.draw(rng), height, width),
        None => crop_box(height, width, config.crop_scale, rng),
    }
}

/// Colour jitter: the four operations in random order, factors as torchvision's `ColorJitter` draws
/// them.
fn jitter(strength: [f32; 4], planes: &mut [f32], rng: &mut Stream) {
    let mut order = [0, 1, 2, 3];
    for last in (1..4).rev() {
        order.swap(last, below(last + 1, rng));
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

/// True with probability `p`. Always draws once, so that one setting does not shift the others'
/// draws.
fn chance(p: f32, rng: &mut Stream) -> bool {
    rng.random::<f32>() < p
}

/// Uniform in [low, high).
fn uniform(low: f32, high: f32, rng: &mut Stream) -> f32 {
    low + (high - low) * rng.random::<f32>()
}
