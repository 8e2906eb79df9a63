//! Supervised training as an E-step: η_x is the class of image x, which a person made and θ never
//! moves.
//!
//! A class is a code (Caron et al. 2020) with all of its mass on one cluster: η = log one-hot(y).
//! The cross-entropy's softmax(η) is then the one-hot vector itself, −softmax(η)·log softmax(z) is
//! −log softmax(z) at y, and its gradient in z is softmax(z) − one-hot(y). z is the output of a
//! linear head, one number for each class.

use super::{EStep, Frozen, Views};
use crate::error::{Error, Result};
use candle_core::Tensor;

/// Reads the labels that come with a batch. Keeps nothing.
#[derive(Debug)]
pub struct Labels;

impl EStep for Labels {
    fn targets(&mut self, views: &Views, z: &Tensor, _: Frozen) -> Result<Tensor> {
        let (shown, batch, classes) = z.dims3()?;
        if let Some(label) = views.labels.iter().find(|label| **label as usize >= classes) {
            return Err(Error::Failure(format!("class {label} of a head that tells {classes} apart")));
        }
        let labels = Tensor::from_slice(&views.labels, (1, batch, 1), z.device())?;
        let places = Tensor::arange(0, classes as u32, z.device())?.reshape((1, 1, classes))?;
        let of_class = labels.broadcast_eq(&places)?;
        let full = |value: f32| Tensor::full(value, (1, batch, classes), z.device());
        let eta = of_class.where_cond(&full(0.0)?, &full(f32::NEG_INFINITY)?)?;
        Ok(eta.broadcast_as((shown, batch, classes))?.contiguous()?)
    }
}
