//! The alternation in closed form, rule by rule: `linear-em`.

use crate::report::{Figure, Panel, Point, Style};
use crate::theory::{self, ClosedForm, Course, Rates};

/// Random starts.
const STARTS: u64 = 3;
/// Points of a curve, at most.
const POINTS: u64 = 60;

/// Rules by name and title.
pub type Rules = Vec<(&'static str, String, Course)>;

/// Size of W without normalisation, rank of the outputs with it, against the iteration of the outer
/// loop; `command` asked for it.
pub fn linear_em(world: &ClosedForm, rules: &Rules, rates: Rates, iterations: u64, command: &str) -> Figure {
    let mut points = Vec::new();
    for (name, _, course) in rules {
        for seed in 0..STARTS {
            let start = theory::Point::start(world, seed);
            let size = |point: &theory::Point| (&point.encoder * &point.encoder).sum().sqrt();
            let (mut free, mut kept) = (start.clone(), start.clone());
            let every = iterations.div_ceil(POINTS);
            for iteration in 0..=iterations {
                if iteration % every == 0 {
                    let rank = kept.measure(world, course).rank;
                    for (panel, y) in [("size", size(&free) / size(&start)), ("rank", rank)] {
                        let (panel, arm) = (panel.to_string(), (*name).to_string());
                        points.push(Point { panel, arm, seed, x: iteration as f64, y });
                    }
                }
                for _ in 0..course.steps() {
                    free.advance(world, course, rates);
                    kept.advance(world, course, rates);
                }
                kept.normalise(world);
            }
        }
    }
    let panel = |name: &str, y: &str| Panel::new(name, "iteration of the outer loop", y, Style::Curves);
    Figure {
        title: "The alternation in closed form: a linear encoder of Gaussian images".into(),
        caption: format!("{command}   ·   seeds: random starts   ·   sim {}", env!("CARGO_PKG_VERSION")),
        arms: rules.iter().map(|(name, title, _)| ((*name).to_string(), title.clone())).collect(),
        panels: vec![
            panel("size", "‖W‖ / ‖W‖ at the start"),
            panel("rank", "effective rank, outputs normalised"),
        ],
        points,
    }
}
