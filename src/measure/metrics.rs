//! The columns of metrics.csv: what is known of each wherever it is named, judged, written or
//! drawn.

/// A column of numbers by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name in metrics.csv.
    pub name: &'static str,
    /// Which direction is better; none for what no claim and no table may name.
    pub larger_is_better: Option<bool>,
    /// A short title with its unit.
    pub title: &'static str,
    /// What an axis says.
    pub axis: &'static str,
    /// Digits behind the point.
    pub decimals: usize,
    /// The ends of the values that it can have, which may be infinite.
    pub range: (f64, f64),
}

/// Losses depend on the objective, and estimates without bias leave the range of what they
/// estimate.
const ANY: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
const POSITIVE: (f64, f64) = (0.0, f64::INFINITY);
const PERCENT: (f64, f64) = (0.0, 100.0);
/// 1 − MSE / variance.
const R2: (f64, f64) = (f64::NEG_INFINITY, 1.0);
const SHARE: (f64, f64) = (0.0, 1.0);
const COSINE: (f64, f64) = (-1.0, 1.0);

/// A column of which more is better.
const fn larger(name: &'static str, title: &'static str, range: (f64, f64)) -> Metric {
    Metric { name, larger_is_better: Some(true), title, axis: title, decimals: 3, range }
}

/// A column of which less is better.
const fn smaller(name: &'static str, title: &'static str, range: (f64, f64)) -> Metric {
    Metric { larger_is_better: Some(false), ..larger(name, title, range) }
}

impl Metric {
    const fn on_axes(self, axis: &'static str) -> Metric {
        Metric { axis, ..self }
    }

    const fn digits(self, decimals: usize) -> Metric {
        Metric { decimals, ..self }
    }

    const fn not_judged(self) -> Metric {
        Metric { larger_is_better: None, ..self }
    }

    /// Whether a claim may name it.
    pub fn is_judged(&self) -> bool {
        self.larger_is_better.is_some()
    }

    /// Whether it is the accuracy of a classifier, in percent.
    pub fn is_accuracy(&self) -> bool {
        self.range == PERCENT
    }
}

/// The columns of every run that is trained, in the order of metrics.csv after step, epoch, samples
/// and wall_s. `train/*` are means over the epoch.
///
/// `z_std` is the std of z/‖z‖ times √d. Under the last batch norm a batch's outputs have mean
/// zero, so `train/z_std` cannot fall below 2/√B: when all other images agree, one of them balances
/// the rest. `val/z_std`, on held-out images by running statistics, has no such floor and shows
/// collapse as 0.
///
/// `val/uniformity` is log E exp(−2‖ẑ − ẑ′‖²) of z/‖z‖: 0 at collapse, near −4 where outputs are
/// spread evenly.
///
/// `val/knn_top1` reads the backbone's features, `val/z_knn_top1` the outputs z that the loss sees.
///
/// `em/*` is empty where the recipe has no `measure.em`: R² of the predictor and of the best linear
/// one, alignment, the η of the epoch's last step against the exact one (its age in steps), and
/// L(θ, η) around the half-steps, means over the epoch and the largest rises.
///
/// `train/e_passes` are the forward passes that E-steps have made beside the M-steps', for each
/// image of a batch: the mean since the run began.
pub const METRICS: &[Metric] = &[
    smaller("train/loss", "loss", ANY).on_axes("training loss"),
    larger("train/lr", "learning rate", POSITIVE).not_judged(),
    larger("train/z_std", "std(z/‖z‖)·√d in training", POSITIVE),
    larger("val/knn_top1", "kNN top-1 (%)", PERCENT).on_axes("kNN top-1, held out (%)").digits(1),
    larger("val/z_knn_top1", "kNN top-1 on z (%)", PERCENT).digits(1),
    larger("val/z_std", "std(z/‖z‖)·√d", POSITIVE).on_axes("std of z/‖z‖ · √d, held out"),
    larger("val/rankme", "RankMe", POSITIVE).digits(2),
    smaller("val/uniformity", "uniformity", (-8.0, 0.0)).on_axes("uniformity of z/‖z‖, held out").digits(2),
    larger("val/linear_top1", "linear top-1 (%)", PERCENT)
        .on_axes("linear probe top-1, held out (%)")
        .digits(1),
    larger("em/r2", "R² of h", R2),
    larger("em/r2_linear", "R² of the best linear h", R2),
    smaller("em/alignment", "alignment", POSITIVE),
    larger("em/eta_cosine", "cosine of η and its expectation", COSINE),
    smaller("em/eta_bias", "bias of η", ANY),
    smaller("em/eta_variance", "variance of η", ANY),
    smaller("em/eta_age", "age of η (steps)", POSITIVE),
    smaller("em/loss_before_e", "L before the E-step", ANY),
    smaller("em/loss_after_e", "L after the E-step", ANY),
    smaller("em/loss_after_m", "L after the M-steps", ANY),
    smaller("em/e_rise", "largest rise of L in an E-step", ANY),
    smaller("em/m_rise", "largest rise of L in M-steps", ANY),
    smaller("train/e_passes", "forward passes of the E-step", POSITIVE).digits(2),
];

