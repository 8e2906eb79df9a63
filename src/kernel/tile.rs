//! The two register-blocked products that all algorithms end in.
//!
//! [`rows`] computes C = A·B for a few rows of A given by their offsets (pixels of an image,
//! gathered in place) and a packed panel of B, one or two vectors wide. [`outer`] adds Σ_p a_p ⊗
//! b_p over a grid of pixels. Each element of C is one chain of multiply-adds in the order of the
//! sum, whatever the block it falls into: that keeps results independent of how work was cut.

use super::simd::{Job, Simd};

/// C[r] = Σ_run Σ_k A[rows[r] + run + k] · B[run·len + k] for the rows of one register block.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Start of A.
    pub a: *const f32,
    /// Offset of each row in A.
    pub rows: &'a [usize],
    /// Offsets of the contiguous runs that make up a row.
    pub runs: &'a [usize],
    /// Length of every run, in words of [`Simd::PACK`] numbers, as are all of A and B.
    pub len: usize,
    /// The packed panel: runs.len()·len rows of one or two vectors.
    pub b: *const f32,
    /// Start of C.
    pub c: *mut f32,
    /// Offset of each row in C, as many as `rows`.
    pub outs: &'a [usize],
    /// Columns of the panel that are stored, 1 to two vectors.
    pub columns: usize,
}

/// A block with MR rows; the slices hold at least one and at most MR of them, the last one
/// repeated.
struct Block<'a, const MR: usize, const NV: usize>(Rows<'a>);

impl<const MR: usize, const NV: usize> Job for Block<'_, MR, NV> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let t = self.0;
        let last = t.rows.len() - 1;
        // SAFETY: `rows` (below) demands that A holds every row's runs, B the panel, and C every
        // row's columns; indices into the slices are capped at their last element.
        unsafe {
            let mut a = [t.a; MR];
            for (r, a) in a.iter_mut().enumerate() {
                *a = t.a.add(*t.rows.get_unchecked(r.min(last)));
            }
            let mut sum = [[S::splat(0.0); NV]; MR];
            let mut b = t.b;
            for &run in t.runs {
                for k in run..run + t.len {
                    let mut panel = [S::splat(0.0); NV];
                    for (v, panel) in panel.iter_mut().enumerate() {
                        *panel = S::load(b.add(v * S::LANES));
                    }
                    b = b.add(NV * S::LANES);
                    for r in 0..MR {
                        let value = S::splat(*a[r].add(k));
                        for v in 0..NV {
                            sum[r][v] = S::multiply_add(value, panel[v], sum[r][v]);
                        }
                    }
                }
            }
            let partial = t.columns - (NV - 1) * S::LANES;
            for (r, sum) in sum.iter().enumerate() {
                let c = t.c.add(*t.outs.get_unchecked(r.min(last)));
                for (v, sum) in sum.iter().enumerate() {
                    if v + 1 < NV || partial == S::LANES {
                        S::store(c.add(v * S::LANES), *sum);
                    } else {
                        S::store_first(c.add(v * S::LANES), *sum, partial);
                    }
                }
            }
        }
    }
}

/// Runs the block; `t.rows` has 1 to [`Simd::ROWS`] rows.
///
/// # Safety
/// A is readable at every row + run + (0..len), B at every packed row, C writable at every out +
/// (0..columns); the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn rows<S: Simd>(t: Rows) {
    debug_assert!(!t.rows.is_empty() && t.rows.len() <= S::ROWS && t.rows.len() == t.outs.len());
    // SAFETY: passed on.
    unsafe { if t.columns > S::LANES { rows_of::<S, 2>(t) } else { rows_of::<S, 1>(t) } }
}

#[inline(always)]
unsafe fn rows_of<S: Simd, const NV: usize>(t: Rows) {
    // SAFETY: passed on from `rows`.
    unsafe {
        match t.rows.len() {
            1 => S::enter(Block::<1, NV>(t)),
            2 => S::enter(Block::<2, NV>(t)),
            3 | 4 => S::enter(Block::<4, NV>(t)),
            5 | 6 => S::enter(Block::<6, NV>(t)),
            7 | 8 if S::ROWS > 6 => S::enter(Block::<8, NV>(t)),
            9 | 10 if S::ROWS > 6 => S::enter(Block::<10, NV>(t)),
            11 | 12 if S::ROWS > 6 => S::enter(Block::<12, NV>(t)),
            _ if S::ROWS > 6 => S::enter(Block::<14, NV>(t)),
            _ => {}
        }
    }
}

