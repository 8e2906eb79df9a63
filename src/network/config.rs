//! What F_θ and h are made of, as data.

use crate::defaults::{is_default, is_yes, yes};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::spectral::Filter;
use serde::{Deserialize, Serialize};

/// The backbone of F_θ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Backbone {
    /// Linear + BN + ReLU, once per entry, on the flattened image.
    Mlp {
        /// Width of each layer; the last is the feature dimension.
        widths: Vec<usize>,
    },
    /// Three stages of one basic block, CIFAR stem: the smallest residual network of the project.
    Resnet8 {
        /// Channels of the first stage; the next have twice and four times as many.
        width: usize,
    },
    /// ResNet-18 (basic blocks 2-2-2-2).
    Resnet18 {
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-34 (basic blocks 3-4-6-3).
    Resnet34 {
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-50 (bottleneck blocks 3-4-6-3).
    Resnet50 {
        /// The first layers.
        stem: Stem,
    },
    /// Any other residual network.
    Resnet {
        /// Blocks of each stage; every stage after the first halves the image.
        blocks: Vec<usize>,
        /// Bottleneck blocks instead of basic ones.
        bottleneck: bool,
        /// Channels of the first convolution.
        width: usize,
        /// Channels of each stage (of its 3×3 convolutions where blocks are bottlenecks); left out,
        /// the first stage has `width` and every other one twice as many as the one before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        widths: Option<Vec<usize>>,
        /// The first layers.
        stem: Stem,
    },
}

/// The first layers of a residual network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 3×3 convolution, stride 1, no pooling.
    Cifar,
    /// 7×7 convolution, stride 2, then 3×3 max pooling, stride 2.
    Imagenet,
}

/// Which linear layers of a head a batch normalisation follows (the paper's Table 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadNorm {
    /// None.
    None,
    /// The hidden layers only.
    Hidden,
    /// The hidden layers and the output.
    All,
}

/// F_θ: backbone and projection MLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// The backbone.
    pub backbone: Backbone,
    /// Initialises the last BN scale of each residual block with zero (official code; Sec. 3).
    pub zero_init_residual: bool,
    /// The projection MLP.
    pub projector: ProjectorConfig,
    /// What its convolutions multiply.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Where the weights lie that θ begins with, a run's folder or a file; none: they are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The SHA-256 of that file. A run's recipe has it, so that other weights under the same name
    /// are another run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Whether projector and predictor are taken from there too, where they fit.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub init_heads: bool,
    /// Layers that stay as they are: these and all before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
}

/// How far from the image layers stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freeze {
    /// The first convolution and its normalisation.
    Stem,
    /// These and the first stage of blocks.
    Stage1,
    /// Two stages.
    Stage2,
    /// Three stages.
    Stage3,
    /// Four stages.
    Stage4,
    /// Five stages.
    Stage5,
    /// Six stages.
    Stage6,
    /// Seven stages.
    Stage7,
    /// Eight stages, the most that a network has.
    Stage8,
    /// All but the projector.
    Backbone,
}

impl Freeze {
    /// What recipes call them, in order.
    pub const WORDS: [&'static str; 10] =
        ["stem", "stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "stage8", "backbone"];

    /// Stages that stay, none of them where only the stem does.
    pub fn stages(self) -> usize {
        self as usize
    }
}

impl EncoderConfig {
    /// This backbone with this projector, and the default of every key that may be left out.
    pub fn new(backbone: Backbone, projector: ProjectorConfig) -> Self {
        Self {
            backbone,
            zero_init_residual: false,
            projector,
            precision: Precision::F32,
            init: None,
            init_sha256: None,
            init_heads: true,
            freeze: None,
        }
    }
}

/// The projection MLP: linear, BN, ReLU, …; the last BN has neither affine parameters nor ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorConfig {
    /// Linear layers: 3 in the paper, 2 on CIFAR.
    pub layers: usize,
    /// Width of the layers before the last, where it is not d; the paper has one width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Width of the last layer, d.
    pub dim: usize,
    /// Where batch normalisation stands; the paper's default is `all`.
    pub norm: HeadNorm,
}

impl ProjectorConfig {
    /// No projector: z is the backbone's `features` numbers. Weights of others may lack one; a
    /// recipe has one.
    pub fn none(features: usize) -> Self {
        Self { layers: 0, hidden: None, dim: features, norm: HeadNorm::None }
    }
}

/// The predictor h: linear, BN, ReLU, linear with bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorConfig {
    /// Width of the hidden layer; d/4 in the paper.
    pub hidden: usize,
    /// Where batch normalisation stands; the paper's default is `hidden`.
    pub norm: HeadNorm,
    /// Whether an inverse h⁻¹ of the same architecture is trained beside it, D(h⁻¹(sg p), sg z)
    /// (Zhang et al. 2022, Fig. 2c).
    #[serde(default, skip_serializing_if = "is_default")]
    pub inverse: bool,
}

