//! The two halves of a folder of images as they lie on the disk: which classes there are, and which
//! files are theirs.

use super::classes::{Class, Half, class_folders};
use super::{DataConfig, HeldOut};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

const LAYOUT: &str = "expected DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/ in place of test/)";

/// Where Tiny-ImageNet says which class each of its held-out images has: a line each of name, class
/// and a box, between tabs. These images lie in one folder.
pub const ANNOTATIONS: &str = "val/val_annotations.txt";

/// Lists the data set in `root`: its classes by label, and both halves. Says in `notes` what was
/// left out.
///
/// # Errors
/// [`Error::Data`] for another layout, or classes that one half has and the other has not.
pub fn list(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    let annotated = || std::fs::read_dir(root.join("val").join("images")).ok()?.next();
    if root.join(ANNOTATIONS).is_file() && annotated().is_some() {
        let what = format!("is Tiny-ImageNet as it is published; write tiny-imagenet:{}", root.display());
        return Err(Error::data(root, what));
    }
    let [train, test] = folders(root, config, notes)?;
    let (trained, held_out) = (class_folders(root, &train)?, class_folders(root, &test)?);
    for found in [&trained, &held_out] {
        found.say(root, notes);
    }
    if trained.classes.is_empty() {
        let what =
            format!("has no class folders with images; {LAYOUT}, or images without classes in DIR itself");
        return Err(Error::data(train, what));
    }
    let (known, mut tested) = (keyed(&train, trained.classes)?, keyed(&test, held_out.classes)?);
    let mut halves = [&train, &test].map(|folder| Half::none_of(folder));
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
        let there = if train.is_dir() { train } else { root.join("test") };
        let what = format!(
            "has not both halves of a data set; {LAYOUT}; folder:{} would hold out one image in ten",
            there.display()
        );
        return Err(Error::data(root, what));
    };
    if config.held_out.is_none() && HeldOut::ALL.into_iter().all(there) {
        notes.push("test/ is held out and val/ is not used; data.held_out = \"val\" takes val/".into());
    }
    Ok([train, root.join(held_out.name())])
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
