//! The N × d numbers of a memory bank, wherever they are kept.

use crate::error::{Error, Result};
use crate::store::{Numbers, Plain};
use candle_core::{Device, Tensor};
use std::fmt::Debug;

/// Rows of d numbers, one for each of N images, stored as f32 or bf16.
pub trait Rows: Debug + Send {
    /// The rows of `indices` as f32, (B, d), on `device`.
    fn get(&self, indices: &[u32], device: &Device) -> Result<Tensor>;
    /// Each row of `indices` ← keep·row + (1 − keep)·z, one after the other where an index comes
    /// twice; `keep` (B), z (B, d).
    fn absorb(&mut self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()>;
    /// All numbers as they are when they are read, for a checkpoint.
    fn numbers(&self) -> Numbers<'_>;
    /// Replaces all numbers.
    ///
    /// # Errors
    /// [`Error::Failure`] where they are of another number or another precision.
    fn fill(&mut self, numbers: &Numbers) -> Result<()>;
}

/// Why a checkpoint's numbers cannot become a bank's.
pub(super) fn wrong_precision() -> Error {
    Error::Failure("the checkpoint's memory bank has another precision".into())
}

/// row ← keep·row + (1 − keep)·z
pub(super) fn move_row<T: Plain>(row: &mut [T], keep: f32, z: &[f32]) {
    // Without a past z stays as it is, to the sign of a zero.
    let moved = |eta: T, z: f32| if keep == 0.0 { z } else { keep * eta.widen() + (1.0 - keep) * z };
    for (eta, z) in row.iter_mut().zip(z) {
        *eta = T::round(moved(*eta, *z));
    }
}
