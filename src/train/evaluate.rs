//! Reading a model: embeddings of a split in evaluation mode, and the numbers made of them.

use super::Model;
use crate::augment::AugmentConfig;
use crate::data::{Dataset, Split, first_of_each_class, plain};
use crate::error::{Result, go_on};
use crate::kernel::ranks::gather_numbers;
use crate::measure::{Labelled, MeasureConfig, collapse, knn, linear_probe};
use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis, s};
use std::sync::atomic::AtomicBool;

/// Images per forward pass, where they fit into memory.
pub const BATCH: usize = 128;
/// Rows of z that the spectrum reads.
const SPECTRUM_ROWS: usize = 1024;

/// The numbers of one evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Weighted kNN top-1 on the pooled backbone features, in percent; none where images have no
    /// labels, as every accuracy.
    pub knn_top1: Option<f64>,
    /// Weighted kNN top-1 on the outputs z, in percent. The loss sees z, so that collapse is read
    /// here, where a backbone may still tell classes apart. Without a projector z are the features.
    pub z_knn_top1: Option<f64>,
    /// Linear probe top-1 on the pooled backbone features, in percent; none when not asked for.
    pub linear_top1: Option<f64>,
    /// std of z/‖z‖ times √d over held-out images.
    pub z_std: f64,
    /// RankMe of z of held-out images.
    pub rankme: f64,
    /// How evenly z/‖z‖ of held-out images covers the sphere.
    pub uniformity: f64,
    /// Singular values of z of held-out images, largest first.
    pub spectrum: Vec<f64>,
    /// [`collapse::area`] and RankMe of the centred features of held-out images, where they are
    /// asked for.
    pub of_features: Option<[f64; 2]>,
    /// How many images those are.
    pub rows: usize,
}

impl Evaluation {
    /// Its numbers as columns of metrics.csv.
    pub fn columns(&self) -> Vec<(&'static str, f64)> {
        let columns = [
            ("val/knn_top1", self.knn_top1),
            ("val/z_knn_top1", self.z_knn_top1),
            ("val/z_std", Some(self.z_std)),
            ("val/rankme", Some(self.rankme)),
            ("val/uniformity", Some(self.uniformity)),
            ("val/linear_top1", self.linear_top1),
            ("spectrum/auc", self.of_features.map(|[auc, _]| auc)),
            ("spectrum/rankme", self.of_features.map(|[_, rank]| rank)),
        ];
        columns.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// How a model is measured.
#[derive(Clone, Copy, Debug)]
pub struct Protocol<'a> {
    /// Neighbours, temperature, the probe's schedule.
    pub config: &'a MeasureConfig,
    /// Whether the linear probe is run.
    pub probe: bool,
    /// The order in which the probe goes through the images.
    pub seed: u64,
}

/// A tensor of two dimensions as an array of the same.
pub(super) fn rows(tensor: &Tensor) -> Result<Array2<f32>> {
    let shape = tensor.dims2()?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Array2::from_shape_vec(shape, values).map_err(|e| crate::Error::Failure(e.to_string()))
}

/// Evaluation-mode (features (N, D), z (N, d)) of a whole split, unaugmented.
///
/// # Errors
/// [`crate::Error::Stopped`] once `stop` is set, [`crate::Error::Data`] for an image that cannot be
/// decoded,
/// [`crate::Error::Failure`] where one image alone would not fit into memory.
pub fn embed(
    model: &Model,
    split: &Split,
    augment: &AugmentConfig,
    stop: &AtomicBool,
) -> Result<(Array2<f32>, Array2<f32>)> {
    embed_some(model, split, &(0..split.len()).collect::<Vec<_>>(), augment, stop)
}

/// The same of the images `indices`, a row for each.
///
/// # Errors
/// As [`embed`].
pub fn embed_some(
    model: &Model,
    split: &Split,
    indices: &[usize],
    augment: &AugmentConfig,
    stop: &AtomicBool,
) -> Result<(Array2<f32>, Array2<f32>)> {
    let (mut features, mut outputs) = (Vec::new(), Vec::new());
    let (features_dim, output_dim) = (model.features_dim(), model.output_dim());
    let (batch, ranks) = (model.evaluation_batch(BATCH)?, model.site().ranks().as_ref());
    // Each rank passes a batch of its own, of the images that one rank would pass at once.
    let batches: Vec<&[usize]> = indices.chunks(batch).collect();
    for batches in batches.chunks(ranks.size()) {
        go_on(stop)?;
        let (mut own_features, mut own_outputs) = (Vec::new(), Vec::new());
        if let Some(indices) = batches.get(ranks.rank()) {
            let x = plain(split, indices, augment)?;
            let x = Tensor::from_vec(x, (indices.len(), augment.size, augment.size, 3), &Device::Cpu)?;
            let (f, z) = model.evaluate(&x)?;
            own_features = f.flatten_all()?.to_vec1::<f32>()?;
            own_outputs = z.flatten_all()?.to_vec1::<f32>()?;
        }
        for (all, mut own, dim) in
            [(&mut features, own_features, features_dim), (&mut outputs, own_outputs, output_dim)]
        {
            let lens: Vec<usize> = batches.iter().map(|indices| indices.len() * dim).collect();
            let longest = lens.iter().copied().max().unwrap_or(0);
            own.resize(longest, 0.0);
            let everybodys = gather_numbers(ranks, &own)?;
            lens.iter()
                .zip(everybodys.chunks(longest))
                .for_each(|(len, of_rank)| all.extend(&of_rank[..*len]));
        }
    }
    let rows = |values, dim| {
        Array2::from_shape_vec((indices.len(), dim), values)
            .map_err(|e| crate::Error::Failure(format!("embeddings have a wrong shape: {e}")))
    };
    Ok((rows(features, features_dim)?, rows(outputs, output_dim)?))
}

/// Measures `model` on `dataset`.
///
/// # Errors
/// As [`embed`].
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    augment: &AugmentConfig,
    protocol: &Protocol,
    stop: &AtomicBool,
) -> Result<Evaluation> {
    let (test_x, z) = embed(model, &dataset.test, augment, stop)?;
    let test = Labelled { x: test_x.view(), labels: dataset.test.labels() };
    let top1 = match dataset.is_labelled() {
        true => accuracies(model, dataset, (augment, protocol), test, z.view(), stop)?,
        false => [None; 3],
    };
    let [knn_top1, z_knn_top1, linear_top1] = top1;
    go_on(stop)?;
    let z: ArrayView2<f32> = z.slice(s![..z.nrows().min(SPECTRUM_ROWS), ..]);
    let spectrum = collapse::singular_values(z);
    let of_features = protocol.config.spectrum.then(|| {
        let values = collapse::singular_values(collapse::centred(test_x.view()).view());
        [collapse::area(&values), collapse::rankme(&values)]
    });
    Ok(Evaluation {
        of_features,
        knn_top1,
        z_knn_top1,
        linear_top1,
        z_std: collapse::std(z) * (z.ncols() as f64).sqrt(),
        rankme: collapse::rankme(&spectrum),
        uniformity: collapse::uniformity(z),
        spectrum,
        rows: z.nrows(),
    })
}

