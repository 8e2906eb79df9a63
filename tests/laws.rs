//! Laws that hold for every E-step rule.

use candle_core::{Device, Tensor, Var};
use rand::Rng;
use simsiam_em::error::Result;
use simsiam_em::eta::{BankPlace, EStep, FrozenEncoder, Rule, Samples, Size, Steps, Views};
use simsiam_em::kernel::Precision;
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::rng::{Purpose, stream};

const BATCH: usize = 4;
const DIM: usize = 3;
/// Of a finite T.
const ELEMENTS: usize = 6;

fn build(rule: &Rule) -> Box<dyn EStep> {
    let size = Size { images: 8, dim: DIM, per_epoch: 5, steps: 5, elements: ELEMENTS, ..Size::default() };
    rule.build(&size, &BankPlace::default()).unwrap()
}

fn bank(m: f64) -> Rule {
    Rule::MemoryBank { m, precision: Precision::F32, k: Steps::Count(1) }
}

/// Views whose "encoder" is a plain linear map, so that values can be computed by hand.
fn views(step: u64) -> Views {
    views_of(step, 1)
}

fn views_of(step: u64, pairs: usize) -> Views {
    many_views(step, 2 * pairs)
}

fn many_views(step: u64, views: usize) -> Views {
    let mut rng = stream(0, Purpose::Test, step, 0);
    let x: Vec<f32> = (0..views * BATCH * DIM).map(|_| rng.random()).collect();
    let x = Tensor::from_vec(x, (views, BATCH, 1, 1, DIM), &Device::Cpu).unwrap();
    Views { step, indices: vec![0, 3, 5, 6], labels: vec![0, 2, 1, 2], x, small: None }
}

/// The mean of n samples, made for every step.
fn fresh(n: usize, normalised: bool) -> Rule {
    Rule::Expectation { n: Samples::Count(n), normalised, k: Steps::Count(1), m: 0.0 }
}

/// Every rule, and what else an expectation can be.
fn rules() -> Vec<Rule> {
    let all = |k, m| Rule::Expectation { n: Samples::All, normalised: false, k, m };
    let more = [all(Steps::Count(1), 0.0), all(Steps::Count(3), 0.0), all(Steps::Epoch, 0.5)];
    Rule::ALL.into_iter().chain(more).collect()
}

fn objective(symmetric: bool, pairs: usize) -> ObjectiveConfig {
    ObjectiveConfig { symmetric, pairs, ..ObjectiveConfig::default() }
}

/// An encoder whose θ is one number.
struct Scaled(f32);

/// The encoder of these tests.
const TWICE: Scaled = Scaled(2.0);

impl FrozenEncoder for Scaled {
    fn z(&self, x: &Tensor) -> Result<Tensor> {
        self.z_by(&self.theta()?, x)
    }

    fn theta(&self) -> Result<Tensor> {
        Ok(Tensor::new(&[self.0], &Device::Cpu)?)
    }

    fn z_by(&self, theta: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (views, ..) = x.dims5()?;
        Ok(x.reshape((views, BATCH, DIM))?.broadcast_mul(theta)?)
    }

    fn scores(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.clone())
    }
}

