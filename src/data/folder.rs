//! `folder:DIR`: class folders of JPEG and PNG files of any size, in `train/` and in `test/` or `val/`.

use super::{DataConfig, Dataset, Images, Split, first_of_each_class, hex};
use crate::augment::Image;
use crate::error::{Error, Result};
use image::{ImageReader, Limits};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decoded images are kept while they need no more than this.
const MEMORY_BYTES: u64 = 1 << 30;
/// A longer side, or more decoded bytes, is taken for a damaged or hostile file.
const LONGEST_SIDE: u32 = 16_384;
const DECODED_BYTES: u64 = 256 << 20;

/// Opens `root`.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    let layout = "expected DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg (or val/ in place of test/)";
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let train = root.join("train");
    let test = [root.join("test"), root.join("val")].into_iter().find(|path| path.is_dir());
    let (true, Some(test)) = (train.is_dir(), test) else {
        return Err(Error::data(root, format!("has not both halves of a data set; {layout}")));
    };
    let classes = class_names(&train)?;
    if classes.is_empty() {
        return Err(Error::data(&train, format!("has no class folders; {layout}")));
    }
    for name in class_names(&test)? {
        if !classes.contains(&name) {
            return Err(Error::data(test.join(&name), "is a class that the training images do not have"));
        }
    }
    let mut skipped = Vec::new();
    let mut listed = Vec::new();
    for (half, limit) in [(&train, config.train_images), (&test, config.test_images)] {
        listed.push(list(half, &classes, limit, config.skip_bad, &mut skipped)?);
    }
    let bytes: u64 = listed.iter().flatten().map(|file| file.decoded_bytes).sum();
    if bytes > MEMORY_BYTES {
        return Ok(on_demand(config, classes, &listed, skipped));
    }
    let mut halves = Vec::new();
    for (files, half) in listed.into_iter().zip([&train, &test]) {
        halves.push(decode_all(files, half, config.skip_bad, &mut skipped)?);
    }
    match <[_; 2]>::try_from(halves) {
        Ok(halves) => Ok(Dataset::in_memory(config, classes, halves, skipped)),
        Err(_) => unreachable!("a data set has two halves"),
    }
}

/// An image file that looks right from outside.
struct File {
    path: PathBuf,
    label: u32,
    decoded_bytes: u64,
}

/// The names in a folder, sorted, so that nothing depends on the file system's order.
fn sorted_names(folder: &Path) -> Result<Vec<String>> {
    let unreadable = |e: std::io::Error| Error::data(folder, format!("cannot be listed: {e}"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn class_names(half: &Path) -> Result<Vec<String>> {
    Ok(sorted_names(half)?
        .into_iter()
        .filter(|name| !name.starts_with('.') && half.join(name).is_dir())
        .collect())
}

fn is_image(name: &str) -> bool {
    let extension = Path::new(name).extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    !name.starts_with('.') && matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

/// The files of one half that are used; each one's header was read.
fn list(
    half: &Path,
    classes: &[String],
    limit: usize,
    skip_bad: bool,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<Vec<File>> {
    let mut found = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = half.join(class);
        if folder.is_dir() {
            let names = sorted_names(&folder)?.into_iter().filter(|name| is_image(name));
            found.extend(names.map(|name| (folder.join(name), label as u32)));
        }
    }
    let labels: Vec<u32> = found.iter().map(|(_, label)| *label).collect();
    let used = first_of_each_class(&labels, classes.len(), limit);
    let headers: Vec<Result<File>> = used
        .into_par_iter()
        .map(|i| {
            let (path, label) = &found[i];
            let (width, height) = dimensions(path)?;
            let decoded_bytes = u64::from(width) * u64::from(height) * 3;
            Ok(File { path: path.clone(), label: *label, decoded_bytes })
        })
        .collect();
    keep_good(headers, half, skip_bad, skipped)
}

/// What went well; the first error, or, with `skip_bad`, all of them noted.
fn keep_good<T>(
    all: Vec<Result<T>>,
    half: &Path,
    skip_bad: bool,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<Vec<T>> {
    let mut good = Vec::with_capacity(all.len());
    for one in all {
        match one {
            Ok(one) => good.push(one),
            Err(Error::Data { path, what }) if skip_bad => skipped.push((path, what)),
            Err(error) => return Err(error),
        }
    }
    if good.is_empty() {
        return Err(Error::data(half, "has no image that can be read (JPEG or PNG in class folders)"));
    }
    Ok(good)
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>> {
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"));
    let mut reader =
        ImageReader::open(path).map_err(unreadable)?.with_guessed_format().map_err(unreadable)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(2 * DECODED_BYTES);
    reader.limits(limits);
    Ok(reader)
}

/// Why a file is refused, with the way out.
fn refused(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::data(path, format!("is not an image that can be used: {what}; remove it or pass --skip-bad"))
}

fn dimensions(path: &Path) -> Result<(u32, u32)> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) {
        return Err(refused(path, "the file is empty"));
    }
    let (width, height) = reader(path)?.into_dimensions().map_err(|e| refused(path, e))?;
    let bytes = u64::from(width) * u64::from(height) * 3;
    if width == 0 || height == 0 {
        return Err(refused(path, "it has no pixels"));
    }
    if width.max(height) > LONGEST_SIDE || bytes > DECODED_BYTES {
        return Err(refused(path, format!("{width}×{height} pixels are too many")));
    }
    Ok((width, height))
}

/// Decodes one file to RGB; transparency is ignored.
pub fn decode(path: &Path) -> Result<Image> {
    let decoded = reader(path)?.decode().map_err(|e| refused(path, e))?.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { height, width, pixels: decoded.into_raw() })
}

fn decode_all(
    files: Vec<File>,
    half: &Path,
    skip_bad: bool,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<(Vec<Image>, Vec<u32>)> {
    let decoded: Vec<Result<(Image, u32)>> =
        files.into_par_iter().map(|file| Ok((decode(&file.path)?, file.label))).collect();
    Ok(keep_good(decoded, half, skip_bad, skipped)?.into_iter().unzip())
}

/// A data set whose images are decoded when they are asked for.
fn on_demand(
    config: &DataConfig,
    classes: Vec<String>,
    listed: &[Vec<File>],
    skipped: Vec<(PathBuf, String)>,
) -> Dataset {
    let mut hash = Sha256::new();
    let mut halves = listed.iter().map(|files| {
        for file in files {
            hash.update(file.path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(file.label.to_le_bytes());
            hash.update(file.decoded_bytes.to_le_bytes());
        }
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let labels = files.iter().map(|file| file.label).collect();
        Arc::new(Split { images: Images::Files(paths), labels })
    });
    let (Some(train), Some(test)) = (halves.next(), halves.next()) else {
        unreachable!("a data set has two halves")
    };
    drop(halves);
    Dataset { name: config.source.clone(), classes, train, test, digest: hex(&hash.finalize()), skipped }
}
