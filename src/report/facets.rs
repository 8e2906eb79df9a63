//! Arms on axes: all of a panel together, or each on axes of its own with the same ranges, the
//! others behind it in grey.

use super::axes::{Axes, LABEL, Labels, TICK};
use super::figure::{Figure, Panel, Style};
use super::pen::{Letters, Pen, Place, text_width, wrap};
use super::plot::{BOTTOM, LEFT, Plot, RIGHT, Spot};
use super::{curves, path};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Width of the panel.
const WIDTH: f64 = 1080.0;
/// Space above for what is measured.
const HEAD: f64 = 24.0;
/// em of an arm's name above its axes, and the space for its marker.
const SMALLER: f64 = 0.93 * TICK;
const MARKER: f64 = 13.0;
/// Lines of a name at most.
const LINES: usize = 2;
/// Between axes, and below those that have others below them.
const GAP: f64 = 12.0;
/// Height of axes.
const HEIGHT: f64 = 104.0;
/// Axes in a row at most.
const MOST: usize = 8;

/// Axes in a row: all, or in rows of nearly the same length.
fn per_row(figure: &Figure) -> usize {
    let arms = figure.arms.len().max(1);
    arms.div_ceil(arms.div_ceil(MOST))
}

/// Width of one pair of axes.
fn wide(figure: &Figure) -> f64 {
    (WIDTH - LEFT - RIGHT + GAP) / per_row(figure) as f64 - GAP
}

/// Space above axes for the arms' names.
fn above(figure: &Figure) -> f64 {
    let lines = figure.arms.iter().map(|(_, title)| name_lines(title, wide(figure)).len());
    6.0 + lines.max().unwrap_or(1) as f64 * 1.2 * SMALLER
}

fn name_lines(title: &str, wide: f64) -> Vec<String> {
    let mut lines = wrap(title, SMALLER, wide - MARKER);
    if lines.len() > LINES {
        lines.truncate(LINES);
        lines[LINES - 1].push('…');
    }
    lines
}

/// Width and height of the panel.
pub fn size(figure: &Figure) -> (f64, f64) {
    let rows = figure.arms.len().div_ceil(per_row(figure)) as f64;
    (WIDTH, HEAD + rows * (above(figure) + HEIGHT + GAP) - GAP + BOTTOM)
}

/// Draws the panel with its left upper corner at `corner`, the ranges of `shared` on all axes; the
/// values that it shows.
pub fn draw<B: DrawingBackend>(plot: &Plot, pen: &Pen<B>, corner: Place, shared: &Axes) -> Result<Vec<Spot>> {
    let Plot { figure, panel, .. } = *plot;
    let (columns, arms) = (per_row(figure), figure.arms.len());
    let (wide, above) = (wide(figure), above(figure));
    let what = head(panel);
    pen.text(&what, (corner.0 + LEFT, corner.1 + 0.9 * LABEL), Letters::new(LABEL, HPos::Left))?;
    let mut spots = Vec::new();
    for arm in 0..arms {
        let (row, column) = (arm / columns, arm % columns);
        let left = corner.0 + LEFT + column as f64 * (wide + GAP);
        let top = corner.1 + HEAD + row as f64 * (above + HEIGHT + GAP) + above;
        let axes = Axes { left, right: left + wide, top, bottom: top + HEIGHT, ..shared.clone() };
        // Numbers stand at the left of a row, and below the last axes of a column.
        let labels = Labels { x: (arm + columns >= arms).then_some(""), y: (column == 0).then_some("") };
        axes.draw(pen, labels)?;
        name(pen, &figure.arms[arm].1, arm, (left, top), wide)?;
        spots.extend(on_axes(plot, pen, &axes, Some(arm))?);
    }
    let below = (corner.0 + (LEFT + WIDTH - RIGHT) / 2.0, corner.1 + size(figure).1 - BOTTOM + 34.0);
    pen.text(&panel.x, below, Letters::new(LABEL, HPos::Center))?;
    Ok(spots)
}

/// Draws all arms on `axes`, or one of them before the others in grey.
pub fn on_axes<B: DrawingBackend>(
    plot: &Plot,
    pen: &Pen<B>,
    axes: &Axes,
    only: Option<usize>,
) -> Result<Vec<Spot>> {
    match plot.panel.style {
        Style::Scatter => path::markers(plot, pen, axes, only),
        Style::Path => path::lines(plot, pen, axes, only),
        _ => curves::draw(plot, pen, axes, only),
    }
}

/// What is measured, which stands above instead of beside short axes.
fn head(panel: &Panel) -> String {
    match panel.style {
        Style::Path | Style::Scatter => format!("{} (upwards)", panel.y),
        _ => panel.y.clone(),
    }
}

/// The arm's marker and its title in at most two lines above its axes.
fn name<B: DrawingBackend>(
    pen: &Pen<B>,
    title: &str,
    arm: usize,
    (left, top): Place,
    wide: f64,
) -> Result<()> {
    let lines = name_lines(title, wide);
    let count = lines.len() as f64;
    for (index, line) in lines.iter().enumerate() {
        // A word wider than the axes would run into the next arm's name.
        let em = SMALLER * ((wide - MARKER) / text_width(line, SMALLER).max(1.0)).min(1.0);
        let baseline = top - 6.0 - (count - 1.0 - index as f64) * 1.2 * SMALLER;
        if index == 0 {
            pen.marker((left + 4.0, baseline - 0.36 * SMALLER), arm, 3.0)?;
        }
        pen.text(line, (left + MARKER, baseline), Letters::new(em, HPos::Left))?;
    }
    Ok(())
}
