//! A batch on its way into shards and back.

use crate::error::Result;
use crate::kernel::ranks::Shards;
use candle_core::Tensor;

/// This rank's images of x (V, B, …), shard by shard: (own shards · V, B/S, …).
pub fn enter(x: &Tensor, shards: &Shards) -> Result<Tensor> {
    let (views, batch) = (x.dim(0)?, x.dim(1)?);
    let own = shards.images(batch);
    let x = x.narrow(1, own.start, own.len())?;
    let rest = &x.dims()[2..];
    let of = |leading: &[usize]| [leading, rest].concat();
    let images = batch / shards.count();
    if shards.own() == 1 {
        return Ok(x.contiguous()?);
    }
    let parts = x.contiguous()?.reshape(of(&[views, shards.own(), images]))?;
    Ok(parts.transpose(0, 1)?.contiguous()?.reshape(of(&[shards.own() * views, images]))?)
}

/// All ranks' outputs, (V, B, d), of `z` (own shards · V, B/S, d), this rank's. A gradient goes
/// into this rank's only: the others have theirs.
pub fn leave(z: &Tensor, views: usize, shards: &Shards) -> Result<Tensor> {
    let (images, dim) = (z.dim(1)?, z.dim(2)?);
    let of_rank = shards.own() * images;
    let own = match shards.own() {
        1 => z.clone(),
        own => z.reshape((own, views, images, dim))?.transpose(0, 1)?.contiguous()?,
    }
    .reshape((views, of_rank, dim))?;
    if shards.ranks().size() == 1 {
        return Ok(own);
    }
    let rows = shards.gather_rows(&own.flatten_all()?.to_vec1::<f32>()?, views)?;
    let batch = shards.count() * images;
    let all = Tensor::from_vec(rows, (views, batch, dim), z.device())?;
    let place = shards.images(batch);
    let before = all.narrow(1, 0, place.start)?;
    let behind = all.narrow(1, place.end, batch - place.end)?;
    let parts: Vec<Tensor> = [before, own, behind].into_iter().filter(|part| part.dims()[1] > 0).collect();
    Ok(Tensor::cat(&parts, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ranks::together;
    use candle_core::{Device, Var};

    #[test]
    fn what_enters_leaves_in_its_place_and_takes_its_own_gradient_along() {
        let (views, batch, dim) = (2, 8, 3);
        let len = views * batch * dim;
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        for size in [1, 2, 4] {
            let own = together(size, |ranks| {
                let shards = Shards::new(4, ranks, true)?;
                let x = Var::from_vec(values.clone(), (views, batch, dim), &Device::Cpu)?;
                let z = leave(&enter(&x, &shards)?, views, &shards)?;
                assert_eq!(z.flatten_all()?.to_vec1::<f32>()?, values, "{size} ranks");
                let sum = (&z * x.as_detached_tensor())?.sum_all()?;
                let gradients = sum.backward()?;
                Ok(gradients.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?)
            });
            let sum = own
                .into_iter()
                .map(Result::unwrap)
                .reduce(|sum, own| sum.iter().zip(&own).map(|(a, b)| a + b).collect());
            assert_eq!(sum.unwrap(), values, "{size} ranks");
        }
    }
}
