//! Verification: whether two images are of one identity, told from the similarity of their
//! features.
//!
//! A pair has a score, the larger the more alike, and is of one identity or not. "Same" is said
//! from a threshold on: score ≥ t. TAR(t) is the part of the pairs of one identity that are
//! accepted, FAR(t) that of the others.

use super::knn::unit_rows;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, below, stream};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Folds of the protocol (LFW's view 2, Huang et al. 2007).
pub const FOLDS: usize = 10;
/// More pairs are taken for a slip of the hand.
const MOST_PAIRS: usize = 1 << 16;
/// Draws for each pair that is wanted, before a small set of images is taken to have no more.
const PATIENCE: usize = 20;
/// What [`Purpose::Measure`] draws of pairs are counted from, behind all other measurements.
const KEY: u64 = 1 << 48;

/// What is measured of verification, whenever kNN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationConfig {
    /// Pairs of one identity in each of the ten folds, and as many of two (LFW: 300).
    pub pairs: usize,
}

impl VerificationConfig {
    /// Refuses no pairs, and too many.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        if (1..=MOST_PAIRS).contains(&self.pairs) {
            return Ok(());
        }
        let message =
            format!("measure.verification.pairs: {} must be between 1 and {MOST_PAIRS}", self.pairs);
        Err(Error::Usage(message))
    }
}

/// Two images, by their places, and the fold that they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The first.
    pub a: usize,
    /// The second, of the same images or of others.
    pub b: usize,
    /// Whether both are of one identity.
    pub same: bool,
    /// 0 to 9.
    pub fold: usize,
}

/// Images by identity.
struct Identities(Vec<Vec<usize>>);

impl Identities {
    /// Those of images with these labels which have `least` images at least.
    fn of(labels: &[u32], least: usize) -> Self {
        let count = labels.iter().max().map_or(0, |label| *label as usize + 1);
        let mut images = vec![Vec::new(); count];
        labels.iter().enumerate().for_each(|(image, label)| images[*label as usize].push(image));
        images.retain(|images| images.len() >= least);
        Self(images)
    }

    /// The identities of `fold`: its own where there are two for each fold, as in LFW, else all.
    fn of_fold(&self, fold: usize) -> Vec<&[usize]> {
        let apart = self.0.len() >= 2 * FOLDS;
        let own = self.0.iter().enumerate().filter(|(index, _)| !apart || index % FOLDS == fold);
        own.map(|(_, images)| images.as_slice()).collect()
    }
}

fn one_of<T: Copy>(list: &[T], rng: &mut Stream) -> Option<T> {
    (!list.is_empty()).then(|| list[below(list.len(), rng)])
}

/// At most `wanted` different pairs of what `draw` gives; fewer where it gives no more.
fn different(wanted: usize, mut draw: impl FnMut() -> Option<(usize, usize)>) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    for _ in 0..wanted.saturating_mul(PATIENCE) {
        if found.len() == wanted {
            break;
        }
        found.extend(draw().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))));
    }
    found
}

/// Pairs of the images with these labels (N), drawn for `seed`: in each of ten folds so many of one
/// identity and as many of two, or fewer where there are no more. Folds share no identity where
/// there are at least 20.
pub fn draw_pairs(labels: &[u32], config: VerificationConfig, seed: u64) -> Vec<Pair> {
    let (several, all) = (Identities::of(labels, 2), Identities::of(labels, 1));
    let mut pairs = Vec::new();
    for fold in 0..FOLDS {
        let rng = &mut stream(seed, Purpose::Measure, KEY, fold as u64);
        let (genuine, any) = (several.of_fold(fold), all.of_fold(fold));
        let same = different(config.pairs, || {
            let images = one_of(&genuine, rng)?;
            Some((one_of(images, rng)?, one_of(images, rng)?))
        });
        let of_two = different(config.pairs, || {
            let (a, b) = (one_of(&any, rng)?, one_of(&any, rng)?);
            let pair = (one_of(a, rng)?, one_of(b, rng)?);
            (labels[pair.0] != labels[pair.1]).then_some(pair)
        });
        for (found, same) in [(same, true), (of_two, false)] {
            pairs.extend(found.into_iter().map(|(a, b)| Pair { a, b, same, fold }));
        }
    }
    pairs
}

