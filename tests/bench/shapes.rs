//! How hard the procedural images of the laptop scale are, on held-out ones: kNN on raw pixels, kNN
//! on random weights, and the scale's backbone trained on labels. `cargo bench --bench shapes`.
//!
//! SimSiam's own figure is `sim run simsiam`.

use candle_core::{D, Device, Tensor};
use ndarray::Array2;
use simsiam_em::data::loader::{BatchShape, prepare, steps_per_epoch};
use simsiam_em::data::{Dataset, Split};
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::Precision;
use simsiam_em::measure::{Labelled, knn};
use simsiam_em::network::config::{EncoderConfig, HeadNorm, ProjectorConfig};
use simsiam_em::optim::{Decay, OptimConfig, Sgd};
use simsiam_em::recipe::{Predictor, Recipe};
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{Model, embed};
use std::sync::atomic::AtomicBool;

const EPOCHS: u64 = 20;
/// Nobody asks to stop.
static NEVER: AtomicBool = AtomicBool::new(false);

fn main() {
    let scale = Study::find("simsiam").unwrap().resolve(&Request::default()).unwrap();
    let recipe = scale[0].recipe.with_seed(0);
    let data = Dataset::open(&recipe.data).unwrap();
    let values = recipe.data.shapes_size.pow(2) * 3;
    let pixels = |split: &Split| {
        Array2::from_shape_fn((split.len(), values), |(i, j)| {
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
        let model = network(&recipe, seed);
        let features = |split: &Split| embed(&model, split, &recipe.augment, &NEVER).unwrap().0;
        println!(
            "random weights {seed}, kNN top-1    {:.1} %",
            top1(features(&data.train), features(&data.test))
        );
    }
    println!("supervised, top-1              {:.1} %", supervised(&recipe, &data));
}

/// The scale's backbone with an output for each class.
fn network(recipe: &Recipe, seed: u64) -> Model {
    let dim = recipe.data.shapes.classes;
    let encoder = EncoderConfig {
        projector: ProjectorConfig { layers: 1, hidden: None, dim, norm: HeadNorm::None },
        ..recipe.encoder.clone()
    };
    let kernel = processor_kernel(Precision::F32).unwrap();
    Model::new(&encoder, &Predictor::None {}, recipe.augment.size, seed, &kernel).unwrap()
}

/// Trains on labels, through the same augmentations, and returns held-out top-1 in percent.
fn supervised(recipe: &Recipe, data: &Dataset) -> f64 {
    let (batch, size) = (recipe.schedule.batch, recipe.augment.size);
    let model = network(recipe, 0);
    let part = model.parts().next().unwrap();
    let sgd = Sgd::new(part.parameters(), part.engine.machine()).unwrap();
    let optim = OptimConfig { base_lr: 0.2, decay: Decay::CosineStep, ..OptimConfig::default() };
    let steps = EPOCHS * steps_per_epoch(data.train.len(), batch);
    for step in 0..steps {
        let drawn = prepare(&data.train, &recipe.augment, BatchShape::drawn(batch, 1), 0, step).unwrap();
        let x = Tensor::from_vec(drawn.views, (1, batch, size, size, 3), &Device::Cpu).unwrap();
        let labels = Tensor::from_vec(drawn.labels, (batch, 1), &Device::Cpu).unwrap();
        let logits = model.z(&x).unwrap().squeeze(0).unwrap();
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        let loss = log_p.gather(&labels, 1).unwrap().mean_all().unwrap().neg().unwrap();
        let gradients = loss.backward().unwrap();
        sgd.step(
            part.theta,
            gradients.get(part.theta).unwrap(),
            optim.lr(batch, step, steps, EPOCHS),
            &optim,
        )
        .unwrap();
    }
    let (_, logits) = embed(&model, &data.test, &recipe.augment, &NEVER).unwrap();
    let argmax = |row: ndarray::ArrayView1<f32>| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class as u32)
    };
    let predicted: Vec<u32> = logits.rows().into_iter().map(argmax).collect();
    knn::top1(&predicted, data.test.labels())
}
