//! What is wrong with images, views or a recipe, found in minutes: the answer to "the loss goes to
//! -1 at once on my data; why, and which key?".
//!
//! [`examine`] looks at a sample of the images ([`images`]) and at views of some of them
//! ([`views`]), reads the recipe ([`method`]), and trains it for a hundred or two steps, as it is
//! and with one thing changed ([`trials`]). What all of that gives are numbers, [`Facts`]; from
//! them alone, by rules that are pure functions, follow the diagnoses ([`diagnosis`]).
//!
//! Nothing is written, and nothing depends on a clock: the sample, the length of the trials and the
//! network that stands in for a large one follow from counts. So the same recipe, seed and images
//! get the same diagnosis, for any number of threads.

pub mod diagnosis;
pub mod images;
pub mod looks;
pub mod method;
mod rules;
pub mod trials;
pub mod views;
pub mod weights;

use crate::data::{DataConfig, Dataset, first_of_each_class};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::eta::Rule;
use crate::recipe::Recipe;
use diagnosis::{Diagnosis, Severity};
use looks::Look;
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Training and held-out images that are looked at, at most.
const IMAGES: [usize; 2] = [2000, 500];
/// Pixels that are decoded for it, at most: some ten seconds of two cores for JPEG files.
const PIXELS: usize = 400_000_000;
/// Images that are looked at however large they are; training images of which a size is told.
const FEWEST: [usize; 2] = [160, 40];
const MEASURED: usize = 16;

/// All numbers that diagnoses follow from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Of the images.
    pub images: images::ImageFacts,
    /// Of the views.
    pub views: views::ViewFacts,
    /// Of the recipe.
    pub method: method::MethodFacts,
    /// Of the trials, the initial weights first.
    pub trials: Vec<trials::TrialFacts>,
    /// Why and how what is tried differs from the recipe; none where it does not.
    pub stand_in: Option<String>,
    /// Of weights that were trained before.
    pub weights: Option<weights::WeightFacts>,
    /// `optim.base_lr`.
    pub base_lr: f64,
    /// Whether each layer has a rate of its own (LARS).
    pub lars: bool,
    /// Whether views are those of a finite set.
    pub finite: bool,
    /// Whether no labels are learnt.
    pub learns_alone: bool,
}

impl Facts {
    /// The trial of the recipe as it is.
    fn trial(&self) -> Option<&trials::TrialFacts> {
        rules::as_given(&self.trials)
    }
}

/// What an examination gives.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Whether nothing is wrong; notes may be there all the same.
    pub healthy: bool,
    /// What is wrong, the worst first.
    pub diagnoses: Vec<Diagnosis>,
    /// What that follows from.
    pub facts: Facts,
}

impl Examination {
    /// How many diagnoses are as severe as `severity`.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnoses.iter().filter(|diagnosis| diagnosis.severity == severity).count()
    }
}

/// `data` with as many images as are looked at, at most.
pub fn sampled(data: &DataConfig) -> DataConfig {
    let at_most = |asked: usize, most: usize| if asked == 0 { most } else { asked.min(most) };
    let [train, test] = IMAGES;
    let (train_images, test_images) = (at_most(data.train_images, train), at_most(data.test_images, test));
    DataConfig { train_images, test_images, ..data.clone() }
}

/// With what, and how long, is examined.
pub struct Effort<'a> {
    /// Where networks are.
    pub site: &'a Site,
    /// Asks to stop.
    pub stop: &'a AtomicBool,
    /// Is told what is being done.
    pub tell: &'a dyn Fn(&str),
    /// SGD steps of a trial at most: [`trials::MOST_STEPS`].
    pub steps: u64,
}

/// Examines `recipe` on the images of `dataset`, which [`sampled`] has made few. `weights` are
/// numbers of weights that were trained before.
///
/// # Errors
/// [`Error::Usage`] for a recipe that cannot be trained, [`Error::Data`] for an image that cannot
/// be decoded, [`Error::Stopped`] once `stop` is set.
pub fn examine(
    recipe: &Recipe,
    dataset: &Dataset,
    weights: Option<weights::WeightFacts>,
    effort: &Effort,
) -> Result<Examination> {
    let Effort { site, stop, tell, steps } = *effort;
    if recipe.closed_form.is_some() {
        return Err(Error::Usage(
            "a recipe that is computed in closed form sees no images to be looked at".into(),
        ));
    }
    recipe.check()?;
    let bench = trials::Bench::of(recipe, steps)?;
    let used = match recipe.data.train_images {
        0 => dataset.there[0],
        asked => asked.min(dataset.there[0]),
    };
    let method = method::facts(recipe, used)?;
    tell("looking at the images");
    let (images, small) = look_at(dataset, recipe, &bench.recipe, stop)?;
    tell("comparing views");
    let views = views::facts(&small.train, &bench.recipe, site, stop)?;
    let trials = bench.make(&small, site, stop, tell)?;
    let facts = Facts {
        images,
        views,
        method,
        trials,
        stand_in: bench.stand_in,
        weights,
        base_lr: recipe.optim.base_lr,
        lars: recipe.optim.lars.is_some(),
        finite: recipe.augment.finite.is_some(),
        learns_alone: recipe.eta != (Rule::Labels {}),
    };
    let diagnoses = rules::diagnose(&facts);
    let healthy = diagnoses.iter().all(|diagnosis| diagnosis.severity == Severity::Note);
    Ok(Examination { healthy, diagnoses, facts })
}

/// The facts of the images, and the images themselves, small and in memory, for views and trials.
fn look_at(
    dataset: &Dataset,
    recipe: &Recipe,
    tried: &Recipe,
    stop: &AtomicBool,
) -> Result<(images::ImageFacts, Dataset)> {
    // Small crops of it are to be sharp.
    let keep = 3 * tried.augment.size;
    let counts = affordable(dataset)?;
    let chosen = |labels: &[u32], count: usize| first_of_each_class(labels, dataset.classes.len(), count);
    let [train, test] = [(&dataset.train, counts[0]), (&dataset.test, counts[1])]
        .map(|(split, count)| images::look(split, &chosen(split.labels(), count), keep, stop));
    let looks = [train?, test?];
    let facts = images::facts(dataset, [&looks[0], &looks[1]]);
    let halves = looks.map(|looks: Vec<Look>| looks.into_iter().map(|look| (look.kept, look.label)).unzip());
    // Labels that only other images have say nothing of these.
    let classes = if dataset.trains_on_labelled() { dataset.classes.clone() } else { Vec::new() };
    Ok((facts, Dataset::in_memory(&recipe.data, classes, halves)))
}

/// Training and held-out images that are looked at: fewer where they are large.
fn affordable(dataset: &Dataset) -> Result<[usize; 2]> {
    let measured = dataset.train.len().min(MEASURED);
    let mut pixels = 0;
    for index in 0..measured {
        let image = dataset.train.image(index * dataset.train.len() / measured)?;
        pixels += image.width * image.height;
    }
    let all = PIXELS / (pixels / measured.max(1)).max(1);
    // Four of five are training images.
    let [train, test] = [all / 5 * 4, all / 5];
    Ok([train.max(FEWEST[0]).min(dataset.train.len()), test.max(FEWEST[1]).min(dataset.test.len())])
}
