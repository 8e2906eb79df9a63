//! dW[ky, kx, i, o] = Σ_pixels x[pixel·stride + (ky, kx) − padding, i] · dy[pixel, o], directly.
//!
//! The rows of all output images are cut into chunks fixed by the shape, the output channels into
//! groups; a task walks its chunk in blocks of about a hundred pixels that fit the level-one cache,
//! copied so that sixteen channels of x and a panel of dy are contiguous. Each tap visits only
//! pixels whose input lies inside the image. Partial sums of chunks are added in their order.

use super::Conv;
use super::pack::Panels;
use super::simd::{Job, Simd};
use super::tile::{self, Outer};
use super::work::{ALIGNMENT, Shared, Workspace, aligned, for_each, piece, with_workspace};

/// Channels of x that lie together in a packed block: one cache line.
const CHANNELS: usize = 16;
/// Output pixels of a block, roughly.
const BLOCK: usize = 128;
/// Most numbers in all partial sums together: 4 MiB.
const PARTIALS: usize = 1 << 20;
/// Tasks at most, and operations that make one worth its start.
const TASKS: usize = 32;
const TASK_FLOPS: f64 = 4e6;

/// How the work is cut: chunks of output rows, groups of output channels.
fn cut(s: &Conv, panels: Panels) -> [usize; 2] {
    let tasks = ((s.flops() / TASK_FLOPS) as usize).clamp(1, TASKS);
    let chunks = (PARTIALS / s.weight_len()).min(s.batch * s.out_height()).min(tasks / 2).max(1);
    let groups = tasks.div_ceil(chunks).min(panels.count());
    if chunks == 1 { [1, groups] } else { [chunks, groups.min(2)] }
}

/// Output rows `rows` of `images`.
#[derive(Clone, Copy)]
struct Block {
    images: [usize; 2],
    rows: [usize; 2],
}

/// The blocks of the flattened output rows first..last, in order.
fn blocks(s: &Conv, rows: std::ops::Range<usize>) -> impl Iterator<Item = Block> {
    let (height, width) = (s.out_height(), s.out_width());
    let images = (BLOCK / (height * width)).max(1);
    let mut next = rows.start;
    std::iter::from_fn(move || {
        let left = rows.end.checked_sub(next).filter(|left| *left > 0)?;
        let (image, row) = (next / height, next % height);
        if row == 0 && images.min(left / height) > 1 {
            let count = images.min(left / height);
            next += count * height;
            return Some(Block { images: [image, image + count], rows: [0, height] });
        }
        let count = BLOCK.div_ceil(width).min(height - row).min(left);
        next += count;
        Some(Block { images: [image, image + 1], rows: [row, row + count] })
    })
}

/// Input rows that a block reads.
fn input_rows(s: &Conv, rows: [usize; 2]) -> [usize; 2] {
    let first = (rows[0] * s.stride).saturating_sub(s.padding).min(s.height);
    [first, ((rows[1] - 1) * s.stride + s.kernel).saturating_sub(s.padding).clamp(first, s.height)]
}

/// Output positions within `range` that tap `k` reads inside an input of `size`.
fn inside(s: &Conv, k: usize, size: usize, range: [usize; 2]) -> [usize; 2] {
    let first = s.padding.saturating_sub(k).div_ceil(s.stride).max(range[0]);
    let last = (size + s.padding).saturating_sub(k).div_ceil(s.stride).min(range[1]);
    [first, last.max(first)]
}

/// Most numbers in a packed block of x.
fn x_block_len(s: &Conv) -> usize {
    let (height, width) = (s.out_height(), s.out_width());
    let images = (BLOCK / (height * width)).max(1);
    let rows = BLOCK.div_ceil(width).min(height);
    let in_rows = if images > 1 { images * s.height } else { s.height.min((rows - 1) * s.stride + s.kernel) };
    in_rows * s.width * s.in_channels.next_multiple_of(CHANNELS)
}

/// Most numbers in a packed block of dy.
fn dy_block_len(s: &Conv, panels: Panels) -> usize {
    let pixels = s.out_height() * s.out_width();
    ((BLOCK / pixels).max(1) * pixels).min(BLOCK + s.out_width()) * panels.padded()
}

