//! Numbers that a device may not have computed yet, so that no step waits for the one before it.

use super::Site;
use crate::error::Result;
use candle_core::Tensor;

/// A number that was asked for: on the processor it is known at once, elsewhere it may have to be
/// waited for.
#[derive(Clone, Debug)]
pub struct Reading(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Known(f64),
    Awaited(Tensor),
}

impl From<f64> for Reading {
    fn from(value: f64) -> Self {
        Self(Kind::Known(value))
    }
}

impl Reading {
    /// A scalar f32 tensor that nobody has waited for.
    pub fn awaited(scalar: Tensor) -> Self {
        Self(Kind::Awaited(scalar))
    }

    /// The number, where it is known.
    pub fn known(&self) -> Option<f64> {
        match self.0 {
            Kind::Known(value) => Some(value),
            Kind::Awaited(_) => None,
        }
    }

    /// The numbers, waited for once where some are not known.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device that computes them fails.
    pub fn wait_for(readings: &[Reading]) -> Result<Vec<f64>> {
        let awaited = readings.iter().filter_map(|reading| match &reading.0 {
            Kind::Known(_) => None,
            Kind::Awaited(scalar) => Some(scalar.reshape(())),
        });
        let awaited = awaited.collect::<candle_core::Result<Vec<_>>>()?;
        let waited =
            if awaited.is_empty() { Vec::new() } else { Tensor::stack(&awaited, 0)?.to_vec1::<f32>()? };
        let mut waited = waited.into_iter();
        let known = readings.iter().map(|reading| reading.known().or_else(|| waited.next().map(f64::from)));
        Ok(known.flatten().collect())
    }

    /// The number, waited for where it is not known.
    ///
    /// # Errors
    /// As [`Reading::wait_for`].
    pub fn wait(&self) -> Result<f64> {
        match &self.0 {
            Kind::Known(value) => Ok(*value),
            Kind::Awaited(scalar) => Ok(f64::from(scalar.to_scalar::<f32>()?)),
        }
    }
}

impl Site {
    /// Asks for a scalar f32 tensor that was computed here.
    ///
    /// # Errors
    /// candle's, for another tensor.
    pub fn ask(&self, scalar: &Tensor) -> Result<Reading> {
        match self.kernels() {
            None => Ok(Reading::from(f64::from(scalar.to_scalar::<f32>()?))),
            Some(_) => Ok(Reading::awaited(scalar.detach())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn known_and_awaited_numbers_come_in_their_order() {
        let awaited = |value: f32| Reading::awaited(Tensor::new(value, &Device::Cpu).unwrap());
        let readings = [awaited(0.5), Reading::from(2.0), awaited(-1.25)];
        assert_eq!(Reading::wait_for(&readings).unwrap(), [0.5, 2.0, -1.25]);
        assert_eq!(readings.each_ref().map(Reading::known), [None, Some(2.0), None]);
        assert_eq!(readings[2].wait().unwrap(), -1.25);
        let scalar = Tensor::new(3f32, &Device::Cpu).unwrap();
        assert_eq!(Site::default().ask(&scalar).unwrap().known(), Some(3.0));
    }
}
