//! A network on a device: its arenas, staged weights and running statistics, and the passes of the engine there.

use super::device_passes::{DeviceArena, DevicePass, DeviceStatistics, Staging};
use super::layers::Network;
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::device::{Buffer, Device, Span};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What an engine keeps in a device's memory.
pub struct OnDevice {
    device: Arc<dyn Device>,
    precision: Precision,
    /// Made at the first pass: it needs a plan to know which layers are products.
    staging: OnceLock<Staging>,
    /// Arenas that no pass is using.
    arenas: Mutex<Vec<DeviceArena>>,
    running: Mutex<Buffer>,
    running_len: usize,
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl OnDevice {
    /// Values stored as `precision`; running statistics as in `running`.
    pub fn new(device: Arc<dyn Device>, precision: Precision, running: &[f32]) -> Result<Self> {
        // An empty vector still has an address.
        let buffer = device.allocate(4 * running.len().max(1))?;
        let on_device = Self {
            device,
            precision,
            staging: OnceLock::new(),
            arenas: Mutex::default(),
            running: Mutex::new(buffer),
            running_len: running.len(),
        };
        on_device.set_running(running)?;
        Ok(on_device)
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    /// The running statistics.
    pub fn running(&self) -> Result<Vec<f32>> {
        let running = lock(&self.running);
        self.device.download_f32(running.span(Precision::F32, 0, self.running_len))
    }

    /// Replaces them.
    pub fn set_running(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.running_len {
            return Err(Error::Failure("running statistics of another architecture".into()));
        }
        let running = lock(&self.running);
        self.device.upload_f32(values, running.span(Precision::F32, 0, self.running_len))
    }

    /// A copy of them that stays on the device.
    pub fn hold_running(&self) -> Result<Buffer> {
        let copy = self.device.allocate(4 * self.running_len.max(1))?;
        let running = lock(&self.running);
        let numbers = |buffer: &Buffer| buffer.bytes() / 4;
        self.device.copy(
            running.span(Precision::F32, 0, numbers(&running)),
            copy.span(Precision::F32, 0, numbers(&copy)),
        )?;
        Ok(copy)
    }

    /// Puts such a copy back.
    pub fn put_back_running(&self, held: &Buffer) -> Result<()> {
        let running = lock(&self.running);
        let len = self.running_len.max(1);
        self.device.copy(held.span(Precision::F32, 0, len), running.span(Precision::F32, 0, len))
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
        let running = lock(&self.running);
        let pass = self.pass(network, plan, &arena, inputs)?;
        pass.forward(DeviceStatistics::Batch(running.span(Precision::F32, 0, self.running_len)))?;
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
        let running = lock(&self.running);
        let pass = self.pass(network, plan, &arena, inputs)?;
        pass.forward(DeviceStatistics::Running(running.span(Precision::F32, 0, self.running_len)))?;
        for (value, to) in [network.features, network.values.len() - 1].into_iter().zip(outputs) {
            self.device.copy(pass.value(value), to)?;
        }
        self.give_back(arena);
        Ok(())
    }
}
