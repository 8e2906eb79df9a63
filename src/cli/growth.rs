//! `sim theory --growth`: how fast the eigenvalues of E\[z zᵀ\] grow where h is set from them.

use super::output::Output;
use crate::error::Result;
use crate::figures;
use crate::record::make_folder;
use crate::theory::{ClosedForm, Direction, Law};
use clap::ArgMatches;
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

/// Runs `sim theory --growth` in `world`, with a figure in `folder` where one is asked for; the
/// exit code.
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
            let off = law.departure(world, alpha, START, (STEPS, RATE));
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
