//! Claims that can fail: their form in a study file.
//!
//! A claim compares one number per run, of a metric's curve its end, its highest or lowest value or
//! its mean, with the same number of another arm (paired by seed), with the run's own value at
//! random initialisation, with chance, with another metric of its own, or with a constant; or it is
//! about how runs end: diverged, collapsed. How it is judged: see [`super::judge`].

use super::runs::Of;
use crate::measure::metrics;
use serde::Deserialize;

/// `than` for a run's own value before training.
pub const START: &str = "random initialisation";
/// `than` for the accuracy of guessing, 100 / classes.
pub const CHANCE: &str = "chance";

/// One claim of a study file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim in words; `{arm}` and `{than}` stand for the arms.
    pub text: String,
    /// A column of metrics.csv; "diverges", "collapses" and "does not collapse" need none.
    pub metric: Option<String>,
    /// The arm it is about; `k=*` makes one claim of every arm whose name begins with `k=`.
    pub arm: String,
    /// The predicate.
    pub is: Relation,
    /// Which number of the curve it is about.
    #[serde(default)]
    pub of: Of,
    /// The arm it is compared with, or `random initialisation`, or `chance`, or another metric of
    /// the same run.
    pub than: Option<String>,
    /// The constant it is compared with.
    pub value: Option<f64>,
    /// What a difference may be in favour of the claim's opposite ("not worse than"), or must
    /// exceed ("better than").
    #[serde(default)]
    pub margin: f64,
    /// An arm that a `*` does not mean.
    pub except: Option<String>,
    /// Whether it is about every run ("never"), so that one counterexample contradicts it.
    #[serde(default)]
    pub every: bool,
}

/// A predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Relation {
    /// The difference in the better direction exceeds −margin.
    #[serde(rename = "not worse than")]
    NotWorse,
    /// The difference in the better direction exceeds the margin.
    #[serde(rename = "better than")]
    Better,
    /// The difference in the better direction stays below the margin.
    #[serde(rename = "not better than")]
    NotBetter,
    /// The number is ≥ `value`.
    #[serde(rename = "at least")]
    AtLeast,
    /// The number is ≤ `value`.
    #[serde(rename = "at most")]
    AtMost,
    /// The number is > `value`.
    #[serde(rename = "above")]
    Above,
    /// The number is < `value`.
    #[serde(rename = "below")]
    Below,
    /// The loss stops being a finite number.
    #[serde(rename = "diverges")]
    Diverges,
    /// Held-out outputs are as good as constant, or lie at a few points, at the end
    /// ([`crate::measure::collapse::is_collapsed`]).
    #[serde(rename = "collapses")]
    Collapses,
    /// Held-out outputs have not collapsed at the end.
    #[serde(rename = "does not collapse")]
    NotCollapses,
}

impl Relation {
    /// The words of the file.
    pub fn words(self) -> &'static str {
        match self {
            Relation::NotWorse => "not worse than",
            Relation::Better => "better than",
            Relation::NotBetter => "not better than",
            Relation::AtLeast => "at least",
            Relation::AtMost => "at most",
            Relation::Above => "above",
            Relation::Below => "below",
            Relation::Diverges => "diverges",
            Relation::Collapses => "collapses",
            Relation::NotCollapses => "does not collapse",
        }
    }

    /// Whether it is about how runs end, not about a metric that the claim names.
    pub(super) fn is_of_ends(self) -> bool {
        matches!(self, Relation::Diverges | Relation::Collapses | Relation::NotCollapses)
    }

    pub(super) fn compares_arms(self) -> bool {
        matches!(self, Relation::NotWorse | Relation::Better | Relation::NotBetter)
    }
}

impl Claim {
    /// Refuses unknown arms and metrics and a comparison without its other side: the key and the
    /// reason.
    pub fn check(&self, arms: &[&str]) -> std::result::Result<(), (&'static str, String)> {
        match &self.metric {
            Some(metric) if !metrics::of(metric).is_judged() => {
                let hint = super::nearest::hint(metric, metrics::judged().map(|metric| metric.name));
                return Err(("metric", format!("unknown metric `{metric}`{hint}")));
            }
            None if !self.is.is_of_ends() => {
                return Err((
                    "is",
                    format!("\"{}\" needs `metric`, a column of metrics.csv", self.is.words()),
                ));
            }
            _ => {}
        }
        if self.is.is_of_ends() && self.of != Of::End {
            return Err(("of", format!("\"{}\" is about the end of runs", self.is.words())));
        }
        let named =
            [("arm", Some(&self.arm)), ("than", self.than.as_ref()), ("except", self.except.as_ref())];
        for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name?))) {
            let a_metric = key == "than" && metrics::of(name).is_judged();
            if name != START && name != CHANCE && !a_metric && !arms.iter().any(|arm| matches(name, arm)) {
                let hint = super::nearest::hint(name, arms.iter().copied().chain([START, CHANCE]));
                return Err((key, format!("unknown arm `{name}`{hint}")));
            }
        }
        if !(self.margin >= 0.0 && self.margin.is_finite()) {
            return Err(("margin", format!("{} must be a number of at least 0", self.margin)));
        }
        if self.margin > 0.0 && !self.is.compares_arms() {
            let what = format!("\"{}\" takes no margin; put it into `value`", self.is.words());
            return Err(("margin", what));
        }
        if self.value.is_some_and(|value| !value.is_finite()) {
            return Err(("value", "must be a finite number".into()));
        }
        if self.than.as_ref() == Some(&self.arm) && !self.arm.ends_with('*') {
            return Err(("than", format!("`{}` cannot be compared with itself", self.arm)));
        }
        match (self.is.compares_arms(), &self.than, self.value) {
            (false, None, None) if self.is.is_of_ends() => Ok(()),
            (false, ..) if self.is.is_of_ends() => {
                Err(("is", format!("\"{}\" is compared with nothing", self.is.words())))
            }
            (true, Some(_), None) | (false, None, Some(_)) => Ok(()),
            (true, ..) => {
                Err(("is", format!("\"{}\" needs `than`, an arm, and no `value`", self.is.words())))
            }
            (false, ..) => {
                Err(("is", format!("\"{}\" needs `value`, a number, and no `than`", self.is.words())))
            }
        }
    }

    /// Whether the claim expects the runs of `arm` to diverge.
    pub fn expects_divergence(&self, arm: &str) -> bool {
        self.is == Relation::Diverges && matches(&self.arm, arm)
    }
}

/// Whether the name `arm` is meant by `pattern`, which may end in `*`.
pub(super) fn matches(pattern: &str, arm: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => arm.starts_with(prefix),
        None => pattern == arm,
    }
}
