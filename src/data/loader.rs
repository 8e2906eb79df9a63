//! The order of images, and batches prepared ahead of the training step.
//!
//! A batch is a pure function of (seed, step): the epoch is step / steps_per_epoch, the epoch's
//! permutation and every view's draws come from streams named by those numbers. So the loader may
//! prepare any sequence of steps, on any number of threads, and the bytes are those of [`prepare`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rand::RngCore;

use super::Split;
use crate::augment::{self, AugmentConfig, Scratch};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, stream};

/// Batches that may be prepared or in preparation beyond the one in use, at least.
const AHEAD: u64 = 4;
/// Epochs whose order is kept: an alternation looks back over at most one epoch's end.
const ORDERS: usize = 2;

/// What one training step reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The step that the batch belongs to.
    pub step: u64,
    /// Positions of the images in their split, (B).
    pub indices: Vec<u32>,
    /// Their classes, (B); for measuring only.
    pub labels: Vec<u32>,
    /// Normalised views, (V, B, H, W, 3).
    pub views: Vec<f32>,
}

/// Steps in one pass over `images`; the incomplete last batch is dropped. At least 1.
pub fn steps_per_epoch(images: usize, batch: usize) -> u64 {
    (images / batch.max(1)).max(1) as u64
}

/// The order of `images` in `epoch`: a permutation drawn from (seed, Order, epoch).
pub fn order(images: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut rng = stream(seed, Purpose::Order, epoch, 0);
    let mut order: Vec<u32> = (0..images as u32).collect();
    for last in (1..images).rev() {
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

/// The batch of `step`, (views, batch, size, size, 3), computed here and now.
///
/// A split smaller than the batch is gone through repeatedly, in the same order. View v of position
/// b is drawn from (seed, Augment, step, v · batch + b). Fails where an image cannot be decoded.
pub fn prepare(
    split: &Split,
    augment: &AugmentConfig,
    shape: BatchShape,
    seed: u64,
    step: u64,
) -> Result<Batch> {
    let request = Request { shape, seed };
    let epoch = step / steps_per_epoch(split.len(), shape.images);
    let mut out = Batch::default();
    let order = order(split.len(), seed, epoch);
    request.fill(split, augment, &order, step, &mut Scratch::default(), &mut out, &AtomicBool::new(false))?;
    Ok(out)
}

/// Views of the images `indices` for a measurement, (views, images, size, size, 3): like a batch of `shape`, but
/// drawn from (seed, Measure, `key`, v · images + i). Fails where an image cannot be decoded.
pub fn views_of(
    split: &Split,
    augment: &AugmentConfig,
    indices: &[u32],
    shape: BatchShape,
    seed: u64,
    key: u64,
) -> Result<Vec<f32>> {
    let shape = BatchShape { images: indices.len(), ..shape };
    let mut out = vec![0.0; shape.views * indices.len() * augment.size * augment.size * 3];
    for (i, &index) in indices.iter().enumerate() {
        let draw = |place: usize| stream(seed, Purpose::Measure, key, place as u64);
        shape.fill_image(split, augment, index, i, &draw, &mut Scratch::default(), &mut out)?;
    }
    Ok(out)
}

/// What a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Images.
    pub images: usize,
    /// Views of each.
    pub views: usize,
    /// How many of them, the last ones, are the elements of a finite T in turn instead of drawn; without effect where
    /// T is random.
    pub listed: usize,
}

impl BatchShape {
    /// Drawn views.
    pub fn drawn(images: usize, views: usize) -> BatchShape {
        BatchShape { images, views, listed: 0 }
    }

    /// Which element of a finite T view `v` of the batch's `b`th image is; none for a drawn one.
    ///
    /// Every image begins with another one: if all showed the same at once, batch norm would take away what it does
    /// to them.
    fn element(&self, augment: &AugmentConfig, v: usize, b: usize) -> Option<usize> {
        let set = augment.finite.as_ref()?;
        let first = self.views - self.listed.min(self.views);
        if v >= first { Some(v - first + b) } else { set.exhaustive.then_some(v + b) }
    }

    /// Writes all views of image `index`, the batch's `b`th, into `views`; `draw` names the stream of a place.
    #[allow(clippy::too_many_arguments)]
    fn fill_image(
        &self,
        split: &Split,
        augment: &AugmentConfig,
        index: u32,
        b: usize,
        draw: &dyn Fn(usize) -> Stream,
        scratch: &mut Scratch,
        views: &mut [f32],
    ) -> Result<()> {
        // Decoded once for all its views.
        let image = split.image(index as usize)?;
        let one = augment.size * augment.size * 3;
        for v in 0..self.views {
            let place = v * self.images + b;
            let pixels = &mut views[place * one..][..one];
            match (self.element(augment, v, b), &augment.finite) {
                (Some(element), Some(set)) => {
                    augment::element(augment, set, &image, element, scratch, pixels);
                }
                _ => augment::view(augment, &image, &mut draw(place), scratch, pixels),
            }
        }
        Ok(())
    }
}

/// The shape and seed of the batches of one loader.
#[derive(Clone, Copy)]
struct Request {
    shape: BatchShape,
    seed: u64,
}

impl Request {
    /// Writes the batch of `step` into `out`; gives up early, incomplete, once `stop` is set.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        split: &Split,
        config: &AugmentConfig,
        order: &[u32],
        step: u64,
        scratch: &mut Scratch,
        out: &mut Batch,
        stop: &AtomicBool,
    ) -> Result<()> {
        if order.is_empty() {
            return Err(Error::Failure("a batch was asked of a data set without images".into()));
        }
        let BatchShape { images, views, .. } = self.shape;
        let first = (step % steps_per_epoch(order.len(), images)) as usize * images;
        out.step = step;
        out.indices.clear();
        out.indices.extend((first..first + images).map(|b| order[b % order.len()]));
        out.labels.clear();
        out.labels.extend(out.indices.iter().map(|&i| split.label(i as usize)));
        out.views.resize(views * images * config.size * config.size * 3, 0.0);
        for (b, &index) in out.indices.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let draw = |place: usize| stream(self.seed, Purpose::Augment, step, place as u64);
            self.shape.fill_image(split, config, index, b, &draw, scratch, &mut out.views)?;
        }
        Ok(())
    }
}

