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
