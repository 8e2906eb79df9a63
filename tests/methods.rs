//! SimCLR, MoCo, BYOL and SwAV: objectives and codes against PyTorch, and what each is on the loop.

use crate::support::{golden, max_difference, normal};
use candle_core::{DType, Device, Tensor, Var};
use simsiam_em::eta::{BankPlace, Queue};
use simsiam_em::eta::{EStep, FrozenEncoder, Rule, Sinkhorn, Size, Views, log_codes};
use simsiam_em::kernel;
use simsiam_em::network::config::{Backbone, EncoderConfig, HeadNorm, PredictorConfig, ProjectorConfig};
use simsiam_em::network::{Tensors, read_weights};
use simsiam_em::objective::{ObjectiveConfig, PrototypesConfig, Similarity, unit_rows};
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Alternation, Compared, Losses, Model, Rates};

/// The reference values are f32, some of them sums over 64 exponentials of up to e¹⁰.
const TOLERANCE: f64 = 1e-4;

/// `tests/golden/losses.safetensors`: objectives of PyTorch on fixed vectors.
struct Golden(Tensors);

impl Golden {
    fn read() -> Self {
        Self(read_weights(&golden("losses.safetensors")).unwrap())
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = &self.0[name];
        Tensor::from_slice(values, &shape[..], &Device::Cpu).unwrap()
    }

    fn value(&self, name: &str) -> f64 {
        f64::from(self.0[name].1[0])
    }

    /// Both views' vectors, (2, 32, 64), and each in the place of the other.
    fn views(&self) -> (Tensor, Tensor) {
        let [a, b] = ["z1", "z2"].map(|name| self.tensor(name));
        (Tensor::stack(&[&a, &b], 0).unwrap(), Tensor::stack(&[&b, &a], 0).unwrap())
    }
}

