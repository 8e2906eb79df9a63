//! A network laid out for a number of views and images: where each value and each gradient lies in
//! the arenas. Made once for each (views, batch, mode) and used for every step.

use super::layers::{Network, Op, ValueId};
use crate::kernel::device::NormShape;
use crate::kernel::machine::{Machine, Processor};
use crate::kernel::{Conv, Kernel};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A backward pass will follow: every value is kept.
    Train,
    /// No backward pass: a value's place is used again as soon as it has been read.
    Forget,
}

/// Plans by shards, views of each and images of each view, and what a pass is for.
pub type Plans = HashMap<([usize; 3], Mode), Arc<Plan>>;

/// Where everything lies, in numbers.
pub struct Plan {
    /// Views, those of every shard counted.
    pub views: usize,
    /// Images of a view.
    pub batch: usize,
    /// Shards that this rank has of the batch: V views of the first, then of the next, …
    pub shards: usize,
    /// The place of each value in the arena of values; the input (value 0) lies outside.
    pub values: Vec<Range<usize>>,
    pub values_len: usize,
    /// For each node, where the gradient of its input is written, and that of its residual stays;
    /// both in the arena of gradients. Filled for [`Mode::Train`] only.
    pub gradients: Vec<Gradients>,
    pub gradients_len: usize,
    /// Where the gradients of the network's input lie after the backward pass, one for each of its
    /// readers, where the network wants them.
    pub input_gradients: Vec<Range<usize>>,
    /// Where the gradient of the network's output is put at the start of the backward pass.
    pub output_gradient: Range<usize>,
    /// The statistics of each normalisation: mean, 1/√(σ²+ε), (views, C) each.
    pub statistics: Vec<Range<usize>>,
    pub statistics_len: usize,
    pub scratch_len: usize,
    /// Numbers of the largest weights.
    pub weights_len: usize,
    convs: Vec<Option<Conv>>,
}

/// The gradients that a node's backward pass reads and writes.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of its output: one for each reader of the output. The first is overwritten.
    pub output: Vec<Range<usize>>,
    /// Of its input; the same place as `output[0]` where the pass works in place.
    pub input: Range<usize>,
}

impl Plan {
    /// Lays `network` out for `views` × `batch` images on `machine`, all of one shard.
    pub fn new(network: &Network, machine: &dyn Machine, views: usize, batch: usize, mode: Mode) -> Self {
        Self::cut(network, machine, [1, views, batch], mode)
    }

    /// Lays `network` out for so many shards of `views` × `batch` images each.
    pub fn cut(
        network: &Network,
        machine: &dyn Machine,
        [shards, views, batch]: [usize; 3],
        mode: Mode,
    ) -> Self {
        let views = shards * views;
        let images = views * batch;
        let (values, values_len) = lay_out_values(network, images, mode);
        let mut plan = Self {
            views,
            batch,
            shards,
            values,
            values_len,
            gradients: Vec::new(),
            gradients_len: 0,
            input_gradients: Vec::new(),
            output_gradient: 0..0,
            statistics: Vec::new(),
            statistics_len: 0,
            scratch_len: 0,
            weights_len: 0,
            convs: Vec::new(),
        };
        for index in 0..network.nodes.len() {
            plan.lay_out_node(network, machine, index);
        }
        if mode == Mode::Train {
            plan.lay_out_gradients(network, images);
        }
        plan
    }

    /// Gives node `index` its convolution, its statistics and enough scratch.
    fn lay_out_node(&mut self, network: &Network, machine: &dyn Machine, index: usize) {
        let node = &network.nodes[index];
        let output = network.values[index + 1];
        let images = self.views * self.batch;
        let start = self.statistics_len;
        let mut conv = None;
        let scratch = match &node.op {
            Op::Conv { kernel, stride, padding, .. } => {
                let shape = shape_of_conv(network, index, images, [*kernel, *stride, *padding]);
                conv = Some(shape);
                self.weights_len = self.weights_len.max(shape.weight_len());
                // The gradient of weights is taken shard by shard.
                machine.conv_scratch(&shape).max(machine.conv_scratch(&of_shard(shape, self.shards)))
            }
            Op::Norm { .. } | Op::Bias { .. } => {
                self.statistics_len += 2 * self.views * output.channels;
                machine.norm_scratch(&self.norm_shape(network, index))
            }
            Op::MaxPool => machine.pool_scratch(output.len() * images),
            Op::AveragePool => 0,
        };
        self.scratch_len = self.scratch_len.max(scratch);
        self.statistics.push(start..self.statistics_len);
        self.convs.push(conv);
    }

    /// The views, rows and channels of node `index`, a normalisation or a bias, which knows no
    /// views.
    pub fn norm_shape(&self, network: &Network, index: usize) -> NormShape {
        let shape = network.values[index + 1];
        let rows = self.batch * shape.height * shape.width;
        match network.nodes[index].op {
            Op::Bias { .. } => {
                let rows = self.views / self.shards * rows;
                NormShape { shards: self.shards, views: self.shards, rows, channels: shape.channels }
            }
            _ => NormShape { shards: self.shards, views: self.views, rows, channels: shape.channels },
        }
    }

    /// One of this rank's shards' parts of a convolution over all its images.
    pub fn of_shard(&self, conv: &Conv) -> Conv {
        of_shard(*conv, self.shards)
    }

    /// The levels of a tree above its leaves: what adding shards' gradients keeps, of one weight
    /// each.
    pub fn levels(&self) -> usize {
        self.shards.ilog2() as usize
    }

