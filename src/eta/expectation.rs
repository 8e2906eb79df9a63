//! The E-step's expectation over augmentations by samples: η_x = 1/n Σ F_θ(T_i(x)), with θ of this step
//! (Sec. 5.1, eq. 9, of which SimSiam's one sample is n = 1).

use super::{EStep, Frozen, Held, Views};
use crate::error::Result;
use crate::objective::unit_rows;
use candle_core::Tensor;

/// The mean over the last `n` views of a batch, which no term of the loss shows. Keeps nothing.
#[derive(Debug)]
pub struct Expectation {
    /// Samples.
    pub n: usize,
    /// The mean of z/‖z‖, which the cosine's E-step asks for, instead of the mean of z.
    pub normalised: bool,
}

impl EStep for Expectation {
    fn reads(&self, _: u64) -> std::ops::Range<u64> {
        0..0
    }

    fn refresh(&mut self, _: Frozen, _: &mut dyn Iterator<Item = Result<Views>>) -> Result<()> {
        Ok(())
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let first = views.x.dim(0)? - self.n;
        let sample = |i: usize| -> Result<Tensor> {
            // One view at a time: no more memory than one sample needs.
            let sample = frozen(&views.x.narrow(0, first + i, 1)?)?.detach();
            if self.normalised { unit_rows(&sample) } else { Ok(sample) }
        };
        let mut sum = sample(0)?;
        for i in 1..self.n {
            sum = (sum + sample(i)?)?;
        }
        let mean = (sum * (1.0 / self.n as f64))?;
        Ok(mean.broadcast_as(z.shape())?.contiguous()?)
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: Vec<Held<'static>>) -> Result<()> {
        Ok(())
    }
}
