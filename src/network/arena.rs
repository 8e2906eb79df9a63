//! The memory of one pass, and how images and weights reach its convolutions.

use super::layers::{Network, Op};
use super::plan::Plan;
use crate::error::Result;
use crate::kernel::device::{Buffer, Layer, Span};
use crate::kernel::machine::{Machine, Staged, Weights};
use crate::kernel::{Conv, Precision};
use std::ops::Range;

/// How the images and the weights of each convolution reach it.
pub struct Staging {
    /// For each node whose weights are staged, where they lie, and whether their gradient comes
    /// back there.
    pub(super) places: Vec<Option<(Range<usize>, bool)>>,
    /// What stages them.
    pub(super) staged: Option<Staged>,
    /// Whether the first convolution multiplies patches of the images instead of reading them.
    unfolds: bool,
}

/// The product that node 0 is when the images are unfolded for it: nothing else reads them or wants
/// their gradient.
fn first_product(machine: &dyn Machine, network: &Network, plan: &Plan, storage: Precision) -> Option<Conv> {
    let readers = network.nodes.iter().filter(|node| node.input == 0).count();
    let alone = readers == 1 && !network.input_gradient && matches!(network.nodes[0].op, Op::Conv { .. });
    if alone { machine.unfolded(plan.conv(0), storage) } else { None }
}

impl Staging {
    fn new(machine: &dyn Machine, network: &Network, plan: &Plan, storage: Precision) -> Result<Self> {
        let (mut places, mut layers, mut len) = (Vec::new(), Vec::new(), 0);
        let first = first_product(machine, network, plan, storage);
        for (index, node) in network.nodes.iter().enumerate() {
            let Op::Conv { weight, .. } = node.op else {
                places.push(None);
                continue;
            };
            let (conv, p) = (plan.conv(index), &network.parameters()[weight]);
            let unfolded = first.filter(|_| index == 0);
            let weights = machine.weights(conv, storage);
            if weights == Weights::AsTheta && unfolded.is_none() {
                places.push(None);
                continue;
            }
            let (rows, columns) = (conv.kernel * conv.kernel * conv.in_channels, conv.out_channels);
            let filled = unfolded.map_or(rows, |product| product.in_channels);
            let transposed = weights == Weights::Filters && unfolded.is_none();
            layers.push(Layer { theta: p.offset, staged: len, rows, columns, filled, transposed });
            places.push(Some((len..len + filled * columns, transposed)));
            // Every layer begins at a multiple of 16 bytes.
            len += (filled * columns).next_multiple_of(8);
        }
        Ok(Self { places, staged: machine.staged(&layers)?, unfolds: first.is_some() })
    }

    fn len(&self) -> usize {
        self.staged.as_ref().map_or(0, Staged::len)
    }

    /// Numbers of the first convolution's weights with their rows of zeros, where images are
    /// unfolded.
    fn filled_len(&self) -> usize {
        match self.places.first() {
            Some(Some((place, _))) if self.unfolds => place.len(),
            _ => 0,
        }
    }
}

/// The memory of passes of one network, one at a time. Kept and used again from step to step.
#[derive(Default)]
pub struct Arena {
    staging: Option<Staging>,
    /// The images as node 0 reads them, where that is not as they come.
    input: Option<Buffer>,
    values: Option<Buffer>,
    gradients: Option<Buffer>,
    statistics: Option<Buffer>,
    scratch: Option<Buffer>,
    weights: Option<Buffer>,
    weight_gradients: Option<Buffer>,
    /// Gradients of weights on their way up the tree over shards.
    partials: Option<Buffer>,
}

/// How the gradients of staged weights are stored where values are stored as `storage`: shards'
/// gradients are added in f32, as those of ranks are.
fn gradient_storage(plan: &Plan, storage: Precision) -> Precision {
    if plan.shards > 1 { Precision::F32 } else { storage }
}

/// Numbers of the largest weights as they are staged, and up to where a next place may begin.
fn level_len(plan: &Plan, staging: &Staging) -> usize {
    plan.weights_len.max(staging.filled_len()).next_multiple_of(16)
}

/// Makes room for `len` numbers in `buffer`, which forgets what it held where it grows.
fn grow(machine: &dyn Machine, buffer: &mut Option<Buffer>, size: usize, len: usize) -> Result<()> {
    if buffer.as_ref().is_none_or(|buffer| buffer.bytes() < size * len) {
        // The old one goes first: the two need not fit side by side.
        *buffer = None;
        *buffer = Some(machine.allocate(size * len)?);
    }
    Ok(())
}

