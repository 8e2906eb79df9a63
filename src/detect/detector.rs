//! Faster R-CNN and Mask R-CNN with the C4 split, on static plans.
//!
//! ```text
//! x (B, H, W, 3) ─trunk→ f (B, H/s, W/s, C) ─┬─proposals→ (B, A) logits, (B, A, 4) deltas
//!                                            └─RoIAlign, last stage→ r (R, p/2, p/2, C') ─┬─boxes→ (R, K + 1), (R, 4K)
//!                                                                                         └─masks→ (F, p, p, K)
//! ```
//!
//! All parts share one flat θ; each is a narrow piece of it in an engine of its own, so that
//! optimiser and checkpoints know one vector.

use super::anchors::Anchors;
use super::boxes::Corners;
use super::roi_op::roi_align;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::kernel::roi_align::{Roi, RoiAlign};
use crate::network::config::Backbone;
use crate::network::{Engine, Network, Shape};
use candle_core::{D, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// What a detector is made of.
#[derive(Clone, Debug)]
pub struct DetectorConfig {
    /// The residual network that is cut before its last stage.
    pub backbone: Backbone,
    /// [height, width] of images.
    pub size: [usize; 2],
    /// K.
    pub classes: usize,
    /// Boxes that the proposals begin with.
    pub anchors: Anchors,
    /// p: a proposal is read in p × p bins, and its masks have as many pixels.
    pub bins: usize,
    /// Channels of the mask head.
    pub mask_width: usize,
}

/// By which statistics batch norms go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's, which move the running ones: with gradients.
    Batch,
    /// The running ones: without gradients.
    Running,
}

/// A network within θ.
struct Part {
    engine: Engine,
    place: Range<usize>,
}

impl Part {
    /// The output of x (B, …), (B, H, W, C) of the network's output.
    fn pass(&self, x: &Tensor, theta: &Tensor, by: Statistics) -> Result<Tensor> {
        let own = theta.narrow(0, self.place.start, self.place.len())?;
        let Shape { height, width, channels } = self.engine.network().output();
        let output = match by {
            Statistics::Batch => self.engine.train(&x.unsqueeze(0)?, &own)?,
            Statistics::Running => self.engine.evaluate(&x.detach(), &own.detach())?.1,
        };
        Ok(output.reshape((x.dim(0)?, height, width, channels))?)
    }
}

/// The parts' names, in the order in which they lie in θ.
pub const PARTS: [&str; 5] = ["trunk", "last_stage", "proposals", "boxes", "masks"];

/// A detector: five networks over one θ.
pub struct Detector {
    config: DetectorConfig,
    parts: [Part; 5],
    anchors: Vec<Corners>,
    features: Shape,
    /// Pixels between neighbouring features.
    stride: usize,
}

impl Detector {
    /// A detector on the processor, with the running statistics of a new network.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] where the backbone has one stage only, or images are too small for
    /// it.
    pub fn new(config: DetectorConfig, kernel: &Arc<dyn Kernel>) -> Result<Detector> {
        let trunk = Network::trunk(&config.backbone, config.size)?;
        let features = trunk.output();
        let bins = Shape { height: config.bins, width: config.bins, channels: features.channels };
        let last_stage = Network::last_stage(&config.backbone, bins)?;
        let read = last_stage.output();
        let networks = [
            trunk,
            last_stage,
            Network::region_proposals(features, config.anchors.at_each_place())?,
            Network::box_head(read, config.classes),
            Network::mask_head(read, config.mask_width, config.classes)?,
        ];
        let mut end = 0;
        let parts: Vec<Part> = networks
            .into_iter()
            .map(|network| {
                let place = end..end + network.theta_len();
                end = place.end;
                Ok(Part { engine: Engine::new(network, kernel.clone())?, place })
            })
            .collect::<Result<_>>()?;
        let Ok(parts) = parts.try_into() else { unreachable!("five networks are five parts") };
        let stride = Network::trunk_stride(&config.backbone)?;
        let anchors = config.anchors.on(stride, [features.height, features.width]);
        Ok(Detector { config, parts, anchors, features, stride })
    }

