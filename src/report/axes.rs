//! Axes: the range of a panel, its ticks, its frame; from numbers to places and labels that avoid
//! data.

use super::pen::{GRID, INK, Letters, Pen, Place, text_width};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::ops::Range;

/// em of tick labels, in units.
pub const TICK: f64 = 10.0;
/// em of axis labels, in units.
pub const LABEL: f64 = 11.5;
/// em of remarks, in units.
pub const REMARK: f64 = 9.5;

/// Width at most of the labels of an axis of y, in units.
const WIDEST: f64 = 38.0;

/// The titles of axes: an empty one leaves the numbers at the ticks alone, none leaves these out
/// too.
#[derive(Clone, Copy, Default)]
pub struct Labels<'a> {
    /// Below.
    pub x: Option<&'a str>,
    /// At the left, upwards.
    pub y: Option<&'a str>,
}

/// A rectangle in units in which numbers are places.
#[derive(Clone)]
pub struct Axes {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
    /// The numbers from left to right.
    pub x: Range<f64>,
    /// The numbers from bottom to top; logarithms to base 10 where `decades` says so.
    pub y: Range<f64>,
    /// Whether ticks stand at powers of 10, y being their logarithm.
    pub decades: bool,
}

impl Axes {
    /// The place of a pair of numbers; y beyond the range lies on the edge.
    pub fn place(&self, x: f64, y: f64) -> Place {
        let share = |v: f64, range: &Range<f64>| (v - range.start) / (range.end - range.start);
        let y = share(y.clamp(self.y.start, self.y.end), &self.y);
        (self.left + share(x, &self.x) * (self.right - self.left), self.bottom - y * (self.bottom - self.top))
    }

    /// The points of a line, with one more wherever it crosses an edge of the range of y, so that
    /// [`Axes::place`] cuts it there instead of bending it.
    pub fn cut(&self, line: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let mut cut = Vec::with_capacity(line.len());
        for (index, &(x, y)) in line.iter().enumerate() {
            if let Some(&(px, py)) = index.checked_sub(1).and_then(|before| line.get(before)) {
                let mut shares: Vec<f64> = [self.y.start, self.y.end]
                    .into_iter()
                    .map(|edge| (edge - py) / (y - py))
                    .filter(|share| share.is_finite() && *share > 0.0 && *share < 1.0)
                    .collect();
                shares.sort_by(f64::total_cmp);
                cut.extend(shares.into_iter().map(|share| (px + share * (x - px), py + share * (y - py))));
            }
            cut.push((x, y));
        }
        cut
    }

    /// Grid, frame, ticks and labels.
    pub fn draw<B: DrawingBackend>(&self, pen: &Pen<B>, labels: Labels) -> Result<()> {
        let count = (((self.bottom - self.top) / 32.0) as usize).clamp(2, 5);
        let ticks =
            if self.decades { whole(&self.y) } else { ticks(&self.y, count, &[1.0, 2.0, 2.5, 5.0, 10.0]) };
        let numbers = if self.decades { powers(&ticks) } else { self::labels(&ticks) };
        let widest = numbers.iter().map(|label| text_width(label, TICK)).fold(0.0, f64::max);
        // Labels of many digits are written smaller: the axis's title stands beside them.
        let em = TICK * (WIDEST / widest).min(1.0);
        for (tick, number) in ticks.iter().zip(&numbers) {
            let (left, at) = self.place(self.x.start, *tick);
            pen.line(&[(left, at), (self.right, at)], GRID.to_rgba(), 0.8, &[])?;
            if labels.y.is_some() {
                pen.text(number, (left - 6.0, at + 0.36 * em), Letters::new(em, HPos::Right))?;
            }
        }
        if let Some(y) = labels.y.filter(|y| !y.is_empty()) {
            let upwards = Letters { upwards: true, ..Letters::new(LABEL, HPos::Center) };
            let middle = (self.top + self.bottom) / 2.0;
            pen.text(y, ((self.left - widest - 17.0).max(self.left - 55.0), middle), upwards)?;
        }
        if let Some(x) = labels.x {
            self.x_ticks(pen, true)?;
            let below = (self.left / 2.0 + self.right / 2.0, self.bottom + 34.0);
            pen.text(x, below, Letters::new(LABEL, HPos::Center))?;
        } else {
            self.x_ticks(pen, false)?;
        }
        let frame = [(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)];
        pen.line(&frame, INK.to_rgba(), 0.9, &[])
    }

    /// Ticks below, with numbers or without.
    pub fn x_ticks<B: DrawingBackend>(&self, pen: &Pen<B>, numbered: bool) -> Result<()> {
        let count = (((self.right - self.left) / 36.0) as usize).clamp(2, 6);
        let ticks = self::ticks(&self.x, count, &[1.0, 2.0, 5.0, 10.0]);
        for (tick, number) in ticks.iter().zip(labels(&ticks)) {
            let at = self.place(*tick, self.y.start).0;
            pen.line(&[(at, self.bottom), (at, self.bottom + 3.5)], INK.to_rgba(), 0.9, &[])?;
            if numbered {
                let place = (at, self.bottom + 7.0 + 0.73 * TICK);
                pen.text(&number, place, Letters::new(TICK, HPos::Center))?;
            }
        }
        Ok(())
    }

