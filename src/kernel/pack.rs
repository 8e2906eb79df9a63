//! Weights laid out for the register blocks: panels of one or two vectors of output columns.
//!
//! Panel n holds columns 2L·n.. of the product's right factor (L lanes), row after row, the last
//! panel padded with zeros to one or two vectors. (K, K, I, O) weights are read along O for the
//! forward pass and across O, as their transpose, for the input gradient.

use std::ops::Range;

/// The panels of a matrix with `columns` columns on a set with `lanes` lanes.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub columns: usize,
    pub lanes: usize,
}

impl Panels {
    pub(super) fn count(self) -> usize {
        self.columns.div_ceil(2 * self.lanes)
    }
    /// The columns of panel `n`.
    pub(super) fn range(self, n: usize) -> Range<usize> {
        let first = n * 2 * self.lanes;
        first..self.columns.min(first + 2 * self.lanes)
    }
    /// Numbers in a row of panel `n`: one or two vectors.
    pub(super) fn width(self, n: usize) -> usize {
        if self.range(n).len() > self.lanes { 2 * self.lanes } else { self.lanes }
    }
    /// Numbers in a row of all panels together, and with `depth` rows, times that.
    pub(super) fn padded(self) -> usize {
        self.columns.next_multiple_of(self.lanes)
    }
}

/// Weights (K, K, I, O) seen as one right factor per tap: I×O, or O×I when `transposed`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub w: &'a [f32],
    pub in_channels: usize,
    pub out_channels: usize,
    pub transposed: bool,
}

impl Weights<'_> {
    /// Writes columns `columns` of the factor of tap `tap` to `to`, rows of `width` numbers, zero
    /// padded.
    pub(super) fn pack(&self, tap: usize, columns: Range<usize>, width: usize, to: &mut [f32]) {
        let (size, o) = (self.in_channels * self.out_channels, self.out_channels);
        let w = &self.w[tap * size..(tap + 1) * size];
        let n = columns.len();
        if !self.transposed {
            for (row, to) in w.chunks_exact(o).zip(to.chunks_exact_mut(width)) {
                to[..n].copy_from_slice(&row[columns.clone()]);
                to[n..].fill(0.0);
            }
            return;
        }
        if n < width {
            to.chunks_exact_mut(width).for_each(|to| to[n..].fill(0.0));
        }
        transpose(&w[columns.start * o..columns.end * o], o, to, width);
    }
}

/// to[c][r] = from[r][c] for all rows of `from` (of `from_step` numbers), rows of `to` being
/// `to_step`.
pub(super) fn transpose(from: &[f32], from_step: usize, to: &mut [f32], to_step: usize) {
    const SIDE: usize = 4;
    let (rows, columns) = (from.len() / from_step, from_step);
    let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
    for r in (0..whole_rows).step_by(SIDE) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| &from[(r + i) * from_step..(r + i + 1) * from_step]);
        let quads = a.chunks_exact(SIDE).zip(b.chunks_exact(SIDE)).zip(c.chunks_exact(SIDE));
        for (k, (((a, b), c), d)) in quads.zip(d.chunks_exact(SIDE)).enumerate() {
            let to = &mut to[k * SIDE * to_step + r..];
            for j in 0..SIDE {
                to[j * to_step..j * to_step + SIDE].copy_from_slice(&[a[j], b[j], c[j], d[j]]);
            }
        }
    }
    for r in 0..rows {
        let first = if r < whole_rows { whole_columns } else { 0 };
        for c in first..columns {
            to[c * to_step + r] = from[r * from_step + c];
        }
    }
}
