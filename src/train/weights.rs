//! A model's weights under the names that torchvision and the official SimSiam code give them.

use super::{Model, Preprocessing};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::network::config::{Backbone, DirectConfig, EncoderConfig, PredictorConfig};
use crate::network::names::Named;
use crate::network::{
    Network, ShapedNumbers, Shapes, Tensors, infer_encoder, infer_predictor, names, part_names,
};
use crate::recipe::{Predictor, Recipe};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// θ and running statistics of every part as a safetensors file: `encoder.conv1.weight`, …,
/// `predictor.0.weight`, …; convolution weights (O, I, K, K), linear weights (O, I). Its metadata
/// say how images are prepared for them, where that is known.
///
/// # Errors
/// [`Error::Device`] when a GPU does not give its numbers.
pub fn to_safetensors(model: &Model, preprocessing: Option<&Preprocessing>) -> Result<Vec<u8>> {
    let metadata = |of: &Preprocessing| of.as_metadata().map(|kept| HashMap::from([kept]));
    let mut tensors = Vec::new();
    for part in model.parts() {
        let network = part.engine.network();
        let theta = names::to_torch(network, &part.theta.to_vec1()?);
        let running = names::running_to_torch(network, &part.engine.running()?);
        for (name, shape, values) in theta.into_iter().chain(running) {
            tensors.push((format!("{}.{name}", part.name), shape, values));
        }
    }
    safetensors_of(tensors, preprocessing.map(metadata).transpose()?)
}

/// One vector (P) as a safetensors file, in which it is called `name`.
///
/// # Errors
/// [`Error::Failure`] where it cannot be written down.
pub fn one_vector(name: &str, values: Vec<f32>) -> Result<Vec<u8>> {
    safetensors_of(vec![(name.to_string(), vec![values.len()], values)], None)
}

/// The vector (P) called `name` of a safetensors file.
///
/// # Errors
/// [`Error::Failure`] where `bytes` are no such file, or it has no such vector.
pub fn read_vector(name: &str, bytes: &[u8]) -> Result<Vec<f32>> {
    let wrong = |e: safetensors::SafeTensorError| Error::Failure(format!("not a vector called {name}: {e}"));
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(wrong)?;
    let data = file.tensor(name).map_err(wrong)?;
    Ok(data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Tensors as a safetensors file with these `metadata`.
///
/// # Errors
/// [`Error::Failure`] where they cannot be written down.
pub fn safetensors_of(tensors: Vec<Named>, metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>> {
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(values))).collect();
    let views: Result<Vec<_>> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            Ok((name.as_str(), view.map_err(|e| Error::Failure(format!("{name}: {e}")))?))
        })
        .collect();
    safetensors::serialize(views?, metadata)
        .map_err(|e| Error::Failure(format!("cannot serialise weights: {e}")))
}

/// Tensors of a file by the part of a model that they belong to.
pub(super) struct Parts<'a> {
    tensors: &'a Tensors,
    /// The file's name of each tensor by its name here.
    names: BTreeMap<String, &'a str>,
}

/// Refuses weights that no network can have.
fn sound(name: &str, (shape, values): &ShapedNumbers) -> Result<()> {
    let fail = |what: String| Err(Error::Failure(format!("tensor '{name}' {what}")));
    let of_layer = ["weight", "bias", "running_mean", "running_var"].iter().any(|end| name.ends_with(end));
    if shape.is_empty() && of_layer {
        return fail("has shape [], no dimensions at all; every layer's numbers have one or more".into());
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return fail(format!("holds {value}: these weights are damaged, or of a training run that diverged"));
    }
    match values.iter().find(|value| **value < 0.0) {
        Some(value) if name.ends_with("running_var") => fail(format!("holds {value}, which is no variance")),
        _ => Ok(()),
    }
}

impl<'a> Parts<'a> {
    pub(super) fn of(tensors: &'a Tensors) -> Result<Self> {
        let names = part_names(tensors.keys().map(String::as_str))?;
        names
            .values()
            .try_for_each(|name| tensors.get(*name).map_or(Ok(()), |tensor| sound(name, tensor)))?;
        Ok(Self { tensors, names })
    }

    pub(super) fn find(&self, name: &str) -> Option<&'a ShapedNumbers> {
        self.tensors.get(*self.names.get(name)?)
    }

    /// The names here, each with the file's.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.names.iter().map(|(here, there)| (here.as_str(), *there))
    }

    /// Whether a name here begins so.
    pub(super) fn has(&self, begins: &str) -> bool {
        self.names.keys().any(|name| name.starts_with(begins))
    }

    /// Shapes of the tensors of `part`, by their names without it.
    pub(super) fn shapes(&self, part: &str) -> Shapes {
        let of_part = |(name, there): (&String, &&str)| {
            let name = name.strip_prefix(part)?.strip_prefix('.')?;
            Some((name.to_string(), self.tensors.get(*there)?.0.clone()))
        };
        self.names.iter().filter_map(of_part).collect()
    }

    /// Whether these tensors are those of `network`, which is `part`.
    pub(super) fn fit(&self, part: &str, network: &Network) -> Result<()> {
        let own = self.names.keys().filter_map(|name| name.strip_prefix(part)?.strip_prefix('.'));
        names::fits(network, own, &|name| self.find(&format!("{part}.{name}"))).map_err(|e| of_part(part, e))
    }

    /// Whether they are those of a model of `encoder` and heads.
    fn fit_all(&self, encoder: &Network, heads: &[Network], prototypes: Option<usize>) -> Result<()> {
        self.fit("encoder", encoder)?;
        for (part, network) in ["predictor", "inverse"].into_iter().zip(heads) {
            self.fit(part, network)?;
        }
        match prototypes {
            None => Ok(()),
            Some(count) => self.fit("prototypes", &Network::prototypes(encoder.output_dim(), count)?),
        }
    }

    /// Puts them into `model`; each of its parts must be there.
    fn load(&self, model: &Model) -> Result<()> {
        for part in model.parts() {
            let network = part.engine.network();
            let find = |name: &str| self.find(&format!("{}.{name}", part.name));
            let theta = names::from_torch(network, &find).map_err(|e| of_part(part.name, e))?;
            let running = names::running_from_torch(network, &find).map_err(|e| of_part(part.name, e))?;
            model.set(part.name, theta, &running)?;
        }
        Ok(())
    }
}

