//! Batch normalisation on a device: the grids and arguments of `cu/norm.cu`.

use super::{Arg, Device, Launch, Span, int};
use crate::error::Result;
use crate::kernel::Precision;
use crate::kernel::norm::EPSILON;

/// Views × rows × channels of a value; statistics are taken over the rows of each view.
#[derive(Clone, Copy, Debug)]
pub struct NormShape {
    /// The shards whose views these are: those of the first, then of the next. Sums over a shard's
    /// rows are the same whatever other shards are here.
    pub shards: usize,
    /// Views, of all shards together.
    pub views: usize,
    /// Pixels of all images of a view.
    pub rows: usize,
    /// C.
    pub channels: usize,
}

/// How a gradient passes the ReLU behind a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// There is none.
    None,
    /// By the output; the masked gradient takes the place of the gradient.
    ByOutput,
    /// By the output computed again from the input; the gradient is left as it is.
    Again,
}

impl Mask {
    fn arg(self) -> Arg {
        Arg::Int(match self {
            Mask::None => 0,
            Mask::ByOutput => 1,
            Mask::Again => 2,
        })
    }
}

/// Blocks of a kernel that leaves sums: enough for the largest GPUs, 132 multiprocessors with four
/// blocks each, and no more, since what each leaves has to be added up.
pub(super) const SUM_BLOCKS: usize = 528;
/// Blocks of a kernel that leaves no sums.
const BLOCKS: usize = 2048;
/// Rows that a thread walks over at least, so that it reads its channels' numbers for more than
/// one.
const ROWS_EACH: usize = 8;
/// As in `cu/common.cu`.
const THREADS: usize = 256;
pub(super) const LANES: usize = 32;
pub(super) const STRIPES: usize = 32;

/// How the kernels over rows are cut. A function of the shape only.
pub(super) struct Cut {
    pub suffix: String,
    pub block: [usize; 2],
    pub grid: [usize; 3],
    pub chunk: usize,
}

impl NormShape {
    fn len(&self) -> usize {
        self.views * self.rows * self.channels
    }

    /// The cut of `spans` into some `blocks` blocks for each shard.
    pub(super) fn cut(&self, blocks: usize, precision: Precision, spans: &[Option<Span>]) -> Cut {
        let aligned = spans.iter().flatten().all(Span::is_aligned);
        let pack = 16 / precision.bytes();
        let pack = if aligned && self.channels.is_multiple_of(pack) { pack } else { 1 };
        let packs = self.channels / pack;
        let lanes = packs.next_power_of_two().min(LANES);
        let across = packs.div_ceil(lanes);
        let side = THREADS / lanes;
        let most = self.rows.div_ceil(side * ROWS_EACH);
        let wanted = (blocks / (across * self.views_of_shard())).clamp(1, most.max(1));
        let chunk = self.rows.div_ceil(wanted).max(1);
        let name = match precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        Cut {
            suffix: format!("{name}_{pack}"),
            block: [lanes, side],
            grid: [across, self.rows.div_ceil(chunk).max(1), self.views],
            chunk,
        }
    }

    /// The numbers of partial sums that `chunks` chunks leave.
    fn partial_len(&self, chunks: usize) -> usize {
        self.views * chunks * 2 * self.channels
    }

    fn views_of_shard(&self) -> usize {
        self.views / self.shards
    }

    pub(super) fn finish_grid(&self) -> [usize; 3] {
        [self.channels.div_ceil(LANES), 1, 1]
    }
}

/// Numbers of f32 that a normalisation's passes need beside their values.
pub fn scratch_len(s: &NormShape) -> usize {
    // The widest cut: never more chunks than blocks, never fewer than one.
    let chunks = (SUM_BLOCKS / s.views_of_shard()).clamp(1, s.rows.max(1));
    s.partial_len(chunks) + s.sums_len() + s.coefficients_len()
}

/// γ and β, where they are.
pub type Affine<'a> = (Option<Span<'a>>, Option<Span<'a>>);

pub(super) fn check(s: &NormShape, values: &[Span], affine: Affine, saved: Option<Span>) {
    assert!(values.iter().all(|value| value.len() == s.len()), "values of another shape than {s:?}");
    assert!(values.iter().all(|value| value.precision() == values[0].precision()), "values of two kinds");
    let vectors = [affine.0, affine.1].into_iter().flatten();
    assert!(vectors.into_iter().all(|v| v.len() == s.channels && v.precision() == Precision::F32));
    assert!(saved.is_none_or(|v| v.len() == 2 * s.views * s.channels && v.precision() == Precision::F32));
}