/// C[m] (+)= Σ over a grid (images, rows, columns) of pixels of a[m]·b, for a few rows m.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    /// The first pixel's left factors, contiguous.
    pub a: *const f32,
    /// Distance of its next image, row, column.
    pub a_steps: [usize; 3],
    /// The first pixel's right factors, contiguous.
    pub b: *const f32,
    /// Distance of its next image, row, column.
    pub b_steps: [usize; 3],
    /// Pixels in each of the three directions.
    pub grid: [usize; 3],
    /// Start of C.
    pub c: *mut f32,
    /// Distance of the rows of C.
    pub c_step: usize,
    /// Rows, at most [`Simd::OUTER_ROWS`].
    pub height: usize,
    /// Columns, at most two vectors.
    pub width: usize,
    /// Whether C starts from zero instead of from its contents.
    pub fresh: bool,
    /// Whether b is readable to the end of its last vector, so that no masked loads are needed.
    pub b_padded: bool,
}

struct OuterBlock<const MR: usize, const NV: usize>(Outer);

impl<const MR: usize, const NV: usize> Job for OuterBlock<MR, NV> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let t = self.0;
        let partial = t.width - (NV - 1) * S::LANES;
        let whole = partial == S::LANES;
        // SAFETY: `outer` (below) demands that a and b are readable over the whole grid and C
        // writable.
        unsafe {
            let mut sum = [[S::splat(0.0); NV]; MR];
            if !t.fresh {
                for (m, sum) in sum.iter_mut().enumerate() {
                    for (v, sum) in sum.iter_mut().enumerate() {
                        let c = t.c.add(m * t.c_step + v * S::LANES);
                        let all = v + 1 < NV || whole;
                        *sum = if all { S::load(c) } else { S::load_first(c, partial) };
                    }
                }
            }
            for image in 0..t.grid[0] {
                for row in 0..t.grid[1] {
                    let mut a = t.a.add(image * t.a_steps[0] + row * t.a_steps[1]);
                    let mut b = t.b.add(image * t.b_steps[0] + row * t.b_steps[1]);
                    for _ in 0..t.grid[2] {
                        let mut right = [S::splat(0.0); NV];
                        for (v, right) in right.iter_mut().enumerate() {
                            let b = b.add(v * S::LANES);
                            let all = v + 1 < NV || whole || t.b_padded;
                            *right = if all { S::load(b) } else { S::load_first(b, partial) };
                        }
                        for (m, sum) in sum.iter_mut().enumerate() {
                            let left = S::splat(*a.add(m));
                            for (sum, right) in sum.iter_mut().zip(right) {
                                *sum = S::multiply_add(left, right, *sum);
                            }
                        }
                        a = a.wrapping_add(t.a_steps[2]);
                        b = b.wrapping_add(t.b_steps[2]);
                    }
                }
            }
            for (m, sum) in sum.iter().enumerate() {
                for (v, sum) in sum.iter().enumerate() {
                    let c = t.c.add(m * t.c_step + v * S::LANES);
                    let all = v + 1 < NV || whole;
                    if all { S::store(c, *sum) } else { S::store_first(c, *sum, partial) }
                }
            }
        }
    }
}

/// Runs the block.
///
/// # Safety
/// Over the whole grid a is readable for `height` and b for `width` numbers (for whole vectors
/// where `b_padded`); C is readable and writable for `height` × `width`; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn outer<S: Simd>(t: Outer) {
    // SAFETY: passed on.
    unsafe { if t.width > S::LANES { outer_of::<S, 2>(t) } else { outer_of::<S, 1>(t) } }
}

#[inline(always)]
unsafe fn outer_of<S: Simd, const NV: usize>(t: Outer) {
    // SAFETY: passed on from `outer`.
    unsafe {
        match t.height {
            1 => S::enter(OuterBlock::<1, NV>(t)),
            2 => S::enter(OuterBlock::<2, NV>(t)),
            3 => S::enter(OuterBlock::<3, NV>(t)),
            4 => S::enter(OuterBlock::<4, NV>(t)),
            5 if S::OUTER_ROWS > 4 => S::enter(OuterBlock::<5, NV>(t)),
            6 if S::OUTER_ROWS > 4 => S::enter(OuterBlock::<6, NV>(t)),
            7 if S::OUTER_ROWS > 4 => S::enter(OuterBlock::<7, NV>(t)),
            8 if S::OUTER_ROWS > 4 => S::enter(OuterBlock::<8, NV>(t)),
            _ => {}
        }
    }
}
