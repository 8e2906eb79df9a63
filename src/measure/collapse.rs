//! How far from collapse an output is: std of z/‖z‖ (Fig. 2), effective rank (RankMe, Garrido et
//! al. 2023) and the singular spectrum (Li et al. 2022). Sums in f64.

use ndarray::{Array2, ArrayView2, Axis};

/// Singular values of f32 outputs below this share of the largest are not told apart.
const SMALLEST_SHARE: f64 = 1e-5;

/// The mean over dimensions of the unbiased standard deviation of z/‖z‖, for z (B, d).
///
/// Times √d it is 1 for an isotropic Gaussian and 0 at collapse. Undefined (NaN) for one row.
pub fn std(z: ArrayView2<f32>) -> f64 {
    let unit = super::knn::unit_rows(z);
    let rows = unit.nrows() as f64;
    let of_column = |column: ndarray::ArrayView1<f32>| {
        let mean = column.iter().map(|v| f64::from(*v)).sum::<f64>() / rows;
        let sum = column.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
        (sum / (rows - 1.0)).sqrt()
    };
    unit.axis_iter(Axis(1)).map(of_column).sum::<f64>() / unit.ncols() as f64
}

/// The singular values of z (N, d), min(N, d) of them, largest first.
///
/// From the eigenvalues of the smaller Gram matrix in f64: values below about 1e-7 of the largest
/// are rounding noise.
pub fn singular_values(z: ArrayView2<f32>) -> Vec<f64> {
    let z = z.mapv(f64::from);
    let gram: Array2<f64> = if z.nrows() < z.ncols() { z.dot(&z.t()) } else { z.t().dot(&z) };
    let n = gram.nrows();
    let matrix = nalgebra::DMatrix::from_fn(n, n, |i, j| gram[[i, j]]);
    let mut values: Vec<f64> =
        matrix.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// RankMe: exp of the entropy of the singular values divided by their sum. Between 1 and their
/// number; 0 when all are zero.
pub fn rankme(singular_values: &[f64]) -> f64 {
    let sum: f64 = singular_values.iter().sum();
    if sum <= 0.0 {
        return 0.0;
    }
    let entropy: f64 =
        singular_values.iter().map(|s| s / sum).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

/// The area under the cumulative sum of the singular values, each divided by the sum of all: 1/D
/// Σ_k Σ_{i≤k} σ_i / Σσ (Li, Efros & Pathak 2022). 1 where one direction has all, (D + 1) / 2D
/// where all D have the same; NaN where all are 0.
pub fn area(singular_values: &[f64]) -> f64 {
    let sum: f64 = singular_values.iter().sum();
    let (mut so_far, mut area) = (0.0, 0.0);
    for value in singular_values {
        so_far += value / sum;
        area += so_far;
    }
    area / singular_values.len() as f64
}

/// z (N, d) with the mean of its rows taken out.
pub fn centred(z: ArrayView2<f32>) -> Array2<f32> {
    let mean = z.mapv(f64::from).mean_axis(Axis(0)).unwrap_or_default();
    let mean = mean.mapv(|value| value as f32);
    &z - &mean
}

/// The standard deviation of the logarithms of the squares of singular values, those below a
/// hundred-thousandth of the largest counted as that much: they are rounding noise. NaN where all
/// are 0.
pub fn log_spread(singular_values: &[f64]) -> f64 {
    let largest = singular_values.iter().fold(0.0, |largest: f64, s| largest.max(*s));
    if largest <= 0.0 {
        return f64::NAN;
    }
    let logs: Vec<f64> =
        singular_values.iter().map(|s| 2.0 * (s / largest).max(SMALLEST_SHARE).ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / logs.len() as f64).sqrt()
}

/// RankMe of the directions of x (N, d), its rows divided by their lengths: all of x that a cosine
/// sees. NaN where a number is not finite.
pub fn direction_rank(x: ArrayView2<f32>) -> f64 {
    match x.iter().all(|value| value.is_finite()) {
        true => rankme(&singular_values(super::knn::unit_rows(x).view())),
        false => f64::NAN,
    }
}

/// log E exp(−2‖ẑ − ẑ′‖²) over pairs of different rows of z (N, d), ẑ = z/‖z‖ (Wang & Isola 2020):
/// 0 where all are the same, near −4 where they are spread evenly over the sphere in many
/// dimensions. Unlike the std it tells two points (−0.69) from a sphere. NaN for fewer than two
/// rows.
pub fn uniformity(z: ArrayView2<f32>) -> f64 {
    let unit = super::knn::unit_rows(z).mapv(f64::from);
    let cosines = unit.dot(&unit.t());
    let rows = unit.nrows();
    let row = |i: usize| (0..i).map(|j| (-4.0 * (1.0 - cosines[[i, j]])).exp()).sum::<f64>();
    let pairs = (rows * rows.saturating_sub(1)) as f64 / 2.0;
    ((0..rows).map(row).sum::<f64>() / pairs).ln()
}

/// std of z/‖z‖ times √d of held-out images below which outputs have collapsed. Runs that learn
/// stay above 0.78, those without batch norm in the heads at 0.2; runs without stop-gradient end
/// below 0.03 (laptop scale, the paper's studies, seeds 0 and 1).
pub const COLLAPSED_STD: f64 = 0.1;
/// RankMe below which outputs have collapsed, whatever their std is: it reaches 1 where outputs lie
/// at two points. Runs that learn stay above 6 there. Some that learn little lie close to it: with
/// a predictor that stays random at 2.9 and 3.5, with a memory bank at 2.9.
pub const COLLAPSED_RANK: f64 = 3.0;

/// Whether held-out outputs (N, d) with this std of z/‖z‖ times √d and this RankMe are as good as
/// constant, or lie at a few points.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use ndarray::Array2;
/// use simsiam_em::measure::collapse::{is_collapsed, rankme, singular_values, std};
///
/// // Outputs at two opposite points have a large std and say one bit.
/// let z = Array2::from_shape_fn((64, 16), |(row, _)| if row % 2 == 0 { 1f32 } else { -1f32 });
/// let (z_std, rank) = (std(z.view()) * 16f64.sqrt(), rankme(&singular_values(z.view())));
/// assert!(z_std > 0.9 && rank < 1.01 && is_collapsed(z_std, rank, 16));
/// # Ok(())
/// # }
/// ```
pub fn is_collapsed(z_std: f64, rankme: f64, dim: usize) -> bool {
    z_std < COLLAPSED_STD || rankme < COLLAPSED_RANK.min(dim as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn equal_rows_have_no_spread_and_rank_one() {
        let z = array![[1.0f32, 2.0], [2.0, 4.0], [0.5, 1.0]];
        assert!(std(z.view()) < 1e-7);
        assert!((rankme(&singular_values(z.view())) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_area_says_how_few_directions_have_most() {
        assert!((area(&[3.0, 0.0, 0.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((area(&[2.0; 4]) - 5.0 / 8.0).abs() < 1e-12);
        // (0.5 + 0.75 + 1) / 3
        assert!((area(&[2.0, 1.0, 1.0]) - 0.75).abs() < 1e-12);
        assert!(area(&[0.0, 0.0]).is_nan());
        let z = array![[1.0f32, 2.0], [3.0, 2.0], [2.0, 5.0]];
        assert_eq!(centred(z.view()), array![[-1.0f32, -1.0], [1.0, -1.0], [0.0, 2.0]]);
    }

    #[test]
    fn an_orthogonal_matrix_has_full_rank() {
        let z = array![[0.0f32, 3.0], [-3.0, 0.0]];
        let values = singular_values(z.view());
        assert!((values[0] - 3.0).abs() < 1e-9 && (values[1] - 3.0).abs() < 1e-9);
        assert!((rankme(&values) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_spread_of_logarithms_sees_no_scale_and_has_a_floor() {
        // log s² of 1 and e²: 0 and 4, whose standard deviation is 2.
        for scale in [1.0, 1e-3] {
            assert!((log_spread(&[scale * 2f64.exp(), scale]) - 2.0).abs() < 1e-9);
        }
        assert_eq!(log_spread(&[1.0, 0.0]), log_spread(&[1.0, 1e-9]));
        assert_eq!(log_spread(&[3.0, 3.0, 3.0]), 0.0);
        assert!(log_spread(&[0.0, 0.0]).is_nan());
    }

    #[test]
    fn the_rank_of_directions_sees_no_lengths() {
        let x = array![[0.0f32, 30.0], [-0.1, 0.0]];
        assert!((direction_rank(x.view()) - 2.0).abs() < 1e-6);
        assert!(rankme(&singular_values(x.view())) < 1.1, "lengths count in RankMe of x itself");
        assert!(direction_rank(array![[f32::NAN, 1.0]].view()).is_nan());
    }

    #[test]
    fn uniformity_is_that_of_its_formula() {
        let same = array![[1.0f32, 2.0], [2.0, 4.0], [0.5, 1.0]];
        assert!(uniformity(same.view()).abs() < 1e-6);
        // Of six pairs two are equal and four opposite, at a squared distance of 4.
        let points = array![[1.0f32, 0.0], [-1.0, 0.0], [2.0, 0.0], [-3.0, 0.0]];
        let expected = ((2.0 + 4.0 * (-8f64).exp()) / 6.0).ln();
        assert!((uniformity(points.view()) - expected).abs() < 1e-9);
        // Right angles alone: every pair at a squared distance of 2.
        let axes = array![[1.0f32, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]];
        assert!((uniformity(axes.view()) + 4.0).abs() < 1e-9);
        assert!(uniformity(axes.slice(ndarray::s![..1, ..])).is_nan());
    }

    #[test]
    fn tall_and_wide_matrices_have_the_same_spectrum() {
        let z = array![[1.0f32, 2.0, -1.0], [0.5, 0.0, 3.0]];
        let (tall, wide) = (singular_values(z.t()), singular_values(z.view()));
        assert!(tall.iter().zip(&wide).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}
