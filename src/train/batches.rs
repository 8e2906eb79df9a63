//! The batches of a run in the order in which the alternation asks for them.

use super::Alternation;
use crate::data::Dataset;
use crate::data::loader::{BatchShape, Loader};
use crate::device::Upload;
use crate::error::{Error, Result};
use crate::eta::Views;
use crate::recipe::Recipe;
use candle_core::Device;
use std::ops::Range;

/// Hands out batches by step; they are prepared ahead on other threads.
///
/// A k-step chunk asks for its batches twice, once in the E-step and once in the M-step. They are
/// made again instead of kept: a batch is a function of (seed, step), and k may be a whole epoch.
pub struct Batches {
    loader: Loader,
    last: Option<Views>,
    shape: [usize; 5],
    /// The shape of the small crops.
    small: Option<[usize; 5]>,
    device: Device,
    upload: Upload,
    upload_small: Upload,
}

impl Batches {
    /// All requests of `alternation` for the steps `made`, the last of which ends the run.
    pub fn new(recipe: &Recipe, dataset: &Dataset, alternation: &Alternation, made: Range<u64>) -> Self {
        let (batch, size) = (recipe.schedule.batch, recipe.augment.size);
        let (start, steps, k) = (made.start, made.end, alternation.rule.chunk());
        // An E-step that was interrupted has read some.
        let read = alternation.read;
        let reads = |step: u64| {
            let chunk = k.min(steps - step);
            let reads = if step.is_multiple_of(k) { alternation.rule.reads(chunk) } else { 0..0 };
            (reads.start, reads.end)
        };
        // The rule's requests depend on the chunk's length alone: a full one, or the last.
        let full = reads(0);
        let tail_start = steps - steps % k;
        let tail = if tail_start < steps { reads(tail_start) } else { full };
        let program = (start..steps).flat_map(move |step| {
            let (from, to) = match step {
                _ if !step.is_multiple_of(k) => (0, 0),
                _ if step == tail_start => tail,
                _ => full,
            };
            let from = if step == start { from + read } else { from };
            (from..to).map(move |i| step + i).chain(std::iter::once(step))
        });
        let mut previous = None;
        let program = program.filter(move |step| previous.replace(*step) != Some(*step));
        let device = alternation.model.device().clone();
        // On the CPU the step wants the threads itself.
        let most = if device.is_cpu() { 2 } else { usize::MAX };
        let workers = rayon::current_num_threads().clamp(1, most);
        let loader = Loader::new(
            dataset.train.clone(),
            recipe.augment.clone(),
            BatchShape { part: alternation.model.part(batch), ..recipe.batch_shape() },
            recipe.seed,
            program,
            workers,
        );
        let crops = recipe.augment.multi_crop.as_ref();
        Self {
            loader,
            last: None,
            shape: [recipe.views(), batch, size, size, 3],
            small: crops.map(|crops| [crops.count, batch, crops.size, crops.size, 3]),
            device,
            upload: Upload::default(),
            upload_small: Upload::default(),
        }
    }

    /// The batch of `step`, which must be the next in the order, or the one given last.
    pub fn get(&mut self, step: u64) -> Result<Views> {
        if let Some(last) = self.last.as_ref().filter(|last| last.step == step) {
            return Ok(last.clone());
        }
        let out_of_order = || Error::Failure(format!("the batch of step {step} was asked for out of order"));
        let batch = self.loader.next()?.filter(|batch| batch.step == step).ok_or_else(out_of_order)?;
        let x = self.upload.tensor(batch.views, &self.shape, &self.device)?;
        let small = self.small.map(|shape| self.upload_small.tensor(batch.small, &shape, &self.device));
        let views =
            Views { step, indices: batch.indices, labels: batch.labels, x, small: small.transpose()? };
        self.last = Some(views.clone());
        Ok(views)
    }
}
