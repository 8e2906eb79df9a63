//! What a report says of one study: its answer and its figures.

use super::extra::Extra;
use super::figure::Figure;
use super::film::Film;
use crate::error::{Error, Result};
use crate::record::{ANSWER_FILE, Answer, Environment, cautions};
use std::path::{Path, PathBuf};

/// One study of a report.
pub struct Chapter {
    /// The study's folder.
    pub folder: PathBuf,
    /// Arms, claims, provenance.
    pub answer: Answer,
    /// The figures that lie in the folder: curves, final values, and those that the study asked
    /// for.
    pub figures: Vec<Figure>,
    /// What is shown beside them and lies in no file: maps of images, contact sheets.
    pub pictures: Vec<Picture>,
    /// Outputs through training, where runs kept them.
    pub film: Option<Film>,
}

/// A picture of a page.
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// PNG bytes.
    pub png: Vec<u8>,
}

/// Sorts studies without a place in the paper behind "Sec. 6".
const LAST: &str = "~";

/// The figures that every study has, in the order of a report; those that it asks for follow.
const FIGURES: [&str; 2] = ["curves", "final"];

impl Chapter {
    /// Reads a study's folder: `answer.json`, and the figures there or in `figures/`.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no answer or a file is damaged.
    pub fn read(folder: &Path) -> Result<Chapter> {
        let answer = Answer::read(folder)?.ok_or_else(|| {
            Error::data(
                folder,
                format!("holds no {ANSWER_FILE}; `sim run` writes it when a study's runs have ended"),
            )
        })?;
        let path = |name: &str| {
            let name = format!("{name}.csv");
            let inner = folder.join("figures").join(&name);
            if inner.is_file() { inner } else { folder.join(name) }
        };
        let names = FIGURES.into_iter().chain(Extra::ALL.map(Extra::name));
        let there = names.map(path).filter(|path| path.is_file());
        let figures = there.map(|path| Figure::from_csv(&path)).collect::<Result<_>>()?;
        Ok(Chapter { folder: folder.to_path_buf(), answer, figures, pictures: Vec::new(), film: None })
    }

    /// What puts chapters into the paper's order, and those of one place by name.
    pub fn place(&self) -> (&str, &str) {
        (self.answer.paper.as_ref().map_or(LAST, |paper| &paper.r#where), &self.answer.study)
    }

    /// Claims with this verdict.
    pub fn verdicts(&self, verdict: &str) -> usize {
        self.answer.claims.iter().filter(|claim| claim.verdict == verdict).count()
    }
}

/// What a reader of several studies must know: that their runs were computed in different ways, or
/// saw different images where they asked for the same.
pub fn between(chapters: &[Chapter]) -> Vec<String> {
    let runs = |Chapter { answer, .. }: &Chapter| {
        let named = |machine: &Environment| (answer.title.clone(), machine.clone());
        answer.machines.iter().map(named).collect::<Vec<_>>()
    };
    match chapters {
        [_] => Vec::new(),
        several => cautions(&several.iter().flat_map(runs).collect::<Vec<_>>()),
    }
}

/// The verdicts, in the order in which they are counted.
pub const VERDICTS: [&str; 3] = ["reproduced", "contradicted", "undecided"];

/// The studies' folders that `path` names: itself, or those in it.
///
/// # Errors
/// [`Error::Data`] where there are none.
pub fn find(path: &Path) -> Result<Vec<PathBuf>> {
    if path.join(ANSWER_FILE).is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be listed: {e}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let folder = entry.map_err(unreadable)?.path();
        if folder.join(ANSWER_FILE).is_file() {
            found.push(folder);
        }
    }
    found.sort();
    if found.is_empty() {
        let what = format!(
            "holds no {ANSWER_FILE}, nor do the folders in it; `sim run` writes it when a study's runs have ended"
        );
        return Err(Error::data(path, what));
    }
    Ok(found)
}

/// "1 seed", "3 seeds", "7 studies".
pub fn count(n: usize, what: &str) -> String {
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        _ => format!("{n} {what}s"),
    }
}
