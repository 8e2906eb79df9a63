//! The mean over all other views of the batch: η_v = 1/(V−1) Σ_{u≠v} F_θ(T_u(x)) (FastSiam;
//! Pototzky, Sultan & Schmidt 2022). More samples of eq. 9's expectation from passes that the
//! M-step makes anyway, where `objective.pairs` is above 1; with one pair it is SimSiam's one
//! sample. Keeps nothing.

use super::{EStep, Frozen, Views};
use crate::error::{Error, Result};
use candle_core::Tensor;

/// η of each view from all others.
#[derive(Debug)]
pub struct MeanOfOthers;

impl EStep for MeanOfOthers {
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let (all, trained) = (views.x.dim(0)?, z.dim(0)?);
        if all < 2 {
            return Err(Error::Failure(format!("{all} view has no others")));
        }
        let z = z.detach();
        let rest = views.x.narrow(0, trained, all - trained)?;
        let outputs = if trained == all { z } else { Tensor::cat(&[z, frozen.z(&rest)?.detach()], 0)? };
        let mean = |view: usize| -> Result<Tensor> {
            let first = if view == 0 { 1 } else { 0 };
            let mut others = (first + 1..all).filter(|other| *other != view);
            let sum = others.try_fold(outputs.get(first)?, |sum, other| sum + outputs.get(other)?)?;
            Ok((sum * (1.0 / (all - 1) as f64))?)
        };
        let means: Vec<Tensor> = (0..trained).map(mean).collect::<Result<_>>()?;
        Ok(Tensor::stack(&means, 0)?)
    }
}
