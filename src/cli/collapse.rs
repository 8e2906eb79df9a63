//! What a person is told when the outputs of a run collapse: while it happens, with where to look
//! for the reason.

use crate::measure::collapse::is_collapsed;
use crate::record::some;
use crate::study::{FEW_STEPS, Job, unlike_simsiam};

/// Where to look when the recipe is SimSiam's own.
const NOTHING_DIFFERS: &str = "the recipe is SimSiam's: try a lower optim.base_lr or a larger schedule.batch, and look \
    whether two views of an image share what tells it from all others (sim data preview); sim doctor with the same words \
    looks for the reason";

/// A sentence about outputs of `job`, of a study at `scale`, that have collapsed by the row
/// `values` of metrics.csv after `step` steps; none where they have not.
pub fn warning(job: &Job, scale: Option<&str>, step: u64, values: &[(&'static str, f64)]) -> Option<String> {
    let value = |column: &str| values.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
    let (z_std, rankme) = (value("val/z_std")?, value("val/rankme")?);
    let dim = job.recipe.encoder.projector.dim;
    // A random initialisation has a small std too, and outputs of the closed form have another one.
    if step < FEW_STEPS || job.recipe.closed_form.is_some() || !is_collapsed(z_std, rankme, dim) {
        return None;
    }
    let loss = value("train/loss").map_or_else(String::new, |loss| format!(", loss {loss:.3}"));
    let why = match unlike_simsiam(&job.recipe, scale).unwrap_or_default() {
        keys if keys.is_empty() => NOTHING_DIFFERS.to_string(),
        keys => format!("what differs from SimSiam's recipe: {}", some(&keys)),
    };
    Some(format!(
        "the outputs have collapsed: after step {step} held-out std {z_std:.3} (0 constant, 1 spread evenly), RankMe \
         {rankme:.1} of {dim}{loss}; {why}"
    ))
}