/// kNN top-1 of the features `test`, of the outputs `z`, and the linear probe's, in percent.
fn accuracies(
    model: &Model,
    dataset: &Dataset,
    (augment, protocol): (&AugmentConfig, &Protocol),
    test: Labelled,
    z: ArrayView2<f32>,
    stop: &AtomicBool,
) -> Result<[Option<f64>; 3]> {
    let Protocol { config, probe, seed } = *protocol;
    let (train_x, train_z) = embed(model, dataset.labelled(), augment, stop)?;
    let train = Labelled { x: train_x.view(), labels: dataset.labelled().labels() };
    let read = first_of_each_class(train.labels, dataset.classes.len(), config.knn_images);
    // First, so that the training images' outputs are gone before the probe takes memory.
    let of_z = if model.has_projector() {
        let train = Labelled { x: train_z.view(), ..train };
        Some(top1(train, Labelled { x: z, ..test }, &read, config, stop)?)
    } else {
        None
    };
    drop(train_z);
    let knn = top1(train, test, &read, config, stop)?;
    let probe = probe && config.probe_epochs > 0;
    let linear = probe.then(|| linear_probe::linear_probe(train, test, config, seed, stop)).transpose()?;
    Ok([Some(knn), Some(of_z.unwrap_or(knn)), linear])
}

/// Weighted kNN top-1 of `test` in percent, by the training images `read`.
fn top1(
    train: Labelled,
    test: Labelled,
    read: &[usize],
    config: &MeasureConfig,
    stop: &AtomicBool,
) -> Result<f64> {
    let vote = |train: Labelled| knn::predict(train, test.x, config.knn_k, config.knn_temperature, stop);
    let predicted = if read.len() == train.labels.len() {
        vote(train)?
    } else {
        let labels: Vec<u32> = read.iter().map(|index| train.labels[*index]).collect();
        vote(Labelled { x: train.x.select(Axis(0), read).view(), labels: &labels })?
    };
    Ok(knn::top1(&predicted, test.labels))
}
