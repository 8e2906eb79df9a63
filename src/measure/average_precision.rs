//! COCO's average precision of detected objects, by their boxes or by their masks: the twelve
//! numbers of pycocotools 2.0.11.
//!
//! A detection matches a truth of its image and class where their overlap reaches a threshold; the
//! detections with the highest scores choose first. Precision at 101 recalls, averaged over ten
//! thresholds 0.50, 0.55, …, 0.95 and over classes, is AP. A crowd may be matched by any number of
//! detections, which count neither way then.

use crate::error::{Error, Result};
use crate::masks::{Rectangle, Rle, box_overlap};
use std::collections::BTreeMap;

/// An object that is there.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The image's number; detections of equal scores count in the order of images.
    pub image: usize,
    /// Its class.
    pub class: usize,
    /// Its box.
    pub bounding_box: Rectangle,
    /// Its mask, where overlaps are those of masks.
    pub mask: Option<Rle>,
    /// Its area in pixels, which decides whether it is small, medium or large.
    pub area: f64,
    /// Whether it stands for many objects that nobody told apart.
    pub crowd: bool,
}

/// An object that was found.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The image's number.
    pub image: usize,
    /// Its class.
    pub class: usize,
    /// How sure its finder is; any scale.
    pub score: f64,
    /// Its box.
    pub bounding_box: Rectangle,
    /// Its mask, where overlaps are those of masks.
    pub mask: Option<Rle>,
}

/// Which overlap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// That of boxes.
    Boxes,
    /// That of masks.
    Masks,
}

/// What the twelve numbers are called.
pub const NAMES: [&str; 12] = [
    "AP",
    "AP50",
    "AP75",
    "AP small",
    "AP medium",
    "AP large",
    "AR 1",
    "AR 10",
    "AR 100",
    "AR small",
    "AR medium",
    "AR large",
];

/// COCO's numbers, as parts of 1.
#[derive(Clone, Debug)]
pub struct Coco {
    /// In the order of [`NAMES`]; none where no object counts.
    pub numbers: [Option<f64>; 12],
    /// AP of every class.
    pub by_class: Vec<Option<f64>>,
    /// Precision at the recalls 0, 0.01, …, 1, means over classes, at overlaps of 0.5 and of 0.75;
    /// empty where no object counts.
    pub precision: [Vec<f64>; 2],
}

/// Thresholds of the overlap.
const THRESHOLDS: usize = 10;
/// Recalls at which precision is read.
const RECALLS: usize = 101;
/// The thresholds whose precision is kept: 0.5 and 0.75.
const SHOWN: [usize; 2] = [0, 5];
/// Detections of an image and class that count at most.
const MOST: [usize; 3] = [1, 10, 100];
/// Areas that count, both ends included: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// Threshold `index`, as numpy's linspace gives it.
fn threshold(index: usize) -> f64 {
    if index + 1 == THRESHOLDS { 0.95 } else { 0.5 + index as f64 * ((0.95 - 0.5) / 9.0) }
}