/// DirectPred (Tian, Chen & Ganguli 2021): a linear h without gradient, W = U diag((s/max s)^α + ε)
/// Uᵀ, from the eigenvalues s and eigenvectors U of F, the moving average of z zᵀ. With α = 1 it is
/// DirectCopy, with another one DirectSet(α) (Wang et al. 2021). The filters of Zhuo et al. (2023)
/// on the online side are such an h with ρ = 0 and ε = 0, their s^σ with α = σ/2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectConfig {
    /// ρ of F ← ρF + (1−ρ) mean z zᵀ: the part of the old value that stays.
    pub rho: f64,
    /// ε, which the directions of no variance keep.
    pub epsilon: f64,
    /// Steps between two eigen-decompositions; F moves in every step.
    pub every: u64,
    /// α, the power of F.
    #[serde(default = "half", skip_serializing_if = "is_half")]
    pub alpha: f64,
    /// What takes the place of the power of s/max s: a logarithm of the singular values √s.
    #[serde(default, skip_serializing_if = "is_default")]
    pub filter: Filter,
}

fn half() -> f64 {
    0.5
}

fn is_half(value: &f64) -> bool {
    *value == half()
}

impl DirectConfig {
    /// ρ and the interval of the official code's sample command, ε of the paper.
    pub const PAPER: DirectConfig =
        DirectConfig { rho: 0.3, epsilon: 0.1, every: 1, alpha: 0.5, filter: Filter::Power };

    /// W's eigenvalue where F has `s`, the largest of F's being `most`: (s/most)^α + ε. A logarithm
    /// is that of √s, which is not divided by anything.
    pub fn of_eigenvalue(&self, s: f64, most: f64) -> f64 {
        let share = if most > 0.0 { s / most } else { 0.0 };
        let kept = match self.filter {
            Filter::Power if is_half(&self.alpha) => share.sqrt(),
            Filter::Power => share.powf(self.alpha),
            filter => filter.of(s.sqrt(), 1.0),
        };
        kept + self.epsilon
    }

    /// Refuses ρ outside [0, 1), a negative ε, an interval of 0 steps, and an α that is not above 0
    /// or would do nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(format!("predictor.direct.{what}")));
        if !(0.0..1.0).contains(&self.rho) {
            return fail(format!("rho: {} must be at least 0 and below 1", self.rho));
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return fail(format!("epsilon: {} must be a number of at least 0", self.epsilon));
        }
        if self.every == 0 {
            return fail("every: 0 steps would never set the predictor; it is at least 1".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return fail(format!("alpha: {} must be a number above 0", self.alpha));
        }
        if self.filter != Filter::Power && !is_half(&self.alpha) {
            return fail("alpha: only filter = \"power\" has one".into());
        }
        Ok(())
    }
}

/// h(z) = W z, W (d, d) without bias, trained as the MLP is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// Whether W stays symmetric: each step is followed by W ← ½(W + Wᵀ) (Tian, Chen & Ganguli
    /// 2021).
    #[serde(default, skip_serializing_if = "is_default")]
    pub symmetric: bool,
    /// Whether W begins as the identity and keeps ones on its diagonal: h = I + E with a trained E
    /// off the diagonal (Wen & Li 2022).
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit_diagonal: bool,
}

/// h(z) = W z, W set to the least-squares regression of η on z: W = M₁ (M₂ + ridge·t·I)⁻¹ with M₁
/// the symmetric part of E\[η zᵀ\], M₂ = E\[z zᵀ\] and t the mean of M₂'s diagonal (Tian, Chen &
/// Ganguli 2021, Table 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeastSquaresConfig {
    /// ρ of the moving averages M ← ρM + (1−ρ) of the batch: the part of the old value that stays.
    pub rho: f64,
    /// What is added to M₂'s diagonal, as a part of its mean.
    pub ridge: f64,
    /// Steps between two regressions; moments move in every step.
    pub every: u64,
    /// Writes one row into all rows of W, as the published code's branch `solve` does, which forms
    /// the inverse as Q·s⁻¹·Qᵀ with a vector s⁻¹: a product that is a vector, broadcast by copying.
    /// Every prediction is then a multiple of (1, …, 1).
    #[serde(default, skip_serializing_if = "is_default")]
    pub rank_one: bool,
}

impl LeastSquaresConfig {
    /// Refuses ρ outside [0, 1), a ridge that leaves M₂ without inverse and an interval of 0 steps.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(format!("predictor.least-squares.{what}")));
        if !(0.0..1.0).contains(&self.rho) {
            return fail(format!("rho: {} must be at least 0 and below 1", self.rho));
        }
        if !(self.ridge > 0.0 && self.ridge.is_finite()) {
            return fail(format!("ridge: {} must be a number above 0", self.ridge));
        }
        if self.every == 0 {
            return fail("every: 0 steps would never set the predictor; it is at least 1".into());
        }
        Ok(())
    }
}
