//! `stl10:PATH`: the official binary version of STL-10 (Coates, Ng & Lee 2011), unpacked: 5,000
//! training and 8,000 held-out images of 96 × 96 pixels in ten classes. Its 100,000 images without
//! labels are left where they are.

use super::{DataConfig, Dataset, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files;
use std::path::Path;

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;
const CLASSES: usize = 10;
/// Images of a half at most: the larger one has 8,000.
const MOST: usize = 1 << 16;
/// The folder that the official archive has.
const FOLDER: &str = "stl10_binary";
const NAMES: &str = "class_names.txt";

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
    let numbered = || (1..=CLASSES).map(|class| class.to_string()).collect();
    let classes = if named.len() == CLASSES { named } else { numbered() };
    let (train, train_there) = half(folder, "train", config.train_images)?;
    let (test, test_there) = half(folder, "test", config.test_images)?;
    let dataset = Dataset::in_memory(config, classes, [train, test]);
    Ok(Dataset { there: [train_there, test_there], ..dataset })
}

/// Images and their labels.
type Half = (Vec<Image>, Vec<u32>);

/// The first `wanted` images of one half (0: all) with their labels, and how many there are.
fn half(folder: &Path, name: &str, wanted: usize) -> Result<(Half, usize)> {
    let read = |part: &str, most: usize| {
        let file = folder.join(format!("{name}_{part}.bin"));
        let what = "is no file of the official binary version of STL-10";
        let unreadable = |e| Error::data(&file, format!("{what}, or cannot be read: {e}"));
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
