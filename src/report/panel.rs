//! One panel: its size, its range of values, and who draws it.

use super::axes::{Axes, LABEL, Labels, range_of, without_far};
use super::figure::{Figure, Panel, Style};
use super::pen::{Letters, Pen, Place};
use super::plot::{BOTTOM, LEFT, LOWEST_R2, Plot, RIGHT, Spot, is_faceted};
use super::seeds::{Data, Spread};
use super::{facets, heat, path, strip};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::ops::Range;

/// Size of a panel of one pair of axes with its labels, in units.
const WIDTH: f64 = 370.0;
const HEIGHT: f64 = 300.0;
const TOP: f64 = 12.0;
/// The smallest power of 10 on a logarithmic axis.
const LOWEST: f64 = -12.0;

/// Whether the panel says itself which arm is which, so that it needs no legend.
pub fn names_arms(figure: &Figure, panel: &Panel) -> bool {
    is_faceted(figure, panel) || matches!(panel.style, Style::Columns | Style::Heat { .. })
}

/// Width and height, in units. A panel of strips is narrower beside one that names the arms.
pub fn size(figure: &Figure, panel: &Panel, named: bool) -> (f64, f64) {
    match panel.style {
        Style::Columns => strip::size(figure, panel, named),
        Style::Heat { .. } => (heat::width(figure), HEIGHT),
        _ if is_faceted(figure, panel) => facets::size(figure),
        _ => (WIDTH, HEIGHT),
    }
}

/// Draws the panel with its left upper corner at `corner`; the values that it shows.
pub fn draw<B: DrawingBackend>(
    figure: &Figure,
    panel: &Panel,
    pen: &Pen<B>,
    corner: Place,
    named: bool,
) -> Result<Vec<Spot>> {
    let data = Data::of(figure, panel);
    let spreads: Vec<_> = (0..figure.arms.len()).map(|arm| data.spreads(arm)).collect();
    let plot = Plot { figure, panel, data: &data, spreads: &spreads };
    let (width, height) = size(figure, panel, named);
    if let Some((columns, rows)) = panel.style.heat() {
        let map = heat::Map { figure, panel, columns, rows, medians: &spreads };
        let told = map.draw(pen, corner, height)?;
        let spot = |(place, at, spread): (Place, String, Spread)| Spot {
            place,
            text: format!("{at}: {}", data.words(&spread)),
        };
        return Ok(told.into_iter().map(spot).collect());
    }
    let range = value_range(panel, &data);
    if panel.style == Style::Columns {
        return strip::draw(&plot, pen, corner, named, range);
    }
    let axes = Axes {
        left: corner.0 + LEFT,
        right: corner.0 + width - RIGHT,
        top: corner.1 + TOP,
        bottom: corner.1 + height - BOTTOM,
        x: x_range(panel, &data),
        y: range,
        decades: panel.style == Style::LogCurves,
    };
    if is_faceted(figure, panel) {
        return facets::draw(&plot, pen, corner, &axes);
    }
    axes.draw(pen, Labels { x: Some(&panel.x), y: Some(&panel.y) })?;
    if data.values().next().is_none() {
        let middle = ((axes.left + axes.right) / 2.0, (axes.top + axes.bottom) / 2.0);
        let letters = Letters::grey(LABEL, HPos::Center);
        pen.text("not measured", middle, letters)?;
    }
    facets::on_axes(&plot, pen, &axes, None)
}

fn x_range(panel: &Panel, data: &Data) -> Range<f64> {
    let all = || data.arms.iter().flat_map(|runs| runs.values()).flatten().map(|p| p.0).collect::<Vec<_>>();
    match panel.style {
        // Markers stand beside the place of their number.
        Style::Scatter => {
            let range = range_of(&all(), 0.0, false);
            let more = 0.05 * (range.end - range.start);
            range.start - more..range.end + more
        }
        Style::Path => range_of(&all(), 1.0, false),
        _ => 0.0..data.last_x * 1.02,
    }
}

/// The values that the panel's axis shows: all, but for few that lie far from the others.
fn value_range(panel: &Panel, data: &Data) -> Range<f64> {
    let percent = panel.y.contains('%');
    let mut all: Vec<f64> = data.values().collect();
    let references = panel.references.iter().filter(|r| r.arm.is_none()).map(|r| r.value);
    match panel.style {
        // From a power of 10 on, so that a label stands at the bottom.
        Style::LogCurves => {
            let low = all.iter().copied().fold(0.0, f64::min);
            return (low + 1e-6).floor().max(LOWEST)..range_of(&all, 0.0, false).end;
        }
        Style::Path => return range_of(&all, 0.0, false),
        Style::Scatter => return range_of(&all, 10.0, percent),
        _ => {}
    }
    if !percent {
        let median = |arm: usize| match panel.style {
            Style::Columns => data.end(arm).map(|spread| vec![spread.median]).unwrap_or_default(),
            _ => data.spreads(arm).into_iter().map(|(_, spread)| spread.median).collect(),
        };
        let medians: Vec<f64> = (0..data.arms.len()).flat_map(median).collect();
        all = without_far(&all, &medians);
    }
    all.extend(references);
    // A difference of a point should look like one.
    let least = if percent && panel.style == Style::Columns { 10.0 } else { 0.0 };
    let range = range_of(&all, least, percent);
    // How far an R² is below 0 at random weights says nothing, and would press the rest against 1.
    if panel.y.starts_with("R²") {
        return range.start.clamp(LOWEST_R2, 0.0)..range.end.clamp(0.1, 1.0);
    }
    range
}

/// Whether values of the panel lie beyond its axis.
pub fn is_clipped(panel: &Panel, data: &Data) -> bool {
    let range = value_range(panel, data);
    panel.style.heat().is_none() && data.values().any(|y| y < range.start || y > range.end)
}

/// A panel's numbers in words: for each arm, x → "85.3 (81.2 to 89.4)", the median and the seeds'
/// range; with columns also the worst seed and how many runs diverged.
pub fn in_words(figure: &Figure, panel: &Panel) -> Vec<Vec<(f64, String)>> {
    let data = Data::of(figure, panel);
    let words = |arm: usize| match panel.style {
        Style::Columns => data.end_in_words(arm).map(|words| vec![(0.0, words)]).unwrap_or_default(),
        Style::Scatter | Style::Path => {
            let words = path::in_words(panel, &data.arms[arm]);
            if words.is_empty() { Vec::new() } else { vec![(0.0, words)] }
        }
        _ => data.spreads(arm).into_iter().map(|(x, spread)| (x, data.words(&spread))).collect(),
    };
    (0..figure.arms.len()).map(words).collect()
}
