//! What the losses of a batch read: which anchors, which proposals, which masks.

use super::rois_of;
use super::samples::Sample;
use crate::detect::boxes::Corners;
use crate::detect::losses::{AnchorTargets, ProposalTarget};
use crate::detect::mask_targets::mask_target;
use crate::detect::matching::{Label, Matcher, sample};
use crate::detect::proposals::{ProposalLimits, proposals};
use crate::kernel::roi_align::Roi;
use crate::rng::{Purpose, Stream, below, stream};

/// How much of an image is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Anchors of an image that the losses read, objects among them up to the half.
    pub anchors: usize,
    /// What becomes of all anchors.
    pub proposals: ProposalLimits,
    /// Proposals of an image that are read, objects among them up to [`OBJECTS`].
    pub rois: usize,
}

/// The part of proposals that may be objects; as many rows of each image may have masks.
const OBJECTS: f32 = 0.25;

impl Limits {
    /// For scenes of a few objects.
    pub const LAPTOP: Limits = Limits {
        anchors: 64,
        proposals: ProposalLimits { candidates: 400, threshold: 0.7, proposals: 100 },
        rois: 64,
    };

    /// Rows of an image that may have masks.
    pub fn masks(&self) -> usize {
        (self.rois as f32 * OBJECTS) as usize
    }
}

/// The choices of a batch.
pub struct Targets {
    pub anchors: AnchorTargets,
    /// `rois` of each image, objects first.
    pub proposals: Vec<ProposalTarget>,
    /// The truth of each proposal that is an object.
    truths: Vec<Option<usize>>,
    each: usize,
}

/// The masks of a batch: which rows of the mask head's output, of which class, and what is inside.
pub struct MaskTargets {
    pub rows: Vec<u32>,
    pub classes: Vec<usize>,
    pub inside: Vec<bool>,
}

/// The numbers below `count` in random order.
fn shuffled(count: usize, rng: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, below(last + 1, rng));
    }
    order
}

impl Targets {
    /// The choices for `batch`, of whose anchors (A) the detector says `logits` (B, A) and `deltas`
    /// (B, 4A); draws are those of (seed, step).
    pub fn choose(
        limits: &Limits,
        anchors: &[Corners],
        batch: &[Sample],
        [logits, deltas]: [Vec<Vec<f32>>; 2],
        (seed, step): (u64, u64),
    ) -> Targets {
        let chosen = AnchorTargets { objects: Vec::new(), background: Vec::new() };
        let mut all =
            Targets { anchors: chosen, proposals: Vec::new(), truths: Vec::new(), each: limits.rois };
        for (image, own) in batch.iter().enumerate() {
            let mut rng = stream(seed, Purpose::Detect, step, image as u64);
            let truths: Vec<Corners> = own.truths.iter().map(|truth| truth.corners).collect();
            let (labels, matches) = Matcher::ANCHORS.labels(anchors, &truths);
            let [objects, background] =
                sample(&labels, limits.anchors, 0.5, |count| shuffled(count, &mut rng));
            let first = image * anchors.len();
            all.anchors
                .objects
                .extend(objects.iter().map(|anchor| (first + anchor, truths[matches[*anchor]])));
            all.anchors.background.extend(background.iter().map(|anchor| first + anchor));
            let moved: Vec<[f32; 4]> =
                deltas[image].chunks_exact(4).map(|d| [d[0], d[1], d[2], d[3]]).collect();
            let (mut boxes, _) = proposals(anchors, &logits[image], &moved, own.size, &limits.proposals);
            boxes.extend(&truths);
            all.add(limits, own, &boxes, &mut rng);
        }
        all
    }

    /// Adds the proposals of one image, chosen among `boxes`. Where there are too few, background
    /// is drawn again, so that every image has as many and no other plan is made.
    fn add(&mut self, limits: &Limits, image: &Sample, boxes: &[Corners], rng: &mut Stream) {
        let truths: Vec<Corners> = image.truths.iter().map(|truth| truth.corners).collect();
        let (labels, matches) = Matcher::PROPOSALS.labels(boxes, &truths);
        let [objects, background] = sample(&labels, limits.rois, OBJECTS, |count| shuffled(count, rng));
        let (found, again) = (objects.len(), if background.is_empty() { &objects } else { &background });
        let missing = limits.rois - found - background.len();
        let more: Vec<usize> = match again.is_empty() {
            true => Vec::new(),
            false => (0..missing).map(|_| again[below(again.len(), rng)]).collect(),
        };
        for row in objects.iter().chain(&background).chain(&more) {
            let truth = (labels[*row] == Label::Object).then_some(matches[*row]);
            let object = truth.map(|truth| (image.truths[truth].class, truths[truth]));
            self.proposals.push(ProposalTarget { proposal: boxes[*row], object });
            self.truths.push(truth);
        }
        // An image of nothing, in which nothing was proposed either, is background itself.
        let whole = [0.0, 0.0, image.size[1] as f32, image.size[0] as f32];
        let empty = limits.rois - found - background.len() - more.len();
        self.proposals.extend(std::iter::repeat_n(ProposalTarget { proposal: whole, object: None }, empty));
        self.truths.extend(std::iter::repeat_n(None, empty));
    }

