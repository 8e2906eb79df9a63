//! Whether a data set is one that a recipe can be trained on.

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eta::Rule;
use crate::objective::Similarity;
use crate::recipe::Recipe;

/// Refuses fewer images than chunks that epochs show, a classifier where images have no labels, and
/// one whose head tells another number of classes apart than they have.
///
/// # Errors
/// [`Error::Usage`] with the way out.
pub fn check_images(recipe: &Recipe, dataset: &Dataset) -> Result<()> {
    let (images, chunks) = (dataset.train.len(), recipe.schedule.passes.chunks());
    if (images as u64) < chunks {
        return Err(Error::Usage(format!(
            "schedule.passes: {images} training images of {} cannot be cut into {chunks} chunks; take fewer",
            dataset.name
        )));
    }
    let (outputs, classes) = (recipe.encoder.projector.dim, dataset.classes.len());
    if recipe.eta != (Rule::Labels {}) {
        return Ok(());
    }
    if !dataset.trains_on_labelled() {
        let way_out = match dataset.is_labelled() {
            true => "leave data.unlabelled out",
            false => "put them into class folders",
        };
        return Err(Error::Usage(format!(
            "eta.labels: supervised training reads labels, and the images of {} have none; {way_out}, or take a method \
             without labels",
            dataset.name
        )));
    }
    // The contrastive loss reads of η which images have the same one.
    let contrastive = recipe.objective.similarity == Similarity::Contrastive;
    if outputs == classes || contrastive && outputs > classes {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "encoder.projector.dim: {outputs} outputs where eta.labels has the {classes} classes of {}; {classes} fit: in a \
         study file for the supervised arms, or --set encoder.projector.dim={classes} where all arms are supervised",
        dataset.name
    )))
}
