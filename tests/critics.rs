//! What the studies of later papers are made of: the field of the update against finite differences
//! and its own formulas, where it ends, predictors that are linear.

use ndarray::Array2;
use rand::Rng;
use simsiam_em::data::Dataset;
use simsiam_em::recipe::Recipe;
use simsiam_em::record::{METRICS_FILE, RunDir, read_metrics};
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::study::{Request, Study};
use simsiam_em::theory::{
    Basin, ClosedForm, Course, Direction, Flow, Optimum, Point, Prediction, Rates, Targets, Trial,
    antisymmetry,
};
use simsiam_em::train::{self, Ending};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const OUTPUTS: usize = 3;

fn world() -> ClosedForm {
    ClosedForm {
        signal: vec![2.0, 1.0, 0.7, 0.3],
        noise: vec![0.1, 0.5, 0.7, 0.9],
        outputs: OUTPUTS,
        steps_per_epoch: 1,
        normalised: false,
        optimum: Optimum::None,
    }
}

/// W (3, 4) and P (3, 3) of numbers between −1 and 1.
fn somewhere() -> (Array2<f64>, Array2<f64>) {
    let mut rng = stream(11, Purpose::Test, 0, 0);
    let mut draw = |shape| Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0));
    (draw((OUTPUTS, 4)), draw((OUTPUTS, OUTPUTS)))
}

/// The step that `course` makes from (W, P) per unit of its rate: the field, by the engine itself.
fn field(course: &Course, w: &Array2<f64>, p: &Array2<f64>) -> Vec<f64> {
    let rate = 1e-3;
    let mut point = Point::start(&world(), 0);
    (point.encoder, point.predictor) = (w.clone(), p.clone());
    point.advance(&world(), course, Rates { encoder: rate, predictor: rate });
    let moved = (&point.encoder - w) / rate;
    let of_p = (&point.predictor - p) / rate;
    let learned = matches!(course.prediction, Prediction::Learned { .. });
    moved.into_iter().chain(of_p.into_iter().filter(|_| learned)).collect()
}

/// The antisymmetric share by central differences of the steps themselves.
fn by_differences(course: &Course, w: &Array2<f64>, p: &Array2<f64>) -> f64 {
    let step = 1e-5;
    let numbers = field(course, w, p).len();
    let even = |p: &Array2<f64>| match course.prediction {
        Prediction::Learned { symmetric: true } => 0.5 * (p + &p.t()),
        _ => p.clone(),
    };
    let column = |at: usize| -> Vec<f64> {
        let moved = |sign: f64| {
            let (mut w, mut change) = (w.clone(), Array2::zeros(p.dim()));
            match at.checked_sub(w.len()) {
                None => *w.iter_mut().nth(at).unwrap() += sign * step,
                Some(at) => *change.iter_mut().nth(at).unwrap() += sign * step,
            }
            field(course, &w, &(p + &even(&change)))
        };
        moved(1.0).iter().zip(moved(-1.0)).map(|(a, b)| (a - b) / (2.0 * step)).collect()
    };
    let columns: Vec<Vec<f64>> = (0..numbers).map(column).collect();
    let pairs = || (0..numbers).flat_map(|i| (0..numbers).map(move |j| (i, j)));
    let odd: f64 = pairs().map(|(i, j)| (columns[j][i] - columns[i][j]).powi(2)).sum();
    let even: f64 = pairs().map(|(i, j)| (columns[j][i] + columns[i][j]).powi(2)).sum();
    odd / (odd + even)
}

#[test]
fn the_jacobian_of_the_field_is_that_of_the_steps() {
    let (w, p) = somewhere();
    let even = 0.5 * (&p + &p.t());
    for (prediction, p) in [
        (Prediction::Learned { symmetric: false }, &p),
        (Prediction::Learned { symmetric: true }, &even),
        (Prediction::Best { every: 1 }, &p),
    ] {
        let course = Course::fresh(prediction);
        let exact = antisymmetry(&world(), &course, &w, p).unwrap();
        let near = by_differences(&course, &w, p);
        // Differences of steps are good to some 1e-7 of numbers of order 1.
        assert!((exact - near).abs() < 1e-5, "{prediction:?}: {exact}, {near}");
        assert!(exact > 1e-3, "{prediction:?}: a field with no rotation tests nothing");
    }
}

