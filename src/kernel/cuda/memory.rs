//! The memory of a GPU: its pool, what is free, and an allocation that tries once more.

use super::failed;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};

/// The pool that the device's memory comes from, where it has such (some virtual GPUs do not).
pub(super) fn pool(context: &CudaContext) -> Result<Option<sys::CUmemoryPool>> {
    let what = "asking for its pool of memory";
    let supported = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if context.attribute(supported).map_err(|e| failed(what, e))? == 0 {
        return Ok(None);
    }
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device exists, and the result has the type that the driver writes.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result() }
        .map_err(|e| failed(what, e))?;
    Ok(Some(pool))
}

/// Waits for the GPU and gives back what the pool keeps for later.
pub(super) fn trim(stream: &CudaStream) -> Result<()> {
    let failed = |e| failed("giving back memory", e);
    stream.synchronize().map_err(failed)?;
    match pool(stream.context())? {
        // SAFETY: the pool is the driver's; what is in use stays.
        Some(pool) => unsafe { sys::cuMemPoolTrimTo(pool, 0).result() }.map_err(failed),
        None => Ok(()),
    }
}

/// What `allocate` gives. Where there is no memory, once more with all that the pool keeps given
/// back: it may have enough, in pieces.
pub(super) fn allocated<T>(
    stream: &CudaStream,
    bytes: usize,
    allocate: impl Fn() -> Result<T, DriverError>,
) -> Result<T> {
    let failed = |e| failed(&format!("allocating {} MiB", bytes >> 20), e);
    match allocate() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
            trim(stream)?;
            allocate().map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Bytes of a device's memory: free ones, and all.
fn memory_bytes(context: &CudaContext) -> Result<(usize, usize)> {
    context.mem_get_info().map_err(|e| failed("asking for its memory", e))
}

/// Bytes of memory that are free, with what the pool kept given back.
pub fn free_bytes(stream: &CudaStream) -> Result<usize> {
    trim(stream)?;
    Ok(memory_bytes(stream.context())?.0)
}

/// Bytes that are taken of the memory of GPU `index`, once the driver is loaded.
pub fn taken_bytes(index: usize) -> Result<usize> {
    let context = CudaContext::new(index).map_err(|e| failed("choosing the device", e))?;
    let (free, total) = memory_bytes(&context)?;
    Ok(total.saturating_sub(free))
}
