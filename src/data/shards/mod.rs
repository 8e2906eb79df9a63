//! `tar:DIR`: images in shards, which are tar archives as WebDataset has them: members with the
//! same name up to their first point are one sample, an image and its class.
//!
//! Shards are read at any place, by an [`index`] of where their images begin: the order of images
//! in a run is the one that `folder:` of the same images has, and so are the bytes of its results.

mod index;
pub mod pack;

use super::limit::count_classes;
use super::picture::{self, Exif};
use super::{DataConfig, Dataset, HeldOut, Images, Split, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files::{self, hex};
use index::{Index, Member};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decoded images are kept while they need no more than this.
const MEMORY_BYTES: u64 = 1 << 30;
/// Names of classes, a line each, beside the shards.
const CLASSES: &str = "classes.txt";
const LAYOUT: &str = "expected DIR/train-*.tar and DIR/test-*.tar, or DIR/train/*.tar and DIR/test/*.tar (or val in \
                      place of test)";

/// The open shards of a data set.
#[derive(Debug)]
pub struct Shards(Vec<Shard>);

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

/// Where an image lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    shard: u32,
    offset: u64,
    bytes: u32,
}

impl Shards {
    fn open(paths: Vec<PathBuf>) -> Result<Shards> {
        let open = |path: PathBuf| match files::open(&path) {
            Ok((file, _)) => Ok(Shard { path, file }),
            Err(error) => Err(Error::data(path, format!("cannot be read: {error}"))),
        };
        paths.into_iter().map(open).collect::<Result<_>>().map(Shards)
    }

    /// The image at `place`, decoded.
    ///
    /// # Errors
    /// [`Error::Data`] naming shard and member where it cannot be read or decoded.
    pub fn image(&self, place: Place) -> Result<Image> {
        let shard = &self.0[place.shard as usize];
        let bytes = files::read_at(&shard.file, &shard.path, place.offset, place.bytes as usize);
        let bytes = bytes.map_err(|error| {
            Error::data(self.name(place), format!("cannot be read: {error}; is the shard truncated?"))
        })?;
        picture::decode_bytes(bytes, Exif::Ignored, &|| self.name(place))
    }

    /// Shard and member of the image at `place`, for a person.
    fn name(&self, place: Place) -> PathBuf {
        /// A member's header, which begins with its name, and the length of the name.
        const HEADER: u64 = 512;
        const NAME: usize = 100;
        let shard = &self.0[place.shard as usize];
        let header = place.offset.saturating_sub(HEADER);
        let header = files::read_at(&shard.file, &shard.path, header, NAME).unwrap_or_default();
        let name: Vec<u8> = header.into_iter().take_while(|byte| *byte != 0).collect();
        match String::from_utf8(name) {
            Ok(name) if !name.is_empty() => shard.path.join(name),
            _ => shard.path.join(format!("member at byte {}", place.offset)),
        }
    }
}

/// The data set of the shards in `root`.
///
/// # Errors
/// [`Error::Data`] for a layout without both halves, for a damaged or truncated shard, naming the
/// member, for a sample without a class, and for an image that cannot be decoded where `config`
/// skips none.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    open_within(MEMORY_BYTES, root, config)
}

/// Opens `root`; decoded images are kept if they fit into `memory` bytes.
fn open_within(memory: u64, root: &Path, config: &DataConfig) -> Result<Dataset> {
    let mut notes = Vec::new();
    let halves = halves(root, config, &mut notes)?;
    let train_shards = halves[0].len();
    let paths: Vec<PathBuf> = halves.concat();
    let index = Index::of(root, &paths)?;
    if index.without_image > 0 {
        notes.push(format!("{} samples hold no image and were left out", index.without_image));
    }
    let is_training = |member: &&Member| (member.shard as usize) < train_shards;
    let (train, test): (Vec<&Member>, Vec<&Member>) = index.members.iter().partition(is_training);
    let classes = classes(root, &index, &train, &test)?;
    let shards = Arc::new(Shards::open(paths)?);
    let mut opening =
        Opening { shards: &shards, names: &index.labels, classes: &classes, config, skipped: Vec::new() };
    let labels: Vec<u32> = train.iter().map(|member| opening.label(member)).collect();
    let by_class = count_classes(&labels, classes.names.len());
    let used = [opening.used(&train, config.train_images), opening.used(&test, config.test_images)];
    let bytes: u64 = used.iter().flatten().map(|member| member.decoded_bytes).sum();
    let turned = used.iter().flatten().filter(|member| member.turned).count();
    let there = [train.len(), test.len()];
    let dataset = match bytes <= memory {
        true => {
            let [a, b] = used;
            let halves = [opening.decoded(&a)?, opening.decoded(&b)?];
            Dataset::in_memory(config, classes.names.clone(), halves)
        }
        false => opening.on_demand(used)?,
    };
    Ok(Dataset { skipped: opening.skipped, notes, there, by_class, turned, ..dataset })
}

