//! The parts of a detector against torchvision's and detectron2's numbers.

use crate::support::{golden, relative_difference};
use candle_core::{Device, Tensor, Var};
use simsiam_em::detect::anchors::Anchors;
use simsiam_em::detect::boxes::{Coder, Corners, clip, iou};
use simsiam_em::detect::losses::{AnchorTargets, ProposalTarget, anchor_losses, mask_loss, proposal_losses};
use simsiam_em::detect::mask_targets::{mask_target, paste};
use simsiam_em::detect::matching::{Label, Matcher, sample};
use simsiam_em::detect::proposals::{
    DetectionLimits, ProposalLimits, detections, non_maximum_suppression, proposals,
};
use simsiam_em::kernel::roi_align::{Roi, RoiAlign};
use simsiam_em::network::{Tensors, read_weights};

/// Sums of some tens of f32 products.
const ROUNDING: f64 = 2e-6;

/// Tensors of a file.
pub struct Case(pub Tensors);

impl Case {
    /// The operators' cases.
    pub fn new() -> Case {
        Case::of(&golden("detection.safetensors"))
    }

    pub fn of(path: &std::path::Path) -> Case {
        Case(read_weights(path).unwrap())
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    pub fn values(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    pub fn whole(&self, name: &str) -> Vec<usize> {
        self.values(name).iter().map(|value| *value as usize).collect()
    }

    pub fn rows<const N: usize>(&self, name: &str) -> Vec<[f32; N]> {
        self.values(name).chunks_exact(N).map(|row| row.try_into().unwrap()).collect()
    }

    fn boxes(&self, name: &str) -> Vec<Corners> {
        self.rows(name)
    }

    pub fn var(&self, name: &str) -> Var {
        let (shape, values) = &self.0[name];
        Var::from_tensor(&Tensor::from_vec(values.clone(), shape.clone(), &Device::Cpu).unwrap()).unwrap()
    }
}

fn flat<const N: usize>(rows: &[[f32; N]]) -> Vec<f32> {
    rows.iter().flatten().copied().collect()
}

fn close(got: &[f32], expected: &[f32], what: &str) {
    let off = relative_difference(got, expected);
    assert!(off <= ROUNDING, "{what}: {off:.2e}");
}

#[test]
fn roi_align_and_its_gradient_are_torchvisions() {
    let case = Case::new();
    for number in [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15] {
        let name = |what: &str| format!("roi_align.{number}.{what}");
        let &[batch, height, width, channels] = case.shape(&name("input")) else { panic!("no image") };
        let &[rows, columns, scale, samples, aligned] = case.values(&name("params")) else {
            panic!("no numbers")
        };
        let align = RoiAlign {
            batch,
            height,
            width,
            channels,
            rows: rows as usize,
            columns: columns as usize,
            scale,
            samples: samples as usize,
            aligned: aligned == 1.0,
        };
        let rois = case.rows::<5>(&name("rois"));
        let roi = |row: &[f32; 5]| Roi { image: row[0] as usize, corners: [row[1], row[2], row[3], row[4]] };
        let rois: Vec<Roi> = rois.iter().map(roi).collect();
        let mut y = vec![f32::NAN; case.values(&name("output")).len()];
        align.forward(case.values(&name("input")), &rois, &mut y);
        close(&y, case.values(&name("output")), &name("output"));
        let mut dx = vec![f32::NAN; case.values(&name("input")).len()];
        let dy = case.values(&name("dy"));
        align.gradient(&rois, dy, &mut dx);
        close(&dx, case.values(&name("d_input")), &name("d_input"));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut again = vec![0.0; dx.len()];
            pool.install(|| align.gradient(&rois, dy, &mut again));
            assert!(again.iter().zip(&dx).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
        }
    }
}

#[test]
fn boxes_are_compared_clipped_and_coded_as_detectron2_does() {
    let case = Case::new();
    let table: Vec<f32> = case
        .boxes("iou.a")
        .iter()
        .flat_map(|a| case.boxes("iou.b").into_iter().map(move |b| iou(a, &b)).collect::<Vec<_>>())
        .collect();
    close(&table, case.values("iou.table"), "IoU");
    let size = case.whole("clip.size");
    let clipped: Vec<Corners> =
        case.boxes("clip.boxes").iter().map(|b| clip(b, [size[0], size[1]])).collect();
    assert_eq!(clipped, case.boxes("clip.clipped"));
    for number in 0..2 {
        let name = |what: &str| format!("box_coder.{number}.{what}");
        let coder = Coder { weights: case.rows::<4>(&name("weights"))[0] };
        let (source, target) = (case.boxes(&name("source")), case.boxes(&name("target")));
        let encoded: Vec<[f32; 4]> = source.iter().zip(&target).map(|(s, t)| coder.encode(s, t)).collect();
        close(&flat(&encoded), case.values(&name("encoded")), &name("encoded"));
        let deltas = case.boxes(&name("deltas"));
        let of_source = deltas.len() / source.len();
        let decoded =
            deltas.iter().enumerate().map(|(i, deltas)| coder.decode(&source[i / of_source], deltas));
        close(&flat(&decoded.collect::<Vec<_>>()), case.values(&name("decoded")), &name("decoded"));
    }
}

#[test]
fn anchors_are_detectron2s() {
    let case = Case::new();
    for number in 0..2 {
        let name = |what: &str| format!("anchors.{number}.{what}");
        let grid = case.whole(&name("grid"));
        let values = |what: &str| case.values(&name(what)).to_vec();
        let anchors =
            Anchors { sizes: values("sizes"), ratios: values("ratios"), offset: values("offset")[0] };
        let all = anchors.on(grid[0], [grid[1], grid[2]]);
        assert_eq!(all.len(), grid[1] * grid[2] * anchors.at_each_place());
        close(&flat(&all), case.values(&name("anchors")), &name("anchors"));
    }
}

#[test]
fn boxes_are_matched_and_sampled_as_detectron2_does() {
    let case = Case::new();
    for number in 0..3 {
        for kind in ["rpn", "roi"] {
            let name = |what: &str| format!("match.{number}.{kind}.{what}");
            let thresholds = case.values(&name("thresholds"));
            let every_truth = case.values(&name("low_quality"))[0] == 1.0;
            let matcher = Matcher { background: thresholds[0], object: thresholds[1], every_truth };
            let truths = case.boxes(&format!("match.{number}.truth"));
            let (labels, matches) = matcher.labels(&case.boxes(&format!("match.{number}.anchors")), &truths);
            let as_number = |label: &Label| match label {
                Label::Background => 0.0,
                Label::Object => 1.0,
                Label::Ignored => -1.0,
            };
            assert_eq!(labels.iter().map(as_number).collect::<Vec<f32>>(), case.values(&name("labels")));
            assert_eq!(matches, case.whole(&name("matches")));
            let &[count, objects] = case.values(&name("sampling")) else { panic!("no numbers") };
            let mut kinds = ["shuffled_positives", "shuffled_negatives"].into_iter();
            let shuffle = |n: usize| {
                let permutation = case.whole(&name(kinds.next().unwrap()));
                assert_eq!(permutation.len(), n);
                permutation
            };
            let [positive, negative] = sample(&labels, count as usize, objects, shuffle);
            assert_eq!(positive, case.whole(&name("positives")));
            assert_eq!(negative, case.whole(&name("negatives")));
        }
    }
    let (labels, matches) = Matcher::ANCHORS.labels(&[[0.0, 0.0, 4.0, 4.0]], &[]);
    assert_eq!((labels, matches), (vec![Label::Background], vec![0]));
    // No box reaches this truth: none is taken for it.
    let (labels, _) = Matcher::ANCHORS.labels(&[[0.0, 0.0, 4.0, 4.0]], &[[8.0, 8.0, 9.0, 9.0]]);
    assert_eq!(labels, [Label::Background]);
}

#[test]
fn suppression_is_torchvisions_by_class_and_over_all() {
    let case = Case::new();
    for number in ["0", "1", "2", "3", "4", "5", "6", "7", "8"] {
        let name = |what: &str| format!("nms.{number}.{what}");
        let (boxes, scores) = (case.boxes(&name("boxes")), case.values(&name("scores")));
        let threshold = case.values(&name("threshold"))[0];
        let groups = case.whole(&name("classes"));
        assert_eq!(non_maximum_suppression(&boxes, scores, None, threshold), case.whole(&name("keep")));
        let by_class = non_maximum_suppression(&boxes, scores, Some(&groups), threshold);
        assert_eq!(by_class, case.whole(&name("keep_by_class")));
    }
    assert!(non_maximum_suppression(&[], &[], None, 0.5).is_empty());
}

#[test]
fn proposals_and_detections_are_detectron2s() {
    let case = Case::new();
    let size = case.whole("proposals.size");
    let &[candidates, threshold, most] = case.values("proposals.params") else { panic!("no numbers") };
    let limits = ProposalLimits { candidates: candidates as usize, threshold, proposals: most as usize };
    let anchors = case.boxes("proposals.anchors");
    let (logits, deltas) = (case.values("proposals.logits"), case.boxes("proposals.deltas"));
    let (boxes, scores) = proposals(&anchors, logits, &deltas, [size[0], size[1]], &limits);
    close(&flat(&boxes), case.values("proposals.boxes"), "proposals");
    assert_eq!(scores, case.values("proposals.values"));
    // A training that diverges proposes nothing that cannot be read.
    let broken = vec![[f32::NAN, 0.0, f32::INFINITY, 0.0]; anchors.len()];
    assert!(proposals(&anchors, logits, &broken, [size[0], size[1]], &limits).0.is_empty());

    let size = case.whole("inference.size");
    let &[score, threshold, most] = case.values("inference.params") else { panic!("no numbers") };
    let limits = DetectionLimits { score, threshold, detections: most as usize };
    let (scores, deltas) = (case.values("inference.scores"), case.values("inference.deltas"));
    let found = detections(&case.boxes("inference.rois"), scores, deltas, [size[0], size[1]], &limits);
    let of =
        |get: fn(&simsiam_em::detect::proposals::Found) -> usize| found.iter().map(get).collect::<Vec<_>>();
    assert_eq!(of(|found| found.proposal), case.whole("inference.rows"));
    assert_eq!(of(|found| found.class), case.whole("inference.classes"));
    let boxes: Vec<Corners> = found.iter().map(|found| found.corners).collect();
    close(&flat(&boxes), case.values("inference.boxes"), "boxes");
    close(
        &found.iter().map(|found| found.score).collect::<Vec<_>>(),
        case.values("inference.values"),
        "scores",
    );
}

#[test]
fn mask_targets_and_pasted_masks_are_detectron2s() {
    let case = Case::new();
    let &[count, height, width] = case.shape("mask.masks") else { panic!("no masks") };
    let bins = case.shape("mask.target")[1];
    let bits = |name: &str| -> Vec<bool> { case.values(name).iter().map(|value| *value == 1.0).collect() };
    let (masks, targets, pasted) = (bits("mask.masks"), bits("mask.target"), bits("mask.pasted"));
    for (index, corners) in case.boxes("mask.boxes").iter().enumerate().take(count) {
        let of = |all: &[bool], len: usize| all[index * len..(index + 1) * len].to_vec();
        let target = mask_target(&of(&masks, height * width), [height, width], corners, bins);
        assert_eq!(target, of(&targets, bins * bins), "target {index}");
        let probabilities = &case.values("mask.probabilities")[index * bins * bins..][..bins * bins];
        assert_eq!(
            paste(probabilities, bins, corners, [height, width]),
            of(&pasted, height * width),
            "mask {index}"
        );
    }
}

fn agrees(loss: &Tensor, expected: f32, what: &str) {
    let loss = loss.to_scalar::<f32>().unwrap();
    assert!((loss / expected - 1.0).abs() < 2e-6, "{what}: {loss} instead of {expected}");
}

#[test]
fn losses_and_their_gradients_are_detectron2s() {
    let case = Case::new();
    let gradient = |loss: &Tensor, of: &Var, name: &str| {
        let gradients = loss.backward().unwrap();
        let got = gradients.get(of).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        close(&got, case.values(name), name);
    };
    let (logits, deltas) = (case.var("rpn_loss.logits"), case.var("rpn_loss.deltas"));
    let anchors = case.boxes("rpn_loss.anchors");
    let (labels, truths) = (case.values("rpn_loss.labels"), case.boxes("rpn_loss.truth"));
    let chosen = |wanted: f32| (0..labels.len()).filter(move |index| labels[*index] == wanted);
    let objects = chosen(1.0).map(|index| (index, truths[index])).collect();
    let chosen = AnchorTargets { objects, background: chosen(0.0).collect() };
    let per_image = case.whole("rpn_loss.per_image")[0];
    let [objectness, location] = anchor_losses(&logits, &deltas, &anchors, &chosen, per_image).unwrap();
    agrees(&objectness, case.values("rpn_loss.objectness")[0], "objectness");
    agrees(&location, case.values("rpn_loss.location")[0], "location");
    gradient(&objectness, &logits, "rpn_loss.d_logits");
    gradient(&location, &deltas, "rpn_loss.d_deltas");
    let nothing = AnchorTargets { objects: Vec::new(), background: Vec::new() };
    for loss in anchor_losses(&logits, &deltas, &anchors, &nothing, per_image).unwrap() {
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
    }

    let (scores, deltas) = (case.var("roi_loss.scores"), case.var("roi_loss.deltas"));
    let (proposals, truths) = (case.boxes("roi_loss.rois"), case.boxes("roi_loss.truth"));
    let background = case.shape("roi_loss.scores")[1] - 1;
    let object = |row: usize, class: usize| (class < background).then(|| (class, truths[row]));
    let targets: Vec<ProposalTarget> = case
        .whole("roi_loss.classes")
        .into_iter()
        .enumerate()
        .map(|(row, class)| ProposalTarget { proposal: proposals[row], object: object(row, class) })
        .collect();
    let [class, location] = proposal_losses(&scores, &deltas, &targets).unwrap();
    agrees(&class, case.values("roi_loss.classification")[0], "class");
    agrees(&location, case.values("roi_loss.box")[0], "box");
    gradient(&class, &scores, "roi_loss.d_scores");
    gradient(&location, &deltas, "roi_loss.d_deltas");

    let logits = case.var("mask.logits");
    let targets: Vec<bool> = case.values("mask.target").iter().map(|value| *value == 1.0).collect();
    let loss = mask_loss(&logits, &case.whole("mask.classes"), &targets).unwrap();
    agrees(&loss, case.values("mask.loss")[0], "mask");
    gradient(&loss, &logits, "mask.d_logits");
    let nothing = mask_loss(&logits, &[], &[]).unwrap();
    assert_eq!(nothing.to_scalar::<f32>().unwrap(), 0.0);
}
