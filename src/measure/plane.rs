//! The plane in which a set of points lies best: where runs go in the space of their parameters,
//! where images lie in that of their features.

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
/// From the smaller of the points' Gram matrix (n, n) and their scatter matrix (P, P). An axis may
/// point either way: here the first point lies on its negative side.
pub fn principal_plane(points: &Array2<f32>) -> Option<Plane> {
    let points = points.mapv(f64::from);
    let n = points.nrows();
    let centred = &points - &points.mean_axis(Axis(0))?;
    let wide = n <= points.ncols();
    let gram = if wide { centred.dot(&centred.t()) } else { centred.t().dot(&centred) };
    let side = gram.nrows();
    let eigen = nalgebra::DMatrix::from_fn(side, side, |i, j| gram[[i, j]]).symmetric_eigen();
    let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
    if n < 2 || side < 2 || total <= 0.0 || !total.is_finite() {
        return None;
    }
    let mut order: Vec<usize> = (0..side).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let axis = |rank: usize| {
        let value = eigen.eigenvalues[order[rank]].max(0.0);
        let vector = eigen.eigenvectors.column(order[rank]);
        let along: Vec<f64> = match wide {
            true => vector.iter().map(|v| v * value.sqrt()).collect(),
            false => centred
                .rows()
                .into_iter()
                .map(|row| row.iter().zip(&vector).map(|(a, b)| a * b).sum())
                .collect(),
        };
        let sign = if along[0] > 0.0 { -1.0 } else { 1.0 };
        (value, along.into_iter().map(|place| sign * place).collect::<Vec<f64>>())
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

    #[test]
    fn many_points_and_many_dimensions_have_the_same_plane() {
        let points = Array2::from_shape_fn((5, 4), |(i, j)| ((3 * i * i + 7 * j * i + j) % 11) as f32);
        // Dimensions in which nothing lies make the matrix of the points the smaller one.
        let padded = Array2::from_shape_fn((5, 9), |(i, j)| if j < 4 { points[[i, j]] } else { 0.0 });
        let (tall, wide) = (principal_plane(&points).unwrap(), principal_plane(&padded).unwrap());
        assert!((&tall.places - &wide.places).iter().all(|v| v.abs() < 1e-9), "{tall:?} {wide:?}");
        assert!((tall.shares[1] - wide.shares[1]).abs() < 1e-9);
    }
}
