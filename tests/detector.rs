//! A whole detector: its steps against PyTorch's. Its last stage begins with a block, so that the
//! features' gradient is the sum of two.

use crate::detect::Case;
use crate::support::{golden, relative_difference};
use candle_core::{Tensor, Var};
use simsiam_em::detect::anchors::Anchors;
use simsiam_em::detect::detector::{Detector, DetectorConfig, Statistics, deconvolved};
use simsiam_em::detect::losses::{AnchorTargets, ProposalTarget, anchor_losses, mask_loss, proposal_losses};
use simsiam_em::kernel::direct_sums;
use simsiam_em::kernel::roi_align::Roi;
use simsiam_em::network::config::{Backbone, Stem};
use simsiam_em::network::names::{from_torch, running_from_torch, running_to_torch, to_torch};
use simsiam_em::network::{Engine, Network, Shape, Tensors};
use simsiam_em::optim::{OptimConfig, Parameter, Penalised, Sgd};

fn case() -> Case {
    Case::of(&golden("detection_step.safetensors"))
}

fn detector(case: &Case) -> Detector {
    let [_, side, width, classes, bins, mask_width, _] = case.whole("fixed.counts")[..] else {
        panic!("no counts")
    };
    let (sizes, ratios) = (case.values("fixed.sizes").to_vec(), case.values("fixed.ratios").to_vec());
    let config = DetectorConfig {
        backbone: Backbone::Resnet8 { width },
        size: [side, side],
        classes,
        anchors: Anchors { sizes, ratios, offset: 0.0 },
        bins,
        mask_width,
    };
    Detector::new(config, &direct_sums().unwrap()).unwrap()
}

/// The golden names of a part's tensors under ours: objectness and deltas are one layer here, and so
/// are classes and boxes.
fn of_part(case: &Case, kind: &str, part: usize) -> Tensors {
    let (prefix, joined) = [
        ("backbone", None),
        ("backbone", None),
        ("rpn", Some(["objectness", "deltas"])),
        ("box", Some(["cls", "delta"])),
        ("mask", None),
    ][part];
    let prefix = format!("{kind}.{prefix}.");
    let own = case
        .0
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone())));
    let mut own: Tensors = own.collect();
    for what in ["weight", "bias"] {
        let Some([first, second]) = joined else { continue };
        let (Some((mut shape, mut values)), Some((more, others))) =
            (own.remove(&format!("{first}.{what}")), own.remove(&format!("{second}.{what}")))
        else {
            continue;
        };
        shape[0] += more[0];
        values.extend(others);
        own.insert(format!("outputs.{what}"), (shape, values));
    }
    own
}

/// θ whose tensors begin with `kind`.
fn theta(case: &Case, detector: &Detector, kind: &str) -> Vec<f32> {
    let of = |(part, (engine, _)): (usize, (&Engine, _))| {
        let own = of_part(case, kind, part);
        from_torch(engine.network(), &|name| own.get(name)).unwrap()
    };
    detector.parts().into_iter().enumerate().flat_map(of).collect()
}

