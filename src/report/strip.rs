//! A panel of strips, one below the other: an arm's seeds as dots along the axis of values, their
//! median as a line, a ring around the worst seed, crosses for runs that diverged; beside them the
//! numbers.

use super::axes::{LABEL, REMARK, TICK, labels, ticks};
use super::figure::{Figure, Panel};
use super::pen::{GRID, INK, Letters, Pen, Place, colour, text_width, wrap};
use super::plot::{Plot, Spot};
use super::seeds::Data;
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::ops::Range;

/// Width of the strips, and the space at their left for crosses.
const PLOT: f64 = 210.0;
const CROSSES: f64 = 28.0;
/// Width of an arm's name at most, and of the marker before it.
const WIDEST_NAME: f64 = 190.0;
const MARKER: f64 = 16.0;
/// Space before each column of numbers, and at the panel's edges.
const GAP: f64 = 12.0;
const EDGE: f64 = 14.0;
/// Space above the strips for the columns' heads, below them for the axis.
const HEAD: f64 = 26.0;
const FOOT: f64 = 44.0;
/// A line more below, for a remark.
const REMARK_ROW: f64 = 15.0;
/// Height of all strips together where they are few, and of one at least and at most.
const ROOM: f64 = 130.0;
const TALL: Range<f64> = 27.0..44.0;

/// Width and height of the panel, with the names of arms or beside a panel that has them.
pub fn size(figure: &Figure, panel: &Panel, named: bool) -> (f64, f64) {
    let data = Data::of(figure, panel);
    let columns: f64 = columns(figure, panel, &data).iter().map(|column| column.width + GAP).sum();
    let names = if named { name_width(figure, panel) } else { 0.0 };
    let remark = if remark(panel).is_some() { REMARK_ROW } else { 0.0 };
    let height = HEAD + row_height(figure) * figure.arms.len() as f64 + FOOT + remark;
    (2.0 * EDGE + names + CROSSES + PLOT + columns, height)
}

fn row_height(figure: &Figure) -> f64 {
    (ROOM / figure.arms.len().max(1) as f64).clamp(TALL.start, TALL.end)
}

/// The names' width with their markers.
fn name_width(figure: &Figure, panel: &Panel) -> f64 {
    let names =
        figure.arms.iter().flat_map(|(name, title)| [text_width(title, TICK), text_width(name, REMARK)]);
    let widest = names.fold(text_width(arms_are(panel).unwrap_or(""), REMARK), f64::max);
    MARKER + widest.min(WIDEST_NAME) + 8.0
}

/// What the arms are, where the panel says so: the key of a sweep.
fn arms_are(panel: &Panel) -> Option<&str> {
    (!has_paper(panel) && !panel.x.is_empty()).then_some(panel.x.as_str())
}

/// What the numbers of the paper are.
fn remark(panel: &Panel) -> Option<&str> {
    (has_paper(panel) && !panel.x.is_empty()).then_some(panel.x.as_str())
}

fn has_paper(panel: &Panel) -> bool {
    panel.references.iter().any(|reference| reference.arm.is_some())
}

/// Numbers at the right of the strips.
struct Column {
    head: &'static str,
    cells: Vec<String>,
    grey: bool,
    width: f64,
}

