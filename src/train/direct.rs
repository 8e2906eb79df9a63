//! Linear predictors that are set from moments of the outputs instead of trained: DirectPred's, from
//! the eigenspace of their correlation, and the least-squares regression of η on z (Tian, Chen &
//! Ganguli 2021, Sec. 4 and Table 1; official code).

use super::Model;
use super::evaluate::rows;
use crate::error::{Error, Result};
use crate::kernel::spectral::of_symmetric;
use crate::network::config::{DirectConfig, LeastSquaresConfig};
use crate::recipe::Predictor;
use candle_core::Tensor;
use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::Array2;

/// How W is made of moments.
#[derive(Clone, Debug)]
enum By {
    /// Of F = E\[z zᵀ\].
    Correlation(DirectConfig),
    /// Of M₂ = E\[z zᵀ\] and M₁ = E\[η zᵀ\].
    Regression(LeastSquaresConfig),
}

/// Moving averages of moments, and how W is made of them.
///
/// Kept in f32, as a checkpoint holds them, and computed with in f64.
pub struct Direct {
    by: By,
    dim: usize,
    /// F (d, d), or M₂ and M₁ (2, d, d); empty before the first batch.
    moments: Vec<f32>,
}

impl Direct {
    /// What sets `predictor` for outputs of `dim` numbers, without moments yet; none where nothing
    /// does.
    pub fn of(predictor: &Predictor, dim: usize) -> Option<Self> {
        let by = match predictor {
            Predictor::Direct(config) => By::Correlation(config.clone()),
            Predictor::LeastSquares(config) => By::Regression(config.clone()),
            _ => return None,
        };
        Some(Self { by, dim, moments: Vec::new() })
    }

    /// M ← ρM + (1−ρ) mean over all rows of z and η (V, B, d), the first batch being taken as it
    /// is; then, where the step is one of every so many, the predictor's weights from the moments.
    ///
    /// The official code sets W after the step, for the next one; here the moments have the step's
    /// own outputs, so that the first step needs no other W.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails.
    pub fn set_predictor(&mut self, step: u64, z: &Tensor, eta: &Tensor, model: &Model) -> Result<()> {
        self.absorb(z, eta)?;
        let every = match &self.by {
            By::Correlation(config) => config.every,
            By::Regression(config) => config.every,
        };
        // Outputs that are not finite end the run by their loss.
        if step.is_multiple_of(every) && self.moments.iter().all(|moment| moment.is_finite()) {
            model.set("predictor", self.weights(), &[])?;
        }
        Ok(())
    }

    /// W of this batch alone, z and η (V, B, d), as a linear layer keeps it.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails.
    pub fn of_batch(&mut self, z: &Tensor, eta: &Tensor) -> Result<Vec<f32>> {
        self.moments.clear();
        self.absorb(z, eta)?;
        Ok(self.weights())
    }

    fn absorb(&mut self, z: &Tensor, eta: &Tensor) -> Result<()> {
        let wide = |x: &Tensor| Ok::<_, Error>(rows(&x.flatten(0, 1)?)?.mapv(f64::from));
        let z = wide(z)?;
        let n = z.nrows() as f64;
        let mut means: Vec<Array2<f64>> = vec![z.t().dot(&z) / n];
        if let By::Regression(_) = self.by {
            means.push(wide(eta)?.t().dot(&z) / n);
        }
        let kept = match &self.by {
            By::Correlation(config) => config.rho,
            By::Regression(config) => config.rho,
        };
        let rho = if self.moments.is_empty() { 0.0 } else { kept };
        self.moments.resize(self.len(), 0.0);
        for (old, new) in self.moments.iter_mut().zip(means.iter().flatten()) {
            *old = (rho * f64::from(*old) + (1.0 - rho) * new) as f32;
        }
        Ok(())
    }

    /// Numbers of the moments.
    fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// The moments' shape: (d, d) or (2, d, d).
    pub fn shape(&self) -> Vec<usize> {
        match self.by {
            By::Correlation(_) => vec![self.dim, self.dim],
            By::Regression(_) => vec![2, self.dim, self.dim],
        }
    }

