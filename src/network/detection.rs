//! The networks of a two-stage detector: a residual network cut before its last stage (C4 of He et
//! al. 2016), and what reads it.
//!
//! Parameters have the same names as in the whole backbone, so that both parts are read from one
//! file of weights. Outputs begin near 0, as in detectron2.

use super::architectures::Resnet;
use super::config::Backbone;
use super::layers::{Network, ParameterKind, Shape};
use crate::error::{Error, Result};

/// Widths of initial outputs: of classes and anchors, of boxes, of masks.
const OUTPUTS: f32 = 0.01;
const BOXES: f32 = 0.001;
const MASKS: f32 = 0.001;
const ZERO: ParameterKind = ParameterKind::Constant(0.0);

impl Network {
    /// All stages of `backbone` but the last, for images of (H, W) pixels: features (H/s, W/s, C).
    ///
    /// # Errors
    /// [`Error::Usage`] for an MLP, for one stage only, and for images that are too small.
    pub fn trunk(backbone: &Backbone, [height, width]: [usize; 2]) -> Result<Network> {
        let layers = cut(backbone)?;
        let mut net = Network::start(Shape { height, width, channels: 3 }, false);
        let value = layers.stem(&mut net)?;
        net.features = layers.stages(&mut net, value, 0..layers.stages.len() - 1, false)?;
        Ok(net)
    }

    /// Pixels of an image between neighbouring features of a trunk.
    ///
    /// # Errors
    /// As [`Network::trunk`].
    pub fn trunk_stride(backbone: &Backbone) -> Result<usize> {
        let layers = cut(backbone)?;
        Ok(layers.stride(layers.stages.len() - 1))
    }

    /// The last stage of `backbone` for features of `input` (p, p, C), then a batch norm without
    /// ReLU (MoCo's `Res5ROIHeadsExtraNorm`): (p/2, p/2, C').
    ///
    /// # Errors
    /// As [`Network::trunk`].
    pub fn last_stage(backbone: &Backbone, input: Shape) -> Result<Network> {
        let layers = cut(backbone)?;
        let mut net = Network::start(input, true);
        let last = layers.stages.len();
        let value = layers.stages(&mut net, 0, last - 1..last, false)?;
        net.features = net.norm("norm", value, Some(1.0), None, false);
        Ok(net)
    }

    /// A region proposal network on features (H, W, C) with `anchors` anchors at each place: (H, W,
    /// 5 · anchors), objectness of each, then four deltas of each.
    ///
    /// # Errors
    /// None for features that a trunk makes.
    pub fn region_proposals(input: Shape, anchors: usize) -> Result<Network> {
        let mut net = Network::start(input, true);
        let kind = ParameterKind::Normal { first: 0, std: [OUTPUTS; 2] };
        let value = net.conv_of("conv", 0, input.channels, (3, 1, 1), kind)?;
        let value = net.bias_of("conv", value, ZERO, true);
        let value = net.conv_of("outputs", value, 5 * anchors, (1, 1, 0), kind)?;
        net.features = net.bias_of("outputs", value, ZERO, false);
        Ok(net)
    }

    /// Class and box of a proposal, from the mean over its features (p, p, C): K + 1 scores, the
    /// background last, then 4·K deltas.
    pub fn box_head(input: Shape, classes: usize) -> Network {
        let mut net = Network::start(input, true);
        let mean = net.average_pool(0);
        let kind = ParameterKind::Normal { first: classes + 1, std: [OUTPUTS, BOXES] };
        let value = net.linear_of("outputs", mean, 5 * classes + 1, kind);
        net.features = net.bias_of("outputs", value, ZERO, false);
        net
    }

    /// The masks of a proposal, one for each class, from its features (p, p, C): (p, 4p, K), whose
    /// pixels are those of (2p, 2p, K) in the order of a deconvolution's.
    ///
    /// # Errors
    /// None for features that a last stage makes.
    pub fn mask_head(input: Shape, hidden: usize, classes: usize) -> Result<Network> {
        let mut net = Network::start(input, true);
        let value = net.deconv_bias("deconv", 0, hidden);
        let kind = ParameterKind::Normal { first: 0, std: [MASKS; 2] };
        let value = net.conv_of("predictor", value, classes, (1, 1, 0), kind)?;
        net.features = net.bias_of("predictor", value, ZERO, false);
        Ok(net)
    }
}

/// The layers of a backbone of two stages at least.
fn cut(backbone: &Backbone) -> Result<Resnet> {
    let layers = Resnet::of(backbone)?;
    match layers.stages.len() {
        0 | 1 => Err(Error::Usage("a backbone of one stage has no features before its last stage".into())),
        _ => Ok(layers),
    }
}
