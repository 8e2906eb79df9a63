//! Trained backbones as other programs read them: torchvision's names, an ONNX graph, a folder as
//! the Hugging Face hub has them, a pickle for detectron2. Bytes are made here; nothing is written.

mod card;
mod detectron2;
mod hugging_face;
mod torchvision;

pub use detectron2::detectron2;
pub use hugging_face::folder;
pub use torchvision::torchvision;

use crate::error::{Error, Result};
use crate::network::config::Backbone;
use crate::network::names::{self, Named};
use crate::network::to_onnx;
use crate::train::{Model, Preprocessing, Pretrained};

/// The backbone of trained weights: what of a model is exported.
pub struct Exported<'a> {
    pretrained: &'a Pretrained,
    model: &'a Model,
    backbone: Backbone,
}

impl<'a> Exported<'a> {
    /// The backbone of `model`, which is of `pretrained`.
    ///
    /// # Errors
    /// [`Error::Data`] where the weights' architecture cannot be told.
    pub fn new(pretrained: &'a Pretrained, model: &'a Model) -> Result<Self> {
        Ok(Self { pretrained, model, backbone: pretrained.backbone()? })
    }

    /// θ and running statistics under torchvision's names, in PyTorch's layouts.
    fn tensors(&self) -> Result<Vec<Named>> {
        let mut tensors = Vec::new();
        for part in self.model.parts().filter(|part| part.name == "encoder") {
            let network = part.engine.network();
            tensors.extend(names::to_torch(network, &part.theta.to_vec1()?));
            tensors.extend(names::running_to_torch(network, &part.engine.running()?));
        }
        tensors.retain(|(name, ..)| !names::is_projectors(name));
        Ok(tensors)
    }

    fn preprocessing(&self) -> &Preprocessing {
        &self.pretrained.preprocessing
    }

    /// What a file says of itself: name and text.
    fn metadata(&self) -> Result<Vec<(String, String)>> {
        let architecture = torchvision::architecture(&self.backbone);
        Ok(vec![
            ("architecture".into(), architecture),
            self.preprocessing().as_metadata()?,
            ("transforms".into(), torchvision::transforms(self.preprocessing())),
        ])
    }
}

/// The backbone as the bytes of an ONNX file, with how images are prepared in its metadata.
///
/// # Errors
/// [`Error::Device`] when a GPU does not give its numbers.
pub fn onnx(exported: &Exported) -> Result<Vec<u8>> {
    let mut parts = exported.model.parts().filter(|part| part.name == "encoder");
    let part = parts.next().ok_or_else(|| Error::Failure("a model without an encoder".into()))?;
    let (theta, running) = (part.theta.to_vec1()?, part.engine.running()?);
    to_onnx(part.engine.network(), &theta, &running, &exported.metadata()?)
}
