//! SGD with momentum and weight decay over flat θ, and the learning-rate curve (Sec. 3).
//!
//! v ← μ·v + (g + λ·θ), θ ← θ − lr·v, as PyTorch's `SGD` (candle-nn's has neither μ nor λ), in one
//! pass over θ.

use crate::device;
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::device::{Buffer, Device as KernelDevice};
use candle_core::{CpuStorage, CudaStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard};

/// How the M-step moves θ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// The learning rate is base_lr × batch / 256.
    pub base_lr: f64,
    /// SGD's momentum μ.
    pub momentum: f64,
    /// L2 penalty λ on every trained parameter.
    pub weight_decay: f64,
    /// How the learning rate falls.
    pub decay: Decay,
    /// Epochs over which the learning rate rises linearly from 0 (Table 2: 10 for batches ≥ 1024).
    pub warmup_epochs: u64,
    /// The predictor's learning rate.
    pub predictor_lr: PredictorLr,
    /// A factor on it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub predictor_rate: f64,
}

fn one() -> f64 {
    1.0
}

/// Recipes leave it out.
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// The learning rate of h, which Table 1 varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredictorLr {
    /// The encoder's.
    Decayed,
    /// The encoder's at the start of the run, kept: "lr not decayed".
    Constant,
    /// 0: h stays at its random initialisation, "fixed random init".
    Zero,
}

/// How the learning rate falls over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// ½(1 + cos(π·epoch/epochs)), constant within an epoch as in the official code.
    CosineEpoch,
    /// ½(1 + cos(π·step/steps)).
    CosineStep,
    /// No decay.
    Constant,
}

impl OptimConfig {
    /// Refuses rates that are not numbers or have the wrong sign.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("base_lr", self.base_lr),
            ("weight_decay", self.weight_decay),
            ("predictor_rate", self.predictor_rate),
        ];
        for (key, value) in positive {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::Usage(format!("optim.{key}: {value} must be a number of at least 0")));
            }
        }
        if !(0.0..1.0).contains(&self.momentum) {
            let momentum = self.momentum;
            return Err(Error::Usage(format!("optim.momentum: {momentum} must be at least 0 and below 1")));
        }
        Ok(())
    }

    /// h's learning rate at `step` of `steps`, which make up `epochs` epochs.
    pub fn predictor_lr(&self, batch: usize, step: u64, steps: u64, epochs: u64) -> f64 {
        let lr = match self.predictor_lr {
            PredictorLr::Decayed => self.lr(batch, step, steps, epochs),
            PredictorLr::Constant => self.base_lr * batch as f64 / 256.0,
            PredictorLr::Zero => 0.0,
        };
        lr * self.predictor_rate
    }

    /// The learning rate at `step` of `steps`, which make up `epochs` epochs.
    ///
    /// Warm-up rises step by step and decay runs over what follows it.
    pub fn lr(&self, batch: usize, step: u64, steps: u64, epochs: u64) -> f64 {
        let start = self.base_lr * batch as f64 / 256.0;
        let warmup_epochs = self.warmup_epochs.min(epochs);
        let warmup = warmup_epochs * steps / epochs;
        if step < warmup {
            return start * (step + 1) as f64 / warmup as f64;
        }
        let fraction = match self.decay {
            Decay::Constant => 0.0,
            Decay::CosineStep => (step - warmup) as f64 / (steps - warmup) as f64,
            Decay::CosineEpoch => {
                let epoch = step * epochs / steps;
                (epoch - warmup_epochs) as f64 / (epochs - warmup_epochs) as f64
            }
        };
        start * 0.5 * (1.0 + (std::f64::consts::PI * fraction).cos())
    }
}

/// The momentum of one flat parameter vector.
pub struct Sgd {
    velocity: Mutex<Velocity>,
}

/// v, beside θ: it goes to a device with the first step that is made there.
enum Velocity {
    Host(Vec<f32>),
    Device { device: Arc<dyn KernelDevice>, buffer: Buffer, len: usize },
}

impl Sgd {
    /// Starts from a momentum of `velocity` (all zeros for a new run).
    pub fn new(velocity: Vec<f32>) -> Self {
        Self { velocity: Mutex::new(Velocity::Host(velocity)) }
    }

    /// One step on `theta` (P) along `gradient` (P), in place.
    pub fn step(&self, theta: &Tensor, gradient: &Tensor, lr: f64, config: &OptimConfig) -> Result<()> {
        let gradient = gradient.contiguous()?;
        let op = SgdStep {
            velocity: &self.velocity,
            lr: lr as f32,
            momentum: config.momentum as f32,
            weight_decay: config.weight_decay as f32,
        };
        Ok(theta.inplace_op2(&gradient, &op)?)
    }

    /// A copy of the momentum, for a checkpoint.
    ///
    /// # Errors
    /// [`Error::Failure`] when a device that holds it fails.
    pub fn velocity(&self) -> Result<Vec<f32>> {
        match &*lock(&self.velocity) {
            Velocity::Host(values) => Ok(values.clone()),
            Velocity::Device { device, buffer, len } => {
                device.download_f32(buffer.span(Precision::F32, 0, *len))
            }
        }
    }
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct SgdStep<'a> {
    velocity: &'a Mutex<Velocity>,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
}

