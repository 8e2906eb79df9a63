//! What a study file says of itself: its question, the paper's numbers, figures, flags and claims.

use super::claim::Claim;
use crate::report::Extra;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a study file says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// A few words.
    pub title: String,
    /// One sentence with a question mark.
    pub question: String,
    /// The paper's place and numbers.
    pub paper: Option<Paper>,
    /// The base method in `studies/base/`; none when the study itself is a complete recipe.
    pub base: Option<String>,
    /// The suite that runs the study with others.
    #[serde(default)]
    pub suite: Suite,
    /// The metrics of its table and its curves; the usual four where it names none.
    #[serde(default)]
    pub shows: Vec<String>,
    /// What its table says of each arm beside its metrics.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// Figures beside those that every study has.
    #[serde(default)]
    pub figures: Vec<Extra>,
    /// The flags it offers on the command line.
    #[serde(default)]
    pub flag: Vec<Flag>,
    /// What it claims.
    #[serde(default)]
    pub claim: Vec<Claim>,
}

/// Studies that are run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// The paper's own claims.
    #[default]
    Paper,
    /// Other methods on the same loop (Sec. 6).
    Comparisons,
    /// Tests of its hypothesis that the paper does not have.
    Laboratory,
    /// What later papers hold against it, or add to it.
    Critics,
}

impl Suite {
    /// Every suite, in reading order, with its name and what it is.
    pub const ALL: [(Suite, &str, &str); 4] = [
        (Suite::Paper, "paper", "The studies of the paper's own claims"),
        (Suite::Comparisons, "comparisons", "The studies of other methods on the same loop (Sec. 6)"),
        (Suite::Laboratory, "laboratory", "The studies of its hypothesis that the paper does not have"),
        (Suite::Critics, "critics", "The studies of what later papers hold against it, or add to it"),
    ];
}

/// Something that distinguishes methods, read off an arm's recipe or off how its runs went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Images per batch.
    Batch,
    /// Whether, and which, other images are pushed away.
    Negatives,
    /// Whether η comes from a moving average of θ.
    MomentumEncoder,
    /// Seconds per epoch, measuring included: the mean over runs.
    EpochSeconds,
    /// Memory that a run holds at its fullest, as it is reckoned before it begins.
    Memory,
}

/// What the paper reports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Section, table or figure.
    pub r#where: String,
    /// What the numbers measure.
    pub metric: String,
    /// Number by arm.
    pub values: BTreeMap<String, f64>,
}

/// A name, or a list of names.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a scale's name or a list of such")]
pub enum Names {
    /// `at = "cifar"`.
    One(String),
    /// `at = ["cifar", "imagenet"]`.
    Several(Vec<String>),
}

impl Names {
    /// All of them, in order.
    pub fn all(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        }
    }

    /// Whether `name` is one of them.
    pub fn has(&self, name: &str) -> bool {
        self.all().iter().any(|own| own == name)
    }
}

/// A flag that makes one arm for each value given to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// `k` for `--k`; the arms are called `k=10`.
    pub name: String,
    /// The dotted key of the recipe that takes the value.
    pub sets: String,
    /// The arm whose other differences the new arm shares.
    pub like: String,
    /// What stands for the value in the help text.
    pub values: String,
    /// The help text.
    pub help: String,
}