/// COCO's numbers of `detections` of `classes` classes.
///
/// # Errors
/// [`Error::Usage`] for a score that is no number, a class that there is not, and for masks that
/// are missing or of another size than their image's.
pub fn coco(truths: &[Truth], detections: &[Detection], classes: usize, overlap: Overlap) -> Result<Coco> {
    let groups = groups(truths, detections, classes, overlap)?;
    let mut by_class = Vec::with_capacity(classes);
    let mut means = [Mean::default(); 12];
    let mut curves_of: [Vec<Mean>; 2] = Default::default();
    for class in 0..classes {
        let own: Vec<&Group> = groups.range((class, 0)..(class + 1, 0)).map(|(_, group)| group).collect();
        let mut of_class = None;
        for (area, range) in AREAS.iter().enumerate() {
            let judged: Vec<(Vec<Judged>, usize)> = own.iter().map(|group| group.judge(*range)).collect();
            let curves = MOST.map(|most| Curves::of(&judged, most));
            let Some(all) = &curves[2] else { continue };
            let precision = |at: &[usize]| at.iter().flat_map(|t| all.precision[*t]).collect::<Vec<f64>>();
            let every = precision(&std::array::from_fn::<usize, THRESHOLDS, _>(|t| t));
            if area == 0 {
                of_class = Mean::of(&every).value();
                means[1].add(&precision(&SHOWN[..1]));
                means[2].add(&precision(&SHOWN[1..]));
                for (means, threshold) in curves_of.iter_mut().zip(SHOWN) {
                    means.resize(RECALLS, Mean::default());
                    means.iter_mut().zip(all.precision[threshold]).for_each(|(mean, p)| mean.add(&[p]));
                }
                for (number, curves) in curves.iter().enumerate() {
                    curves.iter().for_each(|curves| means[6 + number].add(&curves.recall));
                }
            } else {
                means[8 + area].add(&all.recall);
            }
            means[if area == 0 { 0 } else { 2 + area }].add(&every);
        }
        by_class.push(of_class);
    }
    let precision = curves_of.map(|means| means.into_iter().filter_map(Mean::value).collect());
    Ok(Coco { numbers: means.map(|mean| mean.value()), by_class, precision })
}

/// A mean of numbers as they come.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn of(values: &[f64]) -> Mean {
        let mut mean = Mean::default();
        mean.add(values);
        mean
    }

    fn add(&mut self, values: &[f64]) {
        self.sum += values.iter().sum::<f64>();
        self.count += values.len();
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What there is and what was found of one class in one image.
#[derive(Default)]
struct Group<'a> {
    truths: Vec<&'a Truth>,
    /// The highest scores first.
    detections: Vec<&'a Detection>,
    /// The detections' areas: their masks' where overlaps are those of masks.
    areas: Vec<f64>,
    /// Overlaps, (detections, truths).
    overlaps: Vec<f64>,
}

/// Groups by class and image.
type Groups<'a> = BTreeMap<(usize, usize), Group<'a>>;

fn groups<'a>(
    truths: &'a [Truth],
    detections: &'a [Detection],
    classes: usize,
    overlap: Overlap,
) -> Result<Groups<'a>> {
    let mut groups = Groups::new();
    for truth in truths {
        check_class(truth.class, classes)?;
        groups.entry((truth.class, truth.image)).or_default().truths.push(truth);
    }
    for detection in detections {
        check_class(detection.class, classes)?;
        if !detection.score.is_finite() {
            return Err(Error::Usage(format!("a detection has the score {}", detection.score)));
        }
        groups.entry((detection.class, detection.image)).or_default().detections.push(detection);
    }
    for group in groups.values_mut() {
        // Scores are numbers, so that every two compare; equal ones keep their order.
        group.detections.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal));
        group.detections.truncate(MOST[2]);
        for detection in &group.detections {
            group.areas.push(match &detection.mask {
                Some(mask) if overlap == Overlap::Masks => mask.area() as f64,
                _ => detection.bounding_box[2] * detection.bounding_box[3],
            });
            for truth in &group.truths {
                group.overlaps.push(of_two(detection, truth, overlap)?);
            }
        }
    }
    Ok(groups)
}

fn check_class(class: usize, classes: usize) -> Result<()> {
    match class < classes {
        true => Ok(()),
        false => Err(Error::Usage(format!("an object of class {class}, of {classes} classes"))),
    }
}

fn of_two(detection: &Detection, truth: &Truth, overlap: Overlap) -> Result<f64> {
    let boxes = box_overlap(&detection.bounding_box, &truth.bounding_box, truth.crowd);
    match (overlap, &detection.mask, &truth.mask) {
        (Overlap::Boxes, ..) => Ok(boxes),
        (Overlap::Masks, Some(found), Some(there)) => Rle::overlap(found, there, truth.crowd),
        (Overlap::Masks, ..) => {
            Err(Error::Usage("overlaps of masks are asked for, and an object has none".into()))
        }
    }
}

/// A detection at every threshold.
struct Judged {
    score: f64,
    /// Whether it matched.
    hit: [bool; THRESHOLDS],
    /// Whether it counts neither way.
    ignored: [bool; THRESHOLDS],
}

