//! Forward pass and input gradient by [`winograd`](super::winograd).
//!
//! Blocks of a few dozen tiles are transformed, multiplied by the transformed weights (36 products of
//! tiles × I by I × O, one panel of O at a time) and transformed back while they are in the level-two
//! cache. The input gradient of a stride-1 convolution is the convolution of dy with the weights
//! turned by half a turn and transposed; that of stride 2 has tiles of its own.

use super::Conv;
use super::pack::{Panels, Weights};
use super::simd::{Job, Simd};
use super::tile::{self, Rows};
use super::winograd::{POINTS, Scheme, Transform, both, copies};
use super::winograd_tiles::{Image, Layout, Tiles, load_points, spread, store_points};
use super::work::{ALIGNMENT, Shared, Workspace, aligned, for_each, with_workspace};
use std::marker::PhantomData;

/// A 3×3 pass of stride 1 or 2: forward, or the input gradient as a convolution of dy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    batch: usize,
    /// Height, width, channels.
    input: [usize; 3],
    output: [usize; 3],
    /// How far the window of the first tile begins outside the input.
    shift: usize,
    /// Whether tap t uses weight matrix 8 − t, transposed.
    gradient: bool,
}

impl Pass {
    pub(super) fn forward(s: &Conv) -> Self {
        Pass {
            batch: s.batch,
            input: [s.height, s.width, s.in_channels],
            output: [s.out_height(), s.out_width(), s.out_channels],
            shift: s.padding,
            gradient: false,
        }
    }
    /// Needs padding ≤ 2 at stride 1, padding 1 at stride 2.
    pub(super) fn input_gradient(s: &Conv) -> Self {
        let forward = Self::forward(s);
        Pass {
            input: forward.output,
            output: forward.input,
            shift: if s.stride == 1 { 2 - s.padding } else { 0 },
            gradient: true,
            ..forward
        }
    }
    fn tiles(&self, side: usize) -> Tiles {
        Tiles::new(self.batch, self.output[0], self.output[1], side)
    }
    fn panels<S: Simd>(&self) -> Panels {
        Panels { columns: self.output[2], lanes: S::LANES }
    }
    /// Tiles of `side`² points in a block: whole register blocks, more where many weights are read; a few
    /// blocks are made an even number, for two threads to share.
    fn block<S: Simd>(&self, side: usize, out: usize) -> usize {
        let tiles = if self.input[2] * self.output[2] > 1 << 16 { 64 } else { 24 };
        let wanted = (tiles * POINTS * POINTS / (side * side)).next_multiple_of(S::ROWS);
        let count = self.tiles(out).count();
        match count.div_ceil(wanted) {
            blocks @ ..16 => count.div_ceil(blocks.next_multiple_of(2)),
            _ => wanted,
        }
    }
    /// Words in which the channels of a pixel lie.
    fn words<S: Simd>(&self) -> usize {
        self.input[2].div_ceil(S::PACK)
    }
    /// Where a panel of transformed weights lies.
    fn weight_layout<S: Simd>(&self) -> Layout {
        Layout::of_weights(self.words::<S>() * 2 * S::LANES + 16)
    }
    /// Where the transformed input of a block lies, and the products with one panel.
    fn layouts<S: Simd>(&self, side: usize, out: usize) -> [Layout; 2] {
        [self.words::<S>(), 2 * S::LANES]
            .map(|channels| Layout::new(side, self.block::<S>(side, out), channels))
    }
}

/// Numbers of scratch that [`pass`] needs: the transformed weights.
pub(super) fn scratch<S: Simd>(p: &Pass) -> usize {
    p.panels::<S>().count() * p.weight_layout::<S>().len() + ALIGNMENT
}

/// The transformed weights of one panel, by the transform T.
struct TransformWeights<T> {
    /// (9, I, width), packed.
    taps: *const f32,
    depth: usize,
    width: usize,
    to: *mut f32,
    layout: Layout,
    by: PhantomData<T>,
}

impl<T: Transform<3, POINTS>> TransformWeights<T> {
    /// The points of one row of the panel, from column `at` on; zeros behind the last row.
    ///
    /// # Safety
    /// Nine taps of depth × width numbers are readable; the CPU has `S`.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, row: usize, at: usize) -> [[S::Vector; POINTS]; POINTS] {
        // SAFETY: the caller's, for rows below `depth`.
        unsafe {
            let mut w = [[S::splat(0.0); 3]; 3];
            for (r, w) in w.iter_mut().enumerate().filter(|_| row < self.depth) {
                for (c, w) in w.iter_mut().enumerate() {
                    *w = S::load(self.taps.add(((r * 3 + c) * self.depth + row) * self.width + at));
                }
            }
            both::<S, T, 3, POINTS>(&w)
        }
    }
}

