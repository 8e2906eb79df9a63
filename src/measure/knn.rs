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

/// The `k` nearest training rows of each row of `test` (M, D) by cosine, nearest first, with their
/// cosines; fewer where `train` (N, D) has fewer.
///
/// # Errors
/// As [`predict`].
pub fn nearest(
    train: ArrayView2<f32>,
    test: ArrayView2<f32>,
    k: usize,
    stop: &AtomicBool,
) -> Result<Vec<Vec<(usize, f32)>>> {
    let (train, test) = (unit_rows(train), unit_rows(test));
    let of_row = |row: usize| {
        go_on(stop)?;
        let similarity = train.dot(&test.row(row)).to_vec();
        let order = first(&similarity, k);
        Ok(order.into_iter().map(|index| (index as usize, similarity[index as usize])).collect())
    };
    (0..test.nrows()).into_par_iter().map(of_row).collect()
}

/// The share of correct predictions, in percent.
pub fn top1(predicted: &[u32], labels: &[u32]) -> f64 {
    let correct = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
    100.0 * correct as f64 / labels.len().max(1) as f64
}

/// The `k` most similar, the most similar first, of equal ones the earlier.
fn first(similarity: &[f32], k: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..similarity.len() as u32).collect();
    let nearer =
        |a: &u32, b: &u32| similarity[*b as usize].total_cmp(&similarity[*a as usize]).then_with(|| a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, nearer);
        order.truncate(k);
    }
    order.sort_unstable_by(nearer);
    order
}

fn vote(similarity: Vec<f32>, labels: &[u32], classes: usize, k: usize, temperature: f64) -> u32 {
    let mut votes = vec![0.0f64; classes];
    for index in first(&similarity, k) {
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
    fn the_nearest_come_first_and_of_equal_ones_the_earlier() {
        let train = array![[0.0f32, 2.0], [3.0, 0.0], [1.0, 1.0], [5.0, 0.0]];
        let test = array![[2.0f32, 0.0]];
        let found = nearest(train.view(), test.view(), 3, &AtomicBool::new(false)).unwrap();
        let rows: Vec<usize> = found[0].iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [1, 3, 2]);
        assert!((found[0][2].1 - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(nearest(train.view(), test.view(), 9, &AtomicBool::new(false)).unwrap()[0].len(), 4);
    }

    #[test]
    fn k_beyond_the_training_set_uses_all_of_it() {
        let train = array![[1.0f32, 0.0]];
        assert_eq!(predict(train.view(), &[2], train.view(), 200, 0.1), [2]);
        assert_eq!(top1(&[2, 0], &[2, 1]), 50.0);
    }
}
