//! Terms that keep outputs apart without a predictor: the variance and covariance of VICReg
//! (Bardes, Ponce & LeCun 2022) and SIGReg (Balestriero & LeCun 2025). Each is about z itself,
//! before h, and a mean over the views; VICReg's sums over its two views are twice that.

use crate::defaults::is_default;
use crate::error::{Error, Result};
use crate::rng::{Purpose, stream};
use candle_core::{Device, Tensor};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// Weights of the terms beside D; 0 leaves a term out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpreadConfig {
    /// Of the hinge on the standard deviation of each output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub variance: f64,
    /// Of the squared covariances of two outputs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub covariance: f64,
    /// Of the distance of projections of z from a standard normal distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sigreg: f64,
    /// Projections of a step; only with `sigreg`.
    #[serde(default = "slices", skip_serializing_if = "is_slices")]
    pub slices: usize,
}

/// No term.
impl Default for SpreadConfig {
    fn default() -> Self {
        Self { variance: 0.0, covariance: 0.0, sigreg: 0.0, slices: SLICES }
    }
}

/// LeJEPA's small example has as many.
const SLICES: usize = 256;
/// More projections are taken for a slip of the hand.
const MOST_SLICES: usize = 1 << 14;

fn slices() -> usize {
    SLICES
}

fn is_slices(count: &usize) -> bool {
    *count == SLICES
}

/// Under the root of the variance, so that its gradient stays finite at collapse (VICReg).
const VARIANCE_EPSILON: f64 = 1e-4;

/// Knots of the characteristic function, on [0, 3]; it is even in t, so that the weights are
/// doubled (LeJEPA).
const KNOTS: usize = 17;
const LAST_KNOT: f64 = 3.0;

impl SpreadConfig {
    /// Refuses weights below 0, and terms without any.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("objective.spread{key}: {what}")));
        let weights =
            [(".variance", self.variance), (".covariance", self.covariance), (".sigreg", self.sigreg)];
        for (key, weight) in weights {
            if !(weight >= 0.0 && weight.is_finite()) {
                return fail(key, format!("{weight} must be a number of at least 0"));
            }
        }
        if weights.iter().all(|(_, weight)| *weight == 0.0) {
            return fail("", "at least one of variance, covariance and sigreg is above 0".into());
        }
        if !(1..=MOST_SLICES).contains(&self.slices) {
            return fail(".slices", format!("{} must be between 1 and {MOST_SLICES}", self.slices));
        }
        if self.slices != SLICES && self.sigreg == 0.0 {
            return fail(".slices", "only sigreg, which is 0, projects".into());
        }
        Ok(())
    }

    /// The directions of a step, (d, M), each of length 1 and independent of the others; none
    /// without SIGReg.
    ///
    /// # Errors
    /// [`Error::Device`] where a GPU fails.
    pub fn directions(&self, seed: u64, step: u64, dim: usize, device: &Device) -> Result<Option<Tensor>> {
        if self.sigreg == 0.0 {
            return Ok(None);
        }
        let mut rng = stream(seed, Purpose::Slices, step, 0);
        let mut values = vec![0f32; dim * self.slices];
        for slice in 0..self.slices {
            let normal: Vec<f64> = (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect();
            let length = normal.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (row, x) in normal.iter().enumerate() {
                values[row * self.slices + slice] = (x / length) as f32;
            }
        }
        Ok(Some(Tensor::from_vec(values, (dim, self.slices), device)?))
    }

    /// About how many numbers the terms and their gradients make of `rows` outputs of `dim`
    /// numbers.
    pub fn floats(&self, rows: usize, dim: usize) -> usize {
        let covariances = if self.covariance > 0.0 { 6 * dim * dim } else { 0 };
        let projections = if self.sigreg > 0.0 { 6 * (KNOTS - 1) * rows * self.slices } else { 0 };
        4 * rows * dim + covariances + projections
    }

    /// What is added to D for the outputs z (V, B, d), B at least 2: a scalar. `directions` are
    /// those of [`SpreadConfig::directions`].
    ///
    /// # Errors
    /// [`Error::Tensor`] where the shapes differ.
    pub fn loss(&self, z: &Tensor, directions: Option<&Tensor>) -> Result<Tensor> {
        let mut sum = Tensor::zeros((), z.dtype(), z.device())?;
        if self.variance > 0.0 {
            sum = (sum + (variance(z)? * self.variance)?)?;
        }
        if self.covariance > 0.0 {
            sum = (sum + (covariance(z)? * self.covariance)?)?;
        }
        if let Some(directions) = directions {
            sum = (sum + (sigreg(z, directions)? * self.sigreg)?)?;
        }
        Ok(sum)
    }
}

