//! The forward and the backward pass of a plan on a device: `passes.rs` again, with launches in the place of loops.
//!
//! The plan is the same, so values and gradients have the same places; they are stored as f32 or bf16, θ, its gradient
//! and statistics always as f32 (in bf16, cuDNN's gradients of weights pass through 16 bits). Nothing here waits for the
//! device.

use super::layers::{Network, Op, Parameter};
use super::passes::RUNNING_MOMENTUM;
use super::plan::Plan;
use crate::error::Result;
use crate::kernel::device::{
    Buffer, Device, Layer, Layers, Mask, NormShape, Pass, Span, as_product, pool_scratch_len, scratch_len,
    unfolded,
};
use crate::kernel::{Conv, Precision};
use std::ops::Range;

/// How the images and the weights of each convolution reach it.
pub struct Staging {
    /// For each node that has staged weights, where they lie.
    places: Vec<Option<Range<usize>>>,
    /// The table for the kernels.
    layers: Layers,
    /// Whether the first convolution multiplies patches of the images instead of reading them.
    unfolds: bool,
}

/// The product that node 0 is when the images are unfolded for it: nothing else reads them or wants their gradient.
fn first_product(network: &Network, plan: &Plan, precision: Precision) -> Option<Conv> {
    let readers = network.nodes.iter().filter(|node| node.input == 0).count();
    let alone = readers == 1 && !network.input_gradient && matches!(network.nodes[0].op, Op::Conv { .. });
    if alone { unfolded(plan.conv(0), precision) } else { None }
}

impl Staging {
    /// For `network`: filters for convolutions; for products θ's own numbers, rounded where values are bf16.
    pub fn new(device: &dyn Device, network: &Network, plan: &Plan, precision: Precision) -> Result<Self> {
        let (mut places, mut layers, mut len) = (Vec::new(), Vec::new(), 0);
        let first = first_product(network, plan, precision);
        for (index, node) in network.nodes.iter().enumerate() {
            let Op::Conv { weight, .. } = node.op else {
                places.push(None);
                continue;
            };
            let (conv, p) = (plan.conv(index), &network.parameters()[weight]);
            let unfolded = first.filter(|_| index == 0);
            let product = as_product(conv).is_some();
            if product && precision == Precision::F32 {
                places.push(None);
                continue;
            }
            let (rows, columns) = (conv.kernel * conv.kernel * conv.in_channels, conv.out_channels);
            let filled = unfolded.map_or(rows, |product| product.in_channels);
            let transposed = !product && unfolded.is_none();
            layers.push(Layer { theta: p.offset, staged: len, rows, columns, filled, transposed });
            places.push(Some(len..len + filled * columns));
            // Every layer begins at a multiple of 16 bytes.
            len += (filled * columns).next_multiple_of(8);
        }
        Ok(Self { places, layers: Layers::new(device, &layers)?, unfolds: first.is_some() })
    }
}

/// The memory of one pass. Kept and used again from step to step.
#[derive(Default)]
pub struct DeviceArena {
    /// The images as node 0 reads them, where that is not as they come.
    input: Option<Buffer>,
    values: Option<Buffer>,
    gradients: Option<Buffer>,
    statistics: Option<Buffer>,
    scratch: Option<Buffer>,
    weights: Option<Buffer>,
    weight_gradients: Option<Buffer>,
}

/// A pass over one arena: what the forward and the backward pass share.
pub struct DevicePass<'a> {
    pub device: &'a dyn Device,
    pub network: &'a Network,
    pub plan: &'a Plan,
    pub staging: &'a Staging,
    pub precision: Precision,
    /// The images, f32.
    pub x: Span<'a>,
    /// θ, f32.
    pub theta: Span<'a>,
    pub arena: &'a DeviceArena,
}

