//! Short trainings: of the recipe as it is, and of the recipe with one thing changed.

use super::method::peak_rate;
use crate::data::Dataset;
use crate::device::Site;
use crate::error::Result;
use crate::measure::collapse::is_collapsed;
use crate::network::Network;
use crate::network::config::Backbone;
use crate::recipe::{Predictor, Recipe};
use crate::train::{Trial, TrialPlan, trial};
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Steps of a trial at most. Without stop-gradient the outputs of the laptop scale have collapsed
/// after 186 steps, most of them after a hundred.
pub const MOST_STEPS: u64 = 200;
/// Steps below which a trial says nothing: random weights begin with a small std too.
const FEWEST_STEPS: u64 = 100;
/// Products of numbers in the convolutions that a trial may take: some ten seconds of two cores.
const PRODUCTS: u64 = 300_000_000_000;
/// What stands in for a network that is too large to be tried: the laptop scale's, on views of at
/// most so many pixels, of batches of at most so many images.
const STAND_IN: Backbone = Backbone::Resnet8 { width: 16 };
const STAND_IN_SIZE: usize = 32;
const STAND_IN_BATCH: usize = 32;
const STAND_IN_DIM: usize = 256;
/// A larger batch than this is tried by nobody who has it.
const LARGE_BATCH: usize = 128;
/// The smallest batch that is tried as a larger one.
const LARGER_BATCH: usize = 32;
/// By how much the learning rate of one trial is lower.
const LOWER: f64 = 0.1;
/// The last losses of a trial, whose mean is its loss.
const LAST: usize = 10;

/// Held-out images below which nothing is said of the spread of their outputs: N of them have a
/// RankMe of N at most, and runs that learn reach 6 to 15 of so many.
pub const JUDGED: usize = 16;

/// What trials are made of.
pub struct Bench {
    /// The recipe that is tried: the given one, or one with a smaller network.
    pub recipe: Recipe,
    /// Why and how it differs from the given one; none where it does not.
    pub stand_in: Option<String>,
    /// Steps of a trial.
    pub steps: u64,
    /// The learning rate as given.
    pub rate: f64,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialFacts {
    /// Which one it is.
    pub name: &'static str,
    /// Steps made.
    pub steps: u64,
    /// The learning rate.
    pub rate: f64,
    /// Images of a batch.
    pub batch: usize,
    /// The mean loss of the last steps; none of the initial weights.
    pub loss: Option<f64>,
    /// Whether a loss or an output was not a finite number.
    pub diverged: bool,
    /// std of z/‖z‖ times √d over held-out images; none of fewer than [`JUDGED`].
    pub z_std: Option<f64>,
    /// RankMe of z of held-out images; none of fewer than [`JUDGED`].
    pub rankme: Option<f64>,
    /// kNN top-1 on z in percent; none where images have no labels.
    pub z_knn_top1: Option<f64>,
    /// d.
    pub dim: usize,
}

impl TrialFacts {
    /// Whether its outputs have collapsed.
    pub fn has_collapsed(&self) -> bool {
        let numbers = self.z_std.zip(self.rankme);
        self.steps > 0 && numbers.is_some_and(|(z_std, rankme)| is_collapsed(z_std, rankme, self.dim))
    }

    /// Whether it led nowhere.
    pub fn has_failed(&self) -> bool {
        self.diverged || self.has_collapsed()
    }
}

/// The names of the trials.
pub const UNTRAINED: &str = "untrained";
/// The recipe as it is.
pub const AS_GIVEN: &str = "as given";
/// Without predictor.
pub const WITHOUT_H: &str = "without h";
/// At a lower learning rate.
pub const LOWER_RATE: &str = "lower rate";
/// With more images in a batch.
pub const LARGER_BATCHES: &str = "larger batch";

impl Bench {
    /// What is tried of `recipe`, for `most` steps at most.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for networks that cannot be made.
    pub fn of(recipe: &Recipe, most: u64) -> Result<Bench> {
        let mut tried = recipe.clone();
        tried.measure.em = None;
        tried.measure.probe_epochs = 0;
        // A trial is made by one process, with batches of other sizes too.
        (tried.schedule.shards, tried.schedule.sync_batch_norm) = (1, true);
        let steps = |recipe: &Recipe| -> Result<u64> {
            let views = recipe.views().max(recipe.objective.views());
            let passes = 3 * (views * recipe.schedule.batch) as u64;
            Ok(PRODUCTS / (passes * Network::encoder(&recipe.encoder, size(recipe))?.products()).max(1))
        };
        let rate = peak_rate(recipe);
        let affordable = steps(&tried)?;
        let uncut = (!recipe.schedule.sync_batch_norm && recipe.schedule.shards > 1).then(|| {
            let shards = recipe.schedule.shards;
            format!("in trials batch norm takes its statistics over whole batches, not over each of {shards} shards alone")
        });
        if affordable >= FEWEST_STEPS {
            return Ok(Bench { recipe: tried, stand_in: uncut, steps: affordable.min(most), rate });
        }
        let said = stand_in(&mut tried);
        let steps = steps(&tried)?.max(FEWEST_STEPS).min(most);
        let stand_in = Some(uncut.map_or(said.clone(), |uncut| format!("{said}; {uncut}")));
        Ok(Bench { recipe: tried, stand_in, steps, rate })
    }

