//! Statistics and gradients of a normalisation whose batch is cut into shards.

use crate::error::Result;
use crate::kernel::device::NormShape;
use crate::kernel::norm;
use crate::kernel::ranks::{Moments, Shards};

/// The statistics of x (own shards, V, rows, C), whose shape has the views of all own shards.
pub(super) fn statistics(
    shards: &Shards,
    shape: &NormShape,
    x: &[f32],
    scratch: &mut [f32],
) -> Result<Moments> {
    let NormShape { shards: own, views, rows, channels } = *shape;
    let mut moments = vec![0f64; 2 * views * channels];
    for (x, to) in x.chunks_exact(rows * channels).zip(moments.chunks_exact_mut(2 * channels)) {
        norm::moments(x, channels, scratch, |c, mean, squares| {
            (to[c], to[channels + c]) = (mean, squares);
        });
    }
    shards.statistics(&moments, [views / own, rows, channels])
}

/// Σg and Σg·(x − μ) of a batch that is cut.
pub(super) struct Gradients {
    own_shards: usize,
    /// Of each group of this rank's rows, (own shards, V, 2, C).
    own: Vec<f64>,
    /// Of all that is normalised by the same statistics as each group.
    merged: Vec<f64>,
    /// Numbers of a group, 2·C.
    group: usize,
    /// Rows that a group's statistics are taken over.
    pub rows: usize,
}

impl Gradients {
    /// From the sums of each of this rank's `groups` groups of `rows` rows.
    pub fn new(shards: &Shards, own: Vec<f64>, groups: usize, rows: usize) -> Result<Self> {
        let (group, own_shards) = (own.len() / groups, shards.own());
        let (merged, rows) = shards.sums(&own, rows)?;
        Ok(Self { own_shards, own, merged, group, rows })
    }

    /// The sums by which the gradient of group `group` is made.
    pub fn of(&self, group: usize) -> &[f64] {
        &self.merged[group * self.group..][..self.group]
    }

    /// The gradients of γ and β, (2, C): of each shard, added as a tree. `inverse` gives 1/√(σ² +
    /// ε) of each group.
    pub fn affine<'a>(&self, inverse: impl Iterator<Item = &'a [f32]>) -> Vec<f64> {
        let channels = self.group / 2;
        let groups: Vec<Vec<f64>> = self
            .own
            .chunks_exact(self.group)
            .zip(inverse)
            .map(|(sums, inverse)| {
                let scale = (0..channels).map(|i| sums[channels + i] * f64::from(inverse[i]));
                scale.chain(sums[..channels].iter().copied()).collect()
            })
            .collect();
        let shards = groups.chunks_exact(groups.len() / self.own_shards);
        let sum_of_views = |views: &[Vec<f64>]| {
            let mut sum = views[0].clone();
            views[1..]
                .iter()
                .for_each(|view| sum.iter_mut().zip(view).for_each(|(sum, value)| *sum += value));
            sum
        };
        add_tree(shards.map(sum_of_views).collect())
    }
}

/// The sum of gradients of as many shards: each rounded to f32, in which ranks hand on theirs, and
/// added as a tree.
pub(super) fn add_tree(shards: Vec<Vec<f64>>) -> Vec<f64> {
    if let [shard] = &shards[..] {
        return shard.clone();
    }
    let mut rounded: Vec<Vec<f32>> =
        shards.iter().map(|shard| shard.iter().map(|value| *value as f32).collect()).collect();
    let mut parts: Vec<&mut [f32]> = rounded.iter_mut().map(|shard| &mut shard[..]).collect();
    crate::kernel::ranks::add_tree(&mut parts);
    parts[0].iter().map(|value| f64::from(*value)).collect()
}