/// The five losses of step `step`.
fn losses(case: &Case, detector: &Detector, theta: &Tensor, step: usize) -> Vec<Tensor> {
    let name = |what: &str| format!("step.{step}.{what}");
    let by = Statistics::Batch;
    let features = detector.features(&case.var(&name("images")), theta, by).unwrap();
    let [logits, deltas] = detector.proposals(&features, theta, by).unwrap();
    let objects = case.rows::<5>(&name("objects"));
    let objects = objects.iter().map(|row| (row[0] as usize, [row[1], row[2], row[3], row[4]]));
    let chosen = AnchorTargets { objects: objects.collect(), background: case.whole(&name("background")) };
    let of_anchors = anchor_losses(&logits, &deltas, detector.anchors(), &chosen, 32).unwrap();
    let rois = rois(case, step);
    let read = detector.read(&features, rois.clone(), theta, by).unwrap();
    let [scores, deltas] = detector.boxes(&read, theta, by).unwrap();
    let (classes, truths) = (case.whole(&name("classes")), case.rows::<4>(&name("roi_truth")));
    let target = |row: usize| ProposalTarget {
        proposal: rois[row].corners,
        object: (classes[row] < 3).then(|| (classes[row], truths[row])),
    };
    let targets: Vec<ProposalTarget> = (0..rois.len()).map(target).collect();
    let of_proposals = proposal_losses(&scores, &deltas, &targets).unwrap();
    let rows: Vec<u32> = (0..rois.len() as u32).filter(|row| classes[*row as usize] < 3).collect();
    let own: Vec<usize> = rows.iter().map(|row| classes[*row as usize]).collect();
    let rows = Tensor::new(rows, theta.device()).unwrap();
    let masks = detector.masks(&read.index_select(&rows, 0).unwrap(), theta, by).unwrap();
    let inside: Vec<bool> = case.values(&name("mask_targets")).iter().map(|value| *value == 1.0).collect();
    let mask = mask_loss(&masks, &own, &inside).unwrap();
    of_anchors.into_iter().chain(of_proposals).chain([mask]).collect()
}

fn rois(case: &Case, step: usize) -> Vec<Roi> {
    let rows = case.rows::<5>(&format!("step.{step}.rois"));
    rows.iter().map(|row| Roi { image: row[0] as usize, corners: [row[1], row[2], row[3], row[4]] }).collect()
}

fn is_norms(name: &str) -> bool {
    ["bn1", "bn2", "norm", "downsample.1"].iter().any(|norm| name.contains(&format!("{norm}.")))
}

#[test]
fn four_steps_of_a_whole_detector_are_pytorchs() {
    let case = case();
    let detector = detector(&case);
    let theta =
        Var::from_vec(theta(&case, &detector, "weights"), detector.theta_len(), &candle_core::Device::Cpu);
    let theta = theta.unwrap();
    for (part, (engine, _)) in detector.parts().into_iter().enumerate() {
        let own = of_part(&case, "weights", part);
        engine.set_running(&running_from_torch(engine.network(), &|name| own.get(name)).unwrap()).unwrap();
    }
    let parameters =
        detector.parts().into_iter().flat_map(|(engine, _)| engine.network().parameters().to_vec());
    // The penalty is on biases too, and on no norm.
    let parameters = parameters.map(|p| Parameter { len: p.len, weights: !is_norms(&p.name), frozen: false });
    let optim = OptimConfig { weight_decay_on: Penalised::Weights, ..OptimConfig::default() };
    let sgd = Sgd::new(parameters.collect(), detector.parts()[0].0.machine()).unwrap();
    let expected = case.values("expected.losses");
    for step in 0..4 {
        let losses = losses(&case, &detector, &theta, step);
        for (index, loss) in losses.iter().enumerate() {
            let (got, expected) = (loss.to_scalar::<f32>().unwrap(), expected[5 * step + index]);
            let off = (got / expected - 1.0).abs();
            println!("step {step}, loss {index}: {got} {expected} {off:.1e}");
            assert!(
                off < if step == 0 { 5e-6 } else { 1e-4 },
                "step {step}, loss {index}: {got}, not {expected}"
            );
        }
        let loss = losses.iter().skip(1).fold(losses[0].clone(), |sum, loss| (sum + loss).unwrap());
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&theta).unwrap();
        if step == 0 {
            agree(&case, &detector, &gradient.to_vec1().unwrap(), "gradient0", 2e-5);
        }
        sgd.step(&theta, gradient, 0.02, &optim).unwrap();
    }
    agree(&case, &detector, &theta.to_vec1().unwrap(), "final", 1e-4);
    for (part, (engine, _)) in detector.parts().into_iter().enumerate() {
        let own = of_part(&case, "final", part);
        for (name, _, values) in running_to_torch(engine.network(), &engine.running().unwrap()) {
            let off = relative_difference(&values, &own[&name].1);
            assert!(off < 1e-4, "{name}: {off:.1e}");
        }
    }
    evaluated(&case, &detector, &theta);
}

