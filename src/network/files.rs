//! Reading weights of others: safetensors, and the official SimSiam checkpoint (`.pth.tar`).

use super::config::{Backbone, EncoderConfig, HeadNorm, PredictorConfig, ProjectorConfig, Stem};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Tensors by name: shape and numbers.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// All tensors of a file, as f32. Names are those of the file; of a PyTorch checkpoint, those under
/// `state_dict` without `module.`.
///
/// # Errors
/// [`Error::Data`] when the file is neither safetensors nor a PyTorch checkpoint, or is damaged.
pub fn read_weights(path: &Path) -> Result<Tensors> {
    let damaged = |e: &dyn std::fmt::Display| Error::data(path, format!("cannot be read as weights: {e}"));
    let tensors: Vec<(String, Tensor)> = if is_zip(path)? {
        read_pickle(path)?
    } else {
        let bytes = std::fs::read(path).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
        let loaded = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?;
        loaded.into_iter().collect()
    };
    let numbers = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let named =
        |(name, t): (String, Tensor)| Ok((name, (t.dims().to_vec(), numbers(&t).map_err(|e| damaged(&e))?)));
    tensors.into_iter().map(named).collect()
}

/// A PyTorch checkpoint is a zip archive.
fn is_zip(path: &Path) -> Result<bool> {
    use std::io::Read;
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"));
    let mut head = [0u8; 4];
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let read = file.read(&mut head).map_err(unreadable)?;
    Ok(read == 4 && &head == b"PK\x03\x04")
}

fn read_pickle(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let damaged = |e: candle_core::Error| Error::data(path, format!("is a damaged PyTorch checkpoint: {e}"));
    let key = |key| candle_core::pickle::PthTensors::new(path, key).map_err(damaged);
    let mut tensors = key(Some("state_dict"))?;
    if tensors.tensor_infos().is_empty() {
        tensors = key(None)?;
    }
    let mut named = Vec::new();
    for name in tensors.tensor_infos().keys() {
        if let Some(tensor) = tensors.get(name).map_err(damaged)? {
            named.push((name.strip_prefix("module.").unwrap_or(name).to_string(), tensor));
        }
    }
    if named.is_empty() {
        return Err(Error::data(path, "holds no tensors; expected a state_dict"));
    }
    Ok(named)
}

/// The metadata of a safetensors file.
pub fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let bytes = std::fs::read(path).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|e| Error::data(path, format!("is not a safetensors file: {e}")))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// The encoder that tensors of these shapes belong to; names without their `encoder.`.
///
/// # Errors
/// [`Error::Failure`] saying what is missing or unknown.
pub fn infer_encoder(shapes: &BTreeMap<String, Vec<usize>>) -> Result<EncoderConfig> {
    let unknown = |what: String| Error::Failure(format!("the architecture cannot be told: {what}"));
    let shape = |name: &str| shapes.get(name).map(Vec::as_slice);
    let backbone = match shape("conv1.weight") {
        Some([width, 3, kernel, _]) => {
            let stem = if *kernel == 7 { Stem::Imagenet } else { Stem::Cifar };
            let blocks = |stage: usize| {
                (0..).take_while(|i| shapes.contains_key(&format!("layer{stage}.{i}.conv1.weight"))).count()
            };
            let counts = [blocks(1), blocks(2), blocks(3), blocks(4)];
            let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
            match (counts, bottleneck, width) {
                ([1, 1, 1, 0], false, _) if stem == Stem::Cifar => Backbone::Resnet8 { width: *width },
                ([2, 2, 2, 2], false, 64) => Backbone::Resnet18 { stem },
                ([3, 4, 6, 3], false, 64) => Backbone::Resnet34 { stem },
                ([3, 4, 6, 3], true, 64) => Backbone::Resnet50 { stem },
                _ => {
                    let blocks = counts.into_iter().take_while(|n| *n > 0).collect();
                    Backbone::Resnet { blocks, bottleneck, width: *width, stem }
                }
            }
        }
        Some(other) => return Err(unknown(format!("conv1.weight has shape {other:?}"))),
        None => {
            let layer = |i: usize| shape(&format!("layers.{}.weight", 3 * i));
            let widths: Vec<usize> = (0..).map_while(|i| layer(i).map(|s| s[0])).collect();
            if widths.is_empty() {
                return Err(unknown("there is neither conv1.weight nor layers.0.weight".into()));
            }
            Backbone::Mlp { widths }
        }
    };
    let layers = (0..).take_while(|i| shapes.contains_key(&format!("fc.{}.weight", 3 * i))).count();
    let width = |layer: usize| shape(&format!("fc.{}.weight", 3 * layer)).map(|s| s[0]);
    let (Some(hidden), Some(dim)) = (width(0), width(layers.saturating_sub(1))) else {
        return Err(unknown("there is no projector (fc.0.weight)".into()));
    };
    let has = |name: String| shapes.contains_key(&name);
    let norm = match () {
        () if has(format!("fc.{}.running_mean", 3 * layers - 2)) => HeadNorm::All,
        () if layers > 1 && has("fc.1.running_mean".into()) => HeadNorm::Hidden,
        () => HeadNorm::None,
    };
    let projector = ProjectorConfig { layers, hidden: (hidden != dim).then_some(hidden), dim, norm };
    Ok(EncoderConfig { backbone, zero_init_residual: false, projector, precision: Precision::F32 })
}

/// The predictor that tensors of these shapes belong to, or none where there are none; names without
/// their `predictor.`.
pub fn infer_predictor(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Option<PredictorConfig>> {
    match shapes.get("0.weight").map(Vec::as_slice) {
        None => Ok(None),
        Some([hidden, _]) => {
            let norm = match (shapes.contains_key("1.running_mean"), shapes.contains_key("4.running_mean")) {
                (_, true) => HeadNorm::All,
                (true, false) => HeadNorm::Hidden,
                (false, false) => HeadNorm::None,
            };
            Ok(Some(PredictorConfig { hidden: *hidden, norm, inverse: false }))
        }
        Some(other) => Err(Error::Failure(format!("predictor.0.weight has shape {other:?}"))),
    }
}
