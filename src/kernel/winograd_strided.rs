//! The transforms of [`winograd`](super::winograd) for stride 2: 81 multiplications where 16·9
//! stood.
//!
//! In one direction yᵢ = w₀ x₂ᵢ + w₁ x₂ᵢ₊₁ + w₂ x₂ᵢ₊₂ is a 2-tap correlation of every other input
//! and a 1-tap one of those between. The first is F(4, 2) on the points ±a, ±b, ∞, five products
//! for four outputs; the second keeps its four. That is one bilinear algorithm again, with nine
//! products where twelve stood, and its four plain products share one weight: G w has six rows in
//! either case. So weights always lie at 6 × 6 points, tiles at 6 × 6 or 9 × 9, and weight point 5
//! serves the tile points from 5 on (`winograd::copies`). The input gradient is the same with
//! inputs and outputs exchanged.

use super::simd::Simd;
use super::winograd::{A, A2, B, B2, OutputGradient, POINTS, Scheme, Transform, WeightScheme};

/// 4×4 outputs of stride 2.
pub(super) struct Stride2;

impl Scheme<9, 9, 4> for Stride2 {
    const STEP: usize = 8;
    type Input = StridedInput;
    type Weight = StridedWeight;
    type Output = StridedOutput;
}

impl WeightScheme<9, 9> for Stride2 {
    type OutputGradient = StridedOutputGradient;
    type WeightGradient = StridedWeightGradient;
}

/// 8×8 pixels of the input gradient of stride 2.
pub(super) struct Stride2Gradient;

impl Scheme<5, 9, 8> for Stride2Gradient {
    const STEP: usize = 4;
    type Input = Gradient;
    type Weight = StridedWeight;
    type Output = GradientOutput;
}

/// Π (p − q) over the other finite points q of F(4, 2), for p = ±a and ±b, without the sign and a
/// or b.
const MA: f32 = 2.0 * (A2 - B2);
const MB: f32 = 2.0 * (B2 - A2);

/// Bᵀ d of F(4, 2): the points ±a, ±b, ∞ of five inputs.
#[inline(always)]
unsafe fn five_points<S: Simd>(d: [S::Vector; 5]) -> [S::Vector; 5] {
    // SAFETY: arithmetic only; the caller vouches for the instruction set, here and below.
    unsafe {
        let (minus_a2, minus_b2) = (S::splat(-A2), S::splat(-B2));
        let odd_a = S::fma(minus_b2, d[1], d[3]);
        let even_a = S::mul(S::splat(A), S::fma(minus_b2, d[0], d[2]));
        let odd_b = S::fma(minus_a2, d[1], d[3]);
        let even_b = S::mul(S::splat(B), S::fma(minus_a2, d[0], d[2]));
        [
            S::add(odd_a, even_a),
            S::sub(odd_a, even_a),
            S::add(odd_b, even_b),
            S::sub(odd_b, even_b),
            S::fma(S::splat(A2 * B2), d[0], S::fma(S::splat(-A2 - B2), d[2], d[4])),
        ]
    }
}

/// Aᵀ m of F(4, 2): four outputs from the five points.
#[inline(always)]
unsafe fn four_outputs<S: Simd>(m: [S::Vector; 5]) -> [S::Vector; 4] {
    // SAFETY: as in `five_points`.
    unsafe {
        let (even_a, odd_a) = (S::add(m[0], m[1]), S::sub(m[0], m[1]));
        let (even_b, odd_b) = (S::add(m[2], m[3]), S::sub(m[2], m[3]));
        [
            S::add(even_a, even_b),
            S::fma(S::splat(A), odd_a, S::mul(S::splat(B), odd_b)),
            S::fma(S::splat(A2), even_a, S::mul(S::splat(B2), even_b)),
            S::fma(S::splat(A * A2), odd_a, S::fma(S::splat(B * B2), odd_b, m[4])),
        ]
    }
}

/// Every other input through F(4, 2), those between as they are.
pub(super) struct StridedInput;