    /// The convolution of node `index`, which must be one.
    pub fn conv(&self, index: usize) -> &Conv {
        match &self.convs[index] {
            Some(conv) => conv,
            None => unreachable!("only convolution nodes ask for their convolution"),
        }
    }

    /// Follows the backward pass and gives each gradient a place from its making to its last use.
    fn lay_out_gradients(&mut self, network: &Network, images: usize) {
        let len = |value: ValueId| network.values[value].len() * images;
        let mut shelf = Shelf::default();
        let mut pending: Vec<Vec<Range<usize>>> = vec![Vec::new(); network.values.len()];
        let last = network.values.len() - 1;
        self.output_gradient = shelf.take(len(last));
        pending[last].push(self.output_gradient.clone());
        self.gradients = vec![Gradients::default(); network.nodes.len()];
        for (index, node) in network.nodes.iter().enumerate().rev() {
            let output = std::mem::take(&mut pending[index + 1]);
            let wanted = node.input != 0 || network.input_gradient;
            let (first, others) = match output.split_first() {
                Some((first, others)) => (first.clone(), others.to_vec()),
                None => unreachable!("every value but the last is read by a later node"),
            };
            let mut input = 0..0;
            match &node.op {
                Op::Norm { residual: Some(residual), .. } => {
                    // The masked gradient stays where it is: it is the residual's.
                    input = shelf.take(len(node.input));
                    pending[*residual].push(first);
                }
                Op::Norm { .. } | Op::Bias { .. } => input = first,
                Op::Conv { .. } | Op::MaxPool | Op::AveragePool => {
                    if wanted {
                        input = shelf.take(len(node.input));
                    }
                    shelf.give(first);
                }
            }
            others.into_iter().for_each(|range| shelf.give(range));
            if wanted {
                pending[node.input].push(input.clone());
            }
            self.gradients[index] = Gradients { output, input };
        }
        if network.input_gradient {
            self.input_gradients = std::mem::take(&mut pending[0]);
        }
        self.gradients_len = shelf.len;
    }
}

/// Numbers of f32 that a training pass of `network` over `views` × `batch` images holds beside θ
/// and its input: values, gradients, statistics, scratch.
pub fn pass_floats(network: &Network, kernel: &Arc<dyn Kernel>, views: usize, batch: usize) -> usize {
    let machine = Processor::new(kernel.clone());
    let plan = Plan::new(network, &machine, views, batch, Mode::Train);
    plan.values_len + plan.gradients_len + plan.statistics_len + plan.scratch_len
}

/// One of `shards` equal parts of a convolution over images.
fn of_shard(conv: Conv, shards: usize) -> Conv {
    Conv { batch: conv.batch / shards, ..conv }
}

/// The convolution that node `index` is of `images` images. Where its output is one pixel and its
/// kernel too, all of its input are channels.
fn shape_of_conv(
    network: &Network,
    index: usize,
    images: usize,
    [kernel, stride, padding]: [usize; 3],
) -> Conv {
    let (input, output) = (network.values[network.nodes[index].input], network.values[index + 1]);
    let flat = output.height == 1 && output.width == 1 && kernel == 1 && stride == 1;
    let (height, width, in_channels) =
        if flat { (1, 1, input.len()) } else { (input.height, input.width, input.channels) };
    let out_channels = output.channels;
    Conv { batch: images, height, width, in_channels, out_channels, kernel, stride, padding }
}

/// Places for the values: all distinct for training, used again after the last reader otherwise.
fn lay_out_values(network: &Network, images: usize, mode: Mode) -> (Vec<Range<usize>>, usize) {
    let mut last_reader = vec![0; network.values.len()];
    for (index, node) in network.nodes.iter().enumerate() {
        last_reader[node.input] = index;
        if let Op::Norm { residual: Some(residual), .. } = node.op {
            last_reader[residual] = index;
        }
    }
    // Both results of an evaluation are read after the last node.
    last_reader[network.features] = usize::MAX;
    last_reader[network.values.len() - 1] = usize::MAX;
    let mut shelf = Shelf::default();
    // The input lies outside: an empty place.
    let mut places: Vec<Range<usize>> = std::iter::once(0..0).collect();
    for index in 0..network.nodes.len() {
        places.push(shelf.take(network.values[index + 1].len() * images));
        if mode == Mode::Forget {
            for (value, place) in places.iter().enumerate().skip(1) {
                if last_reader[value] == index {
                    shelf.give(place.clone());
                }
            }
        }
    }
    (places, shelf.len)
}

/// A row of places that are taken and given back; takes the first gap that fits.
#[derive(Default)]
struct Shelf {
    /// Taken places in order.
    taken: Vec<Range<usize>>,
    /// The end of the furthest place ever taken.
    len: usize,
}

impl Shelf {
    fn take(&mut self, len: usize) -> Range<usize> {
        // Places begin at multiples of 16 numbers: a cache line.
        let len = len.next_multiple_of(16);
        let mut start = 0;
        let mut at = self.taken.len();
        for (i, taken) in self.taken.iter().enumerate() {
            if start + len <= taken.start {
                at = i;
                break;
            }
            start = taken.end;
        }
        self.taken.insert(at, start..start + len);
        self.len = self.len.max(start + len);
        start..start + len
    }

    fn give(&mut self, place: Range<usize>) {
        self.taken.retain(|taken| *taken != place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_given_back_is_taken_again_and_taken_places_never_overlap() {
        let mut shelf = Shelf::default();
        let (a, b) = (shelf.take(32), shelf.take(16));
        shelf.give(a.clone());
        assert_eq!(shelf.take(20), a);
        assert!(shelf.take(1).start >= b.end);
    }
}
