//! A device beside the processor as a [`Machine`]: its memory, and launches of its kernels.

use super::norms::inverse_of;
use super::{Flow, Machine, Norm, PoolShape, Statistics, StepNumbers, Stepper, Weights, through_host};
use crate::error::Result;
use crate::kernel::device::{
    Affine, Buffer, Device, Layer, Layers, NormShape, Part, Parts, Pass, Span, as_product, pool_scratch_len,
    scratch_len, unfolded,
};
use crate::kernel::ranks::Shards;
use crate::kernel::{Conv, Precision};
use std::sync::Arc;

/// A machine that launches kernels on a device.
pub struct Accelerator(Arc<dyn Device>);

impl Accelerator {
    /// A machine that computes on `device`.
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self(device)
    }
}

/// The table of weights that are staged, on a device.
pub struct Staged {
    device: Arc<dyn Device>,
    layers: Layers,
}

impl Staged {
    /// Numbers of all staged weights.
    pub fn len(&self) -> usize {
        self.layers.staged_len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weights of all layers from `theta` into `staged`, rounded to its precision.
    ///
    /// # Errors
    /// [`Error::Device`] where the GPU fails.
    pub fn stage(&self, theta: Span, staged: Span) -> Result<()> {
        self.device.stage_weights(&self.layers, theta, staged)
    }

    /// The gradients of layers that are staged as filters from `staged` into `theta`.
    ///
    /// # Errors
    /// [`Error::Device`] where the GPU fails.
    pub fn unstage_gradients(&self, staged: Span, theta: Span) -> Result<()> {
        self.device.unstage_gradients(&self.layers, staged, theta)
    }
}

impl Machine for Accelerator {
    fn gpu(&self) -> Option<usize> {
        self.0.gpu()
    }

    fn storage(&self, precision: Precision) -> Precision {
        precision
    }

    /// A library takes another algorithm for another batch.
    fn mixes_images(&self) -> bool {
        true
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        self.0.allocate(bytes)
    }

    fn upload(&self, values: &[f32], to: Span) -> Result<()> {
        self.0.upload_f32(values, to)
    }

    fn download(&self, from: Span) -> Result<Vec<f32>> {
        self.0.download_f32(from)
    }

    fn copy(&self, from: Span, to: Span) -> Result<()> {
        self.0.copy(from, to)
    }

    fn weights(&self, conv: &Conv, storage: Precision) -> Weights {
        match (as_product(conv), storage) {
            (None, _) => Weights::Filters,
            (Some(_), Precision::F32) => Weights::AsTheta,
            (Some(_), Precision::Bf16) => Weights::Rounded,
        }
    }

    fn unfolded(&self, conv: &Conv, storage: Precision) -> Option<Conv> {
        unfolded(conv, storage)
    }

    fn unfold(&self, conv: &Conv, x: Span, patches: Span) -> Result<()> {
        self.0.unfold(conv, x, patches)
    }

    fn staged(&self, layers: &[Layer]) -> Result<Option<Staged>> {
        let staged = |layers| Staged { device: self.0.clone(), layers };
        if layers.is_empty() { Ok(None) } else { Layers::new(self.0.as_ref(), layers).map(staged).map(Some) }
    }

    fn conv_scratch(&self, _: &Conv) -> usize {
        0
    }

    fn norm_scratch(&self, shape: &NormShape) -> usize {
        scratch_len(shape)
    }

    fn pool_scratch(&self, outputs: usize) -> usize {
        pool_scratch_len(outputs)
    }

    fn conv(&self, pass: Pass, conv: &Conv, [a, b]: [Span; 2], out: Span, _: Span) -> Result<()> {
        match as_product(conv) {
            Some(_) => self.0.multiply(pass, conv, a, b, out),
            None => self.0.convolve(pass, conv, a, b, out),
        }
    }

    fn norm(&self, n: &Norm, running: Statistics, residual: Option<Span>, relu: bool, y: Span) -> Result<()> {
        let Statistics { mean, variance, momentum } = running;
        match (momentum, n.shards) {
            (None, _) => self.0.norm_running(mean, variance, n.saved)?,
            (Some(momentum), None) => {
                self.0.norm_statistics(&n.shape, n.x, n.saved, (mean, variance), momentum, n.scratch)?;
            }
            (Some(momentum), Some(shards)) => {
                self.statistics_of_shards(n, shards, (mean, variance), momentum)?;
            }
        }
        self.0.norm_apply(&n.shape, n.x, residual, Some(n.saved), n.affine, y, relu)
    }

    fn norm_gradient(&self, n: &Norm, flow: &Flow, d_affine: Affine, dx: Option<Span>) -> Result<()> {
        let Flow { g, other, y, mask } = *flow;
        let (s, saved) = (&n.shape, Some(n.saved));
        match n.shards {
            None => {
                self.0.norm_gradient_sums(s, g, other, y, n.x, saved, n.affine, d_affine, mask, n.scratch)?
            }
            Some(shards) => self.sums_of_shards(n, shards, flow, d_affine)?,
        }
        dx.map_or(Ok(()), |dx| self.0.norm_gradient_apply(s, g, n.x, saved, n.affine, dx, mask, n.scratch))
    }

    fn add(&self, from: Span, to: Span) -> Result<()> {
        // A normalisation without statistics and parameters is its input plus the residual.
        let shape = NormShape { shards: 1, views: 1, rows: to.len(), channels: 1 };
        self.0.norm_apply(&shape, to, Some(from), None, (None, None), to, false)
    }