fn objective(similarity: Similarity, temperature: f64) -> ObjectiveConfig {
    ObjectiveConfig { similarity, temperature, ..ObjectiveConfig::default() }
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn objectives_are_pytorchs() {
    let golden = Golden::read();
    let (z, other) = golden.views();
    let loss = |similarity, temperature, views: usize, negatives: Option<&Tensor>| {
        let (z, other) = (z.narrow(0, 0, views).unwrap(), other.narrow(0, 0, views).unwrap());
        scalar(&objective(similarity, temperature).loss(&z, &other, negatives).unwrap())
    };
    let queue = golden.tensor("moco.queue");
    for (name, got) in [
        ("simsiam.cosine", loss(Similarity::Cosine, 1.0, 2, None)),
        ("simsiam.cross_entropy", loss(Similarity::CrossEntropy, 1.0, 1, None)),
        ("ntxent.0.1", loss(Similarity::InfoNce, 0.1, 2, None)),
        ("ntxent.0.5", loss(Similarity::InfoNce, 0.5, 2, None)),
        ("moco_infonce.0.2", loss(Similarity::InfoNce, 0.2, 1, Some(&queue))),
        ("byol_regression", loss(Similarity::Mse, 1.0, 1, None)),
    ] {
        let expected = golden.value(name);
        assert!((got - expected).abs() < TOLERANCE, "{name}: {got}, PyTorch has {expected}");
    }
}

#[test]
fn codes_and_the_swapped_prediction_are_pytorchs() {
    let golden = Golden::read();
    let (z, _) = golden.views();
    let prototypes = golden.tensor("swav.prototypes");
    let scores = unit_rows(&z).unwrap().broadcast_matmul(&prototypes.t().unwrap()).unwrap();
    let codes: Vec<Tensor> = (0..2).map(|v| log_codes(&scores.get(v).unwrap(), 0.05, 3).unwrap()).collect();
    for (name, codes) in ["swav.codes1", "swav.codes2"].iter().zip(&codes) {
        let difference = max_difference(&values(&codes.exp().unwrap()), &values(&golden.tensor(name)));
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
    let eta = Tensor::stack(&[&codes[1], &codes[0]], 0).unwrap();
    let got = scalar(&objective(Similarity::CrossEntropy, 0.1).loss(&scores, &eta, None).unwrap());
    let expected = golden.value("swav.loss.tau0.1.eps0.05.it3");
    assert!((got - expected).abs() < TOLERANCE, "{got}, PyTorch has {expected}");
}

#[test]
fn a_row_is_no_negative_of_its_own_image() {
    // Three images far from each other, both views of each equal: candidates other than the
    // positive have cosine 0.
    let x = Tensor::eye(3, DType::F32, &Device::Cpu).unwrap();
    let both = Tensor::stack(&[&x, &x], 0).unwrap();
    let got = scalar(&objective(Similarity::InfoNce, 0.5).loss(&both, &both, None).unwrap());
    let expected = ((2f64.exp() + 4.0) / 2f64.exp()).ln();
    assert!((got - expected).abs() < 1e-6, "{got}, {expected}");
}

const BATCH: usize = 6;
const DIM: usize = 4;
const SIDE: usize = 8;
const SMALL: usize = 4;

fn model() -> Model {
    let projector = ProjectorConfig { layers: 2, hidden: None, dim: DIM, norm: HeadNorm::Hidden };
    let encoder = EncoderConfig::new(Backbone::Resnet8 { width: 4 }, projector);
    Model::new(&encoder, &Predictor::None {}, SIDE, 1, &kernel::direct_sums().unwrap()).unwrap()
}

fn images(draw: u64, views: usize, side: usize) -> Tensor {
    normal(draw, (views, BATCH, side, side, 3))
}

fn views(step: u64) -> Views {
    Views {
        step,
        indices: (0..BATCH as u32).collect(),
        labels: Vec::new(),
        x: images(step, 2, SIDE),
        small: None,
    }
}

fn build(rule: &Rule) -> Box<dyn EStep> {
    let place = BankPlace::default();
    let size = Size { images: BATCH, dim: DIM, per_epoch: 2, steps: 20, views: 2, ..Size::default() };
    rule.build(&size, &place).unwrap()
}

fn optim() -> OptimConfig {
    OptimConfig { base_lr: 0.1, weight_decay: 1e-2, decay: Decay::Constant, ..OptimConfig::default() }
}

const RATES: Rates = Rates { encoder: 0.1, predictor: 0.1 };

fn alternation(model: Model, rule: &Rule, objective: ObjectiveConfig) -> Alternation {
    Alternation::new(model, rule, build(rule), objective, optim(), 0).unwrap()
}

fn theta(alternation: &Alternation, part: &str) -> Vec<f32> {
    values(alternation.model.parts().find(|p| p.name == part).unwrap().theta)
}

#[test]
fn simclr_sends_a_gradient_into_both_views() {
    let model = model();
    let of = |gradient: bool| {
        let z = model.z(&views(0).x).unwrap();
        let z = Var::from_tensor(&z.detach()).unwrap();
        let other = Tensor::cat(&[z.narrow(0, 1, 1).unwrap(), z.narrow(0, 0, 1).unwrap()], 0).unwrap();
        let eta = if gradient { other } else { other.detach() };
        let compared = Compared { z: &z, eta: &eta, small: None, negatives: None, directions: None };
        let loss = Losses::new(&model, &objective(Similarity::InfoNce, 0.1), &compared).unwrap();
        let gradients = loss.descended.backward().unwrap();
        values(gradients.get(&z).unwrap())
    };
    // With stop-gradient a row is moved as an anchor alone, without as another's positive and
    // negative too.
    assert!(max_difference(&of(false), &[0.0; 2 * BATCH * DIM]) > 1e-3);
    assert!(max_difference(&of(true), &of(false)) > 1e-3);
    // The rule decides: without stop-gradient the targets are differentiable.
    let rule = Rule::None {};
    let mut e_step = build(&rule);
    let z = model.z(&views(0).x).unwrap();
    assert!(e_step.targets(&views(0), &z, &model).unwrap().track_op());
}

#[test]
fn negatives_are_the_queue_before_the_batch_joins_it() {
    let model = model();
    let mut rule = build(&Rule::MomentumEncoder { tau: 0.9, rises: false, queue: 2 * BATCH });
    let mut eta = Vec::new();
    for step in 0..3 {
        rule.refresh(&model, &mut std::iter::empty()).unwrap();
        let z = model.z(&views(step).x.narrow(0, 0, 1).unwrap()).unwrap();
        eta.push(values(&rule.targets(&views(step), &z, &model).unwrap()));
        let negatives = values(rule.negatives().unwrap());
        match step {
            0 => assert!(negatives != [eta[0].clone(), eta[0].clone()].concat()),
            // The second half holds what the queue began with.
            1 => assert_eq!(negatives[..BATCH * DIM], eta[0]),
            _ => assert_eq!(negatives, [eta[0].clone(), eta[1].clone()].concat()),
        }
    }
}

#[test]
fn restore_after_state_is_the_identity_for_rules_with_queues() {
    let model = model();
    let swav = Rule::Sinkhorn {
        epsilon: 0.05,
        iterations: 3,
        stop_gradient: true,
        queue: BATCH,
        queue_from_epoch: 0,
    };
    for rule in [Rule::MomentumEncoder { tau: 0.9, rises: true, queue: 2 * BATCH }, swav] {
        let (mut first, mut second) = (build(&rule), build(&rule));
        let step = |e_step: &mut Box<dyn EStep>, views: &Views| {
            e_step.refresh(&model, &mut std::iter::empty()).unwrap();
            let z = model.frozen_z(&views.x).unwrap();
            let eta = values(&e_step.targets(views, &z, &model).unwrap());
            (eta, e_step.negatives().map(values))
        };
        for i in 0..3 {
            step(&mut first, &views(i));
        }
        let held = first.state().unwrap();
        let own = held.into_iter().map(|(name, shape, data)| (name, shape, data.into_owned())).collect();
        second.restore(own).unwrap();
        let batch = views(3);
        assert_eq!(step(&mut first, &batch), step(&mut second, &batch), "{rule:?}");
        let unknown = vec![("nothing".to_string(), vec![1], vec![0f32].into())];
        assert!(second.restore(unknown).is_err(), "{rule:?}");
    }
}

/// SwAV on the tiny network, its prototypes frozen for `frozen_steps`.
fn swav(stop_gradient: bool, frozen_steps: u64) -> Alternation {
    let rule = Rule::Sinkhorn { epsilon: 0.05, iterations: 3, stop_gradient, queue: 0, queue_from_epoch: 0 };
    let prototypes = Some(PrototypesConfig { count: 5, frozen_steps });
    let objective = ObjectiveConfig { prototypes, ..objective(Similarity::CrossEntropy, 0.1) };
    let model = model().with_prototypes(5, 1, &kernel::direct_sums().unwrap()).unwrap();
    alternation(model, &rule, objective)
}

#[test]
fn prototypes_are_unit_vectors_and_stay_while_they_are_frozen() {
    let mut swav = swav(true, 2);
    let mut step = |step: u64| {
        swav.step(step, 20, RATES, &mut |step| Ok(views(step))).unwrap();
        theta(&swav, "prototypes")
    };
    let (first, second, third) = (step(0), step(1), step(2));
    // Weights lie as (d, K).
    for k in 0..5 {
        let length = (0..DIM).map(|i| first[i * 5 + k].powi(2)).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
    }
    // Dividing a unit vector by its length once more may move its last bit.
    assert!(max_difference(&first, &second) < 1e-6);
    assert!(max_difference(&second, &third) > 1e-4);
}

#[test]
fn codes_carry_a_gradient_where_table_6b_lets_them() {
    for stop_gradient in [true, false] {
        let mut swav = swav(stop_gradient, 0);
        let batch = views(0);
        let z = swav.model.z(&batch.x).unwrap();
        let eta = swav.rule.targets(&batch, &z, &swav.model).unwrap();
        assert_eq!(eta.dims(), [2, BATCH, 5]);
        assert_eq!(eta.track_op(), !stop_gradient);
        let sums = eta.exp().unwrap().sum(2).unwrap();
        assert!(values(&sums).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}

#[test]
fn a_full_queue_is_assigned_together_with_the_batch() {
    let model = model();
    let mut queue = Queue::random(BATCH, DIM, 0, 0).unwrap();
    let earlier = model.frozen_z(&images(100, 1, SIDE)).unwrap();
    queue.push(&earlier).unwrap();
    let again = || {
        let mut queue = Queue::random(BATCH, DIM, 0, 0).unwrap();
        queue.push(&earlier).unwrap();
        queue
    };
    let mut rule = Sinkhorn {
        epsilon: 0.5,
        iterations: 3,
        stop_gradient: true,
        queues: vec![queue, again()],
        queued_from: 9,
    };
    let batch = views(0);
    let z = model.frozen_z(&batch.x).unwrap();
    let eta = rule.targets(&batch, &z, &model).unwrap();
    let both = Tensor::cat(&[&earlier.get(0).unwrap(), &z.get(1).unwrap()], 0).unwrap();
    let expected = log_codes(&both, 0.5, 3).unwrap().narrow(0, BATCH, BATCH).unwrap();
    assert!(max_difference(&values(&eta.get(0).unwrap()), &values(&expected)) < 1e-6);
}

#[test]
fn small_crops_are_compared_with_the_targets_of_both_views() {
    let model = model();
    let vectors = |draw: u64, n: usize| normal(draw, (n, BATCH, DIM));
    let (z, eta, small) = (vectors(0, 2), vectors(1, 2), vectors(2, 3));
    for similarity in [Similarity::Cosine, Similarity::CrossEntropy, Similarity::Mse] {
        let objective = objective(similarity, 1.0);
        let d = |p: &Tensor, target: usize| {
            let p = p.unsqueeze(0).unwrap();
            scalar(&objective.loss(&p, &eta.narrow(0, target, 1).unwrap(), None).unwrap())
        };
        // Eq. 6 of SwAV: for either view's target all other crops, 2·(1 + 3) terms.
        let mut sum = d(&z.get(0).unwrap(), 0) + d(&z.get(1).unwrap(), 1);
        for crop in 0..3 {
            sum += d(&small.get(crop).unwrap(), 0) + d(&small.get(crop).unwrap(), 1);
        }
        let compared = Compared { z: &z, eta: &eta, small: Some(&small), negatives: None, directions: None };
        let got = scalar(&Losses::new(&model, &objective, &compared).unwrap().encoder);
        assert!((got - sum / 8.0).abs() < 1e-5, "{similarity:?}: {got}, {}", sum / 8.0);
    }
}

#[test]
fn what_does_not_fit_together_is_refused_in_one_sentence() {
    let refused = |study: &str, set: &[&str]| {
        let set = set.iter().map(|set| set.to_string()).collect();
        let request = simsiam_em::study::Request { scale: Some("smoke".into()), set, ..Default::default() };
        let study = simsiam_em::study::Study::find(study).unwrap();
        format!("{:?}", study.resolve(&request).expect_err("it was taken"))
    };
    for (study, set, says) in [
        ("simclr", &["objective.temperature=0"][..], "above 0"),
        ("simsiam", &["objective.temperature=0.5"], "the others do not"),
        ("swav", &["objective.prototypes.count=1"], "between 2 and"),
        ("swav", &["eta.sinkhorn.epsilon=-1"], "above 0"),
        ("swav", &["eta.sinkhorn.iterations=0"], "between 1 and"),
        ("simsiam", &["eta.sinkhorn={epsilon=0.05,iterations=3}"], "cross-entropy"),
        ("simsiam", &["eta.momentum-encoder={tau=0.9,queue=10}"], "info-nce"),
        ("byol", &["eta.momentum-encoder={tau=2.0}"], "not between 0 and 1"),
        ("swav", &["encoder.backbone.mlp.widths=[16]"], "images of one size only"),
        ("simclr", &["measure.em.eta=true"], "measure.em"),
        ("swav", &["measure.em.objective=true"], "codes are no outputs"),
        ("simclr", &["optim.lars.trust=-1"], "at least 0"),
    ] {
        let report = refused(study, set);
        assert!(report.contains(says), "{set:?}: {report}");
    }
    let unknown = simsiam_em::study::Study::find("moco").unwrap_err().to_string();
    assert!(unknown.contains("is a method, not a study"), "{unknown}");
}

#[test]
fn small_crops_train_the_same_weights() {
    let recipe = |extra: &str| -> simsiam_em::recipe::Recipe {
        let request = simsiam_em::study::Request {
            scale: Some("smoke".into()),
            set: extra.split_whitespace().map(String::from).collect(),
            ..Default::default()
        };
        let study = simsiam_em::study::Study::find("simsiam").unwrap();
        study.resolve(&request).unwrap().remove(0).recipe
    };
    let recipe = recipe(
        "augment.multi_crop.count=2 augment.multi_crop.size=8 augment.multi_crop.crop_scale=[0.1,0.4] encoder.projector.norm=hidden",
    );
    assert_eq!(recipe.augment.multi_crop.as_ref().unwrap().size, 8);
    let model = Model::of(&recipe, &kernel::direct_sums().unwrap()).unwrap();
    let x = images(101, 2, SMALL * 2);
    let z = model.z_of_small(&x).unwrap();
    assert_eq!(z.dims(), [2, BATCH, 32]);
    let encoder = model.parts().next().unwrap();
    let gradients = z.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = gradients.get(encoder.theta).unwrap();
    assert_eq!(gradient.dims(), encoder.theta.dims());
    assert!(values(gradient).iter().any(|g| g.abs() > 1e-3));
    // Their passes move the same running statistics.
    assert_ne!(encoder.engine.running().unwrap(), encoder.engine.network().init_running());
}

#[test]
fn the_momentum_encoders_tau_rises_or_stays() {
    let model = model();
    let at = |rises: bool| {
        let mut rule = build(&Rule::MomentumEncoder { tau: 0.5, rises, queue: 0 });
        // ξ moves by 1 − τ towards θ; with θ = 0 after the first step ξ is the product of all τ.
        rule.refresh(&model, &mut std::iter::empty()).unwrap();
        let zeros = Model::new(
            &EncoderConfig::new(
                Backbone::Resnet8 { width: 4 },
                ProjectorConfig { layers: 2, hidden: None, dim: DIM, norm: HeadNorm::Hidden },
            ),
            &Predictor::Mlp(PredictorConfig { hidden: 2, norm: HeadNorm::Hidden, inverse: false }),
            SIDE,
            1,
            &kernel::direct_sums().unwrap(),
        )
        .unwrap();
        let len = zeros.theta().unwrap().elem_count();
        let running = zeros.parts().next().unwrap().engine.running().unwrap();
        zeros.set("encoder", vec![0.0; len], &running).unwrap();
        for _ in 0..10 {
            rule.refresh(&zeros, &mut std::iter::empty()).unwrap();
        }
        let held = rule.state().unwrap();
        let (_, _, xi) = held.into_iter().find(|(name, ..)| name == "xi").unwrap();
        let start = values(&model.theta().unwrap());
        let (i, largest) = start.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        f64::from(xi.into_owned().into_f32().unwrap()[i] / largest)
    };
    let stays = at(false);
    assert!((stays - 0.5f64.powi(10)).abs() < 1e-6, "{stays}");
    let tau = |step: u64| 1.0 - 0.25 * (1.0 + (std::f64::consts::PI * step as f64 / 20.0).cos());
    let product: f64 = (1..=10).map(tau).product();
    let rises = at(true);
    assert!((rises / product - 1.0).abs() < 1e-5, "{rises}, {product}");
}
