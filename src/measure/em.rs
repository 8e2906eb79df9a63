//! The hypothesis in numbers: how much of z's variation over T the predictor removes, how far η is
//! from the expectation that it stands for. Sums in f64, in a fixed order.

mod best_linear;

use super::knn::unit_rows;
use crate::defaults::is_default;
use crate::error::{Error, Result};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicBool;

/// What is measured of the alternation itself, whenever kNN is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmConfig {
    /// Images of each measurement: held-out ones for the predictor, training ones for the
    /// objective.
    pub images: usize,
    /// Views of each image by which E_T is estimated; of a finite T all are taken instead.
    pub views: usize,
    /// Whether the η that trains is compared with the exact one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub eta: bool,
    /// Whether L(θ, η) is taken before and after every half-step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective: bool,
    /// Whether θ is kept at every measurement.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trajectory: bool,
    /// Random directions by which the field of the update is measured; 0: it is not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub field: usize,
    /// Whether the effective ranks of p and η are taken, the `em/rank_` columns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ranks: bool,
    /// Whether the eigenvalues of E\[z zᵀ\] are kept at every measurement, and their spread is
    /// `em/log_spread`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub eigenvalues: bool,
}

/// More images or views are taken for a slip of the hand.
const MOST: usize = 1 << 16;
/// A variance of rows of unit length that rounding to f32 alone makes: collapsed outputs have none
/// to remove.
const ROUNDING: f64 = 1e-12;
/// Views that two halves with a variance each have at least.
const LEAST_VIEWS: usize = 4;
/// Directions that an error of the field's share needs, and as many as are held in memory at most.
const DIRECTIONS: std::ops::RangeInclusive<usize> = 3..=64;

impl EmConfig {
    /// Refuses numbers of images and views with which there is no variation to measure.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        for (key, value, least) in [("images", self.images, 2), ("views", self.views, LEAST_VIEWS)] {
            if !(least..=MOST).contains(&value) {
                let message = format!("measure.em.{key}: {value} must be between {least} and {MOST}");
                return Err(Error::Usage(message));
            }
        }
        if self.field > 0 && !DIRECTIONS.contains(&self.field) {
            let (least, most, field) = (DIRECTIONS.start(), DIRECTIONS.end(), self.field);
            return Err(Error::Usage(format!("measure.em.field: {field} must be 0, or {least} to {most}")));
        }
        Ok(())
    }
}

/// What a predictor does to the variation over T, for rows of unit length ẑ = z/‖z‖ and p̂ =
/// h(z)/‖h(z)‖.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictorGap {
    /// R² = 1 − E‖p̂ − E_T ẑ‖² / E‖ẑ − E_T ẑ‖²: 1 where h gives the expectation, 0 for the
    /// identity.
    pub r2: f64,
    /// R² of the best affine map of ẑ, judged on images that it was not fitted to, its output
    /// scaled to unit length as p̂ is: what a linear h could reach. It falls below 0, the
    /// identity's R², by the noise of a few images only.
    pub r2_linear: f64,
    /// E‖ẑ₁ − ẑ₂‖² of two views of an image (alignment with α = 2, Wang & Isola 2020).
    pub alignment: f64,
}

/// Measures outputs `z` and predictions `p`, (N · `views`, d), image by image.
///
/// `exact` where the views are all of T. Otherwise E_T is known by the mean over an image's other
/// views only, whose own variance is taken off: no number here depends on how many views there are,
/// but for its noise.
///
/// # Errors
/// [`Error::Failure`] for outputs that are not finite;
/// [`Error::Stopped`] once `stop` is set.
pub fn predictor_gap(
    z: ArrayView2<f32>,
    p: ArrayView2<f32>,
    views: usize,
    exact: bool,
    stop: &AtomicBool,
) -> Result<PredictorGap> {
    let (z, p) = (unit_rows(z).mapv(f64::from), unit_rows(p).mapv(f64::from));
    let whole = Spread::of(&z, views, exact);
    // Outputs that do not vary have nothing to fit.
    let r2_linear = if whole.variance < ROUNDING {
        f64::NAN
    } else {
        whole.r2(&best_linear::guesses(&z, views, exact, stop)?)
    };
    Ok(PredictorGap { r2: whole.r2(&p), r2_linear, alignment: 2.0 * whole.variance })
}

