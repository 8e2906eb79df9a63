//! The transforms of Winograd's algorithm for 3×3 convolutions: F(4×4, 3×3) for stride 1, 36
//! multiplications where 16·9 stood, and for stride 2 its sibling of 81.
//!
//! **Stride 1**, one direction first. With interpolation points 0, ±a, ±b, ∞ a 3-tap correlation of
//! six inputs is y = Aᵀ[(G w) ⊙ (Bᵀ d)], and its gradient in w is dw = Gᵀ[(Bᵀ d) ⊙ (A dy)]; two
//! directions apply each matrix from both sides. Lavin & Gray 2016; the points a² = ½, b² = 2 keep
//! every matrix near one in size: a quarter of the rounding error of the usual ±1, ±2 (measured;
//! tests/kernel.rs bounds it). Opposite points share even and odd halves, which is all the
//! structure the code exploits.
//!
//! `winograd_strided.rs` has the transforms for stride 2, `winograd_tiles.rs` cuts images into
//! tiles.

use super::simd::Simd;
use std::mem::MaybeUninit;

/// Points of the weights in one direction.
pub(super) const POINTS: usize = 6;

/// The tile points that weight point `point` multiplies, of `spread` in one direction.
pub(super) fn copies(point: usize, spread: usize) -> std::ops::Range<usize> {
    if point + 1 == POINTS { point..spread } else { point..point + 1 }
}

/// The interpolation points and their squares.
pub(super) const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
pub(super) const B: f32 = std::f32::consts::SQRT_2;
pub(super) const A2: f32 = 0.5;
pub(super) const B2: f32 = 2.0;
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

/// How one pass is tiled: input tiles of IN², SPREAD² points, output tiles of OUT².
pub(super) trait Scheme<const IN: usize, const SPREAD: usize, const OUT: usize> {
    /// Distance of input tiles.
    const STEP: usize;
    type Input: Transform<IN, SPREAD>;
    type Weight: Transform<3, POINTS>;
    type Output: Transform<SPREAD, OUT>;
}

/// How the weight gradient of a scheme with output tiles of 4² is made.
pub(super) trait WeightScheme<const IN: usize, const SPREAD: usize>: Scheme<IN, SPREAD, 4> {
    type OutputGradient: Transform<4, SPREAD>;
    type WeightGradient: Transform<POINTS, 3>;
}

/// F(4×4, 3×3), stride 1; its own transpose for the input gradient.
pub(super) struct Stride1;

impl Scheme<6, 6, 4> for Stride1 {
    const STEP: usize = 4;
    type Input = Input;
    type Weight = Weight;
    type Output = Output;
}

impl WeightScheme<6, 6> for Stride1 {
    type OutputGradient = OutputGradient;
    type WeightGradient = WeightGradient;
}

/// Bᵀ d.
pub(super) struct Input;

impl Transform<6, 6> for Input {
    #[inline(always)]
    unsafe fn one<S: Simd>(d: [S::Vector; 6]) -> [S::Vector; 6] {
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

impl Transform<6, 4> for Output {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; 6]) -> [S::Vector; 4] {
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

impl Transform<3, POINTS> for Weight {
    #[inline(always)]
    unsafe fn one<S: Simd>(w: [S::Vector; 3]) -> [S::Vector; POINTS] {
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

impl Transform<4, 6> for OutputGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(y: [S::Vector; 4]) -> [S::Vector; 6] {
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

impl Transform<POINTS, 3> for WeightGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; POINTS]) -> [S::Vector; 3] {
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

/// Where a transform reads the numbers of a square, a vector at each place.
pub(super) trait Source {
    /// # Safety
    /// The numbers are readable; the CPU has `S`.
    unsafe fn load<S: Simd>(&self, row: usize, column: usize) -> S::Vector;
}

/// Where a transform writes them.
pub(super) trait Sink {
    /// # Safety
    /// The numbers are writable; the CPU has `S`.
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector);
}

/// A transform applied along columns, then along rows, of which the first `rows` are written.
///
/// # Safety
/// Source and sink hold squares of N and M; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn both<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    from: &impl Source,
    to: &impl Sink,
    rows: usize,
) {
    // Through a pointer: zeroing and indexing an array cost narrow layers a tenth of their time
    // (AVX2).
    let mut half = MaybeUninit::<[[S::Vector; N]; M]>::uninit();
    let half = half.as_mut_ptr().cast::<S::Vector>();
    // SAFETY: all places are inside, and each is written before it is read; the rest is the
    // caller's.
    unsafe {
        for c in 0..N {
            let mut column = [S::splat(0.0); N];
            for (r, value) in column.iter_mut().enumerate() {
                *value = from.load::<S>(r, c);
            }
            for (r, value) in T::one::<S>(column).into_iter().enumerate() {
                half.add(r * N + c).write(value);
            }
        }
        for r in 0..M {
            let row = T::one::<S>(half.add(r * N).cast::<[S::Vector; N]>().read());
            if r < rows {
                for (c, value) in row.into_iter().enumerate() {
                    to.store::<S>(r, c, value);
                }
            }
        }
    }
}
