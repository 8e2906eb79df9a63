//! How far a linear predictor is from what papers expect of it: the identity (Wen & Li 2022), an
//! orthogonal projection (Richemond et al. 2023). Sums in f64.

use ndarray::{Array2, ArrayView2};

/// ‖W − diag W‖ / ‖diag W‖ in Frobenius norm, of W (d, d): 0 for a diagonal W. Infinite where only
/// the diagonal is 0.
pub fn off_diagonal(w: ArrayView2<f64>) -> f64 {
    let all: f64 = w.iter().map(|value| value * value).sum();
    let diagonal: f64 = w.diag().iter().map(|value| value * value).sum();
    ((all - diagonal).max(0.0) / diagonal).sqrt()
}

/// ‖W² − W‖ / ‖W‖ in Frobenius norm, of W (d, d): 0 for a projection. NaN for W = 0.
pub fn from_projection(w: ArrayView2<f64>) -> f64 {
    let norm = |m: &Array2<f64>| m.iter().map(|value| value * value).sum::<f64>().sqrt();
    norm(&(w.dot(&w) - w)) / norm(&w.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_identity_and_projections_are_at_no_distance() {
        let identity = array![[1.0, 0.0], [0.0, 1.0]];
        assert_eq!([off_diagonal(identity.view()), from_projection(identity.view())], [0.0, 0.0]);
        // On the line of (1, 1), which is far from diagonal.
        let line = array![[0.5, 0.5], [0.5, 0.5]];
        assert_eq!([off_diagonal(line.view()), from_projection(line.view())], [1.0, 0.0]);
        // (2W)² − 2W = 4W − 2W for a projection W.
        assert_eq!(from_projection((line * 2.0).view()), 1.0);
        let rotated = array![[3.0, 4.0], [0.0, 4.0]];
        assert!((off_diagonal(rotated.view()) - 0.8).abs() < 1e-12);
    }
}
