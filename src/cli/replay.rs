//! `sim replay`: trains on given batches from given weights and prints the trajectory, so that
//! anyone can compare the trainer with another framework.

use super::flags::{device_flag, json_flag, path, place};
use super::output::Output;
use crate::device;
use crate::error::Result;
use crate::kernel::{Precision, direct_sums};
use crate::train::{self, Case, Trajectory};
use clap::{ArgMatches, Command};
use serde_json::json;
use std::path::PathBuf;

/// `sim replay` and its flags.
pub fn command() -> Command {
    Command::new("replay")
        .about("Train on the batches of a case from its weights; print step,loss,lr,z_std as CSV")
        .arg(path("case", "CASE", "A safetensors file with encoder.*, predictor.*, views.1, views.2"))
        .args([device_flag(), json_flag()])
}

/// Runs `sim replay` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let Some(path) = matches.get_one::<PathBuf>("case") else { return Ok(2) };
    let json = matches.get_flag("json");
    let case = Case::read(path)?;
    if !json {
        output.line("step,loss,lr,z_std")?;
    }
    let mut diverged = false;
    // The forced kernel where there is one; otherwise direct sums, which keep a comparison
    // comparable.
    let kernel = match device::forced_kernel() {
        Some(name) => device::kernel_named(Some(&name), Precision::F32)?,
        None => direct_sums()?,
    };
    let site = place(matches)?.open()?;
    let mut line = |row: &Trajectory| {
        diverged |= !row.loss.is_finite();
        output.line(&match json {
            true => json!({"step": row.step, "loss": row.loss, "lr": row.lr, "z_std": row.z_std}).to_string(),
            false => format!("{},{},{},{}", row.step, row.loss, row.lr, row.z_std),
        })
    };
    site.guard(|| train::replay_with(&case, &kernel, &|model| model.on(&site), &mut line).map(drop))?;
    Ok(if diverged { 3 } else { 0 })
}
