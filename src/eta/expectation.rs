//! The E-step's expectation over augmentations: η_x ← m·η_x + (1−m)·1/n Σ F_θ(T_i(x)), made afresh
//! for every k SGD steps (Sec. 5.1, eq. 9, of which SimSiam's one sample is n = 1, m = 0, k = 1).
//!
//! Where T is a finite set and the mean runs over all of it, η is the exact solution of the E-step.

use super::{EStep, Frozen, Held, MemoryBank, Views};
use crate::error::{Error, Result};
use crate::objective::unit_rows;
use candle_core::Tensor;
use std::collections::BTreeSet;

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
    pub kept: Option<MemoryBank>,
    /// Images whose η the E-step in progress has made; empty between E-steps.
    pub made: BTreeSet<u32>,
}

/// What the images made by an E-step in progress are called in a checkpoint.
const MADE: &str = "made_by_e_step";

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

    fn begin(&mut self, _: Frozen) -> Result<()> {
        self.made.clear();
        Ok(())
    }

    fn read(&mut self, frozen: Frozen, views: &Views) -> Result<()> {
        // A chunk of several epochs comes back to images whose η it has made already: they keep it,
        // also where others of the batch are new.
        let new: Vec<u32> = (0u32..)
            .zip(&views.indices)
            .filter_map(|(row, index)| (!self.made.contains(index)).then_some(row))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.made.extend(views.indices.iter().copied());
        let mean = self.mean(views, frozen)?.squeeze(0)?;
        self.kept.as_mut().map_or(Ok(()), |kept| kept.absorb_rows(views, &mean, &new))
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        self.made.clear();
        if let Some(kept) = &mut self.kept {
            return kept.targets(views, z, frozen);
        }
        Ok(self.mean(views, frozen)?.broadcast_as(z.shape())?.contiguous()?)
    }

    fn age(&self, views: &Views) -> f64 {
        self.kept.as_ref().map_or(0.0, |kept| kept.age(views))
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let mut held = self.kept.as_ref().map_or_else(|| Ok(Vec::new()), EStep::state)?;
        if !self.made.is_empty() {
            // By the bits of f32, of which a checkpoint is made.
            let bits: Vec<f32> = self.made.iter().map(|index| f32::from_bits(*index)).collect();
            held.push((MADE.into(), vec![bits.len()], bits.into()));
        }
        Ok(held)
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        let (made, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|(name, ..)| name == MADE);
        self.made.clear();
        for (.., bits) in made {
            let unread = |e| Error::Failure(format!("the checkpoint's unfinished E-step: {e}"));
            self.made.extend(bits.into_f32().map_err(unread)?.into_iter().map(f32::to_bits));
        }
        self.kept.as_mut().map_or(Ok(()), |kept| kept.restore(held))
    }
}
