//! What a batch consists of: a pure function of (seed, step).
//!
//! The epoch is step / steps_per_epoch; the epoch's permutation and every view's draws come from
//! streams named by those numbers.

use super::Split;
use super::passes::Passes;
use crate::augment::{self, AugmentConfig, Scratch};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, stream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// What one training step reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The step that the batch belongs to.
    pub step: u64,
    /// Positions of the images in their split, (B).
    pub indices: Vec<u32>,
    /// Their classes, (B); only the E-step of supervised training reads them.
    pub labels: Vec<u32>,
    /// Normalised views, (V, B, H, W, 3).
    pub views: Vec<f32>,
    /// Small crops beside them, (n, B, h, w, 3); empty where the recipe has none.
    pub small: Vec<f32>,
}

/// Steps in one pass over `images`; the incomplete last batch is dropped. At least 1.
pub fn steps_per_epoch(images: usize, batch: usize) -> u64 {
    (images / batch.max(1)).max(1) as u64
}

/// Positions of the `batch` images of step `step` in their split of `images`, of which every epoch
/// shows all.
pub fn indices(images: usize, batch: usize, seed: u64, step: u64) -> Vec<u32> {
    BatchShape::drawn(batch, 0).indices(images, seed, step)
}

/// What [`indices`] gives, where the order of the epoch, which is not empty, is known.
fn indices_in(order: &[u32], batch: usize, step: u64) -> impl Iterator<Item = u32> + '_ {
    let first = (step % steps_per_epoch(order.len(), batch)) as usize * batch;
    (first..first + batch).map(|b| order[b % order.len()])
}

/// The batch of `step`, (views, batch, size, size, 3), computed here and now.
///
/// A split smaller than the batch is gone through repeatedly, in the same order. View v of position
/// b is drawn from (seed, Augment, step, v · batch + b); small crops are counted after the views.
///
/// # Errors
/// [`Error::Data`] where an image cannot be decoded, [`Error::Failure`] for a split without images.
pub fn prepare(
    split: &Split,
    augment: &AugmentConfig,
    shape: BatchShape,
    seed: u64,
    step: u64,
) -> Result<Batch> {
    let request = Request::new(augment.clone(), shape, seed);
    let epoch = step / steps_per_epoch(split.len(), shape.images);
    let mut out = Batch::default();
    let order = shape.order(split.len(), seed, epoch);
    request.fill(split, &order, step, &mut Scratch::default(), &mut out, &AtomicBool::new(false))?;
    Ok(out)
}

/// Views of the images `indices` for a measurement, (views, images, size, size, 3): like a batch of
/// `shape`, but drawn from (seed, Measure, `key`, v · images + i).
///
/// # Errors
/// [`Error::Data`] where an image cannot be decoded.
pub fn views_of(
    split: &Split,
    augment: &AugmentConfig,
    indices: &[u32],
    shape: BatchShape,
    seed: u64,
    key: u64,
) -> Result<Vec<f32>> {
    let shape = BatchShape { images: indices.len(), ..shape };
    // A measurement looks at views, whatever else trains.
    let request = Request::new(AugmentConfig { multi_crop: None, ..augment.clone() }, shape, seed);
    let mut out = Batch::default();
    request.make_room(&mut out);
    for i in shape.prepared() {
        let index = indices[i];
        let draw = |place: usize| stream(seed, Purpose::Measure, key, place as u64);
        request.fill_image(split, index, i, &draw, &mut Scratch::default(), &mut out)?;
    }
    Ok(out.views)
}

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Images.
    pub images: usize,
    /// Views of each.
    pub views: usize,
    /// How many of them, the last ones, are the elements of a finite T in turn instead of drawn;
    /// without effect where T is random.
    pub listed: usize,
    /// The part of the batch that is prepared here, of how many: `[0, 1]` is the whole. Pixels of
    /// the other images stay zero; nobody here reads them.
    pub part: [usize; 2],
    /// Which of the images an epoch shows.
    pub passes: Passes,
    /// Epochs of the run, over which its chunks are spread.
    pub epochs: u64,
}

impl BatchShape {
    /// Drawn views.
    pub fn drawn(images: usize, views: usize) -> BatchShape {
        BatchShape { images, views, listed: 0, part: [0, 1], passes: Passes::default(), epochs: 1 }
    }

    /// The order of `images` in `epoch`.
    fn order(&self, images: usize, seed: u64, epoch: u64) -> Vec<u32> {
        self.passes.order(images, seed, [epoch, self.epochs])
    }