/// Compares a flat vector, tensor by tensor, with those whose names begin with `kind`.
fn agree(case: &Case, detector: &Detector, flat: &[f32], kind: &str, tolerance: f64) {
    for (part, (engine, place)) in detector.parts().into_iter().enumerate() {
        let own = of_part(case, kind, part);
        for (name, _, values) in to_torch(engine.network(), &flat[place]) {
            let off = relative_difference(&values, &own[&name].1);
            assert!(off < tolerance, "{kind}.{part}.{name}: {off:.1e}");
        }
    }
}

/// By running statistics, on the images of the last step.
fn evaluated(case: &Case, detector: &Detector, theta: &Tensor) {
    let by = Statistics::Running;
    let close = |got: &Tensor, name: &str| {
        let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let off = relative_difference(&got, case.values(name));
        assert!(off < 1e-4, "{name}: {off:.1e}");
    };
    let features = detector.features(&case.var("step.3.images"), theta, by).unwrap();
    close(&features, "evaluated.features");
    let [logits, deltas] = detector.proposals(&features, theta, by).unwrap();
    close(&logits, "evaluated.logits");
    close(&deltas, "evaluated.deltas");
    let read = detector.read(&features, rois(case, 3), theta, by).unwrap();
    let [scores, deltas] = detector.boxes(&read, theta, by).unwrap();
    close(&scores, "evaluated.scores");
    close(&deltas, "evaluated.boxes");
    close(&detector.masks(&read, theta, by).unwrap(), "evaluated.masks");
}

#[test]
fn a_deconvolution_and_its_gradients_are_pytorchs() {
    let case = Case::new();
    let &[_, height, width, channels] = case.shape("deconvolution.x") else { panic!("no image") };
    let outputs = case.shape("deconvolution.weight")[1];
    let network = Network::mask_head(Shape { height, width, channels }, outputs, outputs).unwrap();
    // The layer behind it hands on what it reads.
    let identity = (0..outputs * outputs).map(|i| if i % (outputs + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let tensor = |name: &str| case.0[&format!("deconvolution.{name}")].clone();
    let own: Tensors = [
        ("deconv.weight", tensor("weight")),
        ("deconv.bias", tensor("bias")),
        ("predictor.weight", (vec![outputs, outputs, 1, 1], identity)),
        ("predictor.bias", (vec![outputs], vec![0.0; outputs])),
    ]
    .map(|(name, tensor)| (name.to_string(), tensor))
    .into();
    let theta = from_torch(&network, &|name| own.get(name)).unwrap();
    let engine = Engine::new(network, direct_sums().unwrap()).unwrap();
    let (x, theta) = (case.var("deconvolution.x"), Var::new(theta, &candle_core::Device::Cpu).unwrap());
    let y = engine.train(&x.unsqueeze(0).unwrap(), &theta).unwrap();
    let y = deconvolved(&y.reshape((x.dim(0).unwrap(), height, 4 * width, outputs)).unwrap()).unwrap();
    let close = |got: &[f32], name: &str| {
        let off = relative_difference(got, case.values(&format!("deconvolution.{name}")));
        assert!(off < 2e-6, "{name}: {off:.1e}");
    };
    close(&y.flatten_all().unwrap().to_vec1().unwrap(), "y");
    let loss = (y * case.var("deconvolution.dy").as_tensor()).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    close(&gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap(), "d_x");
    let d_theta: Vec<f32> = gradients.get(&theta).unwrap().to_vec1().unwrap();
    let named = to_torch(engine.network(), &d_theta);
    close(&named[0].2, "d_weight");
    close(&named[1].2, "d_bias");
}

#[test]
fn a_detector_is_refused_where_a_backbone_has_nothing_to_cut() {
    let case = case();
    let good = detector(&case);
    assert_eq!(good.init(1).len(), good.theta_len());
    assert_eq!(good.anchors().len(), 16 * 16 * 6);
    for backbone in [
        Backbone::Mlp { widths: vec![8] },
        Backbone::Resnet { blocks: vec![1], bottleneck: false, width: 8, widths: None, stem: Stem::Cifar },
    ] {
        let error = Network::trunk(&backbone, [32, 32]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
