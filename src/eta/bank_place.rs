//! Where the N × d numbers of a memory bank are kept: in memory, in a memory-mapped file where they
//! are too many, or beside the outputs of a device that has room for them.

use super::device_rows::DeviceRows;
use super::rows::{Rows, move_row, wrong_precision};
use super::shared_rows::{SharedRows, own_rows};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::ranks::{One, Ranks};
use crate::store::{Numbers, Plain, Store};
use candle_core::{Device, Tensor};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a bank's N × d numbers are kept.
#[derive(Clone, Debug)]
pub struct BankPlace {
    /// Banks of more bytes than this that are not beside a device go into a memory-mapped file.
    pub memory_limit_bytes: u64,
    /// The folder of that file; it is deleted with the bank.
    pub folder: PathBuf,
    /// The device that makes the encoder's outputs and the bytes that a bank may have there; none
    /// where the processor makes them.
    pub beside: Option<(Device, u64)>,
    /// Who shares the bank: each keeps its part of the rows.
    pub ranks: Arc<dyn Ranks>,
}

/// In the processor's memory, however large.
impl Default for BankPlace {
    fn default() -> Self {
        Self {
            memory_limit_bytes: u64::MAX,
            folder: std::env::temp_dir(),
            beside: None,
            ranks: Arc::new(One),
        }
    }
}

/// Bytes of a bank of `images` vectors of `dim` numbers.
pub fn bank_bytes(images: usize, dim: usize, precision: Precision) -> u64 {
    (images as u64).saturating_mul(dim as u64).saturating_mul(precision.bytes() as u64)
}

/// `images` rows of `dim` zeros at `place`.
///
/// # Errors
/// [`Error::Disk`] when the mapped file cannot be made, for one because the disk lacks the space:
/// the file is written in full before anything is trained. [`Error::Device`] when a GPU has no room
/// for it, or fails.
pub fn zeros(images: usize, dim: usize, precision: Precision, place: &BankPlace) -> Result<Box<dyn Rows>> {
    match precision {
        Precision::F32 => zeros_of::<f32>(images, dim, place),
        Precision::Bf16 => zeros_of::<u16>(images, dim, place),
    }
}

fn zeros_of<T: Plain>(all: usize, dim: usize, place: &BankPlace) -> Result<Box<dyn Rows>> {
    let images = own_rows(all, place.ranks.as_ref());
    let here = |store| -> Box<dyn Rows> {
        match place.ranks.size() {
            1 => Box::new(HostRows { store, dim }),
            _ => Box::new(SharedRows::<T>::new(store, all, dim, &place.ranks)),
        }
    };
    let overflows = || Error::Usage("a bank of N × d numbers overflows".into());
    let len = images.checked_mul(dim).ok_or_else(overflows)?;
    let bytes = bank_bytes(images, dim, T::PRECISION);
    let gb = bytes as f64 / 1e9;
    // Ranks hand rows on through the processor's memory.
    let alone = place.ranks.size() == 1;
    let beside = place.beside.as_ref().filter(|(_, limit)| alone && bytes <= *limit);
    if let Some((device, _)) = beside.filter(|_| DeviceRows::<T>::can_hold(images, dim)) {
        let made = DeviceRows::<T>::new(images, dim, device);
        return Ok(Box::new(made.map_err(|e| e.of_device(&format!("a memory bank of {gb:.1} GB")))?));
    }
    if bytes <= place.memory_limit_bytes {
        return Ok(here(Store::<T>::memory(len)));
    }
    let store = Store::<T>::mapped(&place.folder, len).map_err(|e| {
        let cost = format!(
            "it takes {gb:.1} GB for {images} images × {dim} numbers, and as much for each of two checkpoints: {e}"
        );
        let source = std::io::Error::new(e.kind(), cost);
        Error::Disk { path: place.folder.clone(), action: "make the memory bank's file", source }
    })?;
    Ok(here(store))
}

/// Rows that the processor reads and writes, as T: f32, or bf16 by its bits.
#[derive(Debug)]
struct HostRows<T> {
    /// (N, d)
    store: Store<T>,
    dim: usize,
}

impl<T: Plain> Rows for HostRows<T> {
    fn get(&self, indices: &[u32], device: &Device) -> Result<Tensor> {
        let row = |index: &u32| self.store.as_slice()[*index as usize * self.dim..][..self.dim].iter();
        let rows: Vec<f32> = indices.iter().flat_map(row).map(|eta| eta.widen()).collect();
        Ok(Tensor::from_vec(rows, (indices.len(), self.dim), device)?)
    }

    fn absorb(&mut self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
        let (z, dim) = (z.flatten_all()?.to_vec1::<f32>()?, self.dim);
        let rows = indices.iter().map(|&index| index as usize * dim..(index as usize + 1) * dim);
        self.store.fetch(rows.clone());
        for ((row, &keep), z) in rows.zip(keep).zip(z.chunks_exact(dim)) {
            move_row(&mut self.store.as_mut_slice()[row], keep, z);
        }
        Ok(())
    }

    fn numbers(&self) -> Numbers<'_> {
        self.store.fetch_in_order();
        self.store.as_slice().into()
    }

    fn fill(&mut self, numbers: &Numbers) -> Result<()> {
        let lost = |e| Error::Failure(format!("the checkpoint's memory bank does not fit this run's: {e}"));
        self.store.fetch_in_order();
        T::part(numbers).ok_or_else(wrong_precision)?.fill(self.store.as_mut_slice()).map_err(lost)
    }
}
