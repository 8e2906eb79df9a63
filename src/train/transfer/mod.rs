//! Transfer to detection and segmentation (Sec. 4, Table 5): a detector whose backbone begins with
//! trained weights is fine-tuned end to end on images with objects, and judged by COCO's numbers.
//!
//! Nothing is frozen, batch norms go by the batch's statistics, and before the evaluation the
//! running ones are made anew from many batches, as in MoCo's detection code.

mod cost;
mod evaluate;
mod found;
mod run;
mod samples;
mod targets;
mod training;

pub(super) use cost::{floats, seconds};
pub use evaluate::Judged;
pub use found::{read_found, results};
pub use run::fine_tune;

use super::{Preprocessing, Pretrained};
use crate::data::objects::ObjectSet;
use crate::error::{Result, go_on};
use crate::kernel::Kernel;
use crate::kernel::roi_align::Roi;
use crate::network::config::Backbone;
use crate::recipe::TransferConfig;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use training::Training;

/// Bins of a proposal along either axis.
const BINS: usize = 8;

/// What a detector begins with.
pub struct Start<'a> {
    /// The residual network that is cut before its last stage.
    pub backbone: Backbone,
    /// How images are prepared for it.
    pub preprocessing: Preprocessing,
    /// Its weights; none: drawn ones.
    pub weights: Option<&'a Pretrained>,
    /// Whether the numbers of each tensor come in random order.
    pub permuted: bool,
    /// Names what is drawn: weights, orders, samples.
    pub seed: u64,
}

impl<'a> Start<'a> {
    /// The backbone of `weights`, with those or, from `scratch`, with drawn ones.
    ///
    /// # Errors
    /// As [`Pretrained::backbone`].
    pub fn of(weights: &'a Pretrained, scratch: bool, seed: u64) -> Result<Start<'a>> {
        let (backbone, preprocessing) = (weights.backbone()?, weights.preprocessing.clone());
        let weights = Some(weights).filter(|_| !scratch);
        Ok(Start { backbone, preprocessing, weights, permuted: false, seed })
    }
}

/// What fine-tuning came to.
#[derive(Clone, Debug)]
pub struct Transferred {
    /// The sum of the five losses of each step.
    pub losses: Vec<f64>,
    /// COCO's numbers on the held-out images; none where the training diverged.
    pub judged: Option<Judged>,
}

/// Fine-tunes a detector on the training images of `set` from its `start`, and judges it on the
/// held-out ones; `told` hears of every step and its loss. Nothing is written.
///
/// # Errors
/// [`crate::Error::Usage`] for numbers that nothing can be trained with and for images of several
/// sizes, [`crate::Error::Data`] for images and weights that cannot be used,
/// [`crate::Error::Stopped`] once `stop` is set.
pub fn transfer(
    config: &TransferConfig,
    start: &Start,
    set: &ObjectSet,
    kernel: &Arc<dyn Kernel>,
    stop: &AtomicBool,
    told: &mut dyn FnMut(u64, f64),
) -> Result<Transferred> {
    config.check()?;
    let training = Training::new(config, start, set, kernel)?;
    let mut losses = Vec::new();
    for step in 0..config.steps {
        go_on(stop)?;
        let loss = training.step(step)?;
        told(step, loss);
        losses.push(loss);
        if !loss.is_finite() {
            return Ok(Transferred { losses, judged: None });
        }
    }
    Ok(Transferred { losses, judged: Some(training.judged(set, stop)?) })
}

/// The boxes of a batch, image by image.
fn rois_of<'a>(boxes: impl Iterator<Item = &'a [f32; 4]>, each: usize) -> Vec<Roi> {
    boxes.enumerate().map(|(row, corners)| Roi { image: row / each, corners: *corners }).collect()
}
