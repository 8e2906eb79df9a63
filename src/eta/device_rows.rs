//! A bank's rows in a device's memory, beside the outputs that move them: a step copies nothing to
//! the host.

use super::rows::{Rows, wrong_precision};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::store::{Numbers, PIECE, Part, Plain};
use candle_core::{DType, Device, Tensor};
use std::collections::HashSet;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// (N, d), stored as T: f32, or bf16 by its bits.
#[derive(Debug)]
pub struct DeviceRows<T>(Tensor, PhantomData<T>);

/// candle's indices into the numbers of a tensor have 32 bits.
const MOST: usize = u32::MAX as usize;

impl<T: Plain> DeviceRows<T> {
    /// Whether there can be so many rows of `dim` numbers.
    pub fn can_hold(rows: usize, dim: usize) -> bool {
        rows.checked_mul(dim).is_some_and(|len| len <= MOST)
    }

    /// `rows` of `dim` zeros on `device`.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU has no room.
    pub fn new(rows: usize, dim: usize, device: &Device) -> Result<Self> {
        let kind = match T::PRECISION {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        Ok(Self(Tensor::zeros((rows, dim), kind, device)?, PhantomData))
    }

    /// All numbers, row after row.
    fn flat(&self) -> Result<Tensor> {
        Ok(self.0.flatten_all()?)
    }

    /// Replaces all numbers by `values`, piece by piece.
    fn fill_with(&self, values: &Part<T>) -> Result<()> {
        let (all, len) = (self.flat()?, self.0.elem_count());
        let failure = |e| Error::Failure(format!("a memory bank cannot be read back: {e}"));
        let lost = |e: std::io::Error| e.downcast().unwrap_or_else(failure);
        values.check_len(len).map_err(lost)?;
        for start in (0..len).step_by(PIECE) {
            let count = PIECE.min(len - start);
            let mut part = vec![T::default(); count];
            values.read(start, &mut part).map_err(lost)?;
            let part: Vec<f32> = part.into_iter().map(T::widen).collect();
            let part = Tensor::from_vec(part, count, self.0.device())?;
            all.slice_set(&part.to_dtype(self.0.dtype())?, 0, start)?;
        }
        Ok(())
    }

    fn places(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(Tensor::from_slice(indices, indices.len(), self.0.device())?)
    }

    /// The rows of `indices`, (B, d), as f32, where they are.
    fn rows(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(self.0.index_select(&self.places(indices)?, 0)?.to_dtype(DType::F32)?)
    }

    fn absorb_different(&self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
        let device = self.0.device();
        let column = |values: Vec<f32>| Tensor::from_vec(values, (indices.len(), 1), device);
        let (old, z) = (self.rows(indices)?, z.to_device(device)?.detach());
        let moved = old.broadcast_mul(&column(keep.to_vec())?)?;
        let moved = (moved + z.broadcast_mul(&column(keep.iter().map(|keep| 1.0 - keep).collect())?)?)?;
        let places = self.places(indices)?.unsqueeze(1)?.broadcast_as(moved.shape())?.contiguous()?;
        Ok(self.0.scatter_set(&places, &moved.to_dtype(self.0.dtype())?, 0)?)
    }

    /// The numbers in `range`, row after row.
    fn part(&self, range: Range<usize>) -> Result<Vec<T>> {
        // Of a part of a tensor candle would copy the whole to the host.
        let part = self.flat()?.narrow(0, range.start, range.len())?.force_contiguous()?;
        Ok(part.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().map(T::round).collect())
    }
}

impl<T: Plain> Rows for DeviceRows<T> {
    fn get(&self, indices: &[u32], device: &Device) -> Result<Tensor> {
        Ok(self.rows(indices)?.to_device(device)?)
    }

    fn absorb(&mut self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
        let mut start = 0;
        while start < indices.len() {
            // As many as are different from each other at a time: all, in every ordinary batch.
            let mut seen = HashSet::new();
            let count = indices[start..].iter().take_while(|index| seen.insert(**index)).count();
            let range = start..start + count;
            self.absorb_different(&indices[range.clone()], &keep[range], &z.narrow(0, start, count)?)?;
            start += count;
        }
        Ok(())
    }

    fn numbers(&self) -> Numbers<'_> {
        let rows = Self(self.0.clone(), PhantomData);
        let read = Arc::new(move |range| rows.part(range).map_err(std::io::Error::other));
        T::numbers(Part::Away { read, len: self.0.elem_count() })
    }

    fn fill(&mut self, numbers: &Numbers) -> Result<()> {
        self.fill_with(T::part(numbers).ok_or_else(wrong_precision)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn moves<T: Plain>() {
        let rows: Vec<T> = (0..8).map(|i| T::round(i as f32)).collect();
        let mut kept = DeviceRows::<T>::new(4, 2, &Device::Cpu).unwrap();
        kept.fill_with(&Part::Held(rows.into())).unwrap();
        let z = Tensor::from_slice(&[8f32, 8.0, 0.0, 16.0, 4.0, 4.0], (3, 2), &Device::Cpu).unwrap();
        // Row 3 twice: half-way to (8, 8), then half-way to (4, 4).
        kept.absorb(&[3, 0, 3], &[0.5, 0.0, 0.5], &z).unwrap();
        assert_eq!(kept.numbers().into_f32().unwrap(), [0.0, 16.0, 2.0, 3.0, 4.0, 5.0, 5.5, 5.75]);
        assert_eq!(kept.rows(&[3, 1]).unwrap().to_vec2::<f32>().unwrap(), [[5.5, 5.75], [2.0, 3.0]]);
    }

    /// As a checkpoint has them: piece by piece.
    fn bytes(numbers: &Numbers) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut write = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        numbers.write(&mut write).unwrap();
        bytes
    }

    fn come_back<T: Plain>() {
        let dim = PIECE / 2 + 3;
        let values: Vec<T> = (0..3 * dim).map(|i| T::round((i % 251) as f32)).collect();
        let expected = bytes(&Numbers::from(&values[..]));
        let kept = DeviceRows::<T>::new(3, dim, &Device::Cpu).unwrap();
        let part = |values: &[T]| Part::Held(values.to_vec().into());
        kept.fill_with(&part(&values)).unwrap();
        assert_eq!(bytes(&kept.numbers()), expected);
        assert!(kept.fill_with(&part(&values[1..])).is_err());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b"before", &expected[..]].concat()).unwrap();
        kept.fill_with(&part(&vec![T::default(); values.len()])).unwrap();
        assert_ne!(bytes(&kept.numbers()), expected);
        kept.fill_with(&Part::Filed { file: Arc::new(file), at: 6, len: values.len() }).unwrap();
        assert_eq!(bytes(&kept.numbers()), expected);
    }

    #[test]
    fn rows_of_several_pieces_come_back_as_they_went() {
        come_back::<f32>();
        come_back::<u16>();
    }

    #[test]
    fn rows_move_one_after_the_other_whatever_they_are_stored_as() {
        moves::<f32>();
        moves::<u16>();
    }
}
