//! The forward and the backward pass of a plan, on slices.

use super::layers::{Network, Op, Parameter};
use super::plan::Plan;
use crate::kernel::{Kernel, norm, pool};

/// The memory of one pass. Kept and used again from step to step.
#[derive(Default)]
pub struct Arena {
    values: Vec<f32>,
    gradients: Vec<f32>,
    statistics: Vec<f32>,
    scratch: Vec<f32>,
}

/// How batch norm normalises.
pub enum Statistics<'a> {
    /// By the batch's statistics, view by view; the running ones move towards them.
    Batch(&'a mut [f32]),
    /// By the running statistics.
    Running(&'a [f32]),
}

/// PyTorch's momentum of running statistics.
pub const RUNNING_MOMENTUM: f32 = 0.1;

fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        *buffer = vec![0.0; len];
    }
}

impl Arena {
    /// Makes room for `plan`.
    pub fn fit(&mut self, plan: &Plan) {
        grow(&mut self.values, plan.values_len);
        grow(&mut self.gradients, plan.gradients_len);
        grow(&mut self.statistics, plan.statistics_len);
        grow(&mut self.scratch, plan.scratch_len);
    }

    /// A value of the last forward pass, (V·B, H, W, C).
    pub fn value(&self, network: &Network, plan: &Plan, value: usize) -> &[f32] {
        let len = network.values[value].len() * plan.views * plan.batch;
        &self.values[plan.values[value].start..][..len]
    }
}

/// The slice of `theta` that parameter `index` of `network` is.
fn parameter<'a>(parameters: &[Parameter], flat: &'a [f32], index: usize) -> &'a [f32] {
    let p = &parameters[index];
    &flat[p.offset..p.offset + p.len]
}

/// Runs every node on `x` (V·B, H, W, C).
pub fn forward(
    network: &Network,
    kernel: &dyn Kernel,
    plan: &Plan,
    arena: &mut Arena,
    x: &[f32],
    theta: &[f32],
    mut statistics: Statistics,
) {
    let images = plan.views * plan.batch;
    let weights = |index| parameter(network.parameters(), theta, index);
    for (index, node) in network.nodes.iter().enumerate() {
        let (in_shape, out_shape) = (network.values[node.input], network.values[index + 1]);
        let place = |value: usize| {
            let start = plan.values[value].start;
            start..start + network.values[value].len() * images
        };
        // An input outside the arena has an empty place inside it.
        let inside = |value: usize| if value == 0 { 0..0 } else { place(value) };
        let residual_id = match node.op {
            Op::Norm { residual: Some(residual), .. } => residual,
            _ => 0,
        };
        let residual_place = if residual_id == node.input { 0..0 } else { inside(residual_id) };
        let places = [place(index + 1), inside(node.input), residual_place];
        let Ok([y, input, residual_value]) = arena.values.get_disjoint_mut(places) else {
            unreachable!("the plan gives living values places that do not overlap")
        };
        let input: &[f32] = if node.input == 0 { x } else { input };
        match &node.op {
            Op::Conv { weight, .. } => {
                kernel.conv_forward(plan.conv(index), input, weights(*weight), y, &mut arena.scratch);
            }
            Op::Norm { affine, running, residual, relu } => {
                let channels = out_shape.channels;
                let len = plan.batch * out_shape.len();
                let saved = &mut arena.statistics[plan.statistics[index].clone()];
                let ones = vec![1.0; channels];
                let zeros = vec![0.0; channels];
                let (scale, shift) =
                    affine.map_or((&ones[..], &zeros[..]), |(scale, shift)| (weights(scale), weights(shift)));
                for (view, saved) in saved.chunks_exact_mut(2 * channels).enumerate() {
                    let rows = view * len..(view + 1) * len;
                    let (mean, inverse) = saved.split_at_mut(channels);
                    view_statistics(
                        &input[rows.clone()],
                        mean,
                        inverse,
                        network.running(),
                        *running,
                        &mut statistics,
                        &mut arena.scratch,
                    );
                    let folded: Vec<f32> = scale.iter().zip(&*inverse).map(|(s, i)| s * i).collect();
                    let residual = residual.map(|_| match residual_id {
                        0 => &x[rows.clone()],
                        _ => &residual_value[rows.clone()],
                    });
                    norm::apply(&input[rows.clone()], mean, &folded, shift, residual, *relu, &mut y[rows]);
                }
            }
            Op::Bias { bias, relu } => {
                let ones = vec![1.0; out_shape.channels];
                let zeros = vec![0.0; out_shape.channels];
                norm::apply(input, &zeros, &ones, weights(*bias), None, *relu, y);
            }
            Op::MaxPool => {
                pool::max_pool(input, (in_shape.height, in_shape.width, in_shape.channels), y);
            }
            Op::AveragePool => {
                pool::average_pool(input, in_shape.height * in_shape.width, in_shape.channels, y);
            }
        }
    }
}

