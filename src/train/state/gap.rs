//! What the last step before a measurement compared: its η with the exact one, its p with its η.

use super::State;
use crate::error::Result;
use crate::eta::Views;
use crate::measure::collapse::direction_rank;
use crate::recipe::Recipe;
use crate::train::em;
use crate::train::evaluate::rows;
use crate::train::unknowns::Outcome;
use candle_core::Tensor;
use ndarray::Array2;

impl State {
    /// Compares the η that a step on `views` trained on with `samples`.
    pub fn compare(
        &mut self,
        recipe: &Recipe,
        eta: &Tensor,
        views: &Views,
        samples: &[Array2<f32>],
    ) -> Result<()> {
        let rule = &self.alternation.rule;
        let gap = em::trained_gap(eta, rule.second(views)?, samples, recipe)?;
        let parts = [gap.bias.map(|b| ("em/eta_bias", b)), gap.variance.map(|v| ("em/eta_variance", v))];
        self.eta_gap = vec![("em/eta_cosine", gap.cosine), ("em/eta_age", rule.age(views))];
        self.eta_gap.extend(parts.into_iter().flatten());
        Ok(())
    }

    /// Takes the ranks of p and η of the step that is being `made`, where the recipe asks for them
    /// and a measurement follows it.
    pub fn take_ranks(&mut self, recipe: &Recipe, made: &Outcome, per_epoch: u64) -> Result<()> {
        let asked = recipe.measure.em.as_ref().is_some_and(|em| em.ranks);
        if !asked || !self.measured_after(recipe, self.step + 1, per_epoch) {
            return Ok(());
        }
        let rank = |x: &Tensor| Ok::<_, crate::Error>(direction_rank(rows(&x.flatten(0, 1)?)?.view()));
        let (p, eta) = (rank(&made.p)?, rank(&made.eta)?);
        self.eta_gap.extend([("em/rank_p", p), ("em/rank_eta", eta), ("em/rank_gap", eta - p)]);
        Ok(())
    }
}