    /// W as a linear layer keeps it, the transpose of (d, d), row by row.
    pub fn weights(&self) -> Vec<f32> {
        let d = self.dim;
        let w = match &self.by {
            By::Correlation(config) => self.of_correlation(config),
            By::Regression(config) => self.of_regression(config),
        };
        (0..d * d).map(|index| w[(index % d, index / d)] as f32).collect()
    }

    /// The symmetric part of moment `which`.
    fn symmetric(&self, which: usize) -> DMatrix<f64> {
        let d = self.dim;
        let at =
            |i: usize, j: usize| f64::from(self.moments.get((which * d + i) * d + j).copied().unwrap_or(0.0));
        DMatrix::from_fn(d, d, |i, j| 0.5 * (at(i, j) + at(j, i)))
    }

    /// W = U diag((s/max s)^α + ε) Uᵀ, (d, d), from F = U diag(s) Uᵀ. ε alone on the diagonal where
    /// F is 0. A logarithm is that of √s, which is not divided by anything.
    ///
    /// The paper has √s + ε max s; the official code divides s by its maximum first, as here. The
    /// cosine does not see the common factor, and with it ε means the same at every scale of z.
    fn of_correlation(&self, config: &DirectConfig) -> DMatrix<f64> {
        of_symmetric(self.symmetric(0), |s, most| config.of_eigenvalue(s, most))
    }

    /// W = M₁ (M₂ + ridge·t·I)⁻¹, (d, d), M₁ made symmetric and t the mean of M₂'s diagonal; the
    /// identity where M₂ is 0.
    ///
    /// As rank one, every row of W is (Q Q s⁻¹)ᵀ M₁, with Q diag(s) Qᵀ the regularised M₂ and s⁻¹ a
    /// vector: what the published code makes where it leaves out `diag`.
    fn of_regression(&self, config: &LeastSquaresConfig) -> DMatrix<f64> {
        let (d, second) = (self.dim, self.symmetric(0));
        let mean = second.trace() / d as f64;
        if mean <= 0.0 {
            return DMatrix::identity(d, d);
        }
        let SymmetricEigen { eigenvectors: q, eigenvalues: s } = second.symmetric_eigen();
        let inverse = s.map(|s| 1.0 / (s.max(0.0) + config.ridge * mean));
        let first = self.symmetric(1);
        if config.rank_one {
            let row = (&q * (&q * inverse)).transpose() * first;
            return DMatrix::from_fn(d, d, |_, j| row[j]);
        }
        let mut scaled = q.clone();
        scaled.column_iter_mut().zip(&inverse).for_each(|(mut column, by)| column *= *by);
        first * (scaled * q.transpose())
    }

    /// The moments, for a checkpoint; empty before the first batch.
    pub fn moments(&self) -> &[f32] {
        &self.moments
    }

