//! `sim man`: manual pages.

use super::flags::path;
use super::output::Output;
use crate::error::{Error, Result};
use crate::record::{make_folder, write_durable};
use clap::{ArgMatches, Command};
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Commands whose subcommands are studies: pages of those would repeat one another.
const ON_STUDIES: [&str; 3] = ["run", "sweep", "show"];

/// `sim man` and its flags.
pub fn command() -> Command {
    Command::new("man").about("Write manual pages: sim.1, and one for each command").arg(path(
        "dir",
        "DIR",
        "Where they go, such as ~/.local/share/man/man1",
    ))
}

/// Runs `sim man` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, mut command: Command, output: &Output) -> Result<i32> {
    let Some(folder) = matches.get_one::<PathBuf>("dir") else { return Ok(2) };
    make_folder(folder)?;
    for name in ON_STUDIES {
        let hidden = |studies: Command| studies.mut_subcommands(|study| study.hide(true));
        command = command.mut_subcommand(name, hidden);
    }
    command.build();
    let pages = write(&command, folder)?;
    output.line(&format!("{} in {}", super::count(pages, "page"), folder.display()))?;
    Ok(0)
}

/// Writes the page of `command` and those of its commands; how many.
fn write(command: &Command, folder: &Path) -> Result<usize> {
    let man = Man::new(command.clone()).manual("sim");
    let path = folder.join(man.get_filename());
    let mut page = Vec::new();
    man.render(&mut page).map_err(|e| Error::Failure(format!("cannot write {}: {e}", path.display())))?;
    write_durable(&path, &page)?;
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    Ok(1 + shown.map(|command| write(command, folder)).sum::<Result<usize>>()?)
}