fn of_part(part: &str, error: Error) -> Error {
    Error::Failure(format!("{part}: {error}"))
}

/// A model of the architecture that names and shapes of `tensors` describe, with their values, for
/// images of `size` pixels. All shapes are compared before memory is taken for a network.
///
/// # Errors
/// [`Error::Failure`] saying what is missing, has the wrong shape or belongs to nothing.
pub fn model_of(tensors: &Tensors, size: usize, kernel: &Arc<dyn Kernel>) -> Result<Model> {
    let parts = Parts::of(tensors)?;
    let encoder = infer_encoder(&parts.shapes("encoder"))?;
    if encoder.projector.layers == 0 {
        return Err(Error::Failure("the encoder has no projector (fc.0.weight, a matrix)".into()));
    }
    let predictor = predictor_of(&parts.shapes("predictor"), parts.names.contains_key("inverse.0.weight"))?;
    let prototypes = match parts.find("prototypes.0.weight").map(|(shape, _)| shape.as_slice()) {
        None => None,
        Some([count, _]) => Some(*count),
        Some(other) => {
            return Err(Error::Failure(format!(
                "prototypes.0.weight has shape {other:?}, which is no matrix"
            )));
        }
    };
    let heads = predictor.networks(encoder.projector.dim)?;
    parts.fit_all(&Network::encoder(&encoder, (size, size))?, &heads, prototypes)?;
    let mut model = Model::new(&encoder, &predictor, size, 0, kernel)?;
    if let Some(count) = prototypes {
        model = model.with_prototypes(count, 0, kernel)?;
    }
    parts.load(&model)?;
    Ok(model)
}

/// The backbone that tensors of these names and shapes are of.
///
/// # Errors
/// [`Error::Failure`] saying what is missing or unknown.
pub fn backbone_of(tensors: &Tensors) -> Result<Backbone> {
    let mut shapes = Parts::of(tensors)?.shapes("encoder");
    shapes.retain(|name, _| !names::is_projectors(name));
    Ok(infer_encoder(&shapes)?.backbone)
}

/// The encoder alone, for its features: a projector of a form that is not known here, such as
/// torchvision's classifier, is left out, and then z is the features.
///
/// # Errors
/// As [`model_of`].
pub fn encoder_of(tensors: &Tensors, size: usize, kernel: &Arc<dyn Kernel>) -> Result<Model> {
    let parts = Parts::of(tensors)?;
    let mut shapes = parts.shapes("encoder");
    let fits = |encoder: &EncoderConfig| parts.fit("encoder", &Network::encoder(encoder, (size, size))?);
    let whole = infer_encoder(&shapes).and_then(|encoder| fits(&encoder).map(|()| encoder));
    let encoder = match whole {
        Ok(encoder) => encoder,
        Err(error) if shapes.keys().any(|name| names::is_projectors(name)) => {
            shapes.retain(|name, _| !names::is_projectors(name));
            let bare = infer_encoder(&shapes)?;
            // What is wrong with the backbone is wrong in both.
            fits(&bare).map_err(|_| error)?;
            bare
        }
        Err(error) => return Err(error),
    };
    let model = Model::new(&encoder, &Predictor::None {}, size, 0, kernel)?;
    parts.load(&model)?;
    Ok(model)
}

/// The model that `recipe` trains, with the values of `tensors`.
///
/// # Errors
/// [`Error::Failure`] when they are not those of this recipe, [`Error::Usage`] as [`Model::of`].
pub fn trained_model(tensors: &Tensors, recipe: &Recipe, kernel: &Arc<dyn Kernel>) -> Result<Model> {
    let parts = Parts::of(tensors)?;
    let (encoder, heads) = recipe.networks()?;
    parts.fit_all(&encoder, &heads, recipe.objective.prototypes.map(|prototypes| prototypes.count))?;
    let model = Model::of(recipe, kernel)?;
    parts.load(&model)?;
    Ok(model)
}

/// The predictor that tensors of these shapes belong to. How a linear one was set its weights do
/// not say; it is taken to be the paper's.
fn predictor_of(shapes: &Shapes, inverse: bool) -> Result<Predictor> {
    let square = matches!(shapes.get("0.weight").map(Vec::as_slice), Some([o, i]) if o == i);
    let has = |name: &str| shapes.contains_key(name);
    if square && !has("3.weight") {
        return Ok(Predictor::Direct(DirectConfig::PAPER));
    }
    if has("0.bias") && !has("0.weight") {
        return Ok(Predictor::Bias {});
    }
    let mlp = |config| Predictor::Mlp(PredictorConfig { inverse, ..config });
    Ok(infer_predictor(shapes)?.map_or(Predictor::None {}, mlp))
}