/// What images are made of while a data set is opened.
struct Opening<'a> {
    shards: &'a Arc<Shards>,
    /// What members say of their classes.
    names: &'a [String],
    classes: &'a Classes,
    config: &'a DataConfig,
    skipped: Vec<(PathBuf, String)>,
}

impl<'a> Opening<'a> {
    /// The first `limit` of `members`, of each class in equal parts.
    fn used(&self, members: &[&'a Member], limit: usize) -> Vec<&'a Member> {
        let labels: Vec<u32> = members.iter().map(|member| self.label(member)).collect();
        let used = first_of_each_class(&labels, self.classes.names.len(), limit);
        used.into_iter().map(|index| members[index]).collect()
    }

    fn label(&self, member: &Member) -> u32 {
        self.classes.label(&self.names[member.label as usize])
    }

    /// Images and labels of `members`, without those that are skipped.
    fn decoded(&mut self, members: &[&Member]) -> Result<(Vec<Image>, Vec<u32>)> {
        let all: Vec<(u32, Result<Image>)> = members
            .par_iter()
            .map(|member| (self.label(member), self.shards.image(member.place())))
            .collect();
        let mut kept = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for (label, image) in all {
            match image {
                Ok(image) => {
                    kept.0.push(image);
                    kept.1.push(label);
                }
                Err(Error::Data { path, what }) if self.config.skip_bad => self.skipped.push((path, what)),
                Err(error) => return Err(error),
            }
        }
        self.check_classes(members, &kept.1)?;
        Ok(kept)
    }

    /// A data set whose images are decoded when they are asked for. Which ones are to be skipped
    /// must be known before the first step: then all are tried.
    ///
    /// Reading all images for a digest would take longer than many runs: places and lengths stand
    /// for them.
    fn on_demand(&mut self, used: [Vec<&Member>; 2]) -> Result<Dataset> {
        let mut hash = Sha256::new();
        let mut splits = Vec::new();
        for mut members in used {
            if self.config.skip_bad {
                let tried: Vec<(&Member, Result<Image>)> =
                    members.par_iter().map(|member| (*member, self.shards.image(member.place()))).collect();
                let before = members.clone();
                members.clear();
                for (member, image) in tried {
                    match image {
                        Ok(_) => members.push(member),
                        Err(Error::Data { path, what }) => self.skipped.push((path, what)),
                        Err(error) => return Err(error),
                    }
                }
                let labels: Vec<u32> = members.iter().map(|member| self.label(member)).collect();
                self.check_classes(&before, &labels)?;
            }
            let labels: Vec<u32> = members.iter().map(|member| self.label(member)).collect();
            for (member, label) in members.iter().zip(&labels) {
                for number in
                    [u64::from(member.shard), member.offset, u64::from(member.bytes), member.decoded_bytes]
                {
                    hash.update(number.to_le_bytes());
                }
                hash.update(label.to_le_bytes());
            }
            let places = members.iter().map(|member| member.place()).collect();
            let images = Images::Shards(self.shards.clone(), places);
            splits.push(Split { images, labels, paths: Vec::new() });
        }
        let digest = hex(&hash.finalize());
        let splits: [Split; 2] =
            splits.try_into().map_err(|_| Error::Failure("a data set has two halves".into()))?;
        Ok(Dataset::new(self.config, self.classes.names.clone(), splits, digest))
    }

    /// Refuses classes of which no image was left.
    fn check_classes(&self, members: &[&Member], left: &[u32]) -> Result<()> {
        let left: BTreeSet<u32> = left.iter().copied().collect();
        let lost = members.iter().find(|member| !left.contains(&self.label(member)));
        lost.map_or(Ok(()), |member| {
            let class = &self.classes.names[self.label(member) as usize];
            let what = format!("class {class} has no image that can be read; both halves need every class");
            Err(Error::data(&self.shards.0[member.shard as usize].path, what))
        })
    }
}

/// Classes by label.
struct Classes {
    names: Vec<String>,
    /// What members say of their classes, in the order of labels.
    said: Vec<Said>,
}

/// A class as a member says it: numbers come in their own order, words in that of texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Number(u64),
    Word(String),
}

impl Said {
    fn of(text: &str) -> Said {
        text.parse().map_or_else(|_| Said::Word(text.to_string()), Said::Number)
    }
}

impl Classes {
    fn label(&self, text: &str) -> u32 {
        self.said.binary_search(&Said::of(text)).unwrap_or_default() as u32
    }
}

/// The classes of both halves, each of which must have all of them. Numbers have the names in
/// [`CLASSES`], where there is that file.
fn classes(root: &Path, index: &Index, train: &[&Member], test: &[&Member]) -> Result<Classes> {
    let said = |members: &[&Member]| -> BTreeSet<Said> {
        let distinct: BTreeSet<u32> = members.iter().map(|member| member.label).collect();
        distinct.into_iter().map(|label| Said::of(&index.labels[label as usize])).collect()
    };
    let (trained, tested) = (said(train), said(test));
    let shown = |said: &Said| match said {
        Said::Number(number) => number.to_string(),
        Said::Word(word) => word.clone(),
    };
    for (one, other, half) in [(&trained, &tested, "held-out"), (&tested, &trained, "training")] {
        if let Some(class) = one.difference(other).next() {
            let what = format!("no {half} image is of class {}; both halves need every class", shown(class));
            return Err(Error::data(root, what));
        }
    }
    let listed = files::text(&root.join(CLASSES), files::SHORT).unwrap_or_default();
    let listed: Vec<&str> = listed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let name = |said: &Said| match said {
        Said::Number(number) => {
            listed.get(*number as usize).map_or(number.to_string(), |name| name.to_string())
        }
        Said::Word(word) => word.clone(),
    };
    let said: Vec<Said> = trained.into_iter().collect();
    Ok(Classes { names: said.iter().map(name).collect(), said })
}

/// The shards of both halves, by name.
fn halves(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<[Vec<PathBuf>; 2]> {
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let train = shards_of(root, "train")?;
    let [test, val] = [shards_of(root, HeldOut::Test.name())?, shards_of(root, HeldOut::Val.name())?];
    if config.held_out.is_none() && !test.is_empty() && !val.is_empty() {
        notes.push("test is held out and val is not used; data.held_out = \"val\" takes val".into());
    }
    let held_out = match config.held_out {
        Some(HeldOut::Val) => val,
        Some(HeldOut::Test) => test,
        None if test.is_empty() => val,
        None => test,
    };
    if train.is_empty() || held_out.is_empty() {
        return Err(Error::data(root, format!("has not both halves of a data set; {LAYOUT}")));
    }
    Ok([train, held_out])
}

/// `root/half-*.tar` and `root/half/*.tar`, in the order of their names.
fn shards_of(root: &Path, half: &str) -> Result<Vec<PathBuf>> {
    let unlisted = |folder: &Path| {
        let folder = folder.to_path_buf();
        move |error: std::io::Error| Error::data(folder, format!("cannot be listed: {error}"))
    };
    let mut shards = Vec::new();
    let inner = root.join(half);
    let prefix = format!("{half}-");
    let folders = [(root, prefix.as_str()), (inner.as_path(), "")];
    for (folder, prefix) in folders.into_iter().filter(|(folder, _)| folder.is_dir()) {
        for entry in std::fs::read_dir(folder).map_err(unlisted(folder))? {
            let entry = entry.map_err(unlisted(folder))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(prefix) && name.ends_with(".tar") && !name.starts_with('.') {
                shards.push(entry.path());
            }
        }
    }
    shards.sort();
    Ok(shards)
}

#[cfg(test)]
mod tests;
