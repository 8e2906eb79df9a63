//! Images in tiles, and where transformed tiles lie.

use super::simd::Simd;
use super::winograd::{POINTS, Sink, Source, Transform, both};

/// Where transformed tiles lie: (rows of points, tiles, columns of points, channels). A few streams
/// of contiguous numbers keep both the writes of one tile and the reads of one point within few
/// pages.
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
    /// For `tiles` tiles of `side`² points and `channels` numbers (or words) at each, in whole
    /// lines. The extra line between tiles keeps their channels out of each other's cache sets.
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

/// The points of one tile, whole vectors.
pub(super) struct Points<'a> {
    pub at: *mut f32,
    pub layout: &'a Layout,
}

impl Source for Points<'_> {
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, row: usize, column: usize) -> S::Vector {
        // SAFETY: the caller's.
        unsafe { S::load(self.at.add(self.layout.point(row, column))) }
    }
}

impl Sink for Points<'_> {
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector) {
        // SAFETY: the caller's.
        unsafe { S::store(self.at.add(self.layout.point(row, column)), value) };
    }
}

/// The same, with neighbouring numbers in a word.
struct Words<'a>(Points<'a>);

impl Sink for Words<'_> {
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector) {
        let Points { at, layout } = self.0;
        // SAFETY: the caller's.
        unsafe { S::store_words(at.add(layout.point(row, column)), value) };
    }
}

/// Numbers in a cache line.
const LINE: usize = 16;

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
        // Divisions of 32 bits take a third of the time. Each tile has a pixel of its own in the
        // output, of 64 bytes at least: 2³² of them would be 256 GiB.
        let [t, down, across] = [t, self.down, self.across].map(|n| n as u32);
        let (row, column) = (t / across, t % across);
        [row / down, row % down, column].map(|n| n as usize)
    }
}

/// Hands out tasks over a number of steps as evenly as it goes, without divisions.
pub(super) struct Pace {
    steps: usize,
    owed: usize,
    done: usize,
}

impl Pace {
    pub(super) fn over(steps: usize) -> Self {
        Pace { steps, owed: 0, done: 0 }
    }
    /// The tasks of the next step, of `tasks` in all.
    #[inline(always)]
    pub(super) fn next(&mut self, tasks: usize) -> std::ops::Range<usize> {
        let first = self.done;
        self.owed += tasks;
        while self.owed >= self.steps {
            self.owed -= self.steps;
            self.done += 1;
        }
        first..self.done
    }
}

impl Image {
    /// Pointers to the pixels of the N×N window from (y, x) on; `zeros` for those outside the
    /// image.
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

impl Image {
    /// Asks for channels `channels` of a tile of `side`² pixels, so that they come from farther
    /// caches while something else is computed.
    ///
    /// # Safety
    /// The CPU has `S`.
    #[inline(always)]
    pub(super) unsafe fn fetch<S: Simd, const WRITE: bool>(
        &self,
        [image, row, column]: [usize; 3],
        side: usize,
        channels: std::ops::Range<usize>,
    ) {
        let columns = side.min(self.width - self.width.min(column * side));
        let rows = row * side..self.height.min((row + 1) * side);
        for y in rows {
            let first = ((image * self.height + y) * self.width + column * side) * self.channels;
            for x in 0..columns {
                let pixel = self.data.wrapping_add(first + x * self.channels);
                for line in channels.clone().step_by(LINE) {
                    // SAFETY: a hint only.
                    unsafe { S::fetch::<WRITE>(pixel.wrapping_add(line)) };
                }
            }
        }
    }
}

/// Where a window's pixels lie.
pub(super) type Window<const N: usize> = [[*const f32; N]; N];

/// Channels of a window's pixels from `at` on: a whole vector, or the first `left`.
struct Pixels<'a, const N: usize, const WHOLE: bool> {
    window: &'a Window<N>,
    at: usize,
    left: usize,
}

impl<const N: usize, const WHOLE: bool> Source for Pixels<'_, N, WHOLE> {
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, row: usize, column: usize) -> S::Vector {
        // SAFETY: `both` stays inside N × N; the pixel is readable for these channels.
        unsafe {
            let from = self.window.get_unchecked(row).get_unchecked(column).add(self.at);
            if WHOLE { S::load(from) } else { S::load_first(from, self.left) }
        }
    }
}

/// The transform of channels `at`.. of a window, as many as fit a vector, to `to`.
///
/// # Safety
/// Every pointer of the window is readable for `left` channels from `at` on; the CPU has `S`.
#[inline(always)]
unsafe fn transform<S: Simd, T: Transform<N, M>, const N: usize, const M: usize>(
    window: &Window<N>,
    at: usize,
    left: usize,
    to: &impl Sink,
) {
    // SAFETY: passed on.
    unsafe {
        if left >= S::LANES {
            both::<S, T, N, M>(&Pixels::<N, true> { window, at, left }, to, M);
        } else {
            both::<S, T, N, M>(&Pixels::<N, false> { window, at, left }, to, M);
        }
    }
}

/// Stores two squares of points as one of words.
///
/// # Safety
/// `to` is writable for a whole vector at each point; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn store_words<S: Simd, const M: usize>(
    [first, second]: &[[[S::Vector; M]; M]; 2],
    to: *mut f32,
    layout: &Layout,
) {
    let points = first.as_flattened().iter().zip(second.as_flattened());
    for (place, (first, second)) in points.enumerate() {
        // SAFETY: passed on.
        unsafe { S::store(to.add(layout.point(place / M, place % M)), S::words(*first, *second)) };
    }
}

/// Transforms channels `channels` of a window and writes the points of a tile to `to`, whole
/// vectors, with neighbouring channels in a word.
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
            let to = Words(Points { at: to.add((at - channels.start) / S::PACK), layout });
            transform::<S, T, N, M>(window, at, channels.end - at, &to);
        }
    }
}

/// The same for as many tiles as a word has numbers, which share words; the last of `windows` may
/// be missing.
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
        let left = channels.end - at;
        let to = to.wrapping_add(at - channels.start);
        // SAFETY: passed on; `at` stays below the range's end, and the local squares hold M × M
        // vectors.
        unsafe {
            if S::PACK == 1 {
                if let Some(window) = &windows[0] {
                    transform::<S, T, N, M>(window, at, left, &Points { at: to, layout });
                }
                continue;
            }
            let mut points = [[[S::splat(0.0); M]; M]; 2];
            let square = Layout { side: M, row: M * S::LANES, column: S::LANES, tile: 0 };
            for (window, points) in windows.iter().zip(&mut points) {
                if let Some(window) = window {
                    let to = Points { at: points.as_mut_ptr().cast(), layout: &square };
                    transform::<S, T, N, M>(window, at, left, &to);
                }
            }
            store_words::<S, M>(&points, to, layout);
        }
    }
}
