//! The balanced logistic loss over a response map (SiamFC; Bertinetto et al. 2016, eq. 2).

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};

/// Where a map of `side` × `side` places has its object: within `radius` places of the middle, as
/// the L1 distance; row by row.
///
/// A map centred on the object is labelled alike whatever it shows.
fn near_the_middle(side: usize, radius: f64) -> Vec<bool> {
    let middle = (side as f64 - 1.0) / 2.0;
    let off = |place: usize| (place as f64 - middle).abs();
    (0..side * side).map(|place| off(place / side) + off(place % side) <= radius).collect()
}

/// The logistic loss of `response` (B, S, S): labels are 1 within `radius` places of the middle and
/// 0 elsewhere, either kind weighs one half together; the mean over maps.
///
/// # Errors
/// [`Error::Failure`] for maps that are not square, or where all labels are the same.
pub fn balanced(response: &Tensor, radius: f64) -> Result<Tensor> {
    let (maps, side, width) = response.dims3()?;
    let labels = near_the_middle(side, radius);
    let near = labels.iter().filter(|label| **label).count();
    let far = labels.len() - near;
    if side != width || near == 0 || far == 0 {
        return Err(Error::Failure(format!("{near} places near the middle of {side}×{width}, {far} far")));
    }
    // −ln σ(x) where the label is 1, −ln σ(−x) where it is 0: softplus of ∓x.
    let row = |of: &dyn Fn(bool) -> f64| -> Result<Tensor> {
        let values: Vec<f32> = labels.iter().map(|label| of(*label) as f32).collect();
        Ok(Tensor::from_vec(values, (1, side, side), &Device::Cpu)?.to_device(response.device())?)
    };
    let sign = row(&|label| if label { -1.0 } else { 1.0 })?;
    let weight = row(&|label| 0.5 / if label { near } else { far } as f64)?;
    let x = response.broadcast_mul(&sign)?;
    let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    Ok((softplus.broadcast_mul(&weight)?.sum_all()? / maps as f64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_places_weigh_the_same() {
        assert_eq!(near_the_middle(4, 1.0).iter().filter(|near| **near).count(), 4);
        let loss = |values: Vec<f32>, side: usize| {
            let maps = values.len() / side / side;
            let response = Tensor::from_vec(values, (maps, side, side), &Device::Cpu).unwrap();
            balanced(&response, 1.0).map(|loss| loss.to_scalar::<f32>().unwrap())
        };
        assert!((loss(vec![0.0; 50], 5).unwrap() - 2f32.ln()).abs() < 1e-6);
        // Sure of an object everywhere: nothing lost near the middle, all of it elsewhere.
        assert!((loss(vec![100.0; 25], 5).unwrap() - 50.0).abs() < 1e-4);
        assert!(loss(vec![0.0], 1).is_err());
    }
}