/// Mean and 1/√(σ²+ε) of a view, by whichever statistics are asked for.
fn view_statistics(
    x: &[f32],
    mean: &mut [f32],
    inverse: &mut [f32],
    parameters: &[Parameter],
    (running_mean, running_variance): (usize, usize),
    statistics: &mut Statistics,
    scratch: &mut [f32],
) {
    let invert = |variance: f32| (1.0 / (f64::from(variance) + norm::EPSILON).sqrt()) as f32;
    match statistics {
        Statistics::Running(running) => {
            mean.copy_from_slice(parameter(parameters, running, running_mean));
            let variance = parameter(parameters, running, running_variance);
            inverse.iter_mut().zip(variance).for_each(|(i, v)| *i = invert(*v));
        }
        Statistics::Batch(running) => {
            norm::statistics(x, mean, inverse, scratch);
            let rows = (x.len() / mean.len()) as f32;
            let unbiased = rows / (rows - 1.0).max(1.0);
            let mut move_towards = |index: usize, values: &[f32], factor: f32| {
                let p = &parameters[index];
                for (r, v) in running[p.offset..p.offset + p.len].iter_mut().zip(values) {
                    *r = (1.0 - RUNNING_MOMENTUM) * *r + RUNNING_MOMENTUM * (v * factor);
                }
            };
            move_towards(running_mean, mean, 1.0);
            move_towards(running_variance, inverse, unbiased);
            inverse.iter_mut().for_each(|i| *i = invert(*i));
        }
    }
}