    fn sum_over_ranks(&self, shards: &Shards, values: Span) -> Result<()> {
        let size = shards.ranks().size();
        let carrier = if size == 1 { None } else { self.0.carrier(shards.ranks())? };
        let Some(carrier) = carrier else { return through_host(self, shards, values) };
        let (len, piece) = (values.len(), values.len().div_ceil(size).next_multiple_of(16));
        let buffer = self.0.allocate(2 * size * piece * Precision::F32.bytes())?;
        let half = |start: usize| buffer.span(Precision::F32, start * size * piece, size * piece);
        let (all, pieces) = (half(0), half(1));
        let of_rank = |rank: usize| pieces.part(rank * piece..(rank + 1) * piece);
        self.0.copy(values, all.part(0..len))?;
        carrier.exchange(all, pieces)?;
        // As `ranks::add_tree`.
        let mut step = 1;
        while step < size {
            for left in (0..size).step_by(2 * step) {
                self.add(of_rank(left + step), of_rank(left))?;
            }
            step *= 2;
        }
        carrier.gather(of_rank(0), all)?;
        self.0.copy(all.part(0..len), values)
    }

    fn bias(&self, shape: &NormShape, x: Span, bias: Span, relu: bool, y: Span) -> Result<()> {
        self.0.norm_apply(shape, x, None, None, (None, Some(bias)), y, relu)
    }

    fn bias_gradient(&self, n: &Norm, flow: &Flow, d_bias: Span) -> Result<()> {
        let Flow { g, other, y, mask } = *flow;
        let (none, d_affine) = ((None, None), (None, Some(d_bias)));
        if n.shape.shards > 1 {
            let values = [g, y, n.x];
            let sums =
                self.0.norm_gradient_of_views(&n.shape, values, other, (None, none), mask, n.scratch)?;
            return self.0.norm_gradient_affine(&n.shape, sums, None, d_affine);
        }
        self.0.norm_gradient_sums(&n.shape, g, other, y, n.x, None, none, d_affine, mask, n.scratch)
    }

    fn max_pool(&self, shape: PoolShape, x: Span, y: Span) -> Result<()> {
        self.0.max_pool(shape, x, y)
    }

    fn max_pool_gradient(
        &self,
        shape: PoolShape,
        flow: &Flow,
        x: Span,
        dx: Span,
        scratch: Span,
    ) -> Result<()> {
        self.0.max_pool_gradient(shape, (flow.g, flow.other), x, dx, scratch)
    }

    fn average_pool(&self, [height, width, channels]: PoolShape, x: Span, y: Span) -> Result<()> {
        self.0.average_pool(height * width, channels, x, y)
    }

    fn average_pool_gradient(&self, [height, width, channels]: PoolShape, g: Span, dx: Span) -> Result<()> {
        self.0.average_pool_gradient(height * width, channels, g, dx)
    }

    fn stepper(&self, parts: &[Part]) -> Result<Box<dyn Stepper>> {
        let all = parts.iter().all(|part| part.penalised);
        let parts = Parts::new(self.0.as_ref(), parts)?;
        Ok(Box::new(Steps { device: self.0.clone(), parts, all }))
    }
}

/// Batch norm over shards. What shards tell each other passes through the processor's memory, where
/// it is merged as the processor's own is: 4·C numbers of each view, forward and backward.
impl Accelerator {
    /// Statistics of all shards, for this one's values and its running statistics.
    fn statistics_of_shards(
        &self,
        n: &Norm,
        shards: &Shards,
        running: (Span, Span),
        momentum: f32,
    ) -> Result<()> {
        let NormShape { shards: own, views, rows, channels } = n.shape;
        let told = self.0.norm_moments(&n.shape, n.x, n.scratch)?;
        let moments = shards.statistics(&self.doubles(told)?, [views / own, rows, channels])?;
        let saved = moments.own.iter().enumerate().map(|(i, value)| {
            let value = *value as f32;
            if i % (2 * channels) < channels { value } else { inverse_of(value) }
        });
        self.upload(&saved.collect::<Vec<f32>>(), n.saved)?;
        let towards = told.part(0..moments.running.len());
        self.upload(&moments.running.iter().map(|value| *value as f32).collect::<Vec<f32>>(), towards)?;
        self.0.norm_shift(towards, running, momentum)
    }

    /// The first half of the gradient: γ's and β's of this rank's shards, and the sums of all by
    /// which x's is made.
    fn sums_of_shards(&self, n: &Norm, shards: &Shards, flow: &Flow, d_affine: Affine) -> Result<()> {
        let (s, saved) = (&n.shape, Some(n.saved));
        let values = [flow.g, flow.y, n.x];
        let sums =
            self.0.norm_gradient_of_views(s, values, flow.other, (saved, n.affine), flow.mask, n.scratch)?;
        self.0.norm_gradient_affine(s, sums, saved, d_affine)?;
        let (merged, rows) = shards.sums(&self.doubles(sums)?, s.rows)?;
        self.upload(&merged.iter().map(|value| *value as f32).collect::<Vec<f32>>(), sums)?;
        self.0.norm_gradient_coefficients(s, (sums, rows), n.saved, n.affine.0, n.scratch)
    }

    fn doubles(&self, from: Span) -> Result<Vec<f64>> {
        Ok(self.download(from)?.into_iter().map(f64::from).collect())
    }
}

struct Steps {
    device: Arc<dyn Device>,
    parts: Parts,
    /// Whether every part is penalised.
    all: bool,
}

impl Stepper for Steps {
    fn step(&self, theta: Span, velocity: Span, gradient: Span, numbers: &StepNumbers) -> Result<()> {
        let single = [numbers.lr, numbers.momentum, numbers.weight_decay as f32];
        if self.all && numbers.trust.is_none() {
            return self.device.sgd_step(theta, velocity, gradient, single);
        }
        let lars = numbers.trust.map(|trust| (trust, numbers.weight_decay));
        self.device.sgd_parts(&self.parts, theta, velocity, gradient, single, lars)
    }
}
