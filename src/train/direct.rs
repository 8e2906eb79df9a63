//! DirectPred's predictor: a linear map set from the eigenspace of the outputs' correlation (Tian,
//! Chen & Ganguli 2021, Sec. 4; official code).

use super::Model;
use super::evaluate::rows;
use crate::error::{Error, Result};
use crate::network::config::DirectConfig;
use candle_core::Tensor;
use nalgebra::{DMatrix, SymmetricEigen};

/// F, the moving average of z zᵀ, and how W is made of it.
///
/// Kept in f32, as a checkpoint holds it, and computed with in f64.
pub struct Direct {
    config: DirectConfig,
    dim: usize,
    /// (d, d); empty before the first batch.
    correlation: Vec<f32>,
}

impl Direct {
    /// No F yet, for outputs of `dim` numbers.
    pub fn new(config: DirectConfig, dim: usize) -> Self {
        Self { config, dim, correlation: Vec::new() }
    }

    /// F ← ρF + (1−ρ) mean z zᵀ over all rows of z (V, B, d), the first batch being taken as it is;
    /// then, in every `every`-th step, the predictor's weights from F.
    ///
    /// The official code sets W after the step, for the next one; here F has the step's own
    /// outputs, so that the first step needs no other W.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails.
    pub fn set_predictor(&mut self, step: u64, z: &Tensor, model: &Model) -> Result<()> {
        self.absorb(z)?;
        // Outputs that are not finite end the run by their loss.
        if step.is_multiple_of(self.config.every) && self.correlation.iter().all(|f| f.is_finite()) {
            model.set("predictor", self.weights(), &[])?;
        }
        Ok(())
    }

    fn absorb(&mut self, z: &Tensor) -> Result<()> {
        let z = rows(&z.flatten(0, 1)?)?.mapv(f64::from);
        let batch_mean = z.t().dot(&z) / z.nrows() as f64;
        let rho = if self.correlation.is_empty() { 0.0 } else { self.config.rho };
        self.correlation.resize(self.dim * self.dim, 0.0);
        for (old, new) in self.correlation.iter_mut().zip(&batch_mean) {
            *old = (rho * f64::from(*old) + (1.0 - rho) * new) as f32;
        }
        Ok(())
    }

    /// W = U diag(√(s/max s) + ε) Uᵀ, (d, d), from F = U diag(s) Uᵀ. ε alone on the diagonal where
    /// F is 0.
    ///
    /// The paper has √s + ε max s; the official code divides s by its maximum first, as here. The
    /// cosine does not see the common factor, and with it ε means the same at every scale of z.
    pub fn weights(&self) -> Vec<f32> {
        let d = self.dim;
        let f = |i: usize, j: usize| f64::from(self.correlation.get(i * d + j).copied().unwrap_or(0.0));
        let SymmetricEigen { eigenvectors: u, eigenvalues: s } =
            DMatrix::from_fn(d, d, |i, j| 0.5 * (f(i, j) + f(j, i))).symmetric_eigen();
        let most = s.max();
        let mut scaled = u.clone();
        for (mut column, s) in scaled.column_iter_mut().zip(&s) {
            let share = if most > 0.0 { s.max(0.0) / most } else { 0.0 };
            column *= share.sqrt() + self.config.epsilon;
        }
        let w = scaled * u.transpose();
        let entry = |index: usize| {
            let (i, j) = (index / d, index % d);
            (0.5 * (w[(i, j)] + w[(j, i)])) as f32
        };
        (0..d * d).map(entry).collect()
    }

    /// F, (d, d), for a checkpoint; empty before the first batch.
    pub fn correlation(&self) -> &[f32] {
        &self.correlation
    }

    /// Takes back what [`Direct::correlation`] gave.
    ///
    /// # Errors
    /// [`Error::Failure`] when it has another length.
    pub fn restore(&mut self, correlation: Vec<f32>) -> Result<()> {
        if correlation.len() != self.dim * self.dim {
            return Err(Error::Failure("the checkpoint's correlation has another size".into()));
        }
        self.correlation = correlation;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn direct(rho: f64, epsilon: f64) -> Direct {
        Direct::new(DirectConfig { rho, epsilon, every: 1 }, 2)
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
        direct.absorb(&z(&[2.0, 0.0, 0.0, 4.0])).unwrap();
        near(direct.correlation(), [2.0, 0.0, 0.0, 8.0]);
        direct.absorb(&z(&[1.0, 1.0])).unwrap();
        near(direct.correlation(), [1.25, 0.75, 0.75, 2.75]);
    }
}
