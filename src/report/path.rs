//! Runs in a plane: a marker for each, or a line from its first point to its last.

use super::axes::Axes;
use super::figure::{Panel, Style};
use super::pen::{INK, OTHERS, Pen, Place, colour};
use super::plot::{Plot, Spot};
use super::seeds::Runs;
use crate::error::Result;
use plotters::prelude::*;

/// Between the markers of arms with the same x, in units.
const APART: f64 = 11.0;

/// Draws the arms of `plot`, or one of them before the others in grey: a line for each run, a dot
/// where it starts, the arm's marker where it ends.
pub fn lines<B: DrawingBackend>(
    plot: &Plot,
    pen: &Pen<B>,
    axes: &Axes,
    only: Option<usize>,
) -> Result<Vec<Spot>> {
    let mut spots = Vec::new();
    let arms = &plot.data.arms;
    let shown = |index: &usize| only.is_none_or(|only| only == *index);
    for (index, runs) in in_order(arms, only) {
        let ink = if shown(&index) { colour(index) } else { OTHERS };
        for line in runs.values() {
            let places: Vec<Place> = line.iter().map(|(x, y)| axes.place(*x, *y)).collect();
            // Piece by piece: the corner of a sharp turn would be drawn as a spike.
            for piece in places.windows(2) {
                pen.line(piece, ink.to_rgba(), 1.2, &[])?;
            }
        }
    }
    for (index, runs) in arms.iter().enumerate().filter(|(index, _)| shown(index)) {
        for (seed, line) in runs {
            let (Some(first), Some(last)) = (line.first(), line.last()) else { continue };
            pen.dot(axes.place(first.0, first.1), 3.4, INK.to_rgba())?;
            let place = axes.place(last.0, last.1);
            pen.marker(place, index, 4.2)?;
            let title = &plot.figure.arms[index].1;
            let text = format!("{title}, seed {seed}, the end: {:.3}, {:.3}", last.0, last.1);
            spots.push(Spot { place, text });
        }
    }
    Ok(spots)
}

/// Draws the arms of `plot`, or one of them before the others in grey: a marker for each run. Arms
/// of the same x stand side by side, so that none hides another.
pub fn markers<B: DrawingBackend>(
    plot: &Plot,
    pen: &Pen<B>,
    axes: &Axes,
    only: Option<usize>,
) -> Result<Vec<Spot>> {
    let mut spots = Vec::new();
    let arms = &plot.data.arms;
    let most = arms.iter().map(Runs::len).max().unwrap_or(0);
    let radius = if most > 5 || only.is_some() { 2.8 } else { 4.0 };
    let Panel { x: x_label, y: y_label, .. } = plot.panel;
    for (index, runs) in in_order(arms, only) {
        for (seed, (x, y)) in runs.iter().flat_map(|(seed, line)| line.iter().map(move |p| (seed, *p))) {
            let (at, level) = axes.place(x, y);
            if only.is_some_and(|only| only != index) {
                pen.dot((at, level), 1.8, OTHERS.to_rgba())?;
                continue;
            }
            let there = |arm: &Runs| arm.values().flatten().any(|p| p.0 == x);
            let count = |arms: &[Runs]| arms.iter().filter(|arm| there(arm)).count() as f64;
            let beside = match only {
                Some(_) => 0.0,
                None => count(&arms[..index]) - (count(arms) - 1.0) / 2.0,
            };
            let place = (at + APART * beside, level);
            pen.marker(place, index, radius)?;
            let title = &plot.figure.arms[index].1;
            let text = format!("{title}, seed {seed}: {x_label} {x:.1}, {y_label} {y:.1}");
            spots.push(Spot { place, text });
        }
    }
    Ok(spots)
}

/// The arms, the one that is not in grey last.
fn in_order(arms: &[Runs], only: Option<usize>) -> impl Iterator<Item = (usize, &Runs)> {
    let others = arms.iter().enumerate().filter(move |(index, _)| Some(*index) != only);
    others.chain(only.and_then(|only| Some((only, arms.get(only)?))))
}

/// What a reader is told of an arm's runs: each one's place, or where they start and end.
pub fn in_words(panel: &Panel, runs: &Runs) -> String {
    if panel.style == Style::Scatter {
        let run = |(x, y): &(f64, f64)| format!("{y:.1} at {x:.1}");
        return runs.values().flatten().map(run).collect::<Vec<_>>().join(", ");
    }
    let ends = |line: &Vec<(f64, f64)>| {
        let (first, last) = (line.first()?, line.last()?);
        Some(format!("({:.3}, {:.3}) to ({:.3}, {:.3})", first.0, first.1, last.0, last.1))
    };
    runs.values().filter_map(ends).collect::<Vec<_>>().join("; ")
}
