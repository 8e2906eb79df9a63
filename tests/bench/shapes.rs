//! How hard the procedural images are, at the laptop scale's size and number, on held-out images: kNN on
//! raw pixels, kNN on random weights, and a small supervised network. `cargo bench --bench shapes`.
//!
//! SimSiam's own figure is `sim run simsiam`.

use candle_core::{D, Device, Tensor};
use ndarray::Array2;
use simsiam_em::data::loader::{BatchShape, prepare, steps_per_epoch};
use simsiam_em::data::{DataConfig, Dataset, ShapesConfig, ShapesSeed, Split};
use simsiam_em::kernel::{self, Precision};
use simsiam_em::measure::{Labelled, knn};
use simsiam_em::network::config::{Backbone, EncoderConfig, HeadNorm, ProjectorConfig};
use simsiam_em::optim::{Decay, OptimConfig, Sgd};
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Model, embed};
use std::sync::atomic::AtomicBool;

const SIZE: usize = 24;
const BATCH: usize = 64;
const EPOCHS: u64 = 20;
/// Nobody asks to stop.
static NEVER: AtomicBool = AtomicBool::new(false);

fn main() {
    let config = DataConfig {
        source: "shapes".into(),
        train_images: 2000,
        test_images: 1000,
        shapes_size: SIZE,
        shapes_seed: ShapesSeed::Fixed(0),
        shapes: ShapesConfig::default(),
        skip_bad: false,
        held_out: None,
    };
    let data = Dataset::open(&config).unwrap();
    let pixels = |split: &Split| {
        Array2::from_shape_fn((split.len(), SIZE * SIZE * 3), |(i, j)| {
            f32::from(split.image(i).unwrap().pixels[j]) / 255.0 - 0.5
        })
    };
    let top1 = |train: Array2<f32>, test: Array2<f32>| {
        let train = Labelled { x: train.view(), labels: data.train.labels() };
        let predicted = knn::predict(train, test.view(), 20, 0.1, &NEVER).unwrap();
        knn::top1(&predicted, data.test.labels())
    };
    println!("raw pixels, kNN top-1          {:.1} %", top1(pixels(&data.train), pixels(&data.test)));
    for seed in 0..3 {
        let model = network(seed);
        let features = |split: &Split| embed(&model, split, &views(0.999), &NEVER).unwrap().0;
        println!(
            "random weights {seed}, kNN top-1    {:.1} %",
            top1(features(&data.train), features(&data.test))
        );
    }
    println!("supervised, top-1              {:.1} %", supervised(&data));
}

/// The laptop scale's backbone with ten outputs.
fn network(seed: u64) -> Model {
    let encoder = EncoderConfig {
        backbone: Backbone::Resnet8 { width: 16 },
        zero_init_residual: true,
        projector: ProjectorConfig { layers: 1, hidden: None, dim: 10, norm: HeadNorm::None },
        precision: Precision::F32,
    };
    Model::new(&encoder, &Predictor::None {}, SIZE, seed, &kernel::select(Precision::F32).unwrap()).unwrap()
}

/// The recipe's views with crops of at least `smallest` of the area.
fn views(smallest: f32) -> simsiam_em::augment::AugmentConfig {
    simsiam_em::augment::AugmentConfig {
        size: SIZE,
        crop_scale: [smallest, 1.0],
        flip: 0.5,
        jitter: 0.8,
        jitter_strength: [0.4, 0.4, 0.4, 0.1],
        grayscale: 0.2,
        blur: 0.0,
        blur_sigma: [0.1, 2.0],
        mean: [0.5; 3],
        std: [0.25; 3],
        finite: None,
        multi_crop: None,
    }
}

/// Trains on labels, through the same augmentations, and returns held-out top-1 in percent.
fn supervised(data: &Dataset) -> f64 {
    let model = network(0);
    let part = model.parts().next().unwrap();
    let sgd = Sgd::new(part.layers());
    let optim = OptimConfig { base_lr: 0.2, decay: Decay::CosineStep, ..OptimConfig::default() };
    let steps = EPOCHS * steps_per_epoch(data.train.len(), BATCH);
    for step in 0..steps {
        let batch = prepare(&data.train, &views(0.2), BatchShape::drawn(BATCH, 1), 0, step).unwrap();
        let x = Tensor::from_vec(batch.views, (1, BATCH, SIZE, SIZE, 3), &Device::Cpu).unwrap();
        let labels = Tensor::from_vec(batch.labels, (BATCH, 1), &Device::Cpu).unwrap();
        let logits = model.z(&x).unwrap().squeeze(0).unwrap();
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        let loss = log_p.gather(&labels, 1).unwrap().mean_all().unwrap().neg().unwrap();
        let gradients = loss.backward().unwrap();
        sgd.step(
            part.theta,
            gradients.get(part.theta).unwrap(),
            optim.lr(BATCH, step, steps, EPOCHS),
            &optim,
        )
        .unwrap();
    }
    let (_, logits) = embed(&model, &data.test, &views(0.999), &NEVER).unwrap();
    let argmax = |row: ndarray::ArrayView1<f32>| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class as u32)
    };
    let predicted: Vec<u32> = logits.rows().into_iter().map(argmax).collect();
    knn::top1(&predicted, data.test.labels())
}
