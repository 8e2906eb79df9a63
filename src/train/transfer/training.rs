//! A detector in training: its start, its steps, its statistics.

use super::evaluate::{Judge, Judged};
use super::samples::{self, Sample, batch_of};
use super::targets::{Limits, Targets};
use super::{BINS, Preprocessing, Pretrained, Start};
use crate::data::objects::ObjectSet;
use crate::data::step_indices;
use crate::detect::anchors::Anchors;
use crate::detect::detector::{Detector, DetectorConfig, PARTS, Statistics};
use crate::detect::losses::{anchor_losses, mask_loss, proposal_losses};
use crate::error::{Error, Result, go_on};
use crate::kernel::Kernel;
use crate::network::config::Backbone;
use crate::network::names::{Named, from_torch, running_from_torch, running_to_torch, to_torch};
use crate::network::{Network, Tensors};
use crate::optim::{OptimConfig, Parameter, Penalised, Sgd};
use crate::recipe::TransferConfig;
use crate::rng::{Purpose, stream};
use crate::train::weights::Parts;
use candle_core::{Device, Tensor, Var};
use rand::seq::SliceRandom;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sides of anchors in pixels, for scenes of small objects.
const ANCHOR_SIZES: [f32; 3] = [8.0, 16.0, 32.0];
const RATIOS: [f32; 3] = [0.5, 1.0, 2.0];
/// PyTorch's momentum of running statistics: what one batch leaves of itself.
const LEFT: f32 = 0.1;
const PENALTY: f64 = 1e-4;
/// Parts of a detector that are its backbone's: trunk and last stage.
const OF_BACKBONE: usize = 2;
/// The step whose draws permute weights; there is no such step of training.
const NO_STEP: u64 = u64::MAX;
/// In a checkpoint.
const THETA: &str = "detector.theta";
const VELOCITY: &str = "detector.velocity";

/// A detector in training.
pub struct Training {
    config: TransferConfig,
    seed: u64,
    preprocessing: Preprocessing,
    detector: Detector,
    theta: Var,
    sgd: Sgd,
    samples: Vec<Sample>,
    limits: Limits,
}

/// The detector of a backbone on images of `size`, [H, W].
pub fn detector_of(backbone: &Backbone, size: [usize; 2], classes: usize) -> Result<DetectorConfig> {
    let anchors = Anchors { sizes: ANCHOR_SIZES.to_vec(), ratios: RATIOS.to_vec(), offset: 0.0 };
    let mask_width = Network::trunk(backbone, size)?.output().channels;
    Ok(DetectorConfig { backbone: backbone.clone(), size, classes, anchors, bins: BINS, mask_width })
}

impl Training {
    /// A detector at its `start`, with the training images that `config` asks for.
    pub fn new(
        config: &TransferConfig,
        start: &Start,
        set: &ObjectSet,
        kernel: &Arc<dyn Kernel>,
    ) -> Result<Training> {
        let (samples, size) = samples::read(&set.train, config.images, &start.preprocessing)?;
        let classes = set.classes.len();
        let detector = Detector::new(detector_of(&start.backbone, size, classes)?, kernel)?;
        let mut theta = detector.init(start.seed);
        if let Some(weights) = start.weights {
            begin_with(weights, &detector, &mut theta).map_err(|error| error.in_file(&weights.path))?;
        }
        if start.permuted {
            permute(&detector, &mut theta, start.seed);
        }
        let theta = Var::from_vec(theta, detector.theta_len(), &Device::Cpu)?;
        let sgd = optimiser(&detector)?;
        let (limits, preprocessing) = (Limits::LAPTOP, start.preprocessing.clone());
        Ok(Training {
            config: config.clone(),
            seed: start.seed,
            preprocessing,
            detector,
            theta,
            sgd,
            samples,
            limits,
        })
    }

    /// COCO's numbers on the held-out images of `set`, once running statistics are made anew.
    pub fn judged(&self, set: &ObjectSet, stop: &AtomicBool) -> Result<Judged> {
        self.precise_statistics(stop)?;
        let judge = Judge { detector: &self.detector, theta: &self.theta, limits: self.limits };
        judge.all(&set.test, &self.preprocessing, set.classes.len(), stop)
    }

    /// θ and its momentum, as a checkpoint holds them. Running statistics are made anew at the end.
    pub fn state(&self) -> Result<[(&'static str, Vec<f32>); 2]> {
        Ok([(THETA, self.theta.to_vec1()?), (VELOCITY, self.sgd.velocity()?)])
    }

    /// Goes on from a checkpoint, of which `take` gives the numbers by their name.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Result<Vec<f32>>) -> Result<()> {
        let theta = take(THETA)?;
        self.theta.set(&Tensor::from_vec(theta, self.detector.theta_len(), &Device::Cpu)?)?;
        self.sgd.restore(&take(VELOCITY)?)
    }

    /// Whether θ is all numbers.
    pub fn is_finite(&self) -> Result<bool> {
        Ok(self.theta.to_vec1::<f32>()?.iter().all(|value| value.is_finite()))
    }

    /// θ and running statistics under PyTorch's names, each behind its part's.
    pub fn tensors(&self) -> Result<Vec<Named>> {
        let theta = self.theta.to_vec1::<f32>()?;
        let mut tensors = Vec::new();
        for ((engine, place), part) in self.detector.parts().into_iter().zip(PARTS) {
            let network = engine.network();
            let own = to_torch(network, &theta[place]).into_iter();
            let own = own.chain(running_to_torch(network, &engine.running()?));
            tensors.extend(own.map(|(name, shape, values)| (format!("{part}.{name}"), shape, values)));
        }
        Ok(tensors)
    }

    /// The samples of the batch of `step`.
    fn batch(&self, step: u64) -> Vec<Sample> {
        let (TransferConfig { images, batch, .. }, seed) = (&self.config, self.seed);
        let indices = step_indices(*images, *batch, seed, step);
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
        let draws = (self.seed, step);
        let targets = Targets::choose(&self.limits, self.detector.anchors(), batch, said, draws);
        Ok((features, [logits, deltas], targets))
    }

    /// One step; the sum of its losses.
    pub fn step(&self, step: u64) -> Result<f64> {
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
            self.sgd.step(&self.theta, gradient, self.config.lr(step), &optim)?;
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

/// SGD whose penalty is on biases too, and on no batch norm (detectron2's `WEIGHT_DECAY_NORM` 0).
fn optimiser(detector: &Detector) -> Result<Sgd> {
    let parts = detector.parts();
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

/// Puts the backbone `from` into θ and the running statistics; the batch norm behind the last stage
/// is new.
fn begin_with(from: &Pretrained, detector: &Detector, theta: &mut [f32]) -> Result<()> {
    let parts = Parts::of(&from.tensors)?;
    for (engine, place) in detector.parts().into_iter().take(OF_BACKBONE) {
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

/// Puts the numbers of each of the backbone's tensors into random order.
fn permute(detector: &Detector, theta: &mut [f32], seed: u64) {
    for (engine, place) in detector.parts().into_iter().take(OF_BACKBONE) {
        for parameter in engine.network().parameters() {
            let begin = place.start + parameter.offset;
            let mut rng = stream(seed, Purpose::Detect, NO_STEP, begin as u64);
            theta[begin..begin + parameter.len].shuffle(&mut rng);
        }
    }
}