/// Memory that [`Arena::fit`] has made.
fn span(buffer: &Option<Buffer>, precision: Precision, start: usize, len: usize) -> Span<'_> {
    match buffer {
        Some(buffer) => buffer.span(precision, start, len),
        None => unreachable!("an arena is fitted before it is used"),
    }
}

impl Arena {
    /// Makes room for `plan`, whose values are stored as `storage`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a device has no room.
    pub fn fit(
        &mut self,
        machine: &dyn Machine,
        network: &Network,
        plan: &Plan,
        storage: Precision,
    ) -> Result<()> {
        let staging = match self.staging.take() {
            Some(staging) => staging,
            None => Staging::new(machine, network, plan, storage)?,
        };
        let (size, single) = (storage.bytes(), Precision::F32.bytes());
        let input = match first_product(machine, network, plan, storage) {
            Some(product) => product.input_len(),
            None if storage == Precision::F32 => 0,
            None => network.values[0].len() * plan.views * plan.batch,
        };
        let gradients = if plan.gradients_len > 0 { staging.len() } else { 0 };
        let scratch = plan.scratch_len.max(staging.filled_len());
        grow(machine, &mut self.scratch, single, scratch)?;
        grow(machine, &mut self.values, size, plan.values_len)?;
        grow(machine, &mut self.gradients, size, plan.gradients_len)?;
        grow(machine, &mut self.statistics, single, plan.statistics_len)?;
        grow(machine, &mut self.weights, size, staging.len())?;
        grow(machine, &mut self.weight_gradients, gradient_storage(plan, storage).bytes(), gradients)?;
        grow(machine, &mut self.input, size, input)?;
        // One place more for a leaf that is stored as the values are.
        let levels = if plan.gradients_len > 0 && plan.shards > 1 { plan.levels() + 1 } else { 0 };
        let partials = levels * level_len(plan, &staging);
        grow(machine, &mut self.partials, single, partials)?;
        self.staging = Some(staging);
        Ok(())
    }

    /// How images and weights reach the convolutions.
    pub(super) fn staging(&self) -> &Staging {
        match &self.staging {
            Some(staging) => staging,
            None => unreachable!("an arena is fitted before it is used"),
        }
    }

    /// The first convolution as a product, where the images are unfolded.
    pub(super) fn first_product(
        &self,
        machine: &dyn Machine,
        network: &Network,
        plan: &Plan,
        storage: Precision,
    ) -> Option<Conv> {
        if self.staging().unfolds { first_product(machine, network, plan, storage) } else { None }
    }

    /// The images as node 0 reads them.
    pub(super) fn input(&self, storage: Precision, len: usize) -> Span<'_> {
        span(&self.input, storage, 0, len)
    }

    pub(super) fn values(&self, storage: Precision, start: usize, len: usize) -> Span<'_> {
        span(&self.values, storage, start, len)
    }

    pub(super) fn gradients(&self, storage: Precision, start: usize, len: usize) -> Span<'_> {
        span(&self.gradients, storage, start, len)
    }

    pub(super) fn statistics(&self, range: &Range<usize>) -> Span<'_> {
        span(&self.statistics, Precision::F32, range.start, range.len())
    }

    pub(super) fn scratch(&self) -> Span<'_> {
        let bytes = self.scratch.as_ref().map_or(0, Buffer::bytes);
        span(&self.scratch, Precision::F32, 0, bytes / Precision::F32.bytes())
    }

    /// The staged weights in `range`.
    pub(super) fn weights(&self, storage: Precision, range: &Range<usize>) -> Span<'_> {
        span(&self.weights, storage, range.start, range.len())
    }

    /// The gradients of staged weights in `range`, stored as [`gradient_storage`] says.
    pub(super) fn weight_gradients(&self, plan: &Plan, storage: Precision, range: &Range<usize>) -> Span<'_> {
        span(&self.weight_gradients, gradient_storage(plan, storage), range.start, range.len())
    }

    /// `len` f32 numbers for level `level` of the tree over shards.
    pub(super) fn partial(&self, plan: &Plan, level: usize, len: usize) -> Span<'_> {
        span(&self.partials, Precision::F32, level * level_len(plan, self.staging()), len)
    }

    /// `len` numbers for a leaf of that tree.
    pub(super) fn leaf(&self, plan: &Plan, storage: Precision, len: usize) -> Span<'_> {
        let start = Precision::F32.bytes() * plan.levels() * level_len(plan, self.staging());
        span(&self.partials, storage, start / storage.bytes(), len)
    }
}
