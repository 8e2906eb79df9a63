//! A device beside the processor that runs the encoder: its memory, its kernels, its convolutions.
//!
//! [`Device`] is what differs between devices; everything above it (which kernel, which grid, which
//! place) is here and the same for all. The kernels stand in `cu/`, one source for the GPU and for
//! the tests, which compile it as plain C++ and run it on the processor. Values are stored as f32
//! or bf16 and summed in f32.
//!
//! A [`Span`] is a checked range of device memory. Its lifetime is that of the memory; what it
//! holds is decided by the order of the calls, as on a stream.

mod conv;
mod norm;
mod shards;
mod span;
mod theta;

pub use conv::{Order, Pass, as_product, pool_scratch_len, unfolded};
pub use norm::{Affine, Mask, NormShape, scratch_len};
pub use span::{Buffer, Memory, Span};
pub use theta::{Layer, Layers, Part, Parts};

use super::ranks::Ranks;
use super::{Conv, Precision};
use crate::error::{Error, Result};
use std::ffi::c_void;
use std::sync::Arc;

/// The source of every kernel, CUDA C++ without headers.
pub const SOURCE: &str = concat!(
    include_str!("cu/common.cu"),
    include_str!("cu/norm.cu"),
    include_str!("cu/shards.cu"),
    include_str!("cu/pool.cu"),
    include_str!("cu/theta.cu"),
    include_str!("cu/conv.cu"),
);

/// An argument of a kernel, as wide as the kernel declares it.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A pointer.
    Address(u64),
    /// `int`.
    Int(i32),
    /// `long long`.
    Long(i64),
    /// `float`.
    Single(f32),
    /// `double`.
    Double(f64),
}

impl Arg {
    /// Its value, for an `int`.
    pub fn int(&self) -> Option<i32> {
        match self {
            Arg::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Where the value lies, for `cuLaunchKernel` and its like.
    pub fn pointer(&self) -> *mut c_void {
        match self {
            Arg::Address(value) => std::ptr::from_ref(value) as *mut c_void,
            Arg::Int(value) => std::ptr::from_ref(value) as *mut c_void,
            Arg::Long(value) => std::ptr::from_ref(value) as *mut c_void,
            Arg::Single(value) => std::ptr::from_ref(value) as *mut c_void,
            Arg::Double(value) => std::ptr::from_ref(value) as *mut c_void,
        }
    }
}

impl From<Span<'_>> for Arg {
    fn from(span: Span) -> Arg {
        Arg::Address(span.address())
    }
}

impl From<Option<Span<'_>>> for Arg {
    fn from(span: Option<Span>) -> Arg {
        Arg::Address(span.map_or(0, |span| span.address()))
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Arg {
        Arg::Single(value)
    }
}

impl From<f64> for Arg {
    fn from(value: f64) -> Arg {
        Arg::Double(value)
    }
}

/// A size as a kernel's `int`: of one array's side or a batch's pixels, which memory keeps far
/// below 2³¹.
fn int(value: usize) -> Arg {
    match i32::try_from(value) {
        Ok(value) => Arg::Int(value),
        Err(_) => unreachable!("a side of {value} numbers on a device"),
    }
}

/// A place in θ, as the kernels' tables have it.
fn place(value: usize) -> Result<i32> {
    let large = "a network of 2³¹ parameters or more is too large for a GPU";
    i32::try_from(value).map_err(|_| Error::Usage(large.into()))
}

fn long(value: usize) -> Arg {
    Arg::Long(value as i64)
}

/// One launch of one kernel.
#[derive(Debug)]
pub struct Launch {
    /// The kernel's name in [`SOURCE`].
    pub kernel: String,
    /// Blocks in x, y and z.
    pub grid: [usize; 3],
    /// Threads of a block in x and y.
    pub block: [usize; 2],
    /// Its arguments in order.
    pub args: Vec<Arg>,
}

/// What carries numbers between the devices of ranks, in the order of the device's other calls.
///
/// # Errors
/// [`Error::Device`] where the library or another rank's device fails.
pub trait Carrier: Send + Sync {
    /// `own` has as many pieces of f32 as there are ranks: piece r goes to rank r, and the pieces
    /// for this one come into `to`, in the order of ranks.
    fn exchange(&self, own: Span, to: Span) -> Result<()>;

