//! The E-step: how the targets η are made from θ. No gradient ever reaches η: that *is* stop-gradient.
//!
//! | rule | η_x for image x | source |
//! |---|---|---|
//! | one-step | F_θ(T′(x)), one sample, the forward pass that the M-step makes anyway | Sec. 5.1 |
//! | k-step | the same for the next k batches, computed with θ frozen and kept | Sec. 5.2 "Multi-step alternation" |
//! | memory-bank | m·η_x + (1−m)·F_θ(T′(x)), kept for all N images | Sec. 5.2 "Expectation over augmentations" |
//! | expectation | m·η_x + (1−m)·1/n Σ F_θ(T_i(x)), n samples or all of a finite T, once per k steps | Sec. 5.1, eq. 9 |
//! | momentum-encoder | F_ξ(T′(x)), ξ ← τ·ξ + (1−τ)·θ | BYOL; Sec. 6.2 |
//! | none | F_θ(T′(x)) *with* gradient: no stop-gradient, the collapse baseline | Fig. 2 |
//!
//! A rule is an [`EStep`]. The loop asks it once per alternation to `refresh` what it keeps, with θ
//! frozen, and once per batch for its `targets`. Adding one: a file here, a variant of [`Rule`].

mod count;
mod expectation;
mod k_step;
mod memory_bank;
mod momentum_encoder;
mod one_step;
mod twins;

pub use count::{Samples, Steps};
pub use expectation::Expectation;
pub use k_step::KStep;
pub use memory_bank::{BankPlace, MemoryBank, bank_bytes};
pub use momentum_encoder::MomentumEncoder;
pub use one_step::OneStep;
pub use twins::Twins;

use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::numbers::{Numbers, Plain};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Which E-step rule a run uses, and its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rule {
    /// SimSiam.
    OneStep {},
    /// k SGD steps on θ per update of η.
    KStep {
        /// Steps per alternation.
        k: Steps,
    },
    /// A moving average per image.
    MemoryBank {
        /// Momentum m: the part of the old value that stays.
        m: f64,
        /// How its numbers are kept: `"f32"`, or `"bf16"` in half the bytes.
        #[serde(default, skip_serializing_if = "Precision::is_default")]
        precision: Precision,
        /// SGD steps per alternation: η of the next k batches moves with one θ, as in k-step.
        #[serde(default = "Steps::one", skip_serializing_if = "Steps::is_one")]
        k: Steps,
    },
    /// A mean over samples, or over all of a finite T.
    Expectation {
        /// Samples n, each a view that no term of the loss shows; or "all".
        n: Samples,
        /// Whether the mean is that of z/‖z‖ instead of z.
        normalised: bool,
        /// SGD steps per alternation.
        #[serde(default = "Steps::one", skip_serializing_if = "Steps::is_one")]
        k: Steps,
        /// Momentum m: the part of the old value that stays.
        #[serde(default, skip_serializing_if = "is_zero")]
        m: f64,
    },
    /// A moving average of θ.
    MomentumEncoder {
        /// Momentum τ at the first step; it rises to 1 at the last, by half a cosine.
        tau: f64,
    },
    /// No stop-gradient.
    None {},
}

/// More samples of an expectation are taken for a slip of the hand.
const MOST_SAMPLES: usize = 256;

/// Recipes leave it out.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Rule {
    /// Every rule in reading order, with the paper's numbers; help, docs and tests iterate over it.
    pub const ALL: [Rule; 6] = [
        Rule::OneStep {},
        Rule::KStep { k: Steps::Count(10) },
        Rule::MemoryBank { m: 0.8, precision: Precision::F32, k: Steps::Count(1) },
        Rule::Expectation { n: Samples::Count(4), normalised: true, k: Steps::Count(1), m: 0.0 },
        Rule::MomentumEncoder { tau: 0.996 },
        Rule::None {},
    ];

    /// Refuses k = 0, m outside [0, 1] and n outside 1 to [`MOST_SAMPLES`].
    pub fn check(&self) -> Result<()> {
        let (name, k, m) = match self {
            Rule::KStep { k } => ("k-step", *k, 0.0),
            Rule::MemoryBank { m, k, .. } => ("memory-bank", *k, *m),
            Rule::Expectation { k, m, .. } => ("expectation", *k, *m),
            Rule::MomentumEncoder { tau } if !(0.0..=1.0).contains(tau) => {
                let message = format!("eta.momentum-encoder.tau: {tau} is not between 0 and 1");
                return Err(Error::Usage(message));
            }
            Rule::OneStep {} | Rule::MomentumEncoder { .. } | Rule::None {} => return Ok(()),
        };
        let fail = |key: &str, what: String| Err(Error::Usage(format!("eta.{name}.{key}: {what}")));
        if k == Steps::Count(0) {
            return fail("k", "0 steps per alternation would never train; k is at least 1".into());
        }
        if !(0.0..=1.0).contains(&m) {
            return fail("m", format!("{m} is not between 0 and 1"));
        }
        match self {
            Rule::Expectation { n: Samples::Count(n), .. } if !(1..=MOST_SAMPLES).contains(n) => {
                let what =
                    format!("{n} samples; from 1 to {MOST_SAMPLES}, each a forward pass in every step");
                fail("n", what)
            }
            _ => Ok(()),
        }
    }
}

/// The views of a batch, as the loop hands them over.
#[derive(Clone, Debug)]
pub struct Views {
    /// The SGD step that trains on them.
    pub step: u64,
    /// Which images they show, (B).
    pub indices: Vec<u32>,
    /// The views, (V, B, H, W, C): the first of every pair, then the second of every pair.
    pub x: Tensor,
}

