//! `sim theory --growth`: how fast the eigenvalues of E\[z zᵀ\] grow where h is set from them.

use super::output::Output;
use crate::error::Result;
use crate::figures;
use crate::record::make_folder;
use crate::theory::{ClosedForm, Course, Direction, Law, Point, Prediction, Rates, Targets};
use clap::ArgMatches;
use ndarray::Array2;
use serde_json::json;
use std::path::Path;

/// Where all eigenvalues begin: small, so that there is something to grow.
const START: f64 = 0.01;
/// Powers of F.
const ALPHAS: [f64; 2] = [0.5, 1.0];
/// The recursion's steps and their learning rate.
const STEPS: u64 = 1000;
const RATE: f64 = 1e-3;
/// How far the figure goes: learning rates in all.
const TIME: f64 = 10.0;

/// Runs `sim theory --growth` in `world`, with a figure in `folder` where one is asked for; the exit
/// code.
pub fn run(matches: &ArgMatches, world: &ClosedForm, folder: Option<&Path>, output: &Output) -> Result<i32> {
    let directions = Direction::of(world);
    let json = matches.get_flag("json");
    let labels = directions.iter().map(|direction| format!("λ={}", direction.signal));
    let head = [format!("ḟ/f at f = {START}"), "α".to_string()];
    let mut rows = vec![head.into_iter().chain(labels).chain(["off by".to_string()]).collect::<Vec<_>>()];
    for alpha in ALPHAS {
        for law in Law::ALL {
            let rates: Vec<f64> =
                directions.iter().map(|direction| law.rate(*direction, alpha, START)).collect();
            let off = departure(world, &directions, law, alpha);
            if json {
                let line =
                    json!({"law": law.name(), "alpha": alpha, "f": START, "rates": rates, "off_by": off});
                output.line(&line.to_string())?;
                continue;
            }
            let cells = rates.iter().map(|rate| format!("{rate:.3}"));
            let off = off.map_or("-".to_string(), |off| format!("{:.1} %", 100.0 * off));
            rows.push(
                [law.name().to_string(), alpha.to_string()].into_iter().chain(cells).chain([off]).collect(),
            );
        }
    }
    if !json {
        output.table(&rows)?;
        let below = format!(
            "\nGrowth per unit of the learning rate. Off by: how far eigenvalues are from the law after {STEPS} steps of \
             {RATE} of the recursion, where it has such."
        );
        output.prose(&below, 0)?;
    }
    if let Some(folder) = folder {
        make_folder(folder)?;
        let figure = figures::laws(world, ALPHAS[0], (START, TIME), &super::as_given::as_given());
        for path in figure.save(&folder.join("growth"))? {
            if !json {
                output.line(&path.display().to_string())?;
            }
        }
    }
    Ok(0)
}

/// By how much, as a part, an eigenvalue differs at most from its law after steps of the recursion,
/// W being diagonal; none for a law that the recursion does not have.
fn departure(world: &ClosedForm, directions: &[Direction], law: Law, alpha: f64) -> Option<f64> {
    let prediction = match law {
        Law::Gradient => Prediction::Direct { alpha, isotropic: false },
        Law::Isotropic => Prediction::Direct { alpha, isotropic: true },
        Law::NoPredictor => Prediction::Absent,
        Law::NoStopGradient => return None,
    };
    let course = Course {
        targets: Targets::Updated { m: 0.0, k: 1, batches: 1 },
        prediction,
        exact: false,
        normalised: false,
        decay: 0.0,
        predictor_decay: 0.0,
    };
    let n = directions.len();
    let square = ClosedForm { outputs: n, ..world.clone() };
    let mut point = Point::start(&square, 0);
    let size = |i: usize| (START / (directions[i].signal + directions[i].noise)).sqrt();
    point.encoder = Array2::from_shape_fn((n, n), |(i, j)| if i == j { size(i) } else { 0.0 });
    for _ in 0..STEPS {
        point.advance(&square, &course, Rates { encoder: RATE, predictor: 0.0 });
    }
    let f = point.covariance(&square);
    let off = |i: usize| {
        let expected = law.after(directions[i], alpha, START, STEPS as f64 * RATE);
        (f[[i, i]] / expected - 1.0).abs()
    };
    Some((0..n).map(off).fold(0.0, f64::max))
}
