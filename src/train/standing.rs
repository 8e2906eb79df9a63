//! What is read of the alternation off a model that stands still.

use super::Model;
use super::em::held_out_gap;
use super::evaluate::rows;
use super::field::antisymmetry;
use crate::data::Dataset;
use crate::error::Result;
use crate::measure::MeasureConfig;
use crate::measure::collapse::log_spread;
use crate::measure::em::EmConfig;
use crate::measure::field::Share;
use crate::measure::linear_map::{from_projection, off_diagonal};
use crate::recipe::Recipe;
use std::sync::atomic::AtomicBool;

/// R² of the predictor, alignment and, where the recipe asks for it, the share of the field that is
/// no gradient, as columns of metrics.csv.
///
/// # Errors
/// [`crate::Error::Stopped`] once `stop` is set.
pub fn columns(
    model: &Model,
    dataset: &Dataset,
    recipe: &Recipe,
    em: &EmConfig,
    stop: &AtomicBool,
) -> Result<Vec<(&'static str, f64)>> {
    let gap = held_out_gap(model, dataset, recipe, em, stop)?;
    let mut values = vec![("em/alignment", gap.alignment)];
    // Collapsed outputs have no variation to remove.
    let numbers = [("em/r2", gap.r2), ("em/r2_linear", gap.r2_linear)];
    values.extend(numbers.into_iter().filter(|(_, value)| value.is_finite()));
    if em.field > 0
        && let Some(Share { share, error }) = antisymmetry(model, dataset, recipe, em, stop)?
    {
        values.extend([("em/antisymmetry", share), ("em/antisymmetry_error", error)]);
    }
    Ok(values)
}

/// The spread of the eigenvalues of E\[z zᵀ\], of which `singular_values` are the roots but for a
/// factor, where the recipe asks for it. Outputs that are all 0 have no logarithm.
pub fn spread_of_eigenvalues(em: &EmConfig, singular_values: &[f64]) -> Option<(&'static str, f64)> {
    let spread = em.eigenvalues.then(|| log_spread(singular_values)).filter(|spread| spread.is_finite());
    spread.map(|spread| ("em/log_spread", spread))
}

/// What `measure` asks of the W of a linear h, as columns of metrics.csv.
///
/// # Errors
/// [`crate::Error::Device`] when a GPU fails.
pub fn predictor_columns(model: &Model, measure: &MeasureConfig) -> Result<Vec<(&'static str, f64)>> {
    let h = model.parts().find(|part| part.name == "predictor").filter(|_| measure.predictor);
    let Some(h) = h else { return Ok(Vec::new()) };
    let dim = model.output_dim();
    let w = rows(&h.theta.as_detached_tensor().reshape((dim, dim))?)?.mapv(f64::from);
    let values = [
        ("predictor/off_diagonal", off_diagonal(w.view())),
        ("predictor/projection", from_projection(w.view())),
    ];
    Ok(values.into_iter().filter(|(_, value)| value.is_finite()).collect())
}
