//! The keys `measure.*`, `closed_form.*` and `transfer.*`, and what a run begins with.

use super::super::key::{CHOICE, Key, Kind, Range, rows};

use Kind::{Number, Numbers, Switch, Table, Text, Whole};
use Range::{Above, Any, AtLeast, Said, Within, Words};

const COUNT: Range = AtLeast(1.0);
const LIMITED: Range = Within(1.0, 65536.0);

/// What is read off a state, and what stands in the place of training or behind it.
pub const MEASURED: &[Key] = rows! {
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