impl<T: Transform<3, POINTS>> Job for TransformWeights<T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in (0..self.depth).step_by(S::PACK) {
            for at in (0..self.width).step_by(S::LANES) {
                // SAFETY: `pass` lends nine packed taps and room for 36 points of this size.
                unsafe {
                    let mut points = self.row::<S>(row, at);
                    if S::PACK > 1 {
                        let second = self.row::<S>(row + 1, at);
                        for (first, second) in points.as_flattened_mut().iter_mut().zip(second.as_flattened())
                        {
                            *first = S::words(*first, *second);
                        }
                    }
                    let to = self.to.add(row / S::PACK * self.width + at);
                    store_points::<S, POINTS>(points, to, &self.layout);
                }
            }
        }
    }
}

/// One block of tiles, all panels, by the scheme F.
struct Block<'a, F, const IN: usize, const SPREAD: usize, const OUT: usize> {
    p: &'a Pass,
    x: Image,
    weights: *const f32,
    y: Shared,
    tiles: std::ops::Range<usize>,
    /// Buffers: transformed input, products, zeros for a pixel.
    v: *mut f32,
    m: *mut f32,
    zeros: *const f32,
    rows: &'a mut Vec<usize>,
    outs: &'a mut Vec<usize>,
    by: PhantomData<F>,
}

/// Sizes of the buffers of a block: transformed input, products, zeros.
fn buffers<S: Simd>(p: &Pass, side: usize, out: usize) -> [usize; 3] {
    let [v, m] = p.layouts::<S>(side, out);
    [v.len(), m.len(), p.input[2].next_multiple_of(16)]
}

/// Offsets of all (tile point, tile) that weight points share, seen from the first of them: four lists,
/// for a weight point that has `many` tile points in neither direction, across, down, in both.
fn offsets(to: &mut Vec<usize>, layout: &Layout, tiles: usize, many: usize) {
    to.clear();
    for (down, across) in [(1, 1), (1, many), (many, 1), (many, many)] {
        for (r, c) in (0..down).flat_map(|r| (0..across).map(move |c| (r, c))) {
            to.extend((0..tiles).map(|t| layout.point(r, c) + t * layout.tile));
        }
    }
}

impl<F: Scheme<IN, SPREAD, OUT>, const IN: usize, const SPREAD: usize, const OUT: usize> Job
    for Block<'_, F, IN, SPREAD, OUT>
{
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (p, count) = (self.p, self.tiles.len());
        let (tiles, panels) = (p.tiles(OUT), p.panels::<S>());
        let [v_layout, m_layout] = p.layouts::<S>(SPREAD, OUT);
        for (at, t) in self.tiles.clone().enumerate() {
            let [image, row, column] = tiles.place(t);
            let [y, x] = [row, column].map(|n| (n * F::STEP) as isize - p.shift as isize);
            let window = self.x.window::<IN>(image, y, x, self.zeros);
            let to = self.v.wrapping_add(at * v_layout.tile);
            // SAFETY: window pointers lie in the image or at a pixel of zeros; v holds the block.
            unsafe { spread::<S, F::Input, IN, SPREAD>(&window, 0..p.input[2], to, &v_layout) };
        }
        let many = SPREAD - POINTS + 1;
        offsets(self.rows, &v_layout, count, many);
        offsets(self.outs, &m_layout, count, many);
        let weight_layout = p.weight_layout::<S>();
        for n in 0..panels.count() {
            let (columns, width) = (panels.range(n), panels.width(n));
            for (row, column) in (0..POINTS).flat_map(|row| (0..POINTS).map(move |column| (row, column))) {
                let at = n * weight_layout.len() + weight_layout.point(row, column);
                let b = self.weights.wrapping_add(at);
                let a = self.v.wrapping_add(v_layout.point(row, column));
                let c = self.m.wrapping_add(m_layout.point(row, column));
                let (down, across) = (copies(row, SPREAD).len(), copies(column, SPREAD).len());
                let first = match (down > 1, across > 1) {
                    (false, false) => 0,
                    (false, true) => 1,
                    (true, false) => 1 + many,
                    (true, true) => 1 + 2 * many,
                };
                let list = first * count..(first + down * across) * count;
                let (rows, outs) = (&self.rows[list.clone()], &self.outs[list]);
                for (rows, outs) in rows.chunks(S::ROWS).zip(outs.chunks(S::ROWS)) {
                    let len = p.words::<S>();
                    let block = Rows { a, rows, runs: &[0], len, b, c, outs, columns: width };
                    // SAFETY: v and m hold the block, the weights the panel.
                    unsafe { tile::rows::<S>(block) };
                }
            }
            for (at, t) in self.tiles.clone().enumerate() {
                for v in (0..columns.len()).step_by(S::LANES) {
                    let m = self.m.wrapping_add(at * m_layout.tile + v);
                    let channels = columns.start + v..columns.end;
                    // SAFETY: m holds all points of this tile; `put` writes pixels of this tile only.
                    unsafe {
                        let done = both::<S, F::Output, SPREAD, OUT>(&load_points::<S, SPREAD>(m, &m_layout));
                        put::<S, OUT>(p, self.y, tiles.place(t), channels, &done);
                    };
                }
            }
        }
    }
}

