//! SGD with momentum and weight decay over flat θ, LARS, and the learning-rate curve (Sec. 3).
//!
//! v ← μ·v + s·(g + λ·θ), θ ← θ − lr·v, as PyTorch's `SGD` (candle-nn's has neither μ nor λ), in
//! one pass over θ. s is 1, or LARS's rate of each layer.

mod sgd;

pub use sgd::{Parameter, Sgd};

use crate::defaults::{is_default, is_one, one};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the M-step moves θ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// The learning rate is base_lr × batch / 256.
    pub base_lr: f64,
    /// SGD's momentum μ.
    pub momentum: f64,
    /// L2 penalty λ.
    pub weight_decay: f64,
    /// Which parameters the penalty is on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weight_decay_on: Penalised,
    /// A rate for each layer, as large batches need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lars: Option<LarsConfig>,
    /// How the learning rate falls.
    pub decay: Decay,
    /// What the learning rate falls to, as a share of its start (SwAV: 0.001).
    #[serde(default, skip_serializing_if = "is_default")]
    pub final_lr: f64,
    /// Epochs over which the learning rate rises linearly from 0 (Table 2: 10 for batches ≥ 1024).
    pub warmup_epochs: u64,
    /// The predictor's learning rate.
    pub predictor_lr: PredictorLr,
    /// A factor on the predictor's learning rate.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub predictor_rate: f64,
    /// The predictor's L2 penalty, where it is not `weight_decay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictor_decay: Option<f64>,
}

/// SimSiam's (Sec. 3).
impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            base_lr: 0.05,
            momentum: 0.9,
            weight_decay: 1e-4,
            weight_decay_on: Penalised::All,
            lars: None,
            decay: Decay::CosineEpoch,
            final_lr: 0.0,
            warmup_epochs: 0,
            predictor_lr: PredictorLr::Decayed,
            predictor_rate: 1.0,
            predictor_decay: None,
        }
    }
}

/// A rate for each layer, which batches of thousands need (SimCLR, BYOL, SwAV; the paper's linear
/// evaluation): s = trust · ‖θₗ‖ / (‖gₗ‖ + λ‖θₗ‖) for each layer l (LARS; You, Gitman & Ginsburg
/// 2017).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LarsConfig {
    /// The factor `trust`: 0.001 in every paper that uses LARS here.
    pub trust: f64,
}

