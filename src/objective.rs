//! What the M-step minimises: D(p, η) averaged over images and views (Sec. 3, eq. 1 and 2;
//! Sec. 4.5), and what the methods of Sec. 6 have in its place.
//!
//! | method | D(p, η) | other vectors |
//! |---|---|---|
//! | SimSiam | −cos(p, η) | none |
//! | BYOL | ‖p̂ − η̂‖², which is 2 − 2 cos | none |
//! | VICReg, LeJEPA | ‖p − η‖²/d | none; terms that keep z apart beside it |
//! | SwAV | −softmax(η)·log softmax(p/τ), p the scores of prototypes, η log-codes | prototypes |
//! | supervised | −softmax(η)·log softmax(p), η = log one-hot(class) | none |
//! | Siamese | ½D² of a pair of one class, ½ max(0, margin − D)² of two, D = ‖z₁ − z₂‖ | the batch's other images |
//! | SimCLR, MoCo v2 | −log of η's share among all candidates, exp(cos/τ) each | the batch's other images; a queue |
//!
//! Tensors in, scalar out. Whether a gradient reaches η is not decided here: the E-step hands η
//! over already detached (or not, for the baseline without stop-gradient).

mod balanced;
mod comparison;
mod contrastive;
mod info_nce;
mod spread;

pub use balanced::balanced;
pub use comparison::Comparison;
pub use spread::SpreadConfig;

use crate::defaults::{is_default, is_one, one};
use crate::error::{Error, Result};
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

/// The dissimilarity D and how often it is taken per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The dissimilarity D(p, η).
    pub similarity: Similarity,
    /// ½D(p₁, η₂) + ½D(p₂, η₁) when true, D(p₁, η₂) when false (Sec. 4.6).
    pub symmetric: bool,
    /// Pairs of views per image: 2 for the "asym. 2×" of Sec. 4.6, otherwise 1.
    pub pairs: usize,
    /// Which two outputs the encoder's loss compares.
    #[serde(default, skip_serializing_if = "is_default")]
    pub comparison: Comparison,
    /// τ, which divides p in the cross-entropy and cosines in InfoNCE.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub temperature: f64,
    /// How far apart the contrastive loss drives images of two classes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub margin: f64,
    /// Prototypes whose scores take the place of p.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prototypes: Option<PrototypesConfig>,
    /// Terms beside D that keep the outputs z apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadConfig>,
}

/// Prototypes (SwAV, Caron et al. 2020): unit vectors c₁ … c_K, learned as θ is; the scores of p
/// are its cosines with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrototypesConfig {
    /// The number K of prototypes.
    pub count: usize,
    /// SGD steps at the start in which they stay as they are.
    #[serde(default)]
    pub frozen_steps: u64,
}

/// SimSiam's (Sec. 3).
impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            similarity: Similarity::Cosine,
            symmetric: true,
            pairs: 1,
            comparison: Comparison::Simsiam,
            temperature: 1.0,
            margin: 1.0,
            prototypes: None,
            spread: None,
        }
    }
}

/// More pairs of views are taken for a slip of the hand.
const MOST_PAIRS: usize = 16;
/// More prototypes are taken for a slip of the hand; SwAV has 3000.
const MOST_PROTOTYPES: usize = 1 << 16;

