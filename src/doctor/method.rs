//! What the recipe is: numbers by which it can be wrong before anything is trained.

use crate::data::loader;
use crate::error::Result;
use crate::eta::Rule;
use crate::network::config::HeadNorm;
use crate::objective::Comparison;
use crate::optim::PredictorLr;
use crate::recipe::{Predictor, Recipe};
use serde::Serialize;

/// Numbers of a recipe on a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MethodFacts {
    /// Images of a batch.
    pub batch: usize,
    /// Images of a batch over which batch norm takes its statistics: those of a shard where shards
    /// are not synchronised.
    pub normalised: usize,
    /// Training images that the recipe uses.
    pub images: usize,
    /// SGD steps of the whole run.
    pub steps: u64,
    /// The learning rate that the recipe reaches, base_lr × batch / 256; with LARS it is another
    /// kind of number.
    pub rate: f64,
    /// λ.
    pub weight_decay: f64,
    /// What a step's weight decay takes of the weights, learning rate × weight decay.
    pub shrinks: f64,
    /// Side of a view in pixels.
    pub size: usize,
    /// d.
    pub dim: usize,
    /// The backbone's features.
    pub features: usize,
    /// Whether the projector's hidden layers have batch norm.
    pub projector_norm: bool,
    /// Whether the predictor's hidden layer has it; none where there is no such layer.
    pub predictor_norm: Option<bool>,
    /// Whether the targets carry no gradient.
    pub stop_gradient: bool,
    /// Whether there is a predictor.
    pub predictor: bool,
    /// The predictor's learning rate as a multiple of the encoder's; none where it is not trained.
    pub predictor_rate: Option<f64>,
    /// Whether nothing but the predictor and stop-gradient keeps outputs apart: no negatives, no
    /// codes, no classes, and no targets that are averages.
    pub leans_on_predictor: bool,
    /// Whether nothing but stop-gradient, with a predictor or an average, does.
    pub leans_on_stop_gradient: bool,
}

/// The facts of `recipe` on `images` training images.
///
/// # Errors
/// [`crate::Error::Usage`] for networks that cannot be made.
pub fn facts(recipe: &Recipe, images: usize) -> Result<MethodFacts> {
    let (encoder, _) = recipe.networks()?;
    let (optim, batch) = (&recipe.optim, recipe.schedule.batch);
    let rate = peak_rate(recipe);
    let predictor_rate = match (&recipe.predictor, optim.predictor_lr) {
        (predictor, _) if !predictor.is_trained() => None,
        (_, PredictorLr::Zero) => Some(0.0),
        _ => Some(optim.predictor_rate),
    };
    let of_targets = recipe.objective.similarity.is_of_rows();
    let from_elsewhere = matches!(recipe.eta, Rule::Labels {} | Rule::Sinkhorn { .. });
    // An average over time, or of θ, moves slowly enough to be a target by itself.
    let averages = match recipe.eta {
        Rule::MemoryBank { m, .. } | Rule::Expectation { m, .. } => m > 0.0,
        _ => false,
    };
    let leans_on_stop_gradient = of_targets && !from_elsewhere;
    let shards = if recipe.schedule.sync_batch_norm { 1 } else { recipe.schedule.shards };
    Ok(MethodFacts {
        batch,
        normalised: batch / shards,
        images,
        steps: loader::steps_per_epoch(images, batch) * recipe.schedule.epochs,
        rate,
        weight_decay: optim.weight_decay,
        shrinks: rate * optim.weight_decay,
        size: recipe.augment.size,
        dim: recipe.encoder.projector.dim,
        features: encoder.features_dim(),
        projector_norm: recipe.encoder.projector.norm != HeadNorm::None,
        predictor_norm: recipe.predictor.config().map(|h| h.norm != HeadNorm::None),
        stop_gradient: recipe.eta != (Rule::None {}),
        predictor: recipe.predictor != (Predictor::None {}),
        predictor_rate,
        leans_on_predictor: leans_on_stop_gradient
            && !averages
            && recipe.objective.comparison == Comparison::Simsiam,
        leans_on_stop_gradient,
    })
}

/// The learning rate that `recipe` reaches, before it falls.
pub fn peak_rate(recipe: &Recipe) -> f64 {
    recipe.optim.base_lr * recipe.schedule.batch as f64 / 256.0
}
