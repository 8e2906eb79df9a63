//! The two unknowns of the alternation, θ and η, with what moves them and what a step of it gives.

use super::{Direct, Model, Part, linear};
use crate::device::Reading;
use crate::error::Result;
use crate::eta::{EStep, Rule, Views};
use crate::objective::ObjectiveConfig;
use crate::optim::{OptimConfig, Sgd};
use crate::recipe::Predictor;
use candle_core::Tensor;
use candle_core::backprop::GradStore;

/// What gives the views of a step.
pub type ViewSource<'a> = dyn FnMut(u64) -> Result<Views> + 'a;

/// Learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The learning rate of F_θ.
    pub encoder: f64,
    /// The learning rate of h, which Table 1 varies, and of h⁻¹.
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
    pub(super) counted: u64,
    pub(super) seed: u64,
    pub(super) objective: ObjectiveConfig,
    optim: OptimConfig,
    pub(super) views_with_gradient: usize,
}

/// What a step gave.
pub struct Outcome {
    /// The loss before the step.
    pub loss: Reading,
    /// z of the first view, (B, d).
    pub z: Tensor,
    /// p = h(z), (V', B, d).
    pub p: Tensor,
    /// The targets, (V', B, d).
    pub eta: Tensor,
    /// Images that the E-step passed through F beside the M-step's.
    pub e_passed: u64,
    /// The gradients; empty when the loss was known not to be finite, and then θ did not move.
    pub gradients: Option<GradStore>,
}

impl Alternation {
    /// θ as `model` has it, η as `rule` has it, no momentum. What a step's loss draws is drawn
    /// under `seed`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a device has no room for the momentum.
    pub fn new(
        model: Model,
        eta: &Rule,
        rule: Box<dyn EStep>,
        objective: ObjectiveConfig,
        optim: OptimConfig,
        seed: u64,
    ) -> Result<Self> {
        let momentum = |part: Part| Sgd::new(part.parameters(), part.engine.machine());
        let momentum = model.parts().map(momentum).collect::<Result<_>>()?;
        let views_with_gradient = eta.views_with_gradient(objective.views(), objective.trained_views());
        let direct = Direct::of(model.predictor(), model.output_dim());
        let (read, counted) = (0, 0);
        Ok(Self { model, rule, momentum, direct, read, counted, seed, objective, optim, views_with_gradient })
    }

    /// Images that passed through F without gradient since this was last asked, or the last E-step
    /// began or went on.
    pub fn count_passed(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.counted, self.model.passed());
        self.counted - before
    }

    /// θ ← one SGD step along the gradients, for every trained part.
    pub(super) fn descend(&self, gradients: &GradStore, step: u64, rates: Rates) -> Result<()> {
        let frozen = self.objective.prototypes.map_or(0, |prototypes| prototypes.frozen_steps);
        let of_predictor = self.optim.of_predictor();
        for (part, sgd) in self.model.parts().zip(&self.momentum) {
            let lr = match part.name {
                "predictor" if self.direct.is_some() => continue,
                "prototypes" if step < frozen => continue,
                "encoder" | "prototypes" => rates.encoder,
                _ => rates.predictor,
            };
            if let Some(gradient) = gradients.get(part.theta) {
                let of_h = part.name == "predictor";
                sgd.step(part.theta, gradient, lr, if of_h { &of_predictor } else { &self.optim })?;
                if let (true, Predictor::Linear(config)) = (of_h, self.model.predictor()) {
                    linear::hold(part.theta, self.model.output_dim(), *config)?;
                }
            }
        }
        Ok(())
    }
}
