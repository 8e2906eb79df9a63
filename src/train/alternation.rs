//! One SGD step of the alternation, in the paper's order (Sec. 5.1); the only place where a loss is
//! made and descended.

use super::unknowns::{Alternation, Outcome, Rates, ViewSource};
use super::{Compared, Losses};
use crate::error::{Result, go_on};
use std::sync::atomic::AtomicBool;

impl Alternation {
    /// Step `step` of `steps`; `batch` gives the views of a step.
    ///
    /// # Errors
    /// Those of `batch`; [`crate::Error::Device`] when a GPU fails.
    pub fn step(&mut self, step: u64, steps: u64, rates: Rates, batch: &mut ViewSource) -> Result<Outcome> {
        self.e_step(step, steps, &AtomicBool::new(false), batch)?;
        self.m_step(step, rates, batch)
    }

    /// E-step, once per alternation: η for the next k batches, with θ frozen.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`] once `stop` is set: called again, perhaps from a checkpoint, it
    /// goes on behind the batches that were read.
    pub fn e_step(&mut self, step: u64, steps: u64, stop: &AtomicBool, batch: &mut ViewSource) -> Result<()> {
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

    /// M-step: one SGD step on L(θ, η), η being a constant.
    ///
    /// # Errors
    /// As [`Alternation::step`].
    pub fn m_step(&mut self, step: u64, rates: Rates, batch: &mut ViewSource) -> Result<Outcome> {
        let (model, rule) = (&self.model, &mut self.rule);
        let views = batch(step)?;
        let z = model.z(&views.x.narrow(0, 0, self.views_with_gradient)?)?;
        let eta = rule.targets(&views, &z, model)?;
        let trained = self.objective.trained_views();
        let (trained_z, eta) = (z.narrow(0, 0, trained)?, eta.narrow(0, 0, trained)?);
        if let Some(direct) = &mut self.direct {
            direct.set_predictor(step, &trained_z, &eta, model)?;
        }
        let small = views.small.as_ref().map(|x| model.z_of_small(x)).transpose()?;
        let (small, negatives) = (small.as_ref(), rule.negatives());
        let directions = self.objective.directions(self.seed, step, &trained_z)?;
        let compared =
            Compared { z: &trained_z, eta: &eta, small, negatives, directions: directions.as_ref() };
        let Losses { encoder, descended, p } = Losses::new(model, &self.objective, &compared)?;
        let loss = model.site().ask(&encoder)?;
        let descends = loss.known().is_none_or(f64::is_finite);
        let gradients = if descends { Some(descended.backward()?) } else { None };
        if let Some(gradients) = &gradients {
            self.descend(gradients, step, rates)?;
        }
        let (e_passed, z) = (self.count_passed(), z.get(0)?.detach());
        Ok(Outcome { loss, z, p, eta: eta.detach(), e_passed, gradients })
    }
}