/// Outputs of images under several views each, and what is known of their expectation.
struct Spread {
    /// What each row is to be compared with: the image's mean, or that of its other rows.
    expected: Array2<f64>,
    /// E‖ẑ − E_T ẑ‖².
    variance: f64,
    /// The variance of a row of `expected`.
    noise: f64,
}

impl Spread {
    fn of(z: &Array2<f64>, views: usize, exact: bool) -> Spread {
        let (rows, n) = (z.nrows() as f64, views as f64);
        let mut expected = Array2::zeros(z.dim());
        let mut within = 0.0;
        for (image, mut expected) in
            z.axis_chunks_iter(Axis(0), views).zip(expected.axis_chunks_iter_mut(Axis(0), views))
        {
            let sum: Array1<f64> = image.sum_axis(Axis(0));
            for (row, mut expected) in image.axis_iter(Axis(0)).zip(expected.axis_iter_mut(Axis(0))) {
                within += (&row - &(&sum / n)).mapv(|v| v * v).sum();
                expected.assign(&if exact { &sum / n } else { (&sum - &row) / (n - 1.0) });
            }
        }
        let variance = within / if exact { rows } else { rows * (n - 1.0) / n };
        Spread { expected, variance, noise: if exact { 0.0 } else { variance / (n - 1.0) } }
    }

    /// R² of `guess` of the expectation, row by row.
    fn r2(&self, guess: &Array2<f64>) -> f64 {
        if self.variance < ROUNDING {
            return f64::NAN;
        }
        let error = (guess - &self.expected).mapv(|v| v * v).sum() / guess.nrows() as f64 - self.noise;
        1.0 - error / self.variance
    }
}

/// How far the η that trains is from the exact one, μ_x = E_T[F_θ(T(x))], as multiples of the
/// variance of one sample, E‖F_θ(T(x)) − μ_x‖².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EtaGap {
    /// Mean cosine of η and μ.
    pub cosine: f64,
    /// E‖E[η] − μ‖² of an image: what averaging over draws would leave. None without a second draw.
    pub bias: Option<f64>,
    /// E‖η − E[η]‖² of an image: the luck of the draws. None without a second draw.
    pub variance: Option<f64>,
}

