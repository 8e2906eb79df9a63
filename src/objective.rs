//! What the M-step minimises: D(p, η) averaged over images and views (Sec. 3, eq. 1 and 2; Sec. 4.5).
//!
//! Tensors in, scalar out. Whether a gradient reaches η is not decided here: the E-step hands η over
//! already detached (or not, for the baseline without stop-gradient).

use crate::error::{Error, Result};
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

/// The dissimilarity D and how often it is taken per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// D.
    pub similarity: Similarity,
    /// ½D(p₁, η₂) + ½D(p₂, η₁) when true, D(p₁, η₂) when false (Sec. 4.6).
    pub symmetric: bool,
    /// Pairs of views per image: 2 for the "asym. 2×" of Sec. 4.6, otherwise 1.
    pub pairs: usize,
    /// Which two outputs the encoder's loss compares.
    #[serde(default, skip_serializing_if = "Comparison::is_default")]
    pub comparison: Comparison,
}

/// More pairs of views are taken for a slip of the hand.
const MOST_PAIRS: usize = 16;

impl ObjectiveConfig {
    /// Refuses a number of pairs out of range.
    pub fn check(&self) -> Result<()> {
        match self.pairs {
            1..=MOST_PAIRS => Ok(()),
            pairs => {
                Err(Error::Usage(format!("objective.pairs: {pairs} must be between 1 and {MOST_PAIRS}")))
            }
        }
    }

    /// Views per image: the first of every pair, then the second of every pair.
    pub fn views(&self) -> usize {
        2 * self.pairs
    }

    /// How many of them, from the first on, have a term of the loss.
    pub fn trained_views(&self) -> usize {
        if self.symmetric { self.views() } else { self.pairs }
    }
}

/// Which two outputs the encoder's loss compares. SimSiam's comparison is one of several with the same h:
/// in all others h is still trained on D(h(sg z₁), η₂), as it is in SimSiam, and θ alone follows the
/// formula. η₂ is the E-step's target and carries no gradient, nor does anything made of it; â = a/‖a‖.
///
/// Centre and residual split what SimSiam's target has beyond the symmetric predictor's: with p₂ = h(η₂),
/// e = η̂₂ − p̂₂ is o + r, o its mean over the batch. With both parts the target is η̂₂: SimSiam.
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
}

impl Comparison {
    /// Every comparison, in reading order.
    pub const ALL: [Comparison; 6] = [
        Comparison::Simsiam,
        Comparison::SymmetricPredictor,
        Comparison::Mirror,
        Comparison::InversePredictor,
        Comparison::Centre,
        Comparison::Residual,
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
        }
    }

    /// Whether its target is not a unit vector but one plus a part of e.
    pub fn takes_a_part(self) -> bool {
        matches!(self, Comparison::Centre | Comparison::Residual)
    }

    fn is_default(&self) -> bool {
        *self == Comparison::default()
    }

    /// −p̂₁·(p̂₂ + o) or −p̂₁·(p̂₂ + r), averaged over all rows: p₁ = `p`, η₂ = `eta` and p₂ = `predicted` are
    /// (V, B, d), the result a scalar. o is the mean of e over the batch, one for each view.
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

/// D(p, η).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// −cos(p, η), between −1 and 1 (eq. 1).
    Cosine,
    /// −softmax(η)·log softmax(p) (Sec. 4.5).
    CrossEntropy,
    /// ‖p/‖p‖ − η/‖η‖‖² = 2 − 2 cos(p, η): the cosine up to constants.
    Mse,
}

impl Similarity {
    /// Every similarity, in reading order.
    pub const ALL: [Similarity; 3] = [Similarity::Cosine, Similarity::CrossEntropy, Similarity::Mse];

    /// The mean of D(p, η) over all rows: p and η are (V, B, d), the result a scalar.
    ///
    /// The mean over views is the paper's ½ + ½.
    pub fn loss(self, p: &Tensor, eta: &Tensor) -> Result<Tensor> {
        let (views, batch, _) = p.dims3()?;
        let rows = (views * batch) as f64;
        let loss = match self {
            Similarity::Cosine => (cosine(p, eta)?.sum_all()? * (-1.0 / rows))?,
            Similarity::Mse => ((cosine(p, eta)?.sum_all()? * (-2.0 / rows))? + 2.0)?,
            Similarity::CrossEntropy => {
                let target = candle_nn::ops::softmax(eta, D::Minus1)?;
                let log_p = candle_nn::ops::log_softmax(p, D::Minus1)?;
                ((target * log_p)?.sum_all()? * (-1.0 / rows))?
            }
        };
        Ok(loss)
    }
}

/// The cosine of each row of `a` with the same row of `b`: (V, B, d) → (V, B, 1).
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((unit_rows(a)? * unit_rows(b)?)?.sum_keepdim(D::Minus1)?)
}

/// Rows divided by their length, which is taken as at least 1e-12 (PyTorch's `F.normalize`).
pub fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    Ok(x.broadcast_div(&length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn rows(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, values.len() / 2, 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn cosine_of_parallel_rows_is_minus_one_and_mse_is_zero() {
        let (a, b) = (rows(&[3.0, 4.0, 0.0, 2.0]), rows(&[6.0, 8.0, 0.0, 0.5]));
        let value = |s: Similarity| s.loss(&a, &b).unwrap().to_scalar::<f32>().unwrap();
        assert!((value(Similarity::Cosine) + 1.0).abs() < 1e-6);
        assert!(value(Similarity::Mse).abs() < 1e-6);
    }

    #[test]
    fn mse_is_two_plus_twice_the_cosine_loss() {
        let (a, b) = (rows(&[1.0, 2.0, -1.0, 0.3]), rows(&[0.2, -1.0, 4.0, 1.0]));
        let value = |s: Similarity| s.loss(&a, &b).unwrap().to_scalar::<f32>().unwrap();
        assert!((value(Similarity::Mse) - 2.0 - 2.0 * value(Similarity::Cosine)).abs() < 1e-5);
    }

    #[test]
    fn cross_entropy_of_uniform_rows_is_the_entropy() {
        let zero = rows(&[0.0, 0.0]);
        let value = Similarity::CrossEntropy.loss(&zero, &zero).unwrap().to_scalar::<f32>().unwrap();
        assert!((value - 2f32.ln()).abs() < 1e-6);
    }
}
