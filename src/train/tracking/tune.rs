//! A tracker's features fine-tuned on sequences: the balanced logistic loss over responses, whose
//! gradient reaches the features of both images.

use super::window::{Framed, Window};
use super::{Seen, Tracker};
use crate::data::tracks::{FRAMES, Sequence, TRAINING};
use crate::error::{Error, Result, go_on};
use crate::network;
use crate::objective::balanced;
use crate::optim::{OptimConfig, Parameter, Sgd};
use crate::rng::{Purpose, below, stream};
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use std::sync::atomic::AtomicBool;

/// Procedural sequences that it sees.
const SEQUENCES: usize = 256;
/// Pairs of a batch.
const BATCH: usize = 16;
/// The learning rate of the first and of the last step; it falls exponentially. SiamFC's falls from
/// 1e-2, over a thousand times as many steps.
const RATES: [f64; 2] = [0.5, 5e-3];
const PENALTY: f64 = 5e-4;
/// Pixels around the object's middle in an exemplar of 127 that are the object.
const NEAR: f64 = 16.0 / 127.0;
/// What responses, which are about 1, are multiplied by in the beginning.
const GAIN: f32 = 3.0;

impl Tracker {
    /// Fine-tunes the features by `steps` SGD steps on training sequences of `seed`, by the batch's
    /// statistics. The losses of the steps that were made: a loss that is no number ends it before.
    ///
    /// # Errors
    /// [`Error::Stopped`] once `stop` is set; then nothing has changed but running statistics.
    pub fn tune(&mut self, seed: u64, steps: usize, stop: &AtomicBool) -> Result<Vec<f64>> {
        let theta = Var::from_tensor(&self.theta)?;
        let engine = &self.engines[Seen::Exemplar as usize];
        let parameter = |p: &network::Parameter| Parameter {
            len: p.len,
            weights: p.torch_shape.len() > 1,
            frozen: false,
        };
        let parameters = engine.network().parameters().iter().map(parameter).collect();
        let sgd = Sgd::new(parameters, engine.machine())?;
        // A response becomes a logit: gain · response + bias (SiamFC's adjustment).
        let adjust = Var::new(&[GAIN, 0.0], &Device::Cpu)?;
        let mut losses = Vec::with_capacity(steps);
        for step in 0..steps {
            go_on(stop)?;
            let response = self.pairs(seed, step as u64, &theta)?;
            if step == 0 {
                let mean = response.mean_all()?.to_scalar::<f32>()?;
                adjust.set(&Tensor::new(&[GAIN, -GAIN * mean], &Device::Cpu)?)?;
            }
            let [gain, bias] =
                [adjust.narrow(0, 0, 1)?, adjust.narrow(0, 1, 1)?].map(|one| one.reshape((1, 1, 1)));
            let logits = response.broadcast_mul(&gain?)?.broadcast_add(&bias?)?;
            let loss = balanced(&logits, self.radius())?;
            let value = f64::from(loss.to_scalar::<f32>()?);
            if !value.is_finite() {
                break;
            }
            losses.push(value);
            let gradients = loss.backward()?;
            let of = |var: &Var| {
                gradients.get(var).ok_or_else(|| Error::Failure("the loss has no gradient".into()))
            };
            let rate = rate(step, steps);
            let optim = OptimConfig { weight_decay: PENALTY, ..OptimConfig::default() };
            sgd.step(&theta, of(&theta)?, rate, &optim)?;
            adjust.set(&(adjust.as_tensor() - (of(&adjust)? * rate)?)?)?;
        }
        self.theta = theta.as_detached_tensor();
        Ok(losses)
    }

    /// Places around the middle of a response that are the object.
    fn radius(&self) -> f64 {
        (NEAR * self.side(Seen::Exemplar) as f64 / self.stride as f64).max(1.0)
    }

    /// The responses (B, R, R) of the pairs of `step`: two frames of a sequence, the object in the
    /// middle of both images.
    fn pairs(&self, seed: u64, step: u64, theta: &Tensor) -> Result<Tensor> {
        let pair = |place: usize| -> Result<[Vec<f32>; 2]> {
            let rng = &mut stream(seed, Purpose::Pairs, step, place as u64);
            let sequence = Sequence::drawn(seed, TRAINING, below(SEQUENCES, rng));
            let mut cut = |seen: Seen, times: usize| -> Result<Vec<f32>> {
                let number = below(FRAMES, rng);
                let window = Window::around(&sequence.boxes()[number]).times(times as f64);
                let mut pixels = Vec::new();
                let framed = Framed::new(sequence.frame(number)?);
                framed.cut(window, self.side(seen), &self.preprocessing, &mut pixels);
                Ok(pixels)
            };
            Ok([cut(Seen::Exemplar, 1)?, cut(Seen::Search, super::SEARCH)?])
        };
        let pairs: Vec<[Vec<f32>; 2]> = (0..BATCH).into_par_iter().map(pair).collect::<Result<_>>()?;
        let features = |seen: Seen| -> Result<Tensor> {
            let pixels: Vec<f32> =
                pairs.iter().flat_map(|pair| pair[seen as usize].iter().copied()).collect();
            self.features(&self.images(pixels, seen)?, seen, Some(theta))
        };
        self.response(&features(Seen::Search)?, &features(Seen::Exemplar)?)
    }
}

/// The learning rate of `step` of `steps`.
fn rate(step: usize, steps: usize) -> f64 {
    let [first, last] = RATES;
    first * (last / first).powf(step as f64 / (steps.max(2) - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_from_the_first_to_the_last_step() {
        assert_eq!(rate(0, 1), RATES[0]);
        assert!((rate(9, 10) - RATES[1]).abs() < 1e-18);
        assert!((rate(1, 3) - (RATES[0] * RATES[1]).sqrt()).abs() < 1e-12);
    }
}