impl Group<'_> {
    /// Every detection judged where areas in `range` count, and how many truths count.
    fn judge(&self, range: [f64; 2]) -> (Vec<Judged>, usize) {
        let outside = |area: f64| area < range[0] || area > range[1];
        let ignored: Vec<bool> = self.truths.iter().map(|truth| truth.crowd || outside(truth.area)).collect();
        // What counts is looked at first.
        let mut order: Vec<usize> = (0..self.truths.len()).collect();
        order.sort_by_key(|truth| ignored[*truth]);
        let mut taken = vec![[false; THRESHOLDS]; self.truths.len()];
        let judged = self.detections.iter().enumerate().map(|(index, detection)| {
            let mut judged =
                Judged { score: detection.score, hit: [false; THRESHOLDS], ignored: [false; THRESHOLDS] };
            for t in 0..THRESHOLDS {
                let best = self.best(index, t, &order, &ignored, &taken);
                judged.hit[t] = best.is_some();
                judged.ignored[t] = match best {
                    Some(best) => ignored[best],
                    None => outside(self.areas[index]),
                };
                if let Some(best) = best {
                    taken[best][t] = true;
                }
            }
            judged
        });
        (judged.collect(), ignored.iter().filter(|ignored| !**ignored).count())
    }

    /// The truth that a detection matches at threshold `t`: the one of the largest overlap, of
    /// equal ones the last; one that is ignored only where no other is reached.
    fn best(
        &self,
        detection: usize,
        t: usize,
        order: &[usize],
        ignored: &[bool],
        taken: &[[bool; THRESHOLDS]],
    ) -> Option<usize> {
        // Thresholds of 1 are reached by what rounding leaves of a whole overlap.
        let mut least = threshold(t).min(1.0 - 1e-10);
        let mut best: Option<usize> = None;
        for &truth in order {
            if taken[truth][t] && !self.truths[truth].crowd {
                continue;
            }
            if ignored[truth] && best.is_some_and(|best| !ignored[best]) {
                break;
            }
            let overlap = self.overlaps[detection * self.truths.len() + truth];
            if overlap >= least {
                (least, best) = (overlap, Some(truth));
            }
        }
        best
    }
}

/// Precision and recall of one class over all images.
struct Curves {
    /// At [`RECALLS`] recalls, for each threshold.
    precision: Vec<[f64; RECALLS]>,
    /// The highest recall, for each threshold.
    recall: [f64; THRESHOLDS],
}

impl Curves {
    /// Those of the first `most` detections of each image; none where there is nothing to find.
    fn of(groups: &[(Vec<Judged>, usize)], most: usize) -> Option<Curves> {
        let positives: usize = groups.iter().map(|group| group.1).sum();
        if positives == 0 {
            return None;
        }
        let mut all: Vec<&Judged> = groups.iter().flat_map(|group| group.0.iter().take(most)).collect();
        all.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal));
        let mut curves = Curves { precision: Vec::with_capacity(THRESHOLDS), recall: [0.0; THRESHOLDS] };
        for t in 0..THRESHOLDS {
            let (mut hits, mut misses) = (0.0, 0.0);
            let counting = |judged: &&Judged| {
                if !judged.ignored[t] {
                    if judged.hit[t] { hits += 1.0 } else { misses += 1.0 }
                }
                (hits / positives as f64, hits / (misses + hits + f64::EPSILON))
            };
            let (recall, mut precision): (Vec<f64>, Vec<f64>) = all.iter().map(counting).unzip();
            for later in (1..precision.len()).rev() {
                precision[later - 1] = precision[later - 1].max(precision[later]);
            }
            curves.recall[t] = recall.last().copied().unwrap_or(0.0);
            curves.precision.push(std::array::from_fn(|r| {
                let asked = if r + 1 == RECALLS { 1.0 } else { r as f64 * 0.01 };
                let reached = recall.partition_point(|recall| *recall < asked);
                precision.get(reached).copied().unwrap_or(0.0)
            }));
        }
        Some(curves)
    }
}
