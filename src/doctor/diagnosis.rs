//! What is wrong, as data: what a person reads and what a program parses are made from it.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training on this fails, or teaches something else than what images show.
    Fault,
    /// It is likely to cost accuracy, or to make numbers say less than they seem to.
    Warning,
    /// Worth knowing; nothing need be done.
    Note,
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A number that a diagnosis rests on, beside the bound that it broke.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// What was measured, in words.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Where it would be in order.
    pub bound: Bound,
    /// Why the bound lies there.
    pub reason: &'static str,
}

/// Where a number is in order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether `value` is beyond it; a number that has no meaning is beyond nothing.
    pub fn is_broken_by(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value > most,
            Bound::AtLeast(least) => value < least,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// Its name, which does not change from version to version.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, a sentence.
    pub what: String,
    /// Why that matters, a sentence or two.
    pub why: String,
    /// The recipe's key that is to be changed; none where it is the images that are.
    pub key: Option<&'static str>,
    /// What to do: `--set KEY=VALUE` where a key is to be changed, a sentence otherwise.
    pub remedy: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// Files that show it, a few of them.
    pub files: Vec<String>,
}

impl Diagnosis {
    /// A diagnosis without key, evidence and files.
    pub fn new(
        id: &'static str,
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        let (what, why, remedy) = (what.into(), why.into(), String::new());
        Self { id, severity, what, why, key: None, remedy, evidence: Vec::new(), files: Vec::new() }
    }

    /// With the key that is to be changed and the value that it is to have, as TOML.
    pub fn set(mut self, key: &'static str, value: &str) -> Self {
        self.remedy = match value.contains(['[', '{', '"']) {
            // A shell would take them for its own.
            true => format!("--set '{key}={value}'"),
            false => format!("--set {key}={value}"),
        };
        self.key = Some(key);
        self
    }

    /// With more that is to be done, behind what is said already.
    pub fn also(mut self, more: &str) -> Self {
        self.remedy = format!("{} {more}", self.remedy);
        self
    }

    /// With what to do about the images.
    pub fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// With one more number that it rests on.
    pub fn rests_on(
        mut self,
        what: impl Into<String>,
        value: f64,
        bound: Bound,
        reason: &'static str,
    ) -> Self {
        self.evidence.push(Evidence { what: what.into(), value, bound, reason });
        self
    }

    /// With files that show it.
    pub fn shown_by(mut self, files: &[String]) -> Self {
        self.files = files.to_vec();
        self
    }
}
