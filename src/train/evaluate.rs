//! Reading a model: embeddings of a split in evaluation mode, and the numbers made of them.

use super::Model;
use crate::augment::AugmentConfig;
use crate::data::{Dataset, Split, first_of_each_class, plain};
use crate::error::Result;
use crate::measure::{MeasureConfig, collapse, knn, linear_probe};
use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis, s};

/// Images per forward pass.
const BATCH: usize = 128;
/// Rows of z that the spectrum reads.
const SPECTRUM_ROWS: usize = 1024;

/// The numbers of one evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Weighted kNN top-1 on the pooled backbone features, in percent.
    pub knn_top1: f64,
    /// Linear probe top-1 on the same features, in percent; none when not asked for.
    pub linear_top1: Option<f64>,
    /// std of z/‖z‖ times √d over held-out images.
    pub z_std: f64,
    /// RankMe of z of held-out images.
    pub rankme: f64,
    /// Singular values of z of held-out images, largest first.
    pub spectrum: Vec<f64>,
}

/// Evaluation-mode (features (N, D), z (N, d)) of a whole split, unaugmented.
pub fn embed(model: &Model, split: &Split, augment: &AugmentConfig) -> Result<(Array2<f32>, Array2<f32>)> {
    let (mut features, mut outputs) = (Vec::new(), Vec::new());
    let (mut features_dim, mut output_dim) = (0, 0);
    for start in (0..split.len()).step_by(BATCH) {
        let end = (start + BATCH).min(split.len());
        let x = plain(split, start..end, augment)?;
        let x = Tensor::from_vec(x, (end - start, augment.size, augment.size, 3), &Device::Cpu)?;
        let (f, z) = model.evaluate(&x)?;
        (features_dim, output_dim) = (f.dim(1)?, z.dim(1)?);
        features.extend(f.flatten_all()?.to_vec1::<f32>()?);
        outputs.extend(z.flatten_all()?.to_vec1::<f32>()?);
    }
    let rows = |values, dim| {
        Array2::from_shape_vec((split.len(), dim), values)
            .map_err(|e| crate::Error::Failure(format!("embeddings have a wrong shape: {e}")))
    };
    Ok((rows(features, features_dim)?, rows(outputs, output_dim)?))
}

/// The singular values of z of held-out images.
pub fn held_out_spectrum(model: &Model, dataset: &Dataset, augment: &AugmentConfig) -> Result<Vec<f64>> {
    let (_, z) = embed(model, &dataset.test, augment)?;
    Ok(collapse::singular_values(z.slice(s![..z.nrows().min(SPECTRUM_ROWS), ..])))
}

/// Measures `model` on `dataset`; the linear probe only where `probe` says so.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    augment: &AugmentConfig,
    config: &MeasureConfig,
    probe: bool,
    seed: u64,
) -> Result<Evaluation> {
    let (train, _) = embed(model, &dataset.train, augment)?;
    let (test, z) = embed(model, &dataset.test, augment)?;
    let (train_labels, test_labels) = (dataset.train.labels(), dataset.test.labels());
    let read = first_of_each_class(train_labels, dataset.classes.len(), config.knn_images);
    let predicted = if read.len() == train_labels.len() {
        knn::predict(train.view(), train_labels, test.view(), config.knn_k, config.knn_temperature)
    } else {
        let labels: Vec<u32> = read.iter().map(|index| train_labels[*index]).collect();
        let rows = train.select(Axis(0), &read);
        knn::predict(rows.view(), &labels, test.view(), config.knn_k, config.knn_temperature)
    };
    let linear_top1 = (probe && config.probe_epochs > 0).then(|| {
        linear_probe::linear_probe(train.view(), train_labels, test.view(), test_labels, config, seed)
    });
    let z: ArrayView2<f32> = z.slice(s![..z.nrows().min(SPECTRUM_ROWS), ..]);
    let spectrum = collapse::singular_values(z);
    Ok(Evaluation {
        knn_top1: knn::top1(&predicted, test_labels),
        linear_top1,
        z_std: collapse::std(z) * (z.ncols() as f64).sqrt(),
        rankme: collapse::rankme(&spectrum),
        spectrum,
    })
}
