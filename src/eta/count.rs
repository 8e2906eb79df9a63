//! Numbers that may also be a word: `k = 10` or `k = "epoch"`, `n = 8` or `n = "all"`.

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of SGD steps: so many, or as many as an epoch has. In TOML `k = 10` or `k = "epoch"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// This many.
    Count(u64),
    /// As many as an epoch has.
    Epoch,
}

impl Steps {
    /// One step, the default.
    pub(super) fn one() -> Steps {
        Steps::Count(1)
    }

    /// Recipes leave one step out.
    pub(super) fn is_one(&self) -> bool {
        *self == Steps::one()
    }

    /// The steps as a number, where an epoch has `per_epoch`.
    pub fn count(self, per_epoch: u64) -> u64 {
        match self {
            Steps::Count(k) => k,
            Steps::Epoch => per_epoch,
        }
    }
}

/// A number of samples of T: so many, or every element of a finite set. In TOML `n = 8` or `n =
/// "all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// This many.
    Count(usize),
    /// The whole set, so that the mean is the expectation.
    All,
}

impl Samples {
    /// The samples as a number, where T has `elements` elements.
    pub fn number(self, elements: usize) -> usize {
        match self {
            Samples::Count(n) => n,
            Samples::All => elements,
        }
    }
}

const EPOCH: &str = "epoch";
const ALL: &str = "all";

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Steps::Count(k) => serializer.serialize_u64(*k),
            Steps::Epoch => serializer.serialize_str(EPOCH),
        }
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = deserializer.deserialize_any(CountOr { word: EPOCH, of: "steps" })?;
        Ok(count.map_or(Steps::Epoch, Steps::Count))
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Samples::Count(n) => serializer.serialize_u64(*n as u64),
            Samples::All => serializer.serialize_str(ALL),
        }
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = deserializer.deserialize_any(CountOr { word: ALL, of: "samples" })?;
        Ok(count.map_or(Samples::All, |n| Samples::Count(usize::try_from(n).unwrap_or(usize::MAX))))
    }
}

/// A number, or none for the word.
struct CountOr {
    word: &'static str,
    of: &'static str,
}

impl Visitor<'_> for CountOr {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "a number of {} or \"{}\"", self.of, self.word)
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Option<u64>, E> {
        Ok(Some(count))
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Option<u64>, E> {
        u64::try_from(count).map(Some).map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<u64>, E> {
        if text == self.word { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }
}
