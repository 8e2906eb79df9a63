//! Files that are either whole or not there: write beside, sync, rename, sync the folder.
//!
//! The mode of a file comes from the umask (0666 before it), never from a temporary-file library.

use crate::error::{Error, Result};
use crate::files;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that begin so are unfinished; whoever holds the folder's lock may remove them.
pub const TEMPORARY: &str = ".tmp-";

/// Writes `bytes` to `path` so that a crash at any moment leaves the old file or the new one, whole.
///
/// # Errors
/// [`Error::Disk`] naming `path`; then the old file is untouched and no temporary file stays behind.
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path);
    let attempt = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(parent(path))
    })();
    attempt.map_err(|source| {
        // The write has failed already; what matters is to give back the space it took.
        let _ = fs::remove_file(&temporary);
        Error::Disk { path: path.to_path_buf(), action: "write the file", source }
    })
}

/// A name for something unfinished in the folder of `path`, unique on this machine.
pub fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}-{}-{count}", std::process::id()))
}

/// The folder in which `path` lies.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in `folder` survive a power cut.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere a rename is durable by itself.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes what an earlier process left unfinished in `folder`. Needs the run's lock.
pub fn remove_temporaries(folder: &Path) -> Result<()> {
    for name in names(folder)? {
        if name.starts_with(TEMPORARY) {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// The names in `folder`, sorted; names that are not UTF-8 are nobody's here and left out.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::disk(folder, "list the folder"))? {
        let entry = entry.map_err(Error::disk(folder, "list the folder"))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Removes a file or a whole folder; a link is removed, never followed. Nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::disk(path, "remove what an earlier run left")(error))
        }
        _ => Ok(()),
    }
}

/// The bytes of the file, at most `most`, or `None` where there is none.
///
/// # Errors
/// [`Error::Data`] for what is no regular file or longer, [`Error::Disk`] where reading is refused.
pub fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match files::read(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if files::is_refusal(&error) => Err(Error::data(path, format!("cannot be read: {error}"))),
        Err(error) => Err(Error::disk(path, "read the file")(error)),
    }
}
