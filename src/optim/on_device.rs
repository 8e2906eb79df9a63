//! The same step on a device, where momentum stays beside θ and no rate is read back.

use super::{Layer, OptimConfig, Penalised};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::device::{Buffer, Device, Part, Parts, Span};
use std::sync::Arc;

/// v, and where the layers lie.
pub struct OnDevice {
    device: Arc<dyn Device>,
    velocity: Buffer,
    len: usize,
    parts: Parts,
}

impl OnDevice {
    /// Momentum `velocity` of a vector of these `layers`, on `device`, for steps as `config` says.
    pub fn new(
        device: Arc<dyn Device>,
        velocity: &[f32],
        layers: &[Layer],
        config: &OptimConfig,
    ) -> Result<Self> {
        let penalised = |layer: &Layer| layer.weights || config.weight_decay_on == Penalised::All;
        let parts: Vec<Part> =
            layers.iter().map(|layer| Part { len: layer.len, penalised: penalised(layer) }).collect();
        let parts = Parts::new(device.as_ref(), &parts)?;
        Ok(Self { velocity: device.buffer_of(velocity)?, len: velocity.len(), device, parts })
    }

    fn span(&self) -> Span<'_> {
        self.velocity.span(Precision::F32, 0, self.len)
    }

    /// A copy of v.
    pub fn velocity(&self) -> Result<Vec<f32>> {
        self.device.download_f32(self.span())
    }

    /// One step on `theta` along `gradient`.
    pub fn step(&self, theta: Span, gradient: Span, lr: f32, config: &OptimConfig) -> Result<()> {
        if theta.len() != gradient.len() || theta.len() != self.len {
            return Err(Error::Failure("theta, its gradient and its momentum differ in length".into()));
        }
        let numbers = [lr, config.momentum as f32, config.weight_decay as f32];
        let device = self.device.as_ref();
        if config.weight_decay_on == Penalised::All && config.lars.is_none() {
            return device.sgd_step(theta, self.span(), gradient, numbers);
        }
        let lars = config.lars.map(|lars| (lars.trust, config.weight_decay));
        device.sgd_parts(&self.parts, theta, self.span(), gradient, numbers, lars)
    }
}
