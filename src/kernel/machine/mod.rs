//! What runs networks: one set of operations on [`Span`]s, carried out by the processor's kernels
//! or by a device's.
//!
//! [`Machine`] is all that a network, its running statistics and its momentum know of the place
//! where their numbers lie. Another kind of place is another implementation of it.

mod accelerator;
mod norms;
mod processor;
mod sharded;
mod slices;
mod step;

pub use accelerator::{Accelerator, Staged};
pub use processor::Processor;
pub use step::{StepNumbers, Stepper};

use super::device::{Affine, Buffer, Layer, Mask, NormShape, Part, Pass, Span};
use super::ranks::{self, Shards};
use super::{Conv, Precision};
use crate::error::{Error, Result};
use std::sync::Arc;

/// How a machine takes the weights of a convolution, which lie in θ as (K, K, I, O).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// As they lie in θ.
    AsTheta,
    /// In the same order, rounded to how values are stored; the gradient goes to θ's place.
    Rounded,
    /// As (O, K, K, I), stored like the values; the gradient comes back so.
    Filters,
}

/// The running statistics of a normalisation, (C) each, and what becomes of them.
#[derive(Clone, Copy)]
pub struct Statistics<'a> {
    /// Means.
    pub mean: Span<'a>,
    /// Variances.
    pub variance: Span<'a>,
    /// The share by which they move towards the batch's statistics, view by view, by which values
    /// are normalised; none where values are normalised by the running ones, in one view.
    pub momentum: Option<f32>,
}

/// A normalisation: what its forward and its backward pass share.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Views, rows and channels.
    pub shape: NormShape,
    /// The input, (views, rows, C).
    pub x: Span<'a>,
    /// μ and 1/√(σ² + ε) of every view, (views, 2, C): the forward pass leaves them.
    pub saved: Span<'a>,
    /// γ and β, where there are such.
    pub affine: Affine<'a>,
    /// [`Machine::norm_scratch`] numbers without meaning before or after a call.
    pub scratch: Span<'a>,
    /// The shards over which statistics are taken, where the batch is cut: x has the views of this
    /// rank's first shard, then those of its next.
    pub shards: Option<&'a Shards>,
}

/// What flows back into a normalisation or a bias.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// The gradient of the output. Where `mask` or `other` say so the masked sum takes its place.
    pub g: Span<'a>,
    /// The gradient of a second reader of the output.
    pub other: Option<Span<'a>>,
    /// The output.
    pub y: Span<'a>,
    /// How the gradient passes the ReLU.
    pub mask: Mask,
}

/// The pooling of images of this many pixels and channels.
pub type PoolShape = [usize; 3];

/// The operations of an encoder and of its training, on numbers that lie where the machine
/// computes.
///
/// Calls are carried out in order; only [`Machine::download`] waits for them. Every operation
/// panics for spans of other lengths than its shape says.
///
/// # Errors
/// Every call that returns a [`Result`] fails with [`Error::Device`] where a device has no room or
/// fails.
pub trait Machine: Send + Sync {
    /// The GPU whose memory its spans lie in; none where that is this process's own.
    fn gpu(&self) -> Option<usize>;
    /// How values of a network are stored whose recipe asks for `precision`.
    fn storage(&self, precision: Precision) -> Precision;
    /// Whether the bytes of an image's values may depend on how many others pass with it.
    fn mixes_images(&self) -> bool;
    /// Memory for so many bytes.
    fn allocate(&self, bytes: usize) -> Result<Buffer>;
    /// Copies f32 `values` to `to`, which takes as many.
    fn upload(&self, values: &[f32], to: Span) -> Result<()>;
    /// The f32 numbers of `from`, waited for.
    fn download(&self, from: Span) -> Result<Vec<f32>>;
    /// Copies `from` to `to`, rounding or widening where they are stored differently.
    fn copy(&self, from: Span, to: Span) -> Result<()>;

    /// How the weights of `conv` are taken, for values stored as `storage`.
    fn weights(&self, conv: &Conv, storage: Precision) -> Weights;
    /// The product that a convolution of images is made, where it is better
    /// [unfolded](Machine::unfold).
    fn unfolded(&self, conv: &Conv, storage: Precision) -> Option<Conv>;
    /// The patches of images x that [`Machine::unfolded`]'s product multiplies.
    fn unfold(&self, conv: &Conv, x: Span, patches: Span) -> Result<()>;
    /// The table by which weights of `layers` are staged; none where there is nothing to stage.
    fn staged(&self, layers: &[Layer]) -> Result<Option<Staged>>;

    /// Numbers of scratch that the three passes of `conv` need at most.
    fn conv_scratch(&self, conv: &Conv) -> usize;
    /// Numbers of scratch that the passes of a normalisation or a bias need at most.
    fn norm_scratch(&self, shape: &NormShape) -> usize;
    /// Numbers of scratch that the gradient of a max pooling with `outputs` outputs needs.
    fn pool_scratch(&self, outputs: usize) -> usize;

