//! The contrastive loss of SimCLR and MoCo (van den Oord, Li & Vinyals 2018).

use super::{log_sum_exp, unit_rows};
use crate::error::Result;
use candle_core::Tensor;

/// InfoNCE, averaged over all rows of p (V, B, d). A row's positive is the η in its place; its
/// negatives are `negatives` (Q, d) or the η of the batch's other images in all views. The other
/// views' η of its own image, one of which is the row itself where η is z, are neither.
///
/// # Errors
/// [`crate::Error::Tensor`] where the shapes differ.
pub fn info_nce(p: &Tensor, eta: &Tensor, negatives: Option<&Tensor>, temperature: f64) -> Result<Tensor> {
    let (views, batch, dim) = p.dims3()?;
    let rows = views * batch;
    let (p, eta) = (unit_rows(p)?.reshape((rows, dim))?, unit_rows(eta)?.reshape((rows, dim))?);
    let positive = ((&p * &eta)?.sum_keepdim(1)? / temperature)?;
    let candidates = match negatives {
        Some(negatives) => {
            let others = (p.matmul(&unit_rows(negatives)?.t()?)? / temperature)?;
            Tensor::cat(&[&positive, &others], 1)?
        }
        None => {
            let all = (p.matmul(&eta.t()?)? / temperature)?;
            let same = |place: &dyn Fn(u32) -> u32| -> Result<Tensor> {
                let places: Vec<u32> = (0..rows as u32).map(place).collect();
                let places = Tensor::from_vec(places, (rows, 1), p.device())?;
                Ok(places.broadcast_eq(&places.t()?)?)
            };
            let other_views_of_it = (same(&|row| row % batch as u32)? - same(&|row| row)?)?;
            let never = Tensor::full(f32::NEG_INFINITY, (rows, rows), p.device())?;
            other_views_of_it.where_cond(&never, &all)?
        }
    };
    Ok((log_sum_exp(&candidates, 1)? - positive)?.mean_all()?)
}