impl InplaceOp2 for SgdStep<'_> {
    fn name(&self) -> &'static str {
        "sgd-step"
    }

    fn cpu_fwd(
        &self,
        theta: &mut CpuStorage,
        theta_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (Some((t0, t1)), Some((g0, g1))) =
            (theta_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            candle_core::bail!("theta and its gradient must be contiguous");
        };
        let (CpuStorage::F32(theta), CpuStorage::F32(gradient)) = (theta, gradient) else {
            candle_core::bail!("theta and its gradient must be f32");
        };
        let mut velocity = lock(self.velocity);
        let Velocity::Host(velocity) = &mut *velocity else {
            candle_core::bail!("theta is on the CPU and its momentum is not");
        };
        let (theta, gradient) = (&mut theta[t0..t1], &gradient[g0..g1]);
        if theta.len() != gradient.len() || theta.len() != velocity.len() {
            candle_core::bail!("theta, its gradient and its momentum differ in length");
        }
        self.apply(theta, velocity, gradient);
        Ok(())
    }

    fn cuda_fwd(
        &self,
        theta: &mut CudaStorage,
        theta_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let mut velocity = lock(self.velocity);
        if let Velocity::Host(values) = &*velocity {
            let device = device::device_of(theta).map_err(device::to_candle)?;
            let (len, buffer) = (values.len(), device.buffer_of(values).map_err(device::to_candle)?);
            *velocity = Velocity::Device { device, buffer, len };
        }
        let Velocity::Device { device, buffer, len } = &*velocity else {
            candle_core::bail!("the momentum did not reach the GPU");
        };
        let gradient = device::span(gradient, gradient_layout)?;
        let theta = device::span_mut(theta, theta_layout)?;
        if theta.len() != gradient.len() || theta.len() != *len {
            candle_core::bail!("theta, its gradient and its momentum differ in length");
        }
        let numbers = [self.lr, self.momentum, self.weight_decay];
        let velocity = buffer.span(Precision::F32, 0, *len);
        device.sgd_step(theta, velocity, gradient, numbers).map_err(device::to_candle)
    }
}

/// Numbers per task: large enough that a small network is one task.
const CHUNK: usize = 1 << 16;

impl SgdStep<'_> {
    fn apply(&self, theta: &mut [f32], velocity: &mut [f32], gradient: &[f32]) {
        let chunk = |((theta, velocity), gradient): ((&mut [f32], &mut [f32]), &[f32])| {
            for ((t, v), g) in theta.iter_mut().zip(velocity.iter_mut()).zip(gradient) {
                *v = self.momentum * *v + (g + self.weight_decay * *t);
                *t -= self.lr * *v;
            }
        };
        if theta.len() <= CHUNK {
            chunk(((theta, velocity), gradient));
        } else {
            theta
                .par_chunks_mut(CHUNK)
                .zip(velocity.par_chunks_mut(CHUNK))
                .zip(gradient.par_chunks(CHUNK))
                .for_each(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn config(decay: Decay, warmup_epochs: u64) -> OptimConfig {
        OptimConfig {
            base_lr: 0.5,
            momentum: 0.9,
            weight_decay: 0.1,
            decay,
            warmup_epochs,
            predictor_lr: PredictorLr::Decayed,
            predictor_rate: 1.0,
        }
    }

    #[test]
    fn two_steps_equal_pytorchs_recursion() {
        let theta = Var::from_slice(&[1.0f32, -2.0], 2, &Device::Cpu).unwrap();
        let sgd = Sgd::new(vec![0.0; 2]);
        let gradient = Tensor::from_slice(&[0.5f32, 0.25], 2, &Device::Cpu).unwrap();
        for _ in 0..2 {
            sgd.step(&theta, &gradient, 0.1, &config(Decay::Constant, 0)).unwrap();
        }
        // v1 = 0.6, 0.05; θ1 = 0.94, -2.005; v2 = 0.54 + 0.594, 0.045 + 0.0495; θ2 = θ1 - 0.1 v2
        let got = theta.to_vec1::<f32>().unwrap();
        assert!((got[0] - 0.8266).abs() < 1e-6 && (got[1] + 2.01445).abs() < 1e-6, "{got:?}");
    }

    #[test]
    fn the_epoch_cosine_is_constant_within_an_epoch() {
        let c = config(Decay::CosineEpoch, 0);
        assert_eq!(c.lr(128, 0, 40, 4), 0.25);
        assert_eq!(c.lr(128, 9, 40, 4), 0.25);
        assert!((c.lr(128, 20, 40, 4) - 0.125).abs() < 1e-12);
    }

    #[test]
    fn warm_up_rises_to_the_full_rate_and_decay_follows() {
        let c = config(Decay::CosineStep, 1);
        assert!((c.lr(256, 0, 30, 3) - 0.05).abs() < 1e-12);
        assert!((c.lr(256, 9, 30, 3) - 0.5).abs() < 1e-12);
        assert!((c.lr(256, 20, 30, 3) - 0.25).abs() < 1e-12);
    }
}
