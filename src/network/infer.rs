//! The architecture that tensors of given shapes belong to.
//!
//! What is inferred here is a proposal: [`super::names::fits`] compares every shape before anything
//! is made of it.

use super::config::{Backbone, EncoderConfig, HeadNorm, PredictorConfig, ProjectorConfig, Stem};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Shapes of tensors by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Stages that a residual network may have.
pub(super) const MOST_STAGES: usize = 8;
/// How much wider a bottleneck block's output is than its 3×3 convolution.
const EXPANSION: usize = 4;

fn unknown(what: impl std::fmt::Display) -> Error {
    Error::Failure(format!("the architecture cannot be told: {what}"))
}

/// The outputs of the layer whose weights are called `name`, which have `rank` dimensions; none
/// where it is not there.
fn outputs(shapes: &Shapes, name: &str, rank: usize) -> Result<Option<usize>> {
    match shapes.get(name).map(Vec::as_slice) {
        None => Ok(None),
        Some(shape @ [outputs, ..]) if shape.len() == rank => Ok(Some(*outputs)),
        Some(shape) => {
            let dimensions = if rank == 4 { "4 dimensions (O, I, K, K)" } else { "2 dimensions (O, I)" };
            Err(unknown(format!("'{name}' has shape {shape:?}, where {dimensions} are needed")))
        }
    }
}

/// The outputs of linear layers `name(0)`, `name(1)`, … as far as there are such.
fn linear_layers(shapes: &Shapes, name: impl Fn(usize) -> String) -> Result<Vec<usize>> {
    (0..).map_while(|layer| outputs(shapes, &name(layer), 2).transpose()).collect()
}

/// The encoder of these shapes; names without their `encoder.`. Without `fc.0.weight` it has no
/// projector (0 layers), and z is the features.
///
/// # Errors
/// [`Error::Failure`] saying what is missing or unknown.
pub fn infer_encoder(shapes: &Shapes) -> Result<EncoderConfig> {
    let (backbone, features) = match shapes.get("conv1.weight") {
        Some(conv1) => resnet(shapes, conv1)?,
        None => {
            let widths = linear_layers(shapes, |layer| format!("layers.{}.weight", 3 * layer))?;
            let Some(features) = widths.last().copied() else {
                return Err(unknown("there is neither conv1.weight nor layers.0.weight"));
            };
            (Backbone::Mlp { widths }, features)
        }
    };
    let projector = projector(shapes)?.unwrap_or_else(|| ProjectorConfig::none(features));
    Ok(EncoderConfig::new(backbone, projector))
}

/// A residual network whose first convolution has the shape `conv1`, and the number of its
/// features.
fn resnet(shapes: &Shapes, conv1: &[usize]) -> Result<(Backbone, usize)> {
    let (width, stem) = match *conv1 {
        [width, 3, 7, 7] => (width, Stem::Imagenet),
        [width, 3, 3, 3] => (width, Stem::Cifar),
        _ => {
            return Err(unknown(format!(
                "conv1.weight has shape {conv1:?}; known are (width, 3, 3, 3) and (width, 3, 7, 7)"
            )));
        }
    };
    let (mut blocks, mut widths) = (Vec::new(), Vec::new());
    for stage in 1..=MOST_STAGES {
        let name = |block: usize| format!("layer{stage}.{block}.conv1.weight");
        let Some(of_stage) = outputs(shapes, &name(0), 4)? else { break };
        blocks.push((0..).take_while(|block| shapes.contains_key(&name(*block))).count());
        widths.push(of_stage);
    }
    let Some(last) = widths.last().copied() else {
        return Err(unknown("there is a conv1.weight but no layer1.0.conv1.weight"));
    };
    let bottleneck = shapes.contains_key("layer1.0.conv3.weight");
    let features = last.saturating_mul(if bottleneck { EXPANSION } else { 1 });
    let doubled = widths.iter().enumerate().all(|(stage, w)| width.checked_shl(stage as u32) == Some(*w));
    let backbone = match (&blocks[..], bottleneck, width) {
        ([1, 1, 1], false, _) if doubled && stem == Stem::Cifar => Backbone::Resnet8 { width },
        ([2, 2, 2, 2], false, 64) if doubled => Backbone::Resnet18 { stem },
        ([3, 4, 6, 3], false, 64) if doubled => Backbone::Resnet34 { stem },
        ([3, 4, 6, 3], true, 64) if doubled => Backbone::Resnet50 { stem },
        _ => Backbone::Resnet { blocks, bottleneck, width, widths: (!doubled).then_some(widths), stem },
    };
    Ok((backbone, features))
}

fn projector(shapes: &Shapes) -> Result<Option<ProjectorConfig>> {
    let widths = linear_layers(shapes, |layer| format!("fc.{}.weight", 3 * layer))?;
    let (Some(hidden), Some(dim), layers) = (widths.first().copied(), widths.last().copied(), widths.len())
    else {
        return Ok(None);
    };
    let has = |name: String| shapes.contains_key(&name);
    let norm = match () {
        () if has(format!("fc.{}.running_mean", 3 * layers - 2)) => HeadNorm::All,
        () if layers > 1 && has("fc.1.running_mean".into()) => HeadNorm::Hidden,
        () => HeadNorm::None,
    };
    Ok(Some(ProjectorConfig { layers, hidden: (hidden != dim).then_some(hidden), dim, norm }))
}

/// The predictor MLP of these shapes, or none where there is none; names without their
/// `predictor.`.
///
/// # Errors
/// [`Error::Failure`] for weights that are no matrix.
pub fn infer_predictor(shapes: &Shapes) -> Result<Option<PredictorConfig>> {
    let Some(hidden) = outputs(shapes, "0.weight", 2)? else { return Ok(None) };
    let norm = match (shapes.contains_key("1.running_mean"), shapes.contains_key("4.running_mean")) {
        (_, true) => HeadNorm::All,
        (true, false) => HeadNorm::Hidden,
        (false, false) => HeadNorm::None,
    };
    Ok(Some(PredictorConfig { hidden, norm, inverse: false }))
}
