//! Linear evaluation: a linear classifier trained on frozen features (Sec. 3, "Experimental
//! settings").
//!
//! Features are standardised per dimension by the training set's mean and standard deviation, as an
//! affine-less batch norm before the classifier does, so that one learning rate serves every
//! encoder. Then SGD with momentum 0.9, no weight decay, cosine decay, cross-entropy. The features
//! are those of the unaugmented images: a probe of what the encoder gives, in seconds.

use super::knn::top1;
use super::{Labelled, MeasureConfig};
use crate::error::{Result, go_on};
use crate::rng::{Purpose, stream};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::seq::SliceRandom;
use std::sync::atomic::AtomicBool;

/// Trains on `train` (N, D) and returns top-1 on `test` (M, D), in percent.
///
/// Zero weights at the start; the order of images follows `seed`. One thread, so its bytes do not
/// depend on the others.
///
/// # Errors
/// [`crate::Error::Stopped`] once `stop` is set.
pub fn linear_probe(
    train: Labelled,
    test: Labelled,
    config: &MeasureConfig,
    seed: u64,
    stop: &AtomicBool,
) -> Result<f64> {
    let (train_labels, test_labels) = (train.labels, test.labels);
    let classes = train_labels.iter().chain(test_labels).max().map_or(0, |&c| c as usize + 1);
    let (mean, scale) = statistics(train.x);
    let standardise = |x: ArrayView2<f32>| (&x - &mean) * &scale;
    let (train, test) = (standardise(train.x), standardise(test.x));
    let batch = config.probe_batch.min(train.nrows());
    let per_epoch = train.nrows() / batch.max(1);
    let steps = config.probe_epochs * per_epoch as u64;
    let start = config.probe_base_lr * batch as f64 / 256.0;
    let mut weight = Array2::<f32>::zeros((train.ncols(), classes));
    let mut bias = Array1::<f32>::zeros(classes);
    let (mut weight_velocity, mut bias_velocity) = (weight.clone(), bias.clone());
    let mut order: Vec<usize> = (0..train.nrows()).collect();
    for epoch in 0..config.probe_epochs {
        order.shuffle(&mut stream(seed, Purpose::Probe, epoch, 0));
        for (i, rows) in order.chunks_exact(batch).enumerate() {
            go_on(stop)?;
            let x = train.select(Axis(0), rows);
            let mut error = x.dot(&weight) + &bias;
            for (mut row, &index) in error.axis_iter_mut(Axis(0)).zip(rows) {
                softmax(row.as_slice_mut().unwrap_or(&mut []));
                row[train_labels[index] as usize] -= 1.0;
            }
            error /= batch as f32;
            let step = epoch * per_epoch as u64 + i as u64;
            let lr = start * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            weight_velocity = weight_velocity * 0.9 + x.t().dot(&error);
            bias_velocity = bias_velocity * 0.9 + error.sum_axis(Axis(0));
            weight.scaled_add(-lr as f32, &weight_velocity);
            bias.scaled_add(-lr as f32, &bias_velocity);
        }
    }
    let logits = test.dot(&weight) + &bias;
    let predicted: Vec<u32> = logits.axis_iter(Axis(0)).map(|row| argmax(row.iter())).collect();
    Ok(top1(&predicted, test_labels))
}

/// Mean and 1/standard deviation of each column; columns without spread get scale 0.
fn statistics(x: ArrayView2<f32>) -> (Array1<f32>, Array1<f32>) {
    let x = x.mapv(f64::from);
    let mean = x.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(x.ncols()));
    let std = x.std_axis(Axis(0), 0.0);
    let scale = std.mapv(|s| if s > 1e-6 { (1.0 / s) as f32 } else { 0.0 });
    (mean.mapv(|m| m as f32), scale)
}

fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - top).exp();
        sum += *value;
    }
    for value in row {
        *value /= sum;
    }
}

fn argmax<'a>(row: impl Iterator<Item = &'a f32>) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &value) in row.enumerate() {
        if value > best.1 {
            best = (class as u32, value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn config() -> MeasureConfig {
        MeasureConfig {
            every: 1,
            knn_k: 1,
            knn_images: 0,
            knn_temperature: 0.1,
            probe_epochs: 20,
            probe_base_lr: 0.1,
            probe_batch: 16,
            probe_always: false,
            film: 0,
            em: None,
            verification: None,
            one_shot: None,
            spectrum: false,
            predictor: false,
            tracking: None,
        }
    }

    #[test]
    fn separable_classes_are_separated_and_random_labels_are_not() {
        let mut rng = stream(0, Purpose::Test, 0, 0);
        let labels: Vec<u32> = (0..200).map(|i| i % 4).collect();
        let features = Array2::from_shape_fn((200, 8), |(i, j)| {
            100.0 * f32::from(u8::from(labels[i] as usize == j)) + rng.random::<f32>()
        });
        let probe = |labels: &[u32]| {
            let all = Labelled { x: features.view(), labels };
            linear_probe(all, all, &config(), 1, &AtomicBool::new(false)).unwrap()
        };
        assert_eq!(probe(&labels), 100.0);
        let random: Vec<u32> = (0..200).map(|_| rng.random_range(0..4)).collect();
        assert!(probe(&random) < 60.0);
    }
}