    /// One pass of a convolution from its two `inputs` into `out`, in the order of
    /// [`Pass::lengths`]; the weights or their gradient as [`Machine::weights`] says.
    fn conv(&self, pass: Pass, conv: &Conv, inputs: [Span; 2], out: Span, scratch: Span) -> Result<()>;
    /// y = ReLU(γ·(x − μ)/√(σ² + ε) + β + r), with every part that is there.
    fn norm(&self, n: &Norm, running: Statistics, residual: Option<Span>, relu: bool, y: Span) -> Result<()>;
    /// γ's and β's gradients (C) into `d_affine`, and x's into `dx`, which may be g's place. Of
    /// several shards the gradients of γ and β are added as a tree.
    fn norm_gradient(&self, n: &Norm, flow: &Flow, d_affine: Affine, dx: Option<Span>) -> Result<()>;
    /// to ← to + from, stored alike
    fn add(&self, from: Span, to: Span) -> Result<()> {
        let mut sum = self.download(to)?;
        ranks::add(&mut sum, &self.download(from)?);
        self.upload(&sum, to)
    }
    /// Each rank's `values` become the sum over all ranks, see [`Shards::sum`]; waits for them.
    fn sum_over_ranks(&self, shards: &Shards, values: Span) -> Result<()> {
        through_host(self, shards, values)
    }
    /// y = ReLU(x + b), with the ReLU where `relu`: x and y (views, rows, C), b (C).
    fn bias(&self, shape: &NormShape, x: Span, bias: Span, relu: bool, y: Span) -> Result<()>;
    /// The bias's gradient (C); the masked gradient of the output is the input's and stays where it
    /// is.
    fn bias_gradient(&self, n: &Norm, flow: &Flow, d_bias: Span) -> Result<()>;
    /// y (B, H', W', C) = the largest of each 3×3 window of x (B, H, W, C); stride 2.
    fn max_pool(&self, shape: PoolShape, x: Span, y: Span) -> Result<()>;
    /// dx (B, H, W, C): each g (B, H', W', C) (plus `other`) goes to the first largest of its
    /// window.
    fn max_pool_gradient(
        &self,
        shape: PoolShape,
        flow: &Flow,
        x: Span,
        dx: Span,
        scratch: Span,
    ) -> Result<()>;
    /// y (B, C) = the mean over the pixels of x (B, H, W, C).
    fn average_pool(&self, shape: PoolShape, x: Span, y: Span) -> Result<()>;
    /// dx (B, H, W, C): g (B, C) / (H·W) at each pixel.
    fn average_pool_gradient(&self, shape: PoolShape, g: Span, dx: Span) -> Result<()>;

    /// What makes SGD steps on a vector of these parts, which follow each other.
    fn stepper(&self, parts: &[Part]) -> Result<Box<dyn Stepper>>;
}

/// [`Machine::sum_over_ranks`] by way of the processor's memory.
fn through_host(machine: &(impl Machine + ?Sized), shards: &Shards, values: Span) -> Result<()> {
    if shards.ranks().size() == 1 {
        return Ok(());
    }
    let mut sum = machine.download(values)?;
    shards.sum(&mut sum)?;
    machine.upload(&sum, values)
}

/// Numbers of f32 that lie where a machine computes. Its methods fail as the machine's do.
pub struct Array {
    machine: Arc<dyn Machine>,
    buffer: Buffer,
    len: usize,
}

impl Array {
    /// A copy of `values`.
    pub fn new(machine: Arc<dyn Machine>, values: &[f32]) -> Result<Self> {
        // A GPU's driver knows no empty arrays.
        let buffer = machine.allocate(size_of::<f32>() * values.len().max(1))?;
        let array = Self { machine, buffer, len: values.len() };
        array.set(values)?;
        Ok(array)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers, for an operation of the machine.
    pub fn span(&self) -> Span<'_> {
        self.buffer.span(Precision::F32, 0, self.len)
    }

    /// A copy of the numbers, waited for.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.machine.download(self.span())
    }

    /// Replaces the numbers.
    ///
    /// # Errors
    /// [`Error::Failure`] for another length.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.len {
            return Err(Error::Failure(format!("{} numbers in the place of {}", values.len(), self.len)));
        }
        if self.is_empty() { Ok(()) } else { self.machine.upload(values, self.span()) }
    }

    /// A copy beside it.
    pub fn copy(&self) -> Result<Self> {
        let buffer = self.machine.allocate(size_of::<f32>() * self.len.max(1))?;
        let copy = Self { machine: self.machine.clone(), buffer, len: self.len };
        copy.take(self)?;
        Ok(copy)
    }

    /// Takes over the numbers of `other`, which is of the same length and lies on the same machine.
    ///
    /// # Errors
    /// [`Error::Failure`] where it is not.
    pub fn take(&self, other: &Array) -> Result<()> {
        if self.len != other.len || !Arc::ptr_eq(&self.machine, &other.machine) {
            return Err(Error::Failure("an array of another length or another machine".into()));
        }
        if self.is_empty() { Ok(()) } else { self.machine.copy(other.span(), self.span()) }
    }

    /// Where it lies.
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }
}
