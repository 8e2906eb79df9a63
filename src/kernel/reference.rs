//! The specification: each pass as the plainest loops that compute it.

use super::{Conv, Kernel};

/// Plain loops, one thread. Slow, and the judge of every other implementation.
pub struct Reference;

/// Calls `visit(x_index, w_index, y_index)` for every multiply-add of `shape`, the indices being
/// those of the first channel: input pixel, (ky, kx) weight block, output pixel.
fn each_tap(s: &Conv, mut visit: impl FnMut(usize, usize, usize)) {
    let (out_height, out_width) = (s.out_height(), s.out_width());
    for b in 0..s.batch {
        for oy in 0..out_height {
            for ox in 0..out_width {
                let y_index = ((b * out_height + oy) * out_width + ox) * s.out_channels;
                for ky in 0..s.kernel {
                    for kx in 0..s.kernel {
                        let (iy, ix) = (oy * s.stride + ky, ox * s.stride + kx);
                        if iy < s.padding || ix < s.padding {
                            continue;
                        }
                        let (iy, ix) = (iy - s.padding, ix - s.padding);
                        if iy >= s.height || ix >= s.width {
                            continue;
                        }
                        let x_index = ((b * s.height + iy) * s.width + ix) * s.in_channels;
                        let w_index = (ky * s.kernel + kx) * s.in_channels * s.out_channels;
                        visit(x_index, w_index, y_index);
                    }
                }
            }
        }
    }
}

impl Kernel for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn conv_scratch(&self, _: &Conv) -> usize {
        0
    }

    fn conv_forward(&self, s: &Conv, x: &[f32], w: &[f32], y: &mut [f32], _: &mut [f32]) {
        y.fill(0.0);
        each_tap(s, |xi, wi, yi| {
            for i in 0..s.in_channels {
                for o in 0..s.out_channels {
                    y[yi + o] += x[xi + i] * w[wi + i * s.out_channels + o];
                }
            }
        });
    }

    fn conv_input_gradient(&self, s: &Conv, dy: &[f32], w: &[f32], dx: &mut [f32], _: &mut [f32]) {
        dx.fill(0.0);
        each_tap(s, |xi, wi, yi| {
            for i in 0..s.in_channels {
                for o in 0..s.out_channels {
                    dx[xi + i] += dy[yi + o] * w[wi + i * s.out_channels + o];
                }
            }
        });
    }

    fn conv_weight_gradient(&self, s: &Conv, x: &[f32], dy: &[f32], dw: &mut [f32], _: &mut [f32]) {
        dw.fill(0.0);
        each_tap(s, |xi, wi, yi| {
            for i in 0..s.in_channels {
                for o in 0..s.out_channels {
                    dw[wi + i * s.out_channels + o] += x[xi + i] * dy[yi + o];
                }
            }
        });
    }
}
