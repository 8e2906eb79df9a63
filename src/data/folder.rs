//! `folder:DIR`: class folders of JPEG and PNG files of any size, in `train/` and in `test/` or `val/`.

use super::{DataConfig, Dataset, Images, Split, first_of_each_class, hex, jpeg};
use crate::augment::Image;
use crate::error::{Error, Result};
use image::{ImageReader, Limits};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::{BufRead, Cursor, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decoded images are kept while they need no more than this.
const MEMORY_BYTES: u64 = 1 << 30;
/// A longer side, or more decoded bytes, is taken for a damaged or hostile file.
const LONGEST_SIDE: u32 = 16_384;
const DECODED_BYTES: u64 = 256 << 20;
/// A longer file is not read at all.
const FILE_BYTES: u64 = 2 * DECODED_BYTES;

/// Opens `root`.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    open_within(MEMORY_BYTES, root, config)
}

/// Opens `root`; decoded images are kept if they fit into `memory` bytes.
fn open_within(memory: u64, root: &Path, config: &DataConfig) -> Result<Dataset> {
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
    if bytes > memory {
        if config.skip_bad {
            // Which files are bad must be known before the first step: afterwards the order is fixed.
            for (files, half) in listed.iter_mut().zip([&train, &test]) {
                *files = decodable(std::mem::take(files), half, &mut skipped)?;
            }
        }
        return Ok(on_demand(root, config, classes, &listed, skipped));
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
    file_bytes: u64,
}

/// The names in a folder, sorted, so that nothing depends on the file system's order.
fn sorted_names(folder: &Path) -> Result<Vec<OsString>> {
    let unreadable = |e: std::io::Error| Error::data(folder, format!("cannot be listed: {e}"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort();
    Ok(names)
}

fn class_names(half: &Path) -> Result<Vec<String>> {
    let mut classes = Vec::new();
    for name in sorted_names(half)? {
        let folder = half.join(&name);
        if !is_hidden(&name) && folder.is_dir() {
            let not_text = |_| Error::data(folder, "is a class whose name is not UTF-8; rename it");
            classes.push(name.into_string().map_err(not_text)?);
        }
    }
    Ok(classes)
}

fn is_hidden(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_image(name: &OsString) -> bool {
    let extension = Path::new(name).extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    !is_hidden(name) && matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
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
            let names = sorted_names(&folder)?.into_iter().filter(is_image);
            found.extend(names.map(|name| (folder.join(name), label as u32)));
        }
    }
    let labels: Vec<u32> = found.iter().map(|(_, label)| *label).collect();
    let used = first_of_each_class(&labels, classes.len(), limit);
    let headers: Vec<Result<File>> = used
        .into_par_iter()
        .map(|i| {
            let (path, label) = &found[i];
            let (file_bytes, decoded_bytes) = lengths(path)?;
            Ok(File { path: path.clone(), label: *label, decoded_bytes, file_bytes })
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

/// A reader that knows the format by the first bytes and refuses what would not fit into memory.
fn reader<R: BufRead + Seek>(path: &Path, from: R) -> Result<ImageReader<R>> {
    let mut reader = ImageReader::new(from).with_guessed_format().map_err(|e| unreadable(path, e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(2 * DECODED_BYTES);
    reader.limits(limits);
    Ok(reader)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::data(path, format!("cannot be read: {error}"))
}

/// Why a file is refused, with the way out.
fn refused(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::data(path, format!("is not an image that can be used: {what}; remove it or pass --skip-bad"))
}

/// Bytes of the file and bytes of the decoded image, from the header alone.
fn lengths(path: &Path) -> Result<(u64, u64)> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, e))?;
    let file_bytes = file.metadata().map_err(|e| unreadable(path, e))?.len();
    match file_bytes {
        0 => return Err(refused(path, "the file is empty")),
        n if n > FILE_BYTES => return Err(refused(path, "the file is too long")),
        _ => {}
    }
    let reader = reader(path, std::io::BufReader::new(file))?;
    let (width, height) = reader.into_dimensions().map_err(|e| refused(path, e))?;
    let decoded_bytes = u64::from(width) * u64::from(height) * 3;
    if width == 0 || height == 0 {
        return Err(refused(path, "it has no pixels"));
    }
    if width.max(height) > LONGEST_SIDE || decoded_bytes > DECODED_BYTES {
        return Err(refused(path, format!("{width}×{height} pixels are too many")));
    }
    Ok((file_bytes, decoded_bytes))
}

/// Decodes one file to RGB; transparency is ignored.
pub fn decode(path: &Path) -> Result<Image> {
    // A single file cannot be skipped.
    let alone = |error: Error| match error {
        Error::Data { path, what } => Error::data(path, what.replace(" or pass --skip-bad", "")),
        other => other,
    };
    lengths(path).map_err(alone)?;
    decode_listed(path).map_err(alone)
}

/// The same for a file whose lengths were checked before: a small picture's header costs as much as the
/// rest of it.
pub(super) fn decode_listed(path: &Path) -> Result<Image> {
    let bytes = std::fs::read(path).map_err(|e| unreadable(path, e))?;
    if jpeg::is_jpeg(&bytes) && !jpeg::is_whole(&bytes) {
        return Err(refused(path, "the JPEG file is truncated"));
    }
    let decoded = reader(path, Cursor::new(bytes))?.decode().map_err(|e| refused(path, e))?.into_rgb8();
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Ok(Image { height, width, pixels: decoded.into_raw() })
}

/// The files that decode; the others are noted.
fn decodable(files: Vec<File>, half: &Path, skipped: &mut Vec<(PathBuf, String)>) -> Result<Vec<File>> {
    let tried = files.into_par_iter().map(|file| decode_listed(&file.path).map(|_| file)).collect();
    keep_good(tried, half, true, skipped)
}

fn decode_all(
    files: Vec<File>,
    half: &Path,
    skip_bad: bool,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Result<(Vec<Image>, Vec<u32>)> {
    let decoded: Vec<Result<(Image, u32)>> =
        files.into_par_iter().map(|file| Ok((decode_listed(&file.path)?, file.label))).collect();
    Ok(keep_good(decoded, half, skip_bad, skipped)?.into_iter().unzip())
}

/// A data set whose images are decoded when they are asked for.
///
/// Reading them all for a digest would take longer than many runs: names and lengths stand for them.
fn on_demand(
    root: &Path,
    config: &DataConfig,
    classes: Vec<String>,
    listed: &[Vec<File>],
    skipped: Vec<(PathBuf, String)>,
) -> Dataset {
    let mut hash = Sha256::new();
    let mut halves = listed.iter().map(|files| {
        for file in files {
            let place = file.path.strip_prefix(root).unwrap_or(&file.path).as_os_str().as_encoded_bytes();
            for length in [place.len() as u64, file.file_bytes, file.decoded_bytes] {
                hash.update(length.to_le_bytes());
            }
            hash.update(place);
            hash.update(file.label.to_le_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_beyond_memory_are_decoded_when_asked_for_and_bad_ones_found_before() {
        let root = tempfile::tempdir().unwrap();
        for place in ["train/cat", "train/dog", "test/cat"] {
            let folder = root.path().join(place);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..3u8 {
                let image = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([i, x as u8, y as u8]));
                image.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
        let config = |skip_bad| DataConfig {
            source: "folder:here".into(),
            train_images: 0,
            test_images: 0,
            shapes_size: 24,
            shapes_seed: 0,
            skip_bad,
        };
        let kept = open_within(MEMORY_BYTES, root.path(), &config(false)).unwrap();
        let asked = open_within(0, root.path(), &config(false)).unwrap();
        assert!(matches!(asked.train.images, Images::Files(_)));
        assert_eq!(kept.train.image(4).unwrap(), asked.train.image(4).unwrap());

        // Cut behind its header, so that only decoding tells.
        let bad = root.path().join("train/dog/1.png");
        let whole = std::fs::read(&bad).unwrap();
        std::fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
        let damaged = open_within(0, root.path(), &config(false)).unwrap();
        assert_ne!(asked.digest, damaged.digest);
        let error = damaged.train.image(4).unwrap_err().to_string();
        assert!(error.contains("1.png"), "{error}");
        let skipping = open_within(0, root.path(), &config(true)).unwrap();
        assert_eq!((skipping.train.len(), skipping.skipped.len()), (5, 1));
    }
}
