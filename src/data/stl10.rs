//! `stl10:PATH`: the official binary version of STL-10 (Coates, Ng & Lee 2011), unpacked: 5,000
//! training and 8,000 held-out images of 96 × 96 pixels in ten classes, and 100,000 images without
//! labels. These are trained on where `data.unlabelled` says so, and the training images with
//! labels judge then.

use super::{DataConfig, Dataset, Images, Split, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files::{self, hex};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;
const CLASSES: usize = 10;
/// Images of a half at most: the larger one has 8,000.
const MOST: usize = 1 << 16;
/// Images without labels at most: there are 100,000.
const MOST_UNLABELLED: usize = 1 << 20;
/// The folder that the official archive has.
const FOLDER: &str = "stl10_binary";
const NAMES: &str = "class_names.txt";
const UNLABELLED: &str = "unlabeled_X.bin";
const NOT_OFFICIAL: &str = "is no file of the official binary version of STL-10";

/// The data set in the folder `path`, or in the official folder within it.
///
/// # Errors
/// [`Error::Data`] for files that are missing, or have other lengths or labels than the official
/// ones.
pub fn open(path: &Path, config: &DataConfig) -> Result<Dataset> {
    if path.is_file() {
        let what = "is a file; unpack the official stl10_binary.tar.gz and name its folder";
        return Err(Error::data(path, what));
    }
    let inner = path.join(FOLDER);
    let folder = if inner.is_dir() { inner.as_path() } else { path };
    let names = files::text(&folder.join(NAMES), 1 << 12).unwrap_or_default();
    let named: Vec<String> = names.split_whitespace().map(str::to_string).collect();
    let mut notes = Vec::new();
    let classes = if named.len() == CLASSES {
        named
    } else {
        notes.push(format!("its classes have numbers for names: it has no {NAMES} that names all of them"));
        (1..=CLASSES).map(|class| class.to_string()).collect()
    };
    let (train, train_there) = half(folder, "train", config.train_images)?;
    let (test, test_there) = half(folder, "test", config.test_images)?;
    let dataset = Dataset::in_memory(config, classes, [train, test]);
    let unlabelled = folder.join(UNLABELLED);
    if config.unlabelled {
        let unlabelled = Unlabelled::open(unlabelled)?;
        let there = [unlabelled.count, test_there];
        return Ok(Dataset { there, notes, ..training_on(unlabelled, config.train_images, dataset) });
    }
    if unlabelled.is_file() {
        notes.push(format!(
            "its images without labels ({UNLABELLED}) are not used; data.unlabelled = true trains on them"
        ));
    }
    Ok(Dataset { there: [train_there, test_there], notes, ..dataset })
}

/// `dataset`, whose training images judge what is trained on the first `wanted` (0: all) of
/// `unlabelled`.
///
/// The length of their file stands for them in the digest: reading them all would take longer than
/// many runs.
fn training_on(unlabelled: Unlabelled, wanted: usize, dataset: Dataset) -> Dataset {
    let used = if wanted == 0 { unlabelled.count } else { wanted.min(unlabelled.count) };
    let mut hash = Sha256::new();
    hash.update(&dataset.digest);
    for number in [unlabelled.count, used] {
        hash.update((number as u64).to_le_bytes());
    }
    let train = Split { images: Images::Planes(unlabelled), labels: vec![0; used], paths: Vec::new() };
    let digest = hex(&hash.finalize());
    Dataset { references: Some(dataset.train), train: Arc::new(train), digest, ..dataset }
}

/// The images without labels, which are read when they are asked for.
#[derive(Debug)]
pub struct Unlabelled {
    path: PathBuf,
    file: File,
    count: usize,
}

impl Unlabelled {
    fn open(path: PathBuf) -> Result<Self> {
        let (file, metadata) = files::open(&path)
            .map_err(|e| Error::data(&path, format!("{NOT_OFFICIAL}, or cannot be read: {e}")))?;
        let bytes = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if bytes == 0 || !bytes.is_multiple_of(PIXELS) {
            let what =
                format!("is truncated: {bytes} bytes are not a whole number of images of {PIXELS} bytes");
            return Err(Error::data(path, what));
        }
        match bytes / PIXELS {
            count if count <= MOST_UNLABELLED => Ok(Self { path, file, count }),
            count => Err(Error::data(path, format!("{NOT_OFFICIAL}: it has {count} images"))),
        }
    }

    /// Image `index`.
    ///
    /// # Errors
    /// [`Error::Data`] where it cannot be read.
    pub fn image(&self, index: usize) -> Result<Image> {
        let offset = index as u64 * PIXELS as u64;
        let planes = files::read_at(&self.file, &self.path, offset, PIXELS);
        planes
            .map(|planes| image(&planes))
            .map_err(|e| Error::data(&self.path, format!("image {index} cannot be read: {e}")))
    }
}

/// Images and their labels.
type Half = (Vec<Image>, Vec<u32>);

/// The first `wanted` images of one half (0: all) with their labels, and how many there are.
fn half(folder: &Path, name: &str, wanted: usize) -> Result<(Half, usize)> {
    let read = |part: &str, most: usize| {
        let file = folder.join(format!("{name}_{part}.bin"));
        let unreadable = |e| Error::data(&file, format!("{NOT_OFFICIAL}, or cannot be read: {e}"));
        files::read(&file, most as u64).map_err(unreadable).map(|bytes| (file.clone(), bytes))
    };
    let (labels_file, labels) = read("y", MOST)?;
    let (images_file, pixels) = read("X", MOST * PIXELS)?;
    if labels.is_empty() || pixels.len() != labels.len() * PIXELS {
        let what = format!("has {} bytes; {} labels need {PIXELS} bytes each", pixels.len(), labels.len());
        return Err(Error::data(images_file, what));
    }
    let class = |(index, label): (usize, &u8)| match *label as usize {
        label @ 1..=CLASSES => Ok(label as u32 - 1),
        label => {
            Err(Error::data(&labels_file, format!("image {index} has label {label}, not 1 to {CLASSES}")))
        }
    };
    let labels: Vec<u32> = labels.iter().enumerate().map(class).collect::<Result<_>>()?;
    let used = first_of_each_class(&labels, CLASSES, wanted);
    let images = used.iter().map(|&index| image(&pixels[index * PIXELS..][..PIXELS])).collect();
    Ok(((images, used.iter().map(|&index| labels[index]).collect()), labels.len()))
}

/// Three planes, each column by column, as (H, W, 3).
fn image(planes: &[u8]) -> Image {
    let place = |i: usize| (i % 3) * PLANE + (i / 3 % SIDE) * SIDE + i / 3 / SIDE;
    Image { height: SIDE, width: SIDE, pixels: (0..PIXELS).map(|i| planes[place(i)]).collect() }
}
