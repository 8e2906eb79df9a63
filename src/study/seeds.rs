//! Which seeds: `8`, so many from the first that the scale says, or `10..18`, the seeds 10 to 17.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// More seeds are taken for a slip of the hand.
const MOST_SEEDS: u64 = 10_000;
/// A larger seed is taken for a slip of the hand: the largest of 32 bits.
pub const LARGEST_SEED: u64 = u32::MAX as u64;

/// Seeds as the command line, a scale or a study asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first one; none: that of the layer below.
    first: Option<u64>,
    /// How many, at least one.
    count: u64,
}

impl Seeds {
    /// One seed, the first one of the layer below.
    pub const ONE: Seeds = Seeds { first: None, count: 1 };

    /// The seed `first` alone.
    pub fn only(first: u64) -> Seeds {
        Seeds { first: Some(first), count: 1 }
    }

    /// These seeds, whose first one is that of `below` where they name none.
    pub fn over(self, below: Seeds) -> Seeds {
        Seeds { first: self.first.or(below.first), ..self }
    }

    /// The seeds in order; the first is 0 where no layer names one.
    pub fn list(self) -> Vec<u64> {
        let first = self.first.unwrap_or(0);
        (first..first.saturating_add(self.count)).collect()
    }

    fn counted(first: Option<u64>, count: u64) -> Result<Seeds, String> {
        match count {
            0 => Err("at least one seed".to_string()),
            1..=MOST_SEEDS => Ok(Seeds { first, count }),
            _ => Err(format!("{count} seeds; at most {MOST_SEEDS}")),
        }
    }

    fn range(Range { start, end }: Range<u64>) -> Result<Seeds, String> {
        if end > LARGEST_SEED {
            return Err(format!("a seed is at most {LARGEST_SEED}"));
        }
        let Some(count) = end.checked_sub(start).filter(|count| *count > 0) else {
            let such = start.saturating_add(8);
            return Err(format!(
                "no seeds; the second number is the one after the last, as in {start}..{such}"
            ));
        };
        Seeds::counted(Some(start), count)
    }
}

impl FromStr for Seeds {
    type Err = String;

    /// # Errors
    /// In words: no number and no range, no seed, or more than anyone means.
    fn from_str(text: &str) -> Result<Seeds, String> {
        let shape = || {
            "expected how many, such as 8, or the first and the one after the last, such as 10..18 for the seeds 10 to 17"
                .to_string()
        };
        let number = |text: &str| match text.trim() {
            digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number of more digits than fit is too large in whatever it counts.
                Ok(digits.parse().unwrap_or(u64::MAX))
            }
            _ => Err(shape()),
        };
        match text.split_once("..") {
            Some((first, end)) => Seeds::range(number(first)?..number(end)?),
            None => Seeds::counted(None, number(text)?),
        }
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.first {
            None => write!(f, "{}", self.count),
            Some(first) => write!(f, "{first}..{}", first.saturating_add(self.count)),
        }
    }
}

/// A number, or a string with a range.
impl Serialize for Seeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.first {
            None => serializer.serialize_u64(self.count),
            Some(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seeds, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Seeds;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("how many seeds, such as 8, or a range in quotes, such as \"10..18\"")
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Seeds, E> {
                let count = u64::try_from(count).map_err(|_| E::custom("at least one seed"))?;
                self.visit_u64(count)
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Seeds, E> {
                Seeds::counted(None, count).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Seeds, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::Seeds;

    fn seeds(text: &str) -> Seeds {
        text.parse().unwrap()
    }

    #[test]
    fn a_number_counts_from_the_first_of_the_layer_below_and_a_range_says_its_own() {
        let scale = seeds("10..18");
        assert_eq!(scale.list(), (10..18).collect::<Vec<_>>());
        assert_eq!(seeds("3").over(scale).list(), [10, 11, 12]);
        assert_eq!(seeds("30..31").over(scale).list(), [30]);
        assert_eq!(Seeds::ONE.over(scale).list(), [10]);
        assert_eq!(seeds("3").list(), [0, 1, 2]);
        assert_eq!(seeds("2").over(Seeds::only(5)).list(), [5, 6]);
        assert_eq!(seeds(" 4 .. 6 ").list(), [4, 5], "blanks");
    }

    #[test]
    fn what_nobody_means_is_refused_with_the_way_out() {
        for (text, word) in [
            ("0", "at least one"),
            ("5..5", "no seeds"),
            ("6..5", "as in 6..14"),
            ("a..b", "such as 10..18"),
            ("1..", "such as 10..18"),
            ("..3", "such as 10..18"),
            ("1..2..3", "such as 10..18"),
            ("", "such as 10..18"),
            ("+3", "such as 10..18"),
            ("1.5", "such as 10..18"),
            ("10001", "at most 10000"),
            ("0..10001", "at most 10000"),
            ("99999999999999999999", "at most 10000"),
            ("5000000000..5000000001", "at most 4294967295"),
            ("0..99999999999999999999", "at most 4294967295"),
            ("99999999999999999999..5", "no seeds"),
        ] {
            let refused = text.parse::<Seeds>().unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Holder {
            seeds: Seeds,
        }
        for (written, shown) in [("seeds = 8\n", "8"), ("seeds = \"10..18\"\n", "10..18")] {
            let read: Holder = toml::from_str(written).unwrap();
            assert_eq!(read.seeds.to_string(), shown);
            assert_eq!(toml::to_string(&read).unwrap(), written);
        }
        for wrong in ["seeds = 0", "seeds = -1", "seeds = 1.5", "seeds = \"9..8\"", "seeds = true"] {
            assert!(toml::from_str::<Holder>(wrong).is_err(), "{wrong}");
        }
    }
}
