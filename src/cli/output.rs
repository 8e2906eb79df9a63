//! Standard output, which a reader may close at any time.

use super::printable::printable;
use crate::error::{Error, Result};
use crate::threads::lock;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where results go.
pub struct Output {
    writer: Mutex<Box<dyn Write + Send>>,
    closed: AtomicBool,
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Self {
        Self { writer: Mutex::new(Box::new(std::io::stdout())), closed: AtomicBool::new(false) }
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
