//! A bank's rows in a device's memory, beside the outputs that move them: a step copies nothing to the host.

use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::numbers::Plain;
use candle_core::{DType, Device, Tensor};
use std::collections::HashSet;

/// (N, d), stored as f32 or bf16.
#[derive(Debug)]
pub struct DeviceRows(Tensor);

/// Numbers that move between the host and a device at a time.
const CHUNK: usize = 1 << 24;

/// candle counts the numbers that a row is looked for in with 32 bits.
const MOST: usize = u32::MAX as usize;

impl DeviceRows {
    /// Whether there can be so many rows of `dim` numbers.
    pub fn can_hold(rows: usize, dim: usize) -> bool {
        rows.checked_mul(dim).is_some_and(|len| len <= MOST)
    }

    /// `rows` of `dim` zeros, stored as T, on `device`.
    pub fn new<T: Plain>(rows: usize, dim: usize, device: &Device) -> Result<Self> {
        let kind = match T::PRECISION {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        Ok(Self(Tensor::zeros((rows, dim), kind, device)?))
    }

    /// Where each chunk of rows begins, and how many it has.
    fn chunks(&self) -> Result<impl Iterator<Item = (usize, usize)>> {
        let (rows, dim) = self.0.dims2()?;
        let most = (CHUNK / dim.max(1)).max(1);
        Ok((0..rows).step_by(most).map(move |start| (start, most.min(rows - start))))
    }

    /// Replaces all numbers by `values`.
    pub fn fill<T: Plain>(&self, values: &[T]) -> Result<()> {
        let dim = self.0.dim(1)?;
        if values.len() != self.0.elem_count() {
            return Err(Error::Failure("a bank's rows of another number".into()));
        }
        for (start, count) in self.chunks()? {
            let part = values[start * dim..][..count * dim].iter().map(|value| value.widen()).collect();
            let part = Tensor::from_vec::<_, f32>(part, (count, dim), self.0.device())?;
            self.0.slice_set(&part.to_dtype(self.0.dtype())?, 0, start)?;
        }
        Ok(())
    }

    fn places(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(Tensor::from_slice(indices, indices.len(), self.0.device())?)
    }

    /// The rows of `indices`, (B, d), as f32.
    pub fn get(&self, indices: &[u32]) -> Result<Tensor> {
        Ok(self.0.index_select(&self.places(indices)?, 0)?.to_dtype(DType::F32)?)
    }

    /// Each row of `indices` ← keep·row + (1 − keep)·z, one after the other where an index comes twice; `keep` (B), z (B, d).
    pub fn absorb(&self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
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

    fn absorb_different(&self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
        let device = self.0.device();
        let column = |values: Vec<f32>| Tensor::from_vec(values, (indices.len(), 1), device);
        let (old, z) = (self.get(indices)?, z.to_device(device)?.detach());
        let moved = old.broadcast_mul(&column(keep.to_vec())?)?;
        let moved = (moved + z.broadcast_mul(&column(keep.iter().map(|keep| 1.0 - keep).collect())?)?)?;
        let places = self.places(indices)?.unsqueeze(1)?.broadcast_as(moved.shape())?.contiguous()?;
        Ok(self.0.scatter_set(&places, &moved.to_dtype(self.0.dtype())?, 0)?)
    }

    /// All numbers, for a checkpoint.
    pub fn values<T: Plain>(&self) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(self.0.elem_count());
        for (start, count) in self.chunks()? {
            // Of a part of a tensor candle would copy the whole to the host.
            let part = self.0.narrow(0, start, count)?.force_contiguous()?.to_dtype(DType::F32)?;
            values.extend(part.flatten_all()?.to_vec1::<f32>()?.into_iter().map(T::round));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves<T: Plain>() {
        let rows: Vec<T> = (0..8).map(|i| T::round(i as f32)).collect();
        let kept = DeviceRows::new::<T>(4, 2, &Device::Cpu).unwrap();
        kept.fill(&rows).unwrap();
        let z = Tensor::from_slice(&[8f32, 8.0, 0.0, 16.0, 4.0, 4.0], (3, 2), &Device::Cpu).unwrap();
        // Row 3 twice: half-way to (8, 8), then half-way to (4, 4).
        kept.absorb(&[3, 0, 3], &[0.5, 0.0, 0.5], &z).unwrap();
        let values: Vec<f32> = kept.values::<T>().unwrap().into_iter().map(T::widen).collect();
        assert_eq!(values, [0.0, 16.0, 2.0, 3.0, 4.0, 5.0, 5.5, 5.75]);
        assert_eq!(kept.get(&[3, 1]).unwrap().to_vec2::<f32>().unwrap(), [[5.5, 5.75], [2.0, 3.0]]);
    }

    #[test]
    fn rows_of_several_chunks_come_back_as_they_went() {
        let dim = CHUNK / 2 + 1;
        let values: Vec<f32> = (0..3 * dim).map(|i| (i % 251) as f32).collect();
        let kept = DeviceRows::new::<f32>(3, dim, &Device::Cpu).unwrap();
        kept.fill(&values).unwrap();
        assert!(kept.values::<f32>().unwrap() == values);
        assert!(kept.fill(&values[1..]).is_err());
    }

    #[test]
    fn rows_move_one_after_the_other_whatever_they_are_stored_as() {
        moves::<f32>();
        moves::<u16>();
    }
}
