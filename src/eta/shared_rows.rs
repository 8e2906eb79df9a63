//! A bank's rows over the ranks that share a run: each keeps the rows of its part of the images,
//! N/R of them, and gives and takes those of a batch.

use super::rows::{Rows, move_row, wrong_precision};
use crate::error::{Error, Result};
use crate::kernel::ranks::{Ranks, gather_numbers};
use crate::store::{Numbers, PIECE, Part, Plain, Store};
use crate::threads::lock;
use candle_core::{Device, Tensor};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// (N, d), of which this rank has some rows, stored as T: f32, or bf16 by its bits.
#[derive(Clone, Debug)]
pub struct SharedRows<T> {
    /// The rows of this rank.
    own: Arc<Mutex<Store<T>>>,
    images: usize,
    dim: usize,
    ranks: Arc<dyn Ranks>,
}

/// Images whose rows a rank keeps, at most; the ranks have neighbouring ones.
fn share(images: usize, ranks: &dyn Ranks) -> usize {
    images.div_ceil(ranks.size())
}

/// How many rows of a bank of `images` this rank keeps.
pub fn own_rows(images: usize, ranks: &dyn Ranks) -> usize {
    let share = share(images, ranks);
    images.saturating_sub(ranks.rank() * share).min(share)
}

impl<T: Plain> SharedRows<T> {
    /// A bank of `images` rows of `dim` numbers, those of this rank in `own`.
    pub fn new(own: Store<T>, images: usize, dim: usize, ranks: &Arc<dyn Ranks>) -> Self {
        Self { own: Arc::new(Mutex::new(own)), images, dim, ranks: ranks.clone() }
    }

    /// Which rank keeps the row of an image, and which of its rows that is.
    fn place(&self, image: u32) -> (usize, usize) {
        let share = share(self.images, self.ranks.as_ref());
        (image as usize / share, image as usize % share)
    }

    /// What each rank gives of its numbers, `given` being this rank's, is put into one list by
    /// `take`, which is called with all ranks' numbers, each rank's padded to the same length.
    fn gather(&self, mut given: Vec<T>, lens: &[usize]) -> Result<Vec<Vec<T>>> {
        let longest = lens.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(vec![Vec::new(); lens.len()]);
        }
        given.resize(longest, T::default());
        let all = gather_numbers(self.ranks.as_ref(), &given)?;
        Ok(all.chunks(longest).zip(lens).map(|(of_rank, len)| of_rank[..*len].to_vec()).collect())
    }

    /// The numbers that each rank has of `range`, counted over all rows one after the other.
    fn parts(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let len = share(self.images, self.ranks.as_ref()) * self.dim;
        let of_rank = |rank: usize| {
            let (start, end) = (range.start.max(rank * len), range.end.min((rank + 1) * len));
            if start < end { start - rank * len..end - rank * len } else { 0..0 }
        };
        (0..self.ranks.size()).map(of_rank).collect()
    }

    /// The numbers in `range`, asked for by all ranks at once.
    fn part(&self, range: Range<usize>) -> Result<Vec<T>> {
        let parts = self.parts(&range);
        let own = lock(&self.own).as_slice()[parts[self.ranks.rank()].clone()].to_vec();
        Ok(self.gather(own, &parts.iter().map(Range::len).collect::<Vec<_>>())?.concat())
    }
}

impl<T: Plain> Rows for SharedRows<T> {
    fn get(&self, indices: &[u32], device: &Device) -> Result<Tensor> {
        let (dim, places) = (self.dim, indices.iter().map(|image| self.place(*image)));
        let mut lens = vec![0; self.ranks.size()];
        let mut given = Vec::new();
        {
            let own = lock(&self.own);
            for (rank, row) in places.clone() {
                lens[rank] += dim;
                if rank == self.ranks.rank() {
                    given.extend_from_slice(&own.as_slice()[row * dim..][..dim]);
                }
            }
        }
        let all = self.gather(given, &lens)?;
        let mut next = vec![0; all.len()];
        let mut rows = Vec::with_capacity(indices.len() * dim);
        for (rank, _) in places {
            rows.extend(all[rank][next[rank]..][..dim].iter().map(|eta| eta.widen()));
            next[rank] += dim;
        }
        Ok(Tensor::from_vec(rows, (indices.len(), dim), device)?)
    }

