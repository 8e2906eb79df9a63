//! Forward pass and input gradient by [`winograd`](super::winograd).
//!
//! Blocks of a few dozen tiles are transformed, multiplied by the transformed weights (36 products
//! of tiles × I by I × O, one panel of O at a time) and transformed back while they are in the
//! level-two cache. The input gradient of a stride-1 convolution is the convolution of dy with the
//! weights turned by half a turn and transposed; that of stride 2 has tiles of its own.

use super::Conv;
use super::pack::{Panels, Weights};
use super::simd::{Job, Simd};
use super::tile::{self, Rows};
use super::winograd::{POINTS, Scheme, Source, Transform, both, copies};
use super::winograd_output::{OutputPixels, Whole};
use super::winograd_tiles::{Image, Layout, Pace, Points, Tiles, spread, store_words};
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
    /// Tiles of `side`² points in a block: whole register blocks, more where many weights are read;
    /// a few blocks are made an even number, for two threads to share.
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

/// One row of a packed panel, a vector of its columns at each of the nine taps.
struct Taps {
    /// The first tap's; the others follow at this distance.
    first: *const f32,
    step: usize,
}

impl Source for Taps {
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, row: usize, column: usize) -> S::Vector {
        // SAFETY: the caller's.
        unsafe { S::load(self.first.add((row * 3 + column) * self.step)) }
    }
}

