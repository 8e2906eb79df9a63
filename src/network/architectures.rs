//! The architectures: backbones (He et al. 2016, torchvision's names), projection and prediction
//! MLP (Sec. 3, "Experimental settings"; official code).

use super::config::{Backbone, EncoderConfig, Freeze, HeadNorm, PredictorConfig, ProjectorConfig, Stem};
use super::infer::MOST_STAGES;
use super::layers::{Network, Node, Op, Shape, ValueId};
use crate::error::{Error, Result};
use std::ops::Range;

/// The block of a residual network and the widening of its output.
#[derive(Clone, Copy)]
enum Block {
    /// 3×3, 3×3.
    Basic,
    /// 1×1, 3×3, 1×1 with four times as many channels.
    Bottleneck,
}

impl Network {
    /// F_θ for images of (H, W) pixels: backbone, then projector.
    ///
    /// # Errors
    /// [`Error::Usage`] when the images are too small for the architecture, or a width is 0.
    pub fn encoder(config: &EncoderConfig, (height, width): (usize, usize)) -> Result<Network> {
        if height == 0 || width == 0 {
            return Err(Error::Usage("images must have at least one pixel".into()));
        }
        let mut net = Network::start(Shape { height, width, channels: 3 }, false);
        let zero_init = config.zero_init_residual;
        net.features = match &config.backbone {
            Backbone::Mlp { widths } => mlp(&mut net, widths)?,
            backbone => {
                let layers = Resnet::of(backbone)?;
                let value = layers.stem(&mut net)?;
                let value = layers.stages(&mut net, value, 0..layers.stages.len(), zero_init)?;
                net.average_pool(value)
            }
        };
        if let Some(freeze) = config.freeze {
            let nodes = frozen_nodes(&net, &config.backbone, freeze)?;
            net.freeze(nodes);
        }
        projector(&mut net, &config.projector)?;
        Ok(net)
    }

    /// h for vectors of `dim` numbers, as images of one pixel.
    ///
    /// # Errors
    /// [`Error::Usage`] when a width is 0.
    pub fn predictor(config: &PredictorConfig, dim: usize) -> Result<Network> {
        in_range("predictor.hidden", config.hidden)?;
        let mut net = head(dim)?;
        let hidden = net.linear("0", 0, config.hidden);
        let hidden = match config.norm {
            HeadNorm::None => net.bias("0", hidden, dim, true),
            HeadNorm::Hidden | HeadNorm::All => net.norm("1", hidden, Some(1.0), None, true),
        };
        let output = net.linear("3", hidden, dim);
        match config.norm {
            HeadNorm::All => net.norm("4", output, Some(1.0), None, false),
            HeadNorm::None | HeadNorm::Hidden => net.bias("3", output, config.hidden, false),
        };
        net.features = net.values.len() - 1;
        Ok(net)
    }

    /// h(z) = W z, W (d, d), without bias (DirectPred).
    ///
    /// # Errors
    /// [`Error::Usage`] when the width is out of range.
    pub fn linear_predictor(dim: usize) -> Result<Network> {
        let mut net = head(dim)?;
        net.features = net.linear("0", 0, dim);
        Ok(net)
    }

    /// The scores C ẑ of `count` prototypes for vectors of `dim` numbers, C (count, dim), without
    /// bias (SwAV).
    ///
    /// # Errors
    /// [`Error::Usage`] when a width is out of range.
    pub fn prototypes(dim: usize, count: usize) -> Result<Network> {
        let mut net = head(dim)?;
        in_range("objective.prototypes.count", count)?;
        net.features = net.linear("0", 0, count);
        Ok(net)
    }

    /// h(z) = z + b (Zhang et al. 2022).
    ///
    /// # Errors
    /// [`Error::Usage`] when the width is out of range.
    pub fn bias_predictor(dim: usize) -> Result<Network> {
        let mut net = head(dim)?;
        net.features = net.bias("0", 0, dim, false);
        Ok(net)
    }
}

/// Wider layers are taken for a slip of the hand.
const WIDEST: usize = 65_536;

fn in_range(key: &str, width: usize) -> Result<()> {
    match width {
        1..=WIDEST => Ok(()),
        _ => Err(Error::Usage(format!("{key}: {width} must be between 1 and {WIDEST}"))),
    }
}

/// A network of vectors of `dim` numbers, as images of one pixel, that has no layers yet.
fn head(dim: usize) -> Result<Network> {
    in_range("encoder.projector.dim", dim)?;
    Ok(Network::start(Shape { height: 1, width: 1, channels: dim }, true))
}