    /// Takes back what [`Direct::moments`] gave.
    ///
    /// # Errors
    /// [`Error::Failure`] when they have another size.
    pub fn restore(&mut self, moments: Vec<f32>) -> Result<()> {
        if moments.len() != self.len() {
            return Err(Error::Failure("the checkpoint's correlation has another size".into()));
        }
        self.moments = moments;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::spectral::Filter;
    use candle_core::Device;

    fn direct(rho: f64, epsilon: f64) -> Direct {
        let config = DirectConfig { rho, epsilon, every: 1, ..DirectConfig::PAPER };
        Direct::of(&Predictor::Direct(config), 2).unwrap()
    }

    fn z(rows: &[f32]) -> Tensor {
        Tensor::from_slice(rows, (1, rows.len() / 2, 2), &Device::Cpu).unwrap()
    }

    fn near(got: &[f32], expected: [f32; 4]) {
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, {expected:?}");
    }

    #[test]
    fn the_predictor_has_the_eigenvectors_of_f_and_the_roots_of_its_eigenvalues() {
        // F = [[2.5, 1.5], [1.5, 2.5]]: eigenvalue 4 along (1, 1), 1 along (1, −1). So W has 1 + ε
        // and ½ + ε.
        let mut direct = direct(0.3, 0.1);
        direct.restore(vec![2.5, 1.5, 1.5, 2.5]).unwrap();
        near(&direct.weights(), [0.85, 0.25, 0.25, 0.85]);
    }

    #[test]
    fn another_power_or_filter_takes_the_place_of_the_root() {
        // Eigenvalues 4 along (1, 1) and 1 along (1, −1), the moment of the test above.
        let of = |alpha: f64, filter: Filter| {
            let config = DirectConfig { rho: 0.0, epsilon: 0.0, every: 1, alpha, filter };
            let mut direct = Direct::of(&Predictor::Direct(config), 2).unwrap();
            direct.restore(vec![2.5, 1.5, 1.5, 2.5]).unwrap();
            direct.weights()
        };
        near(&of(1.0, Filter::Power), [0.625, 0.375, 0.375, 0.625]);
        let (large, small) = (33f32.ln(), 17f32.ln());
        let (on, off) = (0.5 * (large + small), 0.5 * (large - small));
        near(&of(0.5, Filter::LogPlusOne), [on, off, off, on]);
    }

    #[test]
    fn directions_without_variance_keep_epsilon() {
        let mut direct = direct(0.3, 0.1);
        direct.restore(vec![0.0, 0.0, 0.0, 9.0]).unwrap();
        near(&direct.weights(), [0.1, 0.0, 0.0, 1.1]);
        direct.restore(vec![0.0; 4]).unwrap();
        near(&direct.weights(), [0.1, 0.0, 0.0, 0.1]);
    }

    #[test]
    fn f_takes_the_first_batch_as_it_is_and_then_moves_towards_the_others() {
        let mut direct = direct(0.25, 0.0);
        direct.absorb(&z(&[2.0, 0.0, 0.0, 4.0]), &z(&[])).unwrap();
        near(direct.moments(), [2.0, 0.0, 0.0, 8.0]);
        direct.absorb(&z(&[1.0, 1.0]), &z(&[])).unwrap();
        near(direct.moments(), [1.25, 0.75, 0.75, 2.75]);
    }
    fn least_squares(ridge: f64, rank_one: bool) -> Direct {
        let config = LeastSquaresConfig { rho: 0.0, ridge, every: 1, rank_one };
        Direct::of(&Predictor::LeastSquares(config), 2).unwrap()
    }

    #[test]
    fn the_regression_of_a_linear_map_is_that_map() {
        // η = [[2, 1], [1, −1]] z, which is symmetric; the ridge shrinks it by a millionth.
        let rows = [1.0, 0.0, 0.0, 1.0, 1.0, 2.0f32];
        let mapped: Vec<f32> = rows.chunks(2).flat_map(|z| [2.0 * z[0] + z[1], z[0] - z[1]]).collect();
        let mut exact = least_squares(1e-6, false);
        // E[η zᵀ] is not symmetric unless W and M₂ commute: here M₂ is made a multiple of I.
        let balanced = [1.0, 1.0, 1.0, -1.0f32];
        let image: Vec<f32> = balanced.chunks(2).flat_map(|z| [2.0 * z[0] + z[1], z[0] - z[1]]).collect();
        exact.absorb(&z(&balanced), &z(&image)).unwrap();
        let got = exact.weights();
        assert!(got.iter().zip([2.0, 1.0, 1.0, -1.0]).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?}");
        // With other moments W M₂ is the symmetric part of E[η zᵀ].
        let mut other = least_squares(1e-6, false);
        other.absorb(&z(&rows), &z(&mapped)).unwrap();
        let w = other.weights();
        // A M₂ = [[2, 3], [0, −1]].
        let (m2, m1) = ([2.0 / 3.0, 2.0 / 3.0, 5.0 / 3.0], [2.0f32, 1.5, -1.0]);
        let product = |i: usize, j: usize| {
            // The layer keeps W's transpose.
            let row = [w[i], w[2 + i]];
            row[0] * [m2[0], m2[1]][j] + row[1] * [m2[1], m2[2]][j]
        };
        for (got, expected) in [(product(0, 0), m1[0]), (product(0, 1), m1[1]), (product(1, 1), m1[2])] {
            assert!((got - expected).abs() < 1e-4, "{got} {expected}");
        }
    }

    #[test]
    fn as_rank_one_every_prediction_is_a_multiple_of_ones() {
        let mut direct = least_squares(1e-3, true);
        direct.absorb(&z(&[1.0, 0.5, -0.3, 2.0]), &z(&[0.7, 0.1, 0.2, 1.0])).unwrap();
        let w = direct.weights();
        // Rows of W are columns of what the layer keeps.
        assert!(w[0] == w[1] && w[2] == w[3] && w[0] != w[2], "{w:?}");
    }
}
