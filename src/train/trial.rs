//! A short training in memory, to see where a recipe leads: nothing is written, and nothing goes on
//! from it.

use super::batches::Batches;
use super::evaluate::{Protocol, embed};
use super::{Alternation, Evaluation, Model, Rates, evaluate};
use crate::data::{Dataset, loader};
use crate::device::Site;
use crate::error::{Result, go_on};
use crate::eta::BankPlace;
use crate::optim::PredictorLr;
use crate::recipe::Recipe;
use std::sync::atomic::AtomicBool;

/// How long a trial is, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrialPlan {
    /// SGD steps; 0 measures the initial weights.
    pub steps: u64,
    /// Steps over which the learning rate rises from 0, linearly.
    pub warmup: u64,
    /// The encoder's learning rate afterwards; it does not fall.
    pub rate: f64,
}

impl TrialPlan {
    /// The learning rates of step `step`.
    fn rates(&self, recipe: &Recipe, step: u64) -> Rates {
        let risen = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let encoder = self.rate * risen;
        let predictor = match recipe.optim.predictor_lr {
            PredictorLr::Zero => 0.0,
            PredictorLr::Decayed => encoder * recipe.optim.predictor_rate,
            PredictorLr::Constant => self.rate * recipe.optim.predictor_rate,
        };
        Rates { encoder, predictor }
    }
}

/// What a trial came to.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The loss before each step.
    pub losses: Vec<f64>,
    /// The numbers of the weights that it ended with; none where a loss or an output was not a
    /// finite number.
    pub evaluation: Option<Evaluation>,
}

/// Trains `recipe` on `dataset` at `site` as `plan` says, from its initial weights, and measures
/// what comes of it, without a linear probe.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe that cannot be trained, [`crate::Error::Data`] for an image
/// that cannot be decoded, [`crate::Error::Stopped`] once `stop` is set.
pub fn trial(
    site: &Site,
    recipe: &Recipe,
    dataset: &Dataset,
    plan: &TrialPlan,
    stop: &AtomicBool,
) -> Result<Trial> {
    recipe.check()?;
    super::check_images(recipe, dataset)?;
    let model = Model::of(recipe, &site.host_kernel(recipe.encoder.precision)?)?.on(site)?;
    let images = dataset.train.len();
    let per_epoch = loader::steps_per_epoch(images, recipe.schedule.batch);
    let size = crate::eta::Size { steps: plan.steps.max(1), ..recipe.rule_size(images, per_epoch) };
    let place =
        BankPlace { beside: super::state::beside(&recipe.eta, site, u64::MAX)?, ..BankPlace::default() };
    let rule = recipe.eta.build(&size, &place)?;
    let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
    let mut alternation = Alternation::new(model, &recipe.eta, rule, objective, optim, recipe.seed)?;
    let mut batches = Batches::new(recipe, dataset, &alternation, 0..plan.steps);
    let mut losses = Vec::with_capacity(plan.steps as usize);
    for step in 0..plan.steps {
        go_on(stop)?;
        alternation.e_step(step, plan.steps, stop, &mut |step| batches.get(step))?;
        let made = alternation.m_step(step, plan.rates(recipe, step), &mut |step| batches.get(step))?;
        losses.push(made.loss.wait()?);
        if losses.last().is_some_and(|loss| !loss.is_finite()) {
            return Ok(Trial { losses, evaluation: None });
        }
    }
    // Weights may overflow where the loss, a cosine, does not tell; no number means anything then.
    let (features, z) = embed(&alternation.model, &dataset.test, &recipe.augment, stop)?;
    if !features.iter().chain(&z).all(|value| value.is_finite()) {
        return Ok(Trial { losses, evaluation: None });
    }
    let protocol = Protocol { config: &recipe.measure, probe: false, seed: recipe.seed };
    let evaluation = evaluate(&alternation.model, dataset, &recipe.augment, &protocol, stop)?;
    Ok(Trial { losses, evaluation: Some(evaluation) })
}
