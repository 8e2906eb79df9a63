//! Images and labels: where they come from, in which order, and the batches prepared ahead.

use serde::{Deserialize, Serialize};

/// Where images come from. On the command line: `shapes`, `folder:DIR`, `cifar10:PATH`, `cifar100:PATH`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `shapes`, `folder:DIR`, `cifar10:PATH` or `cifar100:PATH`.
    pub source: String,
    /// Training images used, the first so many of each class in equal parts; 0 means all.
    pub train_images: usize,
    /// Held-out images used, likewise.
    pub test_images: usize,
    /// Side in pixels of the procedural images (`shapes` only).
    pub shapes_size: usize,
    /// Seed of the procedural images: the data set itself, the same for every run seed.
    pub shapes_seed: u64,
    /// Counts undecodable files and goes on, instead of stopping at the first.
    pub skip_bad: bool,
}

pub mod loader;
pub mod shapes;
use crate::augment::{self, AugmentConfig, Image};
use std::borrow::Cow;
use std::sync::Arc;
/// stub
#[derive(Debug)]
pub struct Split {
    images: Vec<Image>,
    labels: Vec<u32>,
}
impl Split {
    /// n
    pub fn len(&self) -> usize {
        self.images.len()
    }
    /// n
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }
    /// n
    pub fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
    /// n
    pub fn image(&self, i: usize) -> crate::Result<Cow<'_, Image>> {
        Ok(Cow::Borrowed(&self.images[i]))
    }
}
/// stub
#[derive(Debug)]
pub struct Dataset {
    /// n
    pub name: String,
    /// n
    pub classes: Vec<String>,
    /// n
    pub train: Arc<Split>,
    /// n
    pub test: Arc<Split>,
    /// n
    pub digest: String,
    /// n
    pub skipped: Vec<String>,
}
impl Dataset {
    /// n
    pub fn open(c: &DataConfig) -> crate::Result<Dataset> {
        let make = |n: usize, s: u64| {
            let labels: Vec<u32> = (0..n).map(shapes::label).collect();
            let images = (0..n).map(|i| shapes::render(c.shapes_seed, s, i, c.shapes_size)).collect();
            Arc::new(Split { images, labels })
        };
        Ok(Dataset {
            name: "stub".into(),
            classes: (0..10).map(|i| i.to_string()).collect(),
            train: make(c.train_images, 0),
            test: make(c.test_images, 1),
            digest: "0".into(),
            skipped: vec![],
        })
    }
}
/// n
pub fn plain(split: &Split, range: std::ops::Range<usize>, a: &AugmentConfig) -> crate::Result<Vec<f32>> {
    let mut out = Vec::new();
    for i in range {
        let planes = augment::resize_and_centre_crop(&split.images[i], a.size);
        let mut o = vec![0.0; a.size * a.size * 3];
        augment::normalise(&planes, a.mean, a.std, &mut o);
        out.extend(o);
    }
    Ok(out)
}
