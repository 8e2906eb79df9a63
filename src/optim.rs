//! SGD with momentum and weight decay over flat θ, and the learning-rate curve (Sec. 3).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the M-step moves θ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// The learning rate is base_lr × batch / 256.
    pub base_lr: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// L2 penalty on every trained parameter.
    pub weight_decay: f64,
    /// How the learning rate falls.
    pub decay: Decay,
    /// Epochs over which the learning rate rises linearly from 0 (Table 2: 10 for batches ≥ 1024).
    pub warmup_epochs: u64,
    /// Keeps the predictor's learning rate at its start value (Table 1, "lr not decayed").
    pub constant_predictor_lr: bool,
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
        for (key, value, high) in [
            ("base_lr", self.base_lr, f64::INFINITY),
            ("momentum", self.momentum, 1.0),
            ("weight_decay", self.weight_decay, f64::INFINITY),
        ] {
            if !(value >= 0.0 && value < high) {
                return Err(Error::Usage(format!(
                    "optim.{key}: {value} must be at least 0 and below {high}"
                )));
            }
        }
        Ok(())
    }
}
