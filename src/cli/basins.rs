//! `sim theory --basins`: where the flow of one direction ends, from random starts.

use super::output::Output;
use crate::error::Result;
use crate::figures;
use crate::record::make_folder;
use crate::theory::{Basin, Direction, Flow, Trial};
use clap::ArgMatches;
use rayon::prelude::*;
use serde_json::json;
use std::path::PathBuf;

/// Trials at most: a minute.
pub const MOST_TRIALS: u64 = 1_000_000;
/// κ of the momentum encoders that are tried; the source does not say its own.
const RATES: [f64; 2] = [0.1, 0.01];
/// Outputs that are tried; the source does not say its own.
const OUTPUTS: [usize; 2] = [1, 2];
/// The direction of the figure: its outer radius is 0.5, its inner one 0.1.
const SHOWN: Flow =
    Flow { direction: Direction { signal: 0.6, noise: 0.4 }, decay: 0.1, momentum_encoder: None };
/// What the source reports of 10,000 trials: shares in percent that end at the outer equilibrium.
const REPORTED: [f64; 2] = [82.0, 92.8];

/// How many of `trials` trials end in each basin, in percent: outer, 0, inner, unresolved.
fn shares(trials: u64, outputs: usize, momentum_encoder: Option<f64>) -> [f64; 4] {
    let place = |index: u64| {
        let trial = Trial::draw(0, index, outputs);
        let flow = Flow { momentum_encoder, ..trial.flow };
        match flow.end(&trial.encoder, &trial.predictor) {
            Basin::Outer => 0,
            Basin::Zero => 1,
            Basin::Inner => 2,
            Basin::Unresolved => 3,
        }
    };
    let ends: Vec<usize> = (0..trials).into_par_iter().map(place).collect();
    let counts = [0, 1, 2, 3].map(|place| ends.iter().filter(|end| **end == place).count());
    counts.map(|count| 100.0 * count as f64 / trials.max(1) as f64)
}

/// Runs `sim theory --basins` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let trials = matches.get_one::<u64>("trials").copied().unwrap_or_default();
    let json = matches.get_flag("json");
    let header = ["target", "outputs", "outer %", "0 %", "inner %", "open %", "reported outer %"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for rate in std::iter::once(None).chain(RATES.map(Some)) {
        for outputs in OUTPUTS {
            let ends = shares(trials, outputs, rate);
            let reported = REPORTED[usize::from(rate.is_some())];
            if json {
                let [outer, zero, inner, unresolved] = ends;
                let line = json!({
                    "momentum_encoder": rate, "outputs": outputs, "trials": trials, "outer": outer, "zero": zero,
                    "inner": inner, "unresolved": unresolved, "reported_outer": reported,
                });
                output.line(&line.to_string())?;
                continue;
            }
            let target = rate.map_or("fresh".to_string(), |rate| format!("momentum encoder, κ = {rate}"));
            let cells = ends.map(|share| format!("{share:.1}"));
            let row = [target, outputs.to_string()].into_iter().chain(cells);
            rows.push(row.chain([format!("{reported:.1}")]).collect());
        }
    }
    if !json {
        output.table(&rows)?;
        let below = "\nDirections are drawn until they have an equilibrium beside 0, λ² ≥ 2cμ; starts are normal numbers. \
                     Reported: Ponce, Hebert & Terver 2025, whose outputs, starts and κ are not known.";
        output.prose(below, 0)?;
    }
    if let Some(folder) = matches.get_one::<PathBuf>("out") {
        make_folder(folder)?;
        let slow = Flow { momentum_encoder: Some(RATES[0]), ..SHOWN };
        let flows =
            [("fresh target".to_string(), SHOWN), (format!("momentum encoder, κ = {}", RATES[0]), slow)];
        let figure = figures::basins(&flows, &super::as_given::as_given());
        for path in figure.save(&folder.join("basins"))? {
            if !json {
                output.line(&path.display().to_string())?;
            }
        }
    }
    Ok(0)
}