/// One block added to the partial sums.
struct Step<'a> {
    s: &'a Conv,
    x: &'a [f32],
    dy: &'a [f32],
    block: Block,
    /// Panels of output channels of this task.
    group: std::ops::Range<usize>,
    x_packed: *mut f32,
    dy_packed: *mut f32,
    /// Partial sums, shaped as the weights.
    sums: Shared,
    fresh: bool,
}

impl Step<'_> {
    /// x as (channels/16, images, rows, columns, 16).
    #[inline(always)]
    unsafe fn pack_x(&self, rows: [usize; 2]) {
        let s = self.s;
        let row_len = s.width * s.in_channels;
        let mut to = self.x_packed;
        for channel in (0..s.in_channels).step_by(CHANNELS) {
            let n = CHANNELS.min(s.in_channels - channel);
            for image in self.block.images[0]..self.block.images[1] {
                let start = (image * s.height + rows[0]) * row_len;
                let from = &self.x[start..start + (rows[1] - rows[0]) * row_len];
                for pixel in from.chunks_exact(s.in_channels) {
                    // SAFETY: the buffer has x_block_len numbers, a line for each pixel and block
                    // of channels; `pixel` has n numbers from `channel` on.
                    unsafe {
                        let from = pixel.as_ptr().add(channel);
                        if n == CHANNELS {
                            to.cast::<[f32; CHANNELS]>()
                                .write(from.cast::<[f32; CHANNELS]>().read_unaligned());
                        } else {
                            std::ptr::copy_nonoverlapping(from, to, n);
                        }
                        to = to.add(CHANNELS);
                    }
                }
            }
        }
    }

    /// dy as (panels, pixels, one or two vectors).
    #[inline(always)]
    unsafe fn pack_dy<S: Simd>(&self, panels: Panels) {
        let s = self.s;
        let row_len = s.out_width() * s.out_channels;
        let mut to = self.dy_packed;
        for n in self.group.clone() {
            let columns = panels.range(n);
            let width = panels.width(n);
            for image in self.block.images[0]..self.block.images[1] {
                let first = (image * s.out_height() + self.block.rows[0]) * row_len;
                let count = (self.block.rows[1] - self.block.rows[0]) * row_len;
                for pixel in self.dy[first..first + count].chunks_exact(s.out_channels) {
                    // SAFETY: the buffer has dy_block_len numbers: `width` for each pixel and
                    // panel; `pixel` has the panel's columns.
                    unsafe {
                        let from = pixel.as_ptr().add(columns.start);
                        let mut done = 0;
                        while done < width {
                            let left = columns.len() - done;
                            let v = if left >= S::LANES {
                                S::load(from.add(done))
                            } else {
                                S::load_first(from.add(done), left)
                            };
                            S::store(to.add(done), v);
                            done += S::LANES;
                        }
                        to = to.add(width);
                    }
                }
            }
        }
    }
}

