//! Images in tiles, and where transformed tiles lie.

use super::simd::Simd;
use super::winograd::{POINTS, Transform, both};

/// Where transformed tiles lie: (rows of points, tiles, columns of points, channels). A few streams of
/// contiguous numbers keep both the writes of one tile and the reads of one point within few pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Rows of points.
    pub side: usize,
    /// Distance of rows of points, of columns of points, of tiles.
    pub row: usize,
    pub column: usize,
    pub tile: usize,
}

impl Layout {
    /// For `tiles` tiles of `side`² points and `channels` numbers (or words) at each, in whole lines. The extra line between
    /// tiles keeps their channels out of each other's cache sets.
    pub(super) fn new(side: usize, tiles: usize, channels: usize) -> Self {
        let column = channels.next_multiple_of(16);
        let tile = side * column + 16;
        Layout { side, row: tiles * tile + 16, column, tile }
    }
    /// For one block of `len` numbers at each weight point.
    pub(super) fn of_weights(len: usize) -> Self {
        Layout { side: POINTS, row: POINTS * len, column: len, tile: 0 }
    }
    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        self.side * self.row
    }
    /// Offset of a point of the first tile.
    pub(super) fn point(&self, row: usize, column: usize) -> usize {
        row * self.row + column * self.column
    }
}

/// The numbers, a vector each, at the points of one tile.
///
/// # Safety
/// They are readable; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn load_points<S: Simd, const N: usize>(
    from: *const f32,
    layout: &Layout,
) -> [[S::Vector; N]; N] {
    // SAFETY: passed on.
    unsafe {
        let mut points = [[S::splat(0.0); N]; N];
        for (r, points) in points.iter_mut().enumerate() {
            for (c, point) in points.iter_mut().enumerate() {
                *point = S::load(from.add(layout.point(r, c)));
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
pub(super) unsafe fn store_points<S: Simd, const N: usize>(
    points: [[S::Vector; N]; N],
    to: *mut f32,
    layout: &Layout,
) {
    for (r, points) in points.iter().enumerate() {
        for (c, point) in points.iter().enumerate() {
            // SAFETY: passed on.
            unsafe { S::store(to.add(layout.point(r, c)), *point) };
        }
    }
}

/// Images out of which windows are cut: (batch, height, width, channels).
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
    /// Tiles of `side`² pixels.
    pub(super) fn new(batch: usize, height: usize, width: usize, side: usize) -> Self {
        Tiles { batch, down: height.div_ceil(side), across: width.div_ceil(side) }
    }
    pub(super) fn count(self) -> usize {
        self.batch * self.down * self.across
    }
    /// Image, row and column of tile `t`, counted in tiles.
    pub(super) fn place(self, t: usize) -> [usize; 3] {
        let (row, column) = (t / self.across, t % self.across);
        [row / self.down, row % self.down, column]
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
    ) -> Window<N> {
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

/// Where a window's pixels lie.
pub(super) type Window<const N: usize> = [[*const f32; N]; N];

/// The transform of channels `at`.. of a window, as many as fit a vector.
///
/// # Safety
/// Every pointer of the window is readable for `left` channels from `at` on; the CPU has `S`.
#[inline(always)]
unsafe fn transformed<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    window: &Window<N>,
    at: usize,
    left: usize,
) -> [[S::Vector; M]; M] {
    // SAFETY: passed on.
    unsafe {
        let mut d = [[S::splat(0.0); N]; N];
        for (d, from) in d.as_flattened_mut().iter_mut().zip(window.as_flattened()) {
            let from = from.add(at);
            *d = if left >= S::LANES { S::load(from) } else { S::load_first(from, left) };
        }
        both::<S, T, N, M>(&d)
    }
}

/// Transforms channels `channels` of a window and writes the points of a tile to `to`, whole vectors, with
/// neighbouring channels in a word.
///
/// # Safety
/// Every pointer of the window is readable for the channels; `to` writable for all points and the
/// channels rounded up to whole vectors; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn spread<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    window: &Window<N>,
    channels: std::ops::Range<usize>,
    to: *mut f32,
    layout: &Layout,
) {
    for at in channels.clone().step_by(S::LANES) {
        // SAFETY: passed on; `at` stays below the range's end.
        unsafe {
            let points = transformed::<S, T, N, M>(window, at, channels.end - at);
            let to = to.add((at - channels.start) / S::PACK);
            for (r, points) in points.iter().enumerate() {
                for (c, point) in points.iter().enumerate() {
                    S::store_words(to.add(layout.point(r, c)), *point);
                }
            }
        }
    }
}

/// The same for as many tiles as a word has numbers, which share words; the last of `windows` may be
/// missing.
///
/// # Safety
/// As for [`spread`], of every window.
#[inline(always)]
pub(super) unsafe fn spread_tiles<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    windows: [Option<Window<N>>; 2],
    channels: std::ops::Range<usize>,
    to: *mut f32,
    layout: &Layout,
) {
    for at in channels.clone().step_by(S::LANES) {
        // SAFETY: passed on; `at` stays below the range's end.
        unsafe {
            let mut points = [[S::splat(0.0); M]; M];
            let mut second = points;
            for (window, points) in windows.iter().zip([&mut points, &mut second]).take(S::PACK) {
                if let Some(window) = window {
                    *points = transformed::<S, T, N, M>(window, at, channels.end - at);
                }
            }
            for (points, second) in points.as_flattened_mut().iter_mut().zip(second.as_flattened()) {
                *points = S::words(*points, *second);
            }
            store_points::<S, M>(points, to.add(at - channels.start), layout);
        }
    }
}
