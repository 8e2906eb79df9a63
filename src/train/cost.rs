//! What a run costs: its memory, reckoned from the recipe, and its time, from a few steps.

use super::em::views_of_t;
use super::state::BANK_MEMORY_BYTES;
use super::{Alternation, Model, Rates};
use crate::data::loader;
use crate::device::processor_kernel;
use crate::error::Result;
use crate::eta::{BankPlace, Rule, Size, Steps, Views};
use crate::kernel::Precision;
use crate::network::Network;
use crate::network::pass_floats;
use crate::objective::Similarity;
use crate::recipe::{Predictor, Recipe};
use candle_core::{Device, Tensor};
use std::time::Instant;

/// Vectors as long as θ: θ itself, momentum, the gradient, candle's sum of it, a checkpoint's copy.
const COPIES_OF_THETA: usize = 5;
/// Batches that are held at once: the step's own and those prepared ahead of it.
const BATCHES: usize = 5;

/// Bytes that a run on `images` training images holds at its fullest, to within a quarter or so;
/// the images themselves, which all runs share, are not counted, nor is a memory bank in a mapped
/// file: what is resident of it, the system takes away when memory is short.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe whose networks cannot be made.
pub fn memory_bytes(recipe: &Recipe, images: usize) -> Result<u64> {
    let kernel = processor_kernel(recipe.encoder.precision)?;
    let (encoder, heads) = recipe.networks()?;
    let (batch, size) = (recipe.schedule.batch, recipe.augment.size);
    let views = recipe.views();
    let mut floats = BATCHES * views * batch * size * size * 3;
    for network in std::iter::once(&encoder).chain(&heads) {
        floats += network.theta_len() * COPIES_OF_THETA;
        floats += pass_floats(network, &kernel, recipe.objective.views().min(views), batch);
    }
    if let Some(crops) = &recipe.augment.multi_crop {
        floats += BATCHES * crops.count * batch * crops.size * crops.size * 3;
        let small = Network::encoder(&recipe.encoder, (crops.size, crops.size))?;
        floats += pass_floats(&small, &kernel, crops.count, batch);
    }
    let d = encoder.output_dim();
    let size_of_run = recipe.rule_size(images, loader::steps_per_epoch(images, batch));
    floats += recipe.eta.kept_floats(&size_of_run, batch, encoder.theta_len(), BANK_MEMORY_BYTES);
    floats += objective_floats(recipe, d);
    if recipe.predictor.is_set() {
        // Two moments in f32; F, its eigenvectors, products and a batch's means in f64.
        floats += 16 * d * d;
    }
    if let Some(em) = &recipe.measure.em {
        let (of_t, _) = views_of_t(recipe, em);
        let watched = if em.eta { batch } else { 0 } + if em.objective { em.images.min(images) } else { 0 };
        floats += of_t * watched * size * size * 3;
    }
    floats += evaluation_floats(recipe, images, encoder.features_dim(), d);
    // A detector comes behind the run that it begins with.
    floats = floats.max(super::transfer::floats(recipe)?);
    Ok(floats as u64 * size_of::<f32>() as u64)
}

/// Numbers that measuring makes of all training images: their features of `features` numbers, and
/// beside them in turn their outputs of `dim` numbers with those of unit length that kNN reads, the
/// features of unit length that it reads, the probe's statistics in f64.
fn evaluation_floats(recipe: &Recipe, images: usize, features: usize, dim: usize) -> usize {
    let measure = &recipe.measure;
    let read = if measure.knn_images == 0 { images } else { 2 * measure.knn_images.min(images) };
    let probe = if measure.probe_epochs > 0 { 2 * images } else { 0 };
    images * features + (dim * (images + read)).max(features * read.max(probe))
}

/// Numbers that the objective makes of outputs of `dim` numbers beside those of h: scores of
/// prototypes and codes, or the cosines or distances of all pairs of a batch, each several times
/// over with their gradients; and what the terms that keep outputs apart make.
fn objective_floats(recipe: &Recipe, dim: usize) -> usize {
    let rows = recipe.objective.views() * recipe.schedule.batch;
    let copies = 8;
    let apart = recipe.objective.spread.map_or(0, |spread| spread.floats(rows, dim));
    let of_d = match (recipe.objective.prototypes, recipe.objective.similarity) {
        (Some(prototypes), _) => {
            let crops = recipe.augment.multi_crop.as_ref().map_or(0, |crops| crops.count);
            let rows = rows + crops * recipe.schedule.batch;
            prototypes.count * (COPIES_OF_THETA * dim + copies * rows)
        }
        (None, Similarity::InfoNce) if recipe.eta.negatives() == 0 => copies * rows * rows,
        (None, Similarity::Contrastive) => 2 * copies * rows * rows,
        _ => 0,
    };
    of_d + apart
}

/// Steps that are timed, after one that warms up.
const TIMED: u64 = 3;

/// Seconds that a run takes on `threads` threads, judging by a few steps on noise: training, and
/// passing all images through the encoder whenever it is measured; or fine-tuning a detector. To
/// within a third or so.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe that cannot be trained.
pub fn seconds(recipe: &Recipe, train_images: usize, test_images: usize, threads: usize) -> Result<f64> {
    super::pool(threads)?.install(|| match &recipe.transfer {
        Some(_) => super::transfer::seconds(recipe),
        None => measured_seconds(recipe, train_images, test_images),
    })
}

