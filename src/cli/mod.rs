//! The command line: one file per command. The only room that prints.
//!
//! Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failure, 2 usage or
//! configuration, 3 diverged, 4 bad data, 5 disk, 6 directory in use, 75 stopped by a signal after
//! a checkpoint (a second signal quits at once with 128 and its number). A reader that closes
//! stdout early is no failure.

mod answer;
mod as_given;
mod bar;
mod basins;
mod begin;
mod collapse;
mod compare;
mod completions;
mod data;
mod doctor;
mod embed;
mod eval;
mod export;
mod fetch;
mod film;
mod flags;
mod found;
mod growth;
mod hours;
mod list;
mod make;
mod man;
mod map;
mod memory;
mod neighbours;
mod objects;
mod output;
mod plan;
mod plot;
mod precision;
mod pretrained;
mod printable;
mod progress;
mod ranks;
mod recognise;
mod replay;
mod report;
mod run;
mod seen;
mod settings;
mod show;
mod signals;
mod slurm;
mod stderr;
mod submit;
mod sweep;
mod sweep_answer;
mod table;
mod theory;
mod track;
mod transfer;
mod until;

use crate::error::{Error, Result};
use crate::report::count;
use crate::study::Study;
use clap::Command;
use output::Output;
use printable::printable;
use std::ffi::OsString;
use stderr::{complain, note};

/// Runs the program on `args`, of which the first is its own name, and returns the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    let output = Output::stdout();
    let code = match dispatch(args, &output) {
        Ok(code) => code,
        Err(_) if output.is_closed() => 0,
        Err(error) => {
            complain(&error);
            error.exit_code()
        }
    };
    crate::device::ranks::leave();
    code
}

fn dispatch(args: Vec<OsString>, output: &Output) -> Result<i32> {
    signals::make_exit_codes()?;
    let own = own_study(&args)?;
    let studies: Vec<Study> = Study::all()?.into_iter().chain(own).collect();
    let matches = match command(&studies).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help goes to stdout with code 0, mistakes to stderr with code 2; a closed pipe is
            // neither.
            let plain = error.render().to_string();
            match printable(&plain) {
                // In colours, as long as nothing in the arguments acts on the terminal.
                text if text == plain => drop(error.print()),
                text => note(text.trim_end()),
            }
            return Ok(error.exit_code());
        }
    };
    match matches.subcommand() {
        Some(("run", matches)) => run::run(matches, &studies, output),
        Some(("submit", matches)) => submit::run(matches, &studies, output),
        Some(("sweep", matches)) => sweep::run(matches, &studies, output),
        Some(("list", matches)) => list::run(matches, &studies, output),
        Some(("show", matches)) => show::run(matches, &studies, output),
        Some(("plot", matches)) => plot::run(matches, output),
        Some(("compare", matches)) => compare::run(matches, output),
        Some(("report", matches)) => report::run(matches, output),
        Some(("data", matches)) => data::run(matches, output),
        Some(("doctor", matches)) => doctor::run(matches, output),
        Some(("eval", matches)) => eval::run(matches, output),
        Some(("embed", matches)) => embed::run(matches, output),
        Some(("film", matches)) => film::run(matches, output),
        Some(("export", matches)) => export::run(matches, output),
        Some(("map", matches)) => map::run(matches, output),
        Some(("neighbours", matches)) => neighbours::run(matches, output),
        Some(("transfer", matches)) => transfer::run(matches, output),
        Some(("theory", matches)) => theory::run(matches, output),
        Some(("replay", matches)) => replay::run(matches, output),
        Some(("man", matches)) => man::run(matches, command(&studies), output),
        Some(("completions", matches)) => completions::run(matches, command(&studies), output),
        _ => Err(Error::Failure("a command without an implementation".into())),
    }
}

/// The whole command line.
fn command(studies: &[Study]) -> Command {
    Command::new("sim")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A laboratory for the hypothesis that SimSiam is an EM-like alternation")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .subcommand(run::command(studies))
        .subcommand(submit::command(studies))
        .subcommand(sweep::command(studies))
        .subcommand(list::command())
        .subcommand(show::command(studies))
        .subcommand(plot::command())
        .subcommand(compare::command())
        .subcommand(report::command())
        .subcommand(data::command())
        .subcommand(doctor::command())
        .subcommand(eval::command())
        .subcommand(embed::command())
        .subcommand(film::command())
        .subcommand(export::command())
        .subcommand(map::command())
        .subcommand(neighbours::command())
        .subcommand(transfer::command())
        .subcommand(replay::command())
        .subcommand(theory::command())
        .subcommand(completions::command())
        .subcommand(man::command())
        .after_help(
            "Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 diverged, 4 bad data, 5 disk,\n\
             6 directory in use, 75 stopped by a signal after a checkpoint.",
        )
}

/// The study file that `sim run ./mine.toml`, `sim show` or `sim sweep` names, so that its flags
/// become flags.
fn own_study(args: &[OsString]) -> Result<Option<Study>> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    if !matches!(args.get(1).map(AsRef::as_ref), Some("run" | "show" | "submit" | "sweep")) {
        return Ok(None);
    }
    let takes_path = |flag: &str| ["--out", "--data", "--set", "--over", "--arm"].contains(&flag);
    let path = args
        .windows(2)
        .find(|pair| pair[1].ends_with(".toml") && !pair[1].starts_with('-') && !takes_path(&pair[0]));
    path.map(|pair| Study::find(&pair[1])).transpose()
}
