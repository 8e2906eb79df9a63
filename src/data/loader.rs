//! The order of images, and batches prepared ahead of the training step.
//!
//! A batch is a pure function of (seed, step). So the loader may prepare any sequence of steps, on
//! any number of threads, and the bytes are those of [`prepare`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Split;
use super::batch::Request;
use crate::augment::{AugmentConfig, Scratch};
use crate::error::{Error, Result};

pub use super::batch::{Batch, BatchShape, prepare, steps_per_epoch, views_of};

/// Batches that may be prepared or in preparation beyond the one in use, at least.
const AHEAD: u64 = 4;
/// Epochs whose order is kept: an alternation looks back over at most one epoch's end.
const ORDERS: usize = 2;

/// Prepares the batches of a sequence of steps on its own threads, a bounded number ahead.
///
/// Dropping it stops the threads; what they had prepared is lost and can be prepared again.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    split: Arc<Split>,
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
    /// Batches handed to workers so far.
    issued: u64,
    ended: bool,
    taken: u64,
    done: BTreeMap<u64, Result<Batch>>,
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
            orders: Vec::new(),
        };
        let shared = Arc::new(Shared {
            split,
            request: Request::new(augment, shape, seed),
            stop: AtomicBool::new(false),
            ahead: AHEAD.max(workers as u64 + 1),
            queue: Mutex::new(queue),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let worker = |_| {
            let shared = Arc::clone(&shared);
            let work = move || {
                let _fallen = Fallen(&shared);
                shared.work();
            };
            std::thread::Builder::new().spawn(work).ok()
        };
        let workers: Vec<JoinHandle<()>> = (0..workers.max(1)).map_while(worker).collect();
        // Without any thread the first batch is an error, as when one has fallen.
        if workers.is_empty() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        Loader { shared, workers }
    }

    /// The next batch, in the order of the steps; `None` after the last. Waits only if none is
    /// ready.
    ///
    /// # Errors
    /// [`Error::Data`] for an image that cannot be read, in the place of its batch: nothing comes
    /// after it. [`Error::Failure`] where no thread prepares batches any more.
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
                return Err(Error::Failure(
                    "a thread that prepares batches has fallen, or none could be started".into(),
                ));
            }
            if queue.ended && queue.issued == turn {
                return Ok(None);
            }
            queue = self.shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
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
        while let Some((turn, step, order)) = self.take() {
            let mut batch = Batch::default();
            let filled = self.request.fill(&self.split, &order, step, &mut scratch, &mut batch, &self.stop);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.lock().done.insert(turn, filled.map(|()| batch));
            self.ready.notify_all();
        }
    }

    /// The turn of the next batch to prepare, its step, and the order of its epoch.
    fn take(&self) -> Option<(u64, u64, Arc<Vec<u32>>)> {
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
        let epoch = step / steps_per_epoch(images, self.request.images());
        let known = queue.orders.iter().find(|(e, _)| *e == epoch).map(|(_, order)| Arc::clone(order));
        let order = known.unwrap_or_else(|| {
            let order = Arc::new(self.request.order(images, epoch));
            if queue.orders.len() == ORDERS {
                queue.orders.remove(0);
            }
            queue.orders.push((epoch, Arc::clone(&order)));
            order
        });
        Some((turn, step, order))
    }
}
