//! The E-step: how the targets η are made from θ. No gradient ever reaches η: that *is*
//! stop-gradient.
//!
//! | rule | η_x for image x | source |
//! |---|---|---|
//! | one-step | F_θ(T′(x)), one sample, the forward pass that the M-step makes anyway | Sec. 5.1 |
//! | k-step | the same for the next k batches, computed with θ frozen and kept | Sec. 5.2 "Multi-step alternation" |
//! | mean-of-others | 1/(V−1) Σ F_θ(T_u(x)) over the other views u of the batch | FastSiam |
//! | filtered | F_θ(T′(x)) through a function of the batch's singular values | Zhuo et al. 2023 |
//! | whitened | the same made white: the exact E-step under ηᵀη = n·I | Zhuo et al. 2023 |
//! | memory-bank | m·η_x + (1−m)·F_θ(T′(x)), kept for all N images | Sec. 5.2 "Expectation over augmentations" |
//! | expectation | m·η_x + (1−m)·1/n Σ F_θ(T_i(x)), n samples or all of a finite T, once per k steps | Sec. 5.1, eq. 9 |
//! | momentum-encoder | F_ξ(T′(x)), ξ ← τ·ξ + (1−τ)·θ | BYOL, MoCo; Sec. 6.2 |
//! | sinkhorn | the batch's balanced assignment of F_θ(T′(x)) to clusters, as log-codes | SwAV; Sec. 6.2 |
//! | labels | the class of x, as a log-one-hot vector; no sample at all | supervised training |
//! | none | F_θ(T′(x)) *with* gradient: no stop-gradient, the collapse baseline; SimCLR | Fig. 2 |
//!
//! A rule is an [`EStep`]; a recipe names it by a [`Rule`]. Once per alternation, with θ frozen,
//! the loop lets it `begin` an E-step and `read` its batches one by one; once per batch it asks for
//! `targets`. Adding one: a file here and a variant of [`Rule`]; README.md says how.

mod bank_place;
mod count;
mod device_rows;
mod expectation;
mod filtered;
mod k_step;
mod labels;
mod mean_of_others;
mod memory_bank;
mod momentum_encoder;
mod one_step;
mod queue;
mod rows;
mod rule;
mod shared_rows;
mod sinkhorn;
mod twins;

pub use bank_place::{BankPlace, bank_bytes};
pub use count::{Samples, Steps};
pub use expectation::Expectation;
pub use filtered::Filtered;
pub use k_step::KStep;
pub use labels::Labels;
pub use mean_of_others::MeanOfOthers;
pub use memory_bank::MemoryBank;
pub use momentum_encoder::MomentumEncoder;
pub use one_step::OneStep;
pub use queue::Queue;
pub use rule::{Rule, Size};
pub use sinkhorn::{Sinkhorn, log_codes};
pub use twins::Twins;

use crate::error::Result;
use crate::store::Numbers;
use candle_core::Tensor;

/// The views of a batch, as the loop hands them over.
#[derive(Clone, Debug)]
pub struct Views {
    /// The SGD step that trains on them.
    pub step: u64,
    /// Which images they show, (B).
    pub indices: Vec<u32>,
    /// The classes of the images, (B); empty where nobody reads them.
    pub labels: Vec<u32>,
    /// The views, (V, B, H, W, C): the first of every pair, then the second of every pair.
    pub x: Tensor,
    /// Small crops beside them, (n, B, h, w, C).
    pub small: Option<Tensor>,
}

/// The encoder with θ held still. Its methods fail with [`crate::Error::Failure`] for tensors of
/// another shape and [`crate::Error::Device`] where a GPU fails.
pub trait FrozenEncoder {
    /// F_θ: x (V, B, H, W, C) → z (V, B, d), batch norm in training mode, no gradient.
    fn z(&self, x: &Tensor) -> Result<Tensor>;

    /// θ, (P); the next SGD step changes it in its place.
    fn theta(&self) -> Result<Tensor>;

    /// F of other weights, `theta` (P): x (V, B, H, W, C) → z (V, B, d), batch norm in training
    /// mode, no gradient. The encoder's running statistics stay as they are.
    fn z_by(&self, theta: &Tensor, x: &Tensor) -> Result<Tensor>;

    /// The cosines of z (V, B, d) with the K prototypes, (V, B, K), or z itself where there are
    /// none: its entries are scores of d categories then (Sec. 4.5). Differentiable in z and in the
    /// prototypes.
    fn scores(&self, z: &Tensor) -> Result<Tensor>;
}

/// What a rule may ask of the encoder.
pub type Frozen<'a> = &'a dyn FrozenEncoder;

/// A tensor that a rule keeps between steps: name, shape, values.
pub type Held<'a> = (String, Vec<usize>, Numbers<'a>);

/// One rule for η. Its methods fail as the encoder does that they are given, and with
/// [`crate::Error::Failure`] for a checkpoint of another rule.
pub trait EStep: Send {
    /// SGD steps per alternation.
    fn chunk(&self) -> u64 {
        1
    }

    /// Which batches of a chunk of `steps`, counted from 0, the E-step has to see; none where the
    /// targets are made of the batch's own passes.
    fn reads(&self, _steps: u64) -> std::ops::Range<u64> {
        0..0
    }

    /// Begins the E-step proper, with θ frozen.
    fn begin(&mut self, _: Frozen) -> Result<()> {
        Ok(())
    }

    /// Goes on with the E-step: reads the next of its batches, with θ frozen, and updates η.
    /// Between two batches the rule may be saved and restored.
    fn read(&mut self, _: Frozen, _: &Views) -> Result<()> {
        Ok(())
    }

    /// The whole E-step over `batches`.
    fn refresh(&mut self, frozen: Frozen, batches: &mut dyn Iterator<Item = Result<Views>>) -> Result<()> {
        self.begin(frozen)?;
        for views in batches {
            self.read(frozen, &views?)?;
        }
        Ok(())
    }

    /// η for each row of z, (V', B, d) like z, where z (V', B, d) is what θ makes of the first V'
    /// views with gradient. η of a view comes from the other view of its pair.
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor>;

    /// Outputs of earlier batches, (Q, d), with which the targets last given are contrasted.
    fn negatives(&self) -> Option<&Tensor> {
        None
    }

    /// How many SGD steps ago the samples in η of this batch were made, on the mean.
    fn age(&self, _: &Views) -> f64 {
        0.0
    }

    /// Another draw of η for the images of the batch, (B, d), as independent of the first as its
    /// augmentations; none where the rule keeps no second one.
    fn second(&self, _: &Views) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// What the rule keeps, for a checkpoint; nothing where it keeps nothing.
    fn state(&self) -> Result<Vec<Held<'_>>> {
        Ok(Vec::new())
    }

    /// Takes back what [`EStep::state`] gave.
    fn restore(&mut self, _held: Vec<Held<'static>>) -> Result<()> {
        Ok(())
    }
}

/// All views (V, …), or their outputs, in the same shape: each in the place of the other view of
/// its pair.
fn other_views(z: &Tensor) -> Result<Tensor> {
    let pairs = z.dim(0)? / 2;
    Ok(Tensor::cat(&[z.narrow(0, pairs, pairs)?, z.narrow(0, 0, pairs)?], 0)?)
}

/// η (V', B, d) for z (V', B, d) of all views, or of the first of every pair: then the second ones
/// are passed through θ frozen.
fn one_sample(views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
    let all = views.x.dim(0)?;
    if z.dim(0)? == all { other_views(z) } else { frozen.z(&views.x.narrow(0, all / 2, all / 2)?) }
}