fn frozen(x: &Tensor) -> Result<Tensor> {
    let (views, ..) = x.dims5()?;
    Ok((x.reshape((views, BATCH, DIM))? * 2.0)?)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Makes the E-step of step 0's chunk and returns η of each of its batches, of two views each.
fn chunk(rule: &mut dyn EStep, with_gradient: usize) -> Vec<Tensor> {
    chunk_of(rule, with_gradient, 2)
}

fn chunk_of(rule: &mut dyn EStep, with_gradient: usize, views: usize) -> Vec<Tensor> {
    let views = |step| many_views(step, views);
    let k = rule.chunk();
    let reads = rule.reads(k);
    rule.refresh(&TWICE, &mut reads.map(|i| Ok(views(i)))).unwrap();
    let targets = |step| {
        let views = views(step);
        let x = Var::from_tensor(&views.x).unwrap();
        let z = frozen(&x.narrow(0, 0, with_gradient).unwrap()).unwrap();
        assert!(z.track_op());
        rule.targets(&views, &z, &TWICE).unwrap()
    };
    (0..k).map(targets).collect()
}

#[test]
fn eta_has_the_shape_of_z_and_carries_no_gradient_unless_asked_to() {
    for rule in rules() {
        for symmetric in [false, true] {
            let trained = objective(symmetric, 1).trained_views();
            let with_gradient = rule.views_with_gradient(2, trained);
            for eta in chunk_of(build(&rule).as_mut(), with_gradient, rule.views(2, trained, ELEMENTS)) {
                assert_eq!(eta.dims(), [with_gradient, BATCH, DIM], "{rule:?}");
                assert_eq!(eta.track_op(), matches!(rule, Rule::None {}), "{rule:?}");
            }
        }
    }
}

#[test]
fn one_step_and_k_equal_to_one_take_the_other_view() {
    for rule in [Rule::OneStep {}, Rule::None {}, Rule::KStep { k: Steps::Count(1) }] {
        let eta = chunk(build(&rule).as_mut(), 2);
        let z = frozen(&views(0).x).unwrap();
        assert_eq!(values(&eta[0].get(0).unwrap()), values(&z.get(1).unwrap()), "{rule:?}");
        assert_eq!(values(&eta[0].get(1).unwrap()), values(&z.get(0).unwrap()), "{rule:?}");
    }
}

#[test]
fn k_steps_take_the_other_view_of_each_batch_of_the_chunk() {
    let rule = Rule::KStep { k: Steps::Count(4) };
    for (step, eta) in chunk(build(&rule).as_mut(), 2).iter().enumerate() {
        let z = frozen(&views(step as u64).x).unwrap();
        assert_eq!(values(&eta.get(0).unwrap()), values(&z.get(1).unwrap()));
    }
}

#[test]
fn the_mean_of_others_is_that_of_all_other_views_and_one_sample_with_one_pair() {
    let of = |rule: Rule, pairs: usize, trained: usize| {
        let views = views_of(0, pairs);
        let z = frozen(&views.x).unwrap();
        let eta = build(&rule).targets(&views, &z.narrow(0, 0, trained).unwrap(), &TWICE).unwrap();
        assert_eq!(eta.dims(), [trained, BATCH, DIM]);
        (eta, z)
    };
    for trained in [1, 2] {
        let (mean, _) = of(Rule::MeanOfOthers {}, 1, trained);
        assert_eq!(values(&mean), values(&of(Rule::OneStep {}, 1, trained).0));
    }
    for trained in [3, 6] {
        let (eta, z) = of(Rule::MeanOfOthers {}, 3, trained);
        for view in 0..trained {
            let others = (0..6).filter(|other| *other != view).map(|other| values(&z.get(other).unwrap()));
            let sum = others.reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect()).unwrap();
            for (got, sum) in values(&eta.get(view).unwrap()).iter().zip(sum) {
                // Five sums of numbers below 2, each rounded to 24 bits.
                assert!((got - sum / 5.0).abs() < 1e-6, "view {view}: {got} for {}", sum / 5.0);
            }
        }
    }
}

#[test]
fn with_several_pairs_each_view_takes_the_other_of_its_pair() {
    for rule in [Rule::OneStep {}, Rule::None {}, Rule::KStep { k: Steps::Count(2) }] {
        for (symmetric, trained) in [(false, 3), (true, 6)] {
            let objective = objective(symmetric, 3);
            assert_eq!(objective.trained_views(), trained);
            let mut built = build(&rule);
            let reads = built.reads(built.chunk());
            built.refresh(&TWICE, &mut reads.map(|i| Ok(views_of(i, 3)))).unwrap();
            for step in 0..built.chunk() {
                let views = views_of(step, 3);
                let z = frozen(&views.x).unwrap();
                let shown = z.narrow(0, 0, rule.views_with_gradient(6, trained)).unwrap();
                let eta = built.targets(&views, &shown, &TWICE).unwrap();
                for view in 0..trained {
                    let other = z.get((view + 3) % 6).unwrap();
                    assert_eq!(values(&eta.get(view).unwrap()), values(&other), "{rule:?}, view {view}");
                }
            }
        }
    }
}

#[test]
fn a_bank_without_memory_equals_one_step() {
    let bank = chunk(build(&bank(0.0)).as_mut(), 1);
    let one_step = chunk(build(&Rule::OneStep {}).as_mut(), 1);
    assert_eq!(values(&bank[0]), values(&one_step[0]));
}