/// Compares `eta` (B, d), and a `second` draw of it, with the mean of `samples`, (B, d) each, of
/// the same images.
///
/// `exact` where the samples are all of T. Two draws with one expectation tell bias from variance
/// without it: E⟨η − μ, η′ − μ⟩ is the bias, ½E‖η − η′‖² the variance.
pub fn eta_gap(
    eta: ArrayView2<f32>,
    second: Option<ArrayView2<f32>>,
    samples: &[Array2<f32>],
    exact: bool,
) -> EtaGap {
    let wide = |a: ArrayView2<f32>| a.mapv(f64::from);
    let (rows, n) = (eta.nrows() as f64, samples.len() as f64);
    let mut mean = Array2::<f64>::zeros(eta.dim());
    samples.iter().for_each(|sample| mean += &wide(sample.view()));
    mean /= n;
    let square = |a: &Array2<f64>| a.mapv(|v| v * v).sum() / rows;
    let spread: f64 = samples.iter().map(|sample| square(&(wide(sample.view()) - &mean))).sum();
    let variance = spread / if exact { n } else { n - 1.0 };
    let (unit_eta, unit_mean) = (unit_rows(eta), unit_rows(mean.mapv(|v| v as f32).view()));
    let cosine =
        unit_eta.iter().zip(&unit_mean).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / rows;
    let eta = wide(eta);
    let parts = second.map(wide).map(|second| {
        let product = ((&eta - &mean) * (&second - &mean)).sum() / rows;
        // The mean of n samples is itself off by variance / n.
        let known = if exact { 0.0 } else { variance / n };
        ((product - known) / variance, 0.5 * square(&(&eta - &second)) / variance)
    });
    EtaGap { cosine, bias: parts.map(|p| p.0), variance: parts.map(|p| p.1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    const DIM: usize = 6;

    fn predictor_gap(
        z: ArrayView2<f32>,
        p: ArrayView2<f32>,
        views: usize,
        exact: bool,
    ) -> Result<PredictorGap> {
        super::predictor_gap(z, p, views, exact, &AtomicBool::new(false))
    }

    /// `images` Gaussian means with `views` noisy copies each, image by image: (means repeated,
    /// copies).
    fn world(images: usize, views: usize, noise: f32) -> (Array2<f32>, Array2<f32>) {
        let mut rng = stream(0, Purpose::Test, 0, 0);
        let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
        let means = Array2::from_shape_simple_fn((images, DIM), &mut normal);
        let repeated = Array2::from_shape_fn((images * views, DIM), |(row, j)| means[[row / views, j]]);
        let copies = &repeated + &(noise * Array2::from_shape_simple_fn(repeated.dim(), &mut normal));
        (repeated, copies)
    }

    #[test]
    fn the_identity_has_no_r2_and_the_expectation_all_of_it() {
        let (_, z) = world(40, 5, 0.3);
        let unit = unit_rows(z.view());
        for exact in [true, false] {
            let floor = predictor_gap(z.view(), z.view(), 5, exact).unwrap();
            assert!(floor.r2.abs() < 1e-6, "{floor:?}");
            // Noise is the same in all directions, so that no linear map is better.
            assert!(floor.r2_linear.abs() < 0.2, "{floor:?}");
        }
        // p̂ has unit length and the mean of unit vectors has not: (1 − m)/(1 + m) is left of it,
        // with m = ‖μ‖.
        let means: Vec<Array1<f32>> =
            unit.axis_chunks_iter(Axis(0), 5).map(|image| image.mean_axis(Axis(0)).unwrap()).collect();
        let p = Array2::from_shape_fn(z.dim(), |(row, j)| means[row / 5][j]);
        let gap = predictor_gap(z.view(), p.view(), 5, true).unwrap();
        let length = |m: &Array1<f32>| f64::from(m.dot(m)).sqrt();
        let left: f64 = means.iter().map(|m| (1.0 - length(m)).powi(2)).sum();
        let all: f64 = means.iter().map(|m| 1.0 - length(m).powi(2)).sum();
        assert!((gap.r2 - (1.0 - left / all)).abs() < 1e-5, "{gap:?}");
    }

    #[test]
    fn collapsed_outputs_have_no_r2() {
        let z = Array2::from_shape_fn((20, DIM), |(_, j)| j as f32 + 1.0);
        for exact in [true, false] {
            let gap = predictor_gap(z.view(), z.view(), 4, exact).unwrap();
            assert!(gap.r2.is_nan() && gap.r2_linear.is_nan() && gap.alignment < 1e-11, "{gap:?}");
        }
    }

    #[test]
    fn few_samples_give_the_numbers_of_many() {
        // 4,000 images: the mean of their errors is known to about a percent.
        let gap = |views: usize| {
            let (means, z) = world(4000, views, 0.3);
            predictor_gap(z.view(), means.view(), views, false).unwrap()
        };
        let (few, many) = (gap(3), gap(24));
        assert!((few.r2 - many.r2).abs() < 0.03, "{few:?} {many:?}");
        assert!((few.alignment / many.alignment - 1.0).abs() < 0.05, "{few:?} {many:?}");
    }

    #[test]
    fn two_draws_tell_bias_from_variance() {
        let images = 4000;
        let (means, _) = world(images, 1, 0.0);
        let mut rng = stream(1, Purpose::Test, 0, 0);
        let mut noise = |scale: f32| {
            let mut normal = || -> f32 { StandardNormal.sample(&mut rng) };
            scale * Array2::from_shape_simple_fn((images, DIM), &mut normal)
        };
        let samples: Vec<Array2<f32>> = (0..16).map(|_| &means + &noise(1.0)).collect();
        // Old by a shift of 0.5 in every coordinate, and half as noisy: bias 0.25, variance 0.25 of
        // a sample's.
        let mut old = || &means + 0.5 + &noise(0.5);
        let (eta, second) = (old(), old());
        let gap = eta_gap(eta.view(), Some(second.view()), &samples, false);
        assert!((gap.bias.unwrap() - 0.25).abs() < 0.02, "{gap:?}");
        assert!((gap.variance.unwrap() - 0.25).abs() < 0.02, "{gap:?}");
        let fresh = eta_gap(samples[0].view(), Some(samples[1].view()), &samples, true);
        assert!(fresh.bias.unwrap().abs() < 0.1 && (fresh.variance.unwrap() - 1.0).abs() < 0.1, "{fresh:?}");
        assert!(eta_gap(eta.view(), None, &samples, true).bias.is_none());
    }
}