/// Medians, worst seeds, seeds where their number differs or runs diverged, and the paper's
/// numbers.
fn columns(figure: &Figure, panel: &Panel, data: &Data) -> Vec<Column> {
    let arms = 0..figure.arms.len();
    let column = |head: &'static str, grey: bool, cells: Vec<String>| {
        let widest = cells.iter().map(|cell| text_width(cell, TICK)).fold(text_width(head, REMARK), f64::max);
        Column { head, cells, grey, width: widest }
    };
    let median =
        |arm: usize| data.end(arm).map_or_else(|| "–".to_string(), |spread| data.number(spread.median));
    let head = if arms.clone().any(|arm| data.arms[arm].len() > 1) { "median" } else { "value" };
    let mut columns = vec![column(head, false, arms.clone().map(median).collect())];
    if data.has_worst() {
        let worst = |arm: usize| match data.worst(arm) {
            Some((_, value)) => data.number(value),
            None if data.diverged[arm].is_empty() => String::new(),
            None => "diverged".to_string(),
        };
        columns.push(column("worst", true, arms.clone().map(worst).collect()));
    }
    let seeds: Vec<usize> = arms.clone().map(|arm| data.seeds(arm)).collect();
    let lost = data.diverged.iter().any(|lost| !lost.is_empty());
    if lost || seeds.windows(2).any(|pair| pair[0] != pair[1]) {
        let count = |arm: usize| match data.arms[arm].len() {
            there if there < seeds[arm] => format!("{there} of {}", seeds[arm]),
            there => there.to_string(),
        };
        columns.push(column("seeds", true, arms.clone().map(count).collect()));
    }
    if has_paper(panel) {
        let of = |arm: usize| {
            let own = panel.references.iter().find(|r| r.arm.as_ref() == Some(&figure.arms[arm].0));
            own.map_or_else(String::new, |reference| reference.label.clone())
        };
        columns.push(column("", true, arms.map(of).collect()));
    }
    columns
}

/// Draws the panel with its left upper corner at `corner`; its seeds and medians.
pub fn draw<B: DrawingBackend>(
    plot: &Plot,
    pen: &Pen<B>,
    corner: Place,
    named: bool,
    range: Range<f64>,
) -> Result<Vec<Spot>> {
    let Plot { figure, panel, data, .. } = *plot;
    let names = if named { name_width(figure, panel) } else { 0.0 };
    let left = corner.0 + EDGE + names + CROSSES;
    let (row, count) = (row_height(figure), figure.arms.len());
    let strips =
        Strips { left, top: corner.1 + HEAD, row, range, bottom: corner.1 + HEAD + row * count as f64 };
    strips.frame(pen, panel)?;
    if named {
        strips.names(figure, panel, pen, corner.0 + EDGE)?;
    }
    let mut at = left + PLOT;
    for column in columns(figure, panel, data) {
        at += GAP + column.width;
        let grey = Letters::grey(REMARK, HPos::Right);
        pen.text(column.head, (at, strips.top - 8.0), grey)?;
        let letters =
            if column.grey { Letters { size: TICK, ..grey } } else { Letters::new(TICK, HPos::Right) };
        for (arm, cell) in column.cells.iter().enumerate() {
            pen.text(cell, (at, strips.middle(arm) + 0.36 * TICK), letters)?;
        }
    }
    let mut spots = Vec::new();
    for (arm, (_, title)) in figure.arms.iter().enumerate() {
        strips.arm(plot, pen, arm, title, &mut spots)?;
    }
    if data.values().next().is_none() {
        let middle = (left + PLOT / 2.0, (strips.top + strips.bottom) / 2.0);
        pen.text("not measured", middle, Letters::grey(LABEL, HPos::Center))?;
    }
    Ok(spots)
}

/// Where the strips lie.
struct Strips {
    left: f64,
    top: f64,
    bottom: f64,
    row: f64,
    range: Range<f64>,
}

impl Strips {
    fn middle(&self, arm: usize) -> f64 {
        self.top + (arm as f64 + 0.5) * self.row
    }

    /// The place of a value along the axis; at the edge where it lies beyond it.
    fn x(&self, value: f64) -> f64 {
        let value = value.clamp(self.range.start, self.range.end);
        let (start, end) = (self.range.start / 2.0, self.range.end / 2.0);
        self.left + (value / 2.0 - start) / (end - start) * PLOT
    }

