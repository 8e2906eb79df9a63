//! The numbers of a run that claims and tables may name: columns of metrics.csv.

/// Metrics that a claim may name, with whether larger is better and a short title with its unit.
pub const METRICS: [(&str, bool, &str); 20] = [
    ("val/knn_top1", true, "kNN top-1 (%)"),
    ("val/linear_top1", true, "linear top-1 (%)"),
    ("val/z_std", true, "std(z/‖z‖)·√d"),
    ("train/loss", false, "loss"),
    ("val/rankme", true, "RankMe"),
    ("val/z_knn_top1", true, "kNN top-1 on z (%)"),
    ("train/z_std", true, "std(z/‖z‖)·√d in training"),
    ("em/r2", true, "R² of h"),
    ("em/r2_linear", true, "R² of the best linear h"),
    ("em/alignment", false, "alignment"),
    ("em/eta_cosine", true, "cosine of η and its expectation"),
    ("em/eta_bias", false, "bias of η"),
    ("em/eta_variance", false, "variance of η"),
    ("em/eta_age", false, "age of η (steps)"),
    ("em/loss_before_e", false, "L before the E-step"),
    ("em/loss_after_e", false, "L after the E-step"),
    ("em/loss_after_m", false, "L after the M-steps"),
    ("em/e_rise", false, "largest rise of L in an E-step"),
    ("em/m_rise", false, "largest rise of L in M-steps"),
    ("train/e_passes", false, "forward passes of the E-step"),
];

/// What tables show of a run in closed form, whose outputs have another std.
pub const CLOSED_FORM: [(&str, bool, &str); 3] = [
    ("val/z_std", true, "std of outputs / start"),
    ("val/rankme", true, "RankMe of outputs"),
    ("train/loss", false, "L"),
];

/// Whether `name` is the accuracy of a classifier, in percent.
pub(super) fn is_accuracy(name: &str) -> bool {
    name.ends_with("top1")
}

/// Whether `name` is one of [`METRICS`].
pub(super) fn is_metric(name: &str) -> bool {
    METRICS.iter().any(|(metric, ..)| *metric == name)
}

/// What values a metric can have: the ends, which may be infinite.
pub(super) fn range(name: &str) -> (f64, f64) {
    match name {
        _ if is_accuracy(name) => (0.0, 100.0),
        // 1 − MSE / variance.
        "em/r2" | "em/r2_linear" => (f64::NEG_INFINITY, 1.0),
        "em/eta_cosine" => (-1.0, 1.0),
        "val/z_std" | "train/z_std" | "val/rankme" | "em/alignment" | "em/eta_age" | "train/e_passes" => {
            (0.0, f64::INFINITY)
        }
        // Losses depend on the objective, and estimates without bias leave the range of what they
        // estimate.
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    }
}