    /// Everybody's `own`, f32, into `to`, in the order of ranks; all give as many.
    fn gather(&self, own: Span, to: Span) -> Result<()>;
}

/// What a device does for the encoder. Calls are carried out in order; only [`Device::download`]
/// waits for them.
///
/// # Errors
/// Every call that returns a [`Result`], of this trait and of `dyn Device`, fails with
/// [`Error::Device`] when the device has no room or a library or a kernel fails there.
///
/// # Safety
/// Every call reads and writes its spans and nothing else, and [`Device::gpu`] tells the truth.
/// Calls on the same memory are carried out one after another also where several threads make them,
/// as on one stream: safe code may hand overlapping spans to two threads.
pub unsafe trait Device: Send + Sync {
    /// The name recorded in env.json for values of `precision`, e.g. `cuda-tf32`.
    fn name(&self, precision: Precision) -> &'static str;

    /// How it convolves, for env.json.
    fn algorithm(&self) -> &'static str;

    /// The GPU whose memory its addresses lie in; none where they are this process's own, and calls
    /// are done when they return.
    fn gpu(&self) -> Option<usize>;

    /// What its numbers depend on beside the kernels: the model and the versions of its libraries.
    /// Ranks whose devices differ in it would not have the same bytes.
    fn kind(&self) -> Result<String> {
        Ok(String::new())
    }

    /// What carries numbers to the devices of `ranks`, none where they pass through the processor's
    /// memory; the same answer on every rank.
    fn carrier(&self, _ranks: &Arc<dyn Ranks>) -> Result<Option<Arc<dyn Carrier>>> {
        Ok(None)
    }

    /// Memory for so many bytes, all zero.
    fn allocate(&self, bytes: usize) -> Result<Buffer>;

    /// Copies `values` to `to`, which takes as many bytes.
    fn upload(&self, values: &[u8], to: Span) -> Result<()>;

    /// Copies `from` to `values`, which has as many bytes, and waits for it.
    fn download(&self, from: Span, values: &mut [u8]) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are those that the kernel declares, and every place that it reads or writes
    /// lies in the spans they were made of.
    unsafe fn launch(&self, launch: &Launch) -> Result<()>;

    /// A pass of a convolution by a library, with weights (O, K, K, I) stored like the values;
    /// false where it has none for this shape.
    fn conv(&self, _pass: Pass, _shape: &Conv, _a: Span, _b: Span, _out: Span) -> Result<bool> {
        Ok(false)
    }

    /// What [`Device::conv`] had nothing for, so far.
    fn refused(&self) -> Vec<(Pass, Conv)> {
        Vec::new()
    }

    /// A pass of a 1×1 convolution as a matrix product by a library, with weights (I, O); false
    /// where it has none.
    fn product(&self, _pass: Pass, _shape: &Conv, _a: Span, _b: Span, _out: Span) -> Result<bool> {
        Ok(false)
    }
}

/// Threads of a block of a kernel with one thread for each number.
const THREADS: usize = 256;

impl dyn Device + '_ {
    /// Copies `values` to `to`, which takes as many f32 numbers.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where the GPU fails.
    pub fn upload_f32(&self, values: &[f32], to: Span) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.upload(&bytes, to)
    }

    /// The f32 numbers of `from`, waited for.
    ///
    /// # Errors
    /// [`Error::Failure`] for numbers of another precision.
    pub fn download_f32(&self, from: Span) -> Result<Vec<f32>> {
        if from.precision() != Precision::F32 {
            return Err(Error::Failure("only f32 is read back from a device".into()));
        }
        let mut bytes = vec![0; 4 * from.len()];
        self.download(from, &mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// A kernel with one thread for each of `threads` numbers or packs.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn launch_flat(&self, kernel: String, threads: usize, args: Vec<Arg>) -> Result<()> {
        let grid = [threads.div_ceil(THREADS).max(1), 1, 1];
        // SAFETY: handed on.
        unsafe { self.launch(&Launch { kernel, grid, block: [THREADS, 1], args }) }
    }
}
