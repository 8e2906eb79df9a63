//! The processor's normalisations, forward and backward, over one batch or its shards.

use super::sharded::{self, Gradients};
use super::slices::{put, slice, slice_mut};
use super::{Flow, Norm, Statistics};
use crate::error::Result;
use crate::kernel::device::{Affine, Mask, NormShape, Span};
use crate::kernel::norm;
use std::ops::Range;

/// 1/√(σ² + ε)
pub(super) fn inverse_of(variance: f32) -> f32 {
    (1.0 / (f64::from(variance) + norm::EPSILON).sqrt()) as f32
}

/// The running statistics of one normalisation, as slices.
enum Running<'a> {
    Moving { mean: &'a mut [f32], variance: &'a mut [f32], momentum: f32 },
    Fixed { mean: &'a [f32], variance: &'a [f32] },
}

impl<'a> Running<'a> {
    fn of(Statistics { mean, variance, momentum }: Statistics<'a>, others: &[Span]) -> Self {
        match momentum {
            None => Running::Fixed { mean: slice(mean), variance: slice(variance) },
            Some(momentum) => Running::Moving {
                mean: slice_mut(mean, &[others, &[variance]].concat()),
                variance: slice_mut(variance, others),
                momentum,
            },
        }
    }

    fn moves(&self) -> bool {
        matches!(self, Running::Moving { .. })
    }

    /// Moves towards the mean and the unbiased variance of every view, (V, 2, C), where they move.
    fn shift(&mut self, moments: &[f64]) {
        let Running::Moving { mean, variance, momentum } = self else { return };
        let step = |running: &mut [f32], values: &[f64]| {
            let moved = running.iter_mut().zip(values);
            moved.for_each(|(r, v)| *r = (1.0 - *momentum) * *r + *momentum * (*v as f32));
        };
        for view in moments.chunks_exact(2 * mean.len()) {
            step(mean, &view[..mean.len()]);
            step(variance, &view[mean.len()..]);
        }
    }

    /// Mean and 1/√(σ²+ε) of a view x (rows, C).
    fn view(&mut self, x: &[f32], mean: &mut [f32], inverse: &mut [f32], scratch: &mut [f32]) {
        match self {
            Running::Fixed { mean: fixed, variance } => {
                mean.copy_from_slice(fixed);
                inverse.iter_mut().zip(*variance).for_each(|(i, v)| *i = inverse_of(*v));
            }
            Running::Moving { mean: running_mean, variance, momentum } => {
                norm::statistics(x, mean, inverse, scratch);
                let rows = (x.len() / mean.len()) as f32;
                let unbiased = rows / (rows - 1.0).max(1.0);
                let step = |running: &mut [f32], values: &[f32], factor: f32| {
                    for (r, v) in running.iter_mut().zip(values) {
                        *r = (1.0 - *momentum) * *r + *momentum * (v * factor);
                    }
                };
                step(running_mean, mean, 1.0);
                step(variance, inverse, unbiased);
                inverse.iter_mut().for_each(|i| *i = inverse_of(*i));
            }
        }
    }
}

impl NormShape {
    /// Numbers of a view.
    pub(super) fn view_len(&self) -> usize {
        self.rows * self.channels
    }

    pub(super) fn check(&self, values: &[Span]) {
        let len = self.views * self.view_len();
        assert!(values.iter().all(|value| value.len() == len), "values of another shape than {self:?}");
    }
}

