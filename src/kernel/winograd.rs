//! The transforms of Winograd's F(4×4, 3×3): 36 multiplications where 16·9 stood.
//!
//! One direction first. With interpolation points 0, ±a, ±b, ∞ a 3-tap correlation of six inputs is
//! y = Aᵀ[(G w) ⊙ (Bᵀ d)], and its gradient in w is dw = Gᵀ[(Bᵀ d) ⊙ (A dy)]; two directions apply each
//! matrix from both sides. Lavin & Gray 2016; the points a² = ½, b² = 2 keep every matrix near one in
//! size: a quarter of the rounding error of the usual ±1, ±2 (measured; tests/kernel.rs bounds it).
//! Opposite points share even and odd halves, which is all the structure the code exploits.

use super::simd::Simd;

/// Side of an output tile.
pub(super) const OUT: usize = 4;
/// Side of an input tile and of a transformed one.
pub(super) const IN: usize = 6;
/// Numbers of a transformed tile.
pub(super) const POINTS: usize = IN * IN;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;
/// Π (p − q) over the other finite points q, for p = 0, ±a, ±b.
const N0: f32 = A2 * B2;
const NA: f32 = 2.0 * A2 * (A2 - B2);
const NB: f32 = 2.0 * B2 * (B2 - A2);

/// A transform in one direction, from N numbers to M. A type rather than a closure because closures
/// cannot be made to inline into functions with more instructions than they were compiled for.
pub(super) trait Transform<const N: usize, const M: usize> {
    /// # Safety
    /// The CPU has `S`.
    unsafe fn one<S: Simd>(values: [S::Vector; N]) -> [S::Vector; M];
}

/// Bᵀ d.
pub(super) struct Input;

impl Transform<IN, IN> for Input {
    #[inline(always)]
    unsafe fn one<S: Simd>(d: [S::Vector; IN]) -> [S::Vector; IN] {
        // SAFETY: arithmetic only; the caller vouches for the instruction set, here and below.
        unsafe {
            let (minus_a2, minus_b2) = (S::splat(-A2), S::splat(-B2));
            let even_a = S::fma(minus_b2, d[2], d[4]);
            let odd_a = S::mul(S::splat(A), S::fma(minus_b2, d[1], d[3]));
            let even_b = S::fma(minus_a2, d[2], d[4]);
            let odd_b = S::mul(S::splat(B), S::fma(minus_a2, d[1], d[3]));
            let (product, minus_sum) = (S::splat(A2 * B2), S::splat(-A2 - B2));
            [
                S::fma(product, d[0], S::fma(minus_sum, d[2], d[4])),
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                S::fma(product, d[1], S::fma(minus_sum, d[3], d[5])),
            ]
        }
    }
}

/// Aᵀ m.
pub(super) struct Output;

impl Transform<IN, OUT> for Output {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; IN]) -> [S::Vector; OUT] {
        // SAFETY: as in `Input`.
        unsafe {
            let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            [
                S::add(m[0], S::add(even_a, even_b)),
                S::fma(S::splat(A), odd_a, S::mul(S::splat(B), odd_b)),
                S::fma(S::splat(A2), even_a, S::mul(S::splat(B2), even_b)),
                S::fma(S::splat(A * A2), odd_a, S::fma(S::splat(B * B2), odd_b, m[5])),
            ]
        }
    }
}

/// G w.
pub(super) struct Weight;

impl Transform<3, IN> for Weight {
    #[inline(always)]
    unsafe fn one<S: Simd>(w: [S::Vector; 3]) -> [S::Vector; IN] {
        // SAFETY: as in `Input`.
        unsafe {
            let even_a = S::fma(S::splat(A2 / NA), w[2], S::mul(S::splat(1.0 / NA), w[0]));
            let odd_a = S::mul(S::splat(A / NA), w[1]);
            let even_b = S::fma(S::splat(B2 / NB), w[2], S::mul(S::splat(1.0 / NB), w[0]));
            let odd_b = S::mul(S::splat(B / NB), w[1]);
            [
                S::mul(S::splat(1.0 / N0), w[0]),
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                w[2],
            ]
        }
    }
}

/// A dy, the transpose of [`Output`].
pub(super) struct OutputGradient;

impl Transform<OUT, IN> for OutputGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(y: [S::Vector; OUT]) -> [S::Vector; IN] {
        // SAFETY: as in `Input`.
        unsafe {
            let even_a = S::fma(S::splat(A2), y[2], y[0]);
            let odd_a = S::fma(S::splat(A * A2), y[3], S::mul(S::splat(A), y[1]));
            let even_b = S::fma(S::splat(B2), y[2], y[0]);
            let odd_b = S::fma(S::splat(B * B2), y[3], S::mul(S::splat(B), y[1]));
            [
                y[0],
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                y[3],
            ]
        }
    }
}

/// Gᵀ m, the transpose of [`Weight`].
pub(super) struct WeightGradient;

impl Transform<IN, 3> for WeightGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; IN]) -> [S::Vector; 3] {
        // SAFETY: as in `Input`.
        unsafe {
            let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let first = S::fma(S::splat(1.0 / NB), even_b, S::mul(S::splat(1.0 / N0), m[0]));
            [
                S::fma(S::splat(1.0 / NA), even_a, first),
                S::fma(S::splat(A / NA), odd_a, S::mul(S::splat(B / NB), odd_b)),
                S::fma(S::splat(A2 / NA), even_a, S::fma(S::splat(B2 / NB), even_b, m[5])),
            ]
        }
    }
}

