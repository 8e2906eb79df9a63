//! The step on θ where θ is: v ← μ·v + s·(g + λ·θ), θ ← θ − lr·v, in one pass.

use super::on_device::OnDevice;
use super::{OptimConfig, Penalised};
use crate::device;
use crate::error::{Error, Result};
use crate::kernel::device::{Device as KernelDevice, Span};
use candle_core::{CpuStorage, CudaStorage, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};

/// One parameter within a flat vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Numbers.
    pub len: usize,
    /// Whether they are weights of a convolution or a linear layer.
    pub weights: bool,
}

/// The momentum of one flat parameter vector, whose layers follow each other.
pub struct Sgd {
    velocity: Mutex<Velocity>,
    layers: Vec<Layer>,
    /// What makes the steps, where it is not the processor.
    kernels: Option<Arc<dyn KernelDevice>>,
}

/// v, beside θ: it goes to a device with the first step that is made there.
enum Velocity {
    Host(Vec<f32>),
    Device(OnDevice),
}

impl Sgd {
    /// For a vector of these `layers`, without momentum.
    pub fn new(layers: Vec<Layer>) -> Self {
        let len = layers.iter().map(|layer| layer.len).sum();
        Self { velocity: Mutex::new(Velocity::Host(vec![0.0; len])), layers, kernels: None }
    }

    /// The same, whose steps `kernels` make, where there are such.
    pub fn by(self, kernels: Option<&Arc<dyn KernelDevice>>) -> Self {
        Self { kernels: kernels.cloned(), ..self }
    }

    /// Goes on from a momentum of `velocity`.
    ///
    /// # Errors
    /// [`Error::Failure`] when it has another length.
    pub fn restore(&mut self, velocity: Vec<f32>) -> Result<()> {
        if velocity.len() != self.layers.iter().map(|layer| layer.len).sum::<usize>() {
            return Err(Error::Failure("momentum of another length".into()));
        }
        self.velocity = Mutex::new(Velocity::Host(velocity));
        Ok(())
    }

    /// One step on `theta` (P) along `gradient` (P), in place.
    pub fn step(&self, theta: &Tensor, gradient: &Tensor, lr: f64, config: &OptimConfig) -> Result<()> {
        let gradient = gradient.contiguous()?;
        let op = SgdStep { sgd: self, lr: lr as f32, config };
        Ok(theta.inplace_op2(&gradient, &op)?)
    }

    /// A copy of the momentum, for a checkpoint.
    ///
    /// # Errors
    /// [`Error::Failure`] when a device that holds it fails.
    pub fn velocity(&self) -> Result<Vec<f32>> {
        match &*lock(&self.velocity) {
            Velocity::Host(values) => Ok(values.clone()),
            Velocity::Device(on_device) => on_device.velocity(),
        }
    }
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct SgdStep<'a> {
    sgd: &'a Sgd,
    lr: f32,
    config: &'a OptimConfig,
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
        let (theta, gradient) = (&mut theta[t0..t1], &gradient[g0..g1]);
        if let Some(kernels) = &self.sgd.kernels {
            let mut step =
                || self.on_device(kernels, kernels.host_span_mut(theta)?, kernels.host_span(gradient)?);
            return step().map_err(device::to_candle);
        }
        let mut velocity = lock(&self.sgd.velocity);
        let Velocity::Host(velocity) = &mut *velocity else {
            candle_core::bail!("theta is on the CPU and its momentum is not");
        };
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
        let Some(kernels) = self.sgd.kernels.as_ref().filter(|kernels| kernels.gpu().is_some()) else {
            candle_core::bail!("theta is on a GPU, and what makes its steps is not");
        };
        let gradient = device::span(gradient, gradient_layout)?;
        let theta = device::span_mut(theta, theta_layout)?;
        self.on_device(kernels, theta, gradient).map_err(device::to_candle)
    }
}

/// Numbers per task: large enough that a small network is one task.
const CHUNK: usize = 1 << 16;

impl SgdStep<'_> {
    fn on_device(&self, kernels: &Arc<dyn KernelDevice>, theta: Span, gradient: Span) -> Result<()> {
        let mut velocity = lock(&self.sgd.velocity);
        if let Velocity::Host(values) = &*velocity {
            let moved = OnDevice::new(kernels.clone(), values, &self.sgd.layers, self.config)?;
            *velocity = Velocity::Device(moved);
        }
        match &*velocity {
            Velocity::Device(on_device) => on_device.step(theta, gradient, self.lr, self.config),
            Velocity::Host(_) => unreachable!("it was just moved"),
        }
    }

    fn apply(&self, theta: &mut [f32], velocity: &mut [f32], gradient: &[f32]) {
        let OptimConfig { weight_decay, weight_decay_on, lars, .. } = *self.config;
        if weight_decay_on == Penalised::All && lars.is_none() {
            return self.apply_to_layer(theta, velocity, gradient, weight_decay, 1.0);
        }
        let mut start = 0;
        for layer in &self.sgd.layers {
            let range = start..start + layer.len;
            start = range.end;
            let (theta, gradient) = (&mut theta[range.clone()], &gradient[range.clone()]);
            let penalised = layer.weights || weight_decay_on == Penalised::All;
            let decay = if penalised { weight_decay } else { 0.0 };
            let rate = lars.filter(|_| penalised).map_or(1.0, |lars| lars.rate(theta, gradient, decay));
            self.apply_to_layer(theta, &mut velocity[range], gradient, decay, rate);
        }
    }

    fn apply_to_layer(
        &self,
        theta: &mut [f32],
        velocity: &mut [f32],
        gradient: &[f32],
        decay: f64,
        rate: f64,
    ) {
        let (lr, momentum) = (self.lr, self.config.momentum as f32);
        let (decay, rate) = (decay as f32, rate as f32);
        let chunk = |((theta, velocity), gradient): ((&mut [f32], &mut [f32]), &[f32])| {
            for ((t, v), g) in theta.iter_mut().zip(velocity.iter_mut()).zip(gradient) {
                *v = momentum * *v + rate * (g + decay * *t);
                *t -= lr * *v;
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