impl ObjectiveConfig {
    /// Refuses numbers out of range, and keys that would do nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("objective.{key}: {what}")));
        if !(1..=MOST_PAIRS).contains(&self.pairs) {
            return fail("pairs", format!("{} must be between 1 and {MOST_PAIRS}", self.pairs));
        }
        let has_temperature = matches!(self.similarity, Similarity::CrossEntropy | Similarity::InfoNce);
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return fail("temperature", format!("{} must be a number above 0", self.temperature));
        }
        if self.temperature != 1.0 && !has_temperature {
            let what = "similarity \"cross-entropy\" and \"info-nce\" have one; the others do not";
            return fail("temperature", what.into());
        }
        if !(self.margin > 0.0 && self.margin.is_finite()) {
            return fail("margin", format!("{} must be a number above 0", self.margin));
        }
        if self.margin != 1.0 && self.similarity != Similarity::Contrastive {
            return fail("margin", "similarity \"contrastive\" has one; the others do not".into());
        }
        self.spread.as_ref().map_or(Ok(()), SpreadConfig::check)?;
        match self.prototypes {
            None => Ok(()),
            Some(PrototypesConfig { count, .. }) if !(2..=MOST_PROTOTYPES).contains(&count) => {
                fail("prototypes.count", format!("{count} must be between 2 and {MOST_PROTOTYPES}"))
            }
            Some(_) if self.similarity != Similarity::CrossEntropy => {
                fail("prototypes", "their scores are compared by similarity = \"cross-entropy\"".into())
            }
            Some(_) if self.comparison != Comparison::Simsiam => {
                fail("prototypes", format!("not with comparison = \"{}\"", self.comparison.name()))
            }
            Some(_) => Ok(()),
        }
    }

    /// The mean of D(p, η) over all rows: p and η are (V, B, d), the result a scalar. `negatives`
    /// (Q, d) are InfoNCE's candidates beside η; without them they are the η of the batch's other
    /// images.
    ///
    /// The mean over views is the paper's ½ + ½.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the shapes differ.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use candle_core::{Device, Tensor};
    /// use simsiam_em::objective::ObjectiveConfig;
    ///
    /// // D(p, η) = −cos(p, η): −1 where p points where η does.
    /// let p = Tensor::rand(0.5f32, 1f32, (2, 4, 8), &Device::Cpu)?;
    /// let loss = ObjectiveConfig::default().loss(&p, &(&p * 3.0)?, None)?;
    /// assert!((loss.to_scalar::<f32>()? + 1.0).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn loss(&self, p: &Tensor, eta: &Tensor, negatives: Option<&Tensor>) -> Result<Tensor> {
        let (views, batch, _) = p.dims3()?;
        let rows = (views * batch) as f64;
        Ok(match self.similarity {
            Similarity::Cosine => (cosine(p, eta)?.sum_all()? * (-1.0 / rows))?,
            Similarity::Mse => ((cosine(p, eta)?.sum_all()? * (-2.0 / rows))? + 2.0)?,
            Similarity::SquaredError => {
                let count = p.elem_count() as f64;
                ((p - eta)?.sqr()?.sum_all()? * (1.0 / count))?
            }
            Similarity::CrossEntropy => {
                let target = candle_nn::ops::softmax(eta, D::Minus1)?;
                // Division by 1 is not made, or every number would pass once more through memory.
                let p = if self.temperature == 1.0 { p.clone() } else { (p / self.temperature)? };
                let log_p = candle_nn::ops::log_softmax(&p, D::Minus1)?;
                ((target * log_p)?.sum_all()? * (-1.0 / rows))?
            }
            Similarity::InfoNce => info_nce::info_nce(p, eta, negatives, self.temperature)?,
            Similarity::Contrastive => contrastive::contrastive(p, eta, self.margin)?,
        })
    }

    /// The directions that SIGReg projects outputs like `z` (V, B, d) on in a step, (d, M); none
    /// without it.
    ///
    /// # Errors
    /// [`Error::Device`] where a GPU fails.
    pub fn directions(&self, seed: u64, step: u64, z: &Tensor) -> Result<Option<Tensor>> {
        let Some(spread) = &self.spread else { return Ok(None) };
        spread.directions(seed, step, z.dim(2)?, z.device())
    }

    /// Views per image: the first of every pair, then the second of every pair.
    pub fn views(&self) -> usize {
        2 * self.pairs
    }

    /// How many views, from the first on, have a term of the loss.
    pub fn trained_views(&self) -> usize {
        if self.symmetric { self.views() } else { self.pairs }
    }
}

impl Similarity {
    /// Whether a row's loss is about its own η alone, so that L(θ, η) is a sum over images.
    pub fn is_of_rows(self) -> bool {
        !matches!(self, Similarity::InfoNce | Similarity::Contrastive)
    }
}

