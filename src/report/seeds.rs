//! A panel's numbers, seed by seed: medians, worst seeds, runs that diverged, and how numbers are
//! written.

use super::figure::{Figure, Panel, Style};
use std::collections::BTreeMap;

/// What sums of numbers near one leave by rounding where they should be zero.
const ROUNDING: f64 = 1e-12;

/// The runs of one arm: seed → points, in order of x but for paths.
pub type Runs = BTreeMap<u64, Vec<(f64, f64)>>;

/// What the seeds of an arm say at one x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Seeds that have a value.
    pub n: usize,
    /// The median of the values.
    pub median: f64,
    /// The lowest value.
    pub low: f64,
    /// The highest value.
    pub high: f64,
}

impl Spread {
    /// The spread of `values`, one per seed; none without values.
    fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let (before, after) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        // Halves, because the sum of the two largest numbers overflows.
        let median = if before == after { before } else { before / 2.0 + after / 2.0 };
        Some(Spread { n: sorted.len(), median, low, high })
    }
}

/// A panel's finite numbers, logarithms of y where its axis is logarithmic.
pub struct Data {
    /// The arms' runs, in the figure's order.
    pub arms: Vec<Runs>,
    /// For each arm, seed → x of the last value before the run diverged.
    pub diverged: Vec<BTreeMap<u64, f64>>,
    /// The largest x, 1 where there is none above 0.
    pub last_x: f64,
    form: Form,
    larger_is_better: Option<bool>,
}

/// How a panel's numbers are written.
#[derive(Clone, Copy)]
enum Form {
    /// So many digits behind the point.
    Fixed(usize),
    /// Three digits and a power of ten.
    Scientific,
    /// The number whose logarithm the value is, in three digits and a power of ten.
    Power,
}

