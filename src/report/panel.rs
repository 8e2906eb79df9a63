//! One panel: curves against x, or a column for each arm.
//!
//! Seeds are thin lines or small dots; the mean over seeds has its 95 % interval (Student's t) as a
//! band or a bar. An interval that leaves the axes is cut there: a band at the edge, a bar without cap.

use super::axes::{Axes, LABEL, REMARK, TICK, y_range};
use super::figure::{Figure, Panel, Reference, Style};
use super::heat;
use super::path;
use super::pen::{GREY, INK, Letters, Pen, Place, colour, dash, text_width, wrap};
use crate::error::Result;
use crate::measure::estimate::Estimate;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::collections::BTreeMap;

/// Space for the y axis at the left, and at the right, in units.
pub const LEFT: f64 = 66.0;
/// See [`LEFT`].
pub const RIGHT: f64 = 16.0;
/// em of an arm's name below its column.
pub const NAME: f64 = TICK;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
/// Height of a grey line below the names.
const REMARK_ROW: f64 = 15.0;
/// The smallest power of 10 on a logarithmic axis.
const LOWEST: f64 = -12.0;
/// Lines of an arm's name.
const NAME_LINES: usize = 3;

/// Where the axis of an R² ends below, at the latest.
pub const LOWEST_R2: f64 = -1.0;

/// What a panel needs below the usual height: further lines of names, the paper's values.
pub fn below(figure: &Figure, panel: &Panel) -> f64 {
    if panel.style != Style::Columns {
        return 0.0;
    }
    let lines = figure.arms.iter().map(|(name, _)| name_lines(name, 132.0).len()).max().unwrap_or(1);
    let paper = if panel.references.iter().any(|r| r.arm.is_some()) { REMARK_ROW } else { 0.0 };
    let remark = if panel.x.is_empty() { 0.0 } else { REMARK_ROW };
    lines.saturating_sub(1) as f64 * 1.25 * NAME + paper + remark
}

/// A mean that is shown, and what it says to a reader who points at it.
pub struct Spot {
    /// Where it lies.
    pub place: Place,
    /// "k=10, epoch 12: 85.3 ± 4.1".
    pub text: String,
}

/// Draws the panel between `left` and `right`, `top` and `bottom` (before [`below`]); its means.
pub fn draw<B: DrawingBackend>(
    figure: &Figure,
    panel: &Panel,
    pen: &Pen<B>,
    (left, right): (f64, f64),
    (top, bottom): (f64, f64),
) -> Result<Vec<Spot>> {
    let data = Data::of(figure, panel);
    if let Some((columns, rows)) = panel.style.heat() {
        let means: Vec<_> = (0..figure.arms.len()).map(|arm| data.means(arm)).collect();
        let map = heat::Map { figure, panel, columns, rows, means: &means };
        let told = map.draw(pen, (left, right), (top, bottom))?;
        let spot = |(place, at, estimate): (Place, String, Estimate)| Spot {
            place,
            text: format!("{at}: {}", shown(panel, &estimate)),
        };
        return Ok(told.into_iter().map(spot).collect());
    }
    let columns = panel.style == Style::Columns;
    let x = match panel.style {
        Style::Columns => -0.5..figure.arms.len().max(1) as f64 - 0.5,
        // Markers stand beside the place of their number.
        Style::Scatter => widened(data.x_range(), 0.05),
        Style::Path => data.x_range(),
        Style::Curves | Style::LogCurves | Style::Heat { .. } => 0.0..data.last_x * 1.02,
    };
    let axes = Axes {
        left: left + LEFT,
        right: right - RIGHT,
        top: top + TOP,
        bottom: bottom - BOTTOM,
        x,
        y: data.y_range(panel),
        decades: panel.style == Style::LogCurves,
    };
    let x_label = if columns { "" } else { panel.x.as_str() };
    axes.draw(pen, x_label, &panel.y, !columns)?;
    if data.arms.iter().all(BTreeMap::is_empty) {
        let middle = ((axes.left + axes.right) / 2.0, (axes.top + axes.bottom) / 2.0);
        let letters = Letters { colour: GREY, ..Letters::new(LABEL, HPos::Center) };
        pen.text("not measured", middle, letters)?;
    }
    match panel.style {
        Style::Columns => draw_columns(figure, panel, pen, &axes, &data)?,
        Style::Curves | Style::LogCurves => draw_curves(panel, pen, &axes, &data)?,
        Style::Scatter => return draw_scatter(figure, panel, pen, &axes, &data),
        Style::Path => return path::draw(&figure.arms, &data.arms, pen, &axes),
        Style::Heat { .. } => {}
    }
    if panel.style == Style::LogCurves {
        // Hundreds of places to point at would lie on top of one another.
        return Ok(Vec::new());
    }
    let spots = |(index, (_, title)): (usize, &(String, String))| {
        let means = data.means(index).into_iter();
        let spot = |(x, e): (f64, Estimate)| {
            let (at, place) = match columns {
                true => (String::new(), axes.place(index as f64, e.mean)),
                false => (format!(", {} {x}", panel.x), axes.place(x, e.mean)),
            };
            Spot { place, text: format!("{title}{at}: {}", shown(panel, &e)) }
        };
        means.map(spot).collect::<Vec<_>>()
    };
    Ok(figure.arms.iter().enumerate().flat_map(spots).collect())
}