#[test]
fn without_a_predictor_the_field_is_a_gradient_and_elsewhere_there_is_none() {
    let (w, p) = somewhere();
    let of = |course: &Course| antisymmetry(&world(), course, &w, &p);
    assert_eq!(of(&Course::fresh(Prediction::Absent)), Some(0.0));
    let learned = Course::fresh(Prediction::Learned { symmetric: false });
    let bank = Targets::Updated { m: 0.8, k: 1, batches: 1 };
    for other in [
        Course { exact: true, ..Course::fresh(Prediction::Absent) },
        Course { normalised: true, ..learned },
        Course { targets: bank, ..learned },
        Course { targets: Targets::Joint, ..Course::fresh(Prediction::Absent) },
        Course::fresh(Prediction::Best { every: 5 }),
    ] {
        assert_eq!(of(&other), None, "{other:?}");
    }
}

/// λ = 0.6, c = 1, μ = 0.1: equilibria at ‖a‖ = 0.5 and 0.1.
const FLOW: Flow =
    Flow { direction: Direction { signal: 0.6, noise: 0.4 }, decay: 0.1, momentum_encoder: None };

#[test]
fn the_work_round_a_rectangle_is_the_formula() {
    // Along each edge the field is a polynomial of third degree, which Simpson's rule integrates
    // exactly.
    let velocity = |w: f64, p: f64| FLOW.velocity(1, &[w, p]);
    let edge = |from: [f64; 2], to: [f64; 2]| -> f64 {
        let along = |t: f64| {
            let [w, p] = [0, 1].map(|i| from[i] + t * (to[i] - from[i]));
            let v = velocity(w, p);
            v[0] * (to[0] - from[0]) + v[1] * (to[1] - from[1])
        };
        (along(0.0) + 4.0 * along(0.5) + along(1.0)) / 6.0
    };
    let [w0, w1, p0, p1] = [0.2, 1.3, -0.4, 0.9];
    let corners = [[w0, p0], [w1, p0], [w1, p1], [w0, p1], [w0, p0]];
    let work: f64 = corners.windows(2).map(|pair| edge(pair[0], pair[1])).sum();
    let formula = FLOW.direction.signal * (w1 * w1 - w0 * w0) * (p1 - p0);
    assert!((work - formula).abs() < 1e-9, "{work} {formula}");
    assert!(formula > 0.1, "a field that does no work tests nothing");
}

#[test]
fn the_outer_equilibrium_is_stable_and_the_inner_one_a_saddle() {
    let [inner, outer] = FLOW.radii().unwrap();
    assert!((inner - 0.1).abs() < 1e-12 && (outer - 0.5).abs() < 1e-12, "{inner} {outer}");
    let jacobian = |r: f64| {
        let column = |dw: f64, dp: f64| {
            let h = 1e-6;
            let [ahead, behind] = [h, -h].map(|h| FLOW.velocity(1, &[r + h * dw, r + h * dp]));
            [0, 1].map(|i| (ahead[i] - behind[i]) / (2.0 * h))
        };
        [column(1.0, 0.0), column(0.0, 1.0)]
    };
    for (radius, is_stable) in [(inner, false), (outer, true)] {
        assert!(FLOW.velocity(1, &[radius, radius]).iter().all(|v| v.abs() < 1e-12));
        let [[a, c], [b, d]] = jacobian(radius);
        let (trace, determinant) = (a + d, a * d - b * c);
        assert_eq!(trace < 0.0 && determinant > 0.0, is_stable, "{radius}: {trace} {determinant}");
        // A saddle: one direction in, one out.
        assert_eq!(determinant < 0.0, !is_stable, "{radius}: {determinant}");
    }
    let beyond = Flow { decay: 0.2, ..FLOW };
    assert_eq!(beyond.radii(), None, "λ² < 2cμ");
    assert_eq!(beyond.end(&[1.0], &[1.0]), Basin::Zero);
}

