//! Numbers over seeds, and the evidence of seeds, as `answer.json` holds and a person reads them.

use serde::{Deserialize, Serialize};

/// A number over seeds. Answers of earlier versions have the mean alone; a number that is not
/// finite is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Seeds.
    pub seeds: usize,
    /// The mean.
    pub mean: Option<f64>,
    /// Half the width of the mean's 95 % interval (Student's t); none with one seed.
    pub half_width_95: Option<f64>,
    /// That interval, cut where the metric's range ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_95: Option<[f64; 2]>,
    /// The median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// Lower and upper quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[f64; 2]>,
    /// The worst seed's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<f64>,
    /// The best seed's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// Seed and value, of the seeds whose value is finite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(u64, f64)>,
}

/// A share of runs, with the 95 % interval of Clopper and Pearson.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Runs that are meant.
    pub count: u64,
    /// All runs.
    pub all: u64,
    /// The ends of the interval, between 0 and 1.
    pub interval_95: [f64; 2],
}

/// In how many seeds a claim holds, and what that is evidence of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The seeds that were judged.
    pub seeds: Vec<u64>,
    /// The arms that were read.
    pub arms: Vec<String>,
    /// Seeds in which the claim holds.
    pub holds: u64,
    /// Seeds in which it does not.
    pub fails: u64,
    /// Seeds that say neither.
    pub ties: u64,
    /// The e-value for "in more than half of all seeds".
    pub e_for: f64,
    /// That for the opposite.
    pub e_against: f64,
    /// Further seeds that would decide if all of them agreed with the majority.
    pub needed: u64,
    /// Whether the claim is about every run.
    pub every: bool,
    /// The share of seeds in which it fails, with its interval.
    pub failing: Share,
    /// Whether it is undecided and more seeds could decide it.
    pub open: bool,
}

impl Spread {
    /// "79.9 [78.0, 81.2]": the median, the worst and the best seed; of an answer that has no
    /// median "91.9 ± 26.1".
    pub fn text(&self, decimals: usize) -> String {
        let number = |number: Option<f64>| match number {
            Some(number) => format!("{number:.decimals$}"),
            None => "not a number".to_string(),
        };
        match (self.median, self.mean, self.half_width_95) {
            (Some(median), ..) if self.seeds == 1 => format!("{median:.decimals$}"),
            (Some(median), ..) => {
                format!("{median:.decimals$} [{}, {}]", number(self.worst), number(self.best))
            }
            (None, Some(mean), Some(half)) => format!("{mean:.decimals$} ± {half:.decimals$}"),
            (None, mean, _) => number(mean),
        }
    }

    /// "median +0.4, quartiles -0.9 to 1.3, worst -1.8", with a sign where it is a difference.
    fn in_words(&self, decimals: usize, is_difference: bool) -> String {
        let Some(median) = self.median else { return self.text(decimals) };
        let median =
            if is_difference { format!("{median:+.decimals$}") } else { format!("{median:.decimals$}") };
        let (Some([low, high]), true) = (self.quartiles, self.seeds > 1) else {
            return median;
        };
        let worst = self.worst.map_or_else(String::new, |worst| format!(", worst {worst:.decimals$}"));
        format!("median {median}, quartiles {low:.decimals$} to {high:.decimals$}{worst}")
    }

    /// The same with what it is of before it.
    pub(super) fn sentence(&self, what: &str, decimals: usize, is_difference: bool) -> String {
        [what, &self.in_words(decimals, is_difference)].join(" ").trim_start().to_string()
    }
}

impl Share {
    /// "2 of 8 (3 to 65 %)".
    pub fn text(&self) -> String {
        let [low, high] = self.interval_95.map(|end| 100.0 * end);
        format!("{} of {} ({low:.0} to {high:.0} %)", self.count, self.all)
    }
}

impl Evidence {
    /// "8 of 8 seeds, E = 57" for a claim with this verdict.
    pub fn text(&self, verdict: &str) -> String {
        let Evidence { holds, fails, ties, e_for, e_against, .. } = *self;
        let all = holds + fails;
        let tied = match (ties, all) {
            (0, _) => String::new(),
            (1, 0) => return "the only seed is a tie".to_string(),
            (ties, 0) => return format!("all {ties} seeds are ties"),
            (1, _) => ", 1 tie".to_string(),
            (ties, _) => format!(", {ties} ties"),
        };
        let seeds = if all == 1 { "seed" } else { "seeds" };
        let most = 100.0 * self.failing.interval_95[1];
        let share = || format!("; at most {most:.0} % of seeds are counterexamples (95 %)");
        match verdict {
            "reproduced" if self.every => {
                format!("{holds} of {all} {seeds}{tied}, E = {}{}", e(e_for), share())
            }
            "contradicted" if self.every => format!("fails in {fails} of {all} {seeds}{tied}"),
            "reproduced" => format!("{holds} of {all} {seeds}{tied}, E = {}", e(e_for)),
            "contradicted" => format!("{holds} of {all} {seeds}{tied}, E = {} against", e(e_against)),
            _ => {
                let (agreeing, would) =
                    if holds >= fails { (holds + self.needed, "decide") } else { (holds, "contradict") };
                let next = match (self.open, self.needed) {
                    (true, 1..) => format!("; {agreeing} of {} would {would}", all + self.needed),
                    _ => String::new(),
                };
                let (pro, contra) = (e(e_for), e(e_against));
                format!("{holds} of {all} {seeds}{tied}, E = {pro} for, {contra} against{next}")
            }
        }
    }
}

/// An e-value with the digits that matter.
fn e(value: f64) -> String {
    match value {
        0.0..0.01 => "below 0.01".to_string(),
        0.01..0.1 => format!("{value:.2}"),
        0.1..10.0 => format!("{value:.1}"),
        10.0..1e6 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}
