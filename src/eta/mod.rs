//! The E-step: how the targets η are made from θ. No gradient ever reaches η: that *is* stop-gradient.
//!
//! | rule | η_x for image x | source |
//! |---|---|---|
//! | one-step | F_θ(T′(x)), one sample, the forward pass that the M-step makes anyway | Sec. 5.1 |
//! | k-step | the same for the next k batches, computed with θ frozen and kept | Sec. 5.2 "Multi-step alternation" |
//! | memory-bank | m·η_x + (1−m)·F_θ(T′(x)), kept for all N images | Sec. 5.2 "Expectation over augmentations" |
//! | expectation | 1/n Σ F_θ(T_i(x)), n samples with the θ of this step | Sec. 5.1, eq. 9 |
//! | none | F_θ(T′(x)) *with* gradient: no stop-gradient, the collapse baseline | Fig. 2 |
//!
//! A rule is an [`EStep`]. The loop asks it once per alternation to `refresh` what it keeps, with θ
//! frozen, and once per batch for its `targets`. Adding one: a file here, a variant of [`Rule`].

mod expectation;
mod k_step;
mod memory_bank;
mod one_step;

pub use expectation::Expectation;
pub use k_step::KStep;
pub use memory_bank::{BankPlace, MemoryBank};
pub use one_step::OneStep;

use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        /// SGD steps per alternation: η of the next k batches moves with one θ, as in k-step.
        #[serde(default = "Steps::one", skip_serializing_if = "Steps::is_one")]
        k: Steps,
    },
    /// A mean over samples.
    Expectation {
        /// Samples n, each a view that no term of the loss shows.
        n: usize,
        /// Whether the mean is that of z/‖z‖ instead of z.
        normalised: bool,
    },
    /// No stop-gradient.
    None {},
}

/// More samples of an expectation are taken for a slip of the hand.
const MOST_SAMPLES: usize = 256;

/// A number of SGD steps: so many, or as many as an epoch has. In TOML `k = 10` or `k = "epoch"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// This many.
    Count(u64),
    /// One epoch's.
    Epoch,
}

impl Steps {
    /// As many as this, where an epoch has `per_epoch`.
    pub fn count(self, per_epoch: u64) -> u64 {
        match self {
            Steps::Count(k) => k,
            Steps::Epoch => per_epoch,
        }
    }

    fn one() -> Self {
        Steps::Count(1)
    }

    /// Recipes leave it out.
    fn is_one(&self) -> bool {
        *self == Steps::one()
    }
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Steps::Count(k) => serializer.serialize_u64(*k),
            Steps::Epoch => serializer.serialize_str("epoch"),
        }
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct StepsVisitor;
        impl Visitor<'_> for StepsVisitor {
            type Value = Steps;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number of steps or \"epoch\"")
            }
            fn visit_u64<E: de::Error>(self, k: u64) -> std::result::Result<Steps, E> {
                Ok(Steps::Count(k))
            }
            fn visit_i64<E: de::Error>(self, k: i64) -> std::result::Result<Steps, E> {
                u64::try_from(k).map(Steps::Count).map_err(|_| E::invalid_value(Unexpected::Signed(k), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Steps, E> {
                match text {
                    "epoch" => Ok(Steps::Epoch),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(StepsVisitor)
    }
}

impl Rule {
    /// Every rule in reading order, with the paper's numbers; help, docs and tests iterate over it.
    pub const ALL: [Rule; 5] = [
        Rule::OneStep {},
        Rule::KStep { k: Steps::Count(10) },
        Rule::MemoryBank { m: 0.8, k: Steps::Count(1) },
        Rule::Expectation { n: 4, normalised: true },
        Rule::None {},
    ];

    /// Refuses k = 0, m outside [0, 1] and n outside 1 to [`MOST_SAMPLES`].
    pub fn check(&self) -> Result<()> {
        match self {
            Rule::KStep { k: Steps::Count(0) } => Err(Error::Usage(
                "eta.k-step.k: 0 steps per alternation would never train; k is at least 1".into(),
            )),
            Rule::MemoryBank { k: Steps::Count(0), .. } => Err(Error::Usage(
                "eta.memory-bank.k: 0 steps per alternation would never train; k is at least 1".into(),
            )),
            Rule::MemoryBank { m, .. } if !(0.0..=1.0).contains(m) => {
                Err(Error::Usage(format!("eta.memory-bank.m: {m} is not between 0 and 1")))
            }
            Rule::Expectation { n, .. } if !(1..=MOST_SAMPLES).contains(n) => Err(Error::Usage(format!(
                "eta.expectation.n: {n} samples; from 1 to {MOST_SAMPLES}, each a forward pass in every step"
            ))),
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

/// θ held still: x (V, B, H, W, C) → z (V, B, d), batch norm in training mode, no gradient.
pub type Frozen<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

/// A tensor that a rule keeps between steps: name, shape, values.
pub type Held<'a> = (String, Vec<usize>, std::borrow::Cow<'a, [f32]>);

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

    /// What the rule keeps, for a checkpoint.
    fn state(&self) -> Result<Vec<Held<'_>>>;

    /// Takes back what [`EStep::state`] gave.
    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()>;
}

impl Rule {
    /// Views of a batch, where the objective has `all`, of which `trained` have a term of the loss: an
    /// expectation has its samples in the place of the others.
    pub fn views(&self, all: usize, trained: usize) -> usize {
        match self {
            Rule::Expectation { n, .. } => trained + n,
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

    /// Makes the rule for `images` training images, targets of dimension `dim` and epochs of
    /// `per_epoch` steps.
    pub fn build(
        &self,
        images: usize,
        dim: usize,
        per_epoch: u64,
        place: &BankPlace,
    ) -> Result<Box<dyn EStep>> {
        self.check()?;
        Ok(match self {
            Rule::OneStep {} => Box::new(OneStep { stop_gradient: true }),
            Rule::None {} => Box::new(OneStep { stop_gradient: false }),
            Rule::KStep { k } => Box::new(KStep::new(k.count(per_epoch))),
            Rule::Expectation { n, normalised } => Box::new(Expectation { n: *n, normalised: *normalised }),
            Rule::MemoryBank { m, k } => {
                Box::new(MemoryBank::new(*m as f32, images, dim, place)?.refreshed_every(k.count(per_epoch)))
            }
        })
    }
}

/// All views (V, …), or their outputs, each in the place of the other view of its pair.
fn other_views(z: &Tensor) -> Result<Tensor> {
    let pairs = z.dim(0)? / 2;
    Ok(Tensor::cat(&[z.narrow(0, pairs, pairs)?, z.narrow(0, 0, pairs)?], 0)?)
}

/// η for z of all views, or of the first of every pair; then the second ones are passed through θ frozen.
fn one_sample(views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
    let all = views.x.dim(0)?;
    if z.dim(0)? == all { other_views(z) } else { frozen(&views.x.narrow(0, all / 2, all / 2)?) }
}
