//! How well an object was followed (Wu, Lim & Yang 2013; got-10k's toolkit 83aafbf): overlaps and
//! distances of boxes, frame by frame. The first frame, whose box is given, counts.

use crate::error::{Error, Result};
use crate::masks::{Rectangle, box_overlap};
use serde::{Deserialize, Serialize};

/// Thresholds of the overlap: 0, 0.05, …, 1.
pub const THRESHOLDS: usize = 21;
/// OTB's threshold of the distance of centres, in pixels.
pub const PRECISION: f64 = 20.0;

/// What is measured of tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackingConfig {
    /// Procedural sequences that are followed.
    pub sequences: usize,
    /// Side of the exemplar in pixels; that of the search window is twice as long.
    pub exemplar: usize,
    /// SGD steps by which a second tracker is fine-tuned from the same weights; 0 leaves it out.
    pub tune: usize,
}

/// More is taken for a slip of the hand.
const MOST_SEQUENCES: usize = 4096;
const MOST_STEPS: usize = 1 << 20;
/// Sides of an exemplar: below, a stride of 2 leaves nothing to compare.
const SIDES: std::ops::RangeInclusive<usize> = 8..=256;

impl TrackingConfig {
    /// Refuses numbers that nothing can be measured with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::Usage(format!("measure.tracking.{what}")));
        let Self { sequences, exemplar, tune } = *self;
        match () {
            () if !(1..=MOST_SEQUENCES).contains(&sequences) => {
                fail(format!("sequences: {sequences} must be between 1 and {MOST_SEQUENCES}"))
            }
            () if !SIDES.contains(&exemplar) => {
                fail(format!("exemplar: {exemplar} pixels; from {} to {}", SIDES.start(), SIDES.end()))
            }
            () if tune > MOST_STEPS => fail(format!("tune: {tune} steps; at most {MOST_STEPS}")),
            () => Ok(()),
        }
    }
}

/// One sequence, or the means over several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Followed {
    /// Parts of the frames whose overlap is above 0, 0.05, …, 1.
    pub success: [f64; THRESHOLDS],
    /// The mean of those: OTB's area under the success curve.
    pub auc: f64,
    /// The part of the frames whose overlap is above one half.
    pub success_50: f64,
    /// The mean overlap.
    pub overlap: f64,
    /// The part of the frames in which centres are at most the threshold apart.
    pub precision: f64,
    /// The same of a fifth of the threshold.
    pub near: f64,
}

/// How far the centres of two boxes are apart.
pub fn distance(a: &Rectangle, b: &Rectangle) -> f64 {
    let centre = |[x, y, w, h]: Rectangle| [x + 0.5 * w, y + 0.5 * h];
    let ([ax, ay], [bx, by]) = (centre(*a), centre(*b));
    (ax - bx).hypot(ay - by)
}

impl Followed {
    /// Of the boxes `found` in the frames of `truth`; none where there are none, or not as many.
    /// Centres may be `threshold` pixels apart.
    ///
    /// ```
    /// use simsiam_em::measure::tracking::{Followed, PRECISION};
    ///
    /// let truth = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]];
    /// let found = [[0.0, 0.0, 10.0, 10.0], [30.0, 0.0, 10.0, 10.0]];
    /// let followed = Followed::of(&truth, &found, PRECISION).unwrap();
    /// assert_eq!((followed.overlap, followed.precision), (0.5, 0.5));
    /// // Half of the frames at each threshold but the last: no overlap is above 1.
    /// assert_eq!(followed.auc, 0.5 * 20.0 / 21.0);
    /// ```
    pub fn of(truth: &[Rectangle], found: &[Rectangle], threshold: f64) -> Option<Followed> {
        if truth.is_empty() || truth.len() != found.len() {
            return None;
        }
        let pairs = || truth.iter().zip(found);
        // Rounding may leave a box with itself a little above 1.
        let overlap = |(truth, found): (&Rectangle, &Rectangle)| box_overlap(found, truth, false).min(1.0);
        let overlaps: Vec<f64> = pairs().map(overlap).collect();
        let frames = truth.len() as f64;
        let part = |count: usize| count as f64 / frames;
        let above = |least: f64| part(overlaps.iter().filter(|overlap| **overlap > least).count());
        let within =
            |most: f64| part(pairs().filter(|(truth, found)| distance(truth, found) <= most).count());
        // i / 20, as numpy's linspace(0, 1, 21) has it.
        let success = std::array::from_fn(|i| above(i as f64 / (THRESHOLDS - 1) as f64));
        Some(Followed {
            auc: success.iter().sum::<f64>() / THRESHOLDS as f64,
            success,
            success_50: above(0.5),
            overlap: overlaps.iter().sum::<f64>() / frames,
            precision: within(threshold),
            near: within(threshold / 5.0),
        })
    }

    /// The means over sequences, which weigh the same whatever their lengths; none without any.
    pub fn mean(all: &[Followed]) -> Option<Followed> {
        let count = all.len() as f64;
        let mean = |of: &dyn Fn(&Followed) -> f64| all.iter().map(of).sum::<f64>() / count;
        (!all.is_empty()).then(|| Followed {
            success: std::array::from_fn(|i| mean(&|one| one.success[i])),
            auc: mean(&|one| one.auc),
            success_50: mean(&|one| one.success_50),
            overlap: mean(&|one| one.overlap),
            precision: mean(&|one| one.precision),
            near: mean(&|one| one.near),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_found_in_every_frame_has_no_number() {
        let one = [1.0, 1.0, 2.0, 2.0];
        assert_eq!(Followed::of(&[], &[], 20.0), None);
        assert_eq!(Followed::of(&[one], &[], 20.0), None);
        assert_eq!(Followed::mean(&[]), None);
        let alone = Followed::of(&[one], &[one], 20.0).unwrap();
        assert_eq!((alone.success[0], alone.success[20], alone.near), (1.0, 0.0, 1.0));
        let nothing = Followed::of(&[[0.0; 4]], &[[0.0; 4]], 20.0).unwrap();
        assert_eq!((nothing.overlap, nothing.auc), (0.0, 0.0));
    }
}
