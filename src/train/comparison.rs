//! The loss of one SGD step: what the encoder's gradient compares, and what h descends beside it.

use super::Model;
use crate::error::Result;
use crate::objective::{Comparison, ObjectiveConfig};
use candle_core::Tensor;

/// A step's losses, both scalars.
pub struct Losses {
    /// The encoder's, which is reported.
    pub encoder: Tensor,
    /// Its gradient is the step's: the encoder's loss plus, where they descend losses of their own, those of
    /// h and h⁻¹. Each has a gradient in its own weights only.
    pub descended: Tensor,
}

impl Losses {
    /// For z and its targets η, (V, B, d) each. Into η a gradient goes in SimSiam's comparison only, and there
    /// only where the E-step left one.
    ///
    /// h passes up to three times in comparisons other than SimSiam's; its running statistics, which nothing
    /// here reads, then move with each pass.
    pub fn new(model: &Model, objective: &ObjectiveConfig, z: &Tensor, eta: &Tensor) -> Result<Self> {
        let d = |a: &Tensor, b: &Tensor| objective.similarity.loss(a, b);
        let comparison = objective.comparison;
        if comparison == Comparison::Simsiam {
            let encoder = d(&model.p(z)?, eta)?;
            return Ok(Self { descended: encoder.clone(), encoder });
        }
        let eta = &eta.detach();
        // h is trained as in SimSiam whatever the encoder compares, so that only one thing differs.
        let mut heads = d(&model.p(&z.detach())?, eta)?;
        let predicted = model.frozen_p(eta)?;
        let encoder = match comparison {
            Comparison::Mirror => d(z, &predicted)?,
            Comparison::Centre | Comparison::Residual => {
                comparison.loss_of_part(&model.p_of_fixed(z)?, eta, &predicted)?
            }
            Comparison::InversePredictor => {
                let p = model.p_of_fixed(z)?;
                heads = (heads + d(&model.inverse(&p.detach())?, &z.detach())?)?;
                d(&p, &model.frozen_inverse(&predicted)?)?
            }
            Comparison::Simsiam | Comparison::SymmetricPredictor => d(&model.p_of_fixed(z)?, &predicted)?,
        };
        Ok(Self { descended: (&encoder + heads)?, encoder })
    }
}