    /// Of the four places for a remark of this width at the level `y` (left or right end, above or
    /// below), the baseline's left end of the one that covers the fewest of `drawn`.
    pub fn free_place(&self, y: f64, width: f64, drawn: &[Place]) -> Place {
        let level = self.place(self.x.start, y).1;
        let mut best = (usize::MAX, (self.left, level));
        for left in [self.right - width - 4.0, self.left + 5.0] {
            for baseline in [level - 4.0, level + 4.0 + 0.75 * REMARK] {
                let box_x = left - 2.0..left + width + 2.0;
                let box_y = baseline - REMARK..baseline + 3.0;
                let outside = box_y.start < self.top || box_y.end > self.bottom;
                let covered = drawn.iter().filter(|(x, y)| box_x.contains(x) && box_y.contains(y)).count();
                let count = if outside { usize::MAX - 1 } else { covered };
                if count < best.0 {
                    best = (count, (left, baseline));
                }
            }
        }
        best.1
    }
}

/// The range that shows all finite data, at least `least` long. It does not go below 0 or, in
/// percent, above 100 where no data does.
pub fn range_of(data: &[f64], least: f64, percent: bool) -> Range<f64> {
    let (low, high) = ends(data);
    if low > high {
        return 0.0..1.0;
    }
    // Halves, because the distance of the two largest numbers overflows.
    let (low, high) = (low.max(f64::MIN / 16.0), high.min(f64::MAX / 16.0));
    let largest = high.abs().max(low.abs());
    let span = match high - low {
        // A single value stands between round numbers.
        0.0 if largest > 0.0 => largest,
        0.0 => 1.0,
        between => between.max(1e-3 * largest).max(1e-9),
    };
    let missing = (least - (high - low)).max(0.0) / 2.0;
    let (bottom, top) = (low - missing, high + missing);
    let margin = 0.06 * (top - bottom).max(span);
    let floor = if low >= 0.0 { -0.2 * margin } else { f64::NEG_INFINITY };
    let ceiling = if percent && high <= 100.0 { 100.0 + 0.5 * margin } else { f64::INFINITY };
    (bottom - margin).max(floor)..(top + margin).min(ceiling)
}