/// A transform applied along columns, then along rows.
#[inline(always)]
pub(super) unsafe fn both<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    d: &[[S::Vector; N]; N],
) -> [[S::Vector; M]; M] {
    // SAFETY: as in `Input`.
    unsafe {
        let zero = S::splat(0.0);
        let mut half = [[zero; N]; M];
        for c in 0..N {
            let mut column = [zero; N];
            for (value, row) in column.iter_mut().zip(d) {
                *value = row[c];
            }
            for (value, row) in T::one::<S>(column).into_iter().zip(&mut half) {
                row[c] = value;
            }
        }
        let mut done = [[zero; M]; M];
        for (done, half) in done.iter_mut().zip(half) {
            *done = T::one::<S>(half);
        }
        done
    }
}

/// Where transformed tiles lie: (rows of points, tiles, columns of points, channels). Six streams of
/// contiguous numbers keep both the writes of one tile and the reads of one point within few pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Distance of rows of points, of columns of points, of tiles.
    pub row: usize,
    pub column: usize,
    pub tile: usize,
}

impl Layout {
    /// For `tiles` tiles of `channels` channels, in whole lines. The extra line between tiles keeps
    /// their channels out of each other's cache sets.
    pub(super) fn new(tiles: usize, channels: usize) -> Self {
        let column = channels.next_multiple_of(16);
        let tile = IN * column + 16;
        Layout { row: tiles * tile + 16, column, tile }
    }
    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        IN * self.row
    }
    /// Offset of point ξ of the first tile.
    pub(super) fn point(&self, point: usize) -> usize {
        point / IN * self.row + point % IN * self.column
    }
}

/// The 36 numbers, a vector each, of one tile.
///
/// # Safety
/// They are readable; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn load_points<S: Simd>(from: *const f32, layout: &Layout) -> [[S::Vector; IN]; IN] {
    // SAFETY: passed on.
    unsafe {
        let mut points = [[S::splat(0.0); IN]; IN];
        for (r, points) in points.iter_mut().enumerate() {
            for (c, point) in points.iter_mut().enumerate() {
                *point = S::load(from.add(r * layout.row + c * layout.column));
            }
        }
        points
    }
}

/// The inverse of [`load_points`].
///
/// # Safety
/// They are writable; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn store_points<S: Simd>(points: [[S::Vector; IN]; IN], to: *mut f32, layout: &Layout) {
    for (r, points) in points.iter().enumerate() {
        for (c, point) in points.iter().enumerate() {
            // SAFETY: passed on.
            unsafe { S::store(to.add(r * layout.row + c * layout.column), *point) };
        }
    }
}

/// Images in tiles: (batch, height, width, channels) cut into windows every four pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub data: *const f32,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// The tiles of all output images of one pass, numbered through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub batch: usize,
    pub down: usize,
    pub across: usize,
}

impl Tiles {
    pub(super) fn new(batch: usize, height: usize, width: usize) -> Self {
        Tiles { batch, down: height.div_ceil(OUT), across: width.div_ceil(OUT) }
    }
    pub(super) fn count(self) -> usize {
        self.batch * self.down * self.across
    }
    /// Image, first row and first column of tile `t`.
    pub(super) fn origin(self, t: usize) -> [usize; 3] {
        let (row, column) = (t / self.across, t % self.across);
        [row / self.down, row % self.down * OUT, column * OUT]
    }
}

impl Image {
    /// Pointers to the pixels of the N×N window from (y, x) on; `zeros` for those outside the image.
    #[inline(always)]
    pub(super) fn window<const N: usize>(
        &self,
        image: usize,
        y: isize,
        x: isize,
        zeros: *const f32,
    ) -> [[*const f32; N]; N] {
        let mut window = [[zeros; N]; N];
        for (r, window) in window.iter_mut().enumerate() {
            let y = y + r as isize;
            if y < 0 || y >= self.height as isize {
                continue;
            }
            let row = (image * self.height + y as usize) * self.width;
            for (c, window) in window.iter_mut().enumerate() {
                let x = x + c as isize;
                if x >= 0 && x < self.width as isize {
                    *window = self.data.wrapping_add((row + x as usize) * self.channels);
                }
            }
        }
        window
    }
}

/// Transforms channels `channels` of a window and writes the points of a tile to `to`, whole vectors.
///
/// # Safety
/// Every pointer of the window is readable for the channels; `to` writable for all points and the
/// channels rounded up to whole vectors; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd, T: Transform<N, IN>, const N: usize>(
    window: &[[*const f32; N]; N],
    channels: std::ops::Range<usize>,
    to: *mut f32,
    layout: &Layout,
) {
    // SAFETY: passed on; `at` stays below the range's end.
    unsafe {
        let mut at = channels.start;
        while at < channels.end {
            let left = channels.end - at;
            let mut d = [[S::splat(0.0); N]; N];
            for (d, from) in d.as_flattened_mut().iter_mut().zip(window.as_flattened()) {
                let from = from.add(at);
                *d = if left >= S::LANES { S::load(from) } else { S::load_first(from, left) };
            }
            store_points::<S>(both::<S, T, N, IN>(&d), to.add(at - channels.start), layout);
            at += S::LANES;
        }
    }
}
