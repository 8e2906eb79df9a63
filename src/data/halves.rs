//! The two halves of a folder of images as they lie on the disk: which classes there are, and which
//! files are theirs.

use super::walk::{Walk, visible};
use super::{DataConfig, HeldOut};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

const LAYOUT: &str = "expected DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/ in place of test/)";
/// Names given in a note at most.
const NAMED: usize = 3;

/// The images of one half, class by class.
pub struct Half {
    /// Its folder.
    pub folder: PathBuf,
    /// The images' files, (N).
    pub paths: Vec<PathBuf>,
    /// The images' classes, (N).
    pub labels: Vec<u32>,
}

/// Lists the data set in `root`: its classes by label, and both halves. Says in `notes` what was
/// left out.
///
/// # Errors
/// [`Error::Data`] for another layout, or classes that one half has and the other has not.
pub fn list(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    let [train, test] = folders(root, config, notes)?;
    let (trained, held_out) = (class_folders(root, &train)?, class_folders(root, &test)?);
    for found in [&trained, &held_out] {
        found.say(root, notes);
    }
    if trained.classes.is_empty() {
        return Err(Error::data(train, format!("has no class folders with images; {LAYOUT}")));
    }
    let (known, mut tested) = (keyed(&train, trained.classes)?, keyed(&test, held_out.classes)?);
    let mut halves = [train, test].map(|folder| Half { folder, paths: Vec::new(), labels: Vec::new() });
    let mut classes = Vec::new();
    for (key, class) in known {
        let label = classes.len() as u32;
        let Some(other) = tested.iter().position(|(other, _)| *other == key).map(|at| tested.remove(at))
        else {
            let what =
                "has no image of this class, which the training images have; both halves need every class";
            return Err(Error::data(halves[1].folder.join(&class.name), what));
        };
        for (half, images) in halves.iter_mut().zip([class.images, other.1.images]) {
            half.labels.extend(std::iter::repeat_n(label, images.len()));
            half.paths.extend(images);
        }
        classes.push(class.name);
    }
    if let Some((_, class)) = tested.first() {
        let path = halves[1].folder.join(&class.name);
        return Err(Error::data(path, "is a class that the training images do not have"));
    }
    Ok((classes, halves))
}

/// The folders of both halves.
fn folders(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<[PathBuf; 2]> {
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let train = root.join("train");
    let there = |half: HeldOut| root.join(half.name()).is_dir();
    let held_out = match config.held_out {
        Some(asked) if there(asked) => Some(asked),
        Some(asked) => {
            let what = "is not there, and data.held_out asks for it";
            return Err(Error::data(root.join(asked.name()), what));
        }
        None => HeldOut::ALL.into_iter().find(|half| there(*half)),
    };
    let (true, Some(held_out)) = (train.is_dir(), held_out) else {
        return Err(Error::data(root, format!("has not both halves of a data set; {LAYOUT}")));
    };
    if config.held_out.is_none() && HeldOut::ALL.into_iter().all(there) {
        notes.push("test/ is held out and val/ is not used; data.held_out = \"val\" takes val/".into());
    }
    Ok([train, root.join(held_out.name())])
}

/// A class in one half.
struct Class {
    name: String,
    images: Vec<PathBuf>,
}

/// What lies in the folder of one half.
#[derive(Default)]
struct Found {
    classes: Vec<Class>,
    /// Folders without an image.
    empty: Vec<PathBuf>,
    /// Images beside the class folders.
    loose: usize,
    /// Files of other types in class folders, by extension.
    others: BTreeMap<String, usize>,
}

fn class_folders(root: &Path, half: &Path) -> Result<Found> {
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
    fn say(&self, root: &Path, notes: &mut Vec<String>) {
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
            notes.push(format!("{count} no JPEG or PNG file and {what}: {}", names.join(", ")));
        }
        let (others, loose) = (self.others.values().sum::<usize>(), self.loose);
        if others > 0 {
            let shown = |(extension, count): (&String, &usize)| match extension.as_str() {
                "" => format!("{count} without extension"),
                extension => format!("{count} .{extension}"),
            };
            let list: Vec<String> = self.others.iter().map(shown).collect();
            let count = if others == 1 {
                "1 file of another type was".into()
            } else {
                format!("{others} files of other types were")
            };
            notes.push(format!("{count} left out ({}); JPEG and PNG files are read", list.join(", ")));
        }
        if loose > 0 {
            let count = if loose == 1 { "1 image lies".into() } else { format!("{loose} images lie") };
            notes.push(format!("{count} outside the class folders and were left out"));
        }
    }
}

/// The classes of a half with the form of their names by which halves are compared: "ä" is one
/// letter or two, depending on the system that wrote the name.
fn keyed(half: &Path, classes: Vec<Class>) -> Result<Vec<(String, Class)>> {
    let mut keyed: Vec<(String, Class)> = Vec::with_capacity(classes.len());
    let mut known = BTreeMap::new();
    for class in classes {
        let key: String = class.name.nfc().collect();
        if known.insert(key.clone(), ()).is_some() {
            let what =
                "is there twice, under names that differ only in how their letters are encoded; rename one";
            return Err(Error::data(half.join(&class.name), what));
        }
        keyed.push((key, class));
    }
    Ok(keyed)
}