/// Prepares the batches of a sequence of steps on its own threads, a bounded number ahead.
///
/// Dropping it stops the threads; what they had prepared is lost and can be prepared again.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    split: Arc<Split>,
    augment: AugmentConfig,
    request: Request,
    stop: AtomicBool,
    /// [`AHEAD`], or more where there are workers for more.
    ahead: u64,
    queue: Mutex<Queue>,
    /// A place became free, or the loader stops.
    room: Condvar,
    /// A batch is ready, or no more will come.
    ready: Condvar,
}

struct Queue {
    steps: Box<dyn Iterator<Item = u64> + Send>,
    /// Batches handed to workers so far; None once `steps` has ended.
    issued: u64,
    ended: bool,
    taken: u64,
    done: BTreeMap<u64, Result<Batch>>,
    spare: Vec<Batch>,
    orders: Vec<(u64, Arc<Vec<u32>>)>,
}

impl Loader {
    /// Starts `workers` threads (at least one) on the batches of `steps`, in that order.
    ///
    /// `steps` may go back and repeat: an alternation asks for some batches once in the E-step and
    /// again in the M-step.
    pub fn new(
        split: Arc<Split>,
        augment: AugmentConfig,
        shape: BatchShape,
        seed: u64,
        steps: impl Iterator<Item = u64> + Send + 'static,
        workers: usize,
    ) -> Loader {
        let queue = Queue {
            steps: Box::new(steps),
            issued: 0,
            ended: false,
            taken: 0,
            done: BTreeMap::new(),
            spare: Vec::new(),
            orders: Vec::new(),
        };
        let shared = Arc::new(Shared {
            split,
            augment,
            request: Request { shape, seed },
            stop: AtomicBool::new(false),
            ahead: AHEAD.max(workers as u64 + 1),
            queue: Mutex::new(queue),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let workers = (0..workers.max(1))
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _fallen = Fallen(&shared);
                    shared.work();
                })
            })
            .collect();
        Loader { shared, workers }
    }

    /// The next batch, in the order of the steps; `None` after the last. Waits only if none is ready.
    ///
    /// An image that could not be read is reported in the place of its batch; nothing comes after it.
    #[allow(clippy::should_implement_trait)] // an iterator of results would invite `flatten`, which hides errors
    pub fn next(&mut self) -> Result<Option<Batch>> {
        let mut queue = self.shared.lock();
        loop {
            let turn = queue.taken;
            if let Some(batch) = queue.done.remove(&turn) {
                queue.taken += 1;
                if batch.is_err() {
                    queue.ended = true;
                    queue.issued = queue.taken;
                    self.shared.stop.store(true, Ordering::Relaxed);
                }
                self.shared.room.notify_all();
                return batch.map(Some);
            }
            if self.shared.stop.load(Ordering::Relaxed) && !queue.ended {
                return Err(Error::Failure("a thread that prepares batches has fallen".into()));
            }
            if queue.ended && queue.issued == turn {
                return Ok(None);
            }
            queue = self.shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes back the memory of a batch that is no longer needed. Calling it is optional.
    pub fn recycle(&mut self, batch: Batch) {
        let mut queue = self.shared.lock();
        if queue.spare.len() < AHEAD as usize {
            queue.spare.push(batch);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Taken once so that no worker can be between its check and its wait.
        drop(self.shared.lock());
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has already been reported by `next`.
            let _ = worker.join();
        }
    }
}

/// Wakes the caller if a worker unwinds, so that `next` never waits for a batch that cannot come.
struct Fallen<'a>(&'a Shared);

impl Drop for Fallen<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop.store(true, Ordering::Relaxed);
            self.0.lock().ended = false;
            self.0.ready.notify_all();
            self.0.room.notify_all();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can be left half-changed by a panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut scratch = Scratch::default();
        while let Some((turn, step, order, mut batch)) = self.take() {
            let filled = self.request.fill(
                &self.split,
                &self.augment,
                &order,
                step,
                &mut scratch,
                &mut batch,
                &self.stop,
            );
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.lock().done.insert(turn, filled.map(|()| batch));
            self.ready.notify_all();
        }
    }

    /// The next step to prepare, with the order of its epoch and memory for its batch.
    fn take(&self) -> Option<(u64, u64, Arc<Vec<u32>>, Batch)> {
        let mut queue = self.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || queue.ended {
                return None;
            }
            if queue.issued < queue.taken + self.ahead {
                break;
            }
            queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(step) = queue.steps.next() else {
            queue.ended = true;
            self.ready.notify_all();
            self.room.notify_all();
            return None;
        };
        let turn = queue.issued;
        queue.issued += 1;
        let images = self.split.len();
        let epoch = step / steps_per_epoch(images, self.request.shape.images);
        let known = queue.orders.iter().find(|(e, _)| *e == epoch).map(|(_, order)| Arc::clone(order));
        let order = known.unwrap_or_else(|| {
            let order = Arc::new(order(images, self.request.seed, epoch));
            if queue.orders.len() == ORDERS {
                queue.orders.remove(0);
            }
            queue.orders.push((epoch, Arc::clone(&order)));
            order
        });
        Some((turn, step, order, queue.spare.pop().unwrap_or_default()))
    }
}