/// Writes one vector of channels to the pixels of its tile.
#[inline(always)]
unsafe fn put<S: Simd, const OUT: usize>(
    p: &Pass,
    y: Shared,
    [image, row, column]: [usize; 3],
    channels: std::ops::Range<usize>,
    done: &[[S::Vector; OUT]; OUT],
) {
    let [height, width, depth] = p.output;
    let (row, column) = (row * OUT, column * OUT);
    let left = channels.len();
    let (rows, columns) = ((height - row).min(OUT), (width - column).min(OUT));
    for (r, done) in done.iter().enumerate().take(rows) {
        let to = y.at(((image * height + row + r) * width + column) * depth + channels.start);
        for (c, value) in done.iter().enumerate().take(columns) {
            // SAFETY: pixels and channels were just cut to the image's.
            unsafe {
                if left >= S::LANES {
                    S::store(to.add(c * depth), *value);
                } else {
                    S::store_first(to.add(c * depth), *value, left);
                }
            }
        }
    }
}

/// Computes the pass by the scheme F from `x` (dy for the input gradient) into all of `y` (dx).
///
/// # Safety
/// The CPU has `S`; the slices have the lengths of the pass's shape.
pub(super) unsafe fn pass<
    S: Simd,
    F: Scheme<IN, SPREAD, OUT>,
    const IN: usize,
    const SPREAD: usize,
    const OUT: usize,
>(
    p: &Pass,
    x: &[f32],
    weights: Weights,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(scratch.len() >= self::scratch::<S>(p), "scratch of {p:?}");
    let panels = p.panels::<S>();
    let layout = p.weight_layout::<S>();
    let transformed = Shared::new(aligned(scratch));
    let depth = p.input[2];
    let transform = |n: usize| {
        with_workspace(|space| {
            let width = panels.width(n);
            let taps = Workspace::floats(space, 9 * depth * width);
            // SAFETY: the buffer has that size and is this thread's own.
            let packed = unsafe { std::slice::from_raw_parts_mut(taps, 9 * depth * width) };
            for (tap, to) in packed.chunks_exact_mut(depth * width).enumerate() {
                let tap = if p.gradient { 8 - tap } else { tap };
                weights.pack(tap, panels.range(n), width, to);
            }
            let to = transformed.at(n * layout.len());
            let job = TransformWeights::<F::Weight> { taps, depth, width, to, layout, by: PhantomData };
            // SAFETY: the caller vouches for `S`; panel n's own part of the scratch.
            unsafe { S::enter(job) };
        });
    };
    if depth * p.output[2] > 1 << 11 {
        for_each(panels.count(), transform);
    } else {
        (0..panels.count()).for_each(transform);
    }
    let [v_len, m_len, zeros_len] = buffers::<S>(p, SPREAD, OUT);
    let block = p.block::<S>(SPREAD, OUT);
    let tiles = p.tiles(OUT).count();
    let y = Shared::new(y);
    let [height, width, channels] = p.input;
    let data = Shared::new_at(x.as_ptr().cast_mut());
    for_each(tiles.div_ceil(block), |task| {
        with_workspace(|space| {
            let v = Workspace::floats(space, v_len + m_len + zeros_len);
            let m = v.wrapping_add(v_len);
            let zeros = m.wrapping_add(m_len);
            // SAFETY: the buffer's last part, this thread's own.
            unsafe { std::slice::from_raw_parts_mut(zeros, zeros_len) }.fill(0.0);
            let job = Block::<F, IN, SPREAD, OUT> {
                p,
                x: Image { data: data.at(0), height, width, channels },
                weights: transformed.at(0),
                y,
                tiles: task * block..tiles.min((task + 1) * block),
                v,
                m,
                zeros,
                rows: &mut space.rows,
                outs: &mut space.outs,
                by: PhantomData,
            };
            // SAFETY: the caller vouches for `S`; tiles are disjoint pixels of y.
            unsafe { S::enter(job) };
        });
    });
}
