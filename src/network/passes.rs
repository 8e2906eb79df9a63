//! The forward and the backward pass of a plan, on whichever machine its numbers lie.
//!
//! Values and their gradients are stored as the machine says, θ, its gradient and statistics always
//! as f32 (in bf16, cuDNN's gradients of weights pass through 16 bits). Nothing here waits for a
//! device.

use super::arena::Arena;
use super::layers::{Network, Node, Op, Parameter};
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::kernel::device::{Affine, Mask, Pass as ConvPass, Span};
use crate::kernel::machine::{Flow, Machine, Norm, Statistics, Weights};
use crate::kernel::ranks::Shards;
use crate::kernel::{Conv, Precision};
use std::ops::Range;

/// A pass over one arena: what the forward and the backward pass share. It fails where a device
/// does, with [`crate::Error::Device`].
pub struct Pass<'a> {
    pub machine: &'a dyn Machine,
    pub network: &'a Network,
    pub plan: &'a Plan,
    /// How values are stored.
    pub storage: Precision,
    /// The images, (V·B, H, W, C), f32.
    pub x: Span<'a>,
    /// θ, f32.
    pub theta: Span<'a>,
    pub arena: &'a Arena,
    /// How the batch is cut, where it is: statistics of batch norm are taken over all shards.
    pub shards: Option<&'a Shards>,
}

/// Which statistics batch norm normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The batch's, view by view; the running ones move towards them.
    Batch,
    /// The running ones.
    Running,
}

/// PyTorch's momentum of running statistics.
const RUNNING_MOMENTUM: f32 = 0.1;

/// Piece `index` of a flat vector.
fn part<'a>(parameters: &[Parameter], flat: Span<'a>, index: usize) -> Span<'a> {
    let p = &parameters[index];
    flat.part(p.offset..p.offset + p.len)
}

impl<'a> Pass<'a> {
    fn images(&self) -> usize {
        self.plan.views * self.plan.batch
    }

