//! Folders of images without a train/ and a test/, with classes or without labels: one image in ten
//! is held out.
//!
//! A hash of a file's place in the folder says in which half it is. So its half depends on no other
//! file, on no order and on no seed: images that are added later move none.

use super::classes::{Half, class_folders, other_types};
use super::walk::{Found, Walk};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// One of so many is held out.
pub const ONE_OF: u64 = 10;
/// How they are chosen, for a person.
const HOW: &str = "one image in ten is held out, by a hash of its name";

/// Lists the class folders in `root`: classes by label, and both halves. Says in `notes` how they
/// were made and what was left out.
///
/// # Errors
/// [`Error::Data`] where there is none, or where one of them would have no image in one half.
pub fn labelled(root: &Path, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    let found = class_folders(root, root)?;
    if found.classes.is_empty() {
        let what = "has no image in it; expected images, folders of them for each class, or \
                    DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg";
        return Err(Error::data(root, what));
    }
    notes.push(format!("its folders are its classes, and there is no train/ and no test/: {HOW}"));
    found.say(root, notes);
    let mut halves = [Half::none_of(root), Half::none_of(root)];
    let mut classes = Vec::new();
    let mut lacking: Vec<(PathBuf, String)> = Vec::new();
    for class in found.classes {
        let label = classes.len() as u32;
        let count = class.images.len();
        let parts = parted(root, class.images);
        if let Some(what) = lack(&parts, count) {
            lacking.push((root.join(&class.name), what));
        }
        for (half, images) in halves.iter_mut().zip(parts) {
            half.labels.extend(std::iter::repeat_n(label, images.len()));
            half.paths.extend(images);
        }
        classes.push(class.name);
    }
    let others = match lacking.len().saturating_sub(1) {
        0 => String::new(),
        1 => " (and so it is with 1 other class)".into(),
        n => format!(" (and so it is with {n} other classes)"),
    };
    match lacking.into_iter().next() {
        None => Ok((classes, halves)),
        Some((class, what)) => {
            let what = format!(
                "{what}{others}: {HOW}, and both halves need every class; add images, or part them by hand into \
                 DIR/train/CLASS and DIR/test/CLASS"
            );
            Err(Error::data(class, what))
        }
    }
}

/// Lists the images in `root` and in the folders inside it, which have no labels. Says in `notes`
/// how halves were made and what was left out.
///
/// Both halves are in the order of the hash, so that the first of them are a sample of all,
/// wherever they lie.
///
/// # Errors
/// [`Error::Data`] where one half would have no image.
pub fn unlabelled(root: &Path, notes: &mut Vec<String>) -> Result<[Half; 2]> {
    let Found { mut images, others } = Walk::default().files(root)?;
    let direct: Vec<&PathBuf> = images.iter().filter(|path| path.parent() == Some(root)).collect();
    let inside = match (images.len() - direct.len(), direct.first().and_then(|path| path.file_name())) {
        (n @ 1.., Some(one)) => format!(
            " ({} in it and {n} in folders inside; without those in it, such as {}, the folders would be classes)",
            direct.len(),
            one.display()
        ),
        _ => String::new(),
    };
    notes.push(format!(
        "its images lie in no class folders{inside} and have no labels: no accuracy is measured; {HOW}"
    ));
    notes.extend(other_types(&others));
    images.sort_by_cached_key(|path| (hash(root, path), path.clone()));
    let count = images.len();
    let parts = parted(root, images);
    if let Some(what) = lack(&parts, count) {
        return Err(Error::data(root, format!("{what}: {HOW}; add images")));
    }
    let half = |paths: Vec<PathBuf>| Half { labels: vec![0; paths.len()], paths, ..Half::none_of(root) };
    Ok(parts.map(half))
}

/// Why the halves of a class of `count` images are not enough.
fn lack([train, test]: &[Vec<PathBuf>; 2], count: usize) -> Option<String> {
    let images = if count == 1 { "its only image".to_string() } else { format!("all of its {count} images") };
    match (train.is_empty(), test.is_empty()) {
        (true, _) => Some(format!("{images} would be held out")),
        (_, true) => Some(format!("{images} would be trained on")),
        _ => None,
    }
}

/// `images` of the data set in `root`, those to train on and those that are held out.
fn parted(root: &Path, images: Vec<PathBuf>) -> [Vec<PathBuf>; 2] {
    let (test, train) = images.into_iter().partition(|path| hash(root, path).is_multiple_of(ONE_OF));
    [train, test]
}

/// A hash of the place of `path` in `root`, whatever the system's form of its letters.
pub fn hash(root: &Path, path: &Path) -> u64 {
    let mut hash = Sha256::new();
    for part in path.strip_prefix(root).unwrap_or(path) {
        match part.to_str() {
            Some(text) => hash.update(text.nfc().collect::<String>()),
            None => hash.update(part.as_encoded_bytes()),
        }
        // No name holds it.
        hash.update(b"/");
    }
    hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_hashed_part_by_part() {
        let of = |path: &str| hash(Path::new("/a"), Path::new(path));
        assert_eq!(of("/a/cat/0.png"), hash(Path::new("b/c"), Path::new("b/c/cat/0.png")));
        assert_eq!(of("/a/K\u{e4}fer/0.png"), of("/a/Ka\u{308}fer/0.png"));
        assert_ne!(of("/a/cat/0.png"), of("/a/ca/t0.png"));
        // SHA-256 of "cat/0.png/".
        let digest = Sha256::digest(b"cat/0.png/");
        assert_eq!(of("/a/cat/0.png").to_be_bytes(), digest[..8]);
    }
}
