//! The keys `seed`, `schedule.*` and `eta.*`.

use super::super::key::{Key, Kind, Range, rows};

use Kind::{Empty, Number, Switch, Text, Whole, WholeOr};
use Range::{Above, Any, AtLeast, Within, Words};

const PRECISION: Range = Words(&["f32", "bf16"]);
const FILTER: Range = Words(&["power", "log", "log-plus-one", "log-square-plus-one"]);
const COUNT: Range = AtLeast(1.0);
const SHARE: Range = Within(0.0, 1.0);

/// The alternation: how long, and the E-step.
pub const ALTERNATION: &[Key] = rows! {
    "seed", Whole, AtLeast(0.0), None, "sim":
        "Seed of initial weights, order of images and augmentation. Set by `--seeds`, never by `--set`.";
    "schedule.batch", Whole, Within(1.0, 1048576.0), None, "Sec. 4.3":
        "Images per batch; each gives all its views.";
    "schedule.epochs", Whole, Within(1.0, 10000000.0), None, "Sec. 4":
        "Passes over the training images.";
    "schedule.start_epoch", Whole, AtLeast(0.0), Some("0"), "official code":
        "Those of them that the weights of encoder.init have behind them: learning rate, order of images and augmentation begin there; below schedule.epochs.";
    "schedule.checkpoint_every", Whole, COUNT, None, "sim":
        "Epochs between checkpoints. The last epoch always makes one.";
    "schedule.shards", Whole, Within(1.0, 1048576.0), Some("1"), "sim":
        "Shards that a batch is cut into, a power of two. Up to as many ranks share a run (--ranks), and its bytes depend on the shards, not on the ranks.";
    "schedule.sync_batch_norm", Switch, Any, Some("true"), "MoCo; SyncBN":
        "Whether batch norm in F takes its statistics over all shards together, or over each shard alone, as ranks do that do not synchronise.";
    "schedule.passes.multi-epoch", Empty, Any, None, "Sec. 4":
        "Every epoch shows all training images: what is done when `schedule.passes` is left out.";
    "schedule.passes.single-pass.chunks", Whole, AtLeast(2.0), None, "Li et al. 2022":
        "Disjoint parts of the training images that epochs show one after the other instead of all images; each comes again until the epoch is full.";
    "schedule.passes.cumulative.chunks", Whole, AtLeast(2.0), None, "Li et al. 2022":
        "Such parts, of which each epoch also shows all earlier ones.";
    "schedule.passes.hybrid.chunks", Whole, AtLeast(2.0), None, "Li et al. 2022":
        "Such parts, shown as in a single pass at the beginning; then epochs show all images.";
    "schedule.passes.hybrid.until_epoch", Whole, AtLeast(1.0), None, "Li et al. 2022":
        "The first epoch that shows all images; below schedule.epochs.";

    "eta.one-step", Empty, Any, None, "Sec. 3; 5.2":
        "E-step of SimSiam: η is the other view's output, made anew in every step.";
    "eta.k-step.k", WholeOr("epoch"), COUNT, None, "Sec. 5.2":
        "SGD steps on θ between two updates of η.";
    "eta.mean-of-others", Empty, Any, None, "FastSiam":
        "η is the mean over all other views of the image in the batch; objective.pairs says how many there are.";
    "eta.filtered.filter", Text, FILTER, Some("\"power\""), "Zhuo et al. 2023":
        "η is the other view's output through this function g of the batch's singular values: Z V g(s) Vᵀ.";
    "eta.filtered.sigma", Number, Any, Some("0.0"), "Zhuo et al. 2023":
        "σ of the power: η = U s^(1+σ) Vᵀ.";
    "eta.filtered.ridge", Number, AtLeast(0.0), Some("0.0"), "sim":
        "What is added to each s², as a part of their mean; above 0 where σ is below 0.";
    "eta.whitened.ridge", Number, Above(0.0), None, "Zhuo et al. 2023":
        "η is the other view's output made white over the batch, the exact E-step under ηᵀη = n·I; what is added to each s², as a part of their mean.";
    "eta.memory-bank.m", Number, SHARE, None, "Sec. 5.2":
        "Momentum of η ← m·η + (1−m)·F(T′(x)), one η for each image: the part of the old value that stays.";
    "eta.memory-bank.precision", Text, PRECISION, Some("\"f32\""), "sim":
        "How the bank keeps its numbers; \"bf16\" takes half the bytes.";
    "eta.memory-bank.k", WholeOr("epoch"), COUNT, Some("1"), "sim":
        "SGD steps between two updates of the bank.";
    "eta.expectation.n", WholeOr("all"), Within(1.0, 256.0), None, "Sec. 5.1, eq. 9":
        "Samples whose mean is η, each a view that no term of the loss shows; \"all\" is every element of augment.finite.";
    "eta.expectation.normalised", Switch, Any, None, "Zhang et al. 2022":
        "Whether the mean is that of z/‖z‖ instead of z.";
    "eta.expectation.k", WholeOr("epoch"), COUNT, Some("1"), "sim":
        "SGD steps between two updates of η.";
    "eta.expectation.m", Number, SHARE, Some("0.0"), "sim":
        "Momentum of a moving average over updates, one η for each image.";
    "eta.momentum-encoder.tau", Number, SHARE, None, "BYOL; MoCo":
        "Momentum τ of the moving average of θ whose output is η.";
    "eta.momentum-encoder.rises", Switch, Any, Some("true"), "BYOL; MoCo":
        "Whether τ rises to 1 at the last step (BYOL) or stays (MoCo).";
    "eta.momentum-encoder.queue", Whole, Within(0.0, 4194304.0), Some("0"), "MoCo":
        "Outputs of earlier batches that are kept as negatives; needs objective.similarity = \"info-nce\".";
    "eta.sinkhorn.epsilon", Number, Above(0.0), None, "SwAV":
        "ε of Sinkhorn–Knopp: the larger, the more even a code.";
    "eta.sinkhorn.iterations", Whole, Within(1.0, 1000.0), None, "SwAV":
        "Normalisations of columns and rows.";
    "eta.sinkhorn.stop_gradient", Switch, Any, Some("true"), "Table 6b":
        "Whether no gradient flows into the codes.";
    "eta.sinkhorn.queue", Whole, Within(0.0, 4194304.0), Some("0"), "SwAV":
        "Outputs of earlier batches, for each view, that are assigned together with a batch.";
    "eta.sinkhorn.queue_from_epoch", Whole, AtLeast(0.0), Some("0"), "SwAV":
        "The epoch from which on they are kept.";
    "eta.labels", Empty, Any, None, "He et al. 2016":
        "η is the image's class: supervised training.";
    "eta.none", Empty, Any, None, "Sec. 4.1":
        "No stop-gradient: gradient flows into the targets.";
};
