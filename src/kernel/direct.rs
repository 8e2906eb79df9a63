//! Forward pass and input gradient by implicit matrix product: patches are never written out.
//!
//! A block of pixels (some images, or some rows of one) is copied once with its zero border to a
//! slab that stays in the level-two cache, unless no border is needed; the register blocks then
//! read the rows of the patch matrix straight from it. Few pixels and many weights (linear layers)
//! are cut by columns instead, each task packing the columns it uses.

use super::gather::Gather;
use super::pack::{Panels, Weights};
use super::simd::{Job, Simd};
use super::tile::{self, Rows};
use super::work::{ALIGNMENT, Shared, Workspace, aligned, for_each, piece, with_workspace};

/// Most numbers in a slab: 192 KiB, so that a panel of weights fits beside it.
const SLAB: usize = 48 * 1024;
/// Up to this many pixels, tasks are cut by columns.
const FEW_PIXELS: usize = 512;
/// Operations that make a task worth its start.
const TASK_FLOPS: f64 = 2e6;
/// Tasks that a pass is cut into at most by columns and roughly by pixels.
const TASKS: usize = 32;

/// Where the input is read: the pixel that the first tap of pixel (image, row, column) looks at
/// lies image·step + … numbers after `base`.
#[derive(Clone, Copy)]
struct Source {
    base: *const f32,
    /// Distance of images, of input rows, of input pixels.
    steps: [usize; 3],
}

// SAFETY: a pointer to numbers that are only read while it lives.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}

/// Computed pixels `rows` of `images`.
#[derive(Clone, Copy)]
struct Region {
    images: [usize; 2],
    rows: [usize; 2],
}

/// The slab of a region: image, row and pixel steps. Channel counts that would put neighbouring
/// pixels into the same cache sets get a line of distance.
fn slab_steps(g: &Gather, rows: usize) -> [usize; 3] {
    let pixel = if g.input[2].is_multiple_of(256) { g.input[2] + 16 } else { g.input[2] };
    let span = |[first, last]: [isize; 2], n: usize| (n - 1) * g.in_step + (last - first) as usize + 1;
    let row = span(g.reach(true), g.grid[1]) * pixel;
    [span(g.reach(false), rows) * row, row, pixel]
}

fn needs_slab(g: &Gather) -> bool {
    g.needs_padding() || g.input[2].is_multiple_of(512)
}

/// Copies the input of `region` with its zero border to `slab`; returns where to read.
///
/// # Safety
/// `slab` is writable for `slab_steps` numbers per image of the region.
unsafe fn fill_slab(g: &Gather, x: &[f32], region: Region, slab: *mut f32) -> Source {
    let [height, width, channels] = g.input;
    let steps = slab_steps(g, region.rows[1] - region.rows[0]);
    let top = (region.rows[0] * g.in_step) as isize + g.reach(false)[0];
    let left = g.reach(true)[0];
    let slab_width = steps[1] / steps[2];
    // Slab columns that lie inside the image.
    let first = (-left).clamp(0, slab_width as isize) as usize;
    let last = (width as isize - left).clamp(first as isize, slab_width as isize) as usize;
    for image in region.images[0]..region.images[1] {
        for row in 0..steps[0] / steps[1] {
            let start = (image - region.images[0]) * steps[0] + row * steps[1];
            // SAFETY: one row of the slab, inside what the caller vouches for; no other reference
            // to it.
            let to = unsafe { std::slice::from_raw_parts_mut(slab.add(start), steps[1]) };
            let y = top + row as isize;
            if y < 0 || y >= height as isize {
                to.fill(0.0);
                continue;
            }
            to[..first * steps[2]].fill(0.0);
            to[last * steps[2]..].fill(0.0);
            let pixel = (image * height + y as usize) * width + (first as isize + left) as usize;
            let from = &x[pixel * channels..(pixel + last - first) * channels];
            let to = &mut to[first * steps[2]..last * steps[2]];
            if steps[2] == channels {
                to.copy_from_slice(from);
            } else {
                for (to, from) in to.chunks_exact_mut(steps[2]).zip(from.chunks_exact(channels)) {
                    to[..channels].copy_from_slice(from);
                }
            }
        }
    }
    Source { base: slab, steps }
}

/// Reads `region` of the input in place; only for gathers that need no border.
fn in_place(g: &Gather, x: &[f32], region: Region) -> Source {
    let [height, width, channels] = g.input;
    let steps = [height * width * channels, width * channels, channels];
    let (top, left) = (g.reach(false)[0] as usize, g.reach(true)[0] as usize);
    let y = region.rows[0] * g.in_step + top;
    let base = x.as_ptr().wrapping_add(region.images[0] * steps[0] + y * steps[1] + left * steps[2]);
    Source { base, steps }
}