/// The gradient of the last training forward pass: `dy` (V·B, output) in, the flat gradient of θ
/// added into nothing but overwritten, and the gradient of the input where the network has one.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    network: &Network,
    kernel: &dyn Kernel,
    plan: &Plan,
    arena: &mut Arena,
    x: &[f32],
    theta: &[f32],
    dy: &[f32],
    d_theta: &mut [f32],
    d_input: Option<&mut [f32]>,
) {
    let images = plan.views * plan.batch;
    arena.gradients[plan.output_gradient.start..][..dy.len()].copy_from_slice(dy);
    let Arena { values, gradients, statistics, scratch } = arena;
    let value = |id: usize| -> &[f32] {
        if id == 0 { x } else { &values[plan.values[id].start..][..network.values[id].len() * images] }
    };
    for (index, node) in network.nodes.iter().enumerate().rev() {
        let (in_shape, out_shape) = (network.values[node.input], network.values[index + 1]);
        let (in_len, out_len) = (in_shape.len() * images, out_shape.len() * images);
        let places = &plan.gradients[index];
        let first = places.output[0].start..places.output[0].start + out_len;
        let in_place = places.input.start == first.start && !places.input.is_empty();
        let other = places.output.get(1).map_or(0..0, |range| range.start..range.start + out_len);
        let input = if in_place || places.input.is_empty() {
            0..0
        } else {
            places.input.start..places.input.start + in_len
        };
        let Ok([g, other, dx]) = gradients.get_disjoint_mut([first, other, input]) else {
            unreachable!("the plan gives living gradients places that do not overlap")
        };
        let other: Option<&[f32]> = if other.is_empty() { None } else { Some(other) };
        match &node.op {
            Op::Conv { weight, .. } => {
                let conv = plan.conv(index);
                let p = &network.parameters()[*weight];
                let dw = &mut d_theta[p.offset..p.offset + p.len];
                kernel.conv_weight_gradient(conv, value(node.input), g, dw, scratch);
                if !dx.is_empty() {
                    let weights = parameter(network.parameters(), theta, *weight);
                    kernel.conv_input_gradient(conv, g, weights, dx, scratch);
                }
            }
            Op::Norm { affine, relu, .. } => {
                let channels = out_shape.channels;
                let y = relu.then(|| value(index + 1));
                let saved = &statistics[plan.statistics[index].clone()];
                let per_view = plan.batch * out_shape.len();
                let mut d_affine = vec![0f64; 2 * channels];
                for view in 0..plan.views {
                    let rows = view * per_view..(view + 1) * per_view;
                    let (mean, inverse) = saved[2 * view * channels..][..2 * channels].split_at(channels);
                    let x = &value(node.input)[rows.clone()];
                    let mut sums = vec![0f64; 2 * channels];
                    norm::gradient_sums(
                        &mut g[rows.clone()],
                        other.map(|o| &o[rows.clone()]),
                        y.map(|y| &y[rows.clone()]),
                        x,
                        mean,
                        &mut sums,
                        scratch,
                    );
                    let count = (per_view / channels) as f64;
                    let (mut a, mut b, mut c) =
                        (vec![0f32; channels], vec![0f32; channels], vec![0f32; channels]);
                    for i in 0..channels {
                        let gamma = affine.map_or(1.0, |(scale, _)| {
                            f64::from(parameter(network.parameters(), theta, scale)[i])
                        });
                        let inverse = f64::from(inverse[i]);
                        let (sum, product) = (sums[i], sums[channels + i]);
                        a[i] = (gamma * inverse) as f32;
                        b[i] = (-gamma * inverse.powi(3) * product / count) as f32;
                        c[i] = (-gamma * inverse * sum / count) as f32;
                        d_affine[i] += product * inverse;
                        d_affine[channels + i] += sum;
                    }
                    let coefficients = [&a[..], &b[..], &c[..], mean];
                    if in_place {
                        norm::gradient_apply_in_place(&mut g[rows], x, coefficients);
                    } else {
                        norm::gradient_apply(&g[rows.clone()], x, coefficients, &mut dx[rows]);
                    }
                }
                if let Some((scale, shift)) = affine {
                    for (index, sums) in [(*scale, &d_affine[..channels]), (*shift, &d_affine[channels..])] {
                        let p = &network.parameters()[index];
                        let out = &mut d_theta[p.offset..p.offset + p.len];
                        out.iter_mut().zip(sums).for_each(|(o, s)| *o = *s as f32);
                    }
                }
            }
            Op::Bias { bias, relu } => {
                let channels = out_shape.channels;
                let y = relu.then(|| value(index + 1));
                let (mut sums, zeros) = (vec![0f64; 2 * channels], vec![0f32; channels]);
                norm::gradient_sums(g, other, y, value(node.input), &zeros, &mut sums, scratch);
                let p = &network.parameters()[*bias];
                let out = &mut d_theta[p.offset..p.offset + p.len];
                out.iter_mut().zip(&sums).for_each(|(o, s)| *o = *s as f32);
            }
            Op::MaxPool => {
                let shape = (in_shape.height, in_shape.width, in_shape.channels);
                pool::max_pool_gradient(g, other, value(node.input), value(index + 1), shape, dx);
            }
            Op::AveragePool => {
                pool::average_pool_gradient(g, in_shape.height * in_shape.width, in_shape.channels, dx);
            }
        }
    }
    if let Some(d_input) = d_input {
        // Node 0 is the input's only reader in every network that wants its gradient.
        let start = plan.gradients[0].input.start;
        d_input.copy_from_slice(&gradients[start..start + d_input.len()]);
    }
}
