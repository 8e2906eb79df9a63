//! The E-step: how the targets η are made from θ. No gradient ever reaches η: that *is* stop-gradient.
//!
//! | rule | η_x for image x | source |
//! |---|---|---|
//! | one-step | F_θ(T′(x)), one sample, the forward pass that the M-step makes anyway | Sec. 5.1 |
//! | k-step | the same for the next k batches, computed with θ frozen and kept | Sec. 5.2 "Multi-step alternation" |
//! | memory-bank | m·η_x + (1−m)·F_θ(T′(x)), kept for all N images | Sec. 5.2 "Expectation over augmentations" |
//! | none | F_θ(T′(x)) *with* gradient: no stop-gradient, the collapse baseline | Fig. 2 |

use crate::error::{Error, Result};
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
    },
    /// No stop-gradient.
    None {},
}

/// A number of SGD steps: so many, or as many as an epoch has. In TOML `k = 10` or `k = "epoch"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// This many.
    Count(u64),
    /// One epoch's.
    Epoch,
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
    pub const ALL: [Rule; 4] =
        [Rule::OneStep {}, Rule::KStep { k: Steps::Count(10) }, Rule::MemoryBank { m: 0.8 }, Rule::None {}];

    /// Refuses k = 0 and m outside [0, 1].
    pub fn check(&self) -> Result<()> {
        match self {
            Rule::KStep { k: Steps::Count(0) } => Err(Error::Usage(
                "eta.k-step.k: 0 steps per alternation would never train; k is at least 1".into(),
            )),
            Rule::MemoryBank { m } if !(0.0..=1.0).contains(m) => {
                Err(Error::Usage(format!("eta.memory-bank.m: {m} is not between 0 and 1")))
            }
            _ => Ok(()),
        }
    }
}
