//! Which truth each box stands for, and which boxes a loss reads.

use super::boxes::{Corners, iou};

/// What a box is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Nothing: the loss reads its class only.
    Background,
    /// Its truth.
    Object,
    /// Neither: no loss reads it.
    Ignored,
}

/// By which overlap boxes are matched with truths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matcher {
    /// Below it a box is background.
    pub background: f32,
    /// From it on a box is an object.
    pub object: f32,
    /// Whether a box that overlaps a truth as much as any box does is an object too.
    pub every_truth: bool,
}

impl Matcher {
    /// That of anchors.
    pub const ANCHORS: Matcher = Matcher { background: 0.3, object: 0.7, every_truth: true };
    /// That of proposals.
    pub const PROPOSALS: Matcher = Matcher { background: 0.5, object: 0.5, every_truth: false };

    /// The label of every box, and the truth of its largest overlap: the first of equal ones, 0
    /// where there is none.
    ///
    /// A box that is an object for [`Matcher::every_truth`] alone keeps the truth of its own largest
    /// overlap, which may be another one.
    pub fn labels(&self, boxes: &[Corners], truths: &[Corners]) -> (Vec<Label>, Vec<usize>) {
        let mut largest_of_truth = vec![0.0f32; truths.len()];
        let mut table = Vec::with_capacity(boxes.len() * truths.len());
        for corners in boxes {
            for (truth, largest) in truths.iter().zip(&mut largest_of_truth) {
                let overlap = iou(corners, truth);
                *largest = largest.max(overlap);
                table.push(overlap);
            }
        }
        let none = (Label::Background, 0);
        if truths.is_empty() {
            return boxes.iter().map(|_| none).unzip();
        }
        let of_box = |overlaps: &[f32]| {
            let first = (0, overlaps[0]);
            let best = overlaps.iter().copied().enumerate().fold(first, |best, next| match next.1 > best.1 {
                true => next,
                false => best,
            });
            let as_any = |(own, most): (&f32, &f32)| *own > 0.0 && own == most;
            let ties = self.every_truth && overlaps.iter().zip(&largest_of_truth).any(as_any);
            let label = match best.1 {
                overlap if ties || overlap >= self.object => Label::Object,
                overlap if overlap < self.background => Label::Background,
                _ => Label::Ignored,
            };
            (label, best.0)
        };
        table.chunks(truths.len()).map(of_box).unzip()
    }
}

/// The boxes that a loss reads, by their numbers: at most `count`, of which objects are at most the
/// part `objects`.
///
/// `shuffle` gives the numbers below its argument in random order; it is asked for objects, then
/// for background, and the first of each are taken.
pub fn sample(
    labels: &[Label],
    count: usize,
    objects: f32,
    mut shuffle: impl FnMut(usize) -> Vec<usize>,
) -> [Vec<usize>; 2] {
    let of = |wanted: Label| -> Vec<usize> {
        labels.iter().enumerate().filter(|(_, label)| **label == wanted).map(|(index, _)| index).collect()
    };
    let mut take = |from: Vec<usize>, most: usize| -> Vec<usize> {
        shuffle(from.len()).into_iter().take(most).map(|place| from[place]).collect()
    };
    let positive = take(of(Label::Object), (count as f32 * objects) as usize);
    let negative = take(of(Label::Background), count - positive.len());
    [positive, negative]
}
