//! Eigenvalues of E\[z zᵀ\] along training beside the growth that the closed form expects of them.

use super::runs::{Run, points_of};
use crate::error::Result;
use crate::measure::estimate::spearman;
use crate::recipe::{Predictor, Recipe};
use crate::record::{METRICS_FILE, read_metrics};
use crate::report::{Figure, Panel, Point, Style};
use crate::theory::{ClosedForm, Direction, Law, cosine_rates};
use crate::train::{read_eigenvalues, recipe_of};
use std::path::Path;

/// Which eigenvalues are drawn, as parts of their number: the largest, the middle one and one near
/// the end.
const DRAWN: [(&str, &str, f64); 3] = [
    ("largest", "largest eigenvalue of the outputs", 0.0),
    ("middle", "the middle eigenvalue", 0.5),
    ("small", "one at nine tenths", 0.9),
];
/// Eigenvalues below this share of the largest are left out of the comparison: noise.
const LEAST: f64 = 1e-6;
/// Points of a curve in closed form.
const POINTS: usize = 60;

/// What the title of the figure of `runs` adds to the study's, its caption `said`, panels and
/// points.
///
/// # Errors
/// [`crate::Error::Data`] for results that are damaged.
pub fn of(runs: &[Run], said: String) -> Result<(&'static str, String, Vec<Panel>, Vec<Point>)> {
    let (mut panels, mut points) = (Vec::new(), Vec::new());
    for (name, title, part) in DRAWN {
        panels.push(Panel::new(name, "epoch", title, Style::LogCurves));
        points.extend(points_of(runs, name, |run| {
            let at = |values: &Vec<f32>| values.get((part * values.len() as f64) as usize).copied();
            let all = measured(run)?.into_iter();
            let of_index = all.filter_map(|(epoch, values)| Some((epoch, f64::from(at(&values)?))));
            Ok(of_index.filter(|(_, value)| *value > 0.0).collect())
        })?);
    }
    let y = "Spearman's correlation of growth with its law";
    panels.push(Panel::new("agreement", "epoch", y, Style::Curves));
    points.extend(points_of(runs, "agreement", agreement)?);
    Ok(("eigenvalues and their growth", said, panels, points))
}

/// (epoch, eigenvalues, largest first) of the measurements of a run.
fn measured(run: &Path) -> Result<Vec<(f64, Vec<f32>)>> {
    let epochs = read_metrics(&run.join(METRICS_FILE))?.points("epoch", "val/rankme");
    let epochs = epochs.into_iter().map(|(epoch, _)| epoch);
    Ok(epochs.zip(read_eigenvalues(run)?).collect())
}

/// (epoch, rank correlation over eigenvalues of their growth since the measurement before with the
/// growth that [`cosine_rates`] expects there) of a run whose h is set from them. Eigenvalues are
/// told apart by their order alone.
fn agreement(run: &Path) -> Result<Vec<(f64, f64)>> {
    let recipe = recipe_of(run)?;
    let Some(h) = of_h(&recipe) else { return Ok(Vec::new()) };
    let isotropic = recipe.objective.comparison.name() == "isotropic";
    let measured = measured(run)?;
    let between = |pair: &[(f64, Vec<f32>)]| {
        let [(_, before), (epoch, after)] = pair else { return None };
        let f: Vec<f64> = before.iter().map(|f| f64::from(*f)).collect();
        let largest = f.first().copied().unwrap_or(0.0);
        let expected = cosine_rates(&f, &h(&f), isotropic);
        let grown = after.iter().zip(&f).map(|(after, before)| (f64::from(*after) / before).ln());
        let pairs = expected.into_iter().zip(grown).zip(&f);
        let pairs: Vec<(f64, f64)> =
            pairs.filter(|(_, f)| **f > LEAST * largest).map(|(pair, _)| pair).collect();
        Some((
            *epoch,
            spearman(&pairs.into_iter().filter(|(_, grown)| grown.is_finite()).collect::<Vec<_>>())?,
        ))
    };
    Ok(measured.windows(2).filter_map(between).collect())
}

/// h's eigenvalues from those of E\[z zᵀ\], where it is set from them.
fn of_h(recipe: &Recipe) -> Option<impl Fn(&[f64]) -> Vec<f64> + use<>> {
    let Predictor::Direct(config) = recipe.predictor.clone() else { return None };
    Some(move |f: &[f64]| {
        let largest = f.iter().fold(f64::MIN_POSITIVE, |largest: f64, f| largest.max(*f));
        f.iter().map(|f| config.of_eigenvalue(*f, largest)).collect()
    })
}

/// Eigenvalues by each law of [`Law`] along the directions of `world`, all of which begin at
/// `start`, until the learning rates come to `time`; `command` asked for it.
pub fn laws(world: &ClosedForm, alpha: f64, (start, time): (f64, f64), command: &str) -> Figure {
    let directions = Direction::of(world);
    let name = |direction: &Direction| format!("λ = {}, σ = {}", direction.signal, direction.noise);
    let mut points = Vec::new();
    for law in Law::ALL {
        for direction in &directions {
            let mut f = start;
            for at in 0..=POINTS {
                let step = time / POINTS as f64;
                if at > 0 {
                    f = law.after(*direction, alpha, f, step);
                }
                let (panel, arm) = (law.name().to_string(), name(direction));
                points.push(Point { panel, arm, seed: 0, x: at as f64 * step, y: f });
            }
        }
    }
    let panel = |law: Law| {
        let y = match law {
            Law::Gradient => "h and stop-gradient",
            Law::Isotropic => "the same, isotropic",
            Law::NoPredictor => "no h",
            Law::NoStopGradient => "h, no stop-gradient",
        };
        Panel::new(law.name(), "steps × learning rate", y, Style::LogCurves)
    };
    Figure {
        title: "Eigenvalues of the outputs in closed form".into(),
        caption: format!("h = F^{alpha}   ·   {command}   ·   sim {}", env!("CARGO_PKG_VERSION")),
        arms: directions.iter().map(|direction| (name(direction), name(direction))).collect(),
        panels: Law::ALL.map(panel).to_vec(),
        points,
    }
}