/// A panel's means in words: for each arm, x → "85.3 ± 4.1".
pub fn means_in_words(figure: &Figure, panel: &Panel) -> Vec<Vec<(f64, String)>> {
    let data = Data::of(figure, panel);
    if panel.style == Style::Scatter {
        let run = |(x, y): &(f64, f64)| format!("{y:.1} at {x:.1}");
        let words = |arm: &BTreeMap<u64, Vec<(f64, f64)>>| {
            let runs: Vec<String> = arm.values().flatten().map(run).collect();
            if runs.is_empty() { Vec::new() } else { vec![(0.0, runs.join(", "))] }
        };
        return data.arms.iter().map(words).collect();
    }
    if panel.style == Style::Path {
        let words =
            |runs: &path::Runs| if runs.is_empty() { Vec::new() } else { vec![(0.0, path::in_words(runs))] };
        return data.arms.iter().map(words).collect();
    }
    let words = |arm| data.means(arm).into_iter().map(|(x, e)| (x, shown(panel, &e))).collect();
    (0..figure.arms.len()).map(words).collect()
}

fn shown(panel: &Panel, estimate: &Estimate) -> String {
    if panel.style == Style::LogCurves {
        return format!("{:.2e}", 10f64.powf(estimate.mean)).replace('-', "−");
    }
    let decimals = if panel.y.contains('%') { 1 } else { 3 };
    let half = estimate.half_width.map_or_else(String::new, |half| format!(" ± {half:.decimals$}"));
    format!("{:.decimals$}{half}", estimate.mean)
}

/// A panel's finite numbers, logarithms of y where its axis is logarithmic: for each arm, seed → points in
/// order of x.
struct Data {
    arms: Vec<BTreeMap<u64, Vec<(f64, f64)>>>,
    last_x: f64,
}

impl Data {
    fn of(figure: &Figure, panel: &Panel) -> Data {
        let mut last_x: f64 = 0.0;
        let mut of_arm = |arm: &String| {
            let mut seeds: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
            let own = figure.points.iter().filter(|p| p.panel == panel.name && p.arm == *arm);
            let y = |y: f64| if panel.style == Style::LogCurves { y.log10() } else { y };
            for point in own.filter(|p| p.x.is_finite() && y(p.y).is_finite()) {
                seeds.entry(point.seed).or_default().push((point.x, y(point.y)));
                last_x = last_x.max(point.x);
            }
            if panel.style != Style::Path {
                seeds.values_mut().for_each(|line| line.sort_by(|a, b| a.0.total_cmp(&b.0)));
            }
            seeds
        };
        let arms = figure.arms.iter().map(|(arm, _)| of_arm(arm)).collect();
        Data { arms, last_x: if last_x > 0.0 { last_x } else { 1.0 } }
    }