impl Job for Step<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.s;
        let panels = Panels { columns: s.out_channels, lanes: S::LANES };
        let [images, rows] = [self.block.images, self.block.rows];
        let in_rows = input_rows(s, rows);
        // SAFETY: the buffers have the room of a block.
        unsafe {
            self.pack_x(in_rows);
            self.pack_dy::<S>(panels);
        }
        let count = images[1] - images[0];
        let a_row = s.width * CHANNELS;
        let a_image = (in_rows[1] - in_rows[0]) * a_row;
        let mut dy_panel = self.dy_packed;
        for n in self.group.clone() {
            let (columns, width) = (panels.range(n), panels.width(n));
            let b_row = s.out_width() * width;
            let b_image = (rows[1] - rows[0]) * b_row;
            for channel in (0..s.in_channels).step_by(CHANNELS) {
                let x_block = self.x_packed.wrapping_add(channel / CHANNELS * count * a_image);
                let channels = CHANNELS.min(s.in_channels - channel);
                for tap in 0..s.kernel * s.kernel {
                    let (ky, kx) = (tap / s.kernel, tap % s.kernel);
                    let ys = inside(s, ky, s.height, rows);
                    let xs = inside(s, kx, s.width, [0, s.out_width()]);
                    let grid = [count, ys[1] - ys[0], xs[1] - xs[0]];
                    let empty = grid[1] * grid[2] == 0;
                    if empty && !self.fresh {
                        continue;
                    }
                    let (mut a, mut b) = (x_block, dy_panel);
                    if !empty {
                        let (y, x) = (ys[0] * s.stride + ky - s.padding, xs[0] * s.stride + kx - s.padding);
                        a = a.wrapping_add((y - in_rows[0]) * a_row + x * CHANNELS);
                        b = b.wrapping_add((ys[0] - rows[0]) * b_row + xs[0] * width);
                    }
                    for m in (0..channels).step_by(S::OUTER_ROWS) {
                        let row = tap * s.in_channels + channel + m;
                        let block = Outer {
                            a: a.wrapping_add(m),
                            a_steps: [a_image, s.stride * a_row, s.stride * CHANNELS],
                            b,
                            b_steps: [b_image, b_row, width],
                            grid: if empty { [0; 3] } else { grid },
                            c: self.sums.at(row * s.out_channels + columns.start),
                            c_step: s.out_channels,
                            height: S::OUTER_ROWS.min(channels - m),
                            width: columns.len(),
                            fresh: self.fresh,
                            b_padded: true,
                        };
                        // SAFETY: `inside` keeps pixels within the packed rows, dy has whole
                        // vectors, and these rows and columns of the sums are the task's own.
                        unsafe { tile::outer::<S>(block) };
                    }
                }
            }
            dy_panel = dy_panel.wrapping_add(count * b_image);
        }
    }
}

/// Numbers of scratch that [`weight_gradient`] needs.
pub(super) fn scratch<S: Simd>(s: &Conv) -> usize {
    let [chunks, _] = cut(s, Panels { columns: s.out_channels, lanes: S::LANES });
    if chunks == 1 { 0 } else { chunks * s.weight_len() + ALIGNMENT }
}

/// dw = x ⋆ dy.
///
/// # Safety
/// The CPU has `S`; the slices have the lengths of `s`, `scratch` that of [`scratch`].
pub(super) unsafe fn weight_gradient<S: Simd>(
    s: &Conv,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let panels = Panels { columns: s.out_channels, lanes: S::LANES };
    let [chunks, groups] = cut(s, panels);
    let len = s.weight_len();
    assert!(scratch.len() >= self::scratch::<S>(s), "scratch of {s:?}");
    let partials = if chunks == 1 { Shared::new(dw) } else { Shared::new(aligned(scratch)) };
    for_each(chunks * groups, |task| {
        let (chunk, group) = (task / groups, task % groups);
        with_workspace(|space| {
            let x_len = x_block_len(s).next_multiple_of(CHANNELS);
            let x_packed = Workspace::floats(space, x_len + dy_block_len(s, panels));
            let dy_packed = x_packed.wrapping_add(x_len);
            let group = piece(panels.count(), groups, group);
            let sums = Shared::new_at(partials.at(chunk * len));
            let rows = piece(s.batch * s.out_height(), chunks, chunk);
            for (index, block) in blocks(s, rows).enumerate() {
                let (group, fresh) = (group.clone(), index == 0);
                let step = Step { s, x, dy, block, group, x_packed, dy_packed, sums, fresh };
                // SAFETY: the caller vouches for `S`; a task owns its chunk's sums of its group.
                unsafe { S::enter(step) };
            }
        });
    });
    if chunks > 1 {
        // SAFETY: `scratch` holds the sums of all chunks, and no task is writing any more.
        let partials = unsafe { std::slice::from_raw_parts(partials.at(0), chunks * len) };
        add_in_order(partials, dw);
    }
}

/// dw = the sum of `partials`, each as long as dw, first to last.
pub(super) fn add_in_order(partials: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    let tasks = (partials.len() >> 16).clamp(1, TASKS);
    let dw = Shared::new(dw);
    for_each(tasks, |task| {
        let mine = piece(len, tasks, task);
        // SAFETY: this task's own piece of dw.
        let to = unsafe { std::slice::from_raw_parts_mut(dw.at(mine.start), mine.len()) };
        to.copy_from_slice(&partials[mine.clone()]);
        for partial in partials.chunks_exact(len).skip(1) {
            to.iter_mut().zip(&partial[mine.clone()]).for_each(|(to, from)| *to += from);
        }
    });
}
