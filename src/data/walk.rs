//! Which files of a folder are images: one rule for data sets, `sim data` and `sim embed`.
//!
//! Names that begin with a point, and what macOS adds to archives, are left out. A folder is
//! entered once, known by its device and inode, so that a link that leads back up is no loop. What
//! has an image's name is an image: one that is a pipe, a device or a link to nothing is refused
//! when it is read.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the archives of macOS hold beside what was packed.
const OF_MACOS: &str = "__MACOSX";
/// The types of images that are read, for a person.
pub const TYPES: &str = "JPEG, PNG, WebP, BMP, TIFF and GIF";
/// What their files' names end in; what a file holds is told by its first bytes.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// The files in a folder and in the folders inside it.
#[derive(Debug, Default)]
pub struct Found {
    /// Images, folder by folder as torchvision reads them: in the order of their folders' paths,
    /// then of their names.
    pub images: Vec<PathBuf>,
    /// How many other files there are, by lower-case extension.
    pub others: BTreeMap<String, usize>,
}

/// A walk through folders, each of which it enters once.
#[derive(Default)]
pub struct Walk {
    entered: HashSet<Identity>,
}

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(folder: &Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).map(|metadata| (metadata.dev(), metadata.ino()))
}
#[cfg(not(unix))]
fn identity(folder: &Path) -> std::io::Result<Identity> {
    folder.canonicalize()
}

impl Walk {
    /// Notes `folder` as entered; whether it was not before.
    ///
    /// # Errors
    /// [`Error::Data`] for a folder that cannot be found.
    pub fn enter(&mut self, folder: &Path) -> Result<bool> {
        Ok(self.entered.insert(identity(folder).map_err(unlisted(folder))?))
    }

    /// The files in `folder` and below, of all folders that were not entered before.
    ///
    /// # Errors
    /// [`Error::Data`] for a folder that cannot be listed.
    pub fn files(&mut self, folder: &Path) -> Result<Found> {
        let mut found = Found::default();
        let mut left = vec![folder.to_path_buf()];
        while let Some(folder) = left.pop() {
            if !self.enter(&folder)? {
                continue;
            }
            for entry in visible(&folder)? {
                if entry.is_folder {
                    left.push(entry.path);
                } else if entry.is_image() {
                    found.images.push(entry.path);
                } else {
                    *found.others.entry(extension(&entry.path)).or_default() += 1;
                }
            }
        }
        let place = |path: &PathBuf| {
            let bytes = |part: Option<&OsStr>| part.unwrap_or_default().as_encoded_bytes().to_vec();
            (bytes(path.parent().map(Path::as_os_str)), bytes(path.file_name()))
        };
        found.images.sort_by_cached_key(place);
        Ok(found)
    }
}

/// The images in `folder` and in the folders inside it, as a data set's class would have them.
///
/// # Errors
/// [`Error::Data`] for a folder that cannot be listed.
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(Walk::default().files(folder)?.images)
}

/// Something in a folder.
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a folder, or a link to one.
    pub is_folder: bool,
}

impl Entry {
    /// Whether it has the name of an image that is read.
    pub fn is_image(&self) -> bool {
        EXTENSIONS.contains(&extension(&self.path).as_str())
    }
}

/// What lies in `folder`, sorted by name, without what is left out everywhere.
///
/// # Errors
/// [`Error::Data`] for a folder that cannot be listed.
pub fn visible(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unlisted(folder))? {
        let entry = entry.map_err(unlisted(folder))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") || name == OF_MACOS {
            continue;
        }
        let path = folder.join(name);
        // Asked of the folder where possible: a file system may be slow to look at a million files.
        let kind = entry.file_type().map_err(unlisted(folder))?;
        let is_folder = kind.is_dir() || (kind.is_symlink() && path.is_dir());
        entries.push(Entry { path, is_folder });
    }
    entries.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(entries)
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn unlisted(folder: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::data(folder, format!("cannot be listed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn images_come_folder_by_folder_and_hidden_names_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let names = [
            "b.png",
            "a/z.jpg",
            "a-b/y.JPEG",
            "c.PNG",
            "a/w.svg",
            ".x.png",
            ".h/x.png",
            "__MACOSX/x.png",
            "note",
        ];
        files(root.path(), &names);
        let found = Walk::default().files(root.path()).unwrap();
        let relative: Vec<&Path> =
            found.images.iter().map(|path| path.strip_prefix(root.path()).unwrap()).collect();
        assert_eq!(relative, ["b.png", "c.PNG", "a/z.jpg", "a-b/y.JPEG"].map(Path::new));
        assert_eq!(found.others, BTreeMap::from([("svg".into(), 1), (String::new(), 1)]));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_back_up_is_no_loop() {
        let root = tempfile::tempdir().unwrap();
        files(root.path(), &["d/x.png"]);
        for name in ["d/a", "d/b"] {
            std::os::unix::fs::symlink(root.path(), root.path().join(name)).unwrap();
        }
        assert_eq!(images_in(root.path()).unwrap(), [root.path().join("d/x.png")]);
    }
}
