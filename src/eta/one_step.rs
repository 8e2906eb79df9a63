//! SimSiam's E-step: one sample of the other view, from the forward pass that the M-step makes
//! anyway (Sec. 5.1, "Approximation"). Keeps nothing.

use super::{EStep, Frozen, Views, one_sample};
use crate::error::Result;
use candle_core::Tensor;

/// η₁ = z₂ and η₂ = z₁.
#[derive(Debug)]
pub struct OneStep {
    /// False for the collapse baseline, where η is differentiated through (Fig. 2).
    pub stop_gradient: bool,
}

impl EStep for OneStep {
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let eta = one_sample(views, z, frozen)?;
        Ok(if self.stop_gradient { eta.detach() } else { eta })
    }
}
