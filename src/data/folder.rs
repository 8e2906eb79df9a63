//! `folder:DIR`: class folders of image files of any size, in `train/` and in `test/` or
//! `val/`, or in DIR itself.
//!
//! As in torchvision, the images of a class are those in its folder and in the folders inside it.

use super::classes::Half;
use super::layout;
use super::limit::count_classes;
use super::picture::{Exif, decode_listed, header};
use super::{DataConfig, Dataset, Images, Split, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files::hex;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decoded images are kept while they need no more than this.
const MEMORY_BYTES: u64 = 1 << 30;

/// The data set of the images below `root`.
///
/// # Errors
/// [`Error::Data`] for images that do not make both halves with the same classes, and for a file
/// that cannot be read where `config` skips none.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    open_within(MEMORY_BYTES, root, config)
}

/// Opens `root`; decoded images are kept if they fit into `memory` bytes.
fn open_within(memory: u64, root: &Path, config: &DataConfig) -> Result<Dataset> {
    let mut notes = Vec::new();
    let listed = layout::list(root, config, &mut notes)?;
    open_listed_within(memory, root, config, listed, notes)
}

/// The classes by label, and both halves.
pub type Listed = (Vec<String>, [Half; 2]);

/// The data set of the images below `root` that were listed, with what is said of them.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read where `config` skips none.
pub fn open_listed(root: &Path, config: &DataConfig, listed: Listed, notes: Vec<String>) -> Result<Dataset> {
    open_listed_within(MEMORY_BYTES, root, config, listed, notes)
}

fn open_listed_within(
    memory: u64,
    root: &Path,
    config: &DataConfig,
    (classes, [train, test]): Listed,
    notes: Vec<String>,
) -> Result<Dataset> {
    let there = [train.labels.len(), test.labels.len()];
    let by_class = count_classes(&train.labels, classes.len());
    let exif = if config.exif { Exif::Applied } else { Exif::Ignored };
    let mut bad = Bad { classes: &classes, skip: config.skip_bad, exif, skipped: Vec::new() };
    let used = [used(&train, config.train_images, &mut bad)?, used(&test, config.test_images, &mut bad)?];
    let bytes: u64 = used.iter().flatten().map(|file| file.decoded_bytes).sum();
    let turned = used.iter().flatten().filter(|file| file.turned).count();
    let [a, b] = used;
    let dataset = if bytes <= memory {
        let halves = [decode_all(a, &train, &mut bad)?, decode_all(b, &test, &mut bad)?];
        let [(a, train_paths), (b, test_paths)] = halves;
        let mut dataset = Dataset::in_memory(config, classes.clone(), [a, b]);
        for (split, paths) in [(&mut dataset.train, train_paths), (&mut dataset.test, test_paths)] {
            // Nobody else has it yet.
            Arc::get_mut(split).into_iter().for_each(|split| split.paths.clone_from(&paths));
        }
        dataset
    } else if config.skip_bad {
        // Which files are bad must be known before the first step: afterwards the order is fixed.
        let halves = [decodable(a, &train, &mut bad)?, decodable(b, &test, &mut bad)?];
        on_demand(root, (config, exif), classes.clone(), halves)
    } else {
        on_demand(root, (config, exif), classes.clone(), [a, b])
    };
    Ok(Dataset { skipped: bad.skipped, notes, there, by_class, turned, ..dataset })
}

/// An image file that looks right from outside.
struct File {
    path: PathBuf,
    label: u32,
    decoded_bytes: u64,
    file_bytes: u64,
    turned: bool,
}

/// What is done about files that cannot be read.
struct Bad<'a> {
    classes: &'a [String],
    skip: bool,
    exif: Exif,
    skipped: Vec<(PathBuf, String)>,
}

