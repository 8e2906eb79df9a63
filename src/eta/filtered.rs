//! One sample through a spectral filter: η = Z V diag(g(r)) Vᵀ, a function of all outputs of the
//! batch (Zhuo et al. 2023, on the target's side). Keeps nothing.
//!
//! The rows of Z are the outputs of all views of a batch, as many as there are: two views of 32
//! images are 64 rows. V and r² are eigenvectors and eigenvalues of M = ZᵀZ/n, and η of a view
//! comes from the other view's rows of the filtered Z.
//!
//! With g(r) = 1/r it is the exact E-step of Σ ‖Z − η‖² under the constraint ηᵀη = n·I: the polar
//! factor of Z (Procrustes), outputs that are white over the batch. Fewer rows than outputs cannot
//! meet that constraint, and nearly as few meet it by noise.

use super::{EStep, Frozen, Views, other_views};
use crate::error::{Error, Result};
use crate::kernel::spectral::{Filter, of_symmetric};
use candle_core::Tensor;
use nalgebra::DMatrix;

/// η through a filter of the batch's spectrum.
#[derive(Debug)]
pub struct Filtered {
    /// g.
    pub filter: Filter,
    /// σ of g(r) = r^σ.
    pub sigma: f64,
    /// What is added to r², as a part of the mean of all r².
    pub ridge: f64,
}

impl Filtered {
    /// The white outputs of the constrained E-step.
    pub fn white(ridge: f64) -> Filtered {
        Filtered { filter: Filter::Power, sigma: -1.0, ridge }
    }

    /// Refuses a σ that is no number or would do nothing, and a ridge without which axes of no
    /// variance have no value.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key of the rule called `rule`.
    pub fn check(&self, rule: &str) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(format!("eta.{rule}.{what}")));
        if !self.sigma.is_finite() {
            return fail(format!("sigma: {} must be a finite number", self.sigma));
        }
        if self.filter != Filter::Power && self.sigma != 0.0 {
            return fail("sigma: only filter = \"power\" has one".into());
        }
        if !(self.ridge >= 0.0 && self.ridge.is_finite()) {
            return fail(format!("ridge: {} must be a number of at least 0", self.ridge));
        }
        if self.ridge == 0.0 && self.filter == Filter::Power && self.sigma < 0.0 {
            return fail(format!("ridge: 0 must be above 0 for r to the power of {}", self.sigma));
        }
        Ok(())
    }

    /// Z (V, B, d) filtered, in the same shape, computed in f64. Outputs that are not finite stay
    /// as they are and end the run by their loss; outputs that are 0 stay 0.
    ///
    /// # Errors
    /// [`Error::Device`] where a GPU fails.
    pub fn of(&self, z: &Tensor) -> Result<Tensor> {
        let (views, batch, d) = z.dims3()?;
        let (rows, values) = (views * batch, z.flatten_all()?.to_vec1::<f32>()?);
        let z64 = DMatrix::from_row_iterator(rows, d, values.iter().map(|value| f64::from(*value)));
        let moment = z64.tr_mul(&z64) / rows as f64;
        if !moment.iter().all(|value| value.is_finite()) {
            return Ok(z.clone());
        }
        let added = self.ridge * moment.trace() / d as f64;
        let g = |eigenvalue: f64, _| match eigenvalue + added {
            // Nothing lies along such an axis.
            r2 if r2 <= 0.0 => 0.0,
            r2 => self.filter.of(r2.sqrt(), self.sigma),
        };
        // Row by row is the transpose column by column.
        let filtered = (z64 * of_symmetric(moment, g)).transpose();
        let values: Vec<f32> = filtered.iter().map(|value| *value as f32).collect();
        Ok(Tensor::from_vec(values, (views, batch, d), z.device())?)
    }
}

impl EStep for Filtered {
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let (all, given) = (views.x.dim(0)?, z.dim(0)?);
        let z = z.detach();
        let outputs = match given < all {
            true => Tensor::cat(&[z, frozen.z(&views.x.narrow(0, given, all - given)?)?.detach()], 0)?,
            false => z,
        };
        Ok(other_views(&self.of(&outputs)?)?.narrow(0, 0, given)?)
    }
}