    fn frame<B: DrawingBackend>(&self, pen: &Pen<B>, panel: &Panel) -> Result<()> {
        let ticks = ticks(&self.range, 4, &[1.0, 2.0, 2.5, 5.0, 10.0]);
        let labels = labels(&ticks);
        let widest = labels.iter().map(|label| text_width(label, TICK)).fold(1.0, f64::max);
        let em = TICK * ((PLOT / 4.0 - 6.0) / widest).min(1.0);
        for (tick, label) in ticks.iter().zip(&labels) {
            let x = self.x(*tick);
            pen.line(&[(x, self.top), (x, self.bottom)], GRID.to_rgba(), 0.8, &[])?;
            pen.line(&[(x, self.bottom), (x, self.bottom + 3.5)], INK.to_rgba(), 0.9, &[])?;
            pen.text(label, (x, self.bottom + 7.0 + 0.73 * em), Letters::new(em, HPos::Center))?;
        }
        pen.line(&[(self.left, self.bottom), (self.left + PLOT, self.bottom)], INK.to_rgba(), 0.9, &[])?;
        for reference in panel.references.iter().filter(|r| r.arm.is_none() && r.value.is_finite()) {
            let x = self.x(reference.value);
            pen.line(&[(x, self.top - 4.0), (x, self.bottom)], INK.mix(0.75), 1.0, &[4.0, 3.0])?;
            let letters = Letters::grey(REMARK, HPos::Center);
            pen.text(&reference.label, (x, self.top - 8.0), letters)?;
        }
        let middle = self.left + PLOT / 2.0;
        pen.text(&panel.y, (middle, self.bottom + 34.0), Letters::new(LABEL, HPos::Center))?;
        let letters = Letters::grey(REMARK, HPos::Center);
        match remark(panel) {
            Some(remark) => pen.text(remark, (middle, self.bottom + 34.0 + REMARK_ROW), letters),
            None => Ok(()),
        }
    }

    /// Each arm's marker and title, below it its name where that is another.
    fn names<B: DrawingBackend>(
        &self,
        figure: &Figure,
        panel: &Panel,
        pen: &Pen<B>,
        left: f64,
    ) -> Result<()> {
        let grey = Letters::grey(REMARK, HPos::Left);
        if let Some(head) = arms_are(panel) {
            pen.text(head, (left + MARKER, self.top - 8.0), grey)?;
        }
        for (arm, (name, title)) in figure.arms.iter().enumerate() {
            let middle = self.middle(arm);
            pen.marker((left + 5.0, middle), arm, 3.4)?;
            let title = one_line(title, TICK);
            let two = *name != figure.arms[arm].1;
            let baseline = middle + 0.36 * TICK - if two { 5.5 } else { 0.0 };
            pen.text(&title, (left + MARKER, baseline), Letters::new(TICK, HPos::Left))?;
            if two {
                pen.text(&one_line(name, REMARK), (left + MARKER, baseline + 11.0), grey)?;
            }
        }
        Ok(())
    }

    /// One strip: dots beside one another where they would hide each other, then what is told of
    /// them.
    fn arm<B: DrawingBackend>(
        &self,
        plot: &Plot,
        pen: &Pen<B>,
        arm: usize,
        title: &str,
        spots: &mut Vec<Spot>,
    ) -> Result<()> {
        let (data, middle, ink) = (plot.data, self.middle(arm), colour(arm));
        let runs: Vec<(u64, f64)> =
            data.arms[arm].iter().filter_map(|(seed, line)| Some((*seed, line.last()?.1))).collect();
        let radius = if runs.len() > 12 { 1.9 } else { 2.5 };
        let xs: Vec<f64> = runs.iter().map(|(_, value)| self.x(*value)).collect();
        let heights = swarm(&xs, 2.0 * radius + 0.4, self.row / 2.0 - 4.0);
        if arm > 0 {
            let edge = self.middle(arm) - self.row / 2.0;
            pen.line(&[(self.left, edge), (self.left + PLOT, edge)], GRID.to_rgba(), 0.6, &[])?;
        }
        let shown = |value: f64| (self.range.start..=self.range.end).contains(&value);
        let worst = data.worst(arm).map(|(seed, _)| seed);
        for ((seed, value), (x, height)) in runs.iter().zip(xs.iter().zip(&heights)) {
            let place = (*x, middle + height);
            if !shown(*value) {
                let side = if *value > self.range.end { 1.0 } else { -1.0 };
                pen.beyond((place.0 + 3.0 * side, place.1), (side, 0.0), ink)?;
            } else if runs.len() == 1 {
                pen.marker(place, arm, 3.4)?;
            } else {
                pen.dot(place, radius + 0.7, WHITE.to_rgba())?;
                pen.dot(place, radius, ink.mix(0.75))?;
            }
            let is_worst = worst == Some(*seed);
            let what = if is_worst { ", the worst" } else { "" };
            spots.push(Spot { place, text: format!("{title}, seed {seed}{what}: {}", data.number(*value)) });
        }
        // Thin enough to leave the dots below it to be seen, and longer than they reach.
        if let Some(spread) = data.end(arm).filter(|spread| spread.n > 1 && shown(spread.median)) {
            let (x, half) = (self.x(spread.median), self.row / 2.0 - 1.5);
            pen.line(&[(x, middle - half), (x, middle + half)], INK.to_rgba(), 1.4, &[])?;
            let text = format!("{title}: median {}", data.words(&spread));
            spots.push(Spot { place: (x, middle - half), text });
        }
        // After the dots, which would cover it.
        for ((seed, value), (x, height)) in runs.iter().zip(xs.iter().zip(&heights)) {
            if worst == Some(*seed) && shown(*value) {
                pen.ring((*x, middle + height), radius + 2.2, INK, 1.0)?;
            }
        }
        spots.extend(self.cross(data, pen, arm, title)?);
        Ok(())
    }