impl Transform<9, 9> for StridedInput {
    #[inline(always)]
    unsafe fn one<S: Simd>(d: [S::Vector; 9]) -> [S::Vector; 9] {
        // SAFETY: as in `five_points`.
        let [p0, p1, p2, p3, p4] = unsafe { five_points::<S>([d[0], d[2], d[4], d[6], d[8]]) };
        [p0, p1, p2, p3, p4, d[1], d[3], d[5], d[7]]
    }
}

/// The outer two weights at the points of F(4, 2), then the middle one.
pub(super) struct StridedWeight;

impl Transform<3, POINTS> for StridedWeight {
    #[inline(always)]
    unsafe fn one<S: Simd>(w: [S::Vector; 3]) -> [S::Vector; POINTS] {
        // SAFETY: as in `five_points`.
        unsafe {
            let (even_a, odd_a) = (S::mul(S::splat(1.0 / MA), w[2]), S::mul(S::splat(1.0 / (A * MA)), w[0]));
            let (even_b, odd_b) = (S::mul(S::splat(1.0 / MB), w[2]), S::mul(S::splat(1.0 / (B * MB)), w[0]));
            [
                S::add(even_a, odd_a),
                S::sub(even_a, odd_a),
                S::add(even_b, odd_b),
                S::sub(even_b, odd_b),
                w[2],
                w[1],
            ]
        }
    }
}

/// The outputs of F(4, 2) plus the plain products.
pub(super) struct StridedOutput;

impl Transform<9, 4> for StridedOutput {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; 9]) -> [S::Vector; 4] {
        // SAFETY: as in `five_points`.
        unsafe {
            let y = four_outputs::<S>([m[0], m[1], m[2], m[3], m[4]]);
            [S::add(y[0], m[5]), S::add(y[1], m[6]), S::add(y[2], m[7]), S::add(y[3], m[8])]
        }
    }
}

/// The transpose of [`StridedOutput`].
pub(super) struct StridedOutputGradient;

impl Transform<4, 9> for StridedOutputGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(y: [S::Vector; 4]) -> [S::Vector; 9] {
        // SAFETY: as in `five_points`.
        let [_, p0, p1, p2, p3, p4] = unsafe { OutputGradient::one::<S>(y) };
        [p0, p1, p2, p3, p4, y[0], y[1], y[2], y[3]]
    }
}

/// The transpose of [`StridedWeight`].
pub(super) struct StridedWeightGradient;

impl Transform<POINTS, 3> for StridedWeightGradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; POINTS]) -> [S::Vector; 3] {
        // SAFETY: as in `five_points`.
        unsafe {
            let (even_a, odd_a) = (S::add(m[0], m[1]), S::sub(m[0], m[1]));
            let (even_b, odd_b) = (S::add(m[2], m[3]), S::sub(m[2], m[3]));
            [
                S::fma(S::splat(1.0 / (A * MA)), odd_a, S::mul(S::splat(1.0 / (B * MB)), odd_b)),
                m[5],
                S::fma(S::splat(1.0 / MA), even_a, S::fma(S::splat(1.0 / MB), even_b, m[4])),
            ]
        }
    }
}

/// Five values of dy through F(4, 2), the first four as they are.
pub(super) struct Gradient;

impl Transform<5, 9> for Gradient {
    #[inline(always)]
    unsafe fn one<S: Simd>(dy: [S::Vector; 5]) -> [S::Vector; 9] {
        // SAFETY: as in `five_points`.
        let [p0, p1, p2, p3, p4] = unsafe { five_points::<S>(dy) };
        [p0, p1, p2, p3, p4, dy[0], dy[1], dy[2], dy[3]]
    }
}

/// Plain products and outputs of F(4, 2) take turns.
pub(super) struct GradientOutput;

impl Transform<9, 8> for GradientOutput {
    #[inline(always)]
    unsafe fn one<S: Simd>(m: [S::Vector; 9]) -> [S::Vector; 8] {
        // SAFETY: as in `five_points`.
        let odd = unsafe { four_outputs::<S>([m[0], m[1], m[2], m[3], m[4]]) };
        [m[5], odd[0], m[6], odd[1], m[7], odd[2], m[8], odd[3]]
    }
}