    /// x → mean with interval over the seeds that have a value there.
    fn means(&self, arm: usize) -> Vec<(f64, Estimate)> {
        let mut at: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for &(x, y) in self.arms[arm].values().flatten() {
            // x is an epoch or 0: never negative, so the order of bits is the order of numbers.
            at.entry((x + 0.0).to_bits()).or_insert((x, Vec::new())).1.push(y);
        }
        // Sums of the largest numbers overflow; what has no mean is not drawn.
        let finite = |e: &Estimate| e.mean.is_finite() && half(e).is_finite();
        let estimate = |(x, values): (f64, Vec<f64>)| Some((x, Estimate::of(&values).filter(finite)?));
        at.into_values().filter_map(estimate).collect()
    }

    fn x_range(&self) -> std::ops::Range<f64> {
        let all: Vec<f64> = self.arms.iter().flat_map(BTreeMap::values).flatten().map(|p| p.0).collect();
        y_range(&all, &[], 0.0, 1.0, false)
    }

    fn y_range(&self, panel: &Panel) -> std::ops::Range<f64> {
        let mut data: Vec<f64> = self.arms.iter().flat_map(BTreeMap::values).flatten().map(|p| p.1).collect();
        data.extend(panel.references.iter().filter(|r| r.arm.is_none()).map(|r| r.value));
        let means = (0..self.arms.len()).flat_map(|arm| self.means(arm));
        let ends: Vec<f64> = means.flat_map(|(_, e)| [e.mean - half(&e), e.mean + half(&e)]).collect();
        let percent = panel.y.contains('%');
        match panel.style {
            // How far an R² is below 0 at random weights says nothing, and would press the rest against 1.
            Style::Curves if panel.y.starts_with("R²") => {
                let range = y_range(&data, &ends, 0.4, 0.0, percent);
                range.start.clamp(LOWEST_R2, 0.0)..range.end.clamp(0.1, 1.0)
            }
            Style::Curves => y_range(&data, &ends, 0.4, 0.0, percent),
            // From a power of 10 on, so that a label stands at the bottom.
            Style::LogCurves => {
                let low = data.iter().copied().fold(0.0, f64::min);
                (low + 1e-6).floor().max(LOWEST)..y_range(&data, &[], 0.0, 0.0, false).end
            }
            Style::Scatter => y_range(&data, &[], 0.0, 10.0, percent),
            Style::Path => y_range(&data, &[], 0.0, 0.0, percent),
            // A difference of a point should look like one.
            _ => y_range(&data, &ends, 1.0, if percent { 10.0 } else { 0.0 }, percent),
        }
    }
}

fn half(estimate: &Estimate) -> f64 {
    estimate.half_width.unwrap_or(0.0)
}

fn places(axes: &Axes, line: &[(f64, f64)]) -> Vec<Place> {
    axes.cut(line).into_iter().map(|(x, y)| axes.place(x, y)).collect()
}

