//! A backbone as detectron2 begins with it: a pickle with the names of its residual networks, laid
//! out as MoCo's converter does (facebookresearch/moco, in its folder detection).

use super::Exported;
use crate::error::{Error, Result};
use crate::network::config::Backbone;
use crate::pickle::Writer;

/// What is written of whoever made the file; detectron2 asks whether it is Caffe2.
const AUTHOR: &str = "sim";
/// Stages of a residual network; detectron2 counts them from the second on.
const STAGES: std::ops::RangeInclusive<usize> = 1..=9;
/// Convolutions of a block.
const CONVOLUTIONS: std::ops::RangeInclusive<usize> = 1..=3;

/// The backbone as a pickle of a dict: arrays by name in `model`, `__author__`, and
/// `matching_heuristics`, which is true. Its images are RGB; their mean and std belong into
/// detectron2's configuration.
///
/// # Errors
/// [`Error::Usage`] for an MLP, which is no residual network; [`Error::Device`] when a GPU does not
/// give its numbers.
pub fn detectron2(exported: &Exported) -> Result<Vec<u8>> {
    if let Backbone::Mlp { .. } = exported.backbone {
        let what = "--to detectron2: an MLP is no residual network; --to onnx takes any backbone";
        return Err(Error::Usage(what.into()));
    }
    let tensors = exported.tensors()?;
    let mut pickle = Writer::default();
    pickle.key("model")?;
    pickle.dict(|model| {
        tensors.iter().try_for_each(|(name, shape, values)| {
            model.key(&renamed(name))?;
            model.array(shape, values)
        })
    })?;
    pickle.key("__author__")?;
    pickle.text(AUTHOR)?;
    pickle.key("matching_heuristics")?;
    pickle.yes();
    Ok(pickle.finish())
}

/// torchvision's name in detectron2's words: `layer1.0.bn1.weight` → `res2.0.conv1.norm.weight`.
fn renamed(name: &str) -> String {
    let mut name = if name.contains("layer") { name.to_string() } else { format!("stem.{name}") };
    for stage in STAGES.rev() {
        name = name.replace(&format!("layer{stage}"), &format!("res{}", stage + 1));
    }
    for convolution in CONVOLUTIONS {
        name = name.replace(&format!("bn{convolution}"), &format!("conv{convolution}.norm"));
    }
    name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn names_are_those_of_mocos_converter() {
        for (ours, theirs) in [
            ("conv1.weight", "stem.conv1.weight"),
            ("bn1.running_mean", "stem.conv1.norm.running_mean"),
            ("layer1.0.conv3.weight", "res2.0.conv3.weight"),
            ("layer4.2.bn3.bias", "res5.2.conv3.norm.bias"),
            ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
            ("layer2.0.downsample.1.running_var", "res3.0.shortcut.norm.running_var"),
        ] {
            assert_eq!(renamed(ours), theirs);
        }
    }
}
