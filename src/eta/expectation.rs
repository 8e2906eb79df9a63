//! The E-step's expectation over augmentations: η_x ← m·η_x + (1−m)·1/n Σ F_θ(T_i(x)), made afresh for every
//! k SGD steps (Sec. 5.1, eq. 9, of which SimSiam's one sample is n = 1, m = 0, k = 1).
//!
//! Where T is a finite set and the mean runs over all of it, η is the exact solution of the E-step.

use super::{EStep, Frozen, Held, MemoryBank, Views};
use crate::error::Result;
use crate::objective::unit_rows;
use candle_core::Tensor;
use std::collections::HashSet;

/// The mean over the last `n` views of a batch, which no term of the loss shows.
#[derive(Debug)]
pub struct Expectation {
    /// Samples, or elements of a finite T.
    pub n: usize,
    /// The mean of z/‖z‖, which the cosine's E-step asks for, instead of the mean of z.
    pub normalised: bool,
    /// SGD steps per alternation.
    pub k: u64,
    /// η of every image; none where each step makes its own and forgets it.
    pub kept: Option<MemoryBank<f32>>,
}

impl Expectation {
    /// The mean over the samples of a batch, (1, B, d).
    fn mean(&self, views: &Views, frozen: Frozen) -> Result<Tensor> {
        let first = views.x.dim(0)? - self.n;
        let sample = |i: usize| -> Result<Tensor> {
            // One view at a time: no more memory than one sample needs.
            let sample = frozen.z(&views.x.narrow(0, first + i, 1)?)?.detach();
            if self.normalised { unit_rows(&sample) } else { Ok(sample) }
        };
        let mut sum = sample(0)?;
        for i in 1..self.n {
            sum = (sum + sample(i)?)?;
        }
        Ok((sum * (1.0 / self.n as f64))?)
    }
}

impl EStep for Expectation {
    fn chunk(&self) -> u64 {
        self.k
    }

    fn reads(&self, steps: u64) -> std::ops::Range<u64> {
        if self.kept.is_some() { 0..steps } else { 0..0 }
    }

    fn refresh(&mut self, frozen: Frozen, batches: &mut dyn Iterator<Item = Result<Views>>) -> Result<()> {
        let mut made = HashSet::new();
        for views in batches {
            let views = views?;
            // A chunk of several epochs comes back to images whose η it has made already.
            if views.indices.iter().all(|index| made.contains(index)) {
                continue;
            }
            made.extend(views.indices.iter().copied());
            let mean = self.mean(&views, frozen)?;
            if let Some(kept) = &mut self.kept {
                kept.absorb(&views, &mean.squeeze(0)?)?;
            }
        }
        Ok(())
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        if let Some(kept) = &mut self.kept {
            return kept.targets(views, z, frozen);
        }
        Ok(self.mean(views, frozen)?.broadcast_as(z.shape())?.contiguous()?)
    }

    fn age(&self, views: &Views) -> f64 {
        self.kept.as_ref().map_or(0.0, |kept| kept.age(views))
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        self.kept.as_ref().map_or_else(|| Ok(Vec::new()), EStep::state)
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        self.kept.as_mut().map_or(Ok(()), |kept| kept.restore(held))
    }
}