/// The encoder with θ held still.
pub trait FrozenEncoder {
    /// F_θ: x (V, B, H, W, C) → z (V, B, d), batch norm in training mode, no gradient.
    fn z(&self, x: &Tensor) -> Result<Tensor>;

    /// A copy of θ, (P).
    fn theta(&self) -> Result<Tensor>;

    /// F of other weights, `theta` (P), likewise; the encoder's running statistics stay as they are.
    fn z_by(&self, theta: &Tensor, x: &Tensor) -> Result<Tensor>;
}

/// What a rule may ask of the encoder.
pub type Frozen<'a> = &'a dyn FrozenEncoder;

/// A tensor that a rule keeps between steps: name, shape, values.
pub type Held<'a> = (String, Vec<usize>, Numbers<'a>);

/// One rule for η.
pub trait EStep: Send {
    /// SGD steps per alternation.
    fn chunk(&self) -> u64 {
        1
    }

    /// Which batches of a chunk of `steps`, counted from 0, [`EStep::refresh`] has to see.
    fn reads(&self, steps: u64) -> std::ops::Range<u64>;

    /// The E-step proper: reads those batches, in order, with θ frozen, and updates η.
    fn refresh(&mut self, frozen: Frozen, batches: &mut dyn Iterator<Item = Result<Views>>) -> Result<()>;

    /// η for each row of z, (V', B, d) like z, where z (V', B, d) is what θ makes of the first V'
    /// views with gradient. η of a view comes from the other view of its pair.
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor>;

    /// How many SGD steps ago the samples in η of this batch were made, on the mean.
    fn age(&self, _: &Views) -> f64 {
        0.0
    }

    /// Another draw of η for the images of the batch, (B, d), as independent of the first as its augmentations; none where the
    /// rule keeps no second one.
    fn second(&self, _: &Views) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// What the rule keeps, for a checkpoint.
    fn state(&self) -> Result<Vec<Held<'_>>>;

    /// Takes back what [`EStep::state`] gave.
    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()>;
}

impl Rule {
    /// Views of a batch, where the objective has `all`, of which `trained` have a term of the loss, and a finite T
    /// `elements`: an expectation has its samples in the place of the others.
    pub fn views(&self, all: usize, trained: usize, elements: usize) -> usize {
        match self {
            Rule::Expectation { n, .. } => trained + n.number(elements),
            _ => all,
        }
    }

    /// How many of `all` views of a batch pass through the network with gradient: the `trained` ones, which
    /// have a term of the loss. Without stop-gradient all do, whatever the loss.
    pub fn views_with_gradient(&self, all: usize, trained: usize) -> usize {
        match self {
            Rule::None {} => all,
            _ => trained,
        }
    }

    /// Makes the rule.
    pub fn build(&self, size: &Size, place: &BankPlace) -> Result<Box<dyn EStep>> {
        self.check()?;
        Ok(match self {
            Rule::OneStep {} => Box::new(OneStep { stop_gradient: true }),
            Rule::None {} => Box::new(OneStep { stop_gradient: false }),
            Rule::KStep { k } => Box::new(KStep::new(k.count(size.per_epoch))),
            Rule::Expectation { n, normalised, k, m } => Box::new(Expectation {
                n: n.number(size.elements),
                normalised: *normalised,
                k: k.count(size.per_epoch),
                kept: if k.is_one() && *m == 0.0 { None } else { Some(size.bank(*m, place)?) },
            }),
            Rule::MomentumEncoder { tau } => Box::new(MomentumEncoder::new(*tau, size.steps)),
            Rule::MemoryBank { m, k, precision: Precision::F32 } => banks::<f32>(*m, *k, size, place)?,
            Rule::MemoryBank { m, k, precision: Precision::Bf16 } => banks::<u16>(*m, *k, size, place)?,
        })
    }
}

/// What a rule has to know of the run.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Training images N.
    pub images: usize,
    /// Dimension d of the targets.
    pub dim: usize,
    /// SGD steps of an epoch.
    pub per_epoch: u64,
    /// SGD steps of the run.
    pub steps: u64,
    /// Elements of a finite T; 0 where T is random.
    pub elements: usize,
    /// Whether a rule that keeps one η for each image keeps a second one, of other draws, to be compared with.
    pub second: bool,
}

impl Size {
    /// An empty bank of this size.
    fn bank<T: Plain>(&self, m: f64, place: &BankPlace) -> Result<MemoryBank<T>> {
        MemoryBank::new(m as f32, self.images, self.dim, place)
    }
}

/// A bank, with its twin where a second η is wanted.
fn banks<T: Plain>(m: f64, k: Steps, size: &Size, place: &BankPlace) -> Result<Box<dyn EStep>> {
    let first = size.bank::<T>(m, place)?.refreshed_every(k.count(size.per_epoch));
    if !size.second {
        return Ok(Box::new(first));
    }
    Ok(Box::new(Twins { first, second: size.bank::<T>(m, place)? }))
}

/// All views (V, …), or their outputs, each in the place of the other view of its pair.
fn other_views(z: &Tensor) -> Result<Tensor> {
    let pairs = z.dim(0)? / 2;
    Ok(Tensor::cat(&[z.narrow(0, pairs, pairs)?, z.narrow(0, 0, pairs)?], 0)?)
}

/// η for z of all views, or of the first of every pair; then the second ones are passed through θ frozen.
fn one_sample(views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
    let all = views.x.dim(0)?;
    if z.dim(0)? == all { other_views(z) } else { frozen.z(&views.x.narrow(0, all / 2, all / 2)?) }
}
