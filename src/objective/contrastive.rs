//! The contrastive loss of Siamese networks (Hadsell, Chopra & LeCun 2006).

use crate::error::Result;
use candle_core::{D, DType, Tensor};

/// ½D² of a pair of one class and ½ max(0, margin − D)² of one of two, D the Euclidean distance of
/// its rows of `z` (V, B, d): the mean over the pairs of all rows, both kinds weighing the same
/// where a batch has both. A row's class is where softmax(η), η (V, B, K), has its one.
///
/// # Errors
/// [`crate::Error::Tensor`] where the shapes differ.
pub fn contrastive(z: &Tensor, eta: &Tensor, margin: f64) -> Result<Tensor> {
    let (views, batch, dim) = z.dims3()?;
    let rows = views * batch;
    let z = z.reshape((rows, dim))?;
    let class = candle_nn::ops::softmax(eta, D::Minus1)?.reshape((rows, eta.dim(2)?))?.detach();
    let all = class.matmul(&class.t()?)?;
    let others =
        (Tensor::ones((rows, rows), DType::F32, z.device())? - Tensor::eye(rows, DType::F32, z.device())?)?;
    let same = (&all * &others)?;
    let squares = z.sqr()?.sum_keepdim(1)?;
    let products = (z.matmul(&z.t()?)? * 2.0)?;
    // Rounding may leave equal rows a little below 0.
    let squared = squares.broadcast_add(&squares.t()?)?.sub(&products)?.relu()?;
    let short = ((squared.clone() + 1e-12)?.sqrt()?.neg()? + margin)?.relu()?;
    // A kind's mean, and whether there is a pair of it.
    let mean = |losses: &Tensor, of: &Tensor| -> Result<(Tensor, Tensor)> {
        let count = of.sum_all()?;
        let sum = (losses * of)?.sum_all()?;
        Ok(((sum / count.maximum(1.0)?)?, count.minimum(1.0)?))
    };
    let (alike, any_same) = mean(&squared, &same)?;
    let (apart, any_other) = mean(&short.sqr()?, &(others - &same)?)?;
    Ok((((alike + apart)? * 0.5)? / (any_same + any_other)?.maximum(1.0)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn loss(z: &[f32], classes: &[usize], margin: f64) -> f32 {
        let rows = classes.len();
        let z = Tensor::from_slice(z, (1, rows, 2), &Device::Cpu).unwrap();
        let eta: Vec<f32> = classes
            .iter()
            .flat_map(|class| [0, 1, 2].map(|place| if place == *class { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        let eta = Tensor::from_vec(eta, (1, rows, 3), &Device::Cpu).unwrap();
        contrastive(&z, &eta, margin).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn both_kinds_of_pairs_weigh_the_same() {
        // Three images: one pair of a class at distance 2; two pairs of two at distances 1 and √5.
        let z = [0.0, 0.0, 2.0, 0.0, 0.0, 1.0];
        let apart = (0.5 * 4.0 + 0.5 * (3.0f32 - 5f32.sqrt()).powi(2)) / 2.0;
        let expected = (0.5 * 4.0 + apart) / 2.0;
        assert!((loss(&z, &[1, 1, 0], 3.0) - expected).abs() < 1e-5);
    }

    #[test]
    fn a_batch_with_one_kind_has_its_mean_and_one_image_nothing() {
        assert!((loss(&[0.0, 0.0, 2.0, 0.0], &[1, 1], 3.0) - 2.0).abs() < 1e-6);
        assert!((loss(&[0.0, 0.0, 2.0, 0.0], &[1, 2], 3.0) - 0.5).abs() < 1e-5);
        assert_eq!(loss(&[0.0, 0.0, 4.0, 0.0], &[1, 2], 3.0), 0.0);
        assert_eq!(loss(&[0.0, 1.0], &[1], 3.0), 0.0);
    }
}
