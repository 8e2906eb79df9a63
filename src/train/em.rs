//! The alternation watched from outside: how near h comes to the expectation over T, and how far
//! the η that trains is from the exact one. Whether L(θ, η) falls in both half-steps: see
//! [`super::half_steps`].
//!
//! Nothing here moves θ, η, momentum or running statistics.

use super::evaluate::rows;
use super::records::Records;
use super::{Model, weights};
use crate::data::loader::{BatchShape, views_of};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result, go_on};
use crate::files;
use crate::measure::em::{EmConfig, EtaGap, PredictorGap, eta_gap, predictor_gap};
use crate::recipe::Recipe;
use crate::record::{EIGENVALUES, TRAJECTORY, read_result};
use candle_core::{Device, Tensor};
use ndarray::Array2;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What a trajectory's vector is called.
const THETA: &str = "theta";
/// Views per forward pass of held-out images.
const BATCH: usize = 256;
/// Which streams the views of a measurement come from, beside those keyed by a step.
const HELD_OUT: u64 = u64::MAX;
pub(super) const OBJECTIVE: u64 = u64::MAX - 1;
pub(super) const FIELD: u64 = u64::MAX / 2;

/// How many views stand for E_T, and whether they are all of T.
pub(super) fn views_of_t(recipe: &Recipe, em: &EmConfig) -> (usize, bool) {
    match recipe.elements() {
        0 => (em.views, false),
        elements => (elements, true),
    }
}

/// `count` of `images` images, evenly spaced.
pub(super) fn spaced(images: usize, count: usize) -> Vec<u32> {
    let count = count.min(images);
    (0..count).map(|i| (i * images / count) as u32).collect()
}

/// Views of the images `indices` as a tensor (V, B, H, W, C).
pub(super) fn tensor(
    split: &Split,
    recipe: &Recipe,
    indices: &[u32],
    shape: BatchShape,
    key: u64,
) -> Result<Tensor> {
    let size = recipe.augment.size;
    let x = views_of(split, &recipe.augment, indices, shape, recipe.seed, key)?;
    Ok(Tensor::from_vec(x, (shape.views, indices.len(), size, size, 3), &Device::Cpu)?)
}

/// R² of the predictor on held-out images, in evaluation mode.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set.
pub fn held_out_gap(
    model: &Model,
    dataset: &Dataset,
    recipe: &Recipe,
    em: &EmConfig,
    stop: &AtomicBool,
) -> Result<PredictorGap> {
    let (views, exact) = views_of_t(recipe, em);
    let images = spaced(dataset.test.len(), em.images);
    let shape = BatchShape { listed: views, ..BatchShape::drawn(0, views) };
    let (mut z_rows, mut p_rows) = (Vec::new(), Vec::new());
    for (chunk, indices) in images.chunks((BATCH / views).max(1)).enumerate() {
        go_on(stop)?;
        let x = tensor(&dataset.test, recipe, indices, shape, HELD_OUT - 2 - chunk as u64)?;
        // Image by image, which is how the measurement takes them.
        let (_, z) = model.evaluate(&x.transpose(0, 1)?.flatten(0, 1)?.contiguous()?)?;
        p_rows.push(model.evaluate_p(&z)?);
        z_rows.push(z);
    }
    let (z, p) = (rows(&Tensor::cat(&z_rows, 0)?)?, rows(&Tensor::cat(&p_rows, 0)?)?);
    predictor_gap(z.view(), p.view(), views, exact, stop)
}

/// F_θ of views of a batch's images that stand for E_T, (B, d) each, batch norm in training mode:
/// what an exact E-step at `step` would take the mean of.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set.
pub fn samples(
    model: &Model,
    dataset: &Dataset,
    recipe: &Recipe,
    em: &EmConfig,
    step: u64,
    stop: &AtomicBool,
) -> Result<Vec<Array2<f32>>> {
    let (views, _) = views_of_t(recipe, em);
    let part = model.part(recipe.schedule.batch);
    let shape = BatchShape { listed: views, part, ..BatchShape::drawn(0, views) };
    let indices = recipe.batch_shape().indices(dataset.train.len(), recipe.seed, step);
    let x = tensor(&dataset.train, recipe, &indices, shape, step)?;
    let sample = |v: usize| {
        go_on(stop)?;
        rows(&model.frozen_z(&x.narrow(0, v, 1)?)?.squeeze(0)?)
    };
    unmoved(model, || (0..views).map(sample).collect())
}

/// What `measure` gives, with the running statistics of `model` put back afterwards.
///
/// # Errors
/// Those of `measure`.
pub(super) fn unmoved<T>(model: &Model, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = model.parts().map(|part| part.engine.hold_running()).collect::<Result<Vec<_>>>()?;
    let measured = measure();
    for (part, running) in model.parts().zip(&before) {
        part.engine.put_back_running(running)?;
    }
    measured
}

/// The η that a step trained on, (V', B, d) with a `second` draw of it where there is one, against
/// `samples`.
pub fn trained_gap(
    eta: &Tensor,
    second: Option<Tensor>,
    samples: &[Array2<f32>],
    recipe: &Recipe,
) -> Result<EtaGap> {
    // With both views trained η of the second is another draw for the same image.
    let pairs = recipe.objective.pairs;
    let second = match second {
        Some(second) => Some(rows(&second)?),
        None if eta.dim(0)? == 2 * pairs && !recipe.eta.shares_samples() => Some(rows(&eta.get(pairs)?)?),
        None => None,
    };
    let first = rows(&eta.get(0)?)?;
    Ok(eta_gap(first.view(), second.as_ref().map(|second| second.view()), samples, recipe.elements() > 0))
}

/// Keeps the encoder's θ at `step` among the run's `records`.
///
/// # Errors
/// [`Error::Disk`] when it cannot be written.
pub fn write_trajectory(model: &Model, step: u64, records: Records) -> Result<()> {
    let Some(encoder) = model.parts().next() else { return Ok(()) };
    write_vector((TRAJECTORY, THETA), step, encoder.theta.to_vec1()?, records)
}

/// θ of the run in the folder `run` at every measurement, in order; empty where none was kept.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read.
pub fn read_trajectory(run: &Path) -> Result<Vec<Vec<f32>>> {
    read_vectors(run, (TRAJECTORY, THETA))
}

/// The eigenvalues of E\[z zᵀ\] of held-out images, largest first, of the run in the folder `run`
/// at every measurement, in order; empty where none were kept.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read.
pub fn read_eigenvalues(run: &Path) -> Result<Vec<Vec<f32>>> {
    read_vectors(run, (EIGENVALUES, EIGENVALUES))
}

/// Keeps `values` at `step` as the vector `name` of a file in `folder`.
///
/// # Errors
/// [`Error::Disk`] when it cannot be written.
pub(super) fn write_vector(
    (folder, name): (&str, &str),
    step: u64,
    values: Vec<f32>,
    records: Records,
) -> Result<()> {
    records.write(&format!("{folder}/step-{step:08}.safetensors"), &weights::one_vector(name, values)?)
}

fn read_vectors(run: &Path, (within, vector): (&str, &str)) -> Result<Vec<Vec<f32>>> {
    let folder = run.join(within);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let unreadable = |e: std::io::Error| Error::data(&folder, format!("cannot be read: {e}"));
    let entries = std::fs::read_dir(&folder).map_err(unreadable)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = read_result(run, &format!("{within}/{name}"), files::WEIGHTS)?;
        weights::read_vector(vector, &bytes).map_err(|e| Error::data(path, e.to_string()))
    };
    paths.iter().map(read).collect()
}
