//! PASCAL VOC's average precision of detected boxes, as detectron2's evaluator computes it.
//!
//! It differs from COCO's in more than the thresholds: a box holds its last pixel, so that a pixel
//! is added to every side; an overlap has to be larger than the threshold; a detection has the
//! object of its largest overlap, and is wrong where that one was taken before it, even if another
//! would do.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// An object that is there.
#[derive(Clone, Debug)]
pub struct VocTruth {
    /// The image's number.
    pub image: usize,
    /// Left, upper, right and lower pixel, all of them inside.
    pub corners: [f64; 4],
    /// Whether finding it counts neither way.
    pub difficult: bool,
}

/// An object that was found.
#[derive(Clone, Debug)]
pub struct VocDetection {
    /// The image's number.
    pub image: usize,
    /// How sure its finder is. The official files have three decimals, so that ties are common; the
    /// first of equal ones comes first.
    pub score: f64,
    /// Left, upper, right and lower pixel, all of them inside.
    pub corners: [f64; 4],
}

/// How the area below precision over recall is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The mean over eleven recalls 0, 0.1, …, 1 of the highest precision from there on: VOC2007.
    Eleven,
    /// The area below the envelope: VOC2010 and later.
    Whole,
}

/// Average precision, as a part of 1, of `detections` of one class at overlaps above `threshold`.
///
/// # Errors
/// [`Error::Usage`] for a score that is no number.
pub fn voc(truths: &[VocTruth], detections: &[VocDetection], threshold: f64, area: Area) -> Result<f64> {
    if let Some(wrong) = detections.iter().find(|detection| !detection.score.is_finite()) {
        return Err(Error::Usage(format!("a detection has the score {}", wrong.score)));
    }
    let mut images: BTreeMap<usize, Vec<(&VocTruth, bool)>> = BTreeMap::new();
    truths.iter().for_each(|truth| images.entry(truth.image).or_default().push((truth, false)));
    let positives = truths.iter().filter(|truth| !truth.difficult).count() as f64;
    let mut ranked: Vec<&VocDetection> = detections.iter().collect();
    ranked.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal));
    let (mut hits, mut misses) = (0.0, 0.0);
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    for detection in ranked {
        let there = images.entry(detection.image).or_default();
        // The first of equal overlaps.
        let best = there
            .iter_mut()
            .map(|(truth, taken)| (overlap(&detection.corners, &truth.corners), truth, taken));
        let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best });
        match best.filter(|best| best.0 > threshold) {
            Some((_, truth, _)) if truth.difficult => {}
            Some((_, _, taken)) if !*taken => {
                *taken = true;
                hits += 1.0;
            }
            _ => misses += 1.0,
        }
        recall.push(hits / positives);
        precision.push(hits / f64::max(hits + misses, f64::EPSILON));
    }
    Ok(match area {
        Area::Eleven => eleven(&recall, &precision),
        Area::Whole => whole(&recall, &precision),
    })
}

fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |low: f64, high: f64| (high - low + 1.0).max(0.0);
    let size = |c: &[f64; 4]| (c[2] - c[0] + 1.0) * (c[3] - c[1] + 1.0);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    both / (size(a) + size(b) - both)
}

fn eleven(recall: &[f64], precision: &[f64]) -> f64 {
    let highest = |asked: f64| {
        let reached = recall.iter().zip(precision).filter(|(recall, _)| **recall >= asked);
        reached.map(|(_, precision)| *precision).fold(0.0, f64::max)
    };
    // 0.1 has no exact double: the eleven are numpy's.
    (0..11).map(|tenth| highest(f64::from(tenth) * 0.1) / 11.0).sum()
}

fn whole(recall: &[f64], precision: &[f64]) -> f64 {
    let mut envelope = precision.to_vec();
    for later in (1..envelope.len()).rev() {
        envelope[later - 1] = envelope[later - 1].max(envelope[later]);
    }
    let before = std::iter::once(&0.0).chain(recall);
    let steps = recall.iter().zip(before).zip(&envelope).filter(|((now, before), _)| now != before);
    steps.map(|((now, before), precision)| (now - before) * precision).sum()
}