fn draw_curves<B: DrawingBackend>(panel: &Panel, pen: &Pen<B>, axes: &Axes, data: &Data) -> Result<()> {
    let means: Vec<Vec<(f64, Estimate)>> = (0..data.arms.len()).map(|arm| data.means(arm)).collect();
    let line = |arm: &[(f64, Estimate)], sign: f64| -> Vec<Place> {
        places(axes, &arm.iter().map(|(x, e)| (*x, e.mean + sign * half(e))).collect::<Vec<_>>())
    };
    for (index, arm) in means.iter().enumerate() {
        // A spectrum's bands would hide one another.
        let band = panel.style == Style::Curves && arm.iter().any(|(_, e)| e.half_width.is_some());
        if band {
            let mut band = line(arm, 1.0);
            band.extend(line(arm, -1.0).into_iter().rev());
            pen.area(&band, colour(index).mix(0.13))?;
        }
    }
    let thin = |seeds: &BTreeMap<u64, _>| panel.style == Style::Curves && seeds.len() > 1;
    for (index, seeds) in data.arms.iter().enumerate().filter(|(_, seeds)| thin(seeds)) {
        for seed in seeds.values() {
            pen.line(&places(axes, seed), colour(index).mix(0.5), 0.9, &[])?;
        }
    }
    let drawn: Vec<Place> = means.iter().flat_map(|arm| between(&line(arm, 0.0))).collect();
    for reference in &panel.references {
        level(reference, pen, axes, &drawn)?;
    }
    for (index, arm) in means.iter().enumerate() {
        pen.line(&line(arm, 0.0), colour(index).to_rgba(), 1.9, dash(index))?;
    }
    // Markers only every few points, each arm's elsewhere, so that lines that coincide show them all.
    for (index, arm) in means.iter().enumerate() {
        let every = arm.len().div_ceil(6).max(1);
        let offset = index * every / means.len().max(1);
        for (x, e) in arm.iter().skip(offset).step_by(every) {
            pen.marker(axes.place(*x, e.mean), index, 2.7)?;
        }
    }
    Ok(())
}

/// The places of a line every few units, for finding out what covers it.
fn between(line: &[Place]) -> Vec<Place> {
    let step = |pair: &[Place]| {
        let (a, b) = (pair[0], pair[1]);
        let count = ((b.0 - a.0).hypot(b.1 - a.1) / 3.0).ceil().max(1.0);
        (0..=count as usize).map(move |i| {
            let share = i as f64 / count;
            (a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1))
        })
    };
    line.windows(2).flat_map(step).collect()
}

/// A value to compare with, across the panel.
fn level<B: DrawingBackend>(reference: &Reference, pen: &Pen<B>, axes: &Axes, drawn: &[Place]) -> Result<()> {
    if !reference.value.is_finite() {
        return Ok(());
    }
    let at = axes.place(axes.x.start, reference.value).1;
    pen.line(&[(axes.left, at), (axes.right, at)], INK.mix(0.75), 1.0, &[4.0, 3.0])?;
    let place = axes.free_place(reference.value, text_width(&reference.label, REMARK), drawn);
    pen.text(&reference.label, place, Letters { colour: GREY, ..Letters::new(REMARK, HPos::Left) })
}

fn name_lines(name: &str, slot: f64) -> Vec<String> {
    let mut lines = wrap(name, NAME, slot - 8.0);
    if lines.len() > NAME_LINES {
        lines.truncate(NAME_LINES);
        lines[NAME_LINES - 1].push('…');
    }
    lines
}

