//! Transfer to detection and segmentation (Sec. 4, Table 5): a detector whose backbone begins with
//! trained weights is fine-tuned end to end on images with objects, and judged by COCO's numbers.
//!
//! Nothing is frozen, batch norms go by the batch's statistics, and before the evaluation the
//! running ones are made anew from many batches, as in MoCo's detection code.

mod evaluate;
mod samples;
mod targets;

pub use evaluate::Judged;

use super::weights::Parts;
use super::{Preprocessing, Pretrained};
use crate::data::objects::ObjectSet;
use crate::data::step_indices;
use crate::detect::anchors::Anchors;
use crate::detect::detector::{Detector, DetectorConfig, Statistics};
use crate::detect::losses::{anchor_losses, mask_loss, proposal_losses};
use crate::error::{Error, Result, go_on};
use crate::kernel::Kernel;
use crate::kernel::roi_align::Roi;
use crate::network::names::{from_torch, running_from_torch, running_to_torch, to_torch};
use crate::network::{Network, Tensors};
use crate::optim::{OptimConfig, Parameter, Penalised, Sgd};
use candle_core::{Device, Tensor, Var};
use samples::{Sample, batch_of};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use targets::{Limits, Targets};

/// How a detector is fine-tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferConfig {
    /// Training images used, the first so many.
    pub images: usize,
    /// Images of a batch.
    pub batch: usize,
    /// SGD steps.
    pub steps: u64,
    /// The learning rate after the warm-up; it falls to a tenth after 3/4 and again after 11/12 of
    /// the steps.
    pub lr: f64,
    /// Steps over which it rises from a thousandth.
    pub warm_up: u64,
    /// Batches from which running statistics are made anew.
    pub precise_batches: usize,
    /// Names initial weights, orders and draws.
    pub seed: u64,
    /// Whether the backbone begins with random weights instead.
    pub scratch: bool,
}

impl Default for TransferConfig {
    /// The laptop's: 100 images, 200 steps.
    fn default() -> Self {
        let (images, steps) = (100, 200);
        Self { images, batch: 16, steps, lr: 0.1, warm_up: 50, precise_batches: 20, seed: 0, scratch: false }
    }
}

/// Sides of anchors in pixels, for scenes of small objects.
const ANCHOR_SIZES: [f32; 3] = [8.0, 16.0, 32.0];
const RATIOS: [f32; 3] = [0.5, 1.0, 2.0];
/// Bins of a proposal along either axis.
const BINS: usize = 8;
/// PyTorch's momentum of running statistics: what one batch leaves of itself.
const LEFT: f32 = 0.1;
const PENALTY: f64 = 1e-4;

impl TransferConfig {
    /// Refuses what cannot be trained.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the number.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(what));
        match self {
            _ if self.batch == 0 || self.steps == 0 || self.precise_batches == 0 => {
                fail("a batch, steps and precise batches of at least 1 are needed".into())
            }
            _ if self.images < self.batch => {
                fail(format!("{} training images are fewer than a batch of {}", self.images, self.batch))
            }
            _ if !(self.lr > 0.0 && self.lr.is_finite()) => {
                fail(format!("a learning rate of {}; it must be above 0", self.lr))
            }
            _ => Ok(()),
        }
    }

    /// The learning rate of `step`.
    fn lr(&self, step: u64) -> f64 {
        let passed = |part: f64| step as f64 >= part * self.steps as f64;
        let fallen = [3.0 / 4.0, 11.0 / 12.0].into_iter().filter(|part| passed(*part)).count();
        let risen = if step < self.warm_up {
            let done = step as f64 / self.warm_up as f64;
            1e-3 * (1.0 - done) + done
        } else {
            1.0
        };
        self.lr * risen * 0.1f64.powi(fallen as i32)
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

/// A detector in training.
struct Training<'a> {
    config: &'a TransferConfig,
    detector: Detector,
    theta: Var,
    samples: Vec<Sample>,
    limits: Limits,
}

