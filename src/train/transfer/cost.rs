//! What fine-tuning a detector costs, before it is made.

use super::targets::Limits;
use super::training::{Training, detector_of};
use super::{Preprocessing, Start};
use crate::data::objects::{ObjectSet, scenes};
use crate::detect::detector::Detector;
use crate::device::processor_kernel;
use crate::error::Result;
use crate::kernel::Precision;
use crate::network::pass_floats;
use crate::recipe::{Recipe, TransferConfig};
use std::time::Instant;

/// θ itself, momentum, the gradient and candle's sums of it, the checkpoint's copies.
const COPIES_OF_THETA: usize = 10;
/// Steps that are timed, after one that warms up.
const TIMED: u64 = 2;
/// What passing forward is of a step.
const FORWARD: f64 = 1.0 / 3.0;

/// Numbers of four bytes that a run of `recipe` holds at its fullest, to within a third or so; 0
/// where it fine-tunes no detector, or on images whose size is not in the recipe.
///
/// # Errors
/// As [`Detector::new`].
pub fn floats(recipe: &Recipe) -> Result<usize> {
    let Some(config) = recipe.transfer.as_ref().filter(|config| config.is_drawn()) else { return Ok(0) };
    let (size, classes) = ([config.size; 2], scenes::classes().len());
    let kernel = processor_kernel(Precision::F32)?;
    let detector = Detector::new(detector_of(&recipe.encoder.backbone, size, classes)?, &kernel)?;
    let (batch, rois, masks) = (config.batch, Limits::LAPTOP.rois, Limits::LAPTOP.masks());
    // In the order of the parts.
    let rows = [batch, batch * rois, batch, batch * rois, batch * masks];
    let passes = detector.parts().into_iter().zip(rows);
    let passes: usize =
        passes.map(|((engine, _), rows)| pass_floats(engine.network(), &kernel, 1, rows)).sum();
    Ok(passes + COPIES_OF_THETA * detector.theta_len() + config.images * size[0] * size[1] * 4)
}

/// Seconds that fine-tuning the detector of `recipe` takes on this thread pool, judging by a few
/// steps from drawn weights; 0 where there is none.
///
/// # Errors
/// As [`super::transfer`].
pub fn seconds(recipe: &Recipe) -> Result<f64> {
    let Some(config) = &recipe.transfer else { return Ok(0.0) };
    let timed = TransferConfig { images: config.batch, ..config.clone() };
    let set: ObjectSet = timed.open(recipe.seed)?;
    let start = Start {
        backbone: recipe.encoder.backbone.clone(),
        preprocessing: Preprocessing::of(&recipe.augment),
        weights: None,
        permuted: false,
        seed: recipe.seed,
    };
    let training = Training::new(&timed, &start, &set, &processor_kernel(Precision::F32)?)?;
    training.step(0)?;
    let begun = Instant::now();
    for step in 1..=TIMED {
        training.step(step)?;
    }
    let step = begun.elapsed().as_secs_f64() / TIMED as f64;
    let judged = set.test.len() as f64 / config.batch as f64 + config.precise_batches as f64;
    Ok(step * (config.steps as f64 + FORWARD * judged))
}
