//! The plane in which a set of points lies best: where runs go in the space of their parameters.

use ndarray::{Array2, Axis};

/// Points in the plane of their two largest principal components.
#[derive(Clone, Debug)]
pub struct Plane {
    /// (n, 2), around their mean.
    pub places: Array2<f64>,
    /// The share of all variance along each of the two.
    pub shares: [f64; 2],
}

/// The plane of `points` (n, P); none for fewer than two points or where all are equal.
///
/// From the Gram matrix of the n points, because P is large. An axis may point either way: here the
/// first point lies on its negative side.
pub fn principal_plane(points: &Array2<f32>) -> Option<Plane> {
    let points = points.mapv(f64::from);
    let n = points.nrows();
    let centred = &points - &points.mean_axis(Axis(0))?;
    let gram = centred.dot(&centred.t());
    let eigen = nalgebra::DMatrix::from_fn(n, n, |i, j| gram[[i, j]]).symmetric_eigen();
    let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
    if n < 2 || total <= 0.0 || !total.is_finite() {
        return None;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let axis = |rank: usize| {
        let value = eigen.eigenvalues[order[rank]].max(0.0);
        let vector = eigen.eigenvectors.column(order[rank]);
        let sign = if vector[0] > 0.0 { -1.0 } else { 1.0 };
        (value, (0..n).map(move |i| sign * vector[i] * value.sqrt()).collect::<Vec<f64>>())
    };
    let ((a, x), (b, y)) = (axis(0), axis(1));
    let places = Array2::from_shape_fn((n, 2), |(i, j)| if j == 0 { x[i] } else { y[i] });
    Some(Plane { places, shares: [a / total, b / total] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_a_plane_keep_their_distances() {
        // Two directions of seven dimensions, at right angles.
        let at = |a: f32, b: f32| [a, b, 0.0, a, -b, 0.0, 0.0];
        let rows = [at(0.0, 0.0), at(3.0, 0.5), at(-2.0, 1.0), at(5.0, -2.0)];
        let points = Array2::from_shape_fn((4, 7), |(i, j)| rows[i][j]);
        let plane = principal_plane(&points).unwrap();
        assert!((plane.shares[0] + plane.shares[1] - 1.0).abs() < 1e-9, "{plane:?}");
        assert!(plane.places[[0, 0]] <= 0.0 && plane.places[[0, 1]] <= 0.0);
        for i in 0..4 {
            for j in 0..i {
                let far = (&points.row(i) - &points.row(j)).mapv(f64::from).mapv(|v| v * v).sum();
                let near = (&plane.places.row(i) - &plane.places.row(j)).mapv(|v| v * v).sum();
                assert!((far - near).abs() < 1e-6 * far, "{i} {j}: {far} {near}");
            }
        }
        assert!(principal_plane(&Array2::zeros((3, 2))).is_none());
    }
}
