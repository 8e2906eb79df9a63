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
    /// The mean's 95 % interval, cut where the metric's range ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_95: Option<[f64; 2]>,
    /// The median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// Lower and upper quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[f64; 2]>,
    /// The worst seed's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<f64>,
    /// The best seed's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// Seed and value, of the seeds whose value is finite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(u64, f64)>,
}

/// A share of runs, with the 95 % interval of Clopper and Pearson.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Runs of the kind that is counted.
    pub count: u64,
    /// Runs of either kind.
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
    /// Seeds in which the claim fails.
    pub fails: u64,
    /// Seeds that say neither.
    pub ties: u64,
    /// The e-value for "in more than half of all seeds".
    pub e_for: f64,
    /// The e-value for "fails in more than half of all seeds".
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

    /// [`Spread::in_words`] behind `what`, the name of the number.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(holds: u64, fails: u64, ties: u64, e: (f64, f64), needed: u64) -> Evidence {
        let failing = Share { count: fails, all: holds + fails, interval_95: [0.0, 0.3694] };
        let (e_for, e_against) = e;
        let arms = vec!["a".to_string()];
        let every = false;
        Evidence {
            seeds: vec![10],
            arms,
            holds,
            fails,
            ties,
            e_for,
            e_against,
            needed,
            every,
            failing,
            open: true,
        }
    }

    #[test]
    fn evidence_is_told_in_words() {
        let decided = evidence(8, 0, 0, (56.78, 0.11), 0);
        assert_eq!(decided.text("reproduced"), "8 of 8 seeds, E = 57");
        assert_eq!(
            evidence(0, 8, 1, (0.11, 56.78), 0).text("contradicted"),
            "0 of 8 seeds, 1 tie, E = 57 against"
        );
        let open = evidence(5, 3, 0, (0.758, 0.2), 9);
        assert_eq!(open.text("undecided"), "5 of 8 seeds, E = 0.8 for, 0.2 against; 14 of 17 would decide");
        let behind = evidence(2, 5, 2, (0.05, 1e7), 9);
        let words = "2 of 7 seeds, 2 ties, E = 0.05 for, 1e7 against; 2 of 16 would contradict";
        assert_eq!(behind.text("undecided"), words);
        let closed = Evidence { open: false, ..open };
        assert_eq!(closed.text("undecided"), "5 of 8 seeds, E = 0.8 for, 0.2 against");
        assert_eq!(evidence(0, 0, 8, (1.0, 1.0), 8).text("undecided"), "all 8 seeds are ties");
        let never = Evidence { every: true, ..decided };
        let words = "8 of 8 seeds, E = 57; at most 37 % of seeds are counterexamples (95 %)";
        assert_eq!(never.text("reproduced"), words);
        let broken = Evidence { every: true, ..evidence(5, 3, 0, (0.8, 0.2), 9) };
        assert_eq!(broken.text("contradicted"), "fails in 3 of 8 seeds");
    }

    #[test]
    fn a_spread_is_told_in_words() {
        let spread = Spread {
            seeds: 3,
            mean: Some(0.1),
            half_width_95: Some(2.0),
            median: Some(0.44),
            quartiles: Some([-0.9, 1.3]),
            worst: Some(-1.8),
            best: Some(2.0),
            ..Spread::default()
        };
        assert_eq!(spread.text(1), "0.4 [-1.8, 2.0]");
        let words = "difference median +0.4, quartiles -0.9 to 1.3, worst -1.8";
        assert_eq!(spread.sentence("difference", 1, true), words);
        assert_eq!(Spread { worst: None, ..spread.clone() }.text(1), "0.4 [not a number, 2.0]");
        assert_eq!(Spread { seeds: 1, ..spread }.text(1), "0.4");
        // As answers of earlier versions have it.
        let mean = Spread { seeds: 3, mean: Some(91.93), half_width_95: Some(26.11), ..Spread::default() };
        assert_eq!((mean.text(1), mean.sentence("", 1, false)), ("91.9 ± 26.1".into(), "91.9 ± 26.1".into()));
        assert_eq!(Spread { seeds: 3, ..Spread::default() }.text(1), "not a number");
    }
}