    /// The engine of each part and its place in θ, in the order of [`PARTS`].
    pub fn parts(&self) -> [(&Engine, Range<usize>); 5] {
        self.parts.each_ref().map(|part| (&part.engine, part.place.clone()))
    }

    /// P, the length of θ.
    pub fn theta_len(&self) -> usize {
        self.parts[4].place.end
    }

    /// Initial θ (P).
    pub fn init(&self, seed: u64) -> Vec<f32> {
        let of_part = |(index, part): (usize, &Part)| part.engine.network().init(seed, index as u64);
        self.parts.iter().enumerate().flat_map(of_part).collect()
    }

    /// [height, width] of the images that it takes.
    pub fn size(&self) -> [usize; 2] {
        self.config.size
    }

    /// The anchors of an image, (A).
    pub fn anchors(&self) -> &[Corners] {
        &self.anchors
    }

    /// f (B, H/s, W/s, C) of x (B, H, W, 3).
    ///
    /// # Errors
    /// Those of [`Engine::train`], as all that follow.
    pub fn features(&self, x: &Tensor, theta: &Tensor, by: Statistics) -> Result<Tensor> {
        // The trunk gives its images no gradient, and candle would ask for one.
        self.parts[0].pass(&x.detach(), theta, by)
    }

    /// Objectness (B, A) and deltas (B, A, 4) of every anchor, from features f.
    ///
    /// # Errors
    /// Those of [`Detector::features`].
    pub fn proposals(&self, features: &Tensor, theta: &Tensor, by: Statistics) -> Result<[Tensor; 2]> {
        let output = self.parts[2].pass(features, theta, by)?;
        let (batch, each) = (features.dim(0)?, self.config.anchors.at_each_place());
        let logits = output.narrow(D::Minus1, 0, each)?.reshape((batch, self.anchors.len()))?;
        let deltas = output.narrow(D::Minus1, each, 4 * each)?.reshape((batch, self.anchors.len(), 4))?;
        Ok([logits, deltas])
    }

    /// r (R, p/2, p/2, C'): the last stage of boxes `rois`, in pixels of the image.
    ///
    /// # Errors
    /// Those of [`Detector::features`].
    pub fn read(&self, features: &Tensor, rois: Vec<Roi>, theta: &Tensor, by: Statistics) -> Result<Tensor> {
        let Shape { height, width, channels } = self.features;
        let shape = RoiAlign {
            batch: features.dim(0)?,
            height,
            width,
            channels,
            rows: self.config.bins,
            columns: self.config.bins,
            scale: 1.0 / self.stride as f32,
            samples: 0,
            aligned: true,
        };
        self.parts[1].pass(&roi_align(features, rois, shape)?, theta, by)
    }

    /// Scores (R, K + 1), the background last, and deltas (R, 4K) of r.
    ///
    /// # Errors
    /// Those of [`Detector::features`].
    pub fn boxes(&self, read: &Tensor, theta: &Tensor, by: Statistics) -> Result<[Tensor; 2]> {
        let output = self.parts[3].pass(read, theta, by)?.flatten_from(1)?;
        let classes = self.config.classes;
        Ok([output.narrow(1, 0, classes + 1)?, output.narrow(1, classes + 1, 4 * classes)?])
    }

    /// Logits of masks (F, p, p, K) of r (F, p/2, p/2, C'): those of every class.
    ///
    /// # Errors
    /// Those of [`Detector::features`].
    pub fn masks(&self, read: &Tensor, theta: &Tensor, by: Statistics) -> Result<Tensor> {
        deconvolved(&self.parts[4].pass(read, theta, by)?)
    }
}

/// The pixels of a deconvolution of 2 × 2 and stride 2 in their places: x (F, H, 4W, K) has the four
/// that a pixel made side by side → (F, 2H, 2W, K).
///
/// # Errors
/// Those of tensors of other shapes.
pub fn deconvolved(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (down, across) = (2 * height, width / 2);
    let x = x.reshape(vec![batch, height, width / 4, 2, 2, channels])?;
    Ok(x.permute(vec![0, 1, 3, 2, 4, 5])?.reshape((batch, down, across, channels))?)
}
