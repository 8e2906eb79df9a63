//! `sim film`: outputs of the same images through training, arm beside arm, in motion.

use super::flags::{path, path_option};
use super::output::Output;
use crate::error::{Error, Result};
use crate::figures::film;
use crate::record::make_folder;
use crate::report::{Chapter, find};
use clap::{ArgMatches, Command};
use std::path::PathBuf;

/// `sim film` and its flags.
pub fn command() -> Command {
    Command::new("film")
        .about("Show outputs of the same images through training, arm beside arm, of runs with --set measure.film=64")
        .arg(path("study", "STUDY", "A study's folder, such as runs/stopgrad"))
        .arg(
            path_option("out", "DIR", "Where film.html, film.png and film.csv go")
                .default_value("."),
        )
}

/// Runs `sim film` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(study), Some(out)) = (matches.get_one::<PathBuf>("study"), matches.get_one::<PathBuf>("out"))
    else {
        return Ok(2);
    };
    let folders = find(study)?;
    let [folder] = &folders[..] else {
        let message = format!("{} holds {} studies; name the folder of one", study.display(), folders.len());
        return Err(Error::Usage(message));
    };
    let chapter = Chapter::read(folder)?;
    let Some(film) = film(&chapter.answer, folder)? else {
        let what = "has no run that kept outputs of its images; make them with --set measure.film=64";
        return Err(Error::data(folder, what));
    };
    make_folder(out)?;
    for path in film.save(&out.join("film"))? {
        output.tell_of(&path, &path.display().to_string())?;
    }
    Ok(0)
}
