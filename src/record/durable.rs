//! Files that are either whole or not there: write beside, sync, rename, sync the folder.
//!
//! The mode of a file comes from the umask (0666 before it), never from a temporary-file library. A
//! file beside is locked while it is written: whoever can lock one knows that its writer is gone,
//! and removes it.
//!
//! Where nothing else is said functions fail with [`Error::Disk`], naming the path.

use crate::error::{Error, Result};
use crate::files;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that begin so are unfinished.
const TEMPORARY: &str = ".tmp-";
/// Links that are followed, one after the other; more are a circle.
const MOST_LINKS: usize = 40;

/// Writes `bytes` to `path` so that a crash at any moment leaves the old file or the new one,
/// whole.
///
/// A link to a regular file stays, and that file is written. A pipe, a device or a link to one is
/// replaced by a file: a pipe would wait for a reader who may never come, and a device may lose the
/// bytes. Files that killed writers of `path` left beside it are removed.
///
/// # Errors
/// [`Error::Disk`] naming `path`; then the old file is untouched and no temporary file stays
/// behind.
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = destination(path).and_then(|destination| match destination {
        Destination::Replaced(file) => replace(&file, bytes),
        Destination::WrittenInto(_) => replace(path, bytes),
    });
    written.map_err(Error::disk(path, "write the file"))
}

/// As [`write_durable`], to a path that a person named: a device, a pipe or a descriptor such as
/// /dev/stdout, also behind links, is written into.
///
/// # Errors
/// As [`write_durable`].
pub fn write_where_told(path: &Path, bytes: &[u8]) -> Result<()> {
    match destination(path) {
        Ok(Destination::WrittenInto(file)) => {
            write_into(&file, bytes).map_err(Error::disk(path, "write the file"))
        }
        _ => write_durable(path, bytes),
    }
}

/// Whether `path` leads to a device, a pipe or another thing that is written into and that has no
/// place beside it.
pub fn is_stream(path: &Path) -> bool {
    matches!(destination(path), Ok(Destination::WrittenInto(_)))
}

/// What a path leads to.
enum Destination {
    /// A regular file, or none yet.
    Replaced(PathBuf),
    /// Something that keeps its identity.
    WrittenInto(PathBuf),
}

fn destination(path: &Path) -> std::io::Result<Destination> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(Destination::Replaced(path)) };
        if !metadata.is_symlink() {
            let file = metadata.is_file();
            return Ok(if file { Destination::Replaced(path) } else { Destination::WrittenInto(path) });
        }
        let folder = fs::canonicalize(parent(&path))?;
        // The links in a process's folder of descriptors stand for what is open, not for a name.
        if folder.starts_with("/proc") {
            return Ok(Destination::WrittenInto(path));
        }
        path = folder.join(fs::read_link(&path)?);
    }
    Err(std::io::Error::other("its links lead in a circle"))
}

fn write_into(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A file that a shell has opened may hold something already.
    let is_file = fs::metadata(path)?.is_file();
    OpenOptions::new().write(true).append(is_file).open(path)?.write_all(bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    sweep(path);
    let (temporary, mut file) = create_beside(path)?;
    let written = (|| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(parent(path))
    })();
    if written.is_err() {
        // The write has failed already; what matters is to give back the space it took.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file beside `path`, locked.
fn create_beside(path: &Path) -> std::io::Result<(PathBuf, File)> {
    loop {
        let temporary = temporary_beside(path);
        let file = match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            // Processes of two containers on one disk may have the same number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        // Before it was locked, somebody who sweeps may have taken it for a dead writer's.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => continue,
            Ok(()) if !temporary.exists() => continue,
            // Where there are no locks, nobody sweeps.
            _ => return Ok((temporary, file)),
        }
    }
}

/// A name for something unfinished in the folder of `path`, unique on this machine.
pub fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{}{}-{count}", prefix(path), std::process::id()))
}

/// What the names of files beside `path` begin with.
fn prefix(path: &Path) -> String {
    format!("{TEMPORARY}{}-", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes the files beside `path` that killed writers of it left unfinished.
///
/// Needs no lock of the folder: a writer that lives holds its file's lock. What cannot be removed
/// stays; sweeping is no reason to fail.
pub fn sweep(path: &Path) {
    let (folder, begins) = (parent(path), prefix(path));
    let is_number = |part: &str| part.parse::<u64>().is_ok();
    for name in names(folder).unwrap_or_default() {
        let numbers = name.strip_prefix(&begins).and_then(|rest| rest.split_once('-'));
        let is_left_over = numbers.is_some_and(|(process, count)| is_number(process) && is_number(count));
        let file = folder.join(&name);
        if !is_left_over || !fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let Ok(open) = OpenOptions::new().write(true).open(&file) else { continue };
        if open.try_lock().is_ok() {
            let _ = fs::remove_file(&file);
        }
    }
}

/// The folder in which `path` lies.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the folder `path` and those above it that are missing, and their names durable.
///
/// # Errors
/// [`Error::Disk`] where it cannot be made or written to the disk.
pub fn make_folder(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    let made = fs::create_dir_all(path)
        .and_then(|()| missing.iter().rev().try_for_each(|folder| sync_folder(parent(folder))));
    made.map_err(Error::disk(path, "create the folder"))
}

/// Makes the names in `folder` survive a power cut.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere a rename is durable by itself.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes everything that an earlier process left unfinished in `folder`. Needs the run's lock.
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

/// Removes a folder under a temporary name, so that half of it never passes for the whole.
fn remove_folder(path: &Path) -> std::io::Result<()> {
    let is_temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
    if is_temporary {
        return fs::remove_dir_all(path);
    }
    let temporary = temporary_beside(path);
    fs::rename(path, &temporary)?;
    fs::remove_dir_all(&temporary)
}

/// Removes a file or a whole folder; a link is removed, never followed. Nothing there is fine.
/// Needs the run's lock.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_folder(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
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
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if files::is_refusal(&error) => Err(Error::data(path, format!("cannot be read: {error}"))),
        Err(error) => Err(Error::disk(path, "read the file")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_that_somebody_holds_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // The next names of this process, as one with the same number elsewhere would hold them.
        let next = temporary_beside(&path).to_string_lossy().into_owned();
        let (begin, count) = next.rsplit_once('-').unwrap();
        let count: u64 = count.parse().unwrap();
        let hold = |number: u64| {
            let file = File::create(format!("{begin}-{number}")).unwrap();
            file.lock().unwrap();
            file
        };
        let held: Vec<File> = (count + 1..count + 200).map(hold).collect();
        write_durable(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()).unwrap().len(), held.len() + 1);
    }
}