/// The mean over views and outputs of max(0, 1 − √(Var z_j + 1e-4)), the variance with B − 1.
fn variance(z: &Tensor) -> Result<Tensor> {
    let (_, batch, _) = z.dims3()?;
    let centred = z.broadcast_sub(&z.mean_keepdim(1)?)?;
    let variance = (centred.sqr()?.sum(1)? * (1.0 / (batch - 1) as f64))?;
    let std = (variance + VARIANCE_EPSILON)?.sqrt()?;
    Ok((std.neg()? + 1.0)?.relu()?.mean_all()?)
}

/// The mean over views of 1/d Σ C_ij², i ≠ j, C the covariance with B − 1.
fn covariance(z: &Tensor) -> Result<Tensor> {
    let (views, batch, dim) = z.dims3()?;
    let centred = z.broadcast_sub(&z.mean_keepdim(1)?)?;
    let all = (centred.transpose(1, 2)?.contiguous()?.matmul(&centred)? * (1.0 / (batch - 1) as f64))?;
    let own = (centred.sqr()?.sum(1)? * (1.0 / (batch - 1) as f64))?;
    Ok(((all.sqr()?.sum_all()? - own.sqr()?.sum_all()?)? * (1.0 / (views * dim) as f64))?)
}

/// The mean over views and directions of B ∫ |ê(t) − φ(t)|² φ(t) dt, ê the empirical characteristic
/// function of a direction's projections and φ(t) = exp(−t²/2): the statistic of Epps & Pulley, by
/// the trapezoid rule. About 1.05 for standard normal z, at any B; 0.40 B at collapse to 0.
fn sigreg(z: &Tensor, directions: &Tensor) -> Result<Tensor> {
    let (views, batch, dim) = z.dims3()?;
    let slices = directions.dim(1)?;
    let projected = z.reshape((views * batch, dim))?.matmul(directions)?.reshape((views, batch, slices))?;
    let mut sum = Tensor::zeros((views, slices), z.dtype(), z.device())?;
    for (t, weight) in knots() {
        let at = (&projected * t)?;
        let normal = (-0.5 * t * t).exp();
        let real = (at.cos()?.mean(1)? - normal)?.sqr()?;
        let imaginary = at.sin()?.mean(1)?.sqr()?;
        sum = (sum + ((real + imaginary)? * (weight * normal))?)?;
    }
    Ok((sum.mean_all()? * batch as f64)?)
}

