//! `tiny-imagenet:DIR`: Tiny-ImageNet (Stanford's CS231n) as its official archive unpacks: 100,000
//! training and 10,000 held-out images of 64 × 64 pixels in 200 classes.
//!
//! The held-out images lie in one folder, and a table says which class each has. Those in test/
//! have no labels, and are not used.

use super::classes::{Half, class_folders};
use super::folder;
use super::halves::ANNOTATIONS;
use super::{DataConfig, Dataset};
use crate::error::{Error, Result};
use crate::files;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The folder that the official archive has.
const FOLDER: &str = "tiny-imagenet-200";
/// What WordNet's numbers stand for: a line each of number and words, between tabs.
const WORDS: &str = "words.txt";
/// Longest table and list of words in bytes; the official ones have 0.5 and 2.6 MB.
const LONGEST: u64 = 16 << 20;
const LAYOUT: &str = "expected the unpacked official archive (tiny-imagenet-200.zip): train/CLASS/images/*.JPEG and \
                      val/images/*.JPEG with val/val_annotations.txt";

/// The data set in the folder `path`, or in the official folder within it.
///
/// # Errors
/// [`Error::Data`] for another layout, an image that is not there or has no class, and as
/// [`folder::open`].
pub fn open(path: &Path, config: &DataConfig) -> Result<Dataset> {
    if path.is_file() {
        return Err(Error::data(path, format!("is a file; {LAYOUT}")));
    }
    let inner = path.join(FOLDER);
    let root = if inner.is_dir() { inner.as_path() } else { path };
    let mut notes = Vec::new();
    let (numbers, halves) = list(root, &mut notes)?;
    folder::open_listed(root, config, (names(root, numbers, &mut notes), halves), notes)
}

/// The classes by label, as WordNet's numbers, and both halves.
fn list(root: &Path, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    let train = root.join("train");
    if !train.is_dir() {
        return Err(Error::data(root, format!("has no train/; {LAYOUT}")));
    }
    let found = class_folders(root, &train)?;
    found.say(root, &mut *notes);
    let mut half = Half::none_of(&train);
    let mut classes = Vec::new();
    for class in found.classes {
        half.labels.extend(std::iter::repeat_n(classes.len() as u32, class.images.len()));
        half.paths.extend(class.images);
        classes.push(class.name);
    }
    let held_out = held_out(root, &classes)?;
    let has: BTreeSet<u32> = held_out.labels.iter().copied().collect();
    match (0..classes.len()).find(|label| !has.contains(&(*label as u32))) {
        Some(label) => {
            let what =
                format!("names no image of the class {}; both halves need every class", classes[label]);
            Err(Error::data(root.join(ANNOTATIONS), what))
        }
        None if classes.is_empty() => Err(Error::data(train, format!("has no image in it; {LAYOUT}"))),
        None => Ok((classes, [half, held_out])),
    }
}

/// The held-out images, class by class.
fn held_out(root: &Path, classes: &[String]) -> Result<Half> {
    let table = root.join(ANNOTATIONS);
    let text = files::text(&table, LONGEST)
        .map_err(|e| Error::data(&table, format!("cannot be read: {e}; {LAYOUT}")))?;
    let labels: BTreeMap<&str, u32> =
        classes.iter().enumerate().map(|(label, name)| (name.as_str(), label as u32)).collect();
    let folder = root.join("val").join("images");
    let mut images = BTreeSet::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| Error::data(&table, format!("line {}: {what}", index + 1));
        let mut cells = line.split('\t');
        let (Some(name), Some(class)) = (cells.next(), cells.next().map(str::trim)) else {
            return Err(wrong("it has no class behind a tab".into()));
        };
        // A name leads to no other place.
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(wrong(format!("'{name}' is no name of an image")));
        }
        let label = labels.get(class);
        let label = label.ok_or_else(|| wrong(format!("'{class}' is no class of the training images")))?;
        if !images.insert((*label, name)) {
            return Err(wrong(format!("'{name}' stands there twice")));
        }
    }
    let mut half = Half::none_of(&folder);
    for (label, name) in images {
        half.labels.push(label);
        half.paths.push(folder.join(name));
    }
    Ok(half)
}

/// What WordNet calls the classes, by the first of its words; two that have the same word keep
/// their numbers beside it.
fn names(root: &Path, numbers: Vec<String>, notes: &mut Vec<String>) -> Vec<String> {
    let words = root.join(WORDS);
    let text = files::text(&words, LONGEST).unwrap_or_default();
    let first = |line: &str| {
        let (number, words) = line.split_once('\t')?;
        Some((number.to_string(), words.split(',').next()?.trim().to_string()))
    };
    let known: BTreeMap<String, String> = text.lines().filter_map(first).collect();
    let named: Vec<Option<&String>> = numbers.iter().map(|number| known.get(number)).collect();
    if named.iter().any(Option::is_none) {
        notes.push(format!(
            "classes have WordNet's numbers for names where {WORDS} does not say what they stand for"
        ));
    }
    let name = |(number, name): (&String, &Option<&String>)| match name {
        Some(name) if named.iter().filter(|other| *other == &Some(*name)).count() == 1 => name.to_string(),
        Some(name) => format!("{name} ({number})"),
        None => number.clone(),
    };
    numbers.iter().zip(&named).map(name).collect()
}