/// How batch norm normalises.
#[derive(Clone, Copy)]
pub enum DeviceStatistics<'a> {
    /// By the batch's statistics; these running ones move towards them.
    Batch(Span<'a>),
    /// By these running statistics.
    Running(Span<'a>),
}

impl DeviceArena {
    /// Makes room for `plan`.
    pub fn fit(
        &mut self,
        device: &dyn Device,
        network: &Network,
        plan: &Plan,
        staging: &Staging,
        precision: Precision,
    ) -> Result<()> {
        let size = precision.bytes();
        let images = plan.views * plan.batch;
        let scratch = network.nodes.iter().enumerate().map(|(index, node)| match node.op {
            Op::Norm { .. } => scratch_len(&norm_shape(network, plan, index)),
            Op::Bias { .. } => scratch_len(&bias_shape(network, plan, index)),
            Op::MaxPool => pool_scratch_len(network.values[index + 1].len() * images),
            // The gradient of weights with rows of zeros.
            Op::Conv { .. } if index == 0 && staging.unfolds => {
                staging.places[0].as_ref().map_or(0, Range::len)
            }
            _ => 0,
        });
        device.grow(&mut self.scratch, 4 * scratch.max().unwrap_or(0))?;
        device.grow(&mut self.values, size * plan.values_len)?;
        device.grow(&mut self.gradients, size * plan.gradients_len)?;
        device.grow(&mut self.statistics, 4 * plan.statistics_len)?;
        device.grow(&mut self.weights, size * staging.layers.staged_len())?;
        if plan.gradients_len > 0 {
            device.grow(&mut self.weight_gradients, size * staging.layers.staged_len())?;
        }
        match first_product(network, plan, precision) {
            Some(product) => device.grow(&mut self.input, size * product.input_len())?,
            None if precision == Precision::F32 => {}
            None => device.grow(&mut self.input, size * network.values[0].len() * images)?,
        }
        Ok(())
    }
}

fn norm_shape(network: &Network, plan: &Plan, index: usize) -> NormShape {
    let shape = network.values[index + 1];
    NormShape { views: plan.views, rows: plan.batch * shape.height * shape.width, channels: shape.channels }
}

/// A bias knows no views.
fn bias_shape(network: &Network, plan: &Plan, index: usize) -> NormShape {
    let NormShape { views, rows, channels } = norm_shape(network, plan, index);
    NormShape { views: 1, rows: views * rows, channels }
}

/// Memory that `fit` has made.
fn span(buffer: &Option<Buffer>, precision: Precision, start: usize, len: usize) -> Span<'_> {
    match buffer {
        Some(buffer) => buffer.span(precision, start, len),
        None => unreachable!("an arena is fitted before it is used"),
    }
}

impl<'a> DevicePass<'a> {
    fn images(&self) -> usize {
        self.plan.views * self.plan.batch
    }