/// How many nodes of `net`, a backbone so far, stay as they are.
fn frozen_nodes(net: &Network, backbone: &Backbone, freeze: Freeze) -> Result<usize> {
    let fail = |what: String| Err(Error::Usage(format!("encoder.freeze: {what}")));
    if freeze == Freeze::Backbone {
        return Ok(net.nodes.len());
    }
    if let Backbone::Mlp { .. } = backbone {
        return fail("an MLP has no stages; \"backbone\" freezes all of it".into());
    }
    // The node's own weights tell its stage: `layer2.0.conv1.weight` is of the second.
    let stage = |node: &Node| {
        let Op::Conv { weight, .. } = node.op else { return None };
        let name = net.parameters()[weight].name.strip_prefix("layer")?;
        name.split('.').next()?.parse::<usize>().ok()
    };
    let there = net.nodes.iter().filter_map(stage).max().unwrap_or(0);
    if freeze.stages() > there {
        return fail(format!("stage{} is asked for, and the backbone has {there} stages", freeze.stages()));
    }
    let trained = |node: &Node| stage(node).is_some_and(|stage| stage > freeze.stages());
    let first = net.nodes.iter().position(trained);
    // Behind the last stage stands the pooling, which has nothing to train.
    Ok(first.unwrap_or(net.nodes.len()))
}

fn mlp(net: &mut Network, widths: &[usize]) -> Result<ValueId> {
    if widths.is_empty() {
        return Err(Error::Usage("encoder.backbone.mlp.widths: must name at least one layer".into()));
    }
    let mut value = 0;
    for (i, &width) in widths.iter().enumerate() {
        in_range("encoder.backbone.mlp.widths", width)?;
        value = net.linear(&format!("layers.{}", 3 * i), value, width);
        value = net.norm(&format!("layers.{}", 3 * i + 1), value, Some(1.0), None, true);
    }
    Ok(value)
}

/// A stage of a residual network: its width and its blocks.
pub(super) type Stage = (usize, usize);

/// Stages of so many `blocks`, the first `width` wide and each one after it twice as wide as the
/// one before.
fn doubling(width: usize, blocks: &[usize]) -> Vec<Stage> {
    blocks.iter().enumerate().map(|(stage, blocks)| (width << stage, *blocks)).collect()
}

/// The stages of a residual network of any kind.
fn stages(blocks: &[usize], width: usize, widths: Option<&[usize]>) -> Result<Vec<Stage>> {
    if !(1..=MOST_STAGES).contains(&blocks.len()) || blocks.contains(&0) {
        return Err(Error::Usage(format!(
            "encoder.backbone.resnet.blocks: 1 to {MOST_STAGES} stages of at least 1 block"
        )));
    }
    in_range("encoder.backbone.width", width)?;
    let Some(widths) = widths else { return Ok(doubling(width, blocks)) };
    if widths.len() != blocks.len() {
        let (widths, blocks) = (widths.len(), blocks.len());
        return Err(Error::Usage(format!(
            "encoder.backbone.resnet.widths: {widths} widths where blocks has {blocks} stages"
        )));
    }
    widths.iter().try_for_each(|width| in_range("encoder.backbone.resnet.widths", *width))?;
    Ok(widths.iter().copied().zip(blocks.iter().copied()).collect())
}

/// The layers of a residual network before its pooling.
pub(super) struct Resnet {
    block: Block,
    width: usize,
    pub(super) stages: Vec<Stage>,
    stem: Stem,
}

impl Resnet {
    /// Those of `backbone`.
    ///
    /// # Errors
    /// [`Error::Usage`] for an MLP, and for widths and blocks out of range.
    pub(super) fn of(backbone: &Backbone) -> Result<Resnet> {
        let basic = |width: usize, blocks: &[usize], stem: Stem| Resnet {
            block: Block::Basic,
            width,
            stages: doubling(width, blocks),
            stem,
        };
        Ok(match backbone {
            Backbone::Mlp { .. } => {
                return Err(Error::Usage("an MLP has no stages, as a residual network has".into()));
            }
            Backbone::Resnet8 { width } => basic(*width, &[1, 1, 1], Stem::Cifar),
            Backbone::Resnet18 { stem } => basic(64, &[2, 2, 2, 2], *stem),
            Backbone::Resnet34 { stem } => basic(64, &[3, 4, 6, 3], *stem),
            Backbone::Resnet50 { stem } => {
                Resnet { block: Block::Bottleneck, ..basic(64, &[3, 4, 6, 3], *stem) }
            }
            Backbone::Resnet { blocks, bottleneck, width, widths, stem } => {
                let block = if *bottleneck { Block::Bottleneck } else { Block::Basic };
                Resnet {
                    block,
                    width: *width,
                    stages: stages(blocks, *width, widths.as_deref())?,
                    stem: *stem,
                }
            }
        })
    }

