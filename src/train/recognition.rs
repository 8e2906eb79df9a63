//! What frozen features tell of identities: verification and one-shot recognition.

use super::{Model, embed};
use crate::augment::AugmentConfig;
use crate::data::{Dataset, ListedPair, PairImages};
use crate::error::Result;
use crate::measure::MeasureConfig;
use crate::measure::estimate::Estimate;
use crate::measure::one_shot::{Classifier, Task, accuracy};
use crate::measure::verification::{
    Pair, Verification, VerificationConfig, cosines, draw_forgeries, draw_pairs,
};
use crate::recipe::Recipe;
use ndarray::Array2;
use std::sync::atomic::AtomicBool;

/// Images by identity, as a model sees them: those of identities that no training image shows
/// where the data set has such, else the held-out ones.
pub struct Gallery {
    /// Features (N, D) and outputs z (N, d).
    rows: [Array2<f32>; 2],
    /// The identity of each, (N).
    labels: Vec<u32>,
    /// The alphabet of each identity; empty where they have none.
    alphabets: Vec<u32>,
    /// Features and outputs of forgeries, and the identity that each imitates.
    forged: Option<([Array2<f32>; 2], Vec<u32>)>,
}

/// Verification by each kind of rows; none where there are no pairs of both kinds, or features are
/// no numbers.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// By the cosine of the backbone's features.
    pub by_features: Option<Verification>,
    /// By that of the outputs z.
    pub by_z: Option<Verification>,
    /// By features, forgeries in the place of other identities.
    pub forged: Option<Verification>,
}

/// What each of [`Classifier::ALL`] answers right, parts of 1.
pub type Answers = [Estimate; Classifier::ALL.len()];

impl Gallery {
    /// The images of `dataset` by `model`; none where they have no labels.
    ///
    /// # Errors
    /// As [`embed`].
    pub fn of(
        model: &Model,
        dataset: &Dataset,
        augment: &AugmentConfig,
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let rows = |split| embed(model, split, augment, stop).map(|(x, z)| [x, z]);
        let Some(strangers) = &dataset.strangers else {
            let (labels, alphabets) = (dataset.test.labels().to_vec(), Vec::new());
            let gallery = || Ok(Self { rows: rows(&dataset.test)?, labels, alphabets, forged: None });
            return dataset.is_labelled().then(gallery).transpose();
        };
        let [images, forgeries] = strangers.images();
        let forged = match forgeries.is_empty() {
            true => None,
            false => Some((rows(forgeries)?, forgeries.labels().to_vec())),
        };
        let labels = images.labels().to_vec();
        Ok(Some(Self { rows: rows(images)?, labels, alphabets: strangers.alphabets(), forged }))
    }

    /// Whether all features are numbers.
    pub fn is_finite(&self) -> bool {
        self.rows.iter().all(|rows| rows.iter().all(|value| value.is_finite()))
    }

    /// Images and identities.
    pub fn counts(&self) -> [usize; 2] {
        [self.labels.len(), self.labels.iter().max().map_or(0, |label| *label as usize + 1)]
    }

    /// Verification on pairs drawn for `seed`.
    pub fn verification(&self, config: VerificationConfig, seed: u64) -> Verified {
        let pairs = draw_pairs(&self.labels, config, seed);
        let [by_features, by_z] = self
            .rows
            .each_ref()
            .map(|rows| Verification::of(&pairs, &cosines(rows.view(), rows.view(), &pairs)));
        let forged = self.forged.as_ref().and_then(|(rows, labels)| {
            let own: Vec<Pair> = pairs.iter().filter(|pair| pair.same).copied().collect();
            let forged = draw_forgeries(&self.labels, labels, config, seed);
            let x = self.rows[0].view();
            let scores = [cosines(x, x, &own), cosines(x, rows[0].view(), &forged)].concat();
            Verification::of(&[own, forged].concat(), &scores)
        });
        Verified { by_features, by_z, forged }
    }

