//! Standard output, which a reader may close at any time.

use super::printable::printable;
use super::table;
use crate::error::{Error, Result};
use crate::threads::lock;
use console::Term;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Characters of a line where neither a terminal nor a person says how many there are.
const WIDTH: usize = 80;
/// A person's word on it, as shells have it.
const COLUMNS: &str = "COLUMNS";

/// Where results go.
pub struct Output {
    writer: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
    /// The terminal's characters in a line; none where standard output is no terminal.
    terminal: Option<usize>,
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Self {
        let terminal = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        let closed = AtomicBool::new(false);
        Self { writer: Mutex::new(Box::new(std::io::stdout())), closed, terminal }
    }

    /// Writes a table, as wide as the terminal at most; in files and pipes 80 characters, or as
    /// many as the variable `COLUMNS` says.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn table(&self, rows: &[Vec<String>]) -> Result<()> {
        let shown = |row: &Vec<String>| row.iter().map(|cell| printable(cell).into_owned()).collect();
        self.lines(&table::table(&rows.iter().map(shown).collect::<Vec<_>>(), self.width()))
    }

    /// Characters that a line of a table may have.
    pub fn width(&self) -> usize {
        let asked = || std::env::var(COLUMNS).ok()?.trim().parse().ok().filter(|columns| *columns > 0);
        self.terminal.or_else(asked).unwrap_or(WIDTH)
    }

    /// Writes a line of prose. On a terminal that is too narrow it is broken between words, and its
    /// further lines begin with `indent` spaces; files and pipes have it whole, for `grep`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn prose(&self, text: &str, indent: usize) -> Result<()> {
        match self.terminal {
            Some(width) => text
                .split('\n')
                .try_for_each(|line| self.lines(&table::hanging(&printable(line), indent, width))),
            None => self.line(text),
        }
    }

    /// Writes a line, at once; what a terminal would act on is shown instead.
    ///
    /// # Errors
    /// [`Error::Disk`] when it cannot be written; where the reader has gone, [`Output::is_closed`]
    /// is true then.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut writer = lock(&self.writer);
        let written = writeln!(writer, "{}", printable(text)).and_then(|()| writer.flush());
        if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        written.map_err(Error::disk(Path::new("standard output"), "write the result"))
    }

    /// Writes `lines`, one after the other.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn lines(&self, lines: &[String]) -> Result<()> {
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// Tells, by `text`, of the file `path` that was written: on stderr where that file is standard
    /// output itself.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn tell_of(&self, path: &Path, text: &str) -> Result<()> {
        if is_standard_output(path) {
            super::note(text);
            return Ok(());
        }
        self.line(text)
    }

    /// Whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Whether `path` leads to what standard output is.
#[cfg(unix)]
fn is_standard_output(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(path).is_some_and(|file| Some(file) == identity(Path::new("/dev/stdout")))
}

#[cfg(not(unix))]
fn is_standard_output(_: &Path) -> bool {
    false
}
