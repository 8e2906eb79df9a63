//! A backbone under torchvision's names, and what to do with it in torchvision's words.

use super::Exported;
use crate::error::{Error, Result};
use crate::network::config::{Backbone, Stem};
use crate::train::{Preprocessing, weights};

/// The backbone as a safetensors file: names of torchvision's residual networks, without `fc`; its
/// metadata say the architecture and how images are prepared, as JSON (`preprocessing`) and in
/// torchvision's words (`transforms`).
///
/// # Errors
/// [`Error::Usage`] for an MLP, which torchvision has no names for; [`Error::Device`] when a GPU
/// does not give its numbers.
pub fn torchvision(exported: &Exported) -> Result<Vec<u8>> {
    if let Backbone::Mlp { .. } = exported.backbone {
        let what = "--to torchvision: an MLP is no network of torchvision's; --to onnx takes any backbone";
        return Err(Error::Usage(what.into()));
    }
    let format = [("format".to_string(), "pt".to_string())];
    weights::safetensors_of(
        exported.tensors()?,
        Some(exported.metadata()?.into_iter().chain(format).collect()),
    )
}

/// The network as a person names it, with what of it is not as torchvision's.
pub fn architecture(backbone: &Backbone) -> String {
    let cifar = |name: &str, stem: &Stem| match stem {
        Stem::Cifar => format!("{name}, conv1 3x3 of stride 1, no maxpool"),
        Stem::Imagenet => name.to_string(),
    };
    match backbone {
        Backbone::Mlp { widths } => format!("MLP of widths {widths:?}"),
        Backbone::Resnet8 { width } => {
            cifar(&format!("ResNet of 3 stages of 1 basic block, {width} channels"), &Stem::Cifar)
        }
        Backbone::Resnet18 { stem } => cifar("resnet18", stem),
        Backbone::Resnet34 { stem } => cifar("resnet34", stem),
        Backbone::Resnet50 { stem } => cifar("resnet50", stem),
        Backbone::Resnet { blocks, bottleneck, width, stem, .. } => {
            let block = if *bottleneck { "bottleneck" } else { "basic" };
            cifar(&format!("ResNet of stages of {blocks:?} {block} blocks, {width} channels"), stem)
        }
    }
}

/// torchvision's constructor of the network, where it has one, and whether the stem is CIFAR's.
pub fn constructor(backbone: &Backbone) -> Option<(&'static str, bool)> {
    let (name, stem) = match backbone {
        Backbone::Resnet18 { stem } => ("resnet18", stem),
        Backbone::Resnet34 { stem } => ("resnet34", stem),
        Backbone::Resnet50 { stem } => ("resnet50", stem),
        Backbone::Mlp { .. } | Backbone::Resnet8 { .. } | Backbone::Resnet { .. } => return None,
    };
    Some((name, *stem == Stem::Cifar))
}

/// How images are prepared, as torchvision's transforms.
pub fn transforms(preprocessing: &Preprocessing) -> String {
    let Preprocessing { size, mean, std } = preprocessing;
    format!("Compose([Resize({size}), CenterCrop({size}), ToTensor(), Normalize({mean:?}, {std:?})])")
}