/// The columns of a run whose recipe has `measure.em.field`, behind [`METRICS`]: how far the
/// expected update is from the gradient of anything, with its standard error over random
/// directions.
pub const FIELD: &[Metric] = &[
    smaller("em/antisymmetry", "antisymmetric share of the field", SHARE),
    smaller("em/antisymmetry_error", "its standard error", POSITIVE).not_judged(),
];

/// The columns of a run whose recipe has `measure.spectrum`, behind [`METRICS`]: how the singular
/// values of held-out images' centred features fall off. The area under their cumulative sum is 1
/// where one direction has all, (D + 1) / 2D where all have the same (Li, Efros & Pathak 2022).
pub const SPECTRUM: &[Metric] = &[
    smaller("spectrum/auc", "AUC of the spectrum", SHARE).on_axes("AUC of the spectrum of features"),
    larger("spectrum/rankme", "RankMe of features", POSITIVE).digits(2),
];

/// The columns of a run whose recipe has `measure.predictor`: what lies beside the diagonal of a
/// linear h, and how far h² is from h ([`super::linear_map`]).
pub const PREDICTOR: &[Metric] = &[
    smaller("predictor/off_diagonal", "beside the diagonal of h", POSITIVE)
        .on_axes("‖W − diag W‖ / ‖diag W‖"),
    smaller("predictor/projection", "h from a projection", POSITIVE).on_axes("‖W² − W‖ / ‖W‖"),
];

/// The columns of a run whose recipe has `measure.em.ranks`, behind [`METRICS`]: the effective rank
/// of what the last step before a measurement compared, p/‖p‖ and η/‖η‖ of all its views.
pub const RANKS: &[Metric] = &[
    larger("em/rank_p", "RankMe of p", POSITIVE).digits(2),
    larger("em/rank_eta", "RankMe of η", POSITIVE).digits(2),
    larger("em/rank_gap", "RankMe of η − RankMe of p", ANY).digits(2),
];

/// The column of a run whose recipe has `measure.em.eigenvalues`, behind [`METRICS`]: the standard
/// deviation over axes of the logarithm of the eigenvalues of E\[z zᵀ\], held-out images.
pub const EIGENVALUES: &[Metric] =
    &[smaller("em/log_spread", "std of log eigenvalues of z", POSITIVE).digits(2)];

/// The columns of a run whose recipe has `measure.verification`, behind [`METRICS`]: on pairs of
/// images of identities that no training image shows, where the data set has such, by the cosine of
/// the backbone's features, or (`z_`) of the outputs z. `forged_` has forgeries by
/// another hand in the place of other identities.
pub const VERIFICATION: &[Metric] = &[
    larger("verify/auc", "ROC AUC", (0.0, 1.0)).on_axes("ROC AUC of verification"),
    smaller("verify/eer", "EER (%)", PERCENT).on_axes("equal error rate (%)").digits(1),
    larger("verify/tar_far10", "TAR at FAR 0.1 (%)", PERCENT).digits(1),
    larger("verify/tar_far1", "TAR at FAR 0.01 (%)", PERCENT).digits(1),
    larger("verify/accuracy", "10-fold accuracy (%)", PERCENT).digits(1),
    smaller("verify/accuracy_error", "S_E of the 10-fold accuracy", PERCENT).digits(2).not_judged(),
    larger("verify/z_auc", "ROC AUC by z", (0.0, 1.0)),
    smaller("verify/z_eer", "EER by z (%)", PERCENT).digits(1),
    larger("verify/forged_auc", "ROC AUC, forgeries", (0.0, 1.0)),
    smaller("verify/forged_eer", "EER, forgeries (%)", PERCENT).digits(1),
];

