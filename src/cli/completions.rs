//! `sim completions`: what a shell needs to complete `sim`'s arguments.

use super::output::Output;
use crate::error::Result;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::{Shell, generate};

/// `sim completions` and its flags.
pub fn command() -> Command {
    Command::new("completions").about("Print a completion script for a shell").arg(
        Arg::new("shell")
            .value_name("SHELL")
            .required(true)
            .value_parser(value_parser!(Shell))
            .help("The shell"),
    )
}

/// Runs `sim completions` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, mut command: Command, output: &Output) -> Result<i32> {
    let mut script = Vec::new();
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        generate(*shell, &mut command, "sim", &mut script);
    }
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(0)
}
