//! A backbone as a folder of the Hugging Face hub: weights, configuration, how images are prepared,
//! and a model card.
//!
//! A residual network with ImageNet's stem is transformers' `ResNetModel`, and gets its names and
//! its configuration. transformers has no network with CIFAR's stem and no MLP: those keep
//! torchvision's names, and the card says how they are used.

use super::{Exported, card, torchvision};
use crate::error::{Error, Result};
use crate::network::config::{Backbone, Stem};
use crate::network::names::Named;
use crate::train::weights;
use serde_json::{Value, json};

/// How much wider a bottleneck block's output is than its 3×3 convolution.
const EXPANSION: usize = 4;

/// The files of the folder by name; `licence` is what the model card says of it.
///
/// # Errors
/// [`Error::Data`] for a damaged record of the run or its study; [`Error::Device`] when a GPU does
/// not give its numbers.
pub fn folder(exported: &Exported, licence: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let stages = Stages::of(&exported.backbone);
    let mut tensors = exported.tensors()?;
    if stages.is_some() {
        for (name, ..) in &mut tensors {
            *name = transformers_name(name);
        }
    }
    let format = [("format".to_string(), "pt".to_string())];
    let tensors: Vec<Named> = tensors;
    let text = |value: &Value| -> Result<Vec<u8>> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::Failure(e.to_string()))?;
        Ok((text + "\n").into_bytes())
    };
    let card = card::card(exported, licence, stages.is_some())?;
    Ok(vec![
        ("model.safetensors", weights::safetensors_of(tensors, Some(format.into_iter().collect()))?),
        ("config.json", text(&config(exported, stages.as_ref()))?),
        ("preprocessor_config.json", text(&preprocessor(exported))?),
        ("README.md", card.into_bytes()),
    ])
}

/// What transformers' `ResNetConfig` says of a network.
struct Stages {
    width: usize,
    blocks: Vec<usize>,
    /// The channels that each stage gives.
    outputs: Vec<usize>,
    bottleneck: bool,
}

impl Stages {
    /// Those of a backbone that transformers has.
    fn of(backbone: &Backbone) -> Option<Stages> {
        let doubled = |width: usize, blocks: &[usize]| -> Vec<usize> {
            (0..blocks.len()).map(|stage| width << stage).collect()
        };
        let (width, blocks, widths, bottleneck, stem) = match backbone {
            Backbone::Resnet18 { stem } => (64, vec![2, 2, 2, 2], None, false, stem),
            Backbone::Resnet34 { stem } => (64, vec![3, 4, 6, 3], None, false, stem),
            Backbone::Resnet50 { stem } => (64, vec![3, 4, 6, 3], None, true, stem),
            Backbone::Resnet { blocks, bottleneck, width, widths, stem } => {
                (*width, blocks.clone(), widths.clone(), *bottleneck, stem)
            }
            Backbone::Mlp { .. } | Backbone::Resnet8 { .. } => return None,
        };
        let widths = widths.unwrap_or_else(|| doubled(width, &blocks));
        let expansion = if bottleneck { EXPANSION } else { 1 };
        let outputs = widths.into_iter().map(|width| width * expansion).collect();
        (*stem == Stem::Imagenet).then_some(Stages { width, blocks, outputs, bottleneck })
    }
}

fn config(exported: &Exported, stages: Option<&Stages>) -> Value {
    let features = exported.model.features_dim();
    match stages {
        Some(Stages { width, blocks, outputs, bottleneck }) => json!({
            "architectures": ["ResNetModel"],
            "model_type": "resnet",
            "num_channels": 3,
            "embedding_size": width,
            "hidden_sizes": outputs,
            "depths": blocks,
            "layer_type": if *bottleneck { "bottleneck" } else { "basic" },
            "hidden_act": "relu",
            "downsample_in_first_stage": false,
            "downsample_in_bottleneck": false,
            "torch_dtype": "float32",
        }),
        None => json!({
            "architecture": torchvision::architecture(&exported.backbone),
            "backbone": exported.backbone,
            "num_features": features,
            "torch_dtype": "float32",
        }),
    }
}

fn preprocessor(exported: &Exported) -> Value {
    let preprocessing = exported.preprocessing();
    let size = preprocessing.size;
    // Pillow's number of the bilinear filter.
    let bilinear = 2;
    // 0.485 is 0.485 to a reader, and not the nearest number of 32 bits with all its digits.
    let short = |values: [f32; 3]| values.map(|value| value.to_string().parse().unwrap_or(f64::from(value)));
    json!({
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "size": {"shortest_edge": size},
        "resample": bilinear,
        "do_center_crop": true,
        "crop_size": {"height": size, "width": size},
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": short(preprocessing.mean),
        "image_std": short(preprocessing.std),
    })
}

/// transformers' name of a tensor that torchvision calls `name`:
/// `encoder.stages.0.layers.1.layer.0.convolution.weight` for `layer1.1.conv1.weight`.
fn transformers_name(name: &str) -> String {
    let of_stem = [("conv1.", "convolution."), ("bn1.", "normalization.")];
    if let Some((rest, module)) =
        of_stem.iter().find_map(|(of, module)| Some((name.strip_prefix(of)?, module)))
    {
        return format!("embedder.embedder.{module}{rest}");
    }
    let mut parts = name.splitn(4, '.');
    let (Some(stage), Some(block), Some(module), Some(rest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return name.to_string();
    };
    let number = |text: &str, of: &str| text.strip_prefix(of)?.parse::<usize>().ok()?.checked_sub(1);
    let Some(stage) = number(stage, "layer") else { return name.to_string() };
    let inside = match (number(module, "conv"), number(module, "bn"), rest.split_once('.')) {
        (Some(layer), ..) => format!("layer.{layer}.convolution.{rest}"),
        (_, Some(layer), _) => format!("layer.{layer}.normalization.{rest}"),
        (_, _, Some(("0", rest))) => format!("shortcut.convolution.{rest}"),
        (_, _, Some((_, rest))) => format!("shortcut.normalization.{rest}"),
        _ => return name.to_string(),
    };
    format!("encoder.stages.{stage}.layers.{block}.{inside}")
}

#[cfg(test)]
mod tests {
    use super::transformers_name;

    #[test]
    fn names_are_those_of_transformers() {
        for (torchvision, transformers) in [
            ("conv1.weight", "embedder.embedder.convolution.weight"),
            ("bn1.running_mean", "embedder.embedder.normalization.running_mean"),
            ("layer1.0.conv2.weight", "encoder.stages.0.layers.0.layer.1.convolution.weight"),
            ("layer4.2.bn3.running_var", "encoder.stages.3.layers.2.layer.2.normalization.running_var"),
            ("layer2.0.downsample.0.weight", "encoder.stages.1.layers.0.shortcut.convolution.weight"),
            ("layer2.0.downsample.1.bias", "encoder.stages.1.layers.0.shortcut.normalization.bias"),
        ] {
            assert_eq!(transformers_name(torchvision), transformers);
        }
    }
}