impl Data {
    /// The numbers of `panel`.
    pub fn of(figure: &Figure, panel: &Panel) -> Data {
        let places: BTreeMap<&str, usize> =
            figure.arms.iter().enumerate().rev().map(|(index, (arm, _))| (arm.as_str(), index)).collect();
        let mut arms = vec![Runs::new(); figure.arms.len()];
        // Whether the last row of a run is a number; a run that diverged ends with a row that is
        // none.
        let mut ends: Vec<BTreeMap<u64, (f64, bool)>> = vec![BTreeMap::new(); figure.arms.len()];
        let mut last_x: f64 = 0.0;
        for point in figure.points.iter().filter(|p| p.panel == panel.name && p.x.is_finite()) {
            let Some(&arm) = places.get(point.arm.as_str()) else { continue };
            let y = if panel.style == Style::LogCurves { point.y.log10() } else { point.y };
            let end = ends[arm].entry(point.seed).or_insert((point.x, true));
            if point.x >= end.0 || panel.style == Style::Path {
                *end = (point.x, !point.y.is_nan());
            }
            if y.is_finite() {
                arms[arm].entry(point.seed).or_default().push((point.x, y));
                last_x = last_x.max(point.x);
            }
        }
        if panel.style != Style::Path {
            let runs = arms.iter_mut().flat_map(BTreeMap::values_mut);
            runs.for_each(|line| line.sort_by(|a, b| a.0.total_cmp(&b.0)));
        }
        let lost = |ends: BTreeMap<u64, (f64, bool)>| {
            ends.into_iter().filter(|(_, (_, number))| !number).map(|(seed, (x, _))| (seed, x)).collect()
        };
        let percent = panel.y.contains('%');
        let mut sizes: Vec<f64> = arms.iter().flat_map(Runs::values).flatten().map(|p| p.1.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let usual = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
        let form = match sizes.last().copied().unwrap_or_default() {
            _ if panel.style == Style::LogCurves => Form::Power,
            _ if percent => Form::Fixed(1),
            0.0 => Form::Fixed(3),
            1e6.. | 0.0..0.02 => Form::Scientific,
            _ if usual >= 100.0 => Form::Fixed(1),
            _ if usual >= 10.0 => Form::Fixed(2),
            _ => Form::Fixed(3),
        };
        Data {
            arms,
            diverged: ends.into_iter().map(lost).collect(),
            last_x: if last_x > 0.0 { last_x } else { 1.0 },
            form,
            larger_is_better: panel.larger_is_better.or(percent.then_some(true)),
        }
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.arms.iter().flat_map(BTreeMap::values).flatten().map(|point| point.1)
    }

    /// Seeds of an arm, diverged ones among them.
    pub fn seeds(&self, arm: usize) -> usize {
        let runs = &self.arms[arm];
        runs.len() + self.diverged[arm].keys().filter(|seed| !runs.contains_key(seed)).count()
    }

    /// x → what the seeds say there, wherever at least half of the arm's seeds have a value: what
    /// is left of an arm whose runs diverge one by one is no longer the arm.
    pub fn spreads(&self, arm: usize) -> Vec<(f64, Spread)> {
        let mut at: BTreeMap<i64, (f64, Vec<f64>)> = BTreeMap::new();
        for &(x, y) in self.arms[arm].values().flatten() {
            at.entry(in_order(x)).or_insert((x, Vec::new())).1.push(y);
        }
        let seeds = self.seeds(arm);
        let spread = |(x, values): (f64, Vec<f64>)| Some((x, Spread::of(&values)?));
        at.into_values().filter_map(spread).filter(|(_, spread)| 2 * spread.n >= seeds).collect()
    }

    /// What an arm's seeds say at their ends, where at least half of them have one.
    pub fn end(&self, arm: usize) -> Option<Spread> {
        let ends: Vec<f64> = self.arms[arm].values().filter_map(|line| Some(line.last()?.1)).collect();
        Spread::of(&ends).filter(|spread| 2 * spread.n >= self.seeds(arm))
    }

    /// The seed of an arm whose last value is the worst and that value, where worse has a meaning,
    /// there is another seed, and none diverged, which is worse.
    pub fn worst(&self, arm: usize) -> Option<(u64, f64)> {
        let sign = if self.larger_is_better? { 1.0 } else { -1.0 };
        let ends = self.arms[arm].iter().filter_map(|(seed, line)| Some((*seed, line.last()?.1)));
        let worst = ends.min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)));
        worst.filter(|_| self.arms[arm].len() > 1 && self.diverged[arm].is_empty())
    }

    /// Whether some arm has a worst seed with a value.
    pub fn has_worst(&self) -> bool {
        (0..self.arms.len()).any(|arm| self.worst(arm).is_some())
    }

    /// The one value that all are, to within what is shown of them; none of a single value.
    pub fn constant(&self) -> Option<f64> {
        let (mut low, mut high, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0);
        for value in self.values() {
            (low, high, count) = (low.min(value), high.max(value), count + 1);
        }
        let shown = match self.form {
            Form::Fixed(digits) => 10f64.powi(-(digits as i32)),
            Form::Scientific => ROUNDING.max(1e-3 * high.abs().max(low.abs())),
            Form::Power => 1e-3,
        };
        (count > 1 && high - low < shown).then_some(low / 2.0 + high / 2.0)
    }

    /// A number as it is shown.
    pub fn number(&self, value: f64) -> String {
        let text = match self.form {
            // What rounds to nothing has no sign.
            Form::Fixed(digits) if value.abs() < 0.5 * 10f64.powi(-(digits as i32)) => {
                format!("{:.digits$}", 0.0)
            }
            Form::Fixed(digits) => format!("{value:.digits$}"),
            Form::Scientific if value.abs() < ROUNDING => "0".to_string(),
            Form::Scientific => format!("{value:.2e}"),
            Form::Power => format!("{:.2e}", 10f64.powf(value)),
        };
        text.replace('-', "−")
    }

    /// "80.0 (78.9 to 81.0)": the median, and the seeds' range where there are several.
    pub fn words(&self, spread: &Spread) -> String {
        let median = self.number(spread.median);
        match spread.n {
            1 => median,
            _ => format!("{median} ({} to {})", self.number(spread.low), self.number(spread.high)),
        }
    }

    /// "97.9 (80.4 to 99.0), worst seed 0", "97.9 (80.4 to 99.0), 1 of 8 diverged": an arm's last
    /// values.
    pub fn end_in_words(&self, arm: usize) -> Option<String> {
        let seeds = self.seeds(arm);
        let lost = self.diverged[arm].len();
        let lost = (lost > 0).then(|| format!("{lost} of {seeds} diverged"));
        let worst = self.worst(arm).map(|(seed, _)| format!("worst seed {seed}"));
        let spread = self.end(arm).map(|spread| self.words(&spread));
        let parts: Vec<String> = spread.into_iter().chain(worst).chain(lost).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// A whole number for each x, in the same order, for a map by x.
fn in_order(x: f64) -> i64 {
    // As in f64::total_cmp; + 0.0, because −0 and 0 are one place.
    let bits = (x + 0.0).to_bits() as i64;
    bits ^ ((((bits >> 63) as u64) >> 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Point;

    /// A figure of one arm with these (seed, x, y).
    fn data(y: &str, points: &[(u64, f64, f64)]) -> Data {
        let panel = Panel::new("p", "epoch", y, Style::Curves);
        let point =
            |&(seed, x, y): &(u64, f64, f64)| Point { panel: "p".into(), arm: "a".into(), seed, x, y };
        let figure = Figure {
            title: String::new(),
            caption: String::new(),
            arms: vec![("a".into(), "a".into())],
            panels: vec![panel],
            points: points.iter().map(point).collect(),
        };
        Data::of(&figure, &figure.panels[0])
    }

    #[test]
    fn the_median_is_the_middle_seed_or_lies_between_the_two() {
        let of = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
        assert_eq!(of(&[3.0, 1.0, 50.0]), Some(3.0));
        assert_eq!(of(&[3.0, 1.0, 50.0, 2.0]), Some(2.5));
        assert_eq!(of(&[f64::MAX, f64::MAX]), Some(f64::MAX));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_diverged_run_is_a_seed_without_a_value_and_the_median_ends_with_most_of_them() {
        let nan = f64::NAN;
        let points = [(0, 1.0, 5.0), (0, 2.0, 6.0), (1, 1.0, 7.0), (1, 1.0, nan), (2, 0.0, nan)];
        let data = data("kNN (%)", &points);
        assert_eq!(data.seeds(0), 3);
        assert_eq!(data.diverged[0], BTreeMap::from([(1, 1.0), (2, 0.0)]));
        let spreads = data.spreads(0);
        assert_eq!(spreads.len(), 1, "at x = 2 one of three seeds is left: {spreads:?}");
        assert_eq!(spreads[0].1, Spread { n: 2, median: 6.0, low: 5.0, high: 7.0 });
        assert_eq!(data.end_in_words(0).unwrap(), "6.5 (6.0 to 7.0), 2 of 3 diverged");
    }

    #[test]
    fn the_worst_seed_is_the_lowest_accuracy_and_unknown_where_nothing_is_better() {
        let points = [(4, 0.0, 90.0), (5, 0.0, 80.0), (6, 0.0, 85.0)];
        assert_eq!(data("kNN (%)", &points).worst(0), Some((5, 80.0)));
        assert_eq!(data("age", &points).worst(0), None);
        assert_eq!(data("kNN (%)", &points[..1]).worst(0), None, "one seed is not the worst of any");
    }

    #[test]
    fn values_that_read_alike_are_constant_and_one_value_is_not() {
        assert_eq!(data("kNN (%)", &[(0, 0.0, 50.0), (1, 0.0, 50.03125)]).constant(), Some(50.015625));
        assert_eq!(data("kNN (%)", &[(0, 0.0, 50.0), (1, 0.0, 50.2)]).constant(), None);
        assert_eq!(data("rise", &[(0, 0.0, 1e-7), (1, 0.0, 2e-7)]).constant(), None);
        let rounding = data("R²", &[(0, 0.0, -4e-16), (1, 0.0, 4e-16)]);
        assert_eq!(rounding.constant().map(|value| rounding.number(value)), Some("0".to_string()));
        assert_eq!(data("std", &[(0, 0.0, 0.5)]).constant(), None);
    }
}
