//! Convolutions in f64, rounded once at the end: for comparing trajectories with another framework.
//!
//! A training trajectory with ReLU is chaotic: an activation within rounding of zero falls on the other
//! side, and the difference grows tenfold with each step. PyTorch differs from itself by several 1e-3
//! after eight steps when only its memory layout changes. Exact sums keep such events rare.

use super::{Conv, Kernel};
use ndarray::{Array2, ArrayView2};

/// Matrix products of patches in f64, image by image, on one thread.
pub struct Exact;

/// For each output pixel and tap that lies inside the image: (row of patches, tap, input pixel).
fn taps(s: &Conv) -> Vec<(usize, usize, usize)> {
    let mut taps = Vec::new();
    for oy in 0..s.out_height() {
        for ox in 0..s.out_width() {
            for ky in 0..s.kernel {
                for kx in 0..s.kernel {
                    let (iy, ix) = (oy * s.stride + ky, ox * s.stride + kx);
                    let inside = |i: usize, n: usize| (s.padding..n + s.padding).contains(&i);
                    if inside(iy, s.height) && inside(ix, s.width) {
                        let pixel = (iy - s.padding) * s.width + ix - s.padding;
                        taps.push((oy * s.out_width() + ox, ky * s.kernel + kx, pixel));
                    }
                }
            }
        }
    }
    taps
}

/// The patches of one image, (output pixels, K·K·I).
fn patches(s: &Conv, taps: &[(usize, usize, usize)], x: &[f32]) -> Array2<f64> {
    let channels = s.in_channels;
    let mut patches = Array2::zeros((s.out_height() * s.out_width(), s.kernel * s.kernel * channels));
    for &(row, tap, pixel) in taps {
        for i in 0..channels {
            patches[[row, tap * channels + i]] = f64::from(x[pixel * channels + i]);
        }
    }
    patches
}

/// A matrix of f64 with the numbers of `values`.
fn matrix(rows: usize, columns: usize, values: &[f32]) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(r, c)| f64::from(values[r * columns + c]))
}

fn round(from: ArrayView2<f64>, to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
}

impl Kernel for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn conv_scratch(&self, _: &Conv) -> usize {
        0
    }

    fn conv_forward(&self, s: &Conv, x: &[f32], w: &[f32], y: &mut [f32], _: &mut [f32]) {
        let weights = matrix(w.len() / s.out_channels, s.out_channels, w);
        let taps = taps(s);
        let images =
            x.chunks_exact(s.input_len() / s.batch).zip(y.chunks_exact_mut(s.output_len() / s.batch));
        for (x, y) in images {
            round(patches(s, &taps, x).dot(&weights).view(), y);
        }
    }

    fn conv_input_gradient(&self, s: &Conv, dy: &[f32], w: &[f32], dx: &mut [f32], _: &mut [f32]) {
        let weights = matrix(w.len() / s.out_channels, s.out_channels, w);
        let (taps, channels) = (taps(s), s.in_channels);
        let pixels = s.out_height() * s.out_width();
        let images =
            dy.chunks_exact(s.output_len() / s.batch).zip(dx.chunks_exact_mut(s.input_len() / s.batch));
        for (dy, dx) in images {
            let gradient = matrix(pixels, s.out_channels, dy).dot(&weights.t());
            let mut sums = Array2::<f64>::zeros((s.height * s.width, channels));
            for &(row, tap, pixel) in &taps {
                for i in 0..channels {
                    sums[[pixel, i]] += gradient[[row, tap * channels + i]];
                }
            }
            round(sums.view(), dx);
        }
    }

    fn conv_weight_gradient(&self, s: &Conv, x: &[f32], dy: &[f32], dw: &mut [f32], _: &mut [f32]) {
        let taps = taps(s);
        let mut sums = Array2::<f64>::zeros((dw.len() / s.out_channels, s.out_channels));
        let pixels = s.out_height() * s.out_width();
        let images = x.chunks_exact(s.input_len() / s.batch).zip(dy.chunks_exact(s.output_len() / s.batch));
        for (x, dy) in images {
            sums += &patches(s, &taps, x).t().dot(&matrix(pixels, s.out_channels, dy));
        }
        round(sums.view(), dw);
    }
}
