//! The weight gradient by [`winograd`](super::winograd).
//!
//! dw = Gᵀ[ Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G: tiles of x and of dy are transformed in blocks and 36
//! products I × tiles by tiles × O are added up; only the sums are transformed back to 3×3. A task
//! is a chunk of tiles and a group of I and of O channels, so that its sums stay in the level-two
//! cache; chunks are added in their order.

use super::Conv;
use super::simd::{Job, Simd};
use super::tile::{self, Outer};
use super::weight_gradient::add_in_order;
use super::winograd::{POINTS, Sink, WeightScheme, both, copies};
use super::winograd_tiles::{Image, Layout, Pace, Points, Tiles, spread_tiles};
use super::work::{ALIGNMENT, Shared, Workspace, aligned, for_each, piece, with_workspace};
use std::marker::PhantomData;

/// Most channels in a group.
const GROUP: usize = 128;
/// Side of the tiles of dy.
const OUT: usize = 4;
/// Tasks wanted, and most numbers in all partial sums together.
const TASKS: usize = 16;
const PARTIALS: usize = 1 << 21;

fn tiles(s: &Conv) -> Tiles {
    Tiles::new(s.batch, s.out_height(), s.out_width(), OUT)
}

/// Groups of input channels, of output channels, chunks of tiles.
fn cut(s: &Conv) -> [usize; 3] {
    let (i, o) = (s.in_channels.div_ceil(GROUP), s.out_channels.div_ceil(GROUP));
    let chunks = (TASKS / (i * o)).min(PARTIALS / s.weight_len()).min(tiles(s).count().div_ceil(64));
    [i, o, chunks.max(1)]
}

/// The `part`th of `parts` groups of channels, cut at whole lines.
fn group(channels: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    let lines = piece(channels.div_ceil(16), parts, part);
    lines.start * 16..channels.min(lines.end * 16)
}

/// Tiles of `side`² points in a block.
fn block(s: &Conv, side: usize) -> usize {
    let channels = s.in_channels.min(GROUP) + s.out_channels.min(GROUP);
    (4096 * POINTS * POINTS / (side * side * channels)).clamp(24, 64)
}

/// The task's tiles, group by group, by the scheme F.
struct Task<'a, F, const IN: usize, const SPREAD: usize> {
    s: &'a Conv,
    x: Image,
    dy: Image,
    tiles: std::ops::Range<usize>,
    in_channels: std::ops::Range<usize>,
    out_channels: std::ops::Range<usize>,
    /// Buffers: transformed x, transformed dy, sums, zeros for a pixel.
    v: *mut f32,
    z: *mut f32,
    sums: *mut f32,
    zeros: *const f32,
    /// The chunk's gradient, shaped as the weights.
    dw: Shared,
    by: PhantomData<F>,
}

/// Where the sums of a task lie.
fn sums_layout(i: usize, o: usize) -> Layout {
    Layout::of_weights(i * o.next_multiple_of(16) + 16)
}

/// Where a block of transformed tiles lies; as many tiles as a word has numbers share words.
fn layout<S: Simd>(s: &Conv, side: usize, channels: usize) -> Layout {
    Layout::new(side, block(s, side).div_ceil(S::PACK), channels)
}

/// Sizes of a task's buffers.
fn buffers<S: Simd>(s: &Conv, side: usize) -> [usize; 4] {
    let (i, o) = (s.in_channels.min(GROUP), s.out_channels.min(GROUP));
    let transformed = |channels| layout::<S>(s, side, channels).len();
    let zeros = s.in_channels.max(s.out_channels).next_multiple_of(16);
    [transformed(i), transformed(o), sums_layout(i, o).len(), zeros]
}