fn draw_columns<B: DrawingBackend>(
    figure: &Figure,
    panel: &Panel,
    pen: &Pen<B>,
    axes: &Axes,
    data: &Data,
) -> Result<()> {
    let slot = (axes.right - axes.left) / figure.arms.len().max(1) as f64;
    let drawn: Vec<Place> = (0..figure.arms.len())
        .flat_map(|arm| data.means(arm).into_iter().map(move |(_, e)| (arm as f64, e.mean)))
        .map(|(x, y)| axes.place(x, y))
        .collect();
    for reference in panel.references.iter().filter(|r| r.arm.is_none()) {
        level(reference, pen, axes, &drawn)?;
    }
    let mut lowest = axes.bottom;
    for (index, (arm, _)) in figure.arms.iter().enumerate() {
        let x = axes.place(index as f64, axes.y.start).0;
        let mut baseline = axes.bottom + 5.0;
        for line in name_lines(arm, slot) {
            baseline += 1.25 * NAME;
            pen.text(&line, (x, baseline), Letters::new(NAME, HPos::Center))?;
        }
        for reference in panel.references.iter().filter(|r| r.arm.as_ref() == Some(arm)) {
            baseline += REMARK_ROW;
            let letters = Letters { colour: GREY, ..Letters::new(REMARK, HPos::Center) };
            pen.text(&reference.label, (x, baseline), letters)?;
        }
        lowest = lowest.max(baseline);
        for (_, estimate) in data.means(index) {
            bar(pen, axes, index, &estimate)?;
        }
        let values: Vec<f64> = data.arms[index].values().flatten().map(|point| point.1).collect();
        let spread = (slot * 0.3 / values.len().max(1) as f64).min(6.0);
        for (seed, value) in values.iter().enumerate().filter(|_| values.len() > 1) {
            let dot = (x + 9.0 + spread * seed as f64, axes.place(0.0, *value).1);
            pen.dot(dot, 1.8, colour(index).mix(0.55))?;
        }
    }
    let letters = Letters { colour: GREY, ..Letters::new(REMARK, HPos::Center) };
    pen.text(&panel.x, ((axes.left + axes.right) / 2.0, lowest + REMARK_ROW), letters)
}

/// The range with so much of its length more on either side.
fn widened(range: std::ops::Range<f64>, share: f64) -> std::ops::Range<f64> {
    let more = share * (range.end - range.start);
    range.start - more..range.end + more
}

/// Between the markers of arms with the same x, in units.
const APART: f64 = 11.0;

/// A marker for each run; its numbers. Arms of the same x stand side by side, so that none hides
/// another.
fn draw_scatter<B: DrawingBackend>(
    figure: &Figure,
    panel: &Panel,
    pen: &Pen<B>,
    axes: &Axes,
    data: &Data,
) -> Result<Vec<Spot>> {
    let mut spots = Vec::new();
    for (index, (_, title)) in figure.arms.iter().enumerate() {
        for (seed, (x, y)) in
            data.arms[index].iter().flat_map(|(seed, line)| line.iter().map(move |p| (seed, *p)))
        {
            let there = |arm: &BTreeMap<u64, Vec<(f64, f64)>>| arm.values().flatten().any(|p| p.0 == x);
            let count = |arms: &[BTreeMap<_, _>]| arms.iter().filter(|arm| there(arm)).count() as f64;
            let beside = count(&data.arms[..index]) - (count(&data.arms) - 1.0) / 2.0;
            let (at, level) = axes.place(x, y);
            let place = (at + APART * beside, level);
            pen.marker(place, index, 4.0)?;
            let text = format!("{title}, seed {seed}: {} {x:.1}, {} {y:.1}", panel.x, panel.y);
            spots.push(Spot { place, text });
        }
    }
    Ok(spots)
}

/// A mean with its interval and its number.
fn bar<B: DrawingBackend>(pen: &Pen<B>, axes: &Axes, index: usize, estimate: &Estimate) -> Result<()> {
    let at = |y: f64| axes.place(index as f64, y);
    let (ink, mean) = (colour(index).to_rgba(), at(estimate.mean));
    if half(estimate) > 0.0 {
        let ends = [estimate.mean - half(estimate), estimate.mean + half(estimate)];
        pen.line(&ends.map(at), ink, 1.6, &[])?;
        for end in ends.into_iter().filter(|end| axes.y.contains(end)) {
            let (x, y) = at(end);
            pen.line(&[(x - 4.0, y), (x + 4.0, y)], ink, 1.6, &[])?;
        }
    }
    pen.marker(mean, index, 4.0)?;
    let digits = if axes.y.end - axes.y.start > 5.0 { 1 } else { 2 };
    let number = format!("{:.digits$}", estimate.mean).replace('-', "−");
    pen.text(&number, (mean.0 - 9.0, mean.1 + 0.36 * TICK), Letters::new(TICK, HPos::Right))
}