impl dyn Device + '_ {
    /// μ and 1/√(σ² + ε) of every view of x into `saved` (views, 2, C); the running statistics move
    /// by `momentum`, view after view.
    pub fn norm_statistics(
        &self,
        s: &NormShape,
        x: Span,
        saved: Span,
        (running_mean, running_variance): (Span, Span),
        momentum: f32,
        scratch: Span,
    ) -> Result<()> {
        check(s, &[x], (Some(running_mean), Some(running_variance)), Some(saved));
        let chunks = self.norm_partial(s, x, scratch)?;
        let partial = s.partial(scratch, chunks);
        let finish = Launch {
            kernel: format!("norm_finish_{}", x.suffix()),
            grid: s.finish_grid(),
            block: [LANES, STRIPES],
            args: vec![
                x.into(),
                partial.into(),
                saved.into(),
                running_mean.into(),
                running_variance.into(),
                int(s.views),
                int(s.rows),
                int(s.channels),
                int(chunks),
                momentum.into(),
                EPSILON.into(),
            ],
        };
        // SAFETY: the lengths were checked above and by `part`; the arguments are those of
        // cu/norm.cu.
        unsafe { self.launch(&finish) }
    }

    /// The partial sums of x, of so many chunks of each view.
    pub(super) fn norm_partial(&self, s: &NormShape, x: Span, scratch: Span) -> Result<usize> {
        check(s, &[x], (None, None), None);
        let cut = s.cut(SUM_BLOCKS, x.precision(), &[Some(x)]);
        let partial = s.partial(scratch, cut.grid[1]);
        let sizes = [int(s.rows), int(s.channels), int(cut.chunk)];
        let sums = Launch {
            kernel: format!("norm_sums_{}", cut.suffix),
            grid: cut.grid,
            block: cut.block,
            args: [x.into(), partial.into()].into_iter().chain(sizes).collect(),
        };
        // SAFETY: the lengths were checked above and by `part`; the arguments are those of
        // cu/norm.cu.
        unsafe { self.launch(&sums) }?;
        Ok(cut.grid[1])
    }

    /// μ and 1/√(σ² + ε) into `saved` (1, 2, C) from the running statistics, (C) each.
    pub fn norm_running(&self, mean: Span, variance: Span, saved: Span) -> Result<()> {
        let channels = mean.len();
        let s = NormShape { shards: 1, views: 1, rows: 0, channels };
        check(&s, &[], (Some(mean), Some(variance)), Some(saved));
        let args = vec![mean.into(), variance.into(), saved.into(), int(channels), EPSILON.into()];
        // SAFETY: the lengths were just checked; the arguments are those of cu/norm.cu.
        unsafe { self.launch_flat("norm_running".into(), channels, args) }
    }

    /// y = ReLU(γ·(x − μ)/√(σ² + ε) + β + r), with every part but x that is there.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_apply(
        &self,
        s: &NormShape,
        x: Span,
        residual: Option<Span>,
        saved: Option<Span>,
        affine: Affine,
        y: Span,
        relu: bool,
    ) -> Result<()> {
        let values: Vec<Span> = [x, y].into_iter().chain(residual).collect();
        check(s, &values, affine, saved);
        let cut = s.cut(BLOCKS, x.precision(), &[Some(x), Some(y), residual]);
        let args = vec![
            x.into(),
            residual.into(),
            saved.into(),
            affine.0.into(),
            affine.1.into(),
            y.into(),
            int(s.rows),
            int(s.channels),
            int(cut.chunk),
            Arg::Int(i32::from(relu)),
        ];
        let kernel = format!("norm_apply_{}", cut.suffix);
        // SAFETY: the lengths were just checked; the arguments are those of cu/norm.cu.
        unsafe { self.launch(&Launch { kernel, grid: cut.grid, block: cut.block, args }) }
    }

    /// First half of the gradient: g ← (g + other)·[y > 0] as `mask` says, γ's and β's gradients
    /// into `d_affine`, and what the second half needs into `scratch`.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_gradient_sums(
        &self,
        s: &NormShape,
        g: Span,
        other: Option<Span>,
        y: Span,
        x: Span,
        saved: Option<Span>,
        affine: Affine,
        d_affine: Affine,
        mask: Mask,
        scratch: Span,
    ) -> Result<()> {
        check(s, &[], d_affine, None);
        let chunks = self.norm_gradient_partial(s, [g, y, x], other, (saved, affine), mask, scratch)?;
        let (partial, coefficients) = (s.partial(scratch, chunks), s.coefficients(scratch));
        let finish = Launch {
            kernel: "norm_gradient_finish".into(),
            grid: s.finish_grid(),
            block: [LANES, STRIPES],
            args: vec![
                partial.into(),
                saved.into(),
                affine.0.into(),
                coefficients.into(),
                d_affine.0.into(),
                d_affine.1.into(),
                int(s.views),
                int(s.rows),
                int(s.channels),
                int(chunks),
            ],
        };
        // SAFETY: the lengths were checked above and by `part`; the arguments are those of
        // cu/norm.cu.
        unsafe { self.launch(&finish) }
    }

    /// The partial sums of a gradient, of so many chunks of each view.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn norm_gradient_partial(
        &self,
        s: &NormShape,
        [g, y, x]: [Span; 3],
        other: Option<Span>,
        (saved, affine): (Option<Span>, Affine),
        mask: Mask,
        scratch: Span,
    ) -> Result<usize> {
        let values: Vec<Span> = [g, y, x].into_iter().chain(other).collect();
        check(s, &values, affine, saved);
        assert!(mask != Mask::Again || other.is_none(), "a sum of gradients has to be kept");
        // What no later kernel can compute again is kept.
        let kept = other.is_some() || mask == Mask::ByOutput;
        let cut = s.cut(SUM_BLOCKS, x.precision(), &[Some(g), other, kept.then_some(y), Some(x)]);
        let partial = s.partial(scratch, cut.grid[1]);
        let name = if kept { "norm_gradient_kept_sums" } else { "norm_gradient_sums" };
        let read = match kept {
            true => vec![g.into(), other.into(), (mask == Mask::ByOutput).then_some(y).into(), x.into()],
            false => vec![g.into(), x.into()],
        };
        let numbers = [saved.into(), affine.0.into(), affine.1.into(), partial.into()];
        let sizes = [int(s.rows), int(s.channels), int(cut.chunk)];
        let sums = Launch {
            kernel: format!("{name}_{}", cut.suffix),
            grid: cut.grid,
            block: cut.block,
            args: read.into_iter().chain(numbers).chain(sizes).chain((!kept).then(|| mask.arg())).collect(),
        };
        // SAFETY: the lengths were checked above and by `part`; the arguments are those of
        // cu/norm.cu.
        unsafe { self.launch(&sums) }?;
        Ok(cut.grid[1])
    }

    /// Second half of the gradient: dx from g, which may be the same place, with what the first
    /// half left in `scratch`.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_gradient_apply(
        &self,
        s: &NormShape,
        g: Span,
        x: Span,
        saved: Option<Span>,
        affine: Affine,
        dx: Span,
        mask: Mask,
        scratch: Span,
    ) -> Result<()> {
        check(s, &[g, x, dx], affine, saved);
        let cut = s.cut(BLOCKS, x.precision(), &[Some(g), Some(x), Some(dx)]);
        let coefficients = s.coefficients(scratch);
        let args = vec![
            g.into(),
            x.into(),
            saved.into(),
            affine.0.into(),
            affine.1.into(),
            coefficients.into(),
            dx.into(),
            int(s.rows),
            int(s.channels),
            int(cut.chunk),
            mask.arg(),
        ];
        let kernel = format!("norm_gradient_apply_{}", cut.suffix);
        // SAFETY: the lengths were checked above and by `part`; the arguments are those of
        // cu/norm.cu.
        unsafe { self.launch(&Launch { kernel, grid: cut.grid, block: cut.block, args }) }
    }
}

impl NormShape {
    /// Partial sums (views, chunks, 2, C), at the beginning.
    pub(super) fn partial<'a>(&self, scratch: Span<'a>, chunks: usize) -> Span<'a> {
        let len = self.partial_len(chunks);
        let end = scratch_len(self) - self.coefficients_len() - self.sums_len();
        assert!(len <= end, "more chunks than scratch has room for");
        scratch.part(0..len)
    }

    /// Sums of each view, (views, 2, C), before the coefficients.
    pub(super) fn sums<'a>(&self, scratch: Span<'a>) -> Span<'a> {
        let end = scratch_len(self) - self.coefficients_len();
        scratch.part(end - self.sums_len()..end)
    }

    fn sums_len(&self) -> usize {
        2 * self.views * self.channels
    }

    /// Coefficients (views, 3, C), at the end.
    pub(super) fn coefficients<'a>(&self, scratch: Span<'a>) -> Span<'a> {
        let end = scratch_len(self);
        scratch.part(end - self.coefficients_len()..end)
    }

    fn coefficients_len(&self) -> usize {
        3 * self.views * self.channels
    }
}
