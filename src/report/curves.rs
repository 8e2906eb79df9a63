//! Curves: seeds as thin lines, their median as a thick one, a cross where a run diverged, a
//! triangle where values lie beyond the axis.

use super::axes::{Axes, REMARK};
use super::figure::{Panel, Reference, Style};
use super::pen::{INK, Letters, OTHERS, Pen, Place, colour, dash, text_width};
use super::plot::{Plot, Spot};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::collections::BTreeSet;

/// Draws the arms of `plot` on `axes`, or one of them before the medians of the others in grey; the
/// places of medians with what they are.
pub fn draw<B: DrawingBackend>(
    plot: &Plot,
    pen: &Pen<B>,
    axes: &Axes,
    only: Option<usize>,
) -> Result<Vec<Spot>> {
    let shown = |index: &usize| only.is_none_or(|only| only == *index);
    let arms = || (0..plot.figure.arms.len()).filter(shown);
    let median = |arm: usize| -> Vec<Vec<Place>> {
        let line: Vec<_> = plot.spreads[arm].iter().map(|(x, spread)| (*x, spread.median)).collect();
        pieces(axes, &line)
    };
    let stroke = |pieces: &[Vec<Place>], ink: RGBAColor, width: f64, dash: &[f64]| {
        pieces.iter().try_for_each(|piece| pen.line(piece, ink, width, dash))
    };
    for other in (0..plot.figure.arms.len()).filter(|index| !shown(index)) {
        stroke(&median(other), OTHERS.to_rgba(), 1.0, &[])?;
    }
    for arm in arms().filter(|arm| plot.data.arms[*arm].len() > 1) {
        let seeds = &plot.data.arms[arm];
        // Many lines on top of one another are as dark as few.
        let share = (1.2 / (seeds.len() as f64).sqrt()).clamp(0.18, 0.5);
        for seed in seeds.values() {
            stroke(&pieces(axes, seed), colour(arm).mix(share), 0.8, &[])?;
        }
    }
    let drawn: Vec<Place> = arms().flat_map(median).flat_map(|piece| between(&piece)).collect();
    for reference in plot.panel.references.iter().filter(|r| r.arm.is_none()) {
        level(reference, pen, axes, &drawn)?;
    }
    let thick = if only.is_some() { 2.2 } else { 1.9 };
    let dashes = |arm: usize| if only.is_some() { &[][..] } else { dash(arm) };
    for arm in arms() {
        let line = median(arm);
        // A light rim sets the median off from the seeds.
        if plot.data.arms[arm].len() > 1 {
            stroke(&line, WHITE.mix(0.7), thick + 1.6, dashes(arm))?;
        }
        stroke(&line, colour(arm).to_rgba(), thick, dashes(arm))?;
    }
    for arm in arms() {
        for place in markers(plot, axes, arm, only.is_some()) {
            pen.marker(place, arm, 2.7)?;
        }
    }
    for arm in arms() {
        marks(plot, pen, axes, arm)?;
    }
    // Hundreds of places to point at would lie on top of one another.
    if plot.panel.style == Style::LogCurves {
        return Ok(Vec::new());
    }
    let spots = arms().flat_map(|arm| {
        plot.spreads[arm].iter().map(move |(x, spread)| Spot {
            place: axes.place(*x, spread.median),
            text: said(plot, arm, *x, &plot.data.words(spread)),
        })
    });
    Ok(spots.collect())
}

/// Where an arm's markers stand on its median: every few points, each arm's elsewhere, so that
/// lines that coincide show them all; between points where they are few. An arm with axes of its
/// own needs none, but for a line of one point, which is nothing else.
fn markers(plot: &Plot, axes: &Axes, arm: usize, alone: bool) -> Vec<Place> {
    const MOST: usize = 6;
    let line: Vec<(f64, f64)> = plot.spreads[arm].iter().map(|(x, spread)| (*x, spread.median)).collect();
    let arms = plot.figure.arms.len().max(1);
    let place = |&(x, y): &(f64, f64)| axes.place(x, y);
    match line.len() {
        0 => Vec::new(),
        1 => vec![place(&line[0])],
        _ if alone => Vec::new(),
        2..=MOST => {
            let share = (arm as f64 + 0.5) / arms as f64;
            let between = |(a, b): (Place, Place)| (a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1));
            line.windows(2).map(|pair| between((place(&pair[0]), place(&pair[1])))).collect()
        }
        points => {
            let every = points.div_ceil(MOST);
            line.iter().skip(arm * every / arms).step_by(every).map(place).collect()
        }
    }
}

/// "k=10, epoch 12: 85.3 (81.2 to 89.4)".
fn said(plot: &Plot, arm: usize, x: f64, words: &str) -> String {
    let (Panel { x: axis, .. }, (_, title)) = (plot.panel, &plot.figure.arms[arm]);
    format!("{title}, {axis} {x}: {words}")
}

/// Crosses where runs diverged, triangles where seeds leave the axes.
fn marks<B: DrawingBackend>(plot: &Plot, pen: &Pen<B>, axes: &Axes, arm: usize) -> Result<()> {
    let mut tips: BTreeSet<(i64, bool)> = BTreeSet::new();
    for line in plot.data.arms[arm].values() {
        let side = |y: f64| (y > axes.y.end).then_some(true).or((y < axes.y.start).then_some(false));
        let mut before = None;
        for &(x, y) in line {
            let now = side(y);
            if let Some(above) = now.filter(|_| now != before) {
                // One for all seeds that leave at the same place.
                tips.insert((axes.place(x, y).0.round() as i64, above));
            }
            before = now;
        }
    }
    for (x, above) in tips {
        let (edge, up) = if above { (axes.top, -1.0) } else { (axes.bottom, 1.0) };
        pen.beyond((x as f64, edge), (0.0, up), colour(arm))?;
    }
    for (seed, x) in &plot.data.diverged[arm] {
        let last = plot.data.arms[arm].get(seed).and_then(|line| line.last());
        // A run without a single value has its cross at the bottom, where it would have begun.
        let place = last.map_or((axes.place(*x, axes.y.start).0, axes.bottom), |(x, y)| axes.place(*x, *y));
        pen.cross(place, 3.2, colour(arm))?;
    }
    Ok(())
}

/// The parts of a line that lie within the axes: beyond them it would run along the edge.
fn pieces(axes: &Axes, line: &[(f64, f64)]) -> Vec<Vec<Place>> {
    let within = |y: f64| axes.y.start <= y && y <= axes.y.end;
    let mut pieces: Vec<Vec<Place>> = vec![Vec::new()];
    for pair in axes.cut(line).windows(2) {
        // Halves, because the sum of the two largest numbers overflows. A cut lies on the edge but
        // for rounding.
        if !within(pair[0].1 / 2.0 + pair[1].1 / 2.0) {
            pieces.push(Vec::new());
            continue;
        }
        let Some(piece) = pieces.last_mut() else { continue };
        if piece.is_empty() {
            piece.push(axes.place(pair[0].0, pair[0].1));
        }
        piece.push(axes.place(pair[1].0, pair[1].1));
    }
    pieces
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
    pen.text(&reference.label, place, Letters::grey(REMARK, HPos::Left))
}