#[test]
fn starts_end_where_their_side_of_the_saddle_says() {
    assert_eq!(FLOW.end(&[0.45], &[0.55]), Basin::Outer);
    assert_eq!(FLOW.end(&[-0.45], &[0.55]), Basin::Outer, "the sign of w is free");
    assert_eq!(FLOW.end(&[0.05], &[0.05]), Basin::Zero);
    assert_eq!(FLOW.end(&[0.1], &[0.1]), Basin::Inner, "exactly on the saddle");
    assert_eq!(FLOW.end(&[0.3], &[-0.3]), Basin::Zero, "a predictor of the wrong sign");
}

/// Ends of 400 trials with 2 outputs: outer, 0.
fn ends(momentum_encoder: Option<f64>) -> [usize; 2] {
    let mut counts = [0; 2];
    for index in 0..400 {
        let trial = Trial::draw(0, index, 2);
        let flow = Flow { momentum_encoder, ..trial.flow };
        match flow.end(&trial.encoder, &trial.predictor) {
            Basin::Outer => counts[0] += 1,
            Basin::Zero => counts[1] += 1,
            Basin::Inner => panic!("trial {index} ends on the saddle"),
            Basin::Unresolved => {}
        }
    }
    counts
}

#[test]
fn most_random_starts_end_at_the_outer_equilibrium() {
    // Ponce et al. 82.0 and 18.0 %; four standard errors of 400 trials are 8 %.
    let [outer, zero] = ends(None);
    assert!((296..=360).contains(&outer), "{outer} {zero}");
    assert!(outer + zero >= 380, "{outer} {zero}: the others have not ended");
}

fn recipe(study: &str, arm: &str, set: &[&str]) -> Recipe {
    let set = set.iter().map(|set| set.to_string()).collect();
    let request = Request { scale: Some("smoke".into()), set, ..Request::default() };
    let arms = Study::find(study).unwrap().resolve(&request).unwrap();
    arms.into_iter().find(|other| other.name == arm).unwrap().recipe
}

/// Trains `recipe` in `path`.
fn train(recipe: &Recipe, path: &Path) {
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
    let ending = train::run(recipe, &dataset, &dir, 1, &AtomicBool::new(false), &|_| ()).unwrap();
    assert!(matches!(ending, Ending::Finished));
}

fn shares(path: &Path) -> Vec<f64> {
    let table = read_metrics(&path.join(METRICS_FILE)).unwrap();
    table.points("epoch", "em/antisymmetry").into_iter().map(|(_, share)| share).collect()
}

#[test]
fn measuring_the_field_moves_nothing() {
    for arm in ["simsiam", "direct"] {
        let folder = tempfile::tempdir().unwrap();
        let (with, without) = (folder.path().join("with"), folder.path().join("without"));
        train(&recipe("no-potential", arm, &["measure.em.field=6"]), &with);
        train(&recipe("no-potential", arm, &["measure.em.field=0"]), &without);
        assert_eq!(shares(&with).len(), 4, "{arm}: at the start and after each of 3 epochs");
        assert!(shares(&without).is_empty());
        let bytes = |path: &Path| std::fs::read(path.join("weights.safetensors")).unwrap();
        assert!(bytes(&with) == bytes(&without), "{arm}");
    }
}

