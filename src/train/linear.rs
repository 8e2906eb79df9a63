//! What a trained linear predictor is held to.

use crate::error::Result;
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
