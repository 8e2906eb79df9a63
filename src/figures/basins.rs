//! The basins of one input direction: where the flow ends from each start.

use crate::report::{Figure, Panel, Point, Style};
use crate::theory::{Basin, Flow};

/// Starts along each axis, and how far from 0 the outermost ones lie.
const STARTS: usize = 13;
const REACH: f64 = 1.5;

/// Starts of an encoder w (columns) and a predictor p (rows) of one output, a heat map for each of
/// `flows` with its title: 1 where it ends at the outer equilibrium, 0 where it collapses, nothing
/// where it does neither; `command` asked for it.
pub fn basins(flows: &[(String, Flow)], command: &str) -> Figure {
    let at = |i: usize| REACH * (2.0 * i as f64 / (STARTS - 1) as f64 - 1.0);
    let label = |value: f64| format!("{value:.2}").replace('-', "−");
    // A heat map's first row is its lowest.
    let rows: Vec<f64> = (0..STARTS).map(at).collect();
    let name = |index: usize| format!("basins-{}", index + 1);
    let mut points = Vec::new();
    for (index, (_, flow)) in flows.iter().enumerate() {
        for (p, column) in rows.iter().flat_map(|p| (0..STARTS).map(move |column| (*p, column))) {
            let y = match flow.end(&[at(column)], &[p]) {
                Basin::Outer => 1.0,
                Basin::Zero => 0.0,
                Basin::Inner | Basin::Unresolved => continue,
            };
            points.push(Point { panel: name(index), arm: label(p), seed: 0, x: column as f64, y });
        }
    }
    let columns: Vec<String> = (0..STARTS).map(|column| label(at(column))).collect();
    let panel = |(index, (title, _)): (usize, &(String, Flow))| {
        let style = Style::Heat { columns: columns.clone(), rows: "start of the predictor p".into() };
        let y = format!("{title}: 1 stays, 0 collapses");
        Panel {
            larger_is_better: Some(true),
            ..Panel::new(&name(index), "start of the encoder w", &y, style)
        }
    };
    let radii =
        flows.first().and_then(|(_, flow)| flow.radii()).map_or_else(String::new, |[inner, outer]| {
            let (inner, outer) = (label(inner), label(outer));
            format!("at rest |w| = p = {outer} (stable), {inner} (saddle), 0 (stable)   ·   ")
        });
    Figure {
        title: "Where one direction ends".into(),
        caption: format!("{radii}{command}   ·   sim {}", env!("CARGO_PKG_VERSION")),
        arms: rows.iter().map(|p| (label(*p), label(*p))).collect(),
        panels: flows.iter().enumerate().map(panel).collect(),
        points,
    }
}
