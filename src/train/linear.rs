//! A linear predictor: what a trained one is held to, and what is measured of any.

use super::Model;
use crate::error::Result;
use crate::measure::MeasureConfig;
use crate::measure::linear_map::{from_projection, off_diagonal};
use crate::network::config::LinearConfig;
use candle_core::{Tensor, Var};

/// W ← ½(W + Wᵀ), or W with ones on its diagonal, for `theta` (d²) of a linear predictor. A step
/// from such a W along a momentum that began at 0, and this after it, is the step along the
/// gradient's own projection: both are linear.
///
/// # Errors
/// [`crate::Error::Device`] when a GPU fails.
pub fn hold(theta: &Var, dim: usize, config: LinearConfig) -> Result<()> {
    let w = || theta.as_detached_tensor().reshape((dim, dim));
    let held = if config.symmetric {
        let w = w()?;
        ((&w + w.t()?)? * 0.5)?
    } else if config.unit_diagonal {
        let identity = Tensor::eye(dim, theta.dtype(), theta.device())?;
        let off = (w()? * (1.0 - &identity)?)?;
        (off + identity)?
    } else {
        return Ok(());
    };
    Ok(theta.set(&held.flatten_all()?)?)
}

/// The W that training begins with in place of the drawn one in `theta` (d²): its symmetric part,
/// or the identity.
///
/// # Errors
/// As [`hold`].
pub fn begin(theta: &Var, dim: usize, config: LinearConfig) -> Result<()> {
    if config.unit_diagonal {
        let identity = Tensor::eye(dim, theta.dtype(), theta.device())?;
        return Ok(theta.set(&identity.flatten_all()?)?);
    }
    hold(theta, dim, config)
}

/// What `measure` asks of the W of a linear h, as columns of metrics.csv.
///
/// # Errors
/// [`crate::Error::Device`] when a GPU fails.
pub fn columns(model: &Model, measure: &MeasureConfig) -> Result<Vec<(&'static str, f64)>> {
    let h = model.parts().find(|part| part.name == "predictor").filter(|_| measure.predictor);
    let Some(h) = h else { return Ok(Vec::new()) };
    let dim = model.output_dim();
    let w = super::evaluate::rows(&h.theta.as_detached_tensor().reshape((dim, dim))?)?.mapv(f64::from);
    let values = [
        ("predictor/off_diagonal", off_diagonal(w.view())),
        ("predictor/projection", from_projection(w.view())),
    ];
    Ok(values.into_iter().filter(|(_, value)| value.is_finite()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_symmetric_w_and_a_unit_diagonal_are_kept() {
        let held = |symmetric: bool, unit_diagonal: bool| {
            let theta = Var::from_slice(&[3f32, 4.0, 2.0, 5.0], 4, &Device::Cpu).unwrap();
            hold(&theta, 2, LinearConfig { symmetric, unit_diagonal }).unwrap();
            theta.to_vec1::<f32>().unwrap()
        };
        assert_eq!(held(true, false), [3.0, 3.0, 3.0, 5.0]);
        assert_eq!(held(false, true), [1.0, 4.0, 2.0, 1.0]);
        assert_eq!(held(false, false), [3.0, 4.0, 2.0, 5.0]);
    }
}