impl<F: WeightScheme<IN, SPREAD>, const IN: usize, const SPREAD: usize> Task<'_, F, IN, SPREAD> {
    /// A block of tiles: those of x transformed into v, those of dy into z.
    ///
    /// # Safety
    /// As for the job; the buffers have room for the block.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, block: std::ops::Range<usize>, v: &Layout, z: &Layout) {
        let (s, count) = (self.s, block.len());
        for at in (0..count).step_by(S::PACK) {
            let (mut dy, mut x) = ([None; 2], [None; 2]);
            for (n, (dy, x)) in dy.iter_mut().zip(&mut x).enumerate().take(S::PACK.min(count - at)) {
                let [image, row, column] = tiles(s).place(block.start + at + n);
                let [top, left] = [row, column].map(|n| (n * OUT) as isize);
                *dy = Some(self.dy.window::<OUT>(image, top, left, self.zeros));
                let [top, left] = [row, column].map(|n| (n * F::STEP) as isize - s.padding as isize);
                *x = Some(self.x.window::<IN>(image, top, left, self.zeros));
            }
            let to = self.z.wrapping_add(at / S::PACK * z.tile);
            let channels = self.out_channels.clone();
            // SAFETY: window pointers lie in the image or at a pixel of zeros; z holds the block.
            unsafe { spread_tiles::<S, F::OutputGradient, OUT, SPREAD>(dy, channels, to, z) };
            let to = self.v.wrapping_add(at / S::PACK * v.tile);
            let channels = self.in_channels.clone();
            // SAFETY: as above, with v.
            unsafe { spread_tiles::<S, F::Input, IN, SPREAD>(x, channels, to, v) };
        }
    }
}

impl<F: WeightScheme<IN, SPREAD>, const IN: usize, const SPREAD: usize> Job for Task<'_, F, IN, SPREAD> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.s;
        let (i_len, o_len) = (self.in_channels.len(), self.out_channels.len());
        let [v_layout, z_layout] = [layout::<S>(s, SPREAD, i_len), layout::<S>(s, SPREAD, o_len)];
        let (sum_row, sums_layout) = (o_len.next_multiple_of(16), sums_layout(i_len, o_len));
        let mut next = self.tiles.start;
        while next < self.tiles.end {
            let count = block(s, SPREAD).min(self.tiles.end - next);
            // SAFETY: the caller's.
            unsafe { self.transform::<S>(next..next + count, &v_layout, &z_layout) };
            let ahead = block(s, SPREAD).min(self.tiles.end - next - count);
            let mut read = Pace::over(POINTS * POINTS);
            for point in 0..POINTS * POINTS {
                let (row, column) = (point / POINTS, point % POINTS);
                // Memory is asked for beside the products: the tiles of the next block.
                for t in read.next(ahead) {
                    let place = tiles(s).place(next + count + t);
                    // SAFETY: hints only.
                    unsafe {
                        self.dy.fetch::<S, false>(place, OUT, self.out_channels.clone());
                        self.x.fetch::<S, false>(place, F::STEP, self.in_channels.clone());
                    }
                }
                let (down, across) = (copies(row, SPREAD).len(), copies(column, SPREAD).len());
                for o in (0..o_len).step_by(2 * S::LANES) {
                    for i in (0..i_len).step_by(S::OUTER_ROWS) {
                        let product = Outer {
                            a: self.v.wrapping_add(v_layout.point(row, column) + i),
                            a_steps: [v_layout.row, v_layout.column, v_layout.tile],
                            b: self.z.wrapping_add(z_layout.point(row, column) + o),
                            b_steps: [z_layout.row, z_layout.column, z_layout.tile],
                            grid: [down, across, count.div_ceil(S::PACK)],
                            c: self.sums.wrapping_add(sums_layout.point(row, column) + i * sum_row + o),
                            c_step: sum_row,
                            height: S::OUTER_ROWS.min(i_len - i),
                            // Whole vectors: the padding of z is zeros, that of the sums is not
                            // used.
                            width: (2 * S::LANES).min((o_len - o).next_multiple_of(S::LANES)),
                            fresh: next == self.tiles.start,
                            b_padded: true,
                        };
                        // SAFETY: the buffers hold the block and the sums, rows in whole lines.
                        unsafe { tile::outer::<S>(product) };
                    }
                }
            }
            next += count;
        }
        for i in 0..i_len {
            for o in (0..o_len).step_by(S::LANES) {
                let from = Points { at: self.sums.wrapping_add(i * sum_row + o), layout: &sums_layout };
                let row = (self.in_channels.start + i) * s.out_channels + self.out_channels.start + o;
                let step = s.in_channels * s.out_channels;
                let to = Taps { first: self.dw.at(row), step, left: o_len - o };
                // SAFETY: the sums hold 36 points; the task owns these channels of its chunk's dw.
                unsafe { both::<S, F::WeightGradient, POINTS, 3>(&from, &to, 3) };
            }
        }
    }
}