    /// All proposals, image by image.
    pub fn rois(&self) -> Vec<Roi> {
        rois_of(self.proposals.iter().map(|target| &target.proposal), self.each)
    }

    /// The rows of `images` images that may have masks, whether or not they have.
    pub fn mask_places(&self, limits: &Limits, images: usize) -> Vec<u32> {
        let of_image =
            |image: usize| (image * self.each..image * self.each + limits.masks()).map(|row| row as u32);
        (0..images).flat_map(of_image).collect()
    }

    /// The masks of `batch` in `bins` × `bins` bins, by their place among [`Targets::mask_places`].
    pub fn masks(&self, limits: &Limits, batch: &[Sample], bins: usize) -> MaskTargets {
        let mut masks = MaskTargets { rows: Vec::new(), classes: Vec::new(), inside: Vec::new() };
        for (image, own) in batch.iter().enumerate() {
            for place in 0..limits.masks() {
                let row = image * self.each + place;
                let Some(truth) = self.truths[row].map(|truth| &own.truths[truth]) else { continue };
                masks.rows.push((image * limits.masks() + place) as u32);
                masks.classes.push(truth.class);
                masks.inside.extend(mask_target(&truth.mask, own.size, &self.proposals[row].proposal, bins));
            }
        }
        masks
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Truth;
    use super::*;

    /// An image of 16 × 16 pixels with one object, or with none.
    fn image(corners: Option<Corners>) -> Sample {
        let inside = |[left, upper, right, lower]: Corners| {
            let within = |p: usize, low: f32, high: f32| (low..high).contains(&(p as f32));
            (0..256).map(|p| within(p % 16, left, right) && within(p / 16, upper, lower)).collect()
        };
        let truth = |corners| Truth { class: 2, corners, mask: inside(corners) };
        Sample { size: [16, 16], pixels: vec![0.0; 768], truths: corners.map(truth).into_iter().collect() }
    }

    #[test]
    fn every_image_has_as_many_proposals_and_objects_come_first() {
        let limits = Limits { anchors: 8, rois: 8, ..Limits::LAPTOP };
        let anchors = [[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0]];
        let corners = [0.0, 0.0, 8.0, 7.0];
        let batch = [image(Some(corners)), image(None), image(Some([1.0, 9.0, 3.0, 11.0]))];
        let logits = vec![vec![1.0, 0.0], vec![f32::NAN; 2], vec![0.0, 1.0]];
        let deltas = vec![vec![0.0; 8], vec![f32::NAN; 8], vec![0.0; 8]];
        let chosen = Targets::choose(&limits, &anchors, &batch, [logits, deltas], (3, 5));
        assert_eq!(chosen.anchors.objects, [(0, corners)]);
        let mut background = chosen.anchors.background.clone();
        background.sort();
        assert_eq!(background, [1, 2, 3, 4, 5]);
        assert_eq!(chosen.proposals.len(), 24);
        let objects: Vec<bool> = chosen.proposals.iter().map(|target| target.object.is_some()).collect();
        // The anchor and the truth itself; nothing; the truth alone, which no anchor overlaps.
        let expected = [(0, true), (1, true), (2, false), (8, false), (16, true), (17, false)];
        expected.iter().for_each(|(row, object)| assert_eq!(objects[*row], *object, "row {row}"));
        assert!(chosen.proposals[8..16].iter().all(|target| target.proposal == [0.0, 0.0, 16.0, 16.0]));
        assert_eq!(chosen.rois()[17].image, 2);
        let places = chosen.mask_places(&limits, 3);
        assert_eq!(places, [0, 1, 8, 9, 16, 17]);
        let masks = chosen.masks(&limits, &batch, 4);
        assert_eq!((masks.rows, masks.classes, masks.inside.len()), (vec![0, 1, 4], vec![2; 3], 48));
        assert!(masks.inside[32..].iter().all(|inside| *inside), "a box that is its truth's is inside");
    }
}
