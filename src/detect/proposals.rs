//! From scores and deltas to boxes: proposals of an RPN, detections of a box head.

use super::boxes::{Coder, Corners, clip, iou, sides};

/// The numbers of the boxes that are kept, the highest scores first: one that overlaps a kept box
/// by more than `threshold` is dropped. Boxes of different `groups` do not drop each other.
pub fn non_maximum_suppression(
    boxes: &[Corners],
    scores: &[f32],
    groups: Option<&[usize]>,
    threshold: f32,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Equal scores keep their order.
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in order {
        let dropped = kept.iter().any(|other| {
            groups.is_none_or(|groups| groups[candidate] == groups[*other])
                && iou(&boxes[candidate], &boxes[*other]) > threshold
        });
        if !dropped {
            kept.push(candidate);
        }
    }
    kept
}

/// How many boxes of an image an RPN hands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProposalLimits {
    /// The highest scores that are looked at.
    pub candidates: usize,
    /// Overlap above which the lower score is dropped.
    pub threshold: f32,
    /// Proposals at most.
    pub proposals: usize,
}

/// The proposals of one image of `size` [height, width], and their scores, the highest first:
/// anchors moved by `deltas`, clipped, the empty ones left out.
pub fn proposals(
    anchors: &[Corners],
    logits: &[f32],
    deltas: &[[f32; 4]],
    size: [usize; 2],
    limits: &ProposalLimits,
) -> (Vec<Corners>, Vec<f32>) {
    let mut order: Vec<usize> = (0..anchors.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    order.truncate(limits.candidates);
    let decoded = order
        .into_iter()
        .map(|index| (clip(&Coder::ANCHORS.decode(&anchors[index], &deltas[index]), size), logits[index]));
    // What is infinite or no number comes of a training that diverges.
    let (boxes, scores): (Vec<Corners>, Vec<f32>) =
        decoded.filter(|(corners, score)| is_box(corners) && score.is_finite()).unzip();
    let kept = non_maximum_suppression(&boxes, &scores, None, limits.threshold);
    kept.into_iter().take(limits.proposals).map(|index| (boxes[index], scores[index])).unzip()
}

/// Whether a box is finite and has an inside.
pub fn is_box(corners: &Corners) -> bool {
    corners.iter().all(|place| place.is_finite()) && sides(corners).iter().all(|side| *side > 0.0)
}

/// A box that a box head found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The proposal that it came from.
    pub proposal: usize,
    /// Its class.
    pub class: usize,
    /// The probability of the class.
    pub score: f32,
    /// Where it is.
    pub corners: Corners,
}

/// Which of a box head's answers are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionLimits {
    /// Probabilities have to be above it.
    pub score: f32,
    /// Overlap above which the lower score of a class is dropped.
    pub threshold: f32,
    /// Detections of an image at most.
    pub detections: usize,
}

impl Default for DetectionLimits {
    fn default() -> Self {
        Self { score: 0.05, threshold: 0.5, detections: 100 }
    }
}

/// The detections of one image of `size` [height, width], the highest scores first.
///
/// `scores` are logits (proposals, K + 1), the background last; `deltas` (proposals, K, 4).
pub fn detections(
    proposals: &[Corners],
    scores: &[f32],
    deltas: &[f32],
    size: [usize; 2],
    limits: &DetectionLimits,
) -> Vec<Found> {
    if proposals.is_empty() {
        return Vec::new();
    }
    let classes = scores.len() / proposals.len() - 1;
    let mut found = Vec::new();
    for (proposal, source) in proposals.iter().enumerate() {
        let logits = &scores[proposal * (classes + 1)..][..classes + 1];
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        for (class, logit) in logits.iter().enumerate().take(classes) {
            let score = (logit - largest).exp() / sum;
            let at = (proposal * classes + class) * 4;
            let own = [0, 1, 2, 3].map(|i| deltas[at + i]);
            let corners = clip(&Coder::PROPOSALS.decode(source, &own), size);
            if score > limits.score && corners.iter().all(|place| place.is_finite()) {
                found.push(Found { proposal, class, score, corners });
            }
        }
    }
    let boxes: Vec<Corners> = found.iter().map(|found| found.corners).collect();
    let scores: Vec<f32> = found.iter().map(|found| found.score).collect();
    let groups: Vec<usize> = found.iter().map(|found| found.class).collect();
    let kept = non_maximum_suppression(&boxes, &scores, Some(&groups), limits.threshold);
    kept.into_iter().take(limits.detections).map(|index| found[index]).collect()
}
