//! LARS: a rate for each layer, which batches of thousands need (SimCLR, BYOL, SwAV; the paper's linear evaluation).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Layer-wise adaptive rates (You, Gitman & Ginsburg 2017): s = trust · ‖θₗ‖ / (‖gₗ‖ + λ‖θₗ‖) for each layer l.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LarsConfig {
    /// 0.001 in every paper that uses it here.
    pub trust: f64,
}

/// Numbers per task.
const CHUNK: usize = 1 << 16;

impl LarsConfig {
    /// s of one layer; 1 where its weights or its gradient are zero, as nothing could be learned otherwise.
    pub(super) fn rate(&self, theta: &[f32], gradient: &[f32], decay: f64) -> f64 {
        let (theta, gradient) = (norm(theta), norm(gradient));
        if theta > 0.0 && gradient > 0.0 { self.trust * theta / (gradient + decay * theta) } else { 1.0 }
    }
}

/// ‖x‖, summed in f64 over fixed chunks, so that threads do not change it.
fn norm(x: &[f32]) -> f64 {
    let squares = |chunk: &[f32]| chunk.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let sums: Vec<f64> = x.par_chunks(CHUNK).map(squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lars_leaves_a_layer_of_zeros_its_gradient() {
        let lars = LarsConfig { trust: 0.01 };
        assert_eq!(lars.rate(&[0.0, 0.0], &[1.0, 2.0], 0.1), 1.0);
        assert_eq!(lars.rate(&[1.0, 2.0], &[0.0, 0.0], 0.1), 1.0);
    }
}
