//! Images with objects as a detector reads them.

use super::Preprocessing;
use crate::augment::Image;
use crate::data::objects::{ObjectSplit, Scene};
use crate::detect::boxes::Corners;
use crate::error::{Error, Result};
use crate::rng::{Purpose, stream};
use candle_core::{Device, Tensor};
use rand::Rng;

/// More training images are not held in memory.
const MOST_BYTES: u64 = 4 << 30;

/// An object that is to be found.
#[derive(Clone, Debug)]
pub struct Truth {
    pub class: usize,
    pub corners: Corners,
    /// (H, W), row by row.
    pub mask: Vec<bool>,
}

/// An image, normalised, and its objects; crowds teach nothing and are left out.
#[derive(Clone, Debug)]
pub struct Sample {
    /// [H, W].
    pub size: [usize; 2],
    /// (H, W, 3).
    pub pixels: Vec<f32>,
    pub truths: Vec<Truth>,
}

impl Sample {
    fn of(scene: &Scene, preprocessing: &Preprocessing) -> Sample {
        let (height, width) = (scene.image.height, scene.image.width);
        let truths = scene.objects.iter().filter(|object| !object.crowd && !object.difficult).map(|object| {
            let [x, y, w, h] = object.bounding_box.map(|place| place as f32);
            let corners = [x, y, x + w, y + h];
            // Where masks are not known the whole box is one.
            let whole = || {
                let inside = |p: usize| {
                    let (px, py) = ((p % width) as f32 + 0.5, (p / width) as f32 + 0.5);
                    px > x && px < x + w && py > y && py < y + h
                };
                (0..height * width).map(inside).collect()
            };
            let mask = object.mask.as_ref().map_or_else(whole, |mask| mask.to_pixels());
            Truth { class: object.class, corners, mask }
        });
        Sample {
            size: [height, width],
            pixels: pixels(&scene.image, preprocessing),
            truths: truths.collect(),
        }
    }

    /// This sample as the batch of `step` has it at `place`: every second one is mirrored.
    pub fn drawn(&self, seed: u64, step: u64, place: usize) -> Sample {
        match stream(seed, Purpose::Augment, step, place as u64).random::<bool>() {
            true => self.mirrored(),
            false => self.clone(),
        }
    }

    fn mirrored(&self) -> Sample {
        let [height, width] = self.size;
        let other = |p: usize| p / width * width + (width - 1 - p % width);
        let pixels = (0..height * width).flat_map(|p| self.pixels[3 * other(p)..][..3].iter().copied());
        let truths = self.truths.iter().map(|truth| {
            let [left, upper, right, lower] = truth.corners;
            let corners = [width as f32 - right, upper, width as f32 - left, lower];
            let mask = (0..height * width).map(|p| truth.mask[other(p)]).collect();
            Truth { class: truth.class, corners, mask }
        });
        Sample { size: self.size, pixels: pixels.collect(), truths: truths.collect() }
    }
}

/// An image's channels, normalised, (H, W, 3).
pub fn pixels(image: &Image, preprocessing: &Preprocessing) -> Vec<f32> {
    let Preprocessing { mean, std, .. } = preprocessing;
    let value = |(i, byte): (usize, &u8)| (f32::from(*byte) / 255.0 - mean[i % 3]) / std[i % 3];
    image.pixels.iter().enumerate().map(value).collect()
}

/// The first `count` images of `split`, and their size.
pub fn read(
    split: &ObjectSplit,
    count: usize,
    preprocessing: &Preprocessing,
) -> Result<(Vec<Sample>, [usize; 2])> {
    let first = split.scene(0)?.image;
    let bytes = count as u64 * (first.pixels.len() * size_of::<f32>()) as u64;
    if bytes > MOST_BYTES {
        return Err(Error::Usage(format!(
            "{count} images of {}×{} pixels are {} GiB; at most {} are held, with fewer training images",
            first.height,
            first.width,
            bytes >> 30,
            MOST_BYTES >> 30
        )));
    }
    let samples = (0..count).map(|index| Ok(Sample::of(&split.scene(index)?, preprocessing)));
    let samples: Vec<Sample> = samples.collect::<Result<_>>()?;
    let size = samples.first().map_or([0, 0], |sample| sample.size);
    one_size(size, samples.iter().map(|sample| sample.size))?;
    Ok((samples, size))
}

/// Refuses images of another size than `size`.
pub fn one_size(size: [usize; 2], sizes: impl IntoIterator<Item = [usize; 2]>) -> Result<()> {
    match sizes.into_iter().find(|other| *other != size) {
        None => Ok(()),
        Some([height, width]) => Err(Error::Usage(format!(
            "an image of {height}×{width} pixels among those of {}×{}; a detector is trained on images of one size",
            size[0], size[1]
        ))),
    }
}

/// The images of samples, (B, H, W, 3).
pub fn batch_of(samples: &[Sample]) -> Result<Tensor> {
    let [height, width] = samples.first().map_or([0, 0], |sample| sample.size);
    let pixels: Vec<f32> = samples.iter().flat_map(|sample| &sample.pixels).copied().collect();
    Ok(Tensor::from_vec(pixels, (samples.len(), height, width, 3), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::objects::scenes::{ScenesConfig, scene};

    #[test]
    fn a_mirrored_sample_keeps_its_boxes_around_its_masks() {
        let preprocessing = Preprocessing { size: 64, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4] };
        let drawn = scene(&ScenesConfig::default(), 0, 3);
        let sample = Sample::of(&drawn, &preprocessing);
        let byte = f32::from(drawn.image.pixels[4]);
        assert_eq!(sample.pixels[4], (byte / 255.0 - 0.4) / 0.3);
        let mirrored = sample.mirrored();
        assert_eq!(mirrored.pixels[..3], sample.pixels[63 * 3..64 * 3]);
        assert_eq!(mirrored.mirrored().pixels, sample.pixels);
        for truth in &mirrored.truths {
            let columns = (0..64 * 64).filter(|p| truth.mask[*p]).map(|p| p % 64);
            let (low, high) = columns.fold((64, 0), |(low, high), x| (low.min(x), high.max(x + 1)));
            assert_eq!([truth.corners[0], truth.corners[2]], [low as f32, high as f32]);
        }
        assert!(!mirrored.truths.is_empty());
    }
}
