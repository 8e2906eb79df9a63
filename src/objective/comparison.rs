//! Which two outputs the encoder's loss compares.

use super::unit_rows;
use crate::error::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Which two outputs the encoder's loss compares. SimSiam's comparison is one of several with the
/// same h: in all others h is still trained on D(h(sg z₁), η₂), as it is in SimSiam, and θ alone
/// follows the formula. η₂ is the E-step's target and carries no gradient, nor does anything made
/// of it; â = a/‖a‖.
///
/// Centre and residual split what SimSiam's target has beyond the symmetric predictor's: with p₂ =
/// h(η₂), e = η̂₂ − p̂₂ is o + r, o its mean over the batch. With both parts the target is η̂₂:
/// SimSiam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// D(h(z₁), η₂), or D(z₁, η₂) where there is no h.
    #[default]
    Simsiam,
    /// D(h(z₁), h(η₂)): h on both sides (Zhang et al. 2022, Sec. 2.3).
    SymmetricPredictor,
    /// D(z₁, h(η₂)): h on the side without gradient (Zhang et al. 2022, Fig. 2b).
    Mirror,
    /// D(h(z₁), h⁻¹(h(η₂))) with a trained h⁻¹ (Zhang et al. 2022, Fig. 2c).
    InversePredictor,
    /// −p̂₁·(p̂₂ + o) (Zhang et al. 2022, Sec. 3).
    Centre,
    /// −p̂₁·(p̂₂ + r) (Zhang et al. 2022, Sec. 3).
    Residual,
    /// D(h(z₁), η₂) whose gradient in h(z₁) is taken for that in z₁, not multiplied by h's
    /// derivative: IsoLoss (Halvagal, Laborieux & Zenke 2023). No gradient of a loss in θ.
    Isotropic,
}

impl Comparison {
    /// Every comparison, in reading order.
    pub const ALL: [Comparison; 7] = [
        Comparison::Simsiam,
        Comparison::SymmetricPredictor,
        Comparison::Mirror,
        Comparison::InversePredictor,
        Comparison::Centre,
        Comparison::Residual,
        Comparison::Isotropic,
    ];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Comparison::Simsiam => "simsiam",
            Comparison::SymmetricPredictor => "symmetric-predictor",
            Comparison::Mirror => "mirror",
            Comparison::InversePredictor => "inverse-predictor",
            Comparison::Centre => "centre",
            Comparison::Residual => "residual",
            Comparison::Isotropic => "isotropic",
        }
    }

    /// Whether its target is not a unit vector but one plus a part of e.
    pub fn takes_a_part(self) -> bool {
        matches!(self, Comparison::Centre | Comparison::Residual)
    }

    /// −p̂₁·(p̂₂ + o) or −p̂₁·(p̂₂ + r), averaged over all rows: p₁ = `p`, η₂ = `eta` and p₂ =
    /// `predicted` are (V, B, d), the result a scalar. o is the mean of e over the batch, one for
    /// each view.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the shapes differ.
    pub fn loss_of_part(self, p: &Tensor, eta: &Tensor, predicted: &Tensor) -> Result<Tensor> {
        let (views, batch, _) = p.dims3()?;
        let predicted = unit_rows(predicted)?;
        let extra = (unit_rows(eta)? - &predicted)?;
        let centre = extra.mean_keepdim(1)?;
        let part = match self {
            Comparison::Residual => extra.broadcast_sub(&centre)?,
            _ => centre.broadcast_as(extra.shape())?.contiguous()?,
        };
        let target = (predicted + part)?.detach();
        Ok(((unit_rows(p)? * target)?.sum_all()? * (-1.0 / (views * batch) as f64))?)
    }
}