#[test]
fn an_expectation_is_the_mean_of_its_samples_for_every_view() {
    for (normalised, n) in [(false, 1), (false, 5), (true, 5)] {
        let rule = fresh(n, normalised);
        for trained in [1, 2] {
            let eta = chunk_of(build(&rule).as_mut(), trained, rule.views(2, trained, ELEMENTS));
            let z = values(&frozen(&many_views(0, trained + n).x).unwrap());
            let row = |view: usize, image: usize| &z[(view * BATCH + image) * DIM..][..DIM];
            for image in 0..BATCH {
                let mut mean = [0f64; DIM];
                for sample in (trained..trained + n).map(|view| row(view, image)) {
                    let length = sample.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
                    let divisor = if normalised { length } else { 1.0 } * n as f64;
                    mean.iter_mut().zip(sample).for_each(|(mean, v)| *mean += f64::from(*v) / divisor);
                }
                for view in 0..trained {
                    let got = values(&eta[0].get(view).unwrap());
                    for (got, mean) in got[image * DIM..][..DIM].iter().zip(mean) {
                        assert!(
                            (f64::from(*got) - mean).abs() < 1e-6,
                            "{rule:?}, view {view}: {got}, {mean}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn one_raw_sample_and_an_asymmetric_loss_are_one_step() {
    let expectation = chunk(build(&fresh(1, false)).as_mut(), 1);
    let one_step = chunk(build(&Rule::OneStep {}).as_mut(), 1);
    assert_eq!(values(&expectation[0]), values(&one_step[0]));
}

#[test]
fn restore_after_state_is_the_identity() {
    for rule in rules() {
        let views = |step| many_views(step, rule.views(2, 2, ELEMENTS));
        let mut first = build(&rule);
        let reads = first.reads(first.chunk());
        first.refresh(&TWICE, &mut reads.map(|i| Ok(views(i)))).unwrap();
        let held = first.state().unwrap();
        let owned = held.into_iter().map(|(n, s, v)| (n, s, v.into_owned()));
        let mut second = build(&rule);
        second.restore(owned.collect()).unwrap();
        for step in 0..first.chunk() {
            let views = views(step);
            let z = frozen(&views.x.narrow(0, 0, 2).unwrap()).unwrap();
            let [a, b] = [&mut first, &mut second].map(|rule| rule.targets(&views, &z, &TWICE).unwrap());
            assert_eq!(values(&a), values(&b), "{rule:?}");
        }
    }
}

#[test]
fn numbers_outside_their_range_are_refused() {
    for rule in [Rule::KStep { k: Steps::Count(0) }, bank(-0.1), bank(1.5), bank(f64::NAN)] {
        assert_eq!(rule.check().unwrap_err().exit_code(), 2, "{rule:?}");
    }
}

#[test]
fn a_momentum_encoder_without_momentum_is_one_sample_and_with_it_an_average_of_theta() {
    let eta = |tau: f64| {
        let mut rule = build(&Rule::MomentumEncoder { tau, rises: true, queue: 0 });
        rule.refresh(&TWICE, &mut std::iter::empty()).unwrap();
        // Later θ is 6: ξ = τ·2 + (1 − τ)·6 after the second step, τ having risen by half a cosine
        // over 5.
        rule.refresh(&Scaled(6.0), &mut std::iter::empty()).unwrap();
        let views = views(1);
        let z = frozen(&views.x).unwrap();
        values(&rule.targets(&views, &z, &Scaled(6.0)).unwrap())
    };
    let x = values(&views(1).x);
    let (first, second) = x.split_at(x.len() / 2);
    let others: Vec<f32> = second.iter().chain(first).copied().collect();
    for (tau, at_second) in [(0.0, 1.0 - 0.5 * (1.0 + (std::f64::consts::PI / 5.0).cos())), (1.0, 1.0)] {
        let xi = (at_second * 2.0 + (1.0 - at_second) * 6.0) as f32;
        for (got, x) in eta(tau).iter().zip(&others) {
            assert!((got - xi * x).abs() < 1e-5, "τ = {tau}: {got} is not {xi} times {x}");
        }
    }
}
