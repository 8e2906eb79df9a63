//! `sim plot`: draws a run's figures again from their CSV files alone.

use super::output::Output;
use crate::error::{Error, Result};
use crate::report::Figure;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};

/// The command.
pub fn command() -> Command {
    Command::new("plot").about("Draw figures again from their CSV files").arg(
        Arg::new("run")
            .value_name("RUN")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("A study's folder (runs/multistep), its figures folder, or one figure's CSV"),
    )
}

/// Runs it.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let Some(run) = matches.get_one::<PathBuf>("run") else { return Ok(2) };
    for csv in csv_files(run)? {
        for path in Figure::from_csv(&csv)?.draw(&csv.with_extension(""))? {
            output.line(&path.display().to_string())?;
        }
    }
    Ok(0)
}

fn csv_files(run: &Path) -> Result<Vec<PathBuf>> {
    if run.is_file() {
        return Ok(vec![run.to_path_buf()]);
    }
    let inner = run.join("figures");
    let folder = if inner.is_dir() { inner } else { run.to_path_buf() };
    let unreadable = |e: std::io::Error| Error::data(&folder, format!("cannot be listed: {e}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // summary.csv and claims.csv may lie beside the figures.
        if path.extension().is_some_and(|extension| extension == "csv") && Figure::is_csv(&path) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::data(&folder, "has no figure's CSV; run the study first"));
    }
    Ok(files)
}