/// [`super::Machine::norm`] of the processor.
pub(super) fn norm(n: &Norm, running: Statistics, residual: Option<Span>, relu: bool, y: Span) -> Result<()> {
    let NormShape { views, channels, .. } = n.shape;
    let read: Vec<Span> = [n.x].into_iter().chain(residual).chain(n.affine.0).chain(n.affine.1).collect();
    n.shape.check(&[n.x, y]);
    residual.iter().for_each(|residual| n.shape.check(&[*residual]));
    let y_out = slice_mut(y, &read);
    let saved = slice_mut(n.saved, &[&read[..], &[y]].concat());
    let scratch = slice_mut(n.scratch, &[&read[..], &[y, n.saved]].concat());
    let mut running = Running::of(running, &[&read[..], &[y, n.saved, n.scratch]].concat());
    let (x, residual) = (slice(n.x), residual.map(slice));
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let (scale, shift) = (n.affine.0.map_or(&ones[..], slice), n.affine.1.map_or(&zeros[..], slice));
    let len = n.shape.view_len();
    let cut = match n.shards.filter(|_| running.moves()) {
        Some(shards) => Some(sharded::statistics(shards, &n.shape, x, scratch)?),
        None => None,
    };
    cut.iter().for_each(|cut| running.shift(&cut.running));
    for (view, saved) in saved.chunks_exact_mut(2 * channels).take(views).enumerate() {
        let rows = view * len..(view + 1) * len;
        let (mean, inverse) = saved.split_at_mut(channels);
        match &cut {
            None => running.view(&x[rows.clone()], mean, inverse, scratch),
            Some(cut) => {
                let (means, variances) = cut.own[2 * view * channels..][..2 * channels].split_at(channels);
                mean.iter_mut().zip(means).for_each(|(to, mean)| *to = *mean as f32);
                inverse.iter_mut().zip(variances).for_each(|(to, v)| *to = inverse_of(*v as f32));
            }
        }
        let folded: Vec<f32> = scale.iter().zip(&*inverse).map(|(s, i)| s * i).collect();
        let residual = residual.map(|residual| &residual[rows.clone()]);
        norm::apply(&x[rows.clone()], mean, &folded, shift, residual, relu, &mut y_out[rows]);
    }
    Ok(())
}

/// [`super::Machine::norm_gradient`] of the processor.
pub(super) fn norm_gradient(n: &Norm, flow: &Flow, d_affine: Affine, dx: Option<Span>) -> Result<()> {
    let NormShape { views, channels, rows, .. } = n.shape;
    let in_place = dx.is_some_and(|dx| dx.address() == flow.g.address());
    let dx = dx.filter(|_| !in_place);
    let beside: Vec<Span> = [n.x, n.saved].into_iter().chain(n.affine.0).collect();
    let mut passes = Backward::new(n, flow, &beside);
    let to = dx.map(|dx| slice_mut(dx, &[&beside[..], &[flow.g, n.scratch]].concat()));
    let mut to = to.map(|to| to.chunks_exact_mut(n.shape.view_len()));
    let gamma = n.affine.0.map(slice);
    let saved = slice(n.saved).chunks_exact(2 * channels).take(views).map(|view| view.split_at(channels));
    // Where the batch is cut, no view's gradient is known before all shards' sums are.
    let cut = match n.shards {
        None => None,
        Some(shards) => {
            let sums = saved.clone().enumerate().flat_map(|(view, (mean, _))| passes.sums(view, mean));
            Some(Gradients::new(shards, sums.collect(), views, rows)?)
        }
    };
    let mut d = vec![0f64; 2 * channels];
    for (view, (mean, inverse)) in saved.clone().enumerate() {
        let sums = match &cut {
            None => passes.sums(view, mean),
            Some(cut) => cut.of(view).to_vec(),
        };
        for i in 0..channels {
            d[i] += sums[channels + i] * f64::from(inverse[i]);
            d[channels + i] += sums[i];
        }
        let rows = cut.as_ref().map_or(rows, |cut| cut.rows) as f64;
        let [a, b, c] = coefficients(gamma, inverse, &sums, rows);
        let coefficients = [&a[..], &b[..], &c[..], mean];
        let (g, x) = passes.view(view);
        match to.as_mut().and_then(Iterator::next) {
            Some(dx) => norm::gradient_apply(g, x, coefficients, dx),
            None if in_place => norm::gradient_apply_in_place(g, x, coefficients),
            None => {}
        }
    }
    if let Some(cut) = &cut {
        d = cut.affine(saved.map(|(_, inverse)| inverse));
    }
    for (to, sums) in [(d_affine.0, &d[..channels]), (d_affine.1, &d[channels..])] {
        to.iter().for_each(|to| put(sums, *to));
    }
    Ok(())
}