/// A dissimilarity D(p, η) of two vectors of d numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// −cos(p, η), between −1 and 1 (eq. 1).
    Cosine,
    /// −softmax(η)·log softmax(p) (Sec. 4.5).
    CrossEntropy,
    /// ‖p/‖p‖ − η/‖η‖‖² = 2 − 2 cos(p, η): the cosine up to constants (BYOL).
    Mse,
    /// ‖p − η‖²/d, lengths and all (VICReg).
    SquaredError,
    /// −log(e^{cos(p, η)/τ} / Σ e^{cos(p, c)/τ}), c over η and the negatives (van den Oord et al.
    /// 2018). Over both views of a batch it is SimCLR's NT-Xent, with a queue MoCo's loss.
    InfoNce,
    /// ½D² of two images of a class, ½ max(0, margin − D)² of two, D the distance of their outputs
    /// (Hadsell et al. 2006).
    Contrastive,
}

impl Similarity {
    /// Every similarity, in reading order.
    pub const ALL: [Similarity; 6] = [
        Similarity::Cosine,
        Similarity::CrossEntropy,
        Similarity::Mse,
        Similarity::SquaredError,
        Similarity::InfoNce,
        Similarity::Contrastive,
    ];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Similarity::Cosine => "cosine",
            Similarity::CrossEntropy => "cross-entropy",
            Similarity::Mse => "mse",
            Similarity::SquaredError => "squared-error",
            Similarity::InfoNce => "info-nce",
            Similarity::Contrastive => "contrastive",
        }
    }
}

/// log Σ exp(x) along `dim`, which is kept with length 1. The largest term is taken out first, so
/// that none overflows.
///
/// # Errors
/// [`Error::Tensor`] where x has no such dimension.
pub fn log_sum_exp(x: &Tensor, dim: usize) -> Result<Tensor> {
    let largest = x.max_keepdim(dim)?.detach();
    Ok((x.broadcast_sub(&largest)?.exp()?.sum_keepdim(dim)?.log()? + largest)?)
}

/// The cosine of each row of `a` with the same row of `b`: (V, B, d) → (V, B, 1).
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((unit_rows(a)? * unit_rows(b)?)?.sum_keepdim(D::Minus1)?)
}

/// x (…, d) with each row divided by its length, which is taken as at least 1e-12 (PyTorch's
/// `F.normalize`).
///
/// # Errors
/// [`Error::Device`] where a GPU fails.
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

    fn value(similarity: Similarity, p: &Tensor, eta: &Tensor) -> f32 {
        let objective = ObjectiveConfig { similarity, ..ObjectiveConfig::default() };
        objective.loss(p, eta, None).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn cosine_of_parallel_rows_is_minus_one_and_mse_is_zero() {
        let (a, b) = (rows(&[3.0, 4.0, 0.0, 2.0]), rows(&[6.0, 8.0, 0.0, 0.5]));
        let value = |s: Similarity| value(s, &a, &b);
        assert!((value(Similarity::Cosine) + 1.0).abs() < 1e-6);
        assert!(value(Similarity::Mse).abs() < 1e-6);
    }

    #[test]
    fn mse_is_two_plus_twice_the_cosine_loss() {
        let (a, b) = (rows(&[1.0, 2.0, -1.0, 0.3]), rows(&[0.2, -1.0, 4.0, 1.0]));
        let value = |s: Similarity| value(s, &a, &b);
        assert!((value(Similarity::Mse) - 2.0 - 2.0 * value(Similarity::Cosine)).abs() < 1e-5);
    }

    #[test]
    fn cross_entropy_of_uniform_rows_is_the_entropy() {
        let zero = rows(&[0.0, 0.0]);
        assert!((value(Similarity::CrossEntropy, &zero, &zero) - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn info_nce_of_equal_vectors_counts_the_candidates() {
        // Two views of three images: the positive and the other two images in both views.
        let same = Tensor::ones((2, 3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!((value(Similarity::InfoNce, &same, &same) - 5f32.ln()).abs() < 1e-6);
        let queue = Tensor::ones((7, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let objective = ObjectiveConfig { similarity: Similarity::InfoNce, ..ObjectiveConfig::default() };
        let loss = objective.loss(&same, &same, Some(&queue)).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - 8f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn log_sum_exp_neither_overflows_nor_vanishes() {
        let x = Tensor::from_slice(&[1000f32, 1000.0, -1000.0, -1000.0], (2, 2), &Device::Cpu).unwrap();
        let got = log_sum_exp(&x, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [1000.0 + 2f32.ln(), -1000.0 + 2f32.ln()]);
    }
}
