//! Where a pass by [`winograd`](super::winograd) writes a tile of its output.

use super::simd::Simd;
use super::winograd::Sink;
use super::work::Shared;

/// The pixels of a tile that lie inside the image, one vector of channels or the first `left`.
pub(super) struct OutputPixels {
    at: *mut f32,
    /// Distance of rows, of pixels.
    steps: [usize; 2],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) left: usize,
}

impl OutputPixels {
    /// Those of the tile at this image, row and column of tiles of OUT² pixels, in an output of
    /// this height, width and depth.
    #[inline(always)]
    pub(super) fn of<const OUT: usize>(
        [height, width, depth]: [usize; 3],
        y: Shared,
        [image, row, column]: [usize; 3],
        channels: std::ops::Range<usize>,
    ) -> Self {
        let (row, column) = (row * OUT, column * OUT);
        OutputPixels {
            at: y.at(((image * height + row) * width + column) * depth + channels.start),
            steps: [width * depth, depth],
            rows: (height - row).min(OUT),
            columns: (width - column).min(OUT),
            left: channels.len(),
        }
    }
}

impl Sink for OutputPixels {
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector) {
        if column >= self.columns {
            return;
        }
        let to = self.at.wrapping_add(row * self.steps[0] + column * self.steps[1]);
        // SAFETY: the pixel lies inside the image, and has the channels that are left.
        unsafe {
            if self.left >= S::LANES { S::store(to, value) } else { S::store_first(to, value, self.left) }
        };
    }
}

/// The same, for pixels that all lie inside and a whole vector of channels.
pub(super) struct Whole<'a>(pub(super) &'a OutputPixels);

impl Sink for Whole<'_> {
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector) {
        // SAFETY: as for `OutputPixels`.
        unsafe { S::store(self.0.at.add(row * self.0.steps[0] + column * self.0.steps[1]), value) };
    }
}