    fn absorb(&mut self, indices: &[u32], keep: &[f32], z: &Tensor) -> Result<()> {
        let (z, dim) = (z.flatten_all()?.to_vec1::<f32>()?, self.dim);
        let mut own = lock(&self.own);
        for ((image, keep), z) in indices.iter().zip(keep).zip(z.chunks_exact(dim)) {
            let (rank, row) = self.place(*image);
            if rank == self.ranks.rank() {
                move_row(&mut own.as_mut_slice()[row * dim..][..dim], *keep, z);
            }
        }
        Ok(())
    }

    fn numbers(&self) -> Numbers<'_> {
        let rows = self.clone();
        let read = Arc::new(move |range| rows.part(range).map_err(std::io::Error::other));
        T::numbers(Part::Away { read, len: self.images * self.dim })
    }

    fn fill(&mut self, numbers: &Numbers) -> Result<()> {
        let lost = |e| Error::Failure(format!("the checkpoint's memory bank does not fit this run's: {e}"));
        let (numbers, len) = (T::part(numbers).ok_or_else(wrong_precision)?, self.images * self.dim);
        numbers.check_len(len).map_err(lost)?;
        let mut done = 0;
        for start in (0..len).step_by(PIECE) {
            let mut piece = vec![T::default(); PIECE.min(len - start)];
            numbers.read(start, &mut piece).map_err(lost)?;
            let parts = self.parts(&(start..start + piece.len()));
            let rank = self.ranks.rank();
            let before: usize = parts[..rank].iter().map(Range::len).sum();
            let own = parts[rank].clone();
            lock(&self.own).as_mut_slice()[own.clone()].copy_from_slice(&piece[before..][..own.len()]);
            done += own.len();
        }
        debug_assert_eq!(done, lock(&self.own).as_slice().len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ranks::together;

    /// A bank of more numbers than a piece has: its bytes in a checkpoint, rows of a batch, and
    /// how many rows this rank keeps.
    fn moved<T: Plain>(ranks: Arc<dyn Ranks>) -> Result<(Vec<u8>, Vec<f32>, usize)> {
        let (images, dim) = (7, PIECE / 5 + 3);
        let kept = own_rows(images, ranks.as_ref());
        let empty = || SharedRows::<T>::new(Store::memory(kept * dim), images, dim, &ranks);
        let mut bank = empty();
        let z = |scale: f32| {
            let values: Vec<f32> = (0..3 * dim).map(|i| scale * (i % 1013) as f32).collect();
            Tensor::from_vec(values, (3, dim), &Device::Cpu)
        };
        bank.absorb(&[6, 0, 3], &[0.0, 0.0, 0.0], &z(1.0)?)?;
        // An image that comes twice moves twice.
        bank.absorb(&[3, 1, 3], &[0.5, 0.0, 0.5], &z(-0.7)?)?;
        let mut bytes = Vec::new();
        let mut write = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        bank.numbers().write(&mut write).map_err(|e| Error::Failure(e.to_string()))?;
        let mut other = empty();
        other.fill(&bank.numbers())?;
        let rows = other.get(&[3, 6, 3, 0], &Device::Cpu)?.flatten_all()?.to_vec1()?;
        Ok((bytes, rows, kept))
    }

    fn same<T: Plain>() {
        let alone = together(1, moved::<T>).remove(0).unwrap();
        for size in [2, 4] {
            let kept = together(size, moved::<T>).into_iter().map(|moved| {
                let (bytes, rows, kept) = moved.unwrap();
                assert!(bytes == alone.0 && rows == alone.1, "{size} ranks");
                kept
            });
            let kept: Vec<usize> = kept.collect();
            assert_eq!(kept.iter().sum::<usize>(), 7);
            assert!(kept.iter().all(|kept| *kept <= 7usize.div_ceil(size)));
        }
    }

    #[test]
    fn rows_are_the_same_on_any_number_of_ranks_and_each_keeps_its_share() {
        same::<f32>();
        same::<u16>();
    }
}
