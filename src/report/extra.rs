//! The figures that a study may ask for beside its curves and final values.

use serde::Deserialize;

/// A figure that a study asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extra {
    /// L(θ, η) after each half-step, where the recipe measures it.
    HalfSteps,
    /// Where runs go, in the plane of their parameters and in that of alignment and spread.
    Trajectories,
    /// The singular spectrum of z, relative to its largest value, by index: a line for each arm.
    Spectrum,
    /// kNN accuracy against RankMe: a marker for each run, and the rank correlation over runs.
    RankAccuracy,
    /// kNN accuracy against the area under the spectrum of the features, where the recipe measures
    /// it: a marker for each run, and the rank correlation over runs.
    AreaAccuracy,
    /// kNN accuracy against the last loss: a marker for each run, and the rank correlation over
    /// runs.
    LossAccuracy,
    /// kNN accuracy against the forward passes that the E-step makes: a marker for each run.
    CostAccuracy,
    /// kNN accuracy against the views of each training image that passed with gradient: a marker
    /// for each run.
    PassesAccuracy,
    /// Arms as a grid: a column for what an arm's name has before its first comma, a row for what
    /// it has behind, and in each cell the median over runs.
    Grid,
    /// Eigenvalues of E\[z zᵀ\] along training, and how well their growth agrees with the closed
    /// form, where the recipe keeps them.
    Growth,
    /// Precision by recall of detectors, where runs fine-tune such: a line for each arm.
    PrecisionRecall,
}

impl Extra {
    /// Every one, in the order of a report.
    pub const ALL: [Extra; 11] = [
        Extra::HalfSteps,
        Extra::Trajectories,
        Extra::Spectrum,
        Extra::RankAccuracy,
        Extra::AreaAccuracy,
        Extra::LossAccuracy,
        Extra::CostAccuracy,
        Extra::PassesAccuracy,
        Extra::Grid,
        Extra::Growth,
        Extra::PrecisionRecall,
    ];

    /// Whether it draws accuracies, which images without labels have none of.
    pub fn is_of_accuracy(self) -> bool {
        matches!(
            self,
            Extra::RankAccuracy
                | Extra::AreaAccuracy
                | Extra::LossAccuracy
                | Extra::CostAccuracy
                | Extra::PassesAccuracy
        )
    }

    /// The figure's file, and its name in a study.
    pub fn name(self) -> &'static str {
        match self {
            Extra::HalfSteps => "half-steps",
            Extra::Trajectories => "trajectories",
            Extra::Spectrum => "spectrum",
            Extra::RankAccuracy => "rank-accuracy",
            Extra::AreaAccuracy => "area-accuracy",
            Extra::LossAccuracy => "loss-accuracy",
            Extra::CostAccuracy => "cost-accuracy",
            Extra::PassesAccuracy => "passes-accuracy",
            Extra::Grid => "grid",
            Extra::Growth => "growth",
            Extra::PrecisionRecall => "precision-recall",
        }
    }
}
