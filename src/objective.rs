//! What the M-step minimises: D(p, η) averaged over images and views (Sec. 3, eq. 1 and 2; Sec. 4.5).
//!
//! Tensors in, scalar out. Whether a gradient reaches η is not decided here: the E-step hands η over
//! already detached (or not, for the baseline without stop-gradient).

use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The dissimilarity D and how often it is taken per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// D.
    pub similarity: Similarity,
    /// ½D(p₁, η₂) + ½D(p₂, η₁) when true, D(p₁, η₂) when false (Sec. 4.6).
    pub symmetric: bool,
}

/// D(p, η).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// −cos(p, η), between −1 and 1 (eq. 1).
    Cosine,
    /// −softmax(η)·log softmax(p) (Sec. 4.5).
    CrossEntropy,
    /// ‖p/‖p‖ − η/‖η‖‖² = 2 − 2 cos(p, η): the cosine up to constants.
    Mse,
}

impl ObjectiveConfig {
    /// Every value is valid; kept so that each part of a recipe is checked in the same way.
    pub fn check(&self) -> Result<()> {
        Ok(())
    }
}
