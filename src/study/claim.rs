//! Claims that can fail, and their verdicts.
//!
//! A claim compares one number per run, of a metric's curve its end, its highest or lowest value or
//! its mean, with the same number of another arm (paired by seed), with the run's own value at
//! random initialisation, with chance, with another metric of its own, or with a constant. With n ≥
//! 2 seeds the mean difference has a 95 % interval, Student's t with n − 1 degrees of freedom. A
//! claim is reproduced when the whole interval satisfies it, contradicted when none of it does,
//! undecided otherwise: also where a verdict would mean nothing, which [`Judged::why`] then says.
//! That is so with one seed or equal values for all seeds, which have no interval; where a run has
//! no value; where there is one class, of which every guess is right; and after a few steps of
//! training.

use super::metrics::{METRICS, is_metric};
use super::runs::{Of, Runs};
use crate::measure::estimate::Estimate;
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
    /// A column of metrics.csv.
    pub metric: String,
    /// The arm it is about; `k=*` makes one claim of every arm whose name begins with `k=`.
    pub arm: String,
    /// The predicate.
    pub is: Relation,
    /// Which number of the curve it is about.
    #[serde(default)]
    pub of: Of,
    /// The arm it is compared with, or `random initialisation`, or `chance`, or another metric of the same run.
    pub than: Option<String>,
    /// The constant it is compared with.
    pub value: Option<f64>,
    /// What a difference may be in favour of the claim's opposite ("not worse than"), or must exceed
    /// ("better than").
    #[serde(default)]
    pub margin: f64,
    /// An arm that a `*` does not mean.
    pub except: Option<String>,
}

/// A predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Relation {
    /// The difference in the better direction exceeds −margin.
    #[serde(rename = "not worse than")]
    NotWorse,
    /// It exceeds the margin.
    #[serde(rename = "better than")]
    Better,
    /// It stays below the margin.
    #[serde(rename = "not better than")]
    NotBetter,
    /// ≥ value.
    #[serde(rename = "at least")]
    AtLeast,
    /// ≤ value.
    #[serde(rename = "at most")]
    AtMost,
    /// > value.
    #[serde(rename = "above")]
    Above,
    /// < value.
    #[serde(rename = "below")]
    Below,
    /// The loss stops being a finite number.
    #[serde(rename = "diverges")]
    Diverges,
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
        }
    }

    fn compares_arms(self) -> bool {
        matches!(self, Relation::NotWorse | Relation::Better | Relation::NotBetter)
    }
}

/// What the runs say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval satisfies it.
    Reproduced,
    /// None of the interval does.
    Contradicted,
    /// Neither.
    Undecided,
}

impl Verdict {
    /// The verdict in one word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::Contradicted => "contradicted",
            Verdict::Undecided => "undecided",
        }
    }
}

/// A claim about concrete arms, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The claim in words.
    pub text: String,
    /// Metric.
    pub metric: String,
    /// The arm.
    pub arm: String,
    /// What was asked, in words: "not worse than k=1 by more than 2".
    pub asked: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The effect: a difference between arms (in the metric's own direction), or the value itself.
    pub effect: Option<Estimate>,
    /// Whether the effect is a difference.
    pub is_difference: bool,
    /// Why it is undecided, when it is.
    pub why: Option<String>,
}