    /// A value, (V·B, H, W, C).
    pub fn value(&self, id: usize) -> Span<'a> {
        let len = self.network.values[id].len() * self.images();
        match id {
            0 if self.storage == Precision::F32 || self.first_product(0).is_some() => self.x,
            0 => self.arena.input(self.storage, len),
            _ => self.arena.values(self.storage, self.plan.values[id].start, len),
        }
    }

    /// The gradient of the network's input, after [`Pass::backward`]: that of its last reader, to
    /// which those of the others are added, as in a residual block that begins a network.
    pub fn input_gradient(&self) -> Result<Span<'a>> {
        let len = self.network.values[0].len() * self.images();
        let mut of_readers = self.plan.input_gradients.iter().map(|place| self.gradient(place.start, len));
        let none = || Error::Failure("a network that wants no gradient of its input".into());
        let sum = of_readers.next().ok_or_else(none)?;
        of_readers.try_for_each(|other| self.machine.add(other, sum))?;
        Ok(sum)
    }

    fn gradient(&self, start: usize, len: usize) -> Span<'a> {
        self.arena.gradients(self.storage, start, len)
    }

    fn parameter(&self, index: usize) -> Span<'a> {
        part(self.network.parameters(), self.theta, index)
    }

    /// γ and β of a normalisation within θ or its gradient.
    fn affine<'b>(&self, affine: Option<(usize, usize)>, flat: Span<'b>) -> Affine<'b> {
        let of = |index| part(self.network.parameters(), flat, index);
        (affine.map(|(scale, _)| of(scale)), affine.map(|(_, shift)| of(shift)))
    }

    /// The normalisation, or the bias, of node `index`.
    fn norm(&self, index: usize, node: &Node) -> Norm<'a> {
        let affine = match node.op {
            Op::Norm { affine, .. } => affine,
            _ => None,
        };
        Norm {
            shape: self.plan.norm_shape(self.network, index),
            x: self.value(node.input),
            saved: self.arena.statistics(&self.plan.statistics[index]),
            affine: self.affine(affine, self.theta),
            scratch: self.arena.scratch(),
            shards: self.shards,
        }
    }

    /// The weights of convolution `index` as its passes read them.
    fn weights(&self, index: usize, weight: usize) -> Span<'a> {
        match &self.arena.staging().places[index] {
            None => self.parameter(weight),
            Some((place, _)) => self.arena.weights(self.storage, place),
        }
    }

    /// The first convolution as a product, with its patches, where the images are unfolded.
    fn first_product(&self, index: usize) -> Option<(Conv, Span<'a>)> {
        if index != 0 {
            return None;
        }
        let product = self.arena.first_product(self.machine, self.network, self.plan, self.storage)?;
        Some((product, self.arena.input(self.storage, product.input_len())))
    }

    /// Runs every node on x (V, B, H, W, C), with the `running` statistics, flat.
    pub fn forward(&self, by: By, running: Span) -> Result<()> {
        let machine = self.machine;
        if let Some((_, patches)) = self.first_product(0) {
            machine.unfold(self.plan.conv(0), self.x, patches)?;
        } else if self.storage != Precision::F32 {
            machine.copy(self.x, self.value(0))?;
        }
        if let Some(staged) = &self.arena.staging().staged {
            staged.stage(self.theta, self.arena.weights(self.storage, &(0..staged.len())))?;
        }
        for (index, node) in self.network.nodes.iter().enumerate() {
            let by = if index < self.network.frozen { By::Running } else { by };
            self.forward_node(index, node, by, running)?;
        }
        Ok(())
    }

    fn forward_node(&self, index: usize, node: &Node, by: By, running_values: Span) -> Result<()> {
        let machine = self.machine;
        let (x, y) = (self.value(node.input), self.value(index + 1));
        let shape = self.network.values[node.input].sides();
        match &node.op {
            Op::Conv { weight, .. } => {
                let (first, w) = (self.first_product(index), self.weights(index, *weight));
                let (conv, x) = first.unwrap_or((*self.plan.conv(index), x));
                self.conv_by_shards(ConvPass::Forward, &conv, [x, w], y)
            }
            Op::Norm { running, residual, relu, .. } => {
                let of = |index| part(self.network.running(), running_values, index);
                let (mean, variance) = (of(running.0), of(running.1));
                let momentum = (by == By::Batch).then_some(RUNNING_MOMENTUM);
                let residual = residual.map(|id| self.value(id));
                let running = Statistics { mean, variance, momentum };
                machine.norm(&self.norm(index, node), running, residual, *relu, y)
            }
            Op::Bias { bias, relu } => {
                let shape = self.plan.norm_shape(self.network, index);
                machine.bias(&shape, x, self.parameter(*bias), *relu, y)
            }
            Op::MaxPool => machine.max_pool(shape, x, y),
            Op::AveragePool => machine.average_pool(shape, x, y),
        }
    }

    /// The gradient of the last training forward pass: `dy` (V·B, output) in, the flat gradient of
    /// θ out, both f32. Of frozen parameters nothing is written, or nothing that means anything.
    pub fn backward(&self, dy: Span, d_theta: Span) -> Result<()> {
        self.machine.copy(dy, self.gradient(self.plan.output_gradient.start, dy.len()))?;
        for (index, node) in self.network.nodes.iter().enumerate().skip(self.network.frozen).rev() {
            self.backward_node(index, node, d_theta)?;
        }
        match &self.arena.staging().staged {
            Some(staged) => {
                let gradients = self.arena.weight_gradients(self.plan, self.storage, &(0..staged.len()));
                staged.unstage_gradients(gradients, d_theta)
            }
            None => Ok(()),
        }
    }

    fn backward_node(&self, index: usize, node: &Node, d_theta: Span) -> Result<()> {
        let (machine, places) = (self.machine, &self.plan.gradients[index]);
        let input = self.network.values[node.input];
        let out_len = self.network.values[index + 1].len() * self.images();
        let g = self.gradient(places.output[0].start, out_len);
        let other = places.output.get(1).map(|place| self.gradient(place.start, out_len));
        // Nobody goes on from the gradient of what a frozen node made.
        let frozen = self.network.frozen;
        let wanted = !places.input.is_empty() && (frozen == 0 || node.input > frozen);
        let dx = wanted.then(|| self.gradient(places.input.start, input.len() * self.images()));
        let (x, y) = (self.value(node.input), self.value(index + 1));
        let mask = match node.op {
            Op::Norm { relu: true, residual: None, .. } if other.is_none() => Mask::Again,
            Op::Norm { relu: true, .. } | Op::Bias { relu: true, .. } => Mask::ByOutput,
            _ => Mask::None,
        };
        let flow = Flow { g, other, y, mask };
        match (&node.op, dx) {
            (Op::Conv { weight, .. }, dx) => self.conv_gradient(index, *weight, [x, g], dx, d_theta),
            (Op::Norm { affine, .. }, dx) => {
                let d_affine = self.affine(*affine, d_theta);
                machine.norm_gradient(&self.norm(index, node), &flow, d_affine, dx)
            }
            (Op::Bias { bias, .. }, _) => {
                let d_bias = part(self.network.parameters(), d_theta, *bias);
                machine.bias_gradient(&self.norm(index, node), &flow, d_bias)
            }
            // The encoder's images want no gradient.
            (_, None) => Ok(()),
            (Op::MaxPool, Some(dx)) => {
                machine.max_pool_gradient(input.sides(), &flow, x, dx, self.arena.scratch())
            }
            (Op::AveragePool, Some(dx)) => machine.average_pool_gradient(input.sides(), g, dx),
        }
    }

    fn conv_gradient(
        &self,
        index: usize,
        weight: usize,
        [x, g]: [Span<'a>; 2],
        dx: Option<Span>,
        d_theta: Span,
    ) -> Result<()> {
        let conv = self.plan.conv(index);
        let dw = part(self.network.parameters(), d_theta, weight);
        if let Some((product, patches)) = self.first_product(index) {
            // A machine that unfolds needs no scratch for products.
            let filled = self.arena.scratch().part(0..product.weight_len());
            self.weight_gradient(&product, [patches, g], filled, 0..self.plan.shards)?;
            return self.machine.copy(filled.part(0..dw.len()), dw);
        }
        let dw = match &self.arena.staging().places[index] {
            Some((place, true)) => self.arena.weight_gradients(self.plan, self.storage, place),
            _ => dw,
        };
        self.weight_gradient(conv, [x, g], dw, 0..self.plan.shards)?;
        let w = self.weights(index, weight);
        dx.map_or(Ok(()), |dx| self.conv_by_shards(ConvPass::InputGradient, conv, [g, w], dx))
    }

    /// The part of some images' values that shard `shard` of this rank has.
    fn of_shard<'b>(&self, span: Span<'b>, shard: usize) -> Span<'b> {
        let len = span.len() / self.plan.shards;
        span.part(shard * len..(shard + 1) * len)
    }

    /// A pass of a convolution from images and weights to images: shard by shard where the bytes of
    /// a shard's would otherwise depend on which others this rank has.
    fn conv_by_shards(&self, pass: ConvPass, conv: &Conv, [from, w]: [Span; 2], to: Span) -> Result<()> {
        let (machine, scratch) = (self.machine, self.arena.scratch());
        if self.plan.shards == 1 || !machine.mixes_images() {
            return machine.conv(pass, conv, [from, w], to, scratch);
        }
        let conv = self.plan.of_shard(conv);
        (0..self.plan.shards).try_for_each(|shard| {
            let (from, to) = (self.of_shard(from, shard), self.of_shard(to, shard));
            machine.conv(pass, &conv, [from, w], to, scratch)
        })
    }

    /// The gradient of a convolution's weights over some of this rank's shards, added as a tree.
    fn weight_gradient(&self, conv: &Conv, [x, g]: [Span; 2], dw: Span, shards: Range<usize>) -> Result<()> {
        if shards.len() == 1 {
            let inputs = [x, g].map(|span| self.of_shard(span, shards.start));
            let (conv, scratch) = (self.plan.of_shard(conv), self.arena.scratch());
            let filters = self.machine.weights(&conv, self.storage) == Weights::Filters;
            if self.plan.shards == 1 || !filters || self.storage == Precision::F32 {
                return self.machine.conv(ConvPass::WeightGradient, &conv, inputs, dw, scratch);
            }
            let leaf = self.arena.leaf(self.plan, self.storage, dw.len());
            self.machine.conv(ConvPass::WeightGradient, &conv, inputs, leaf, scratch)?;
            return self.machine.copy(leaf, dw);
        }
        let middle = (shards.start + shards.end) / 2;
        let level = shards.len().ilog2() as usize - 1;
        let right = self.arena.partial(self.plan, level, dw.len());
        self.weight_gradient(conv, [x, g], dw, shards.start..middle)?;
        self.weight_gradient(conv, [x, g], right, middle..shards.end)?;
        self.machine.add(right, dw)
    }
}
