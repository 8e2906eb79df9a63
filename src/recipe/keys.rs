//! What each key of a recipe means: one row for each key, in the order of the structs. `sim show
//! --keys` and paper-notes/guide/keys.md are made from it, `tests/keys.rs` compares it with the
//! structs.

use super::key::{CHOICE, Key, Kind, Range, rows};
use crate::network::config::Freeze;
use std::f64::consts::PI;

use Kind::{Empty, Fours, Number, Numbers, Switch, Table, Text, Whole, WholeOr, Wholes};
use Range::{Above, AboveTo, Any, AtLeast, Below, Said, Within, Words};

const STEM: Range = Words(&["cifar", "imagenet"]);
const NORM: Range = Words(&["none", "hidden", "all"]);
const PRECISION: Range = Words(&["f32", "bf16"]);
const FILTER: Range = Words(&["power", "log", "log-plus-one", "log-square-plus-one"]);
const COUNT: Range = AtLeast(1.0);
const SHARE: Range = Within(0.0, 1.0);
const WIDTH: Range = Within(1.0, 65536.0);
const PIXELS: Range = Within(4.0, 1024.0);
const MANY: Range = Within(1.0, 4096.0);
const LIMITED: Range = Within(1.0, 65536.0);

/// Every key of a recipe.
pub const KEYS: &[Key] = rows! {
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
        "Shards that a batch is cut into, a power of two. Up to as many ranks share a run (--ranks), and its bytes depend on the shards, not on the ranks. On the processor.";
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

    "data.source", Text, Said("shapes, glyphs, folder:DIR, tar:DIR, parquet:DIR, cifar10:PATH, cifar100:PATH, stl10:PATH, tiny-imagenet:DIR"), None, "sim":
        "Where images come from; `--data` sets it.";
    "data.train_images", Whole, AtLeast(0.0), None, "sim":
        "Training images used, the first of each class in equal parts; 0 means all.";
    "data.test_images", Whole, AtLeast(0.0), None, "sim":
        "Held-out images used, likewise.";
    "data.shapes_size", Whole, PIXELS, None, "sim":
        "Side in pixels of the procedural images.";
    "data.shapes_seed", WholeOr("run"), AtLeast(0.0), None, "sim":
        "Which procedural images are drawn: those of this number, or those of the run's own seed.";
    "data.shapes.classes", Whole, Within(1.0, 20.0), Some("10"), "sim":
        "Classes of the procedural images `shapes`.";
    "data.shapes.spacing", Numbers(2), Within(4.0, 48.0), Some("[9.0, 12.0]"), "sim":
        "Distance between neighbouring motifs, lowest and highest, in 24ths of the image's side.";
    "data.shapes.scatter", Number, Within(0.0, 0.5), Some("0.2"), "sim":
        "Largest displacement of a motif from its place, as a part of the spacing.";
    "data.shapes.tilt", Number, Within(0.0, PI), Some("0.25"), "sim":
        "Largest tilt of the motifs in radians.";
    "data.shapes.noise", Number, SHARE, Some("0.04"), "sim":
        "Standard deviation of each channel's noise, where 1 is the whole range.";
    "data.glyphs.alphabets", Whole, MANY, Some("10"), "sim":
        "Styles of strokes of procedural handwriting, glyphs; identities take turns among them.";
    "data.glyphs.identities", Whole, MANY, Some("100"), "sim":
        "Its identities, the classes of training and held-out images.";
    "data.glyphs.unseen", Whole, Within(0.0, 4096.0), Some("20"), "sim":
        "Identities of each alphabet that neither shows: of them verification and one-shot recognition ask.";
    "data.glyphs.writings", Whole, MANY, Some("20"), "sim":
        "Images of each of these.";
    "data.glyphs.forgeries", Whole, Within(0.0, 4096.0), Some("5"), "sim":
        "Forgeries of each of these, by other hands.";
    "data.glyphs.jitter", Number, SHARE, Some("0.06"), "sim":
        "Standard deviation of a control point from its place, where the image's half side is 1; a forger's is three times that.";
    "data.glyphs.noise", Number, SHARE, Some("0.04"), "sim":
        "Standard deviation of each channel's noise, where 1 is the whole range.";
    "data.skip_bad", Switch, Any, None, "sim":
        "Counts files that cannot be decoded and goes on, instead of stopping at the first; `--skip-bad` sets it.";
    "data.held_out", Text, Words(&["test", "val"]), CHOICE, "sim":
        "Which folder of folder:DIR is held out where both are there; left out: test.";
    "data.exif", Switch, Any, Some("false"), "sim":
        "Turns images of folder:DIR as their EXIF orientation asks, instead of reading them as they are stored.";
    "data.unlabelled", Switch, Any, Some("false"), "sim":
        "Trains on the images of stl10:PATH without labels; kNN and the probe read the labels of its 5,000 training images.";

    "augment.size", Whole, PIXELS, None, "Sec. 3; App. D":
        "Side of a view in pixels.";
    "augment.crop_scale", Numbers(2), AboveTo(0.0, 1.0), None, "Sec. 3":
        "Area of the random crop as a part of the image's, lowest and highest.";
    "augment.flip", Number, SHARE, None, "Sec. 3":
        "Probability of a horizontal flip.";
    "augment.jitter", Number, SHARE, None, "Sec. 3":
        "Probability of colour jitter.";
    "augment.jitter_strength", Numbers(4), Said("0 to 1; the hue's 0 to 0.5"), None, "Sec. 3":
        "Strength of brightness, contrast, saturation and hue, as in torchvision's ColorJitter.";
    "augment.grayscale", Number, SHARE, None, "Sec. 3":
        "Probability of grayscale.";
    "augment.blur", Number, SHARE, None, "Sec. 3; App. D":
        "Probability of Gaussian blur.";
    "augment.blur_sigma", Numbers(2), Above(0.0), None, "Sec. 3":
        "σ of the blur in pixels, lowest and highest.";
    "augment.mean", Numbers(3), Any, None, "the data set":
        "What is subtracted from each channel of values in [0, 1].";
    "augment.std", Numbers(3), Above(0.0), None, "the data set":
        "What each channel is divided by.";
    "augment.finite.flips", Switch, Any, None, "sim":
        "A finite set of views in place of random ones: whether it has both mirror images. 2 to 256 views in all.";
    "augment.finite.scales", Numbers(0), AboveTo(0.0, 1.0), None, "sim":
        "Sides of the square crop as parts of the image's shorter side.";
    "augment.finite.translations", Whole, COUNT, None, "sim":
        "Places of the crop along each axis: n gives n × n.";
    "augment.finite.colours", Fours, Said("factors 0 to 4; hue −0.5 to 0.5"), None, "sim":
        "Colour shifts: factors of brightness, contrast and saturation, and a turn of the hue.";
    "augment.finite.exhaustive", Switch, Any, Some("false"), "sim":
        "Whether view v of a batch is element v of the set instead of a drawn one.";
    "augment.multi_crop.count", Whole, Within(1.0, 64.0), None, "SwAV":
        "Small crops of every image beside its views.";
    "augment.multi_crop.size", Whole, PIXELS, None, "SwAV":
        "Their side in pixels.";
    "augment.multi_crop.crop_scale", Numbers(2), AboveTo(0.0, 1.0), None, "SwAV":
        "Their area as a part of the image's, lowest and highest.";

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
    "measure.every", Whole, COUNT, None, "sim":
        "Epochs between measurements. The last epoch is always measured.";
    "measure.knn_k", Whole, COUNT, None, "App. D":
        "Neighbours of the weighted kNN classifier.";
    "measure.knn_images", Whole, AtLeast(0.0), Some("0"), "sim":
        "Training images whose labels it reads, the first of each class in equal parts; 0 means all.";
    "measure.knn_temperature", Number, Above(0.0), None, "App. D; Wu et al. 2018":
        "Temperature of its weights exp(cos/T).";
    "measure.probe_epochs", Whole, Within(0.0, 1000000.0), None, "Sec. 3":
        "Epochs of the linear probe; 0 leaves it out.";
    "measure.probe_base_lr", Number, Above(0.0), None, "sim":
        "The probe's learning rate is this × batch / 256.";
    "measure.probe_batch", Whole, COUNT, None, "sim":
        "The probe's batch.";
    "measure.probe_always", Switch, Any, Some("false"), "sim":
        "Runs the probe at every measurement, not at the end alone.";
    "measure.film", Whole, Within(0.0, 512.0), Some("0"), "sim":
        "Held-out images whose outputs are kept after every epoch, which sim film shows in motion; 64 are enough.";
    "measure.em.images", Whole, Within(2.0, 65536.0), None, "sim":
        "Measures the alternation itself, the em/ columns, on so many images.";
    "measure.em.views", Whole, Within(4.0, 65536.0), None, "sim":
        "Views of each by which the expectation over augmentations is estimated.";
    "measure.em.eta", Switch, Any, Some("false"), "sim":
        "Compares the η that trains with the exact one.";
    "measure.em.objective", Switch, Any, Some("false"), "Sec. 5.1":
        "Takes L(θ, η) before and after every half-step.";
    "measure.em.trajectory", Switch, Any, Some("false"), "Sec. 5.3":
        "Keeps θ at every measurement.";
    "measure.spectrum", Switch, Any, Some("false"), "Li et al. 2022":
        "Measures the spectrum of held-out images' features, the spectrum/ columns.";
    "measure.predictor", Switch, Any, Some("false"), "Wen & Li 2022":
        "Compares a linear h with the identity and with projections, the predictor/ columns; needs a linear predictor.";
    "measure.verification.pairs", Whole, LIMITED, None, "LFW":
        "Measures verification, the verify/ columns: pairs of one identity in each of ten folds, and as many of two (LFW: 300).";
    "measure.one_shot.runs", Whole, LIMITED, None, "Lake et al. 2015":
        "Measures one-shot recognition, the oneshot/ columns: episodes of 20 ways within an alphabet (Lake et al.: 20).";
    "measure.one_shot.episodes", Whole, LIMITED, None, "Vinyals et al. 2016":
        "Episodes of 5 ways, with 1 and with 5 examples of each class.";
    "measure.one_shot.queries", Whole, LIMITED, None, "Vinyals et al. 2016":
        "Questions of each class in them.";
    "measure.tracking.sequences", Whole, Within(1.0, 4096.0), None, "sim":
        "Measures tracking, the track/ columns: procedural sequences that are followed.";
    "measure.tracking.exemplar", Whole, Within(8.0, 256.0), None, "Bertinetto et al. 2016":
        "Side in pixels of what is looked for; search windows are twice as wide (SiamFC: 127).";
    "measure.tracking.tune", Whole, Within(0.0, 1048576.0), None, "Bertinetto et al. 2016":
        "SGD steps by which a second tracker is fine-tuned from the same weights; 0 leaves it out.";
    "measure.em.field", Whole, Said("0, or 3 to 64"), Some("0"), "Ponce et al. 2025":
        "Random directions by which it is measured how far the expected update is from a gradient; 0 leaves it out.";
    "measure.em.ranks", Switch, Any, Some("false"), "Zhuo et al. 2023":
        "Takes the effective ranks of p and of η in the last step before each measurement, the em/rank_ columns.";
    "measure.em.eigenvalues", Switch, Any, Some("false"), "Halvagal et al. 2023":
        "Keeps the eigenvalues of E[z zᵀ] at every measurement; the spread of their logarithms is em/log_spread.";
    "closed_form.signal", Numbers(0), AtLeast(0.0), None, "Tian et al. 2021":
        "A linear encoder of Gaussian images in place of training: variance of images along 1 to 64 directions.";
    "closed_form.noise", Numbers(0), AtLeast(0.0), None, "Tian et al. 2021":
        "Variance of augmentations along each.";
    "closed_form.outputs", Whole, Within(1.0, 64.0), None, "sim":
        "Outputs of the encoder.";
    "closed_form.steps_per_epoch", Whole, COUNT, None, "sim":
        "SGD steps in an epoch; 10000000 in a run at most.";
    "closed_form.normalised", Switch, Any, Some("false"), "sim":
        "Scales each output to variance 1 after every step, as batch norm does.";
    "closed_form.optimum", Text, Words(&["none", "encoder", "predictor"]), Some("\"none\""), "sim":
        "What jumps to its optimum in every step instead of making a gradient step.";
    "transfer.from", Text, Words(&["pretraining", "permuted", "init"]), Some("\"pretraining\""), "Sec. 4, Table 5":
        "Fine-tunes a detector instead of ending with the encoder, whose backbone begins with the weights of the run that the recipe describes without this table, with the same permuted within each tensor, or with those that the recipe begins with: random ones, or encoder.init.";
    "transfer.data", Text, Said("scenes, coco:DIR, voc:DIR"), Some("\"scenes\""), "sim":
        "Images with objects; scenes are drawn anew for each seed.";
    "transfer.size", Whole, Within(32.0, 512.0), Some("64"), "sim":
        "Side of scenes in pixels; other images have their own size, all the same.";
    "transfer.images", Whole, Said("at least transfer.batch"), Some("100"), "sim":
        "Training images, the first so many.";
    "transfer.test_images", Whole, Within(1.0, 1000000.0), Some("300"), "sim":
        "Held-out scenes; of other sources all held-out images are judged on.";
    "transfer.batch", Whole, Said("at least 1, at most transfer.images"), Some("16"), "MoCo's detection code":
        "Images of a batch, over which batch norms take their statistics.";
    "transfer.steps", Whole, Within(1.0, 10000000.0), Some("200"), "sim":
        "SGD steps of the detector.";
    "transfer.lr", Number, Above(0.0), Some("0.1"), "Sec. 4":
        "Their learning rate, a tenth of it after 3/4 and a hundredth after 11/12 of them; the paper searches it for every method.";
    "transfer.warm_up", Whole, AtLeast(0.0), Some("50"), "detectron2":
        "Steps over which it rises from a thousandth.";
    "transfer.precise_batches", Whole, Within(1.0, 10000.0), Some("20"), "MoCo's detection code":
        "Batches from which running statistics are made anew before the detector is judged.";
    "transfer.every", Whole, Within(1.0, 10000000.0), Some("50"), "sim":
        "Steps between rows of metrics.csv; each has a checkpoint.";
    "pretraining", Table, Any, CHOICE, "sim":
        "The recipe of the run whose weights this one begins with, and whose keys it has; an arm's `from` sets it; left out: none.";
};
