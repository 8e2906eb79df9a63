//! Running statistics, where the network runs.
//!
//! Engines of the same network for images of several sizes share them.

use crate::error::Result;
use crate::kernel::device::Span;
use crate::kernel::machine::{Array, Machine};
use crate::threads::lock;
use std::sync::{Arc, Mutex};

/// Means and variances of every normalisation, flat, where a machine computes.
///
/// Its methods fail with [`crate::Error::Device`] where that is a device that fails or has no room,
/// and with [`crate::Error::Failure`] for values of another length.
pub struct Running(Mutex<Array>);

/// Running statistics laid aside.
pub struct HeldRunning(Array);

impl Running {
    /// The statistics `values`, on `machine`.
    pub fn new(machine: Arc<dyn Machine>, values: &[f32]) -> Result<Self> {
        Ok(Self(Mutex::new(Array::new(machine, values)?)))
    }

    /// Moves the statistics to `machine`.
    pub fn move_to(&self, machine: &Arc<dyn Machine>) -> Result<()> {
        let mut array = lock(&self.0);
        if !Arc::ptr_eq(array.machine(), machine) {
            *array = Array::new(machine.clone(), &array.values()?)?;
        }
        Ok(())
    }

    /// A copy of the statistics.
    pub fn values(&self) -> Result<Vec<f32>> {
        lock(&self.0).values()
    }

    /// Replaces the statistics by as many `values`.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        lock(&self.0).set(values)
    }

    /// Lays a copy aside, where they are.
    pub fn hold(&self) -> Result<HeldRunning> {
        Ok(HeldRunning(lock(&self.0).copy()?))
    }

    /// Takes back what [`Running::hold`] gave.
    pub fn put_back(&self, held: &HeldRunning) -> Result<()> {
        lock(&self.0).take(&held.0)
    }

    /// Calls `run` with the statistics, where they lie.
    pub fn with<T>(&self, run: impl FnOnce(Span) -> Result<T>) -> Result<T> {
        run(lock(&self.0).span())
    }
}
