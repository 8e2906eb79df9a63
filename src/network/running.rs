//! Running statistics, where the network runs: in the host's memory, or beside θ in a device's.
//!
//! Engines of the same network for images of several sizes share them.

use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::device::{Buffer, Device, Span};
use std::sync::{Arc, Mutex, MutexGuard};

/// Means and variances of every normalisation, flat.
pub struct Running(Mutex<Place>);

enum Place {
    Host(Vec<f32>),
    Device { device: Arc<dyn Device>, buffer: Buffer, len: usize },
}

/// Running statistics laid aside.
pub struct HeldRunning(Held);

enum Held {
    Host(Vec<f32>),
    Device(Buffer),
}

/// All numbers of a device's buffer, which has room for one where there are none.
fn whole(buffer: &Buffer) -> Span<'_> {
    buffer.span(Precision::F32, 0, buffer.bytes() / 4)
}

impl Running {
    /// These, in the host's memory.
    pub fn new(values: Vec<f32>) -> Self {
        Self(Mutex::new(Place::Host(values)))
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A copy of them.
    pub fn values(&self) -> Result<Vec<f32>> {
        match &*self.lock() {
            Place::Host(values) => Ok(values.clone()),
            Place::Device { device, buffer, len } => {
                device.download_f32(buffer.span(Precision::F32, 0, *len))
            }
        }
    }

    /// Replaces them.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        let wrong = || Error::Failure("running statistics of another architecture".into());
        match &mut *self.lock() {
            Place::Host(own) if own.len() == values.len() => {
                own.copy_from_slice(values);
                Ok(())
            }
            Place::Device { device, buffer, len } if *len == values.len() => {
                device.upload_f32(values, buffer.span(Precision::F32, 0, *len))
            }
            _ => Err(wrong()),
        }
    }

    /// Lays a copy aside, where they are.
    pub fn hold(&self) -> Result<HeldRunning> {
        Ok(HeldRunning(match &*self.lock() {
            Place::Host(values) => Held::Host(values.clone()),
            Place::Device { device, buffer, .. } => {
                let copy = device.allocate(buffer.bytes())?;
                device.copy(whole(buffer), whole(&copy))?;
                Held::Device(copy)
            }
        }))
    }

    /// Takes back what [`Running::hold`] gave.
    pub fn put_back(&self, held: &HeldRunning) -> Result<()> {
        let values = match &held.0 {
            Held::Host(values) => values,
            Held::Device(copy) => {
                return match &*self.lock() {
                    Place::Device { device, buffer, .. } => device.copy(whole(copy), whole(buffer)),
                    Place::Host(_) => Err(Error::Failure("running statistics of another device".into())),
                };
            }
        };
        self.set(values)
    }

    /// Calls `run` with them on the host, where nothing has moved them away.
    pub fn on_host<T>(&self, run: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
        match &mut *self.lock() {
            Place::Host(values) => Ok(run(values)),
            Place::Device { .. } => Err(Error::Failure("the network runs on a device".into())),
        }
    }

    /// Calls `run` with them on `device`, moved there at the first call.
    pub fn on_device<T>(&self, device: &Arc<dyn Device>, run: impl FnOnce(Span) -> Result<T>) -> Result<T> {
        let mut place = self.lock();
        if let Place::Host(values) = &*place {
            // cuMemAlloc knows no empty arrays.
            let (len, buffer) = (values.len(), device.allocate(4 * values.len().max(1))?);
            device.upload_f32(values, buffer.span(Precision::F32, 0, len))?;
            *place = Place::Device { device: device.clone(), buffer, len };
        }
        match &*place {
            Place::Device { buffer, len, .. } => run(buffer.span(Precision::F32, 0, *len)),
            Place::Host(_) => unreachable!("they were just moved"),
        }
    }
}
