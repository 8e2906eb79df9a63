//! Forward pass and input gradient by [`winograd`](super::winograd).
//!
//! Blocks of a few dozen tiles are transformed, multiplied by the transformed weights (36 products of
//! tiles × I by I × O, one panel of O at a time) and transformed back while they are in the level-two
//! cache. The input gradient of a stride-1 convolution is the convolution of dy with the weights
//! turned by half a turn and transposed.

use super::Conv;
use super::pack::{Panels, Weights};
use super::simd::{Job, Simd};
use super::tile::{self, Rows};
use super::winograd::{
    IN, Image, Input, Layout, OUT, Output, POINTS, Tiles, Weight, both, load_points, spread, store_points,
};
use super::work::{ALIGNMENT, Shared, Workspace, aligned, for_each, with_workspace};

/// A stride-1, 3×3 pass: forward, or the input gradient as a convolution of dy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    batch: usize,
    /// Height, width, channels.
    input: [usize; 3],
    output: [usize; 3],
    padding: usize,
    /// Whether tap t uses weight matrix 8 − t, transposed.
    gradient: bool,
}

impl Pass {
    pub(super) fn forward(s: &Conv) -> Self {
        Pass {
            batch: s.batch,
            input: [s.height, s.width, s.in_channels],
            output: [s.out_height(), s.out_width(), s.out_channels],
            padding: s.padding,
            gradient: false,
        }
    }
    /// Needs padding ≤ 2.
    pub(super) fn input_gradient(s: &Conv) -> Self {
        let forward = Self::forward(s);
        Pass {
            input: forward.output,
            output: forward.input,
            padding: 2 - s.padding,
            gradient: true,
            ..forward
        }
    }
    fn tiles(&self) -> Tiles {
        Tiles::new(self.batch, self.output[0], self.output[1])
    }
    fn panels<S: Simd>(&self) -> Panels {
        Panels { columns: self.output[2], lanes: S::LANES }
    }
    /// Tiles in a block: two register blocks, or enough to pay for reading many weights.
    fn block<S: Simd>(&self) -> usize {
        let wanted =
            if self.input[2] * self.output[2] > 1 << 16 { 64 } else { 24usize.next_multiple_of(S::ROWS) };
        wanted.min(self.tiles().count())
    }
    /// Where a panel of transformed weights lies.
    fn weight_layout<S: Simd>(&self) -> Layout {
        let column = self.input[2] * 2 * S::LANES + 16;
        Layout { row: IN * column, column, tile: 0 }
    }
    /// Where the transformed input of a block lies, and the products with one panel.
    fn layouts<S: Simd>(&self) -> [Layout; 2] {
        [self.input[2], 2 * S::LANES].map(|channels| Layout::new(self.block::<S>(), channels))
    }
}

/// Numbers of scratch that [`pass`] needs: the transformed weights.
pub(super) fn scratch<S: Simd>(p: &Pass) -> usize {
    p.panels::<S>().count() * p.weight_layout::<S>().len() + ALIGNMENT
}

/// The transformed weights of one panel.
struct TransformWeights {
    /// (9, I, width), packed.
    taps: *const f32,
    depth: usize,
    width: usize,
    to: *mut f32,
    layout: Layout,
}

impl Job for TransformWeights {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for at in (0..self.depth * self.width).step_by(S::LANES) {
            // SAFETY: `pass` lends nine packed taps and room for 36 points of this size.
            unsafe {
                let mut w = [[S::splat(0.0); 3]; 3];
                for (r, w) in w.iter_mut().enumerate() {
                    for (c, w) in w.iter_mut().enumerate() {
                        *w = S::load(self.taps.add((r * 3 + c) * self.depth * self.width + at));
                    }
                }
                store_points::<S>(both::<S, Weight, 3, IN>(&w), self.to.add(at), &self.layout);
            }
        }
    }
}

/// One block of tiles, all panels.
struct Block<'a> {
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
}

/// Sizes of the buffers of a block: transformed input, products, zeros.
fn buffers<S: Simd>(p: &Pass) -> [usize; 3] {
    let [v, m] = p.layouts::<S>();
    [v.len(), m.len(), p.input[2].next_multiple_of(16)]
}

