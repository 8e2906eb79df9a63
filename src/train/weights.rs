//! A model's weights under the names that torchvision and the official SimSiam code give them.

use super::Model;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::network::config::{DirectConfig, PredictorConfig};
use crate::network::{Tensors, infer_encoder, infer_predictor, names, read_weights};
use crate::recipe::Predictor;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// θ and running statistics of every part as a safetensors file: `encoder.conv1.weight`, …,
/// `predictor.0.weight`, …; convolution weights (O, I, K, K), linear weights (O, I).
pub fn to_safetensors(model: &Model) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for part in model.parts() {
        let network = part.engine.network();
        let theta = names::to_torch(network, &part.theta.to_vec1()?);
        let running = names::running_to_torch(network, &part.engine.running()?);
        for (name, shape, values) in theta.into_iter().chain(running) {
            tensors.push((format!("{}.{name}", part.name), shape, values));
        }
    }
    serialize(tensors)
}

/// One vector as a safetensors file.
pub fn one_vector(name: &str, values: Vec<f32>) -> Result<Vec<u8>> {
    serialize(vec![(name.to_string(), vec![values.len()], values)])
}

/// The vector called `name` of a safetensors file.
pub fn read_vector(name: &str, bytes: &[u8]) -> Result<Vec<f32>> {
    let wrong = |e: safetensors::SafeTensorError| Error::Failure(format!("not a vector called {name}: {e}"));
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(wrong)?;
    let data = file.tensor(name).map_err(wrong)?;
    Ok(data.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Tensors as a safetensors file.
fn serialize(tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Result<Vec<u8>> {
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
    safetensors::serialize(views?, None).map_err(|e| Error::Failure(format!("cannot serialise weights: {e}")))
}

/// A model of the architecture that names and shapes of `tensors` describe, with their values, for
/// images of `size` pixels.
///
/// # Errors
/// [`Error::Failure`] saying what is missing or has the wrong shape.
pub fn model_of(tensors: &Tensors, size: usize, kernel: &Arc<dyn Kernel>) -> Result<Model> {
    let shapes = |part: &str| -> BTreeMap<String, Vec<usize>> {
        let strip = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| {
            name.strip_prefix(part).map(|name| (name.to_string(), shape.clone()))
        };
        tensors.iter().filter_map(strip).collect()
    };
    let encoder = infer_encoder(&shapes("encoder."))?;
    let predictor = predictor_of(&shapes("predictor."), tensors.contains_key("inverse.0.weight"))?;
    let mut model = Model::new(&encoder, &predictor, size, 0, kernel)?;
    if let Some((shape, _)) = tensors.get("prototypes.0.weight") {
        model = model.with_prototypes(shape[0], 0, kernel)?;
    }
    load(&model, &|name| tensors.get(name).cloned())?;
    Ok(model)
}

/// The predictor that tensors of these shapes belong to. How a linear one was set its weights do not say; it
/// is taken to be the paper's.
fn predictor_of(shapes: &BTreeMap<String, Vec<usize>>, inverse: bool) -> Result<Predictor> {
    let square = shapes.get("0.weight").is_some_and(|shape| shape[0] == shape[shape.len() - 1]);
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

/// The model in a weights file: safetensors as [`to_safetensors`] writes them, or an official SimSiam
/// `.pth.tar`.
///
/// # Errors
/// [`Error::Data`] naming the file and what is wrong with it.
pub fn read_model(path: &Path, size: usize, kernel: &Arc<dyn Kernel>) -> Result<Model> {
    let tensors = read_weights(path)?;
    model_of(&tensors, size, kernel).map_err(|e| Error::data(path, e.to_string()))
}

/// Puts tensors named as above into `model`; each part's must all be there.
pub fn load(model: &Model, find: names::Find) -> Result<()> {
    for part in model.parts() {
        let network = part.engine.network();
        let find = |name: &str| find(&format!("{}.{name}", part.name));
        let theta = names::from_torch(network, &find)?;
        let running = names::running_from_torch(network, &find)?;
        model.set(part.name, theta, &running)?;
    }
    Ok(())
}