/// Pairs of an image with these labels and a forgery of its identity, of which `forged` has the
/// labels: as many in each fold as [`draw_pairs`] has of either kind.
pub fn draw_forgeries(labels: &[u32], forged: &[u32], config: VerificationConfig, seed: u64) -> Vec<Pair> {
    let all = Identities::of(labels, 1);
    let forgeries = Identities::of(forged, 0).0;
    let mut pairs = Vec::new();
    for fold in 0..FOLDS {
        let rng = &mut stream(seed, Purpose::Measure, KEY + 1, fold as u64);
        let identities = all.of_fold(fold);
        let mut found = BTreeSet::new();
        for _ in 0..config.pairs.saturating_mul(PATIENCE) {
            if found.len() == config.pairs {
                break;
            }
            let pair = one_of(&identities, rng).and_then(|images| {
                let a = one_of(images, rng)?;
                Some((a, one_of(forgeries.get(labels[a] as usize)?, rng)?))
            });
            found.extend(pair);
        }
        pairs.extend(found.into_iter().map(|(a, b)| Pair { a, b, same: false, fold }));
    }
    pairs
}

/// The cosine of row `a` of `x` (N, D) and row `b` of `y` (M, D) of each pair.
pub fn cosines(x: ArrayView2<f32>, y: ArrayView2<f32>, pairs: &[Pair]) -> Vec<f64> {
    let (x, y) = (unit_rows(x), unit_rows(y));
    let dot = |pair: &Pair| -> f64 {
        x.row(pair.a).iter().zip(y.row(pair.b)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    pairs.iter().map(dot).collect()
}

/// The operating points (FAR, TAR), from (0, 0), where nothing is accepted, to (1, 1): one for each
/// different score. None where a score is no number, or one kind of pairs is missing.
fn roc(scores: &[f64], same: &[bool]) -> Option<Vec<[f64; 2]>> {
    let genuine = same.iter().filter(|same| **same).count();
    let others = same.len() - genuine;
    if scores.iter().any(|score| score.is_nan()) || genuine == 0 || others == 0 {
        return None;
    }
    let order = falling(scores, 0..scores.len());
    let (mut points, mut accepted) = (vec![[0.0, 0.0]], [0usize, 0]);
    for (place, &index) in order.iter().enumerate() {
        accepted[usize::from(same[index])] += 1;
        if order.get(place + 1).is_none_or(|next| scores[*next] != scores[index]) {
            points.push([accepted[0] as f64 / others as f64, accepted[1] as f64 / genuine as f64]);
        }
    }
    Some(points)
}

/// These `places` in the order of falling scores.
fn falling(scores: &[f64], places: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut order: Vec<usize> = places.collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// The area under the ROC curve: the chance that a pair of one identity scores higher than one of
/// two, equal scores counting half. None without both kinds, or with a score that is no number.
///
/// ```
/// use simsiam_em::measure::verification::roc_auc;
///
/// // Of the six comparisons of a same pair with another one five are won.
/// let same = [true, true, false, false, false];
/// assert_eq!(roc_auc(&[0.9, 0.4, 0.5, 0.1, 0.2], &same), Some(5.0 / 6.0));
/// ```
pub fn roc_auc(scores: &[f64], same: &[bool]) -> Option<f64> {
    let points = roc(scores, same)?;
    Some(points.windows(2).map(|two| (two[1][0] - two[0][0]) * (two[0][1] + two[1][1]) / 2.0).sum())
}

/// The equal error rate: where the ROC, its points joined by straight lines, has FAR = 1 − TAR.
/// None as [`roc_auc`].
pub fn equal_error_rate(scores: &[f64], same: &[bool]) -> Option<f64> {
    let points = roc(scores, same)?;
    let excess = |[far, tar]: [f64; 2]| far + tar - 1.0;
    let crossing = points.windows(2).find(|two| excess(two[1]) >= 0.0)?;
    let (before, after) = (excess(crossing[0]), excess(crossing[1]));
    let [far, next] = [crossing[0][0], crossing[1][0]];
    Some(far - before / (after - before) * (next - far))
}

/// The highest TAR of a threshold whose FAR is at most `far`. None as [`roc_auc`].
pub fn tar_at_far(scores: &[f64], same: &[bool], far: f64) -> Option<f64> {
    let points = roc(scores, same)?;
    points.into_iter().filter(|point| point[0] <= far).map(|point| point[1]).reduce(f64::max)
}

/// Accuracies of folds, each at the threshold that is best on the others.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldAccuracy {
    /// The threshold of each fold.
    pub thresholds: Vec<f64>,
    /// The part of its pairs that are told right.
    pub by_fold: Vec<f64>,
    /// Their mean μ̂.
    pub mean: f64,
    /// S_E = σ̂/√folds, σ̂ with one less in the denominator; NaN of one fold.
    pub standard_error: f64,
}

/// LFW's protocol: the accuracy of each fold at the threshold, of the scores of the others, that is
/// best there; of equally good ones the highest. `folds` has the fold of each pair, from 0 on.
/// None without both kinds of pairs, with a score that is no number, or with an empty fold.
pub fn fold_accuracy(scores: &[f64], same: &[bool], folds: &[usize]) -> Option<FoldAccuracy> {
    roc(scores, same)?;
    let count = folds.iter().max()? + 1;
    let (mut thresholds, mut by_fold) = (Vec::new(), Vec::new());
    for fold in 0..count {
        let threshold = best_threshold(scores, same, |pair| folds[pair] != fold)?;
        let own = || (0..scores.len()).filter(|pair| folds[*pair] == fold);
        let right = own().filter(|pair| (scores[*pair] >= threshold) == same[*pair]).count();
        thresholds.push(threshold);
        by_fold.push(right as f64 / own().count() as f64);
    }
    let mean = by_fold.iter().sum::<f64>() / count as f64;
    let squares: f64 = by_fold.iter().map(|accuracy| (accuracy - mean).powi(2)).sum();
    let standard_error = (squares / (count as f64 - 1.0) / count as f64).sqrt();
    mean.is_finite().then_some(FoldAccuracy { thresholds, by_fold, mean, standard_error })
}

/// The score that tells most of the pairs `of` right as a threshold; the highest of several.
fn best_threshold(scores: &[f64], same: &[bool], of: impl Fn(usize) -> bool) -> Option<f64> {
    let order = falling(scores, (0..scores.len()).filter(|pair| of(*pair)));
    // Where nothing is accepted the pairs of two identities are right.
    let mut right = order.iter().filter(|pair| !same[**pair]).count() as i64;
    let mut best: Option<(i64, f64)> = None;
    for (place, &pair) in order.iter().enumerate() {
        right += if same[pair] { 1 } else { -1 };
        let last_of_equals = order.get(place + 1).is_none_or(|next| scores[*next] != scores[pair]);
        if last_of_equals && best.is_none_or(|(most, _)| right > most) {
            best = Some((right, scores[pair]));
        }
    }
    best.map(|(_, threshold)| threshold)
}

/// What is said of a set of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Pairs of one identity, and of two.
    pub pairs: [usize; 2],
    /// [`roc_auc`].
    pub auc: f64,
    /// [`equal_error_rate`], a part of 1.
    pub eer: f64,
    /// [`tar_at_far`] of 0.1, a part of 1.
    pub tar_at_far_10: f64,
    /// [`tar_at_far`] of 0.01, a part of 1.
    pub tar_at_far_1: f64,
    /// [`fold_accuracy`], a part of 1.
    pub accuracy: f64,
    /// S_E of the accuracy.
    pub standard_error: f64,
}

impl Verification {
    /// Of `pairs` with these scores; none as [`fold_accuracy`].
    pub fn of(pairs: &[Pair], scores: &[f64]) -> Option<Self> {
        let same: Vec<bool> = pairs.iter().map(|pair| pair.same).collect();
        let folds: Vec<usize> = pairs.iter().map(|pair| pair.fold).collect();
        let accuracy = fold_accuracy(scores, &same, &folds)?;
        let genuine = same.iter().filter(|same| **same).count();
        Some(Self {
            pairs: [genuine, same.len() - genuine],
            auc: roc_auc(scores, &same)?,
            eer: equal_error_rate(scores, &same)?,
            tar_at_far_10: tar_at_far(scores, &same, 0.1)?,
            tar_at_far_1: tar_at_far(scores, &same, 0.01)?,
            accuracy: accuracy.mean,
            standard_error: accuracy.standard_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_share_no_identity_where_there_are_enough_and_pairs_are_what_they_say() {
        let labels: Vec<u32> = (0..200).map(|image| image % 40).collect();
        let pairs = draw_pairs(&labels, VerificationConfig { pairs: 30 }, 7);
        assert_eq!(pairs.len(), FOLDS * 60);
        for pair in &pairs {
            assert!(pair.a != pair.b && (labels[pair.a] == labels[pair.b]) == pair.same, "{pair:?}");
            assert!([pair.a, pair.b].iter().all(|image| labels[*image] as usize % FOLDS == pair.fold));
        }
        assert_eq!(pairs, draw_pairs(&labels, VerificationConfig { pairs: 30 }, 7));
        assert_ne!(pairs, draw_pairs(&labels, VerificationConfig { pairs: 30 }, 8));
    }

    #[test]
    fn few_images_give_few_pairs_and_one_identity_none_of_two() {
        // Four identities of two images: a fold has their four pairs, and 24 of two.
        let labels = [0, 0, 1, 1, 2, 2, 3, 3];
        let pairs = draw_pairs(&labels, VerificationConfig { pairs: 300 }, 1);
        let of = |same| pairs.iter().filter(|pair| pair.fold == 0 && pair.same == same).count();
        assert_eq!([of(true), of(false)], [4, 24]);
        assert!(draw_pairs(&[0, 0, 0], VerificationConfig { pairs: 3 }, 1).iter().all(|pair| pair.same));
        assert!(draw_pairs(&[], VerificationConfig { pairs: 3 }, 1).is_empty());
    }

    #[test]
    fn a_forgery_stands_beside_an_image_of_the_identity_that_it_imitates() {
        let labels: Vec<u32> = (0..120).map(|image| image % 30).collect();
        let forged: Vec<u32> = (0..60).map(|image| image % 30).collect();
        let pairs = draw_forgeries(&labels, &forged, VerificationConfig { pairs: 10 }, 3);
        assert_eq!(pairs.len(), FOLDS * 10);
        assert!(pairs.iter().all(|pair| !pair.same && labels[pair.a] == forged[pair.b]));
        assert!(draw_forgeries(&labels, &[], VerificationConfig { pairs: 10 }, 3).is_empty());
    }

    #[test]
    fn what_has_no_meaning_is_no_number() {
        let none = |scores: &[f64], same: &[bool]| {
            roc_auc(scores, same).is_none()
                && equal_error_rate(scores, same).is_none()
                && tar_at_far(scores, same, 0.1).is_none()
                && fold_accuracy(scores, same, &vec![0; same.len()]).is_none()
        };
        assert!(none(&[], &[]) && none(&[0.1, 0.2], &[true, true]) && none(&[f64::NAN, 0.2], &[true, false]));
        // A second fold without a pair.
        assert_eq!(fold_accuracy(&[0.1, 0.2, 0.3], &[true, false, true], &[0, 2, 0]), None);
    }
}
