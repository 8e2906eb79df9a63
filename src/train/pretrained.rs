//! Weights that were trained before, here or elsewhere, with what is known of how images were
//! prepared for them.

use super::preprocessing::{MEAN, METADATA, Preprocessing, STD};
use super::{Model, weights};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::files;
use crate::kernel::Precision;
use crate::network::config::Backbone;
use crate::network::{Tensors, read_with_metadata};
use crate::recipe::Recipe;
use crate::record::{CONFIG_FILE, WEIGHTS_FILE, check_result};
use std::path::{Path, PathBuf};

/// Weights that were read, of a run or a file.
pub struct Pretrained {
    /// The weights file.
    pub path: PathBuf,
    pub(super) tensors: Tensors,
    /// The recipe of the run that they are of, where it is known.
    pub recipe: Option<Recipe>,
    /// How images are prepared for them.
    pub preprocessing: Preprocessing,
    /// Where that is from, as the end of a sentence.
    pub source: String,
}

impl Pretrained {
    /// Reads the weights of a run's folder, or a weights file. A file called weights.safetensors
    /// has its run's recipe beside it.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let (path, recipe) =
            if path.is_dir() { run_in(path)? } else { (path.to_path_buf(), recipe_beside(path)) };
        if path.file_name().is_some_and(|name| name == WEIGHTS_FILE) {
            check_result(path.parent().unwrap_or(Path::new("")), WEIGHTS_FILE)?;
        }
        let (tensors, metadata) = read_with_metadata(&path)?;
        let (preprocessing, source) = if let Some(recipe) = &recipe {
            let config = path.with_file_name(CONFIG_FILE);
            (Preprocessing::of(&recipe.augment), format!("of {}", config.display()))
        } else if let Some(text) = metadata.get(METADATA) {
            let wrong =
                |what: String| Error::data(&path, format!("has unusable metadata '{METADATA}': {what}"));
            let kept: Preprocessing = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
            kept.check().map_err(|e| wrong(e.to_string()))?;
            (kept, "of the file's metadata".into())
        } else {
            // The official code's stem sees images of 224 pixels.
            let imagenet = tensors
                .iter()
                .any(|(name, (shape, _))| name.ends_with("conv1.weight") && shape[..].ends_with(&[3, 7, 7]));
            let size = if imagenet { 224 } else { 32 };
            let said = "ImageNet's, as nothing beside these weights says what they were trained with; see --size, --mean, --std";
            (Preprocessing { size, mean: MEAN, std: STD }, said.into())
        };
        Ok(Self { path, tensors, recipe, preprocessing, source })
    }

    /// The model at `site`: of a run all parts, of a file the encoder.
    ///
    /// # Errors
    /// [`Error::Data`] when the tensors are not those of the recipe, or of no architecture that is
    /// known.
    pub fn model(&self, site: &Site) -> Result<Model> {
        let size = self.preprocessing.size;
        let model = match &self.recipe {
            None => weights::encoder_of(&self.tensors, size, &site.host_kernel(Precision::F32)?),
            Some(recipe) => {
                let mut recipe = recipe.clone();
                recipe.augment.size = size;
                // Small crops are for training.
                recipe.augment.multi_crop = None;
                weights::trained_model(&self.tensors, &recipe, &site.host_kernel(recipe.encoder.precision)?)
            }
        };
        let fits = |model: Model| model.evaluation_batch(1).map(|_| model);
        model.and_then(fits).and_then(|model| model.on(site)).map_err(|e| e.in_file(&self.path))
    }

    /// The backbone that they are of.
    ///
    /// # Errors
    /// [`Error::Data`] where names and shapes are those of none that is known.
    pub fn backbone(&self) -> Result<Backbone> {
        match &self.recipe {
            Some(recipe) => Ok(recipe.encoder.backbone.clone()),
            None => weights::backbone_of(&self.tensors).map_err(|e| e.in_file(&self.path)),
        }
    }

    /// The error that outputs of these weights are not finite.
    pub fn overflow(&self) -> Error {
        Error::data(
            &self.path,
            "gives outputs that are not finite numbers; its weights are not those of a trained encoder",
        )
    }
}

/// The recipe of the run in the folder `run`, whether or not it is finished.
///
/// # Errors
/// [`Error::Data`] for a folder without one.
pub fn recipe_of(run: &Path) -> Result<Recipe> {
    recipe_in(&run.join(CONFIG_FILE))
}

/// The weights file and the recipe in a run's folder.
fn run_in(folder: &Path) -> Result<(PathBuf, Option<Recipe>)> {
    let (recipe, weights) = (recipe_in(&folder.join(CONFIG_FILE))?, folder.join(WEIGHTS_FILE));
    if !weights.is_file() && recipe.transfer.is_some() {
        let what =
            "fine-tunes a detector, which is no encoder; its env.json names the run that it began with";
        return Err(Error::data(folder, what));
    }
    if !weights.is_file() {
        return Err(Error::data(folder, format!("has no {WEIGHTS_FILE}; the run is not finished")));
    }
    Ok((weights, Some(recipe)))
}

/// The recipe beside a run's weights file; what else is called so there is nobody's recipe.
fn recipe_beside(weights: &Path) -> Option<Recipe> {
    let known = weights.file_name().is_some_and(|name| name == WEIGHTS_FILE);
    known.then(|| recipe_in(&weights.with_file_name(CONFIG_FILE)).ok())?
}

/// The recipe that a run's file `config` holds.
fn recipe_in(config: &Path) -> Result<Recipe> {
    let expected =
        |why: String| Error::data(config, format!("{why}; expected a run's folder or a weights file"));
    let text = files::text(config, files::SHORT).map_err(|e| expected(format!("cannot be read: {e}")))?;
    if files::nested_too_deep(&text).is_some() {
        return Err(expected("has tables nested too deeply".into()));
    }
    toml::from_str(&text).map_err(|e| Error::data(config, e.message().to_string()))
}