/// The smallest and the largest finite number.
fn ends(values: &[f64]) -> (f64, f64) {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// How many times as far as nine tenths of them all values may reach before the rest is left beyond
/// the axis: further, and what is shown of the nine tenths is less than a sixth of it.
const FAR: f64 = 6.0;

/// `values` without the few that lie so far from the others that those could not be told apart;
/// what is left reaches over every value of `kept`.
pub fn without_far(values: &[f64], kept: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
    let rank = |share: f64| sorted[(share * last as f64).round() as usize];
    let (low, high) = ends(kept);
    let (low, high) = (rank(0.05).min(low), rank(0.95).max(high));
    // Halves, because distances of large numbers overflow.
    let core = high / 2.0 - low / 2.0;
    if core <= 0.0 || sorted[last] / 2.0 - sorted[0] / 2.0 <= FAR * core {
        return sorted;
    }
    let near = |v: &f64| *v / 2.0 >= low / 2.0 - 0.5 * core && *v / 2.0 <= high / 2.0 + 0.5 * core;
    sorted.into_iter().filter(near).chain([low, high]).collect()
}

/// Round numbers in `range`, about `count` of them; their distance is one of `steps` times a power
/// of 10.
pub(super) fn ticks(range: &Range<f64>, count: usize, steps: &[f64]) -> Vec<f64> {
    let rough = (range.end - range.start) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let enough = |step: &f64| *step >= 0.95 * rough;
    let Some(step) = steps.iter().map(|m| m * power).find(enough) else { return Vec::new() };
    let (first, last) = ((range.start / step - 1e-9).ceil() as i64, (range.end / step + 1e-9).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// The whole numbers in `range`, or every few of them where they are many.
fn whole(range: &Range<f64>) -> Vec<f64> {
    let every = ((range.end - range.start) / 8.0).ceil().max(1.0) as usize;
    let (first, last) = (range.start.ceil() as i64, range.end.floor() as i64);
    // Counted from above: the top is 1 wherever numbers are shares of the largest.
    (first..=last).rev().step_by(every).map(|n| n as f64).collect()
}

/// 10 to these powers in words.
fn powers(exponents: &[f64]) -> Vec<String> {
    let power = |n: &f64| match *n as i64 {
        n @ -3..=0 => format!("{:.*}", n.unsigned_abs() as usize, 10f64.powi(n as i32)),
        n @ 1..=5 => format!("{}", 10f64.powi(n as i32)),
        n => format!("1e{n}").replace('-', "−"),
    };
    exponents.iter().map(power).collect()
}

/// All ticks with as many digits as tell them apart.
pub(super) fn labels(ticks: &[f64]) -> Vec<String> {
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let exact = |digits: &usize| {
        let scaled = step * 10f64.powi(*digits as i32);
        scaled.round() >= 1.0 && (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    // Of a single tick as many as it has, up to three.
    let whole = |digits: &usize| {
        ticks.iter().all(|tick| (tick - format!("{tick:.digits$}").parse().unwrap_or(*tick)).abs() < 1e-9)
    };
    let digits = match step.is_finite() {
        true => (0..9).find(exact).unwrap_or(9),
        false => (0..3).find(whole).unwrap_or(3),
    };
    let largest = ticks.iter().fold(0.0, |largest: f64, tick| largest.max(tick.abs()));
    let all = |label: &dyn Fn(f64) -> String| -> Vec<String> {
        ticks.iter().map(|tick| label(tick + 0.0).replace('-', "−")).collect()
    };
    if largest < 1e6 && (digits < 6 || largest >= 0.1) {
        return all(&|tick| format!("{tick:.digits$}"));
    }
    let differ = |labels: &Vec<String>| labels.windows(2).all(|pair| pair[0] != pair[1]);
    let of = |digits: usize| all(&|tick| short(tick, digits));
    (3..17).map(of).find(differ).unwrap_or_else(|| of(3))
}

/// A very large or very small number with at most so many digits behind the point.
fn short(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    match text.split_once('e') {
        Some((_, "0")) | None => format!("{number}"),
        Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_labelled_without_needless_digits() {
        let of = |range| labels(&ticks(&range, 5, &[1.0, 2.0, 2.5, 5.0, 10.0]));
        assert_eq!(of(0.0..1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(of(-1.0..-0.2), ["−1.0", "−0.8", "−0.6", "−0.4", "−0.2"]);
        assert_eq!(of(-0.3..101.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(of(0.0..1e-7), ["0", "2e−8", "4e−8", "6e−8", "8e−8", "1e−7"]);
        assert_eq!(of(-2e300..2e300), ["−2e300", "−1e300", "0", "1e300", "2e300"]);
        assert_eq!(of(7e5..8e5), ["700000", "720000", "740000", "760000", "780000", "800000"]);
        assert_eq!(of(1234100.0..1234900.0), ["1.2342e6", "1.2344e6", "1.2346e6", "1.2348e6"]);
        assert_eq!(of(0.99985..0.99997), ["0.999850", "0.999875", "0.999900", "0.999925", "0.999950"]);
    }

    #[test]
    fn decades_are_labelled_as_powers_of_ten() {
        assert_eq!(powers(&whole(&(-4.3..0.1))), ["1", "0.1", "0.01", "0.001", "1e−4"]);
        assert_eq!(whole(&(-19.5..0.1)), [0.0, -3.0, -6.0, -9.0, -12.0, -15.0, -18.0]);
    }

    #[test]
    fn a_range_shows_all_data_and_nothing_impossible() {
        let range = range_of(&[42.2, 43.5], 10.0, true);
        assert!(range.end - range.start > 10.0, "{range:?}");
        let range = range_of(&[1.0, 99.0], 10.0, true);
        assert!(range.start > -5.0 && range.end < 106.0, "{range:?}");
        assert_eq!(range_of(&[f64::NAN], 0.0, false), 0.0..1.0);
        for value in [-1.0, 0.0, 0.99873, 1234567.8] {
            let range = range_of(&[value, value], 0.0, false);
            assert!(range.start < value && range.end > value, "{range:?}");
            let labels = labels(&ticks(&range, 5, &[1.0, 2.0, 2.5, 5.0, 10.0]));
            assert!(labels.len() > 1 && labels.windows(2).all(|pair| pair[0] != pair[1]), "{labels:?}");
            assert!(labels.iter().all(|label| label.chars().count() <= 6), "{labels:?}");
        }
    }

    #[test]
    fn few_values_far_away_are_left_beyond_the_axis_and_many_are_not() {
        let mut values: Vec<f64> = (0..40).map(|i| f64::from(i) / 40.0).collect();
        values.push(1e6);
        let near = without_far(&values, &[0.5]);
        assert!(near.iter().all(|v| *v < 1.0), "{near:?}");
        // A median is never left out, nor two of ten values, nor what is near.
        assert!(without_far(&values, &[1e6]).contains(&1e6));
        assert!(without_far(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1e6, 1e6], &[3.0]).contains(&1e6));
        assert_eq!(without_far(&[1.0, 2.0, 9.0], &[]), [1.0, 2.0, 9.0]);
    }

    #[test]
    fn a_line_is_cut_where_it_leaves_the_range() {
        let axes =
            Axes { left: 0.0, right: 1.0, top: 0.0, bottom: 1.0, x: 0.0..1.0, y: 0.0..1.0, decades: false };
        assert_eq!(axes.cut(&[(0.0, -1.0), (1.0, 3.0)]), [(0.0, -1.0), (0.25, 0.0), (0.5, 1.0), (1.0, 3.0)]);
    }
}
