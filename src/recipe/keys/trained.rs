//! The keys `encoder.*`, `predictor.*`, `objective.*` and `optim.*`.

use super::super::key::{CHOICE, Key, Kind, Range, rows};
use crate::network::config::Freeze;

use Kind::{Empty, Number, Switch, Text, Whole, Wholes};
use Range::{Above, Any, AtLeast, Below, Said, Within, Words};

const STEM: Range = Words(&["cifar", "imagenet"]);
const NORM: Range = Words(&["none", "hidden", "all"]);
const PRECISION: Range = Words(&["f32", "bf16"]);
const FILTER: Range = Words(&["power", "log", "log-plus-one", "log-square-plus-one"]);
const COUNT: Range = AtLeast(1.0);
const WIDTH: Range = Within(1.0, 65536.0);

/// The networks, what they minimise and how.
pub const TRAINED: &[Key] = rows! {
    "encoder.backbone.mlp.widths", Wholes, WIDTH, None, "sim":
        "Linear + BN + ReLU on the flattened image: the width of each layer, the last being the feature dimension.";
    "encoder.backbone.resnet8.width", Whole, WIDTH, None, "sim":
        "Three stages of one basic block: channels of the first; the next have twice and four times as many.";
    "encoder.backbone.resnet18.stem", Text, STEM, None, "He et al. 2016; App. D":
        "First layers of a ResNet-18: 3×3 convolution, or 7×7 with stride 2 and max pooling.";
    "encoder.backbone.resnet34.stem", Text, STEM, None, "He et al. 2016":
        "First layers of a ResNet-34.";
    "encoder.backbone.resnet50.stem", Text, STEM, None, "Sec. 3":
        "First layers of a ResNet-50.";
    "encoder.backbone.resnet.blocks", Wholes, COUNT, None, "sim":
        "Any other residual network: blocks of each of its 1 to 8 stages.";
    "encoder.backbone.resnet.bottleneck", Switch, Any, None, "sim":
        "Bottleneck blocks instead of basic ones.";
    "encoder.backbone.resnet.width", Whole, WIDTH, None, "sim":
        "Channels of its first convolution.";
    "encoder.backbone.resnet.widths", Wholes, WIDTH, CHOICE, "sim":
        "Channels of each stage; left out: `width`, then twice as many in each next stage.";
    "encoder.backbone.resnet.stem", Text, STEM, None, "sim":
        "Its first layers.";
    "encoder.zero_init_residual", Switch, Any, None, "official code":
        "Starts the last BN scale of each residual block at zero.";
    "encoder.projector.layers", Whole, Within(1.0, 3.0), None, "Sec. 3; App. D":
        "Linear layers of the projection MLP.";
    "encoder.projector.hidden", Whole, WIDTH, CHOICE, "sim":
        "Width of its layers before the last; left out: that of the last.";
    "encoder.projector.dim", Whole, WIDTH, None, "Sec. 3":
        "Width d of its last layer: z and η have d numbers.";
    "encoder.projector.norm", Text, NORM, None, "Table 3":
        "Which of its layers batch normalisation follows.";
    "encoder.precision", Text, PRECISION, Some("\"f32\""), "sim":
        "What convolutions multiply; sums are f32 in either case. A study may say \"auto\": the faster one here, by a measurement before its first run.";

    "encoder.init", Text, Said("a run's folder or a weights file"), CHOICE, "sim":
        "Weights to begin with, of this program, torchvision, timm, solo-learn, lightly or the official codes; `--init` sets it; left out: they are drawn.";
    "encoder.init_sha256", Text, Said("64 hexadecimal digits"), CHOICE, "sim":
        "SHA-256 of that file, so that another file of its name makes another run; left out, it is taken: a run's recipe has it.";
    "encoder.init_heads", Switch, Any, Some("true"), "sim":
        "Whether projector, predictor and prototypes are taken from it too, each where it fits whole.";

    "encoder.freeze", Text, Words(&Freeze::WORDS), CHOICE, "sim":
        "Layers that are not trained, these and all before them; batch norm there goes by running statistics, which stay; left out: none.";

    "predictor.none", Empty, Any, None, "Table 1":
        "No predictor: p = z.";
    "predictor.mlp.hidden", Whole, WIDTH, None, "Sec. 3":
        "Width of the predictor's hidden layer; d/4 in the paper.";
    "predictor.mlp.norm", Text, NORM, None, "Table 3":
        "Which of its layers batch normalisation follows.";
    "predictor.mlp.inverse", Switch, Any, Some("false"), "Zhang et al. 2022":
        "Trains an inverse of h beside it, for objective.comparison = \"inverse-predictor\".";
    "predictor.direct.rho", Number, Below(0.0, 1.0), None, "Tian et al. 2021":
        "DirectPred, a linear h set from the outputs' correlation: the part of the old correlation that stays.";
    "predictor.direct.epsilon", Number, AtLeast(0.0), None, "Tian et al. 2021":
        "What directions without variance keep.";
    "predictor.direct.every", Whole, COUNT, None, "Tian et al. 2021":
        "Steps between two eigen-decompositions.";
    "predictor.direct.alpha", Number, Above(0.0), Some("0.5"), "Wang et al. 2021":
        "Power α of the outputs' correlation: ½ is DirectPred, 1 DirectCopy; Zhuo et al.'s s^σ is α = σ/2.";
    "predictor.direct.filter", Text, FILTER, Some("\"power\""), "Zhuo et al. 2023":
        "What takes the place of that power: a logarithm of the singular values s, in units of a batch of 256 rows.";
    "predictor.linear.symmetric", Switch, Any, Some("false"), "Tian et al. 2021":
        "A trained linear h(z) = W z: whether W stays symmetric.";
    "predictor.linear.unit_diagonal", Switch, Any, Some("false"), "Wen & Li 2022":
        "Whether W begins as the identity and keeps its diagonal.";
    "predictor.least-squares.rho", Number, Below(0.0, 1.0), None, "Tian et al. 2021":
        "A linear h set to the regression of η on z: the part of the old moments that stays.";
    "predictor.least-squares.ridge", Number, Above(0.0), None, "Tian et al. 2021":
        "What is added to the diagonal of z's second moment, as a part of its mean.";
    "predictor.least-squares.every", Whole, COUNT, None, "Tian et al. 2021":
        "Steps between two regressions.";
    "predictor.least-squares.rank_one", Switch, Any, Some("false"), "Tian et al. 2021":
        "Writes one row into all rows of W, as a branch of the published code does.";
    "predictor.bias", Empty, Any, None, "Zhang et al. 2022":
        "h(z) = z + b with a trained b.";

    "objective.similarity", Text, Words(&["cosine", "cross-entropy", "mse", "squared-error", "info-nce", "contrastive"]), None, "Sec. 3; 4.5; 6":
        "D(p, η), what the M-step minimises.";
    "objective.symmetric", Switch, Any, None, "Sec. 4.6":
        "Whether both views are trained, ½D(p₁, η₂) + ½D(p₂, η₁), or the first alone.";
    "objective.pairs", Whole, Within(1.0, 16.0), None, "Sec. 4.6":
        "Pairs of views per image.";
    "objective.comparison", Text,
        Words(&["simsiam", "symmetric-predictor", "mirror", "inverse-predictor", "centre", "residual", "isotropic"]),
        Some("\"simsiam\""), "Zhang et al. 2022":
        "Which two outputs the encoder's loss compares.";
    "objective.temperature", Number, Above(0.0), Some("1.0"), "SimCLR; MoCo; SwAV":
        "τ, which divides p in the cross-entropy and cosines in InfoNCE.";
    "objective.margin", Number, Above(0.0), Some("1.0"), "Hadsell et al. 2006":
        "How far apart the contrastive loss drives images of two classes; needs eta.labels.";
    "objective.prototypes.count", Whole, Within(2.0, 65536.0), None, "SwAV":
        "Prototypes whose scores take the place of p; needs eta.sinkhorn.";
    "objective.prototypes.frozen_steps", Whole, AtLeast(0.0), Some("0"), "SwAV":
        "Steps at the start in which they stay as they are.";
    "objective.spread.variance", Number, AtLeast(0.0), Some("0.0"), "VICReg":
        "Weight of max(0, 1 − std) of each output, the mean over outputs and views; VICReg's sum over two views is twice that.";
    "objective.spread.covariance", Number, AtLeast(0.0), Some("0.0"), "VICReg":
        "Weight of the squared covariances of two outputs, summed, over d, the mean over views.";
    "objective.spread.sigreg", Number, AtLeast(0.0), Some("0.0"), "LeJEPA":
        "Weight of the distance of projected outputs from a standard normal distribution; it grows with the batch.";
    "objective.spread.slices", Whole, Within(1.0, 16384.0), Some("256"), "LeJEPA":
        "Directions that are projected on, drawn afresh in each step.";

    "optim.base_lr", Number, AtLeast(0.0), None, "Sec. 3":
        "The learning rate is this × batch / 256.";
    "optim.momentum", Number, Below(0.0, 1.0), None, "Sec. 3":
        "SGD's momentum.";
    "optim.weight_decay", Number, AtLeast(0.0), None, "Sec. 3; App. D":
        "L2 penalty.";
    "optim.weight_decay_on", Text, Words(&["all", "weights"]), Some("\"all\""), "SimCLR; BYOL":
        "What it is on: all that is trained, or weights without biases and batch norm. LARS scales the same.";
    "optim.lars.trust", Number, AtLeast(0.0), None, "You et al. 2017":
        "LARS, a rate for each layer: its trust coefficient.";
    "optim.decay", Text, Words(&["cosine-epoch", "cosine-step", "constant"]), None, "Sec. 3; official code":
        "How the learning rate falls: by a cosine, once an epoch or once a step, or not at all.";
    "optim.final_lr", Number, AtLeast(0.0), Some("0.0"), "SwAV":
        "What it falls to, as a share of its start.";
    "optim.warmup_epochs", Whole, AtLeast(0.0), None, "Table 2":
        "Epochs over which it rises from 0 in a straight line.";
    "optim.predictor_lr", Text, Words(&["decayed", "constant", "zero"]), None, "Table 1":
        "The predictor's learning rate: the encoder's, its start kept, or 0.";
    "optim.predictor_rate", Number, AtLeast(0.0), Some("1.0"), "Tian et al. 2021":
        "A factor on the predictor's learning rate.";
    "optim.predictor_decay", Number, AtLeast(0.0), CHOICE, "Tian et al. 2021":
        "The predictor's L2 penalty; left out: optim.weight_decay.";
};
