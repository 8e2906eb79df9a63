//! One SGD step of the alternation, in the paper's order (Sec. 5.1); the only place where a loss is
//! made and descended.

use super::{Compared, Direct, Losses, Model, Part};
use crate::error::{Result, go_on};
use crate::eta::{EStep, Rule, Views};
use crate::objective::ObjectiveConfig;
use crate::optim::{OptimConfig, Sgd};
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use std::sync::atomic::AtomicBool;

/// Learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// F_θ's.
    pub encoder: f64,
    /// That of h, and of h⁻¹, which Table 1 varies.
    pub predictor: f64,
}

/// The two unknowns, θ and η, and what moves them.
pub struct Alternation {
    /// θ and running statistics.
    pub model: Model,
    /// η.
    pub rule: Box<dyn EStep>,
    /// The momentum of each part of the model.
    pub momentum: Vec<Sgd>,
    /// What sets h, where it is not trained.
    pub direct: Option<Direct>,
    /// Batches that an E-step in progress has read; 0 between E-steps.
    pub read: u64,
    /// Images that had passed through F without gradient when they were last counted.
    counted: u64,
    objective: ObjectiveConfig,
    optim: OptimConfig,
    views_with_gradient: usize,
}

/// What a step gave.
pub struct Outcome {
    /// The loss before the step; NaN where it is pending.
    pub loss: f64,
    /// The loss on a device that may not have computed it yet; a step waits for nothing.
    pub pending: Option<Tensor>,
    /// z of the first view, (B, d).
    pub z: Tensor,
    /// The targets, (V', B, d).
    pub eta: Tensor,
    /// Images that the E-step passed through F beside the M-step's.
    pub e_passed: u64,
    /// The gradients; empty when the loss was known not to be finite, and then θ did not move.
    pub gradients: Option<GradStore>,
}

impl Outcome {
    /// The loss, waited for where it is pending.
    pub fn loss_now(&self) -> Result<f64> {
        match &self.pending {
            Some(loss) => Ok(f64::from(loss.to_scalar::<f32>()?)),
            None => Ok(self.loss),
        }
    }
}

impl Alternation {
    /// θ as `model` has it, η as `rule` has it, no momentum.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a device has no room for the momentum.
    pub fn new(
        model: Model,
        eta: &Rule,
        rule: Box<dyn EStep>,
        objective: ObjectiveConfig,
        optim: OptimConfig,
    ) -> Result<Self> {
        let momentum = |part: Part| Sgd::new(part.layers(), part.engine.machine());
        let momentum = model.parts().map(momentum).collect::<Result<_>>()?;
        let views_with_gradient = eta.views_with_gradient(objective.views(), objective.trained_views());
        let direct = model.direct().map(|config| Direct::new(config.clone(), model.output_dim()));
        let (read, counted) = (0, 0);
        Ok(Self { model, rule, momentum, direct, read, counted, objective, optim, views_with_gradient })
    }

    /// Step `step` of `steps`; `batch` gives the views of a step.
    pub fn step(
        &mut self,
        step: u64,
        steps: u64,
        rates: Rates,
        batch: &mut dyn FnMut(u64) -> Result<Views>,
    ) -> Result<Outcome> {
        self.e_step(step, steps, &AtomicBool::new(false), batch)?;
        self.m_step(step, rates, batch)
    }

    /// E-step, once per alternation: η for the next k batches, with θ frozen.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`] once `stop` is set: called again, perhaps from a checkpoint, it
    /// goes on behind the batches that were read.
    pub fn e_step(
        &mut self,
        step: u64,
        steps: u64,
        stop: &AtomicBool,
        batch: &mut dyn FnMut(u64) -> Result<Views>,
    ) -> Result<()> {
        let (model, rule) = (&self.model, &mut self.rule);
        self.counted = model.passed();
        let (k, begins) = (rule.chunk(), self.read == 0);
        if begins {
            model.normalise_prototypes()?;
        }
        if !step.is_multiple_of(k) {
            return Ok(());
        }
        if begins {
            rule.begin(model)?;
        }
        let before = self.read;
        for i in rule.reads(k.min(steps - step)).skip(before as usize) {
            // Whoever is asked to stop at once gets a batch further all the same.
            if self.read > before {
                go_on(stop)?;
            }
            rule.read(model, &batch(step + i)?)?;
            self.read += 1;
        }
        self.read = 0;
        Ok(())
    }

    /// Images that passed through F without gradient since this was last asked, or the last E-step
    /// began or went on.
    pub fn count_passed(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.counted, self.model.passed());
        self.counted - before
    }

    /// M-step: one SGD step on L(θ, η), η being a constant.
    pub fn m_step(
        &mut self,
        step: u64,
        rates: Rates,
        batch: &mut dyn FnMut(u64) -> Result<Views>,
    ) -> Result<Outcome> {
        let (model, rule) = (&self.model, &mut self.rule);
        let views = batch(step)?;
        let z = model.z(&views.x.narrow(0, 0, self.views_with_gradient)?)?;
        let eta = rule.targets(&views, &z, model)?;
        let trained = self.objective.trained_views();
        let (trained_z, eta) = (z.narrow(0, 0, trained)?, eta.narrow(0, 0, trained)?);
        if let Some(direct) = &mut self.direct {
            direct.set_predictor(step, &trained_z, model)?;
        }
        let small = views.small.as_ref().map(|x| model.z_of_small(x)).transpose()?;
        let (small, negatives) = (small.as_ref(), rule.negatives());
        let compared = Compared { z: &trained_z, eta: &eta, small, negatives };
        let loss = Losses::new(model, &self.objective, &compared)?;
        let pending = model.site().kernels().map(|_| loss.encoder.detach());
        let value = if pending.is_some() { f64::NAN } else { f64::from(loss.encoder.to_scalar::<f32>()?) };
        let descends = pending.is_some() || value.is_finite();
        let gradients = if descends { Some(loss.descended.backward()?) } else { None };
        if let Some(gradients) = &gradients {
            self.descend(gradients, step, rates)?;
        }
        let (e_passed, z) = (self.count_passed(), z.get(0)?.detach());
        Ok(Outcome { loss: value, pending, z, eta: eta.detach(), e_passed, gradients })
    }

    /// θ ← one SGD step along the gradients, for every trained part.
    fn descend(&self, gradients: &GradStore, step: u64, rates: Rates) -> Result<()> {
        let frozen = self.objective.prototypes.map_or(0, |prototypes| prototypes.frozen_steps);
        for (part, sgd) in self.model.parts().zip(&self.momentum) {
            let lr = match part.name {
                "predictor" if self.direct.is_some() => continue,
                "prototypes" if step < frozen => continue,
                "encoder" | "prototypes" => rates.encoder,
                _ => rates.predictor,
            };
            if let Some(gradient) = gradients.get(part.theta) {
                sgd.step(part.theta, gradient, lr, &self.optim)?;
            }
        }
        Ok(())
    }
}
