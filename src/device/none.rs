//! The functions of a build without the `cuda` feature, in which no array in GPU memory exists:
//! they fail, saying so.

use super::Site;
use crate::error::{Error, Result};
use crate::kernel::device::Span;
use candle_core::{CudaDevice, CudaStorage, Device, Layout, Tensor};

const WITHOUT: &str =
    "this build has no GPU support (cargo build --release --features cuda makes one that has)";

fn without() -> candle_core::Error {
    candle_core::Error::NotCompiledWithCudaSupport
}

/// GPUs of this machine.
pub fn count() -> Result<usize, String> {
    Err(WITHOUT.to_string())
}

/// GPU `index`.
pub fn open(_: usize, _: bool) -> Result<Site> {
    Err(Error::Usage(WITHOUT.to_string()))
}

/// Whether the GPU has failed for good.
pub fn has_failed(_: &CudaDevice) -> bool {
    false
}

/// Bytes of the memory of GPU `index` that are taken.
pub fn taken_bytes(_: usize) -> Result<usize> {
    Err(Error::Usage(WITHOUT.to_string()))
}

/// Bytes of the GPU's memory that are free.
pub fn free_bytes(_: &CudaDevice) -> Result<usize> {
    Err(without().into())
}

/// The contiguous f32 numbers of an array.
pub fn span<'a>(_: &'a CudaStorage, _: &Layout) -> candle_core::Result<Span<'a>> {
    Err(without())
}

/// The contiguous f32 numbers of an array, to be written.
pub fn span_mut<'a>(_: &'a mut CudaStorage, _: &Layout) -> candle_core::Result<Span<'a>> {
    Err(without())
}

/// An array of `len` f32 beside `storage`, to be filled before it is read.
pub fn unset_like(_: &CudaStorage, _: usize) -> candle_core::Result<CudaStorage> {
    Err(without())
}

/// Batches on their way to a device.
#[derive(Default)]
pub struct Upload(());

impl Upload {
    /// `values` as a tensor on `device`.
    pub fn tensor(&mut self, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(values, shape, device)?)
    }
}
