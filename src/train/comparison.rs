//! The loss of one SGD step: what the encoder's gradient compares, and what h descends beside it.

use super::Model;
use crate::error::Result;
use crate::eta::FrozenEncoder;
use crate::objective::{Comparison, ObjectiveConfig};
use candle_core::Tensor;

/// A step's losses, both scalars.
pub struct Losses {
    /// The encoder's, which is reported: the mean of D, and the terms that keep z apart.
    pub encoder: Tensor,
    /// Its gradient is the step's: the encoder's loss plus, where they descend losses of their own,
    /// those of h and h⁻¹. Each has a gradient in its own weights only.
    pub descended: Tensor,
    /// p = h(z), (V', B, d), without gradient.
    pub p: Tensor,
}

/// What a step compares.
pub struct Compared<'a> {
    /// The outputs that are trained, (V', B, d).
    pub z: &'a Tensor,
    /// The targets of the outputs, (V', B, d), or as many log-codes (V', B, K).
    pub eta: &'a Tensor,
    /// Outputs of small crops, (n, B, d); each is compared with the targets of all views.
    pub small: Option<&'a Tensor>,
    /// Outputs of earlier batches with which z is contrasted, (Q, d).
    pub negatives: Option<&'a Tensor>,
    /// Directions that SIGReg projects z on in this step, (d, M); none without it.
    pub directions: Option<&'a Tensor>,
}

impl Losses {
    /// Into η a gradient goes in SimSiam's comparison only, and there only where the E-step left
    /// one.
    ///
    /// h passes up to three times in comparisons other than SimSiam's; its running statistics,
    /// which nothing here reads, then move with each pass.
    ///
    /// # Errors
    /// [`crate::Error::Tensor`] where shapes differ, [`crate::Error::Failure`] where the model
    /// lacks what is compared.
    pub fn new(model: &Model, objective: &ObjectiveConfig, compared: &Compared) -> Result<Self> {
        let of_d = Self::of_comparison(model, objective, compared)?;
        let Some(spread) = &objective.spread else { return Ok(of_d) };
        let apart = spread.loss(compared.z, compared.directions)?;
        Ok(Self { encoder: (of_d.encoder + &apart)?, descended: (of_d.descended + apart)?, p: of_d.p })
    }

    /// The mean of D, without the terms that keep z apart.
    fn of_comparison(model: &Model, objective: &ObjectiveConfig, compared: &Compared) -> Result<Self> {
        let Compared { z, eta, small, negatives, .. } = *compared;
        let d = |a: &Tensor, b: &Tensor| objective.loss(a, b, negatives);
        let comparison = objective.comparison;
        if comparison == Comparison::Simsiam {
            let p = model.p(z)?;
            let mut encoder = d(&model.scores(&p)?, eta)?;
            if let Some(small) = small {
                encoder = with_small_crops(encoder, &model.scores(&model.p(small)?)?, eta, d)?;
            }
            return Ok(Self { descended: encoder.clone(), encoder, p: p.detach() });
        }
        let eta = &eta.detach();
        // h is trained as in SimSiam whatever the encoder compares, so that only one thing differs.
        let of_h = model.p(&z.detach())?;
        let mut heads = d(&of_h, eta)?;
        let p = of_h.detach();
        if comparison == Comparison::Isotropic {
            // p itself, with the derivative of z.
            let encoder = d(&(&p + (z - z.detach())?)?, eta)?;
            return Ok(Self { descended: (&encoder + heads)?, encoder, p });
        }
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
            Comparison::Simsiam | Comparison::Isotropic | Comparison::SymmetricPredictor => {
                d(&model.p_of_fixed(z)?, &predicted)?
            }
        };
        Ok(Self { descended: (&encoder + heads)?, encoder, p })
    }
}

/// The mean of D over all pairs of a crop and another one's target: `large` is that over the V
/// views, `p` (n, B, ·) belongs to small crops, which have no target of their own (Caron et al.
/// 2020, eq. 6).
fn with_small_crops(
    large: Tensor,
    p: &Tensor,
    eta: &Tensor,
    d: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (views, crops) = (eta.dim(0)?, p.dim(0)?);
    let mut sum = large;
    for view in 0..views {
        let target = eta.narrow(0, view, 1)?.broadcast_as(p.shape().clone())?.contiguous()?;
        // D is a mean over crops; a view counts once for each of them, and `large` once for each
        // view.
        sum = (sum + (d(p, &target)? * (crops as f64 / views as f64))?)?;
    }
    Ok((sum * (1.0 / (1 + crops) as f64))?)
}