    /// The cross of an arm of which runs diverged.
    fn cross<B: DrawingBackend>(
        &self,
        data: &Data,
        pen: &Pen<B>,
        arm: usize,
        title: &str,
    ) -> Result<Option<Spot>> {
        let lost = data.diverged[arm].len();
        if lost == 0 {
            return Ok(None);
        }
        let place @ (x, middle) = (self.left - 7.0, self.middle(arm));
        pen.cross(place, 2.8, colour(arm))?;
        if lost > 1 {
            let letters = Letters::grey(REMARK, HPos::Right);
            pen.text(&lost.to_string(), (x - 5.0, middle + 0.36 * REMARK), letters)?;
        }
        let text = format!("{title}: {lost} of {} diverged", data.seeds(arm));
        Ok(Some(Spot { place, text }))
    }
}

/// The first line of a name, with an ellipsis where it does not fit.
fn one_line(name: &str, em: f64) -> String {
    let lines = wrap(name, em, WIDEST_NAME);
    match &lines[..] {
        [] => String::new(),
        [line] => line.clone(),
        [line, ..] => format!("{line} …"),
    }
}

/// Dots that are kept apart at most.
const MOST_DOTS: usize = 500;

/// For dots of this width at `xs`, how far above or below the middle each lies so that no two
/// overlap; where they do not fit within `room` on either side, as little as possible.
pub fn swarm(xs: &[f64], width: f64, room: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]).then(a.cmp(b)));
    let mut reach = (room / width) as usize;
    // More are one dark stripe wherever they stand.
    while xs.len() <= MOST_DOTS {
        // Levels 0, 1, −1, 2, −2, … up to `reach`, nearer to each other where there must be more.
        let step = if reach == 0 { 0.0 } else { width.min(room / reach as f64) };
        let mut last = vec![f64::NEG_INFINITY; 2 * reach + 1];
        let mut heights = vec![0.0; xs.len()];
        let mut placed = |dot: usize| {
            let Some(level) = last.iter().position(|end| xs[dot] - end >= width) else { return false };
            last[level] = xs[dot];
            let side = if level.is_multiple_of(2) { 1.0 } else { -1.0 };
            heights[dot] = side * level.div_ceil(2) as f64 * step;
            true
        };
        if order.iter().all(|dot| placed(*dot)) {
            return heights;
        }
        reach += reach.div_ceil(4).max(1);
    }
    vec![0.0; xs.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_apart_where_there_is_room_and_inside_where_there_is_not() {
        let apart = swarm(&[5.0, 5.0, 5.0, 20.0], 4.0, 10.0);
        assert_eq!(apart, [0.0, -4.0, 4.0, 0.0]);
        let full = swarm(&[5.0; 40], 4.0, 10.0);
        assert!(full.iter().all(|height| height.abs() <= 10.0 + 1e-9), "{full:?}");
        let mut places = full.clone();
        places.sort_by(f64::total_cmp);
        places.dedup();
        assert_eq!(places.len(), 40, "none hides another wholly: {full:?}");
        assert!(swarm(&[], 4.0, 10.0).is_empty());
    }
}
