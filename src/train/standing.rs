//! What is read of the alternation off a model that stands still.

use super::Model;
use super::em::held_out_gap;
use super::field::antisymmetry;
use crate::data::Dataset;
use crate::error::Result;
use crate::measure::em::EmConfig;
use crate::measure::field::Share;
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
