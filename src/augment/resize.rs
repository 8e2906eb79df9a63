//! Antialiased bilinear resizing: torchvision's `resized_crop` and `resize` with `antialias=True`.
//!
//! The triangle filter is as wide as one output pixel when shrinking and as one input pixel when
//! growing. Rows are mixed first, on the interleaved bytes of the crop (long runs of equal work),
//! then columns, which also separates the channels. The pixels outside the crop are never read.

use super::{CropBox, Image};

/// The inputs that one output pixel mixes: weights of `first`, `first + 1`, …
struct Tap {
    first: usize,
    weights: std::ops::Range<usize>,
}

/// The filter of one axis.
#[derive(Default)]
struct Filter {
    taps: Vec<Tap>,
    weights: Vec<f32>,
}

impl Filter {
    /// For outputs `from..from + len` of an axis of `input` pixels resized to `output`.
    fn set(&mut self, input: usize, output: usize, from: usize, len: usize) {
        self.taps.clear();
        self.weights.clear();
        let scale = input as f32 / output as f32;
        let support = scale.max(1.0);
        let inverse = 1.0 / support;
        for i in from..from + len {
            let centre = scale * (i as f32 + 0.5);
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).clamp(first + 1, input.max(first + 1));
            let start = self.weights.len();
            let mut total = 0.0;
            for j in first..end {
                let weight = (1.0 - ((j as f32 - centre + 0.5) * inverse).abs()).max(0.0);
                total += weight;
                self.weights.push(weight);
            }
            if total > 0.0 {
                self.weights[start..].iter_mut().for_each(|w| *w /= total);
            }
            self.taps.push(Tap { first, weights: start..self.weights.len() });
        }
    }
}

/// Resizes with kept working memory.
#[derive(Default)]
pub(crate) struct Resizer {
    rows: Filter,
    columns: Filter,
    line: Vec<f32>,
}

impl Resizer {
    /// `region` of `image` resized to planes (3, height, width) of values in [0, 1].
    pub(crate) fn crop(
        &mut self,
        image: &Image,
        region: CropBox,
        height: usize,
        width: usize,
        planes: &mut [f32],
    ) {
        self.rows.set(region.height, height, 0, height);
        self.columns.set(region.width, width, 0, width);
        self.run(image, region, planes);
    }

    /// The shorter side resized to `size`, then the central square, as planes (3, size, size).
    fn centre(&mut self, image: &Image, size: usize, planes: &mut [f32]) {
        let (h, w) = (image.height, image.width);
        let short = h.min(w).max(1);
        let (tall, wide) = (size * h / short, size * w / short);
        // torchvision's CenterCrop: int(round((side − size) / 2)), ties to even.
        let middle = |side: usize| ((side - size) as f64 / 2.0).round_ties_even() as usize;
        self.rows.set(h, tall, middle(tall), size);
        self.columns.set(w, wide, middle(wide), size);
        self.run(image, CropBox { top: 0, left: 0, height: h, width: w }, planes);
    }

    fn run(&mut self, image: &Image, region: CropBox, planes: &mut [f32]) {
        let (height, width) = (self.rows.taps.len(), self.columns.taps.len());
        let area = height * width;
        let (red, rest) = planes.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        let stride = 3 * image.width;
        // Only the columns that some output reads are mixed.
        let left = self.columns.taps.first().map_or(0, |t| t.first);
        let right = self.columns.taps.last().map_or(0, |t| t.first + t.weights.len());
        self.line.resize(3 * (right - left), 0.0);
        for (y, tap) in self.rows.taps.iter().enumerate() {
            self.line.fill(0.0);
            for (j, weight) in self.rows.weights[tap.weights.clone()].iter().enumerate() {
                let start = (region.top + tap.first + j) * stride + 3 * (region.left + left);
                let scaled = weight * (1.0 / 255.0);
                for (sum, &byte) in self.line.iter_mut().zip(&image.pixels[start..]) {
                    *sum += scaled * f32::from(byte);
                }
            }
            let row = y * width..(y + 1) * width;
            let outputs = red[row.clone()].iter_mut().zip(&mut green[row.clone()]).zip(&mut blue[row]);
            for (((r, g), b), tap) in outputs.zip(&self.columns.taps) {
                let mut sum = [0f32; 3];
                let pixels = self.line[3 * (tap.first - left)..].chunks_exact(3);
                for (pixel, &weight) in pixels.zip(&self.columns.weights[tap.weights.clone()]) {
                    sum[0] += weight * pixel[0];
                    sum[1] += weight * pixel[1];
                    sum[2] += weight * pixel[2];
                }
                (*r, *g, *b) = (sum[0], sum[1], sum[2]);
            }
        }
    }
}

/// `resized_crop(image, region, (height, width), antialias=True)` as planes (3, height, width) in
/// [0, 1].
///
/// `region` must lie inside the image and not be empty.
pub fn resized_crop(image: &Image, region: CropBox, height: usize, width: usize) -> Vec<f32> {
    let mut planes = vec![0.0; 3 * height * width];
    Resizer::default().crop(image, region, height, width, &mut planes);
    planes
}

/// The shorter side resized to `size` and the central square cut out: planes (3, size, size) in [0,
/// 1].
///
/// An image of exactly that size comes back unchanged.
pub fn resize_and_centre_crop(image: &Image, size: usize) -> Vec<f32> {
    let mut planes = vec![0.0; 3 * size * size];
    Resizer::default().centre(image, size, &mut planes);
    planes
}

/// `image` with its shorter side of `short` pixels and its own proportions, antialiased; `image`
/// itself where it is not larger.
pub fn shrunk(image: &Image, short: usize) -> Image {
    let side = image.height.min(image.width);
    if side <= short {
        return image.clone();
    }
    let scaled = |length: usize| (length * short / side).max(1);
    let (height, width) = (scaled(image.height), scaled(image.width));
    let whole = CropBox { top: 0, left: 0, height: image.height, width: image.width };
    let planes = resized_crop(image, whole, height, width);
    let area = height * width;
    let byte = |i: usize| (255.0 * planes[i % 3 * area + i / 3]).round().clamp(0.0, 255.0) as u8;
    Image { height, width, pixels: (0..3 * area).map(byte).collect() }
}