/// The taps as runs of contiguous numbers in a source: their offsets and common length.
fn runs(g: &Gather, source: &Source) -> (Vec<usize>, usize) {
    let (top, left) = (g.reach(false)[0], g.reach(true)[0]);
    let offset =
        |y: isize, x: isize| (y - top) as usize * source.steps[1] + (x - left) as usize * source.steps[2];
    let all: Vec<usize> = g.taps.iter().map(|t| offset(t.y, t.x)).collect();
    let channels = g.input[2];
    let together = g.taps.iter().take_while(|t| t.y == g.taps[0].y).count();
    let contiguous = all
        .chunks(together)
        .all(|c| c.len() == together && c.windows(2).all(|pair| pair[1] == pair[0] + channels));
    if contiguous {
        (all.into_iter().step_by(together).collect(), together * channels)
    } else {
        (all, channels)
    }
}

/// All panels in `panels` of one region.
struct Product<'a> {
    g: &'a Gather,
    region: Region,
    source: Source,
    panels: std::ops::Range<usize>,
    /// The packed weights of `panels.start`, the others following.
    packed: *const f32,
    y: Shared,
    rows: &'a mut Vec<usize>,
    outs: &'a mut Vec<usize>,
}

impl Job for Product<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (g, steps) = (self.g, self.source.steps);
        self.rows.clear();
        self.outs.clear();
        for image in self.region.images[0]..self.region.images[1] {
            for row in self.region.rows[0]..self.region.rows[1] {
                let in_row = (image - self.region.images[0]) * steps[0]
                    + (row - self.region.rows[0]) * g.in_step * steps[1];
                let out_row = g.out_offset(image, row, 0);
                for column in 0..g.grid[1] {
                    self.rows.push(in_row + column * g.in_step * steps[2]);
                    self.outs.push(out_row + column * g.out_step * g.output[2]);
                }
            }
        }
        let (runs, len) = runs(g, &self.source);
        let panels = Panels { columns: g.output[2], lanes: S::LANES };
        let mut b = self.packed;
        for n in self.panels {
            let columns = panels.range(n);
            for (rows, outs) in self.rows.chunks(S::ROWS).zip(self.outs.chunks(S::ROWS)) {
                let c = self.y.at(columns.start);
                let block =
                    Rows { a: self.source.base, rows, runs: &runs, len, b, c, outs, columns: columns.len() };
                // SAFETY: the source holds every tap of every pixel of the region (its border is in
                // the slab, or it needs none); the panel has runs·len packed rows; the pixels and
                // columns of this task are its own, inside y.
                unsafe { tile::rows::<S>(block) };
            }
            b = b.wrapping_add(g.depth() * panels.width(n));
        }
    }
}

/// Images per region and computed rows per region, for passes cut by pixels.
fn region_size(g: &Gather) -> [usize; 2] {
    let per_pixel = 2 * g.depth() * g.output[2];
    let wanted = (g.pixels() / TASKS).clamp(56, 1024).max((TASK_FLOPS / per_pixel as f64) as usize);
    let rows_fit = |rows: usize| slab_steps(g, rows)[0] <= SLAB;
    let per_image = g.grid[0] * g.grid[1];
    if wanted >= per_image && rows_fit(g.grid[0]) {
        let fit = SLAB / slab_steps(g, g.grid[0])[0];
        return [(wanted / per_image).min(fit).clamp(1, g.batch), g.grid[0]];
    }
    let mut rows = (wanted / g.grid[1]).clamp(1, g.grid[0]);
    while rows > 1 && !rows_fit(rows) {
        rows -= 1;
    }
    [1, g.grid[0].div_ceil(g.grid[0].div_ceil(rows))]
}

fn by_columns(g: &Gather) -> bool {
    g.pixels() <= FEW_PIXELS && g.flops() > TASK_FLOPS
}

/// Numbers of scratch that [`gather`] needs.
pub(super) fn scratch<S: Simd>(g: &Gather) -> usize {
    let panels = Panels { columns: g.output[2], lanes: S::LANES };
    let shared =
        if by_columns(g) { g.batch * slab_steps(g, g.grid[0])[0] } else { panels.padded() * g.depth() };
    shared + ALIGNMENT
}