/// Fine-tunes a detector on the training images of `set`, beginning with the backbone `from`, and
/// judges it on the held-out ones; `told` hears of every step and its loss.
///
/// # Errors
/// [`Error::Usage`] for numbers that nothing can be trained with and for images of several sizes,
/// [`Error::Data`] for images and weights that cannot be used, [`Error::Stopped`] once `stop` is
/// set.
pub fn transfer(
    config: &TransferConfig,
    from: &Pretrained,
    set: &ObjectSet,
    kernel: &Arc<dyn Kernel>,
    stop: &AtomicBool,
    told: &mut dyn FnMut(u64, f64),
) -> Result<Transferred> {
    config.check()?;
    let training = Training::new(config, from, set, kernel)?;
    let sgd = training.optimiser()?;
    let mut losses = Vec::new();
    for step in 0..config.steps {
        go_on(stop)?;
        let loss = training.step(step, &sgd)?;
        told(step, loss);
        losses.push(loss);
        if !loss.is_finite() {
            return Ok(Transferred { losses, judged: None });
        }
    }
    training.precise_statistics(stop)?;
    let judge =
        evaluate::Judge { detector: &training.detector, theta: &training.theta, limits: training.limits };
    let judged = judge.all(&set.test, &from.preprocessing, set.classes.len(), stop)?;
    Ok(Transferred { losses, judged: Some(judged) })
}

impl<'a> Training<'a> {
    fn new(
        config: &'a TransferConfig,
        from: &Pretrained,
        set: &ObjectSet,
        kernel: &Arc<dyn Kernel>,
    ) -> Result<Training<'a>> {
        let there = set.train.len();
        if config.images > there {
            let what = format!("{} training images are asked for, and there are {there}", config.images);
            return Err(Error::Usage(what));
        }
        if set.classes.is_empty() {
            return Err(Error::Usage(format!("{} has no class of objects to find", set.name)));
        }
        let (samples, size) = samples::read(&set.train, config.images, &from.preprocessing)?;
        let anchors = Anchors { sizes: ANCHOR_SIZES.to_vec(), ratios: RATIOS.to_vec(), offset: 0.0 };
        let backbone = from.backbone()?;
        let mask_width = Network::trunk(&backbone, size)?.output().channels;
        let classes = set.classes.len();
        let detector = DetectorConfig { backbone, size, classes, anchors, bins: BINS, mask_width };
        let detector = Detector::new(detector, kernel)?;
        let mut theta = detector.init(config.seed);
        if !config.scratch {
            begin_with(from, &detector, &mut theta).map_err(|error| error.in_file(&from.path))?;
        }
        let theta = Var::from_vec(theta, detector.theta_len(), &Device::Cpu)?;
        Ok(Training { config, detector, theta, samples, limits: Limits::LAPTOP })
    }

    /// SGD whose penalty is on biases too, and on no batch norm (detectron2's `WEIGHT_DECAY_NORM`
    /// 0).
    fn optimiser(&self) -> Result<Sgd> {
        let parts = self.detector.parts();
        let parameters = parts.iter().flat_map(|(engine, _)| {
            let norms = engine.network().running();
            let of_norm = |name: &str| {
                let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
                norms.iter().any(|norm| norm.name.strip_suffix(".running_mean") == Some(layer))
            };
            let parameter = |p: &crate::network::Parameter| Parameter {
                len: p.len,
                weights: !of_norm(&p.name),
                frozen: false,
            };
            engine.network().parameters().iter().map(parameter).collect::<Vec<_>>()
        });
        Sgd::new(parameters.collect(), parts[0].0.machine())
    }

    /// The samples of the batch of `step`.
    fn batch(&self, step: u64) -> Vec<Sample> {
        let TransferConfig { images, batch, seed, .. } = *self.config;
        let indices = step_indices(images, batch, seed, step);
        indices
            .iter()
            .enumerate()
            .map(|(place, index)| self.samples[*index as usize].drawn(seed, step, place))
            .collect()
    }

    /// What the detector says of a batch, and what the losses compare it with.
    fn pass(&self, batch: &[Sample], theta: &Tensor, step: u64) -> Result<(Tensor, [Tensor; 2], Targets)> {
        let by = Statistics::Batch;
        let features = self.detector.features(&batch_of(batch)?, theta, by)?;
        let [logits, deltas] = self.detector.proposals(&features, theta, by)?;
        let said = [logits.to_vec2()?, deltas.reshape((batch.len(), ()))?.to_vec2()?];
        let draws = (self.config.seed, step);
        let targets = Targets::choose(&self.limits, self.detector.anchors(), batch, said, draws);
        Ok((features, [logits, deltas], targets))
    }

    /// One step; the sum of its losses.
    fn step(&self, step: u64, sgd: &Sgd) -> Result<f64> {
        let (detector, by, theta) = (&self.detector, Statistics::Batch, self.theta.as_tensor());
        let batch = self.batch(step);
        let (features, [logits, deltas], targets) = self.pass(&batch, theta, step)?;
        let per_image = self.limits.anchors;
        let [object, place] =
            anchor_losses(&logits, &deltas, detector.anchors(), &targets.anchors, per_image)?;
        let read = detector.read(&features, targets.rois(), theta, by)?;
        let [scores, deltas] = detector.boxes(&read, theta, by)?;
        let [class, corners] = proposal_losses(&scores, &deltas, &targets.proposals)?;
        let places = Tensor::new(targets.mask_places(&self.limits, batch.len()), &Device::Cpu)?;
        let masks = detector.masks(&read.index_select(&places, 0)?, theta, by)?;
        let own = targets.masks(&self.limits, &batch, BINS);
        let rows = Tensor::from_vec(own.rows.clone(), own.rows.len(), &Device::Cpu)?;
        let mask = mask_loss(&masks.index_select(&rows, 0)?, &own.classes, &own.inside)?;
        let loss = [place, class, corners, mask].iter().try_fold(object, |sum, loss| sum + loss)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if value.is_finite() {
            let gradients = loss.backward()?;
            let gradient = gradients
                .get(&self.theta)
                .ok_or_else(|| Error::Failure("the losses have no gradient".into()))?;
            let optim = OptimConfig {
                weight_decay: PENALTY,
                weight_decay_on: Penalised::Weights,
                ..OptimConfig::default()
            };
            sgd.step(&self.theta, gradient, self.config.lr(step), &optim)?;
        }
        Ok(value)
    }

    /// Makes running statistics anew: plain means of the means and variances of many batches
    /// (fvcore's precise batch norm). Statistics that begin at 0 keep a tenth of one batch's.
    fn precise_statistics(&self, stop: &AtomicBool) -> Result<()> {
        let parts = self.detector.parts();
        let lengths = parts.each_ref().map(|(engine, _)| engine.network().running_len());
        let mut sums = lengths.map(|len| vec![0.0f64; len]);
        let theta = self.theta.as_tensor().detach();
        let passes = self.config.precise_batches;
        for pass in 0..passes {
            go_on(stop)?;
            for ((engine, _), len) in parts.iter().zip(lengths) {
                engine.set_running(&vec![0.0; len])?;
            }
            let step = self.config.steps + pass as u64;
            let (features, _, targets) = self.pass(&self.batch(step), &theta, step)?;
            self.detector.read(&features, targets.rois(), &theta, Statistics::Batch)?;
            for ((engine, _), sums) in parts.iter().zip(&mut sums) {
                let left = engine.running()?;
                sums.iter_mut().zip(left).for_each(|(sum, left)| *sum += f64::from(left / LEFT));
            }
        }
        for ((engine, _), sums) in parts.iter().zip(sums) {
            let means: Vec<f32> = sums.iter().map(|sum| (sum / passes as f64) as f32).collect();
            engine.set_running(&means)?;
        }
        Ok(())
    }
}

