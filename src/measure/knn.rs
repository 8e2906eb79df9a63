//! The weighted kNN classifier (Wu et al. 2018, as in the paper's Appendix D): each of the k
//! nearest training images by cosine votes for its class with weight exp(cos/T).

use super::Labelled;
use crate::error::{Result, go_on};
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use std::sync::atomic::AtomicBool;

/// Queries per task; bounds the similarities in memory to this many rows of the training set.
const BLOCK: usize = 128;

/// The predicted class of each row of `test` (M, D), from `train` (N, D).
///
/// Features need not be normalised. Equal similarities prefer the earlier training image, equal
/// votes the smaller class. k larger than N means N.
///
/// # Errors
/// [`crate::Error::Stopped`] once `stop` is set.
pub fn predict(
    train: Labelled,
    test: ArrayView2<f32>,
    k: usize,
    temperature: f64,
    stop: &AtomicBool,
) -> Result<Vec<u32>> {
    let labels = train.labels;
    assert_eq!(train.x.nrows(), labels.len(), "one label for each training feature");
    let (train, test) = (unit_rows(train.x), unit_rows(test));
    let classes = labels.iter().max().map_or(0, |&c| c as usize + 1);
    let k = k.min(labels.len());
    let blocks: Vec<usize> = (0..test.nrows()).step_by(BLOCK).collect();
    let predicted: Vec<Vec<u32>> = blocks
        .into_par_iter()
        .map(|start| {
            go_on(stop)?;
            let end = (start + BLOCK).min(test.nrows());
            let similarity = test.slice(s![start..end, ..]).dot(&train.t());
            let rows = similarity.rows().into_iter();
            Ok(rows.map(|row| vote(row.to_vec(), labels, classes, k, temperature)).collect())
        })
        .collect::<Result<_>>()?;
    Ok(predicted.concat())
}

/// The share of correct predictions, in percent.
pub fn top1(predicted: &[u32], labels: &[u32]) -> f64 {
    let correct = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
    100.0 * correct as f64 / labels.len().max(1) as f64
}

fn vote(similarity: Vec<f32>, labels: &[u32], classes: usize, k: usize, temperature: f64) -> u32 {
    let mut order: Vec<u32> = (0..similarity.len() as u32).collect();
    let nearer =
        |a: &u32, b: &u32| similarity[*b as usize].total_cmp(&similarity[*a as usize]).then_with(|| a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, nearer);
        order.truncate(k);
    }
    order.sort_unstable_by(nearer);
    let mut votes = vec![0.0f64; classes];
    for index in order {
        let cosine = f64::from(similarity[index as usize]);
        votes[labels[index as usize] as usize] += (cosine / temperature).exp();
    }
    let mut best = 0;
    for (class, &weight) in votes.iter().enumerate() {
        if weight > votes[best] {
            best = class;
        }
    }
    best as u32
}

/// Rows divided by their length (at least 1e-12).
pub fn unit_rows(x: ArrayView2<f32>) -> Array2<f32> {
    let mut x = x.to_owned();
    for mut row in x.axis_iter_mut(Axis(0)) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.mapv_inplace(|v| (f64::from(v) / length) as f32);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn predict(train: ArrayView2<f32>, labels: &[u32], test: ArrayView2<f32>, k: usize, t: f64) -> Vec<u32> {
        super::predict(Labelled { x: train, labels }, test, k, t, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn the_nearest_neighbour_decides_when_k_is_one() {
        let train = array![[1.0f32, 0.0], [0.0, 1.0]];
        let test = array![[0.9f32, 0.1], [0.2, 5.0]];
        assert_eq!(predict(train.view(), &[3, 1], test.view(), 1, 0.1), [3, 1]);
    }

    #[test]
    fn two_close_neighbours_outvote_one_closer() {
        let train = array![[1.0f32, 0.0], [0.95, 0.3], [0.95, -0.3]];
        let test = array![[1.0f32, 0.0]];
        assert_eq!(predict(train.view(), &[0, 1, 1], test.view(), 3, 0.5), [1]);
        assert_eq!(predict(train.view(), &[0, 1, 1], test.view(), 3, 0.01), [0]);
    }

    #[test]
    fn k_beyond_the_training_set_uses_all_of_it() {
        let train = array![[1.0f32, 0.0]];
        assert_eq!(predict(train.view(), &[2], train.view(), 200, 0.1), [2]);
        assert_eq!(top1(&[2, 0], &[2, 1]), 50.0);
    }
}
