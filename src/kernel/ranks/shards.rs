//! The shards of a batch: what makes a run's bytes the same for any number of ranks.
//!
//! A recipe cuts each batch into S shards of B/S images. Sums over images, of a gradient or of
//! batch norm's statistics, are taken shard by shard and then over shards in a fixed order,
//! whichever rank a shard is on. R ranks, R a divisor of S, have S/R neighbouring shards each.

use super::{One, Ranks, gather_numbers, sum_tree};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// S shards over the ranks.
#[derive(Clone, Debug)]
pub struct Shards {
    count: usize,
    ranks: Arc<dyn Ranks>,
    merges: bool,
}

impl Shards {
    /// `count` shards over `ranks`. Batch norm's statistics are those of all shards together where
    /// `merges`, else those of each shard alone.
    ///
    /// # Errors
    /// [`Error::Usage`] where the count is no power of two, or the ranks do not divide it.
    pub fn new(count: usize, ranks: Arc<dyn Ranks>, merges: bool) -> Result<Self> {
        let size = ranks.size();
        if !count.is_power_of_two() {
            return Err(Error::Usage(format!("schedule.shards: {count} is no power of two")));
        }
        if !count.is_multiple_of(size) {
            return Err(Error::Usage(format!(
                "schedule.shards: {size} ranks do not divide {count} shards; --set schedule.shards={} (a recipe of its \
                 own, with other bytes), or fewer ranks",
                size.next_power_of_two()
            )));
        }
        Ok(Self { count, ranks, merges })
    }

    /// One shard on one rank.
    pub fn one() -> Self {
        Self { count: 1, ranks: Arc::new(One), merges: true }
    }

    /// S.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The ranks.
    pub fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.ranks
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.count > 1
    }

    /// How many of them are this rank's.
    pub fn own(&self) -> usize {
        self.count / self.ranks.size()
    }

    /// The places of this rank's images within a batch of `batch`, which S divides.
    pub fn images(&self, batch: usize) -> Range<usize> {
        let own = batch / self.ranks.size();
        self.ranks.rank() * own..(self.ranks.rank() + 1) * own
    }

    /// Whether a batch of `batch` images is cut; one that S does not divide passes whole, on every
    /// rank.
    pub fn cut(&self, batch: usize) -> bool {
        self.are_several() && batch.is_multiple_of(self.count)
    }

    /// Batch norm's statistics of `own`, which has the mean of each channel and the sum of squares
    /// about it, (own shards, V, 2, C), each over `rows` rows.
    ///
    /// # Errors
    /// As [`Ranks`].
    pub(crate) fn statistics(&self, own: &[f64], [views, rows, channels]: [usize; 3]) -> Result<Moments> {
        let all = gather_numbers(self.ranks.as_ref(), own)?;
        let (group, n) = (2 * channels, rows as f64);
        let is_square = |i: usize| i % group >= channels;
        if !self.merges {
            let unbiased = |squares: f64| squares / (n - 1.0).max(1.0);
            let mut running = vec![0.0; views * group];
            for shard in all.chunks_exact(views * group) {
                for (i, (to, from)) in running.iter_mut().zip(shard).enumerate() {
                    *to += if is_square(i) { unbiased(*from) } else { *from } / self.count as f64;
                }
            }
            let variance = |(i, value): (usize, &f64)| if is_square(i) { value / n } else { *value };
            return Ok(Moments { own: own.iter().enumerate().map(variance).collect(), running });
        }
        let mut merged = all[..views * group].to_vec();
        for (shard, moments) in all.chunks_exact(views * group).enumerate().skip(1) {
            let before = shard as f64 * n;
            for (to, from) in merged.chunks_exact_mut(group).zip(moments.chunks_exact(group)) {
                for c in 0..channels {
                    // Chan et al. 1979, as blocks of rows are merged within a shard.
                    let delta = from[c] - to[c];
                    to[c] += delta * n / (before + n);
                    to[channels + c] += from[channels + c] + delta * delta * before * n / (before + n);
                }
            }
        }
        let n = (self.count * rows) as f64;
        let over = |by: f64| {
            let part = |(i, value): (usize, &f64)| if is_square(i) { value / by } else { *value };
            merged.iter().enumerate().map(part).collect::<Vec<f64>>()
        };
        Ok(Moments { own: over(n).repeat(self.own()), running: over((n - 1.0).max(1.0)) })
    }

    /// What `own`, sums over each of this rank's groups of `rows` rows, (own shards, V, n), become
    /// where statistics are merged: for each of its groups the sums over all shards, added first to
    /// last; with the rows that they are sums over.
    ///
    /// # Errors
    /// As [`Ranks`].
    pub(crate) fn sums(&self, own: &[f64], rows: usize) -> Result<(Vec<f64>, usize)> {
        if !self.merges {
            return Ok((own.to_vec(), rows));
        }
        let all = gather_numbers(self.ranks.as_ref(), own)?;
        let len = all.len() / self.count;
        let mut sums = all[..len].to_vec();
        for shard in all.chunks_exact(len).skip(1) {
            sums.iter_mut().zip(shard).for_each(|(sum, value)| *sum += value);
        }
        Ok((sums.repeat(self.own()), self.count * rows))
    }

    /// The sum over all ranks' `values`, each a sum over that rank's shards as a tree.
    ///
    /// # Errors
    /// As [`Ranks`].
    pub fn sum(&self, values: &mut [f32]) -> Result<()> {
        sum_tree(self.ranks.as_ref(), values)
    }

    /// Everybody's rows of `own` (V, own images, n), side by side in the order of ranks: (V, B, n).
    ///
    /// # Errors
    /// As [`Ranks`].
    pub fn gather_rows(&self, own: &[f32], views: usize) -> Result<Vec<f32>> {
        let all = gather_numbers(self.ranks.as_ref(), own)?;
        let (of_rank, of_view) = (own.len(), own.len() / views);
        let mut rows = Vec::with_capacity(all.len());
        for view in 0..views {
            for rank in 0..self.ranks.size() {
                rows.extend_from_slice(&all[rank * of_rank + view * of_view..][..of_view]);
            }
        }
        Ok(rows)
    }
}

/// Batch norm's statistics over the shards.
pub(crate) struct Moments {
    /// Mean and biased variance by which each of this rank's groups of rows is normalised, (own
    /// shards, V, 2, C).
    pub own: Vec<f64>,
    /// Mean and unbiased variance towards which the running statistics move, view by view,
    /// (V, 2, C): of all shards together, or the mean of each shard's where they are not merged.
    pub running: Vec<f64>,
}
