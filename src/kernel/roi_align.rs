//! RoIAlign: the part of a feature map below a box, read at a fixed number of places (He et al.
//! 2017, Sec. 3; torchvision's `roi_align`).
//!
//! A box is cut into bins; a bin is the mean of bilinear samples in a regular grid. Along either
//! axis the samples of a bin are a weighted sum over few rows or columns, and weights of the two
//! axes multiply: so a bin is a sum over the pixels that it touches, each of them read once.

use rayon::prelude::*;

/// A box in one image of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roi {
    /// The image's place in the batch.
    pub image: usize,
    /// Left, upper, right and lower edge, before scaling; finite.
    pub corners: [f32; 4],
}

/// What boxes are read from, and how finely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoiAlign {
    /// Images.
    pub batch: usize,
    /// Height of the feature map.
    pub height: usize,
    /// Its width.
    pub width: usize,
    /// Its channels.
    pub channels: usize,
    /// Bins of a box, from its upper to its lower edge.
    pub rows: usize,
    /// Bins of a box, from left to right.
    pub columns: usize,
    /// Boxes are multiplied by this: one over the feature map's stride.
    pub scale: f32,
    /// Samples along a side of a bin; 0 takes as many as a bin has pixels, rounded up.
    pub samples: usize,
    /// Whether a pixel's value belongs to its middle: boxes are moved by half a pixel, and may be
    /// smaller than one.
    pub aligned: bool,
}

/// Along one axis, the pixels and weights of every bin.
struct Axis {
    taps: Vec<(usize, f32)>,
    /// Where each bin's taps end.
    ends: Vec<usize>,
}

impl Axis {
    /// `bins` bins between `from` and `to` along an axis of `len` pixels.
    fn new([from, to]: [f32; 2], bins: usize, len: usize, shape: &RoiAlign) -> Axis {
        let offset = if shape.aligned { 0.5 } else { 0.0 };
        let start = from * shape.scale - offset;
        let whole = to * shape.scale - offset - start;
        let whole = if shape.aligned { whole } else { whole.max(1.0) };
        let bin = whole / bins as f32;
        // A cast of what is below 0 gives 0: such a box has no sample.
        let samples = if shape.samples > 0 { shape.samples } else { bin.ceil() as usize };
        let (mut taps, mut ends) = (Vec::new(), Vec::with_capacity(bins));
        for index in 0..bins {
            let first = taps.len();
            for sample in 0..samples {
                let at = start + index as f32 * bin + (sample as f32 + 0.5) * bin / samples as f32;
                if at < -1.0 || at > len as f32 {
                    continue;
                }
                let at = at.max(0.0);
                let low = (at as usize).min(len - 1);
                let upper = if low + 1 < len { at - low as f32 } else { 0.0 };
                for (pixel, weight) in [(low, 1.0 - upper), (low + 1, upper)] {
                    add_tap(&mut taps, first, (pixel, weight / samples as f32));
                }
            }
            ends.push(taps.len());
        }
        Axis { taps, ends }
    }

    fn bin(&self, index: usize) -> &[(usize, f32)] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.taps[start..self.ends[index]]
    }
}

/// Adds a weight to the tap of its pixel, among those from `first` on.
fn add_tap(taps: &mut Vec<(usize, f32)>, first: usize, (pixel, weight): (usize, f32)) {
    if weight == 0.0 {
        return;
    }
    // Samples go one way: the pixel is among the last two.
    match taps[first..].iter_mut().rev().take(2).find(|tap| tap.0 == pixel) {
        Some(tap) => tap.1 += weight,
        None => taps.push((pixel, weight)),
    }
}

impl RoiAlign {
    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Numbers of one box's output.
    pub fn output_len(&self) -> usize {
        self.rows * self.columns * self.channels
    }

    /// The axes of a box.
    fn axes(&self, roi: &Roi) -> [Axis; 2] {
        let [left, upper, right, lower] = roi.corners;
        let down = Axis::new([upper, lower], self.rows, self.height, self);
        [down, Axis::new([left, right], self.columns, self.width, self)]
    }

    /// Calls `each` with the bin, the first number of the pixel below it, and the pixel's weight.
    fn pairs(&self, roi: &Roi, mut each: impl FnMut(usize, usize, f32)) {
        let [down, across] = self.axes(roi);
        for row in 0..self.rows {
            for column in 0..self.columns {
                for (y, of_row) in down.bin(row) {
                    for (x, of_column) in across.bin(column) {
                        let pixel = (y * self.width + x) * self.channels;
                        each(row * self.columns + column, pixel, of_row * of_column);
                    }
                }
            }
        }
    }

    /// y (boxes, rows, columns, C): every box of x (B, H, W, C).
    ///
    /// # Panics
    /// For slices of other lengths, boxes of images that there are not, and infinite boxes.
    pub fn forward(&self, x: &[f32], rois: &[Roi], y: &mut [f32]) {
        self.check(x.len(), rois, y.len());
        y.par_chunks_mut(self.output_len()).zip(rois).for_each(|(y, roi)| {
            let x = &x[roi.image * self.image_len()..][..self.image_len()];
            y.fill(0.0);
            self.pairs(roi, |bin, pixel, weight| {
                let to = &mut y[bin * self.channels..][..self.channels];
                to.iter_mut().zip(&x[pixel..]).for_each(|(y, x)| *y += weight * x);
            });
        });
    }

    /// dx (B, H, W, C) from dy (boxes, rows, columns, C): boxes are added in their order, image by
    /// image, so that bytes do not depend on threads.
    ///
    /// # Panics
    /// As [`RoiAlign::forward`].
    pub fn gradient(&self, rois: &[Roi], dy: &[f32], dx: &mut [f32]) {
        self.check(dx.len(), rois, dy.len());
        dx.par_chunks_mut(self.image_len()).enumerate().for_each(|(image, dx)| {
            dx.fill(0.0);
            let own = rois.iter().zip(dy.chunks(self.output_len())).filter(|(roi, _)| roi.image == image);
            for (roi, dy) in own {
                self.pairs(roi, |bin, pixel, weight| {
                    let to = &mut dx[pixel..][..self.channels];
                    to.iter_mut().zip(&dy[bin * self.channels..]).for_each(|(dx, dy)| *dx += weight * dy);
                });
            }
        });
    }

    fn check(&self, x: usize, rois: &[Roi], y: usize) {
        assert_eq!([x, y], [self.batch * self.image_len(), rois.len() * self.output_len()]);
        let good = |roi: &Roi| roi.image < self.batch && roi.corners.iter().all(|corner| corner.is_finite());
        assert!(rois.iter().all(good), "a box of no image, or without an end");
    }
}