fn measured_seconds(recipe: &Recipe, train_images: usize, test_images: usize) -> Result<f64> {
    let (batch, size, views) = (recipe.schedule.batch, recipe.augment.size, recipe.views());
    let step = seconds_of_a_step(recipe)?;
    // A view with gradient passes forward and backward, which is twice as much; the others forward
    // only. An E-step of its own passes all once more.
    let trained = recipe.objective.trained_views();
    let with_gradient = recipe.eta.views_with_gradient(recipe.objective.views(), trained);
    // A small crop passes as a view does, over fewer pixels.
    let crops = recipe.augment.multi_crop.as_ref();
    let share = crops.map_or(0.0, |crops| crops.count as f64 * (crops.size as f64 / size as f64).powi(2));
    let forward = step.passes / ((2 * with_gradient + views) as f64 + 3.0 * share);
    let own_e_step = matches!(recipe.eta, Rule::KStep { k } if k != Steps::Count(1));
    let e_step = if own_e_step { views as f64 * forward } else { 0.0 };
    let epochs = recipe.schedule.own_epochs();
    let steps = loader::steps_per_epoch(train_images, batch) * epochs;
    let watched =
        recipe.measure.em.as_ref().map_or(0, |em| em.images.min(test_images) * views_of_t(recipe, em).0);
    let measured = (train_images + test_images + watched) as u64 * (epochs / recipe.measure.every + 2);
    Ok(steps as f64 * (step.passes + step.decomposition + e_step) + measured as f64 * forward / batch as f64)
}

/// Seconds of a step by what its convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSeconds {
    /// With f32.
    pub f32: f64,
    /// With bf16; none where the processor does not multiply such numbers.
    pub bf16: Option<f64>,
}

/// Images of a batch at most whose steps are compared: more change nothing about which is faster.
const COMPARED_BATCH: usize = 64;
/// How often both are timed, by turns; the medians count.
const TURNS: usize = 3;

/// Seconds of a step of `recipe` on noise with either precision of its encoder, on `threads`
/// threads.
///
/// # Errors
/// [`crate::Error::Usage`] for a recipe that cannot be trained.
pub fn seconds_by_precision(recipe: &Recipe, threads: usize) -> Result<StepSeconds> {
    let mut recipe = recipe.with_seed(recipe.seed);
    recipe.schedule.batch = recipe.schedule.batch.min(COMPARED_BATCH);
    let mut timed = |precision| {
        recipe.encoder.precision = precision;
        seconds_of_a_step(&recipe).map(|step| step.passes)
    };
    let has_bf16 = processor_kernel(Precision::Bf16).is_ok();
    super::pool(threads)?.install(|| {
        let (mut f32, mut bf16) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            f32.push(timed(Precision::F32)?);
            if has_bf16 {
                bf16.push(timed(Precision::Bf16)?);
            }
        }
        let median = |mut seconds: Vec<f64>| {
            seconds.sort_by(f64::total_cmp);
            seconds.get(TURNS / 2).copied()
        };
        Ok(StepSeconds { f32: median(f32).unwrap_or(f64::INFINITY), bf16: median(bf16) })
    })
}

/// Seconds of a step, in the mean.
struct Timed {
    passes: f64,
    /// A directly set predictor's share of its eigen-decomposition.
    decomposition: f64,
}

/// Times a few steps of `recipe` on noise.
fn seconds_of_a_step(recipe: &Recipe) -> Result<Timed> {
    let kernel = processor_kernel(recipe.encoder.precision)?;
    let (batch, size, views) = (recipe.schedule.batch, recipe.augment.size, recipe.views());
    let mut predictor = recipe.predictor.clone();
    // Eigen-decompositions are timed apart: not every step has one.
    let every = match &mut predictor {
        Predictor::Direct(config) => std::mem::replace(&mut config.every, u64::MAX),
        Predictor::LeastSquares(config) => std::mem::replace(&mut config.every, u64::MAX),
        _ => 1,
    };
    let model = Model::of(&Recipe { predictor, ..recipe.clone() }, &kernel)?;
    let place = BankPlace::default();
    let rule = recipe.eta.of_every_step();
    let e_step = rule.build(&Size { steps: 1, ..recipe.rule_size(batch, 1) }, &place)?;
    let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
    let mut alternation = Alternation::new(model, &rule, e_step, objective, optim, recipe.seed)?;
    let x = Tensor::randn(0f32, 1.0, (views, batch, size, size, 3), &Device::Cpu)?;
    let crops = recipe.augment.multi_crop.as_ref();
    let shape = crops.map(|crops| (crops.count, batch, crops.size, crops.size, 3));
    let small = shape.map(|shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu)).transpose()?;
    let labels = vec![0; batch];
    let mut noise = |step| {
        let (x, small) = (x.clone(), small.clone());
        Ok(Views { step, indices: Vec::new(), labels: labels.clone(), x, small })
    };
    let mut begun = Instant::now();
    for step in 0..=TIMED {
        if step == 1 {
            begun = Instant::now();
        }
        alternation.step(step, u64::MAX, Rates { encoder: 0.0, predictor: 0.0 }, &mut noise)?;
    }
    let passes = begun.elapsed().as_secs_f64() / TIMED as f64;
    let mut decomposition = 0.0;
    if let Some(direct) = &alternation.direct {
        begun = Instant::now();
        drop(direct.weights());
        decomposition = begun.elapsed().as_secs_f64() / every as f64;
    }
    Ok(Timed { passes, decomposition })
}
