//! Images in shards, files that hold many of them: [`webdataset`] reads tar archives (`tar:DIR`),
//! [`parquet`] tables (`parquet:DIR`).
//!
//! Shards are read at any place, by an [`index`] of where their images lie: the order of images in
//! a run is the one that `folder:` of the same images has, and so are the bytes of its results.

mod classes;
mod index;
mod listing;
pub mod pack;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod webdataset;

use super::limit::count_classes;
use super::{DataConfig, Dataset, Images, Split, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files::hex;
use classes::Classes;
use index::Member;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Decoded images are kept while they need no more than this.
const MEMORY_BYTES: u64 = 1 << 30;

/// The open shards of a data set.
pub trait Shards: Debug + Send + Sync {
    /// The image at `place`, decoded.
    ///
    /// # Errors
    /// [`Error::Data`] naming the shard, and the image in it, where it cannot be read or decoded.
    fn image(&self, place: Place) -> Result<Image>;

    /// The images at `places`, in their order, each as [`Shards::image`] has it.
    fn images(&self, places: &[Place]) -> Vec<Result<Image>> {
        places.par_iter().map(|place| self.image(*place)).collect()
    }

    /// The file of shard `shard`.
    fn path(&self, shard: u32) -> &Path;
}

/// Where an image lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    shard: u32,
    /// The byte at which it begins, or its row: as its shard has places.
    offset: u64,
    bytes: u32,
}

/// What was found in shards: all images that there are, and their classes.
struct Found<'a> {
    shards: Arc<dyn Shards>,
    /// Training and held-out images.
    halves: [Vec<&'a Member>; 2],
    /// What members say of their classes.
    labels: &'a [String],
    classes: Classes,
    notes: Vec<String>,
}

/// The data set of what was found; decoded images are kept if they fit into `memory` bytes.
///
/// # Errors
/// [`Error::Data`] for an image that cannot be decoded where `config` skips none, and for a class
/// of which no image is left.
fn opened(memory: u64, config: &DataConfig, found: Found) -> Result<Dataset> {
    let Found { shards, halves: [train, test], labels, classes, notes } = found;
    let mut opening =
        Opening { shards: &shards, names: labels, classes: &classes, config, skipped: Vec::new() };
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
    shards: &'a Arc<dyn Shards>,
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

    /// Each of `members` with its image, or why there is none.
    fn tried<'m>(&self, members: &[&'m Member]) -> Vec<(&'m Member, Result<Image>)> {
        let places: Vec<Place> = members.iter().map(|member| member.place()).collect();
        members.iter().copied().zip(self.shards.images(&places)).collect()
    }

    /// Images and labels of `members`, without those that are skipped.
    fn decoded(&mut self, members: &[&Member]) -> Result<(Vec<Image>, Vec<u32>)> {
        let mut kept = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
        for (member, image) in self.tried(members) {
            match image {
                Ok(image) => {
                    kept.0.push(image);
                    kept.1.push(self.label(member));
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
        /// Images that are tried at once: of more, those that are good would fill the memory.
        const TRIED: usize = 256;
        let mut hash = Sha256::new();
        let mut splits = Vec::new();
        for mut members in used {
            if self.config.skip_bad {
                let before = std::mem::take(&mut members);
                for some in before.chunks(TRIED) {
                    for (member, image) in self.tried(some) {
                        match image {
                            Ok(_) => members.push(member),
                            Err(Error::Data { path, what }) => self.skipped.push((path, what)),
                            Err(error) => return Err(error),
                        }
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
            let what = match self.classes.names.get(self.label(member) as usize) {
                Some(class) => {
                    format!("class {class} has no image that can be read; both halves need every class")
                }
                None => "has no image that can be read in one of the halves".into(),
            };
            Err(Error::data(self.shards.path(member.shard), what))
        })
    }
}

#[cfg(test)]
mod tests;