impl Job for Block<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (p, count) = (self.p, self.tiles.len());
        let (tiles, panels) = (p.tiles(), p.panels::<S>());
        let [v_layout, m_layout] = p.layouts::<S>();
        for (at, t) in self.tiles.clone().enumerate() {
            let [image, y, x] = tiles.origin(t);
            let (y, x) = (y as isize - p.padding as isize, x as isize - p.padding as isize);
            let window = self.x.window::<IN>(image, y, x, self.zeros);
            let to = self.v.wrapping_add(at * v_layout.tile);
            // SAFETY: window pointers lie in the image or at a pixel of zeros; v holds the block.
            unsafe { spread::<S, Input, IN>(&window, 0..p.input[2], to, &v_layout) };
        }
        self.rows.clear();
        self.rows.extend((0..count).map(|t| t * v_layout.tile));
        let weight_layout = p.weight_layout::<S>();
        for n in 0..panels.count() {
            let (columns, width) = (panels.range(n), panels.width(n));
            self.outs.clear();
            self.outs.extend((0..count).map(|t| t * m_layout.tile));
            for point in 0..POINTS {
                let b = self.weights.wrapping_add(n * weight_layout.len() + weight_layout.point(point));
                let (a, c) =
                    (self.v.wrapping_add(v_layout.point(point)), self.m.wrapping_add(m_layout.point(point)));
                for (rows, outs) in self.rows.chunks(S::ROWS).zip(self.outs.chunks(S::ROWS)) {
                    let block = Rows { a, rows, runs: &[0], len: p.input[2], b, c, outs, columns: width };
                    // SAFETY: v and m hold the block, the weights the panel.
                    unsafe { tile::rows::<S>(block) };
                }
            }
            for (at, t) in self.tiles.clone().enumerate() {
                for v in (0..columns.len()).step_by(S::LANES) {
                    let m = self.m.wrapping_add(at * m_layout.tile + v);
                    // SAFETY: m holds 36 points of this tile; `put` writes pixels of this tile only.
                    unsafe {
                        put::<S>(p, self.y, tiles.origin(t), columns.start + v..columns.end, m, &m_layout)
                    };
                }
            }
        }
    }
}

/// Transforms one vector of products back and writes it to the pixels of its tile.
#[inline(always)]
unsafe fn put<S: Simd>(
    p: &Pass,
    y: Shared,
    [image, row, column]: [usize; 3],
    channels: std::ops::Range<usize>,
    m: *const f32,
    layout: &Layout,
) {
    let [height, width, depth] = p.output;
    // SAFETY: the caller vouches for m; pixels and channels are checked against the image.
    unsafe {
        let done = both::<S, Output, IN, OUT>(&load_points::<S>(m, layout));
        let left = channels.len();
        let (rows, columns) = ((height - row).min(OUT), (width - column).min(OUT));
        for (r, done) in done.iter().enumerate().take(rows) {
            let to = y.at(((image * height + row + r) * width + column) * depth + channels.start);
            for (c, value) in done.iter().enumerate().take(columns) {
                if left >= S::LANES {
                    S::store(to.add(c * depth), *value);
                } else {
                    S::store_first(to.add(c * depth), *value, left);
                }
            }
        }
    }
}

/// Computes the pass from `x` (dy for the input gradient) into all of `y` (dx).
///
/// # Safety
/// The CPU has `S`; the slices have the lengths of the pass's shape.
pub(super) unsafe fn pass<S: Simd>(
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
            let job = TransformWeights { taps, depth, width, to: transformed.at(n * layout.len()), layout };
            // SAFETY: the caller vouches for `S`; panel n's own part of the scratch.
            unsafe { S::enter(job) };
        });
    };
    if depth * p.output[2] > 1 << 11 {
        for_each(panels.count(), transform);
    } else {
        (0..panels.count()).for_each(transform);
    }
    let [v_len, m_len, zeros_len] = buffers::<S>(p);
    let block = p.block::<S>();
    let tiles = p.tiles().count();
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
            let job = Block {
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
            };
            // SAFETY: the caller vouches for `S`; tiles are disjoint pixels of y.
            unsafe { S::enter(job) };
        });
    });
}
