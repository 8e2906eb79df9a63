//! The step on θ where θ is: v ← μ·v + s·(g + λ·θ), θ ← θ − lr·v, in one pass.

use super::{OptimConfig, Penalised};
use crate::device;
use crate::error::{Error, Result};
use crate::kernel::device::{Part, Span};
use crate::kernel::machine::{Array, Machine, StepNumbers, Stepper};
use crate::threads::lock;
use candle_core::{CpuStorage, CudaStorage, InplaceOp2, Layout, Tensor};
use std::sync::{Arc, Mutex};

/// One parameter within a flat vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// How many numbers it has.
    pub len: usize,
    /// Whether its numbers are weights of a convolution or a linear layer.
    pub weights: bool,
    /// Whether no step moves it, whatever its gradient and the penalty; those that are stand first.
    pub frozen: bool,
}

/// The momentum of one flat parameter vector, whose parameters follow each other.
pub struct Sgd {
    parameters: Vec<Parameter>,
    momentum: Mutex<Momentum>,
}

struct Momentum {
    /// v, beside θ.
    velocity: Array,
    /// What makes the steps, for parameters that are these parts.
    stepper: Option<(Vec<Part>, Box<dyn Stepper>)>,
}

impl Sgd {
    /// The momentum of a vector of these `parameters`, all zero; its steps are made on `machine`.
    ///
    /// # Errors
    /// [`Error::Device`] when a device has no room for the momentum.
    pub fn new(parameters: Vec<Parameter>, machine: &Arc<dyn Machine>) -> Result<Self> {
        let len = parameters.iter().map(|p| p.len).sum();
        let velocity = Array::new(machine.clone(), &vec![0.0; len])?;
        Ok(Self { parameters, momentum: Mutex::new(Momentum { velocity, stepper: None }) })
    }

    /// Goes on from a momentum of `velocity`.
    ///
    /// # Errors
    /// [`Error::Failure`] when it has another length.
    pub fn restore(&mut self, velocity: &[f32]) -> Result<()> {
        lock(&self.momentum).velocity.set(velocity)
    }

    /// One step on `theta` (P) along `gradient` (P), in place.
    ///
    /// # Errors
    /// [`Error::Failure`] for vectors of another length or on another machine.
    pub fn step(&self, theta: &Tensor, gradient: &Tensor, lr: f64, config: &OptimConfig) -> Result<()> {
        let gradient = gradient.contiguous()?;
        let op = SgdStep { sgd: self, lr: lr as f32, config };
        Ok(theta.inplace_op2(&gradient, &op)?)
    }

    /// A copy of the momentum, for a checkpoint.
    ///
    /// # Errors
    /// [`Error::Device`] when a device that holds it fails.
    pub fn velocity(&self) -> Result<Vec<f32>> {
        lock(&self.momentum).velocity.values()
    }
}

struct SgdStep<'a> {
    sgd: &'a Sgd,
    lr: f32,
    config: &'a OptimConfig,
}

impl SgdStep<'_> {
    fn step(&self, theta: Span, gradient: Span) -> Result<()> {
        let OptimConfig { momentum, weight_decay, weight_decay_on, lars, .. } = *self.config;
        let penalised = |p: &Parameter| p.weights || weight_decay_on == Penalised::All;
        let part = |p: &Parameter| Part { len: p.len, penalised: penalised(p) };
        let trained = self.sgd.parameters.iter().skip_while(|p| p.frozen);
        let parts: Vec<Part> = trained.map(part).collect();
        let mut held = lock(&self.sgd.momentum);
        let Momentum { velocity, stepper } = &mut *held;
        let machine = velocity.machine();
        if theta.len() != gradient.len() || theta.len() != velocity.len() {
            return Err(Error::Failure("theta, its gradient and its momentum differ in length".into()));
        }
        if theta.is_host() != machine.gpu().is_none() {
            return Err(Error::Failure("theta is in one memory, and its momentum in another".into()));
        }
        let made_for = stepper.take().filter(|(made_for, _)| *made_for == parts);
        let (_, stepper) = stepper.insert(match made_for {
            Some(made) => made,
            None => (parts.clone(), machine.stepper(&parts)?),
        });
        let (lr, momentum, trust) = (self.lr, momentum as f32, lars.map(|lars| lars.trust));
        let numbers = StepNumbers { lr, momentum, weight_decay, trust };
        let moved = theta.len() - parts.iter().map(|part| part.len).sum::<usize>()..theta.len();
        let [theta, velocity, gradient] =
            [theta, velocity.span(), gradient].map(|span| span.part(moved.clone()));
        stepper.step(theta, velocity, gradient, &numbers)
    }
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
        let (theta, gradient) = (Span::of_mut(&mut theta[t0..t1]), Span::of(&gradient[g0..g1]));
        self.step(theta, gradient).map_err(device::to_candle)
    }

    fn cuda_fwd(
        &self,
        theta: &mut CudaStorage,
        theta_layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = device::span(gradient, gradient_layout)?;
        let theta = device::span_mut(theta, theta_layout)?;
        self.step(theta, gradient).map_err(device::to_candle)
    }
}
