//! candle's GPU arrays and the kernels' spans.

use super::{Site, choice, tensor_of};
use crate::error::{Error, Result};
use crate::kernel::cuda::{self, Choices, Cuda, Lanes, TF32};
use crate::kernel::device::Span;
use candle_core::backend::BackendDevice;
use candle_core::{CudaDevice, CudaStorage, Device, Layout, Tensor};
use std::sync::Arc;

/// GPUs of this machine; otherwise why there can be none.
pub fn count() -> Result<usize, String> {
    cuda::load_driver().map_err(|why| format!("no NVIDIA driver can be loaded ({why})"))?;
    let (driver, libraries) = cuda::versions().map_err(|e| e.to_string())?;
    if driver < libraries {
        return Err(format!(
            "the NVIDIA driver is for CUDA {driver}, this build's libraries are for CUDA {libraries}"
        ));
    }
    match cuda::count() {
        Ok(0) => Err("the NVIDIA driver finds no GPU".to_string()),
        Ok(count) => Ok(count),
        Err(e) => Err(format!("the NVIDIA driver finds no GPU it can use ({e})")),
    }
}

/// The variable that may say `ranked`.
const CUDNN_VARIABLE: &str = "SIM_CUDNN";
/// The variable that names NCCL's file, or says `off`.
const NCCL_VARIABLE: &str = "SIM_NCCL";
/// NCCL's file where nobody names another one.
const NCCL: &str = "libnccl.so.2";

/// What SIM_KERNEL, SIM_CUDNN and SIM_NCCL ask of a GPU.
///
/// # Errors
/// [`Error::Usage`] where SIM_CUDNN says anything but `ranked`.
fn choices() -> Result<Choices> {
    let ranked = match std::env::var_os(CUDNN_VARIABLE) {
        None => false,
        Some(word) if word == "ranked" => true,
        Some(word) => {
            return Err(Error::Usage(format!(
                "{CUDNN_VARIABLE}={}: expected ranked, or the variable unset for the fastest algorithms",
                word.to_string_lossy()
            )));
        }
    };
    let nccl = std::env::var_os(NCCL_VARIABLE).unwrap_or_else(|| NCCL.into());
    let nccl = Some(nccl).filter(|word| word != "off");
    Ok(Choices { tf32: choice::word().is_some_and(|name| name == TF32), ranked, nccl })
}

/// GPU `index`, with a stream of its own. Where processes are to compute alike, cuDNN's algorithms
/// are taken by its own ranking.
pub fn open(index: usize, alike: bool) -> Result<Site> {
    let mut choices = choices()?;
    choices.ranked |= alike;
    cuda::load_driver().map_err(Error::Device)?;
    let device = CudaDevice::new_with_stream(index)?;
    cuda::prepare(&device.cuda_stream())?;
    match Cuda::new(device.cuda_stream(), choices) {
        Ok(kernels) => Site::new(Device::Cuda(device), Arc::new(kernels)),
        Err(why) => {
            if has_failed(&device) {
                std::mem::forget(device);
            }
            Err(why)
        }
    }
}

/// Whether the GPU has failed for good.
pub fn has_failed(device: &CudaDevice) -> bool {
    // The first answer may be an earlier error that is over.
    device.synchronize().is_err() && device.synchronize().is_err()
}

/// Bytes of the memory of GPU `index` that are taken.
pub fn taken_bytes(index: usize) -> Result<usize> {
    cuda::load_driver().map_err(Error::Device)?;
    cuda::taken_bytes(index)
}

/// Bytes of the GPU's memory that are free, what ended runs have left in the process's pool among
/// them.
pub fn free_bytes(device: &CudaDevice) -> Result<usize> {
    cuda::free_bytes(&device.cuda_stream())
}

fn range(layout: &Layout) -> candle_core::Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok((start, end - start)),
        None => candle_core::bail!("the network takes contiguous f32 tensors"),
    }
}

/// The contiguous f32 numbers of an array.
pub fn span<'a>(storage: &'a CudaStorage, layout: &Layout) -> candle_core::Result<Span<'a>> {
    let (start, len) = range(layout)?;
    Ok(cuda::span(storage.as_cuda_slice::<f32>()?, start, len))
}

/// The contiguous f32 numbers of an array, to be written.
pub fn span_mut<'a>(storage: &'a mut CudaStorage, layout: &Layout) -> candle_core::Result<Span<'a>> {
    span(storage, layout)
}

/// An array of `len` f32 beside `storage`, to be filled before it is read.
pub fn unset_like(storage: &CudaStorage, len: usize) -> candle_core::Result<CudaStorage> {
    unset(&storage.device, len)
}

fn unset(device: &CudaDevice, len: usize) -> candle_core::Result<CudaStorage> {
    let slice = cuda::unset(&device.cuda_stream(), len).map_err(super::to_candle)?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// Batches on their way to a device.
#[derive(Default)]
pub struct Upload(Lanes);

impl Upload {
    /// `values` as a tensor on `device`.
    pub fn tensor(&mut self, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<Tensor> {
        let Device::Cuda(device) = device else { return Ok(Tensor::from_vec(values, shape, device)?) };
        let storage = unset(device, values.len())?;
        let to = cuda::span(storage.as_cuda_slice::<f32>()?, 0, values.len());
        self.0.send(&device.cuda_stream(), &values, to)?;
        Ok(tensor_of(storage, shape))
    }
}
