//! What steps gave, read as soon as it is known: at once on the processor, many steps at a time
//! from a device, so that no step waits for the one before it.

use super::evaluate::rows;
use super::unknowns::Outcome;
use crate::device::Reading;
use crate::error::Result;
use crate::measure::collapse;
use crate::objective::unit_rows;
use candle_core::Tensor;

/// Steps between two readings of a device.
const READ_EVERY: usize = 32;

/// What a step gave, in numbers.
pub struct Read {
    /// The loss before the step.
    pub loss: f64,
    /// The encoder's learning rate.
    pub rate: f64,
    /// std of z/‖z‖ times √d, of the first view.
    pub z_std: f64,
    /// Images that the E-step passed through F beside the M-step's.
    pub e_passed: u64,
}

/// Steps of which not all numbers have been read. Its methods fail with [`crate::Error::Device`]
/// where a GPU does.
#[derive(Default)]
pub struct Readings {
    /// Loss and z_std of each step, one after the other.
    numbers: Vec<Reading>,
    /// The encoder's learning rate of each, and the images that its E-step passed.
    known: Vec<(f64, u64)>,
}

impl Readings {
    /// Takes note of a step of learning rate `rate`.
    pub fn push(&mut self, made: &Outcome, rate: f64) -> Result<()> {
        let z_std = match made.loss.known() {
            Some(_) => Reading::from(z_std(&made.z)?),
            None => Reading::awaited(z_std_where_it_is(&made.z)?),
        };
        self.numbers.extend([made.loss.clone(), z_std]);
        self.known.push((rate, made.e_passed));
        Ok(())
    }

    /// The steps whose numbers are known, the oldest first; all of them where many are waiting, or
    /// `now`.
    pub fn take(&mut self, now: bool) -> Result<Vec<Read>> {
        let known = self.numbers.iter().all(|number| number.known().is_some());
        if !(now || known || self.known.len() >= READ_EVERY) {
            return Ok(Vec::new());
        }
        let numbers = Reading::wait_for(&std::mem::take(&mut self.numbers))?;
        let steps = numbers.chunks_exact(2).zip(std::mem::take(&mut self.known));
        let read = |(numbers, (rate, e_passed)): (&[f64], _)| {
            let [loss, z_std] = [numbers[0], numbers[1]];
            Read { loss, rate, z_std, e_passed }
        };
        Ok(steps.map(read).collect())
    }
}

/// std of z/‖z‖ times √d, for z (B, d); 0 for a batch of one, which has no spread to measure.
fn z_std(z: &Tensor) -> Result<f64> {
    let (batch, dim) = z.dims2()?;
    if batch < 2 {
        return Ok(0.0);
    }
    Ok(collapse::std(rows(z)?.view()) * (dim as f64).sqrt())
}

/// [`z_std`] as a scalar beside z, computed in f32.
fn z_std_where_it_is(z: &Tensor) -> Result<Tensor> {
    let (batch, dim) = z.dims2()?;
    let unit = unit_rows(z)?;
    let centred = unit.broadcast_sub(&unit.mean_keepdim(0)?)?;
    let variance = (centred.sqr()?.sum(0)? * (1.0 / (batch.max(2) - 1) as f64))?;
    Ok((variance.sqrt()?.mean_all()? * (dim as f64).sqrt())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn both_stds_are_the_same() {
        let values: Vec<f32> = (0..60).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
        let z = Tensor::from_vec(values, (12, 5), &Device::Cpu).unwrap();
        let there = f64::from(z_std_where_it_is(&z).unwrap().to_scalar::<f32>().unwrap());
        assert!((there - z_std(&z).unwrap()).abs() < 1e-5);
        let one = z.narrow(0, 0, 1).unwrap();
        assert_eq!(z_std(&one).unwrap(), 0.0);
        assert_eq!(z_std_where_it_is(&one).unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
