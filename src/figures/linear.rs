//! The alternation in closed form, rule by rule: `linear-em`.

use crate::error::Result;
use crate::report::{Figure, Panel, Point, Style};
use crate::rng::{Purpose, stream};
use crate::theory::{Direction, Rule, State, World};
use ndarray::{Array1, Array2};
use rand_distr::{Distribution, StandardNormal};

/// Outputs of the simulated encoder, and random starts.
const OUTPUTS: usize = 3;
const STARTS: u64 = 3;
/// Points of a curve, at most.
const POINTS: u64 = 60;

/// Rules by name and title.
pub type Rules = Vec<(&'static str, String, Rule)>;

/// Size of W without normalisation, rank of the outputs with it, against the iteration; `command`
/// asked for it.
///
/// # Errors
/// [`crate::Error::Failure`] when the directions make no world.
pub fn linear_em(directions: &[Direction], rules: &Rules, iterations: u64, command: &str) -> Result<Figure> {
    let diagonal = |values: Vec<f64>| Array2::from_diag(&Array1::from(values));
    let signal = diagonal(directions.iter().map(|direction| direction.signal).collect());
    let noise = diagonal(directions.iter().map(|direction| direction.noise).collect());
    let world = World::new(signal, &noise)?;
    let mut points = Vec::new();
    for (name, _, rule) in rules {
        for seed in 0..STARTS {
            let of_arm = |(panel, x, y): (&str, u64, f64)| Point {
                panel: panel.into(),
                arm: (*name).into(),
                seed,
                x: x as f64,
                y,
            };
            points.extend(course(&world, *rule, seed, directions.len(), iterations).into_iter().map(of_arm));
        }
    }
    let panel = |name: &str, y: &str| Panel::new(name, "iteration of the outer loop", y, Style::Curves);
    Ok(Figure {
        title: "The alternation in closed form: a linear encoder of Gaussian images".into(),
        caption: format!("{command}   ·   seeds: random starts   ·   sim {}", env!("CARGO_PKG_VERSION")),
        arms: rules.iter().map(|(name, title, _)| ((*name).to_string(), title.clone())).collect(),
        panels: vec![
            panel("size", "‖W‖ / ‖W‖ at the start"),
            panel("rank", "effective rank, outputs normalised"),
        ],
        points,
    })
}

/// (panel, iteration, value) from the random start `seed`.
fn course(
    world: &World,
    rule: Rule,
    seed: u64,
    directions: usize,
    iterations: u64,
) -> Vec<(&'static str, u64, f64)> {
    let mut rng = stream(seed, Purpose::Init, 0, 0);
    let shape = (OUTPUTS, directions);
    let mut start: Array2<f64> = Array2::from_shape_simple_fn(shape, || StandardNormal.sample(&mut rng));
    world.normalise(&mut start);
    let size = |w: &Array2<f64>| (w * w).sum().sqrt();
    let mut free = State::new(start.clone(), Array2::eye(OUTPUTS));
    let mut kept = free.clone();
    let every = iterations.div_ceil(POINTS);
    let mut measured = Vec::new();
    for iteration in 0..=iterations {
        if iteration % every == 0 {
            measured.push(("size", iteration, size(&free.encoder) / size(&start)));
            measured.push(("rank", iteration, world.effective_rank(&kept.encoder)));
        }
        world.step(rule, &mut free);
        world.step(rule, &mut kept);
        world.normalise(&mut kept.encoder);
    }
    measured
}
