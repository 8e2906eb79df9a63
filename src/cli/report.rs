//! `sim report`: finished studies as one page, or as tables for a text.

use super::flags::{option, path, path_option, switch};
use super::output::Output;
use super::{found, seen};
use crate::error::{Error, Result};
use crate::figures::film;
use crate::record::{write_durable, write_where_told};
use crate::report::{Chapter, Format, find, page, text};
use clap::{ArgAction, ArgMatches, Command};
use std::path::{Path, PathBuf};

/// The name of the page that `sim run` leaves beside its results.
pub const REPORT: &str = "report.html";

/// `sim report` and its flags.
pub fn command() -> Command {
    Command::new("report")
        .about("Write finished studies as one HTML page, or as Markdown or LaTeX tables")
        .arg(
            path("runs", "RUNS", "Studies' folders (runs/multistep), or folders of them (runs)")
                .action(ArgAction::Append)
                .num_args(1..),
        )
        .arg(
            option(
                "format",
                "FORMAT",
                "html: one page that needs nothing else; md, latex: tables, LaTeX's with booktabs",
            )
            .value_parser(["html", "md", "latex"])
            .default_value("html"),
        )
        .arg(path_option(
            "out",
            "FILE",
            "Where to write [default: report.html; md and latex go to standard output]",
        ))
        .arg(switch(
            "maps",
            "Add maps and nearest neighbours of held-out images, by the arms with the best and the worst kNN",
        ))
}

/// Runs `sim report` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in matches.get_many::<PathBuf>("runs").into_iter().flatten() {
        folders.extend(find(path)?);
    }
    let format = match matches.get_one::<String>("format").map(String::as_str) {
        Some("md") => Some(Format::Markdown),
        Some("latex") => Some(Format::Latex),
        _ => None,
    };
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let out = matches.get_one::<PathBuf>("out");
    let maps = matches.get_flag("maps");
    if maps && format.is_some() {
        return Err(Error::Usage("--maps: tables hold no pictures; leave --format out".into()));
    }
    let path = match (format, out) {
        (None, out) => {
            let mut chapters = chapters(&folders)?;
            if maps {
                chapters.iter_mut().try_for_each(seen::add)?;
            }
            let page = page(&chapters)?;
            match out {
                Some(out) => write_where_told(out, page.as_bytes())?,
                None => write_durable(Path::new(REPORT), page.as_bytes())?,
            }
            out.cloned().unwrap_or_else(|| REPORT.into())
        }
        (Some(format), Some(out)) => {
            write_where_told(out, text(&chapters(&folders)?, format).as_bytes())?;
            out.clone()
        }
        (Some(format), None) => {
            output.line(text(&chapters(&folders)?, format).trim_end())?;
            return Ok(0);
        }
    };
    output.tell_of(&path, &path.display().to_string())?;
    Ok(0)
}

/// Writes the page about the studies in `folders` to `path`, and returns it.
pub fn write(folders: &[&Path], path: &Path) -> Result<PathBuf> {
    write_durable(path, page(&chapters(folders)?)?.as_bytes())?;
    Ok(path.to_path_buf())
}

/// The studies in the paper's order.
fn chapters(folders: &[&Path]) -> Result<Vec<Chapter>> {
    let mut chapters = folders.iter().map(|folder| Chapter::read(folder)).collect::<Result<Vec<_>>>()?;
    for chapter in &mut chapters {
        chapter.film = film(&chapter.answer, &chapter.folder)?;
        found::add(chapter)?;
    }
    chapters.sort_by(|a, b| a.place().cmp(&b.place()));
    Ok(chapters)
}
