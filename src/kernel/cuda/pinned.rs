//! Page-locked memory, from which the GPU copies while the processor goes on.

use super::failed;
use crate::error::Result;
use crate::kernel::device::Span;
use cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result as raw};
use rayon::prelude::*;
use std::sync::Arc;

/// A buffer for numbers on their way to the GPU.
pub struct Pinned {
    slice: PinnedHostSlice<f32>,
    /// Behind the last copy to the GPU.
    sent: Option<CudaEvent>,
}

/// Numbers that a thread moves at a time.
const CHUNK: usize = 1 << 20;

impl Pinned {
    /// For `len` numbers.
    pub fn new(stream: &Arc<CudaStream>, len: usize) -> Result<Self> {
        // SAFETY: every bit pattern is an f32, and `send` fills the buffer before it is read.
        let slice = unsafe { stream.context().alloc_pinned::<f32>(len) };
        Ok(Self { slice: slice.map_err(|e| failed("allocating page-locked memory", e))?, sent: None })
    }

    /// How many numbers it takes.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `values` here, once an earlier copy to the GPU is done, and starts the copy to `to`; all three are equally
    /// long.
    pub fn send(&mut self, stream: &CudaStream, values: &[f32], to: Span) -> Result<()> {
        assert!(values.len() == self.len() && to.len() == values.len());
        let failed = |e| failed("copying a batch", e);
        self.wait().map_err(failed)?;
        let slot = self.slice.as_mut_slice().map_err(failed)?;
        slot.par_chunks_mut(CHUNK)
            .zip(values.par_chunks(CHUNK))
            .for_each(|(to, from)| to.copy_from_slice(from));
        // SAFETY: `to` is as long as the buffer, which nothing touches before `wait` has seen the event behind the copy.
        unsafe { raw::memcpy_htod_async(to.address(), slot, stream.cu_stream()) }.map_err(failed)?;
        self.sent = Some(stream.record_event(None).map_err(failed)?);
        Ok(())
    }

    /// Until the last copy to the GPU is done.
    fn wait(&mut self) -> Result<(), cudarc::driver::DriverError> {
        self.sent.take().map_or(Ok(()), |sent| sent.synchronize())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A GPU that fails here copies nothing any more.
        let _ = self.wait();
    }
}
