//! kNN and the collapse metrics against PyTorch's numbers.

use crate::support::golden;
use ndarray::Array2;
use simsiam_em::measure::{Labelled, collapse, knn};
use simsiam_em::network::read_weights;
use std::sync::atomic::AtomicBool;

#[test]
fn knn_and_collapse_metrics_agree_with_pytorch() {
    let tensors = read_weights(&golden("evaluation.safetensors")).unwrap();
    let matrix = |name: &str| {
        let (shape, values) = tensors[name].clone();
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    };
    let integers = |name: &str| -> Vec<u32> { tensors[name].1.iter().map(|v| *v as u32).collect() };
    let number = |name: &str| f64::from(tensors[name].1[0]);
    let (train, test) = (matrix("train"), matrix("test"));
    for k in [1, 20, 200] {
        let labels = integers("train_labels");
        let train = Labelled { x: train.view(), labels: &labels };
        let got = knn::predict(train, test.view(), k, 0.1, &AtomicBool::new(false)).unwrap();
        assert_eq!(got, integers(&format!("pred.k{k}.T0.1")), "k = {k}");
    }
    let rankme = |z: &Array2<f32>| collapse::rankme(&collapse::singular_values(z.view()));
    for (what, got, expected, tolerance) in [
        ("std", collapse::std(train.view()), number("metric.std"), 1e-6),
        ("rankme", rankme(&train), number("metric.rankme"), 1e-3),
    ] {
        assert!((got - expected).abs() < tolerance, "{what}: {got} instead of {expected}");
    }
}