    /// One-shot recognition in episodes drawn for `seed`; none where no alphabet has enough classes
    /// with enough images.
    pub fn one_shot(&self, task: &Task, seed: u64) -> Option<Answers> {
        let episodes = task.draw(&self.labels, &self.alphabets, seed)?;
        let answers = Classifier::ALL.map(|(by, _)| accuracy(&episodes, self.rows[0].view(), by));
        match answers {
            [Some(a), Some(b), Some(c)] => Some([a, b, c]),
            _ => None,
        }
    }

    /// The columns of metrics.csv that `config` asks for; none for what has no meaning.
    pub fn columns(&self, config: &MeasureConfig, seed: u64) -> Vec<(&'static str, f64)> {
        let mut values = Vec::new();
        if let Some(config) = config.verification {
            let Verified { by_features, by_z, forged } = self.verification(config, seed);
            values.extend(by_features.into_iter().flat_map(|v| {
                [
                    ("verify/auc", v.auc),
                    ("verify/eer", 100.0 * v.eer),
                    ("verify/tar_far10", 100.0 * v.tar_at_far_10),
                    ("verify/tar_far1", 100.0 * v.tar_at_far_1),
                    ("verify/accuracy", 100.0 * v.accuracy),
                    ("verify/accuracy_error", 100.0 * v.standard_error),
                ]
            }));
            values.extend(
                by_z.into_iter().flat_map(|v| [("verify/z_auc", v.auc), ("verify/z_eer", 100.0 * v.eer)]),
            );
            values.extend(
                forged
                    .into_iter()
                    .flat_map(|v| [("verify/forged_auc", v.auc), ("verify/forged_eer", 100.0 * v.eer)]),
            );
        }
        if let Some(config) = config.one_shot {
            let tasks = [
                (config.lake(), ["oneshot/top1", "oneshot/top1_interval"]),
                (config.five_way(1), ["oneshot/five_way", "oneshot/five_way_interval"]),
                (config.five_way(5), ["oneshot/five_shot", "oneshot/five_shot_interval"]),
            ];
            for (task, [name, interval]) in tasks {
                let Some([nearest, _, mean]) = self.one_shot(&task, seed) else { continue };
                values.push((name, 100.0 * mean.mean));
                values.extend(mean.half_width.map(|half| (interval, 100.0 * half)));
                if task.shot > 1 {
                    values.push(("oneshot/five_shot_nearest", 100.0 * nearest.mean));
                }
            }
        }
        values.retain(|(_, value)| value.is_finite());
        values
    }
}

/// What `recipe` asks of verification and one-shot recognition, by `model` as it is now.
///
/// # Errors
/// As [`embed`].
pub fn measured(
    model: &Model,
    recipe: &Recipe,
    dataset: &Dataset,
    stop: &AtomicBool,
) -> Result<Vec<(&'static str, f64)>> {
    if recipe.measure.verification.is_none() && recipe.measure.one_shot.is_none() {
        return Ok(Vec::new());
    }
    let gallery = Gallery::of(model, dataset, &recipe.augment, stop)?;
    Ok(gallery.map(|gallery| gallery.columns(&recipe.measure, recipe.seed)).unwrap_or_default())
}

/// Verification of listed `pairs`, whose images are `images`, by features and by z.
///
/// # Errors
/// As [`embed`].
pub fn verify_pairs(
    model: &Model,
    pairs: &[ListedPair],
    images: &PairImages,
    augment: &AugmentConfig,
) -> Result<Verified> {
    // A signal ends the program here, which leaves nothing behind.
    let (x, z) = embed(model, &images.split, augment, &AtomicBool::new(false))?;
    let placed = pairs.iter().zip(&images.places);
    let pairs: Vec<Pair> =
        placed.map(|(pair, &[a, b])| Pair { a, b, same: pair.same, fold: pair.fold }).collect();
    let by = |rows: Array2<f32>| Verification::of(&pairs, &cosines(rows.view(), rows.view(), &pairs));
    Ok(Verified { by_features: by(x), by_z: by(z), forged: None })
}