    /// A value, (V·B, H, W, C).
    pub fn value(&self, id: usize) -> Span<'a> {
        let len = self.network.values[id].len() * self.images();
        match (id, self.precision) {
            (0, Precision::F32) => self.x,
            (0, _) if self.staging.unfolds => self.x,
            (0, _) => span(&self.arena.input, self.precision, 0, len),
            _ => span(&self.arena.values, self.precision, self.plan.values[id].start, len),
        }
    }

    fn gradient(&self, start: usize, len: usize) -> Span<'a> {
        span(&self.arena.gradients, self.precision, start, len)
    }

    /// The gradient of the network's input.
    pub fn input_gradient(&self) -> Span<'a> {
        // Node 0 is the input's only reader in every network that wants its gradient.
        self.gradient(self.plan.gradients[0].input.start, self.network.values[0].len() * self.images())
    }

    fn scratch(&self) -> Span<'a> {
        let numbers = self.arena.scratch.as_ref().map_or(0, |buffer| buffer.bytes() / 4);
        span(&self.arena.scratch, Precision::F32, 0, numbers)
    }

    fn statistics(&self, index: usize) -> Span<'a> {
        let range = &self.plan.statistics[index];
        span(&self.arena.statistics, Precision::F32, range.start, range.len())
    }

    fn parameter(&self, index: usize) -> Span<'a> {
        part(self.network.parameters(), self.theta, index)
    }

    /// γ and β of a normalisation.
    fn affine(&self, affine: &Option<(usize, usize)>) -> (Option<Span<'a>>, Option<Span<'a>>) {
        (affine.map(|(scale, _)| self.parameter(scale)), affine.map(|(_, shift)| self.parameter(shift)))
    }

    /// The weights of convolution `index` as its pass reads them.
    fn weights(&self, index: usize, weight: usize) -> Span<'a> {
        match self.staging.places[index] {
            None => self.parameter(weight),
            Some(ref place) => span(&self.arena.weights, self.precision, place.start, place.len()),
        }
    }

    /// The first convolution as a product, with its patches, where the images are unfolded.
    fn first_product(&self, index: usize) -> Option<(Conv, Span<'a>)> {
        if index != 0 || !self.staging.unfolds {
            return None;
        }
        let product = first_product(self.network, self.plan, self.precision)?;
        Some((product, span(&self.arena.input, self.precision, 0, product.input_len())))
    }

    /// Runs every node.
    pub fn forward(&self, statistics: DeviceStatistics) -> Result<()> {
        let (device, network) = (self.device, self.network);
        if let Some((_, patches)) = self.first_product(0) {
            device.unfold(self.plan.conv(0), self.x, patches)?;
        } else if self.precision != Precision::F32 {
            device.copy(self.x, self.value(0))?;
        }
        let staged = self.staging.layers.staged_len();
        device.stage_weights(
            &self.staging.layers,
            self.theta,
            span(&self.arena.weights, self.precision, 0, staged),
        )?;
        for (index, node) in network.nodes.iter().enumerate() {
            let in_shape = network.values[node.input];
            let (x, y) = (self.value(node.input), self.value(index + 1));
            match &node.op {
                Op::Conv { weight, .. } => {
                    let (conv, w) = (self.plan.conv(index), self.weights(index, *weight));
                    match (self.first_product(index), as_product(conv)) {
                        (Some((product, patches)), _) => {
                            device.multiply(Pass::Forward, &product, patches, w, y)?;
                        }
                        (None, Some(_)) => device.multiply(Pass::Forward, conv, x, w, y)?,
                        (None, None) => device.convolve(Pass::Forward, conv, x, w, y)?,
                    }
                }
                Op::Norm { affine, running, residual, relu } => {
                    let s = norm_shape(network, self.plan, index);
                    let saved = self.statistics(index);
                    match statistics {
                        DeviceStatistics::Running(values) => {
                            let of = |index| part(network.running(), values, index);
                            device.norm_running(of(running.0), of(running.1), saved)?;
                        }
                        DeviceStatistics::Batch(values) => {
                            let of = |index| part(network.running(), values, index);
                            let moved = (of(running.0), of(running.1));
                            device.norm_statistics(&s, x, saved, moved, RUNNING_MOMENTUM, self.scratch())?;
                        }
                    }
                    let residual = residual.map(|id| self.value(id));
                    device.norm_apply(&s, x, residual, Some(saved), self.affine(affine), y, *relu)?;
                }
                Op::Bias { bias, relu } => {
                    let s = bias_shape(network, self.plan, index);
                    device.norm_apply(&s, x, None, None, (None, Some(self.parameter(*bias))), y, *relu)?;
                }
                Op::MaxPool => {
                    device.max_pool([in_shape.height, in_shape.width, in_shape.channels], x, y)?;
                }
                Op::AveragePool => {
                    device.average_pool(in_shape.height * in_shape.width, in_shape.channels, x, y)?;
                }
            }
        }
        Ok(())
    }

    /// The gradient of the last training forward pass: `dy` (V·B, output) in, the flat gradient of θ out, both f32.
    pub fn backward(&self, dy: Span, d_theta: Span) -> Result<()> {
        let (device, network, plan) = (self.device, self.network, self.plan);
        device.copy(dy, self.gradient(plan.output_gradient.start, dy.len()))?;
        for (index, node) in network.nodes.iter().enumerate().rev() {
            let in_shape = network.values[node.input];
            let places = &plan.gradients[index];
            let out_len = network.values[index + 1].len() * self.images();
            let g = self.gradient(places.output[0].start, out_len);
            let other = places.output.get(1).map(|place| self.gradient(place.start, out_len));
            let dx = (!places.input.is_empty())
                .then(|| self.gradient(places.input.start, in_shape.len() * self.images()));
            let (x, y) = (self.value(node.input), self.value(index + 1));
            match &node.op {
                Op::Conv { weight, .. } => self.conv_gradient(index, *weight, x, g, dx, d_theta)?,
                Op::Norm { affine, residual, relu, .. } => {
                    let mask = match (relu, residual, other) {
                        (false, ..) => Mask::None,
                        (true, None, None) => Mask::Again,
                        (true, ..) => Mask::ByOutput,
                    };
                    let s = norm_shape(network, plan, index);
                    let (saved, affine_of) = (Some(self.statistics(index)), self.affine(affine));
                    let d = |index| part(network.parameters(), d_theta, index);
                    let d_affine = (affine.map(|(scale, _)| d(scale)), affine.map(|(_, shift)| d(shift)));
                    let scratch = self.scratch();
                    device
                        .norm_gradient_sums(&s, g, other, y, x, saved, affine_of, d_affine, mask, scratch)?;
                    // The encoder's images want no gradient.
                    if let Some(dx) = dx {
                        device.norm_gradient_apply(&s, g, x, saved, affine_of, dx, mask, scratch)?;
                    }
                }
                Op::Bias { bias, relu } => {
                    // The masked gradient is the input's: it stays where it is.
                    let mask = if *relu { Mask::ByOutput } else { Mask::None };
                    let s = bias_shape(network, plan, index);
                    let d_bias = (None, Some(part(network.parameters(), d_theta, *bias)));
                    let none = (None, None);
                    device.norm_gradient_sums(
                        &s,
                        g,
                        other,
                        y,
                        x,
                        None,
                        none,
                        d_bias,
                        mask,
                        self.scratch(),
                    )?;
                }
                Op::MaxPool => {
                    if let Some(dx) = dx {
                        let shape = [in_shape.height, in_shape.width, in_shape.channels];
                        device.max_pool_gradient(shape, (g, other), x, dx, self.scratch())?;
                    }
                }
                Op::AveragePool => {
                    if let Some(dx) = dx {
                        let pixels = in_shape.height * in_shape.width;
                        device.average_pool_gradient(pixels, in_shape.channels, g, dx)?;
                    }
                }
            }
        }
        let staged = self.staging.layers.staged_len();
        let gradients = span(&self.arena.weight_gradients, self.precision, 0, staged);
        device.unstage_gradients(&self.staging.layers, gradients, d_theta)
    }

    fn conv_gradient(
        &self,
        index: usize,
        weight: usize,
        x: Span,
        g: Span,
        dx: Option<Span>,
        d_theta: Span,
    ) -> Result<()> {
        let (device, conv, w) = (self.device, self.plan.conv(index), self.weights(index, weight));
        if let Some((product, patches)) = self.first_product(index) {
            let filled = self.scratch().part(0..product.weight_len());
            device.multiply(Pass::WeightGradient, &product, patches, g, filled)?;
            let dw = part(self.network.parameters(), d_theta, weight);
            return device.copy(filled.part(0..dw.len()), dw);
        }
        if as_product(conv).is_some() {
            let dw = part(self.network.parameters(), d_theta, weight);
            device.multiply(Pass::WeightGradient, conv, x, g, dw)?;
            return dx.map_or(Ok(()), |dx| device.multiply(Pass::InputGradient, conv, g, w, dx));
        }
        let place = self.staging.places[index].clone().unwrap_or_default();
        let dw = span(&self.arena.weight_gradients, self.precision, place.start, place.len());
        device.convolve(Pass::WeightGradient, conv, x, g, dw)?;
        dx.map_or(Ok(()), |dx| device.convolve(Pass::InputGradient, conv, g, w, dx))
    }
}

/// Piece `index` of a flat vector.
fn part<'a>(parameters: &[Parameter], flat: Span<'a>, index: usize) -> Span<'a> {
    let p = &parameters[index];
    flat.part(p.offset..p.offset + p.len)
}
