//! The multi-step alternation: η for the next k batches is computed with θ frozen and kept, then θ
//! makes k SGD steps against it (Sec. 5.2).
//!
//! With k = 1 no pass of its own is needed: θ has not moved when the M-step sees the batch, so its
//! forward pass gives the same η. Hence k = 1 *is* SimSiam, byte for byte.

use super::{EStep, Frozen, Held, Views, one_sample, other_views};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::VecDeque;

/// Targets of the chunk's batches, by step.
#[derive(Debug)]
pub struct KStep {
    k: u64,
    /// (step, η of all views (V, B, d)), in the order of use.
    kept: VecDeque<(u64, Tensor)>,
}

impl KStep {
    /// k ≥ 1 SGD steps per alternation.
    pub fn new(k: u64) -> Self {
        Self { k, kept: VecDeque::new() }
    }
}

impl EStep for KStep {
    fn chunk(&self) -> u64 {
        self.k
    }

    fn reads(&self, steps: u64) -> std::ops::Range<u64> {
        if self.k == 1 { 0..0 } else { 0..steps }
    }

    fn begin(&mut self, _: Frozen) -> Result<()> {
        self.kept.clear();
        Ok(())
    }

    fn read(&mut self, frozen: Frozen, views: &Views) -> Result<()> {
        // Every view in the place of the other of its pair: what comes out is η, in its order.
        self.kept.push_back((views.step, frozen.z(&other_views(&views.x)?)?.detach()));
        Ok(())
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        if self.kept.front().is_some_and(|(step, _)| *step == views.step)
            && let Some((_, eta)) = self.kept.pop_front()
        {
            // From a checkpoint it comes to the CPU.
            return Ok(eta.narrow(0, 0, z.dim(0)?)?.to_device(z.device())?);
        }
        Ok(one_sample(views, z, frozen)?.detach())
    }

    fn age(&self, views: &Views) -> f64 {
        (views.step % self.k) as f64
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let held = |(step, eta): &(u64, Tensor)| -> Result<Held<'_>> {
            Ok((step.to_string(), eta.dims().to_vec(), eta.flatten_all()?.to_vec1::<f32>()?.into()))
        };
        self.kept.iter().map(held).collect()
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        self.kept.clear();
        for (name, shape, values) in held {
            let step = name.parse().map_err(|_| {
                Error::Failure(format!("the checkpoint's targets are named '{name}', not by a step"))
            })?;
            let lost = |e| Error::Failure(format!("the checkpoint's targets of step {step}: {e}"));
            let values = values.into_f32().map_err(lost)?;
            self.kept.push_back((step, Tensor::from_vec(values, shape, &Device::Cpu)?));
        }
        self.kept.make_contiguous().sort_by_key(|(step, _)| *step);
        Ok(())
    }
}