/// Puts the backbone `from` into θ and the running statistics; the batch norm behind the last stage
/// is new.
fn begin_with(from: &Pretrained, detector: &Detector, theta: &mut [f32]) -> Result<()> {
    let parts = Parts::of(&from.tensors)?;
    for (engine, place) in detector.parts().into_iter().take(2) {
        let network = engine.network();
        let new = to_torch(network, &theta[place.clone()]);
        let new = new.into_iter().chain(running_to_torch(network, &engine.running()?));
        let new: Tensors = new
            .filter(|(name, ..)| name.starts_with("norm."))
            .map(|(name, shape, values)| (name, (shape, values)))
            .collect();
        let find = |name: &str| new.get(name).or_else(|| parts.find(&format!("encoder.{name}")));
        theta[place].copy_from_slice(&from_torch(network, &find)?);
        engine.set_running(&running_from_torch(network, &find)?)?;
    }
    Ok(())
}

/// The boxes of a batch, image by image.
fn rois_of<'a>(boxes: impl Iterator<Item = &'a [f32; 4]>, each: usize) -> Vec<Roi> {
    boxes.enumerate().map(|(row, corners)| Roi { image: row / each, corners: *corners }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_twice() {
        let config = TransferConfig { steps: 240, warm_up: 40, lr: 0.2, ..TransferConfig::default() };
        let expected =
            [(0, 0.0002), (20, 0.1001), (40, 0.2), (179, 0.2), (180, 0.02), (219, 0.02), (220, 0.002)];
        for (step, lr) in expected {
            assert!((config.lr(step) - lr).abs() < 1e-12, "{step}: {}", config.lr(step));
        }
    }
}