    /// Pixels of an image between neighbouring outputs of its first `stages` stages.
    pub(super) fn stride(&self, stages: usize) -> usize {
        let of_stem = if self.stem == Stem::Imagenet { 4 } else { 1 };
        of_stem << stages.saturating_sub(1)
    }

    /// The layers before the first stage.
    pub(super) fn stem(&self, net: &mut Network) -> Result<ValueId> {
        in_range("encoder.backbone.width", self.width)?;
        let geometry = match self.stem {
            Stem::Cifar => (3, 1, 1),
            Stem::Imagenet => (7, 2, 3),
        };
        let value = net.conv("conv1", 0, self.width, geometry)?;
        let value = net.norm("bn1", value, Some(1.0), None, true);
        Ok(if self.stem == Stem::Imagenet { net.max_pool(value) } else { value })
    }

    /// The stages in `range`, the first of which is 0.
    pub(super) fn stages(
        &self,
        net: &mut Network,
        mut value: ValueId,
        range: Range<usize>,
        zero_init: bool,
    ) -> Result<ValueId> {
        let block = self.block;
        for (stage, &(width, count)) in self.stages.iter().enumerate().skip(range.start).take(range.len()) {
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let name = format!("layer{}.{index}", stage + 1);
                value = residual_block(net, &name, value, Residual { block, width, stride, zero_init })?;
            }
        }
        Ok(value)
    }
}

/// What the blocks of residual networks differ in.
struct Residual {
    block: Block,
    width: usize,
    stride: usize,
    /// Whether the last normalisation begins at scale 0, so that the block begins as the identity.
    zero_init: bool,
}

fn residual_block(net: &mut Network, name: &str, input: ValueId, residual: Residual) -> Result<ValueId> {
    let Residual { block, width, stride, zero_init } = residual;
    let (convs, out_width): (&[_], usize) = match block {
        Block::Basic => (&[(3, stride, 1), (3, 1, 1)], width),
        Block::Bottleneck => (&[(1, 1, 0), (3, stride, 1), (1, 1, 0)], 4 * width),
    };
    let mut value = input;
    for (i, &geometry) in convs[..convs.len() - 1].iter().enumerate() {
        value = net.conv(&format!("{name}.conv{}", i + 1), value, width, geometry)?;
        value = net.norm(&format!("{name}.bn{}", i + 1), value, Some(1.0), None, true);
    }
    let last = convs.len();
    value = net.conv(&format!("{name}.conv{last}"), value, out_width, convs[last - 1])?;
    let scale = if zero_init { 0.0 } else { 1.0 };
    let changes = stride != 1 || net.values[input].channels != out_width;
    // The downsampling branch is computed before the sum that needs it; its parameters come after
    // the block's own in torchvision's state dict, which is a matter of names only.
    let residual = if changes {
        let down = net.conv(&format!("{name}.downsample.0"), input, out_width, (1, stride, 0))?;
        net.norm(&format!("{name}.downsample.1"), down, Some(1.0), None, false)
    } else {
        input
    };
    Ok(net.norm(&format!("{name}.bn{last}"), value, Some(scale), Some(residual), true))
}

fn projector(net: &mut Network, config: &ProjectorConfig) -> Result<ValueId> {
    if config.layers == 0 {
        return Ok(net.features);
    }
    in_range("encoder.projector.dim", config.dim)?;
    let hidden = config.hidden.unwrap_or(config.dim);
    in_range("encoder.projector.hidden", hidden)?;
    in_range("encoder.projector.layers", config.layers)?;
    let mut value = net.features;
    for layer in 0..config.layers {
        let last = layer + 1 == config.layers;
        let inputs = net.values[value].len();
        let (linear, norm) = (format!("fc.{}", 3 * layer), format!("fc.{}", 3 * layer + 1));
        value = net.linear(&linear, value, if last { config.dim } else { hidden });
        value = match (config.norm, last) {
            (HeadNorm::None, _) | (HeadNorm::Hidden, true) => net.bias(&linear, value, inputs, !last),
            (HeadNorm::Hidden | HeadNorm::All, false) => net.norm(&norm, value, Some(1.0), None, true),
            (HeadNorm::All, true) => net.norm(&norm, value, None, None, false),
        };
    }
    Ok(value)
}
