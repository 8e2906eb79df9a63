//! `sim plot`: draws a run's figures again from their CSV files alone.

use super::flags::path;
use super::output::Output;
use crate::error::Result;
use crate::report::Figure;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `sim plot` and its flags.
pub fn command() -> Command {
    Command::new("plot").about("Draw figures again from their CSV files").arg(path(
        "run",
        "RUN",
        "A study's folder (runs/multistep), its figures folder, or one figure's CSV",
    ))
}

/// Runs `sim plot` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let Some(run) = matches.get_one::<PathBuf>("run") else { return Ok(2) };
    for csv in Figure::files(run)? {
        for path in Figure::from_csv(&csv)?.draw(&csv.with_extension(""))? {
            output.line(&path.display().to_string())?;
        }
    }
    Ok(0)
}
