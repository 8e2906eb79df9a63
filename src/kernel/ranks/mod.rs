//! Ranks: processes, or threads, that train one model together, and what they tell each other.
//!
//! The bytes of a run must not depend on how many ranks share it. So nothing here adds numbers in
//! an order that a library chooses (`MPI_Allreduce` promises none, and neither does NCCL): ranks
//! hand each other numbers, and [`sum_tree`] adds them as one binary tree whose leaves are the
//! shards of a batch, see [`Shards`].

mod mpi;
mod shards;
mod threads;

pub use mpi::{Mpi, abort, leave};
pub(super) use shards::Moments;
pub use shards::Shards;
pub use threads::{Threads, together};

use crate::error::Result;
use std::fmt::Debug;

/// One of several that do the same calls in the same order.
///
/// # Errors
/// Every call that returns a [`Result`] fails with [`crate::Error::Failure`] where another rank has
/// gone, or where the library that carries the numbers fails.
pub trait Ranks: Debug + Send + Sync {
    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are, R: a power of two.
    fn size(&self) -> usize;

    /// Everybody's bytes, in the order of ranks; all give as many.
    fn gather(&self, own: &[u8]) -> Result<Vec<u8>>;

    /// Piece r of `own`, which has R pieces of equal length, goes to rank r; gives the pieces that
    /// were for this one, in the order of ranks.
    fn exchange(&self, own: &[u8]) -> Result<Vec<u8>>;

    /// Rank 0's bytes, on every rank. The others may give anything.
    fn broadcast(&self, own: &[u8]) -> Result<Vec<u8>>;

    /// Whether this is the rank that writes files and speaks.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether any rank says so.
    fn any(&self, own: bool) -> Result<bool> {
        Ok(self.gather(&[u8::from(own)])?.contains(&1))
    }
}

/// The only one.
#[derive(Clone, Copy, Debug, Default)]
pub struct One;

impl Ranks for One {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<u8>> {
        Ok(own.to_vec())
    }

    fn exchange(&self, own: &[u8]) -> Result<Vec<u8>> {
        Ok(own.to_vec())
    }

    fn broadcast(&self, own: &[u8]) -> Result<Vec<u8>> {
        Ok(own.to_vec())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Numbers without padding of which every bit pattern is one.
pub trait Number: sealed::Sealed + Copy + Default {}
impl Number for u8 {}
impl Number for u16 {}
impl Number for f32 {}
impl Number for f64 {}

/// The bytes of `numbers`, as this machine orders them: all ranks of a run have the same order,
/// since they run the same program.
pub fn bytes_of<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: a `Number` has no padding (the trait is sealed), a u8 no alignment, and the borrow of
    // `numbers` lives on.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The numbers whose bytes `bytes` are; what is left over at the end is no number.
pub fn numbers_of<T: Number>(bytes: &[u8]) -> Vec<T> {
    let mut numbers = vec![T::default(); bytes.len() / size_of::<T>()];
    let len = size_of_val(&numbers[..]);
    // SAFETY: every bit pattern is a `Number` (the trait is sealed), and the vector has `len` bytes
    // of its own.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast::<u8>(), len) }
        .copy_from_slice(&bytes[..len]);
    numbers
}

/// Everybody's numbers, in the order of ranks; all give as many.
///
/// # Errors
/// As [`Ranks`].
pub fn gather_numbers<T: Number>(ranks: &dyn Ranks, own: &[T]) -> Result<Vec<T>> {
    if ranks.size() == 1 {
        return Ok(own.to_vec());
    }
    Ok(numbers_of(&ranks.gather(bytes_of(own))?))
}

/// Everybody's word, in the order of ranks, each of at most 256 bytes.
///
/// # Errors
/// As [`Ranks`].
pub fn gather_words(ranks: &dyn Ranks, word: &str) -> Result<Vec<String>> {
    let mut own = [0u8; 256];
    let len = word.len().min(own.len());
    own[..len].copy_from_slice(&word.as_bytes()[..len]);
    let all = ranks.gather(&own)?;
    let text = |word: &[u8]| String::from_utf8_lossy(word).trim_end_matches('\0').to_string();
    Ok(all.chunks_exact(own.len()).map(text).collect())
}

/// parts[0] + parts[1] + … added as a binary tree, in the place of the first; of the others nothing
/// is left that means anything. All have the same length, and their number is a power of two.
pub fn add_tree(parts: &mut [&mut [f32]]) {
    let mut step = 1;
    while step < parts.len() {
        for left in (0..parts.len()).step_by(2 * step) {
            let (head, tail) = parts.split_at_mut(left + step);
            add(head[left], tail[0]);
        }
        step *= 2;
    }
}

/// to ← to + from
pub fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// The sum of all ranks' `values`, as a binary tree of ranks, on every rank.
///
/// Each rank adds its own slice: 2·(R − 1)/R times the numbers pass by, as in a ring.
///
/// # Errors
/// As [`Ranks`].
pub fn sum_tree(ranks: &dyn Ranks, values: &mut [f32]) -> Result<()> {
    let size = ranks.size();
    if size == 1 || values.is_empty() {
        return Ok(());
    }
    let piece = values.len().div_ceil(size);
    let mut padded = values.to_vec();
    padded.resize(piece * size, 0.0);
    let mut pieces: Vec<f32> = numbers_of(&ranks.exchange(bytes_of(&padded))?);
    let mut parts: Vec<&mut [f32]> = pieces.chunks_mut(piece).collect();
    add_tree(&mut parts);
    let summed: Vec<f32> = gather_numbers(ranks, parts[0])?;
    values.copy_from_slice(&summed[..values.len()]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_their_bytes() {
        let numbers = [1.5f64, -0.0, f64::NAN, f64::MIN_POSITIVE];
        let back: Vec<f64> = numbers_of(bytes_of(&numbers));
        assert!(back.iter().zip(&numbers).all(|(back, number)| back.to_bits() == number.to_bits()));
        assert!(numbers_of::<f32>(&[1, 2, 3]).is_empty());
    }

    #[test]
    fn one_tree_stands_for_any_number_of_ranks() {
        // Numbers whose sum depends on the order in which they are added.
        let leaf = |shard: usize, i: usize| 1.0 / (3 + 7 * shard + i) as f32;
        let len = 13;
        let sums = |ranks: usize| {
            together(ranks, |ranks| {
                let own = 8 / ranks.size();
                let mut leaves: Vec<Vec<f32>> = (ranks.rank() * own..(ranks.rank() + 1) * own)
                    .map(|shard| (0..len).map(|i| leaf(shard, i)).collect())
                    .collect();
                let mut parts: Vec<&mut [f32]> = leaves.iter_mut().map(|leaf| &mut leaf[..]).collect();
                add_tree(&mut parts);
                let mut sum = parts[0].to_vec();
                sum_tree(ranks.as_ref(), &mut sum)?;
                Ok(sum)
            })
        };
        let alone = sums(1).remove(0).unwrap();
        let chain: Vec<f32> = (0..len).map(|i| (0..8).map(|shard| leaf(shard, i)).sum()).collect();
        assert_ne!(alone, chain, "these numbers would not show another order");
        for ranks in [2, 4, 8] {
            for sum in sums(ranks) {
                assert_eq!(sum.unwrap(), alone, "{ranks} ranks");
            }
        }
    }
}