#[test]
fn a_field_that_is_a_gradient_is_measured_as_one_and_that_of_h_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let of = |arm: &str| {
        let path = folder.path().join(arm);
        train(&recipe("no-potential", arm, &["measure.em.field=6", "measure.em.images=16"]), &path);
        shares(&path)
    };
    // Few directions and tiny networks: means over the run, and a wide gap between them.
    let mean = |arm: &str| {
        let found = of(arm);
        found.iter().sum::<f64>() / found.len() as f64
    };
    let (sample, exact, linear) = (mean("sample"), mean("exact"), mean("linear"));
    assert!(sample < 0.01 && exact < 0.01, "{sample} {exact}");
    assert!(linear > 5.0 * sample.max(exact), "{linear} {sample} {exact}");
}

#[test]
fn a_field_is_refused_where_eta_is_not_a_function_of_theta() {
    for (set, word) in [
        (&["measure.em.field=3", "eta=none"][..], "eta.none"),
        (&["measure.em.field=3", "eta.memory-bank={ m = 0.8 }"], "eta.memory-bank"),
        (&["measure.em.field=3", "eta.momentum-encoder={ tau = 0.9, rises = true }"], "eta.momentum-encoder"),
        (&["measure.em.field=2"], "2 must be 0, or 3 to 64"),
    ] {
        let set = set.iter().map(|set| set.to_string()).collect();
        let request = Request { scale: Some("smoke".into()), set, ..Request::default() };
        let refused = Study::find("simsiam").unwrap().resolve(&request).expect_err(word);
        assert!(refused.exit_code() == 2 && refused.to_string().contains(word), "{refused}");
    }
}

/// W (out, in) of a run's linear predictor.
fn predictor(path: &Path) -> (usize, Vec<f32>) {
    let bytes = std::fs::read(path.join("weights.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let name = tensors.names().into_iter().find(|name| name.starts_with("predictor")).unwrap().to_string();
    let tensor = tensors.tensor(&name).unwrap();
    let numbers = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (tensor.shape()[0], numbers.collect())
}

#[test]
fn a_linear_predictor_is_held_to_its_constraint_through_training() {
    let folder = tempfile::tempdir().unwrap();
    let trained = |name: &str, set: &[&str]| {
        let path = folder.path().join(name);
        train(&recipe("simsiam", "simsiam", set), &path);
        predictor(&path)
    };
    let is_symmetric =
        |(d, w): &(usize, Vec<f32>)| (0..*d).all(|i| (0..*d).all(|j| w[i * d + j] == w[j * d + i]));
    let free = trained("free", &["predictor.linear={}"]);
    let symmetric = trained("symmetric", &["predictor.linear.symmetric=true"]);
    assert!(!is_symmetric(&free) && is_symmetric(&symmetric));
    let (d, w) = trained("unit", &["predictor.linear.unit_diagonal=true"]);
    assert!((0..d).all(|i| w[i * d + i] == 1.0));
    assert!(w.iter().any(|entry| *entry != 0.0 && *entry != 1.0), "E has been trained");
}

#[test]
fn decay_on_h_alone_shrinks_h_alone() {
    let folder = tempfile::tempdir().unwrap();
    // h's gradient is the same in the first step, so that W after it differs by the decay alone.
    let after = |decay: &str| {
        let path = folder.path().join(decay);
        let set =
            ["schedule.epochs=1", "schedule.batch=160", "optim.weight_decay=0", "optim.warmup_epochs=0"];
        let own = format!("optim.predictor_decay={decay}");
        let recipe =
            recipe("simsiam", "simsiam", &[&set[..], &["predictor.linear={}", own.as_str()]].concat());
        let rate = recipe.optim.base_lr * 160.0 / 256.0;
        train(&recipe, &path);
        (rate, predictor(&path).1)
    };
    let ((rate, free), (_, decayed)) = (after("0"), after("0.1"));
    // W′ = W₀ − r(g + μ W₀), so that the difference is r μ W₀ and W₀ is free + r g.
    let moved: f64 = free.iter().zip(&decayed).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let size: f64 = free.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
    assert!((moved / size / (rate * 0.1) - 1.0).abs() < 0.3, "{moved} {size} {rate}");
}
