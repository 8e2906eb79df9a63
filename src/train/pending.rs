//! Steps that a GPU may not have made yet: their losses and spreads stay there and are read many at a time, so that no
//! step waits for the one before it.

use super::Progress;
use super::alternation::Outcome;
use super::state::State;
use crate::error::Result;
use crate::objective::unit_rows;
use candle_core::Tensor;

/// Steps between two readings.
const READ_EVERY: usize = 32;

/// What has not been read.
#[derive(Default)]
pub struct Pending {
    /// (loss, std of z/‖z‖ times √d) of each step, (2).
    numbers: Vec<Tensor>,
    /// The encoder's learning rate of each, and the images that its E-step passed.
    known: Vec<(f64, u64)>,
}

impl Pending {
    /// Takes note of a step; true where its loss is pending.
    pub fn push(&mut self, made: &Outcome, rate: f64) -> Result<bool> {
        let Some(loss) = &made.pending else { return Ok(false) };
        self.numbers.push(Tensor::stack(&[loss.reshape(())?, spread(&made.z)?], 0)?);
        self.known.push((rate, made.e_passed));
        Ok(true)
    }

    /// Whether it is time to read.
    pub fn is_due(&self) -> bool {
        self.numbers.len() >= READ_EVERY
    }

    /// Reads all, of which the last one belongs to the step before `state.step`; tells `watch` of each. Gives the first step
    /// whose loss was not finite, after which no number means anything.
    pub fn read(
        &mut self,
        state: &mut State,
        per_epoch: u64,
        watch: &dyn Fn(Progress),
    ) -> Result<Option<u64>> {
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let numbers = Tensor::stack(&std::mem::take(&mut self.numbers), 0)?.to_vec2::<f32>()?;
        let known = std::mem::take(&mut self.known);
        let first = state.step - numbers.len() as u64;
        for ((index, row), (rate, e_passed)) in numbers.iter().enumerate().zip(known) {
            let (step, loss, spread) = (first + index as u64, f64::from(row[0]), f64::from(row[1]));
            if !loss.is_finite() {
                return Ok(Some(step));
            }
            state.observe_numbers(loss, rate, spread, e_passed);
            watch(state.progress_at(step + 1, loss, per_epoch));
        }
        Ok(None)
    }
}

/// std of z/‖z‖ times √d, for z (B, d), where z is; 0 for a batch of one, which has no spread to measure.
fn spread(z: &Tensor) -> Result<Tensor> {
    let (batch, dim) = z.dims2()?;
    let unit = unit_rows(z)?;
    let centred = unit.broadcast_sub(&unit.mean_keepdim(0)?)?;
    let variance = (centred.sqr()?.sum(0)? * (1.0 / (batch.max(2) - 1) as f64))?;
    Ok((variance.sqrt()?.mean_all()? * (dim as f64).sqrt())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::collapse;
    use candle_core::Device;
    use ndarray::Array2;

    #[test]
    fn the_spread_of_a_tensor_is_that_of_its_rows() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
        let z = Tensor::from_vec(values.clone(), (12, 5), &Device::Cpu).unwrap();
        let rows = Array2::from_shape_vec((12, 5), values).unwrap();
        let expected = collapse::std(rows.view()) * 5f64.sqrt();
        assert!((f64::from(spread(&z).unwrap().to_scalar::<f32>().unwrap()) - expected).abs() < 1e-5);
        let one = spread(&z.narrow(0, 0, 1).unwrap()).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(one, 0.0);
    }
}
