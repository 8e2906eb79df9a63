//! Page-locked memory, from which the GPU copies while the processor goes on.

use super::failed;
use crate::error::{Error, Result};
use crate::kernel::device::Span;
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice, result as raw, sys};
use rayon::prelude::*;
use std::sync::Arc;

/// Numbers that a thread moves at a time.
const CHUNK: usize = 1 << 20;

/// Two lanes for batches on their way to the GPU, in turn. Copies have a stream of their own, so
/// that one is under way while the run's stream computes and the next batch is filled in.
#[derive(Default)]
pub struct Lanes {
    copies: Option<Arc<CudaStream>>,
    lanes: [Option<Lane>; 2],
    turn: usize,
}

impl Lanes {
    /// Puts `values` at `to`, which is as long, before anything that is given to `stream` from now
    /// on. Waits for no more than the copy before the last.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where the driver says so.
    pub fn send(&mut self, stream: &Arc<CudaStream>, values: &[f32], to: Span) -> Result<()> {
        let copies = match &self.copies {
            Some(copies) => copies,
            None => {
                let copies = stream.context().new_stream();
                self.copies.insert(copies.map_err(|e| failed("opening a stream for copies", e))?)
            }
        };
        self.turn = 1 - self.turn;
        let lane = &mut self.lanes[self.turn];
        if lane.as_ref().is_none_or(|lane| lane.departure.len() != values.len()) {
            *lane = Some(Lane::new(stream, copies, values.len())?);
        }
        lane.as_mut().map_or(Ok(()), |lane| lane.send(stream, values, to))
    }
}

/// Page-locked memory here, and a landing place on the GPU, from where numbers move on to where
/// they are wanted in a hundredth of the time.
struct Lane {
    copies: Arc<CudaStream>,
    departure: PinnedHostSlice<f32>,
    landing: CudaSlice<f32>,
    /// Behind the last copy to the landing place, on the stream of copies.
    landed: Option<CudaEvent>,
    /// Behind the last use of the landing place, on the run's stream.
    cleared: CudaEvent,
}

impl Lane {
    /// For `len` numbers, on the stream `copies`, to be used on `stream`.
    fn new(stream: &Arc<CudaStream>, copies: &Arc<CudaStream>, len: usize) -> Result<Self> {
        // SAFETY: every bit pattern is an f32, and `send` fills the memory before it is read.
        let departure = unsafe { stream.context().alloc_pinned::<f32>(len) };
        // Here it is the machine that has none, whatever the driver calls it.
        let departure = departure.map_err(|_| {
            Error::Device(format!(
                "the system gives no page-locked memory for a batch of {} MiB",
                (4 * len) >> 20
            ))
        })?;
        let landing = super::unset(stream, len)?;
        // Behind the allocation, which only `stream` knows of.
        let cleared = stream.record_event(None).map_err(|e| failed("allocating memory", e))?;
        Ok(Self { copies: copies.clone(), departure, landing, landed: None, cleared })
    }

    /// As [`Lanes::send`].
    fn send(&mut self, stream: &CudaStream, values: &[f32], to: Span) -> Result<()> {
        assert!(values.len() == self.departure.len() && to.len() == values.len());
        let failed = |e| failed("copying a batch", e);
        self.wait().map_err(failed)?;
        let slot = self.departure.as_mut_slice().map_err(failed)?;
        slot.par_chunks_mut(CHUNK)
            .zip(values.par_chunks(CHUNK))
            .for_each(|(to, from)| to.copy_from_slice(from));
        self.copies.wait(&self.cleared).map_err(failed)?;
        let (landing, _) = self.landing.device_ptr(stream);
        // SAFETY: the landing place is as long as the page-locked memory, which nothing touches
        // before `wait` has seen the event behind the copy; what was in it has been used, by the
        // wait above.
        unsafe { raw::memcpy_htod_async(landing, slot, self.copies.cu_stream()) }.map_err(failed)?;
        // Who waits for it leaves its core to those who prepare batches.
        let sleeping = Some(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC);
        let landed = self.landed.insert(self.copies.record_event(sleeping).map_err(failed)?);
        stream.wait(landed).map_err(failed)?;
        // SAFETY: both places are as long as `values`, and the copy above is done first, by the
        // wait.
        unsafe { raw::memcpy_dtod_async(to.address(), landing, 4 * values.len(), stream.cu_stream()) }
            .map_err(failed)?;
        self.cleared = stream.record_event(None).map_err(failed)?;
        Ok(())
    }

    /// Until the last copy from the page-locked memory is done.
    fn wait(&mut self) -> Result<(), cudarc::driver::DriverError> {
        self.landed.take().map_or(Ok(()), |landed| landed.synchronize())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // A GPU that fails here copies nothing any more.
        let _ = self.wait();
    }
}
