//! The class folders inside a folder, and the images of each.

use super::walk::{TYPES, Walk, visible};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names given in a note at most.
const NAMED: usize = 3;

/// The images of one half, class by class.
pub struct Half {
    /// The folder in which the class folders are.
    pub folder: PathBuf,
    /// The images' files, (N).
    pub paths: Vec<PathBuf>,
    /// The images' classes, (N).
    pub labels: Vec<u32>,
}

impl Half {
    /// No image of `folder`.
    pub fn none_of(folder: &Path) -> Half {
        Half { folder: folder.to_path_buf(), paths: Vec::new(), labels: Vec::new() }
    }
}

/// A class.
pub struct Class {
    /// The name of its folder.
    pub name: String,
    /// The images in that folder and in the folders inside it.
    pub images: Vec<PathBuf>,
}

/// What lies in a folder of class folders.
#[derive(Default)]
pub struct Found {
    /// The folders with images, by name.
    pub classes: Vec<Class>,
    /// Folders without an image.
    empty: Vec<PathBuf>,
    /// Images beside the class folders.
    pub loose: usize,
    /// Files of other types in class folders, by extension.
    others: BTreeMap<String, usize>,
}

/// What lies in the folder `half` of the data set in `root`.
///
/// # Errors
/// [`Error::Data`] for a folder that cannot be listed, or that is a class of no readable name.
pub fn class_folders(root: &Path, half: &Path) -> Result<Found> {
    let mut found = Found::default();
    let (folders, files): (Vec<_>, Vec<_>) = visible(half)?.into_iter().partition(|entry| entry.is_folder);
    found.loose = files.iter().filter(|file| file.is_image()).count();
    let walked = folders.into_par_iter().map(|folder| {
        // A link inside a class that leads back up is not a class inside it.
        let mut walk = Walk::default();
        walk.enter(root)?;
        walk.enter(half)?;
        Ok((walk.files(&folder.path)?, folder.path))
    });
    for (files, folder) in walked.collect::<Result<Vec<_>>>()? {
        if files.images.is_empty() {
            found.empty.push(folder);
            continue;
        }
        for (extension, count) in files.others {
            *found.others.entry(extension).or_default() += count;
        }
        let name = folder.file_name().unwrap_or_default().to_os_string().into_string();
        let not_text = |_| Error::data(&folder, "is a class whose name is not UTF-8; rename it");
        found.classes.push(Class { name: name.map_err(not_text)?, images: files.images });
    }
    Ok(found)
}

impl Found {
    /// Says what was left out.
    pub fn say(&self, root: &Path, notes: &mut Vec<String>) {
        if !self.empty.is_empty() {
            let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
            let mut names: Vec<String> = self.empty.iter().take(NAMED).map(name).collect();
            if self.empty.len() > NAMED {
                names.push("…".into());
            }
            let (count, what) = match self.empty.len() {
                1 => ("1 folder holds".to_string(), "is no class"),
                n => (format!("{n} folders hold"), "are no classes"),
            };
            notes.push(format!("{count} no image and {what}: {}", names.join(", ")));
        }
        notes.extend(other_types(&self.others));
        if self.loose > 0 {
            let count = match self.loose {
                1 => "1 image lies outside the class folders and was".to_string(),
                loose => format!("{loose} images lie outside the class folders and were"),
            };
            notes.push(format!("{count} left out"));
        }
    }
}

/// What is said of files of other types, by extension; nothing where there are none.
pub fn other_types(others: &BTreeMap<String, usize>) -> Option<String> {
    let shown = |(extension, count): (&String, &usize)| match extension.as_str() {
        "" => format!("{count} without extension"),
        extension => format!("{count} .{extension}"),
    };
    let list: Vec<String> = others.iter().map(shown).collect();
    let count = match others.values().sum::<usize>() {
        0 => return None,
        1 => "1 file of another type was".to_string(),
        n => format!("{n} files of other types were"),
    };
    Some(format!("{count} left out ({}); {TYPES} files are read", list.join(", ")))
}
