//! A convolution as a gather: every computed pixel is a sum over taps of input pixels times a
//! matrix.
//!
//! out[start + step·g] = Σ_t in[g·in_step + t] · W_t. The forward pass is one gather; the input
//! gradient is one per phase of the stride (start = phase, in_step = 1), each with only the taps
//! that reach its pixels, so nothing is multiplied by the zeros of a dilated gradient.

use super::Conv;

/// One tap: where it looks, relative to g·in_step, and which (K·K) weight matrix it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tap {
    pub y: isize,
    pub x: isize,
    pub weight: usize,
}

/// A convolution-like gather over `batch` images, channels last.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    pub batch: usize,
    /// Input image: height, width, channels.
    pub input: [usize; 3],
    /// Output image in memory: height, width, channels.
    pub output: [usize; 3],
    /// Computed pixels: rows, columns.
    pub grid: [usize; 2],
    /// First computed pixel of the output.
    pub start: [usize; 2],
    /// Distance of computed pixels in the output, both directions.
    pub out_step: usize,
    /// Distance of their input windows, both directions.
    pub in_step: usize,
    /// In memory order of the input.
    pub taps: Vec<Tap>,
}

impl Gather {
    /// y = x ∗ w.
    pub(super) fn forward(s: &Conv) -> Self {
        let padding = s.padding as isize;
        let taps = (0..s.kernel * s.kernel)
            .map(|t| Tap {
                y: (t / s.kernel) as isize - padding,
                x: (t % s.kernel) as isize - padding,
                weight: t,
            })
            .collect();
        let (height, width) = (s.out_height(), s.out_width());
        Gather {
            batch: s.batch,
            input: [s.height, s.width, s.in_channels],
            output: [height, width, s.out_channels],
            grid: [height, width],
            start: [0, 0],
            out_step: 1,
            in_step: s.stride,
            taps,
        }
    }

    /// dx = dy ∗ᵀ w, one gather per phase: x pixel i receives from y pixel (i + padding −
    /// k)/stride.
    pub(super) fn input_gradient(s: &Conv) -> impl Iterator<Item = Self> {
        let s = *s;
        (0..s.stride * s.stride).filter_map(move |phase| {
            let (py, px) = (phase / s.stride, phase % s.stride);
            if py >= s.height || px >= s.width {
                return None;
            }
            let reach = |phase: usize, k: usize| {
                let distance = (phase + s.padding) as isize - k as isize;
                (distance.rem_euclid(s.stride as isize) == 0).then_some(distance / s.stride as isize)
            };
            let mut taps: Vec<Tap> = (0..s.kernel * s.kernel)
                .filter_map(|t| {
                    let (y, x) = (reach(py, t / s.kernel)?, reach(px, t % s.kernel)?);
                    Some(Tap { y, x, weight: t })
                })
                .collect();
            taps.sort_unstable();
            Some(Gather {
                batch: s.batch,
                input: [s.out_height(), s.out_width(), s.out_channels],
                output: [s.height, s.width, s.in_channels],
                grid: [(s.height - py).div_ceil(s.stride), (s.width - px).div_ceil(s.stride)],
                start: [py, px],
                out_step: s.stride,
                in_step: 1,
                taps,
            })
        })
    }

    /// Rows of the product: computed pixels.
    pub(super) fn pixels(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Length of the sum behind each output number.
    pub(super) fn depth(&self) -> usize {
        self.taps.len() * self.input[2]
    }

    /// Operations.
    pub(super) fn flops(&self) -> f64 {
        2.0 * self.pixels() as f64 * self.depth() as f64 * self.output[2] as f64
    }

    /// First and last row that the taps reach, relative to the window; columns with `column`.
    pub(super) fn reach(&self, column: bool) -> [isize; 2] {
        let of = |t: &Tap| if column { t.x } else { t.y };
        let first = self.taps.iter().map(of).min().unwrap_or(0);
        [first, self.taps.iter().map(of).max().unwrap_or(0)]
    }

    /// Whether some tap looks outside the image.
    pub(super) fn needs_padding(&self) -> bool {
        let outside = |[first, last]: [isize; 2], grid: usize, size: usize| {
            first < 0 || ((grid - 1) * self.in_step) as isize + last >= size as isize
        };
        outside(self.reach(false), self.grid[0], self.input[0])
            || outside(self.reach(true), self.grid[1], self.input[1])
    }

    /// Offset in the output of the first channel of a computed pixel.
    pub(super) fn out_offset(&self, image: usize, row: usize, column: usize) -> usize {
        let [height, width, channels] = self.output;
        let y = self.start[0] + row * self.out_step;
        let x = self.start[1] + column * self.out_step;
        ((image * height + y) * width + x) * channels
    }
}