/// Which parameters the L2 penalty is on; LARS gives rates to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Penalised {
    /// All parameters that are trained (SimSiam, MoCo v2).
    #[default]
    All,
    /// Weights of convolutions and linear layers: neither batch norm's parameters nor biases
    /// (SimCLR, BYOL).
    Weights,
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
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("base_lr", self.base_lr),
            ("weight_decay", self.weight_decay),
            ("predictor_rate", self.predictor_rate),
            ("predictor_decay", self.predictor_decay.unwrap_or(0.0)),
            ("final_lr", self.final_lr),
            ("lars.trust", self.lars.map_or(0.0, |lars| lars.trust)),
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

    /// Whether h stays as it begins.
    pub fn holds_predictor(&self) -> bool {
        self.predictor_lr == PredictorLr::Zero || self.predictor_rate == 0.0
    }

    /// These numbers as h has them.
    pub fn of_predictor(&self) -> OptimConfig {
        OptimConfig { weight_decay: self.predictor_decay.unwrap_or(self.weight_decay), ..self.clone() }
    }

    /// h's learning rate at `step` of `steps`, which make up `epochs` epochs of batches of `batch`
    /// images.
    pub fn predictor_lr(&self, batch: usize, step: u64, steps: u64, epochs: u64) -> f64 {
        let lr = match self.predictor_lr {
            PredictorLr::Decayed => self.lr(batch, step, steps, epochs),
            PredictorLr::Constant => self.base_lr * batch as f64 / 256.0,
            PredictorLr::Zero => 0.0,
        };
        lr * self.predictor_rate
    }

    /// The encoder's learning rate at `step` of `steps`, which make up `epochs` epochs of batches
    /// of `batch` images.
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
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * fraction).cos());
        start * (cosine + self.final_lr * (1.0 - cosine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::machine::{Machine, Processor};
    use candle_core::{Device, Tensor, Var};
    use std::sync::Arc;

    fn machine() -> Arc<dyn Machine> {
        Arc::new(Processor::new(crate::kernel::direct_sums().unwrap()))
    }

    fn config(decay: Decay, warmup_epochs: u64) -> OptimConfig {
        OptimConfig {
            base_lr: 0.5,
            momentum: 0.9,
            weight_decay: 0.1,
            weight_decay_on: Penalised::All,
            lars: None,
            decay,
            final_lr: 0.0,
            warmup_epochs,
            predictor_lr: PredictorLr::Decayed,
            predictor_rate: 1.0,
            predictor_decay: None,
        }
    }

    #[test]
    fn two_steps_equal_pytorchs_recursion() {
        let theta = Var::from_slice(&[1.0f32, -2.0], 2, &Device::Cpu).unwrap();
        let sgd = Sgd::new(vec![Parameter { len: 2, weights: true, frozen: false }], &machine()).unwrap();
        let gradient = Tensor::from_slice(&[0.5f32, 0.25], 2, &Device::Cpu).unwrap();
        for _ in 0..2 {
            sgd.step(&theta, &gradient, 0.1, &config(Decay::Constant, 0)).unwrap();
        }
        // v1 = 0.6, 0.05; θ1 = 0.94, -2.005; v2 = 0.54 + 0.594, 0.045 + 0.0495; θ2 = θ1 - 0.1 v2
        let got = theta.to_vec1::<f32>().unwrap();
        assert!((got[0] - 0.8266).abs() < 1e-6 && (got[1] + 2.01445).abs() < 1e-6, "{got:?}");
    }

    /// θ = (3, 4 | 2) with gradient (0.6, 0.8 | 0.5), the last number a bias, after one step of
    /// rate 0.1.
    fn one_step(config: &OptimConfig) -> Vec<f32> {
        let theta = Var::from_slice(&[3f32, 4.0, 2.0], 3, &Device::Cpu).unwrap();
        let gradient = Tensor::from_slice(&[0.6f32, 0.8, 0.5], 3, &Device::Cpu).unwrap();
        let parameters = vec![
            Parameter { len: 2, weights: true, frozen: false },
            Parameter { len: 1, weights: false, frozen: false },
        ];
        let sgd = Sgd::new(parameters, &machine()).unwrap();
        sgd.step(&theta, &gradient, 0.1, config).unwrap();
        theta.to_vec1().unwrap()
    }

    fn near(got: &[f32], expected: [f32; 3]) {
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, {expected:?}");
    }

    #[test]
    fn what_is_frozen_stays_whatever_its_gradient() {
        let theta = Var::from_slice(&[3f32, 4.0, 2.0], 3, &Device::Cpu).unwrap();
        let gradient = Tensor::from_slice(&[f32::NAN, 0.8, 0.5], 3, &Device::Cpu).unwrap();
        let parameters = [(1, true), (1, false), (1, false)];
        let parameters = parameters.map(|(len, frozen)| Parameter { len, weights: true, frozen }).to_vec();
        let sgd = Sgd::new(parameters, &machine()).unwrap();
        sgd.step(&theta, &gradient, 0.1, &config(Decay::Constant, 0)).unwrap();
        near(&theta.to_vec1::<f32>().unwrap(), [3.0, 3.88, 1.93]);
        assert_eq!(sgd.velocity().unwrap()[0], 0.0);
    }

    #[test]
    fn the_penalty_may_spare_biases_and_batch_norm() {
        let plain = config(Decay::Constant, 0);
        near(&one_step(&plain), [2.91, 3.88, 1.93]);
        near(&one_step(&OptimConfig { weight_decay_on: Penalised::Weights, ..plain }), [2.91, 3.88, 1.95]);
    }

    #[test]
    fn lars_gives_each_layer_the_rate_of_its_norms() {
        let lars = Some(LarsConfig { trust: 0.01 });
        let all = OptimConfig { lars, ..config(Decay::Constant, 0) };
        // Weights: ‖θ‖ = 5, ‖g‖ = 1, s = 0.01·5/(1 + 0.5) = 1/30, g + λθ = (0.9, 1.2). Bias: s
        // = 0.02/0.7, g + λθ = 0.7.
        near(&one_step(&all), [2.997, 3.996, 1.998]);
        let weights = OptimConfig { weight_decay_on: Penalised::Weights, ..all };
        near(&one_step(&weights), [2.997, 3.996, 1.95]);
    }

    #[test]
    fn the_cosine_may_end_above_zero() {
        let c = OptimConfig { final_lr: 0.1, ..config(Decay::CosineStep, 0) };
        assert_eq!(c.lr(256, 0, 10, 1), 0.5);
        assert!((c.lr(256, 5, 10, 1) - 0.275).abs() < 1e-12);
        assert!((c.lr(256, 10, 10, 1) - 0.05).abs() < 1e-12);
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