    /// The trials that are made, with their names: the recipe as it is first.
    fn list(&self) -> Vec<(&'static str, Recipe, f64)> {
        let given = &self.recipe;
        let mut list = vec![(AS_GIVEN, given.clone(), self.rate)];
        if given.predictor != (Predictor::None {}) {
            list.push((WITHOUT_H, Recipe { predictor: Predictor::None {}, ..given.clone() }, self.rate));
        }
        list.push((LOWER_RATE, given.clone(), LOWER * self.rate));
        if given.schedule.batch < LARGE_BATCH {
            let mut larger = given.clone();
            larger.schedule.batch = (4 * given.schedule.batch).clamp(LARGER_BATCH, LARGE_BATCH);
            list.push((LARGER_BATCHES, larger, self.rate));
        }
        // A comparison may need the predictor.
        list.retain(|(_, recipe, _)| recipe.check().is_ok());
        list
    }

    /// Makes the trials on `dataset`, after a measurement of the initial weights; `tell` is told of
    /// each before it begins, with how many there are.
    ///
    /// # Errors
    /// As [`trial`].
    pub fn make(
        &self,
        dataset: &Dataset,
        site: &Site,
        stop: &AtomicBool,
        tell: &dyn Fn(&str),
    ) -> Result<Vec<TrialFacts>> {
        let list = self.list();
        let mut facts = Vec::new();
        let untrained = std::iter::once((UNTRAINED, self.recipe.clone(), 0.0));
        for (index, (name, recipe, rate)) in untrained.chain(list.clone()).enumerate() {
            if index > 0 {
                tell(&format!("trial {index} of {}: {name}, {} steps", list.len(), self.steps));
            }
            let steps = if name == UNTRAINED { 0 } else { self.steps };
            let warmup = if recipe.optim.warmup_epochs > 0 { steps / 10 } else { 0 };
            let made = trial(site, &recipe, dataset, &TrialPlan { steps, warmup, rate }, stop)?;
            let judged = dataset.test.len() >= JUDGED;
            facts.push(of_trial(name, &recipe, (rate, judged), &made));
        }
        Ok(facts)
    }
}

fn size(recipe: &Recipe) -> (usize, usize) {
    (recipe.augment.size, recipe.augment.size)
}

fn of_trial(name: &'static str, recipe: &Recipe, (rate, judged): (f64, bool), made: &Trial) -> TrialFacts {
    let last = &made.losses[made.losses.len().saturating_sub(LAST)..];
    let evaluation = made.evaluation.as_ref();
    TrialFacts {
        name,
        steps: made.losses.len() as u64,
        rate,
        batch: recipe.schedule.batch,
        loss: (!last.is_empty() && evaluation.is_some())
            .then(|| last.iter().sum::<f64>() / last.len() as f64),
        diverged: evaluation.is_none(),
        z_std: evaluation.filter(|_| judged).map(|e| e.z_std),
        rankme: evaluation.filter(|_| judged).map(|e| e.rankme),
        z_knn_top1: evaluation.and_then(|e| e.z_knn_top1),
        dim: recipe.encoder.projector.dim,
    }
}

/// Puts a smaller network, smaller views and a smaller batch into `recipe`, and says so.
fn stand_in(recipe: &mut Recipe) -> String {
    let size = recipe.augment.size.min(STAND_IN_SIZE);
    let smaller = size as f32 / recipe.augment.size as f32;
    // A blur of so many pixels would hide more of a smaller view.
    recipe.augment.blur_sigma = recipe.augment.blur_sigma.map(|sigma| sigma * smaller);
    if let Some(crops) = &mut recipe.augment.multi_crop {
        crops.size = ((crops.size as f32 * smaller) as usize).max(8);
    }
    recipe.augment.size = size;
    recipe.encoder.backbone = STAND_IN;
    let projector = &mut recipe.encoder.projector;
    let narrower = (STAND_IN_DIM as f64 / projector.dim as f64).min(1.0);
    let scaled = |width: usize| ((width as f64 * narrower) as usize).max(1);
    // Of a classifier's head the outputs are the classes.
    if recipe.eta != (crate::eta::Rule::Labels {}) {
        (projector.dim, projector.hidden) = (scaled(projector.dim), projector.hidden.map(scaled));
        if let Predictor::Mlp(h) = &mut recipe.predictor {
            h.hidden = scaled(h.hidden);
        }
    }
    recipe.schedule.batch = recipe.schedule.batch.min(STAND_IN_BATCH);
    format!(
        "the recipe's network is too large to be tried in a minute: trials have resnet8 with 16 channels, views of {size} \
         pixels, batches of {} and d = {} in its place, at the recipe's own learning rate",
        recipe.schedule.batch, recipe.encoder.projector.dim
    )
}