/// a, b and c of dx = a·g + b·(x − μ) + c, from Σg and Σg·(x − μ) over `rows` rows.
fn coefficients(gamma: Option<&[f32]>, inverse: &[f32], sums: &[f64], rows: f64) -> [Vec<f32>; 3] {
    let channels = inverse.len();
    let [mut a, mut b, mut c] = [const { Vec::new() }; 3].map(|_: Vec<f32>| vec![0f32; channels]);
    for i in 0..channels {
        let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[i]));
        let (inverse, sum, product) = (f64::from(inverse[i]), sums[i], sums[channels + i]);
        a[i] = (gamma * inverse) as f32;
        b[i] = (-gamma * inverse.powi(3) * product / rows) as f32;
        c[i] = (-gamma * inverse * sum / rows) as f32;
    }
    [a, b, c]
}

/// [`super::Machine::bias_gradient`] of the processor.
pub(super) fn bias_gradient(n: &Norm, flow: &Flow, d_bias: Span) -> Result<()> {
    let channels = n.shape.channels;
    let zeros = vec![0f32; channels];
    let mut passes = Backward::new(n, flow, &[n.x]);
    let shards: Vec<Vec<f64>> =
        (0..n.shape.views).map(|shard| passes.sums(shard, &zeros)[..channels].to_vec()).collect();
    put(&sharded::add_tree(shards), d_bias);
    Ok(())
}

/// The first pass of a gradient over the views: masks g in its place and sums it.
struct Backward<'a> {
    g: &'a mut [f32],
    other: Option<&'a [f32]>,
    y: Option<&'a [f32]>,
    x: &'a [f32],
    scratch: &'a mut [f32],
    view_len: usize,
}

impl<'a> Backward<'a> {
    /// `beside` is what is read beside the flow.
    fn new(n: &Norm<'a>, flow: &Flow<'a>, beside: &[Span]) -> Self {
        let read: Vec<Span> = beside.iter().copied().chain(flow.other).chain([flow.y]).collect();
        n.shape.check(&[flow.g, flow.y, n.x]);
        flow.other.iter().for_each(|other| n.shape.check(&[*other]));
        Self {
            g: slice_mut(flow.g, &read),
            other: flow.other.map(slice),
            y: (flow.mask != Mask::None).then(|| slice(flow.y)),
            x: slice(n.x),
            scratch: slice_mut(n.scratch, &[&read[..], &[flow.g]].concat()),
            view_len: n.shape.view_len(),
        }
    }

    fn rows(&self, view: usize) -> Range<usize> {
        view * self.view_len..(view + 1) * self.view_len
    }

    /// Masks the gradient of a view; Σg and Σg·(x − μ) of each channel.
    fn sums(&mut self, view: usize, mean: &[f32]) -> Vec<f64> {
        let rows = self.rows(view);
        let part = |array: Option<&'a [f32]>| array.map(|array| &array[rows.clone()]);
        let mut sums = vec![0f64; 2 * mean.len()];
        let (other, y, x) = (part(self.other), part(self.y), &self.x[rows.clone()]);
        norm::gradient_sums(&mut self.g[rows], other, y, x, mean, &mut sums, self.scratch);
        sums
    }

    /// The gradient of a view, masked once its sums were taken, and the input.
    fn view(&mut self, view: usize) -> (&mut [f32], &[f32]) {
        let rows = self.rows(view);
        (&mut self.g[rows.clone()], &self.x[rows])
    }
}
