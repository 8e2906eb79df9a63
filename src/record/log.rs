//! A file that only grows, by whole records.

use super::digest::{Digested, Digesting};
use super::durable::{parent, sync_folder};
use crate::error::{Error, Result};
use crate::files;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An append-only file that is cut back to whole records when a write fails. Its methods fail with
/// [`Error::Disk`].
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// Length and digest of all that was appended.
    whole: Digesting,
}

impl Log {
    /// Opens `path` for appending; creates it where it is missing.
    ///
    /// # Errors
    /// [`Error::Data`] for what is no regular file, [`Error::Disk`] where the system refuses.
    pub fn open(path: PathBuf) -> Result<Log> {
        files::check_regular(&path)?;
        let open = OpenOptions::new().append(true).create(true).open(&path);
        let file = open.map_err(Error::disk(&path, "open the log"))?;
        let metadata = file.metadata().map_err(Error::disk(&path, "open the log"))?;
        let whole = digest(&path, metadata.len())?;
        sync_folder(parent(&path)).map_err(Error::disk(&path, "create the log"))?;
        Ok(Log { file, path, whole })
    }

    /// Appends one record.
    pub fn append(&mut self, record: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(record) {
            // Half a record would damage the file; the error of the write is the one to report.
            drop(self.file.set_len(self.len_bytes()));
            return Err(Error::disk(&self.path, "append to the log")(error));
        }
        self.whole.pass(record);
        Ok(())
    }

    /// Cuts the file back to `len_bytes`.
    pub fn cut(&mut self, len_bytes: u64) -> Result<()> {
        self.file.set_len(len_bytes).map_err(Error::disk(&self.path, "cut the log back"))?;
        self.whole = digest(&self.path, len_bytes)?;
        Ok(())
    }

    /// Brings everything appended to the disk and returns its name, length and digest.
    pub fn sync(&self) -> Result<(String, Digested)> {
        self.file.sync_all().map_err(Error::disk(&self.path, "write the log to the disk"))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, self.whole.digested()))
    }

    /// Its length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.whole.len_bytes()
    }
}

/// The digest of the first `limit` bytes of a log.
fn digest(path: &Path, limit: u64) -> Result<Digesting> {
    let digest = File::open(path).and_then(|file| Digesting::of(file, limit));
    digest.map_err(Error::disk(path, "read the log"))
}