/// The nine taps of dw for one input channel, a vector of output channels or the first `left`.
struct Taps {
    first: *mut f32,
    /// Distance of taps.
    step: usize,
    left: usize,
}

impl Sink for Taps {
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, row: usize, column: usize, value: S::Vector) {
        let to = self.first.wrapping_add((row * 3 + column) * self.step);
        // SAFETY: the caller's, for the channels that are left.
        unsafe {
            if self.left >= S::LANES { S::store(to, value) } else { S::store_first(to, value, self.left) }
        };
    }
}

/// Numbers of scratch that [`weight_gradient`] needs.
pub(super) fn scratch(s: &Conv) -> usize {
    let [_, _, chunks] = cut(s);
    if chunks == 1 { 0 } else { chunks * s.weight_len() + ALIGNMENT }
}

/// dw = x ⋆ dy by the scheme F, for a 3×3 convolution of its stride.
///
/// # Safety
/// The CPU has `S`; the slices have the lengths of `s`.
pub(super) unsafe fn weight_gradient<
    S: Simd,
    F: WeightScheme<IN, SPREAD>,
    const IN: usize,
    const SPREAD: usize,
>(
    s: &Conv,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(scratch.len() >= self::scratch(s), "scratch of {s:?}");
    let [in_groups, out_groups, chunks] = cut(s);
    let len = s.weight_len();
    let partials = if chunks == 1 { Shared::new(dw) } else { Shared::new(aligned(scratch)) };
    let [v_len, z_len, sums_len, zeros_len] = buffers::<S>(s, SPREAD);
    let (x, dy) = (Shared::new_at(x.as_ptr().cast_mut()), Shared::new_at(dy.as_ptr().cast_mut()));
    for_each(chunks * in_groups * out_groups, |task| {
        with_workspace(|space| {
            let (chunk, i, o) =
                (task / (in_groups * out_groups), task / out_groups % in_groups, task % out_groups);
            let v = Workspace::floats(space, v_len + z_len + sums_len + zeros_len);
            let z = v.wrapping_add(v_len);
            let sums = z.wrapping_add(z_len);
            let zeros = sums.wrapping_add(sums_len);
            // SAFETY: the buffer's last part, this thread's own.
            unsafe { std::slice::from_raw_parts_mut(zeros, zeros_len) }.fill(0.0);
            let job = Task::<F, IN, SPREAD> {
                s,
                x: Image { data: x.at(0), height: s.height, width: s.width, channels: s.in_channels },
                dy: Image {
                    data: dy.at(0),
                    height: s.out_height(),
                    width: s.out_width(),
                    channels: s.out_channels,
                },
                tiles: piece(tiles(s).count(), chunks, chunk),
                in_channels: group(s.in_channels, in_groups, i),
                out_channels: group(s.out_channels, out_groups, o),
                v,
                z,
                sums,
                zeros,
                dw: Shared::new_at(partials.at(chunk * len)),
                by: PhantomData,
            };
            // SAFETY: the caller vouches for `S`; each task has its own chunk and channels.
            unsafe { S::enter(job) };
        });
    });
    if chunks > 1 {
        // SAFETY: `scratch` holds the sums of all chunks, and no task is writing any more.
        let partials = unsafe { std::slice::from_raw_parts(partials.at(0), chunks * len) };
        add_in_order(partials, dw);
    }
}
