//! A network on a device: its arenas and staged weights, and the passes of the engine there.

use super::device_passes::{DeviceArena, DevicePass, DeviceStatistics, Staging};
use super::layers::Network;
use super::plan::Plan;
use super::running::Running;
use crate::error::Result;
use crate::kernel::Precision;
use crate::kernel::device::{Device, Span};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What an engine keeps in a device's memory.
pub struct OnDevice {
    device: Arc<dyn Device>,
    precision: Precision,
    /// Made at the first pass: it needs a plan to know which layers are products.
    staging: OnceLock<Staging>,
    /// Arenas that no pass is using.
    arenas: Mutex<Vec<DeviceArena>>,
    /// Shared with the engine, and with engines for images of other sizes.
    running: Arc<Running>,
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl OnDevice {
    /// Values stored as `precision`; passes move `running`.
    pub fn new(device: Arc<dyn Device>, precision: Precision, running: Arc<Running>) -> Self {
        Self { device, precision, staging: OnceLock::new(), arenas: Mutex::default(), running }
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    fn staging(&self, network: &Network, plan: &Plan) -> Result<&Staging> {
        if let Some(staging) = self.staging.get() {
            return Ok(staging);
        }
        let made = Staging::new(self.device.as_ref(), network, plan, self.precision)?;
        Ok(self.staging.get_or_init(|| made))
    }

    fn arena(&self, network: &Network, plan: &Plan) -> Result<DeviceArena> {
        let mut arena = lock(&self.arenas).pop().unwrap_or_default();
        arena.fit(self.device.as_ref(), network, plan, self.staging(network, plan)?, self.precision)?;
        Ok(arena)
    }

    /// Takes back an arena whose pass has ended.
    pub fn give_back(&self, arena: DeviceArena) {
        lock(&self.arenas).push(arena);
    }

    fn pass<'a>(
        &'a self,
        network: &'a Network,
        plan: &'a Plan,
        arena: &'a DeviceArena,
        [x, theta]: [Span<'a>; 2],
    ) -> Result<DevicePass<'a>> {
        let (device, precision) = (self.device.as_ref(), self.precision);
        Ok(DevicePass {
            device,
            network,
            plan,
            staging: self.staging(network, plan)?,
            precision,
            x,
            theta,
            arena,
        })
    }

    /// A pass in training mode: x (V·B, H, W, C) and θ in, the output (V·B, d) out, all f32. The arena is what the backward
    /// pass needs.
    pub fn train(
        &self,
        network: &Network,
        plan: &Plan,
        inputs: [Span; 2],
        output: Span,
    ) -> Result<DeviceArena> {
        let arena = self.arena(network, plan)?;
        let pass = self.pass(network, plan, &arena, inputs)?;
        self.running.on_device(&self.device, |running| pass.forward(DeviceStatistics::Batch(running)))?;
        self.device.copy(pass.value(network.values.len() - 1), output)?;
        Ok(arena)
    }

    /// The gradients of the pass that left `arena`.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        network: &Network,
        plan: &Plan,
        arena: &DeviceArena,
        inputs: [Span; 2],
        dy: Span,
        d_theta: Span,
        d_x: Option<Span>,
    ) -> Result<()> {
        let pass = self.pass(network, plan, arena, inputs)?;
        pass.backward(dy, d_theta)?;
        d_x.map_or(Ok(()), |d_x| self.device.copy(pass.input_gradient(), d_x))
    }

    /// A pass by running statistics: the pooled features and the output.
    pub fn evaluate(
        &self,
        network: &Network,
        plan: &Plan,
        inputs: [Span; 2],
        outputs: [Span; 2],
    ) -> Result<()> {
        let arena = self.arena(network, plan)?;
        let pass = self.pass(network, plan, &arena, inputs)?;
        self.running.on_device(&self.device, |running| pass.forward(DeviceStatistics::Running(running)))?;
        for (value, to) in [network.features, network.values.len() - 1].into_iter().zip(outputs) {
            self.device.copy(pass.value(value), to)?;
        }
        self.give_back(arena);
        Ok(())
    }
}