    /// Positions of the images of step `step` in their split of `images`.
    pub fn indices(&self, images: usize, seed: u64, step: u64) -> Vec<u32> {
        let epoch = step / steps_per_epoch(images, self.images);
        indices_in(&self.order(images, seed, epoch), self.images, step).collect()
    }

    /// The places of the images that are prepared here.
    fn prepared(&self) -> Range<usize> {
        let [part, parts] = self.part;
        let len = self.images / parts;
        part * len..(part + 1) * len
    }

    /// Which element of a finite T view `v` of the batch's `b`th image is; none for a drawn one.
    ///
    /// Every image begins with another one: if all showed the same at once, batch norm would take
    /// away what it does to them.
    fn element(&self, augment: &AugmentConfig, v: usize, b: usize) -> Option<usize> {
        let set = augment.finite.as_ref()?;
        let first = self.views - self.listed.min(self.views);
        if v >= first { Some(v - first + b) } else { set.exhaustive.then_some(v + b) }
    }
}

/// How the batches of one loader are drawn.
#[derive(Clone)]
pub(super) struct Request {
    augment: AugmentConfig,
    /// How many small crops of an image, and how they are drawn.
    small: Option<(usize, AugmentConfig)>,
    shape: BatchShape,
    seed: u64,
}

impl Request {
    /// Batches of `shape`, with the small crops that `augment` asks for.
    pub fn new(augment: AugmentConfig, shape: BatchShape, seed: u64) -> Self {
        let small = augment.multi_crop.as_ref().map(|crops| (crops.count, augment.small(crops)));
        Self { augment, small, shape, seed }
    }

    /// Images of a batch.
    pub fn images(&self) -> usize {
        self.shape.images
    }

    /// The order of `images` images in `epoch`.
    pub fn order(&self, images: usize, epoch: u64) -> Vec<u32> {
        self.shape.order(images, self.seed, epoch)
    }

    fn make_room(&self, out: &mut Batch) {
        let len = |views: usize, config: &AugmentConfig| views * self.images() * config.size.pow(2) * 3;
        out.views.resize(len(self.shape.views, &self.augment), 0.0);
        out.small.resize(self.small.as_ref().map_or(0, |(count, config)| len(*count, config)), 0.0);
    }

    /// Writes all views of image `index`, the batch's `b`th, into `out`; `draw` names the stream of
    /// a place.
    fn fill_image(
        &self,
        split: &Split,
        index: u32,
        b: usize,
        draw: &dyn Fn(usize) -> Stream,
        scratch: &mut Scratch,
        out: &mut Batch,
    ) -> Result<()> {
        // Decoded once for all its views.
        let image = split.image(index as usize)?;
        let augment = &self.augment;
        let one = augment.size * augment.size * 3;
        for v in 0..self.shape.views {
            let place = v * self.images() + b;
            let pixels = &mut out.views[place * one..][..one];
            match (self.shape.element(augment, v, b), &augment.finite) {
                (Some(element), Some(set)) => {
                    augment::element(augment, set, &image, element, scratch, pixels);
                }
                _ => augment::view(augment, &image, &mut draw(place), scratch, pixels),
            }
        }
        if let Some((count, small)) = &self.small {
            let one = small.size * small.size * 3;
            for v in 0..*count {
                let place = v * self.images() + b;
                let mut rng = draw(self.shape.views * self.images() + place);
                augment::view(small, &image, &mut rng, scratch, &mut out.small[place * one..][..one]);
            }
        }
        Ok(())
    }

    /// Writes the batch of `step` into `out`; gives up early, incomplete, once `stop` is set.
    ///
    /// # Errors
    /// As [`Split::image`].
    pub fn fill(
        &self,
        split: &Split,
        order: &[u32],
        step: u64,
        scratch: &mut Scratch,
        out: &mut Batch,
        stop: &AtomicBool,
    ) -> Result<()> {
        if order.is_empty() {
            return Err(Error::Failure("a batch was asked of a data set without images".into()));
        }
        out.step = step;
        out.indices.clear();
        out.indices.extend(indices_in(order, self.images(), step));
        out.labels.clear();
        out.labels.extend(out.indices.iter().map(|&i| split.label(i as usize)));
        self.make_room(out);
        for b in self.shape.prepared() {
            let index = out.indices[b];
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let draw = |place: usize| stream(self.seed, Purpose::Augment, step, place as u64);
            self.fill_image(split, index, b, &draw, scratch, out)?;
        }
        Ok(())
    }
}