impl<T: Transform<3, POINTS>> Job for TransformWeights<T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let step = self.depth * self.width;
        let taps =
            |row: usize, at: usize| Taps { first: self.taps.wrapping_add(row * self.width + at), step };
        for row in (0..self.depth).step_by(S::PACK) {
            for at in (0..self.width).step_by(S::LANES) {
                let to = self.to.wrapping_add(row / S::PACK * self.width + at);
                // SAFETY: `pass` lends nine packed taps and room for 36 points of this size; the
                // local squares hold as many vectors.
                unsafe {
                    if S::PACK == 1 {
                        both::<S, T, 3, POINTS>(
                            &taps(row, at),
                            &Points { at: to, layout: &self.layout },
                            POINTS,
                        );
                        continue;
                    }
                    let mut points = [[[S::splat(0.0); POINTS]; POINTS]; 2];
                    let square = Layout { side: POINTS, row: POINTS * S::LANES, column: S::LANES, tile: 0 };
                    // Zeros behind the last row.
                    for (row, points) in (row..self.depth).zip(&mut points) {
                        let to = Points { at: points.as_mut_ptr().cast(), layout: &square };
                        both::<S, T, 3, POINTS>(&taps(row, at), &to, POINTS);
                    }
                    store_words::<S, POINTS>(&points, to, &self.layout);
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

/// Offsets of all (tile point, tile) that weight points share, seen from the first of them: four
/// lists, for a weight point that has `many` tile points in neither direction, across, down, in
/// both.
fn offsets(to: &mut Vec<usize>, layout: &Layout, tiles: usize, many: usize) {
    to.clear();
    for (down, across) in [(1, 1), (1, many), (many, 1), (many, many)] {
        for (r, c) in (0..down).flat_map(|r| (0..across).map(move |c| (r, c))) {
            to.extend((0..tiles).map(|t| layout.point(r, c) + t * layout.tile));
        }
    }
}

impl<F: Scheme<IN, SPREAD, OUT>, const IN: usize, const SPREAD: usize, const OUT: usize>
    Block<'_, F, IN, SPREAD, OUT>
{
    /// The block's tiles, transformed into v.
    ///
    /// # Safety
    /// As for the job.
    #[inline(always)]
    unsafe fn transform_input<S: Simd>(&self, layout: &Layout) {
        let (p, tiles) = (self.p, self.p.tiles(OUT));
        for (at, t) in self.tiles.clone().enumerate() {
            let [image, row, column] = tiles.place(t);
            let [y, x] = [row, column].map(|n| (n * F::STEP) as isize - p.shift as isize);
            let window = self.x.window::<IN>(image, y, x, self.zeros);
            let to = self.v.wrapping_add(at * layout.tile);
            // SAFETY: window pointers lie in the image or at a pixel of zeros; v holds the block.
            unsafe { spread::<S, F::Input, IN, SPREAD>(&window, 0..p.input[2], to, layout) };
        }
    }

    /// The products of one panel in m, transformed back into the `columns` of y.
    ///
    /// # Safety
    /// As for the job; m holds all products.
    #[inline(always)]
    unsafe fn transform_output<S: Simd>(&self, layout: &Layout, columns: std::ops::Range<usize>) {
        let (p, tiles) = (self.p, self.p.tiles(OUT));
        for (at, t) in self.tiles.clone().enumerate() {
            for v in (0..columns.len()).step_by(S::LANES) {
                let m = Points { at: self.m.wrapping_add(at * layout.tile + v), layout };
                let to =
                    OutputPixels::of::<OUT>(p.output, self.y, tiles.place(t), columns.start + v..columns.end);
                let whole = to.columns == OUT && to.left >= S::LANES;
                // SAFETY: m holds all points of this tile; `to` are pixels of this tile only.
                unsafe {
                    if whole {
                        both::<S, F::Output, SPREAD, OUT>(&m, &Whole(&to), to.rows);
                    } else {
                        both::<S, F::Output, SPREAD, OUT>(&m, &to, to.rows);
                    }
                };
            }
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
        // SAFETY: the caller's.
        unsafe { self.transform_input::<S>(&v_layout) };
        let next = count.min(tiles.count() - self.tiles.end);
        let [height, width, channels] = p.output;
        let y = Image { data: self.y.at(0), height, width, channels };
        let many = SPREAD - POINTS + 1;
        offsets(self.rows, &v_layout, count, many);
        offsets(self.outs, &m_layout, count, many);
        let weight_layout = p.weight_layout::<S>();
        for n in 0..panels.count() {
            let (columns, width) = (panels.range(n), panels.width(n));
            let (mut written, mut read) = (Pace::over(POINTS * POINTS), Pace::over(POINTS * POINTS));
            for point in 0..POINTS * POINTS {
                let (row, column) = (point / POINTS, point % POINTS);
                // Memory is asked for beside the products: the pixels that this panel will be
                // written to, and, beside the first panel, those of the tiles of the next block.
                for t in written.next(count) {
                    let place = tiles.place(self.tiles.start + t);
                    // SAFETY: hints only.
                    unsafe { y.fetch::<S, true>(place, OUT, columns.clone()) };
                }
                for t in read.next(if n == 0 { next } else { 0 }) {
                    let place = tiles.place(self.tiles.end + t);
                    // SAFETY: hints only.
                    unsafe { self.x.fetch::<S, false>(place, F::STEP, 0..p.input[2]) };
                }
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
            // SAFETY: the products of this panel are whole.
            unsafe { self.transform_output::<S>(&m_layout, columns) };
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
    let transformed = Shared::new(aligned(scratch));
    // SAFETY: the caller vouches for `S`; the scratch has room for all panels.
    unsafe { transform_weights::<S, F::Weight>(p, weights, transformed) };
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

/// Transforms the weights of all panels by T.
///
/// # Safety
/// The CPU has `S`; `transformed` has room for all panels.
unsafe fn transform_weights<S: Simd, T: Transform<3, POINTS>>(
    p: &Pass,
    weights: Weights,
    transformed: Shared,
) {
    let panels = p.panels::<S>();
    let layout = p.weight_layout::<S>();
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
            let job = TransformWeights::<T> { taps, depth, width, to, layout, by: PhantomData };
            // SAFETY: the caller vouches for `S`; panel n's own part of the scratch.
            unsafe { S::enter(job) };
        });
    };
    if depth * p.output[2] > 1 << 11 {
        for_each(panels.count(), transform);
    } else {
        (0..panels.count()).for_each(transform);
    }
}