/// Computes the gather `g` of `x` with `weights` into the pixels of `y` that it covers.
///
/// # Safety
/// The CPU has `S`; the slices have the lengths of `g`, `scratch` those of [`scratch`].
pub(super) unsafe fn gather<S: Simd>(
    g: &Gather,
    x: &[f32],
    weights: Weights,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    if g.taps.is_empty() {
        return zero(g, y);
    }
    let panels = Panels { columns: g.output[2], lanes: S::LANES };
    assert!(scratch.len() >= self::scratch::<S>(g), "scratch of {g:?}");
    let scratch = aligned(scratch);
    let y = Shared::new(y);
    if by_columns(g) {
        let everything = Region { images: [0, g.batch], rows: [0, g.grid[0]] };
        let source = if needs_slab(g) {
            // SAFETY: `scratch` has room for the slab of all images.
            unsafe { fill_slab(g, x, everything, scratch.as_mut_ptr()) }
        } else {
            in_place(g, x, everything)
        };
        let tasks = panels.count().min(TASKS).min((g.flops() / TASK_FLOPS).ceil() as usize).max(1);
        for_each(tasks, |task| {
            with_workspace(|space| {
                let mine = piece(panels.count(), tasks, task);
                let packed = Workspace::floats(space, 2 * S::LANES * g.depth());
                for n in mine {
                    // SAFETY: the buffer has the room of one panel and is this thread's own.
                    let to = unsafe { std::slice::from_raw_parts_mut(packed, panels.width(n) * g.depth()) };
                    pack_panel(g, &weights, panels, n, to);
                    let (rows, outs) = (&mut space.rows, &mut space.outs);
                    let job =
                        Product { g, region: everything, source, panels: n..n + 1, packed, y, rows, outs };
                    // SAFETY: the caller vouches for `S`; panels are this task's own columns of y.
                    unsafe { S::enter(job) };
                }
            });
        });
        return;
    }
    // SAFETY: the caller's; `scratch` has room for all panels.
    unsafe { gather_by_regions::<S>(g, x, weights, y, scratch) };
}

/// The same, each task a part of the images and rows, with all panels packed before.
///
/// # Safety
/// As for [`gather`], of an aligned `scratch`.
unsafe fn gather_by_regions<S: Simd>(
    g: &Gather,
    x: &[f32],
    weights: Weights,
    y: Shared,
    scratch: &mut [f32],
) {
    let panels = Panels { columns: g.output[2], lanes: S::LANES };
    let packed = Shared::new(scratch);
    let packed_len = panels.padded() * g.depth();
    let pack_tasks = if packed_len > 1 << 15 { panels.count() } else { 1 };
    for_each(pack_tasks, |task| {
        for n in piece(panels.count(), pack_tasks, task) {
            let at = packed.at(n * 2 * S::LANES * g.depth());
            // SAFETY: panel n's own part of the scratch, which has room for all.
            let to = unsafe { std::slice::from_raw_parts_mut(at, panels.width(n) * g.depth()) };
            pack_panel(g, &weights, panels, n, to);
        }
    });
    let [images, rows] = region_size(g);
    let [across, down] = [g.batch.div_ceil(images), g.grid[0].div_ceil(rows)];
    for_each(across * down, |task| {
        let (image, row) = (task / down * images, task % down * rows);
        let region =
            Region { images: [image, g.batch.min(image + images)], rows: [row, g.grid[0].min(row + rows)] };
        with_workspace(|space| {
            let source = if needs_slab(g) {
                let slab = Workspace::floats(space, images * slab_steps(g, rows)[0]);
                // SAFETY: the buffer was asked for with that size and is this thread's own.
                unsafe { fill_slab(g, x, region, slab) }
            } else {
                in_place(g, x, region)
            };
            let (rows, outs) = (&mut space.rows, &mut space.outs);
            let packed = packed.at(0);
            let job = Product { g, region, source, panels: 0..panels.count(), packed, y, rows, outs };
            // SAFETY: the caller vouches for `S`; regions are disjoint pixels of y.
            unsafe { S::enter(job) };
        });
    });
}

fn pack_panel(g: &Gather, weights: &Weights, panels: Panels, n: usize, to: &mut [f32]) {
    let width = panels.width(n);
    for (tap, to) in g.taps.iter().zip(to.chunks_exact_mut(g.input[2] * width)) {
        weights.pack(tap.weight, panels.range(n), width, to);
    }
}

/// Pixels that no tap reaches.
fn zero(g: &Gather, y: &mut [f32]) {
    let (y, channels) = (Shared::new(y), g.output[2]);
    for_each(if g.pixels() * channels > 1 << 15 { g.batch } else { 1 }, |task| {
        let images = if g.pixels() * channels > 1 << 15 { task..task + 1 } else { 0..g.batch };
        for image in images {
            for row in 0..g.grid[0] {
                for column in 0..g.grid[1] {
                    let at = y.at(g.out_offset(image, row, column));
                    // SAFETY: the channels of one pixel of y, of an image that is this task's own.
                    unsafe { std::slice::from_raw_parts_mut(at, channels) }.fill(0.0);
                }
            }
        }
    });
}