/// Each knot t above 0 with its weight, dt at the last and 2 dt before it. At t = 0 both functions
/// are 1, whatever z is.
fn knots() -> impl Iterator<Item = (f64, f64)> {
    let dt = LAST_KNOT / (KNOTS - 1) as f64;
    (1..KNOTS).map(move |i| (i as f64 * dt, if i == KNOTS - 1 { dt } else { 2.0 * dt }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// Two views of four outputs.
    fn outputs() -> Tensor {
        let values = [
            [0.5f32, -1.0, 0.25, 1.5, 0.0, -0.75, -0.5, 0.5, 2.0, 0.0, 1.0, 0.5],
            [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8, 0.9, 0.2, 0.0, -0.1],
        ];
        Tensor::from_slice(&values.concat(), (2, 4, 3), &Device::Cpu).unwrap()
    }

    fn value(x: Result<Tensor>) -> f64 {
        f64::from(x.unwrap().to_scalar::<f32>().unwrap())
    }

    #[test]
    fn the_terms_are_those_of_an_independent_implementation() {
        // numpy in f64: var(ddof=1), cov, and the integral with complex exponentials.
        let directions =
            Tensor::from_slice(&[0.6f32, 0.0, 0.8, 0.6, 0.0, -0.8], (3, 2), &Device::Cpu).unwrap();
        let z = outputs();
        assert!((value(variance(&z)) - 0.278113178919328).abs() < 1e-6);
        assert!((value(covariance(&z)) - 0.43043564814814816).abs() < 1e-6);
        assert!((value(sigreg(&z, &directions)) - 0.6642754752911321).abs() < 1e-5);
        let config = SpreadConfig { variance: 2.0, covariance: 3.0, sigreg: 0.5, slices: 2 };
        let all = 2.0 * 0.278113178919328 + 3.0 * 0.43043564814814816 + 0.5 * 0.6642754752911321;
        assert!((value(config.loss(&z, Some(&directions))) - all).abs() < 1e-5);
    }

    #[test]
    fn sigreg_knows_a_normal_distribution_from_a_point() {
        let config = SpreadConfig { sigreg: 1.0, slices: 64, ..SpreadConfig::default() };
        let (batch, dim) = (64, 16);
        let directions = config.directions(1, 0, dim, &Device::Cpu).unwrap().unwrap();
        let mut rng = stream(3, Purpose::Test, 0, 0);
        let normal: Vec<f64> = (0..16 * batch * dim).map(|_| StandardNormal.sample(&mut rng)).collect();
        let normal: Vec<f32> = normal.iter().map(|x| *x as f32).collect();
        let normal = Tensor::from_vec(normal, (16, batch, dim), &Device::Cpu).unwrap();
        // Its expectation is Σ w φ (1 − φ²) = 1.0525 at any B; of 1024 projections, with a standard
        // deviation of 0.94 each, four standard errors are 0.12 where they are independent, and
        // those of a view are nearly so.
        assert!((value(config.loss(&normal, Some(&directions))) - 1.0525).abs() < 0.25);
        let point = Tensor::zeros((2, batch, dim), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!((value(config.loss(&point, Some(&directions))) - 0.40204758 * batch as f64).abs() < 1e-3);
    }

    #[test]
    fn directions_are_unit_vectors_of_their_step() {
        let config = SpreadConfig { sigreg: 1.0, slices: 5, ..SpreadConfig::default() };
        let of = |seed, step| {
            config.directions(seed, step, 7, &Device::Cpu).unwrap().unwrap().to_vec2::<f32>().unwrap()
        };
        let directions = of(1, 2);
        for slice in 0..5 {
            let squared: f32 = directions.iter().map(|row| row[slice].powi(2)).sum();
            assert!((squared - 1.0).abs() < 1e-6);
        }
        assert_eq!(directions, of(1, 2));
        assert_ne!(directions, of(1, 3));
        assert_ne!(directions, of(2, 2));
        let without = SpreadConfig { variance: 1.0, ..SpreadConfig::default() };
        assert!(without.directions(1, 2, 7, &Device::Cpu).unwrap().is_none());
    }

    #[test]
    fn equal_outputs_have_a_finite_gradient() {
        let z = Var::ones((2, 4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let config = SpreadConfig { variance: 1.0, covariance: 1.0, sigreg: 1.0, slices: 3 };
        let directions = config.directions(0, 0, 3, &Device::Cpu).unwrap();
        let gradients = config.loss(&z, directions.as_ref()).unwrap().backward().unwrap();
        let gradient = gradients.get(&z).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0));
    }

    #[test]
    fn terms_without_a_weight_or_with_a_negative_one_are_refused() {
        let with = |change: fn(&mut SpreadConfig)| {
            let mut config = SpreadConfig { variance: 1.0, ..SpreadConfig::default() };
            change(&mut config);
            config.check()
        };
        assert!(with(|_| ()).is_ok());
        for change in [
            (|c| c.variance = 0.0) as fn(&mut SpreadConfig),
            |c| c.covariance = -1.0,
            |c| c.sigreg = f64::NAN,
            |c| c.slices = 0,
            |c| c.slices = 12,
        ] {
            assert!(matches!(with(change), Err(Error::Usage(_))));
        }
    }
}
