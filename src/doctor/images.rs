//! What the images are like, whatever is trained on them: sizes, images that show nothing, copies,
//! borders, and what all images share.

use super::looks::{self, Look};
use crate::data::{Dataset, Split};
use crate::error::{Result, go_on};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Files that are named of those that show a fault.
const EXAMPLES: usize = 3;
/// Fewer images have too little in common by chance to say what all of them share.
const FEW: usize = 16;

/// Numbers about the images that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImageFacts {
    /// Training and held-out images that there are.
    pub there: [usize; 2],
    /// Training and held-out images that were looked at: the first of each class in equal parts.
    pub looked_at: [usize; 2],
    /// The least and the largest width in pixels.
    pub width: [usize; 2],
    /// The least and the largest height in pixels.
    pub height: [usize; 2],
    /// The shorter side of an image in pixels, the median.
    pub shorter_side: usize,
    /// Classes; 0 where images have no labels.
    pub classes: usize,
    /// Training images of the smallest and of the largest class that there are.
    pub class_sizes: Option<[usize; 2]>,
    /// The share of images that are of nearly one colour: [`looks::FLAT`].
    pub flat: f64,
    /// Some of them.
    pub flat_files: Vec<String>,
    /// The share of training images that are copies of an earlier one: [`looks::COPY`].
    pub copies: f64,
    /// Some of them, each with what it is a copy of.
    pub copied_files: Vec<String>,
    /// The share of held-out images that are copies of a training image.
    pub leaked: f64,
    /// Some of them, each with what it is a copy of.
    pub leaked_files: Vec<String>,
    /// The part of an image's area that its border of one colour takes, the median over images that
    /// are not of one colour themselves.
    pub border: f64,
    /// The share of those images whose border takes more than [`looks::BORDERED`] of the area.
    pub bordered: f64,
    /// Some of them.
    pub bordered_files: Vec<String>,
    /// The most frequent colour of those borders.
    pub border_colour: Option<[u8; 3]>,
    /// The part of the picture within the border, in places of a grid of 32 × 32, that is the same
    /// in all images; none of fewer than 16 images that differ.
    pub shared: Option<f64>,
}

/// The facts of the images of `dataset` that were looked at, given the `looks` of its training
/// images and of its held-out ones.
pub fn facts(dataset: &Dataset, [train, test]: [&[Look]; 2]) -> ImageFacts {
    let all = || train.iter().chain(test);
    let range = |of: &dyn Fn(&Look) -> usize| {
        [all().map(of).min().unwrap_or_default(), all().map(of).max().unwrap_or_default()]
    };
    let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
    let files = |looks: Vec<&Look>| looks.iter().take(EXAMPLES).map(|look| look.name.clone()).collect();
    let flat: Vec<&Look> = all().filter(|look| look.is_flat()).collect();
    let with_content: Vec<&Look> = all().filter(|look| !look.is_flat()).collect();
    let bordered: Vec<&Look> =
        with_content.iter().filter(|look| look.border > looks::BORDERED).copied().collect();
    let copies = looks::copies(train, train);
    let leaked = looks::copies(test, train);
    let pairs = |found: &[(usize, usize)], of: &[Look]| {
        let name =
            |(copy, original): &(usize, usize)| format!("{} (as {})", of[*copy].name, train[*original].name);
        found.iter().take(EXAMPLES).map(name).collect()
    };
    let labelled = dataset.trains_on_labelled();
    let by_class = dataset.by_class.iter().filter(|_| labelled);
    ImageFacts {
        there: dataset.there,
        looked_at: [train.len(), test.len()],
        width: range(&|look| look.width),
        height: range(&|look| look.height),
        shorter_side: median(all().map(|look| look.width.min(look.height) as f64)) as usize,
        classes: dataset.classes.len(),
        class_sizes: by_class.clone().min().zip(by_class.max()).map(|(least, most)| [*least, *most]),
        flat: share(flat.len(), train.len() + test.len()),
        flat_files: files(flat),
        copies: share(copies.len(), train.len()),
        copied_files: pairs(&copies, train),
        leaked: share(leaked.len(), test.len()),
        leaked_files: pairs(&leaked, test),
        border: median(with_content.iter().map(|look| look.border)),
        bordered: share(bordered.len(), with_content.len()),
        border_colour: most_frequent(bordered.iter().filter_map(|look| look.border_colour)),
        bordered_files: files(bordered),
        shared: if with_content.len() < FEW { None } else { looks::shared(&with_content) },
    }
}

/// Looks at the images `indices` of `split`, keeping a copy of each whose shorter side has `keep`
/// pixels at most.
///
/// # Errors
/// [`crate::Error::Data`] for an image that cannot be decoded, [`crate::Error::Stopped`] once
/// `stop` is set.
pub fn look(split: &Split, indices: &[usize], keep: usize, stop: &AtomicBool) -> Result<Vec<Look>> {
    let one = |index: &usize| {
        go_on(stop)?;
        Ok(Look::at(&*split.image(*index)?, split.label(*index), name(split, *index), keep))
    };
    indices.par_iter().map(one).collect()
}

/// The file of an image from its class's folder on, or its number.
fn name(split: &Split, index: usize) -> String {
    let Some(path) = split.path(index) else { return format!("image {index}") };
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(3)..].join("/")
}

/// The median; 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The most frequent colour, counted in steps of 16; of equally frequent ones the darker.
fn most_frequent(colours: impl Iterator<Item = [u8; 3]>) -> Option<[u8; 3]> {
    let mut counts = std::collections::BTreeMap::<[u8; 3], (usize, [u8; 3])>::new();
    for colour in colours {
        counts.entry(colour.map(|channel| channel / 16)).or_insert((0, colour)).0 += 1;
    }
    let most = counts.values().map(|(count, _)| *count).max()?;
    counts.into_values().find(|(count, _)| *count == most).map(|(_, colour)| colour)
}
