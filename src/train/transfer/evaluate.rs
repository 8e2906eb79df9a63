//! A fine-tuned detector on held-out images: what it finds, by COCO's numbers.

use super::samples::{one_size, pixels};
use super::targets::Limits;
use super::{BINS, Preprocessing};
use crate::data::objects::{Object, ObjectSplit};
use crate::detect::detector::{Detector, Statistics};
use crate::detect::mask_targets::paste;
use crate::detect::proposals::{DetectionLimits, Found, detections, is_box, proposals};
use crate::error::{Result, go_on};
use crate::kernel::roi_align::Roi;
use crate::masks::Rle;
use crate::measure::average_precision::{Coco, Detection, Overlap, Truth, coco};
use candle_core::{Device, Tensor};
use std::sync::atomic::AtomicBool;

/// COCO's numbers.
#[derive(Clone, Debug)]
pub struct Judged {
    /// By boxes.
    pub boxes: Coco,
    /// By masks, where the held-out images have them.
    pub masks: Option<Coco>,
    /// What was found, image by image, the highest scores of an image first.
    pub found: Vec<Detection>,
}

/// A detector that goes by its running statistics.
pub struct Judge<'a> {
    pub detector: &'a Detector,
    pub theta: &'a Tensor,
    pub limits: Limits,
}

impl Judge<'_> {
    /// The numbers of all images of `split`, whose objects are of `classes` classes.
    pub fn all(
        &self,
        split: &ObjectSplit,
        preprocessing: &Preprocessing,
        classes: usize,
        stop: &AtomicBool,
    ) -> Result<Judged> {
        let (mut truths, mut found) = (Vec::new(), Vec::new());
        for image in 0..split.len() {
            go_on(stop)?;
            let scene = split.scene(image)?;
            let size = [scene.image.height, scene.image.width];
            one_size(self.detector.size(), [size])?;
            found.extend(self.image(image, size, pixels(&scene.image, preprocessing))?);
            truths.extend(scene.objects.into_iter().map(|object| truth(image, object)));
        }
        let boxes = coco(&truths, &found, classes, Overlap::Boxes)?;
        let all_have_masks = truths.iter().all(|truth| truth.mask.is_some());
        let masks = all_have_masks.then(|| coco(&truths, &found, classes, Overlap::Masks)).transpose()?;
        Ok(Judged { boxes, masks, found })
    }

    /// What is found in one image (H, W, 3).
    fn image(&self, image: usize, size: [usize; 2], pixels: Vec<f32>) -> Result<Vec<Detection>> {
        let (detector, theta, by) = (self.detector, self.theta, Statistics::Running);
        let x = Tensor::from_vec(pixels, (1, size[0], size[1], 3), &Device::Cpu)?;
        let features = detector.features(&x, theta, by)?;
        let [logits, deltas] = detector.proposals(&features, theta, by)?;
        let deltas: Vec<[f32; 4]> =
            deltas.get(0)?.to_vec2()?.iter().map(|d: &Vec<f32>| [d[0], d[1], d[2], d[3]]).collect();
        let logits: Vec<f32> = logits.get(0)?.to_vec1()?;
        let (proposed, _) = proposals(detector.anchors(), &logits, &deltas, size, &self.limits.proposals);
        if proposed.is_empty() {
            return Ok(Vec::new());
        }
        let roi = |corners: &[f32; 4]| Roi { image: 0, corners: *corners };
        let read = detector.read(&features, proposed.iter().map(roi).collect(), theta, by)?;
        let [scores, deltas] = detector.boxes(&read, theta, by)?;
        let (scores, deltas) = (scores.flatten_all()?.to_vec1()?, deltas.flatten_all()?.to_vec1()?);
        let mut found = detections(&proposed, &scores, &deltas, size, &DetectionLimits::default());
        found.retain(|found| is_box(&found.corners));
        if found.is_empty() {
            return Ok(Vec::new());
        }
        // Masks are of the boxes that were found, read once more.
        let read =
            detector.read(&features, found.iter().map(|found| roi(&found.corners)).collect(), theta, by)?;
        let masks: Vec<f32> = detector.masks(&read, theta, by)?.flatten_all()?.to_vec1()?;
        let each = masks.len() / found.len();
        let of = |(found, masks): (&Found, &[f32])| detection(image, size, found, masks);
        found.iter().zip(masks.chunks(each)).map(of).collect()
    }
}

/// A box that was found with the mask of its class, out of `logits` (p, p, K).
fn detection(image: usize, size: [usize; 2], found: &Found, logits: &[f32]) -> Result<Detection> {
    let classes = logits.len() / (BINS * BINS);
    let of_class = logits.iter().skip(found.class).step_by(classes);
    let probabilities: Vec<f32> = of_class.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    let inside = paste(&probabilities, BINS, &found.corners, size);
    let [left, upper, right, lower] = found.corners.map(f64::from);
    Ok(Detection {
        image,
        class: found.class,
        score: f64::from(found.score),
        bounding_box: [left, upper, right - left, lower - upper],
        mask: Some(Rle::from_pixels(size[0], size[1], &inside)?),
    })
}

fn truth(image: usize, object: Object) -> Truth {
    let Object { class, bounding_box, mask, area, crowd, difficult } = object;
    // COCO knows no difficult objects; like crowds they count neither way.
    Truth { image, class, bounding_box, mask, area, crowd: crowd || difficult }
}
