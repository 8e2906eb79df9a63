//! Batch normalisation over shards on a device: the launches of `cu/shards.cu`, which leave what
//! the shards tell each other, and take what all of them come to.

use super::norm::{LANES, STRIPES, check};
use super::{Affine, Device, Launch, Mask, NormShape, Span, int};
use crate::error::Result;

impl dyn Device + '_ {
    /// Mean and Σ(x − μ)² of every view's channels, (views, 2, C), within `scratch`.
    pub fn norm_moments<'a>(&self, s: &NormShape, x: Span, scratch: Span<'a>) -> Result<Span<'a>> {
        let chunks = self.norm_partial(s, x, scratch)?;
        let (partial, moments) = (s.partial(scratch, chunks), s.sums(scratch));
        let sizes = [int(s.views), int(s.rows), int(s.channels), int(chunks)];
        let finish = Launch {
            kernel: format!("norm_moments_{}", x.suffix()),
            grid: s.finish_grid(),
            block: [LANES, STRIPES],
            args: [x.into(), partial.into(), moments.into()].into_iter().chain(sizes).collect(),
        };
        // SAFETY: the lengths were checked by `norm_partial` and `part`; the arguments are those of
        // cu/shards.cu.
        unsafe { self.launch(&finish) }?;
        Ok(moments)
    }

    /// The running statistics, (C) each, moved by `momentum` towards mean and unbiased variance of
    /// every view in `moments`, (views, 2, C), view after view.
    pub fn norm_shift(&self, moments: Span, (mean, variance): (Span, Span), momentum: f32) -> Result<()> {
        let channels = mean.len();
        let views = moments.len() / (2 * channels);
        let s = NormShape { shards: 1, views, rows: 0, channels };
        check(&s, &[], (Some(mean), Some(variance)), Some(moments));
        let args =
            vec![moments.into(), mean.into(), variance.into(), int(views), int(channels), momentum.into()];
        // SAFETY: the lengths were just checked; the arguments are those of cu/shards.cu.
        unsafe { self.launch_flat("norm_shift".into(), channels, args) }
    }

    /// [`Device::norm_gradient_sums`](Self::norm_gradient_sums) up to the sums: g is masked, and
    /// Σg and Σg·(x − μ) of every view, (views, 2, C), are within `scratch`.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_gradient_of_views<'a>(
        &self,
        s: &NormShape,
        values: [Span; 3],
        other: Option<Span>,
        of_norm: (Option<Span>, Affine),
        mask: Mask,
        scratch: Span<'a>,
    ) -> Result<Span<'a>> {
        let chunks = self.norm_gradient_partial(s, values, other, of_norm, mask, scratch)?;
        let sums = s.sums(scratch);
        let sizes = [int(s.views), int(s.channels), int(chunks)];
        let finish = Launch {
            kernel: "norm_gradient_of_views".into(),
            grid: s.finish_grid(),
            block: [LANES, STRIPES],
            args: [s.partial(scratch, chunks).into(), sums.into()].into_iter().chain(sizes).collect(),
        };
        // SAFETY: the lengths were checked by `norm_gradient_partial` and `part`; the arguments are
        // those of cu/shards.cu.
        unsafe { self.launch(&finish) }?;
        Ok(sums)
    }

    /// The gradients of γ and β from the sums of every view: of each shard, added as a tree.
    pub fn norm_gradient_affine(
        &self,
        s: &NormShape,
        sums: Span,
        saved: Option<Span>,
        d_affine: Affine,
    ) -> Result<()> {
        check(s, &[], d_affine, Some(sums));
        check(s, &[], (None, None), saved);
        let args = vec![
            sums.into(),
            saved.into(),
            d_affine.0.into(),
            d_affine.1.into(),
            int(s.shards),
            int(s.views / s.shards),
            int(s.channels),
        ];
        // SAFETY: the lengths were just checked; the arguments are those of cu/shards.cu.
        unsafe { self.launch_flat("norm_gradient_affine".into(), s.channels, args) }
    }

    /// What [`Device::norm_gradient_apply`](Self::norm_gradient_apply) needs, into `scratch`, from
    /// `sums` over `rows` rows for every view.
    pub fn norm_gradient_coefficients(
        &self,
        s: &NormShape,
        (sums, rows): (Span, usize),
        saved: Span,
        scale: Option<Span>,
        scratch: Span,
    ) -> Result<()> {
        check(s, &[], (scale, None), Some(saved));
        check(s, &[], (None, None), Some(sums));
        let args = vec![
            sums.into(),
            saved.into(),
            scale.into(),
            s.coefficients(scratch).into(),
            int(s.views),
            int(rows),
            int(s.channels),
        ];
        // SAFETY: the lengths were just checked; the arguments are those of cu/shards.cu.
        unsafe { self.launch_flat("norm_gradient_coefficients".into(), s.channels, args) }
    }
}