impl Bad<'_> {
    /// What went well; the first error, or, if they are to be skipped, all of them noted. Every
    /// class that had images must have one left.
    fn keep<T>(&mut self, all: Vec<(u32, Result<T>)>, half: &Half) -> Result<Vec<T>> {
        let mut good = Vec::with_capacity(all.len());
        // Images without labels are of one class here.
        let classes = self.classes.len().max(1);
        let (mut had, mut has) = (vec![false; classes], vec![false; classes]);
        for (label, one) in all {
            had[label as usize] = true;
            match one {
                Ok(one) => {
                    has[label as usize] = true;
                    good.push(one);
                }
                Err(Error::Data { path, what }) if self.skip => self.skipped.push((path, what)),
                Err(error) => return Err(error),
            }
        }
        match (0..had.len()).find(|&class| had[class] && !has[class]) {
            Some(class) => {
                let what = match self.classes.is_empty() {
                    true => "has no image that can be read in one of the halves",
                    false => "has no image that can be read; both halves need every class",
                };
                Err(Error::data(half.folder.join(self.classes.get(class).map_or("", |c| c)), what))
            }
            None => Ok(good),
        }
    }
}

/// The files of one half that are used; each one's header was read.
fn used(half: &Half, limit: usize, bad: &mut Bad) -> Result<Vec<File>> {
    let used = first_of_each_class(&half.labels, bad.classes.len(), limit);
    let headers = used.into_par_iter().map(|i| {
        let (path, label) = (half.paths[i].clone(), half.labels[i]);
        let file = header(&path).map(|header| File {
            path,
            label,
            decoded_bytes: header.decoded_bytes,
            file_bytes: header.file_bytes,
            turned: header.turned,
        });
        (label, file)
    });
    bad.keep(headers.collect(), half)
}

/// The files that decode.
fn decodable(files: Vec<File>, half: &Half, bad: &mut Bad) -> Result<Vec<File>> {
    let exif = bad.exif;
    let tried = files.into_par_iter().map(|file| (file.label, decode_listed(&file.path, exif).map(|_| file)));
    bad.keep(tried.collect(), half)
}

/// Images with their labels, and their files.
type Decoded = ((Vec<Image>, Vec<u32>), Vec<PathBuf>);

fn decode_all(files: Vec<File>, half: &Half, bad: &mut Bad) -> Result<Decoded> {
    let exif = bad.exif;
    let tried = files.into_par_iter().map(|file| {
        let image = decode_listed(&file.path, exif);
        (file.label, image.map(|image| ((image, file.label), file.path)))
    });
    Ok(bad.keep(tried.collect(), half)?.into_iter().unzip())
}

/// A data set whose images are decoded when they are asked for.
///
/// Reading them all for a digest would take longer than many runs: names and lengths stand for
/// them.
fn on_demand(
    root: &Path,
    (config, exif): (&DataConfig, Exif),
    classes: Vec<String>,
    listed: [Vec<File>; 2],
) -> Dataset {
    let mut hash = Sha256::new();
    if exif == Exif::Applied {
        hash.update("exif");
    }
    let [train, test] = listed.map(|files| {
        for file in &files {
            let place = file.path.strip_prefix(root).unwrap_or(&file.path).as_os_str().as_encoded_bytes();
            for length in [place.len() as u64, file.file_bytes, file.decoded_bytes] {
                hash.update(length.to_le_bytes());
            }
            hash.update(place);
            hash.update(file.label.to_le_bytes());
        }
        let labels = files.iter().map(|file| file.label).collect();
        let paths = files.into_iter().map(|file| file.path).collect();
        Split { images: Images::Files(exif), labels, paths }
    });
    Dataset::new(config, classes, [train, test], hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_beyond_memory_are_decoded_when_asked_for_and_bad_ones_found_before() {
        let root = tempfile::tempdir().unwrap();
        for place in ["train/cat", "train/dog", "test/cat", "test/dog"] {
            let folder = root.path().join(place);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..3u8 {
                let image = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([i, x as u8, y as u8]));
                image.save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
        let config = |skip_bad| DataConfig { skip_bad, ..DataConfig::all_of("folder:here") };
        let kept = open_within(MEMORY_BYTES, root.path(), &config(false)).unwrap();
        let asked = open_within(0, root.path(), &config(false)).unwrap();
        assert!(matches!(asked.train.images, Images::Files(_)));
        assert_eq!(kept.train.path(4), asked.train.path(4));
        assert!(kept.train.path(4).unwrap().ends_with("train/dog/1.png"));
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
