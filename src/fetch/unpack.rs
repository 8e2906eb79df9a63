//! Archives, unpacked: regular files and folders alone, below one folder, up to a bound.

use super::{PIECE, Set};
use crate::error::{Error, Result, go_on};
use crate::files;
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Entries at most: Tiny-ImageNet has 120,609.
const MOST_ENTRIES: usize = 1 << 20;

/// Unpacks the `archive` of `set` into its folder in `to`. The folder is there when all of it is:
/// until then it has another name.
///
/// # Errors
/// [`Error::Data`] for an archive that is damaged, has more than it may, or entries that would lie
/// elsewhere or are no files; [`Error::Disk`] where they cannot be written.
pub fn unpack(set: &Set, archive: &Path, to: &Path, stop: &AtomicBool) -> Result<()> {
    let unfinished = to.join(format!(".{}.unpacking", set.folder));
    // Of an earlier process that was ended.
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(Error::disk(&unfinished, "remove the folder"))?;
    }
    let mut target = Target { archive, folder: unfinished.clone(), left: set.unpacked, entries: 0, stop };
    let unpacked = match set.archive.ends_with(".zip") {
        true => target.zip(),
        false => target.tar(),
    };
    let inner = unfinished.join(&set.folder);
    let done = unpacked.and_then(|()| match inner.is_dir() {
        false => Err(Error::data(archive, format!("has no folder {} in it", set.folder))),
        true => {
            let folder = to.join(&set.folder);
            std::fs::rename(&inner, &folder).map_err(Error::disk(&folder, "rename the folder"))
        }
    });
    // Nobody needs half of it, and what is beside the folder neither.
    let removed = match unfinished.exists() {
        true => std::fs::remove_dir_all(&unfinished).map_err(Error::disk(&unfinished, "remove the folder")),
        false => Ok(()),
    };
    done.and(removed)
}

/// Where an archive is unpacked.
struct Target<'a> {
    archive: &'a Path,
    folder: PathBuf,
    /// Bytes that may still come out.
    left: u64,
    entries: usize,
    stop: &'a AtomicBool,
}

impl Target<'_> {
    fn damaged(&self, error: impl std::fmt::Display) -> Error {
        Error::data(self.archive, format!("cannot be unpacked: {error}"))
    }

    fn open(&self) -> Result<BufReader<File>> {
        let (file, _) = files::open(self.archive).map_err(|error| self.damaged(error))?;
        Ok(BufReader::with_capacity(PIECE, file))
    }

    fn tar(&mut self) -> Result<()> {
        let mut archive = tar::Archive::new(GzDecoder::new(self.open()?));
        for entry in archive.entries().map_err(|error| self.damaged(error))? {
            let entry = entry.map_err(|error| self.damaged(error))?;
            let kind = entry.header().entry_type();
            let name = entry.path().map_err(|error| self.damaged(error))?.into_owned();
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => self.make_folder(&name)?,
                (_, true) => self.write(&name, entry)?,
                // What a tar archive says of all files that follow.
                _ if kind.is_pax_global_extensions() => {}
                _ => return Err(self.damaged(format!("'{}' is neither a file nor a folder", name.display()))),
            }
        }
        Ok(())
    }

    fn zip(&mut self) -> Result<()> {
        let mut archive = zip::ZipArchive::new(self.open()?).map_err(|error| self.damaged(error))?;
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| self.damaged(error))?;
            let name = entry.name().map_err(|error| self.damaged(error))?;
            let name = PathBuf::from(name.as_ref());
            if entry.is_dir() {
                self.make_folder(&name)?;
            } else if entry.is_symlink() {
                return Err(self.damaged(format!("'{}' is neither a file nor a folder", name.display())));
            } else {
                // The crate compares what comes out with the entry's checksum.
                self.write(&name, entry)?;
            }
        }
        Ok(())
    }

    /// The place of an entry, which lies below the folder.
    fn place(&mut self, name: &Path) -> Result<PathBuf> {
        go_on(self.stop)?;
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(self.damaged(format!("it has more than {MOST_ENTRIES} entries")));
        }
        let inside = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        match inside && !name.as_os_str().is_empty() {
            true => Ok(self.folder.join(name)),
            false => Err(self.damaged(format!("'{}' leads out of the folder", name.display()))),
        }
    }

    fn make_folder(&mut self, name: &Path) -> Result<()> {
        let place = self.place(name)?;
        std::fs::create_dir_all(&place).map_err(Error::disk(&place, "make the folder"))
    }

    fn write(&mut self, name: &Path, mut entry: impl Read) -> Result<()> {
        let place = self.place(name)?;
        let failed = |action| Error::disk(&place, action);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(Error::disk(parent, "make the folder"))?;
        }
        // An entry that is there twice is damage, and a link cannot have been made by another.
        let mut file = File::create_new(&place).map_err(failed("unpack the file"))?;
        let mut piece = vec![0; PIECE];
        loop {
            go_on(self.stop)?;
            let read = entry.read(&mut piece).map_err(|error| self.damaged(error))?;
            if read == 0 {
                return Ok(());
            }
            let Some(left) = self.left.checked_sub(read as u64) else {
                return Err(self.damaged("it unpacks to more than the data set has"));
            };
            self.left = left;
            file.write_all(&piece[..read]).map_err(failed("unpack the file"))?;
        }
    }
}
