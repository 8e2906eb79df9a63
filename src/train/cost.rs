//! What a run costs, reckoned from its recipe before anything is allocated.

use super::VIEWS;
use crate::data::loader;
use crate::error::Result;
use crate::eta::{Rule, Steps};
use crate::kernel;
use crate::network::pass_floats;
use crate::recipe::{Predictor, Recipe};

/// Vectors as long as θ: θ itself, momentum, the gradient, candle's sum of it, a checkpoint's copy.
const COPIES_OF_THETA: usize = 5;
/// Batches that are held at once: the step's own and those prepared ahead of it.
const BATCHES: usize = 5;

/// Bytes that a run on `images` training images holds at its fullest, to within a quarter or so; the
/// images themselves, which all runs share, are not counted.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe whose networks cannot be made.
pub fn memory_bytes(recipe: &Recipe, images: usize) -> Result<u64> {
    let kernel = kernel::select()?;
    let (encoder, predictor) = recipe.networks()?;
    let (batch, size) = (recipe.schedule.batch, recipe.augment.size);
    let trained = !matches!(recipe.predictor, Predictor::Fixed(_));
    let mut floats = BATCHES * VIEWS * batch * size * size * 3;
    for (network, trained) in
        std::iter::once((&encoder, true)).chain(predictor.as_ref().map(|h| (h, trained)))
    {
        floats += network.theta_len() * if trained { COPIES_OF_THETA } else { 2 };
        floats += pass_floats(network, kernel.as_ref(), VIEWS, batch);
    }
    let d = encoder.output_dim();
    let per_epoch = loader::steps_per_epoch(images, batch);
    floats += match recipe.eta {
        Rule::KStep { k } => {
            let k = match k {
                Steps::Count(k) => k.min(per_epoch * recipe.schedule.epochs),
                Steps::Epoch => per_epoch,
            };
            k as usize * VIEWS * batch * d
        }
        Rule::MemoryBank { .. } => images * d,
        Rule::OneStep {} | Rule::None {} => 0,
    };
    // Held-out measuring keeps the features of all training images.
    floats += images * encoder.features_dim();
    Ok(floats as u64 * size_of::<f32>() as u64)
}