/// The columns of a run whose recipe has `measure.one_shot`, behind the others: top-1 on classes
/// that no training image shows, where the data set has such, by the cosine of the backbone's
/// features. `*_interval` is half of the 95 % interval over episodes.
pub const ONE_SHOT: &[Metric] = &[
    larger("oneshot/top1", "20-way 1-shot (%)", PERCENT)
        .on_axes("20-way 1-shot within an alphabet (%)")
        .digits(1),
    smaller("oneshot/top1_interval", "± over episodes, 20-way 1-shot", PERCENT).digits(1).not_judged(),
    larger("oneshot/five_way", "5-way 1-shot (%)", PERCENT).digits(1),
    smaller("oneshot/five_way_interval", "± over episodes, 5-way 1-shot", PERCENT).digits(1).not_judged(),
    larger("oneshot/five_shot", "5-way 5-shot (%)", PERCENT).digits(1),
    smaller("oneshot/five_shot_interval", "± over episodes, 5-way 5-shot", PERCENT).digits(1).not_judged(),
    larger("oneshot/five_shot_nearest", "5-way 5-shot, nearest example (%)", PERCENT).digits(1),
];

/// The columns of a run whose recipe has `measure.tracking`, behind the others: means over held-out
/// procedural sequences, whose objects are followed by the correlation of frozen feature maps, or
/// (`tuned_`) of those fine-tuned for it. `near` has a fifth of the distance of `precision`.
pub const TRACKING: &[Metric] = &[
    larger("track/auc", "success AUC", SHARE).on_axes("success AUC of tracking"),
    larger("track/precision", "precision at 20 px (%)", PERCENT).digits(1),
    larger("track/near", "precision at 4 px (%)", PERCENT).digits(1),
    larger("track/tuned_auc", "success AUC, fine-tuned", SHARE),
    larger("track/tuned_precision", "precision at 20 px, fine-tuned (%)", PERCENT).digits(1),
    larger("track/tuned_near", "precision at 4 px, fine-tuned (%)", PERCENT).digits(1),
];

/// A column of average precision, in percent.
const fn ap(name: &'static str, title: &'static str) -> Metric {
    larger(name, title, PERCENT).digits(1)
}

/// The columns of a run that fine-tunes a detector (a recipe with `transfer`), in the place of
/// [`METRICS`]: COCO's AP, AP50 and AP75 of boxes and of masks on held-out images, at the end. The
/// loss is the sum of the detector's five. Masks are measured where the images have them.
pub const DETECTION: &[Metric] = &[
    ap("det/ap", "box AP").on_axes("AP of boxes, held out (%)"),
    ap("det/ap50", "box AP50").on_axes("AP of boxes at IoU 0.5 (%)"),
    ap("det/ap75", "box AP75").on_axes("AP of boxes at IoU 0.75 (%)"),
    ap("seg/ap", "mask AP").on_axes("AP of masks, held out (%)"),
    ap("seg/ap50", "mask AP50").on_axes("AP of masks at IoU 0.5 (%)"),
    ap("seg/ap75", "mask AP75").on_axes("AP of masks at IoU 0.75 (%)"),
];

/// All columns of a run that fine-tunes a detector.
pub const OF_A_DETECTOR: [Metric; 2 + DETECTION.len()] = {
    let mut all = [METRICS[0]; 2 + DETECTION.len()];
    all[1] = METRICS[1];
    let mut index = 0;
    while index < DETECTION.len() {
        all[2 + index] = DETECTION[index];
        index += 1;
    }
    all
};

const NO_METRIC: &Metric = &larger("", "", ANY).not_judged();

/// The names of [`METRICS`].
pub const COLUMNS: [&str; METRICS.len()] = {
    let mut names = [""; METRICS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = METRICS[index].name;
        index += 1;
    }
    names
};

/// The columns that tables and figures show of a run in closed form. Its std is that of the
/// outputs, not of z/‖z‖ · √d.
pub const CLOSED_FORM: &[Metric] = &[
    larger("val/z_std", "std of outputs / start", POSITIVE).on_axes("std of the outputs, 1 at the start"),
    larger("val/rankme", "RankMe of outputs", POSITIVE).on_axes("effective rank of the outputs").digits(2),
    smaller("train/loss", "L", ANY).on_axes("L(θ, η)"),
    smaller("em/antisymmetry", "antisymmetric share of the field", SHARE),
];

/// The columns that a claim may name.
pub fn judged() -> impl Iterator<Item = &'static Metric> {
    all().filter(|metric| metric.is_judged())
}

/// Every column that a run can have.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    [METRICS, FIELD, SPECTRUM, PREDICTOR, RANKS, EIGENVALUES, VERIFICATION, ONE_SHOT, TRACKING, DETECTION]
        .into_iter()
        .flatten()
}

/// The column called `name`; where there is none, one that no claim may name.
pub fn of(name: &str) -> &'static Metric {
    all().find(|metric| metric.name == name).unwrap_or(NO_METRIC)
}