/// Differences that are smaller than this part of their terms are what rounding left of equal ones.
const ROUNDING: f64 = 1e-12;
impl Claim {
    /// Refuses unknown arms and metrics and a comparison without its other side: the key and the reason.
    pub fn check(&self, arms: &[&str]) -> std::result::Result<(), (&'static str, String)> {
        if !is_metric(&self.metric) {
            let hint = super::nearest::hint(&self.metric, METRICS.iter().map(|(name, ..)| *name));
            return Err(("metric", format!("unknown metric `{}`{hint}", self.metric)));
        }
        let named =
            [("arm", Some(&self.arm)), ("than", self.than.as_ref()), ("except", self.except.as_ref())];
        for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name?))) {
            let a_metric = key == "than" && is_metric(name);
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
            (false, None, None) if self.is == Relation::Diverges => Ok(()),
            (false, ..) if self.is == Relation::Diverges => {
                Err(("is", "\"diverges\" is compared with nothing".into()))
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

    /// Judges the claim for every arm among `arms` that it is about.
    pub fn judge(&self, arms: &[String], seeds: &[u64], runs: &Runs) -> Vec<Judged> {
        let chosen = |name: &str| -> Vec<String> {
            let excepted = |arm: &String| name.ends_with('*') && self.except.as_ref() == Some(arm);
            let meant = |arm: &&String| matches(name, arm) && !excepted(arm);
            arms.iter().filter(meant).cloned().collect()
        };
        let mut judged = Vec::new();
        for arm in chosen(&self.arm) {
            match self.than.as_deref() {
                None if self.is == Relation::Diverges => {
                    judged.push(self.judge_divergence(&arm, seeds, runs))
                }
                None => judged.push(self.judge_one(&arm, None, seeds, runs)),
                Some(metric) if is_metric(metric) => {
                    judged.push(self.judge_one(&arm, Some(metric), seeds, runs));
                }
                than @ Some(START | CHANCE) => judged.push(self.judge_one(&arm, than, seeds, runs)),
                Some(than) => {
                    for than in chosen(than).iter().filter(|than| **than != arm) {
                        judged.push(self.judge_one(&arm, Some(than), seeds, runs));
                    }
                }
            }
        }
        judged
    }

    /// Whether the claim expects the runs of `arm` to diverge.
    pub fn expects_divergence(&self, arm: &str) -> bool {
        self.is == Relation::Diverges && matches(&self.arm, arm)
    }

    /// A claim that runs diverge: about how they end, not about a number.
    fn judge_divergence(&self, arm: &str, seeds: &[u64], runs: &Runs) -> Judged {
        let ends: Vec<Option<bool>> = seeds.iter().map(|&seed| (runs.diverged)(arm, seed)).collect();
        let diverged = ends.iter().filter(|end| **end == Some(true)).count();
        let nothing = runs.means_nothing(&self.metric, &[arm]);
        let (verdict, why) = match seeds.len() {
            _ if ends.contains(&None) => (Verdict::Undecided, format!("{arm} has not ended for every seed")),
            1 => (Verdict::Undecided, "one seed decides nothing".to_string()),
            all if diverged == all => (Verdict::Reproduced, format!("{all} of {all} runs")),
            // That a run diverged is a fact after however many steps; that none did is not.
            all if diverged < all && nothing.is_some() => (Verdict::Undecided, nothing.unwrap_or_default()),
            all if diverged == 0 => (Verdict::Contradicted, format!("none of {all} runs")),
            all => (Verdict::Undecided, format!("{diverged} of {all} runs")),
        };
        Judged {
            text: self.text.replace("{arm}", arm),
            metric: self.metric.clone(),
            arm: arm.to_string(),
            asked: self.is.words().to_string(),
            verdict,
            effect: None,
            is_difference: false,
            why: Some(why),
        }
    }

    fn judge_one(&self, arm: &str, than: Option<&str>, seeds: &[u64], runs: &Runs) -> Judged {
        let larger_is_better = METRICS.iter().find(|(name, ..)| *name == self.metric).is_none_or(|m| m.1);
        let mut values = Vec::new();
        let mut missing: Vec<&str> = Vec::new();
        // Of the largest number that went into a difference, whose last digits are rounding.
        let mut size = 0.0f64;
        for &seed in seeds {
            let curve = |arm: &str| (runs.curve)(arm, seed, &self.metric);
            let number = |arm: &str| curve(arm).and_then(|curve| curve.number(self.of));
            let mine = number(arm);
            let (other, name) = match than {
                None => (Some(0.0), arm),
                Some(START) => (curve(arm).and_then(|curve| curve.start), arm),
                Some(CHANCE) => (runs.chance, CHANCE),
                Some(metric) if is_metric(metric) => {
                    ((runs.curve)(arm, seed, metric).and_then(|curve| curve.number(self.of)), arm)
                }
                Some(than) => (number(than), than),
            };
            match (mine, other) {
                (Some(mine), Some(other)) => {
                    size = size.max(mine.abs()).max(other.abs());
                    values.push(mine - other);
                }
                (None, _) => missing.push(arm),
                (_, None) => missing.push(name),
            }
        }
        let (smallest, largest) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
                (low.min(value), high.max(value))
            });
        let effect = Estimate::of(&values);
        let why = match (effect, missing.first()) {
            (_, Some(&CHANCE)) => Some("the number of classes is not known".to_string()),
            (_, Some(arm)) => Some(format!("{arm} has no value for every seed")),
            (Some(Estimate { half_width: None, .. }) | None, None) => {
                Some("one seed has no interval".to_string())
            }
            (Some(Estimate { n, .. }), None) => {
                let arms = [&[arm][..], &than.into_iter().collect::<Vec<_>>()].concat();
                let same = || format!("all {n} seeds have the same value, which leaves no interval");
                let is_same = largest - smallest <= ROUNDING * size;
                runs.means_nothing(&self.metric, &arms).or_else(|| is_same.then(same))
            }
        };
        let verdict = match effect {
            Some(Estimate { mean, half_width: Some(half), .. }) if why.is_none() => {
                self.compare(mean - half, mean + half, larger_is_better)
            }
            _ => Verdict::Undecided,
        };
        let by = match self.margin {
            0.0 => String::new(),
            margin => format!(" by more than {margin}"),
        };
        let other =
            self.value.map_or_else(|| than.unwrap_or_default().to_string(), |value| value.to_string());
        let asked = format!("{} {other}{by}{}", self.is.words(), self.of.words());
        Judged {
            text: self.text.replace("{arm}", arm).replace("{than}", than.unwrap_or_default()),
            metric: self.metric.clone(),
            arm: arm.to_string(),
            asked,
            verdict,
            effect,
            is_difference: self.is.compares_arms(),
            why,
        }
    }

    /// The verdict for an interval from `low` to `high`.
    fn compare(&self, low: f64, high: f64, larger_is_better: bool) -> Verdict {
        let (better_low, better_high) = if larger_is_better { (low, high) } else { (-high, -low) };
        let constant = self.value.unwrap_or(f64::NAN);
        let (holds, fails) = match self.is {
            Relation::NotWorse => (better_low > -self.margin, better_high <= -self.margin),
            Relation::Better => (better_low > self.margin, better_high <= self.margin),
            Relation::NotBetter => (better_high < self.margin, better_low >= self.margin),
            Relation::AtLeast => (low >= constant, high < constant),
            Relation::AtMost => (high <= constant, low > constant),
            Relation::Above => (low > constant, high <= constant),
            Relation::Below => (high < constant, low >= constant),
            // Judged by how runs end.
            Relation::Diverges => (false, false),
        };
        match (holds, fails) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::Contradicted,
            _ => Verdict::Undecided,
        }
    }
}

/// Whether the name `arm` is meant by `pattern`, which may end in `*`.
fn matches(pattern: &str, arm: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => arm.starts_with(prefix),
        None => pattern == arm,
    }
}
