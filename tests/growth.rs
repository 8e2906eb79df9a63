//! How fast eigenvalues of E[z zᵀ] grow: the laws against the recursion, finite differences and the
//! loss itself; runs that keep their eigenvalues, and the isotropic comparison.

use candle_core::{Device, Tensor, Var};
use ndarray::Array2;
use rand::Rng;
use simsiam_em::data::Dataset;
use simsiam_em::network::config::DirectConfig;
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::recipe::Recipe;
use simsiam_em::record::{METRICS_FILE, RunDir, read_metrics};
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::study::{Request, Study};
use simsiam_em::theory::{
    ClosedForm, Course, Direction, Law, Optimum, Point, Prediction, Rates, cosine_rates,
};
use simsiam_em::train::{self, Ending, read_eigenvalues};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn world(signal: &[f64], noise: &[f64]) -> ClosedForm {
    ClosedForm {
        signal: signal.to_vec(),
        noise: noise.to_vec(),
        outputs: signal.len(),
        steps_per_epoch: 1,
        normalised: false,
        optimum: Optimum::None,
    }
}

/// The laws that the recursion has, with its predictor.
fn of_recursion(alpha: f64) -> Vec<(Law, Prediction)> {
    let known: Vec<_> = Law::ALL.into_iter().filter_map(|law| Some((law, law.prediction(alpha)?))).collect();
    assert_eq!(known.len(), 3);
    known
}

const RATE: f64 = 1e-4;
const STEPS: u64 = 5000;

/// The point after the steps of `course` from W.
fn after(world: &ClosedForm, course: &Course, w: Array2<f64>) -> Point {
    let mut point = Point::start(world, 0);
    point.encoder = w;
    for _ in 0..STEPS {
        point.advance(world, course, Rates { encoder: RATE, predictor: 0.0 });
    }
    point
}

#[test]
fn eigenvalues_of_the_recursion_follow_their_laws_along_each_direction() {
    let world = world(&[2.0, 1.0, 0.3], &[0.1, 0.5, 0.9]);
    let start = [0.02, 0.3, 1.5];
    for alpha in [0.25, 0.5, 1.0] {
        for (law, prediction) in of_recursion(alpha) {
            let directions = Direction::of(&world);
            let size = |i: usize| (start[i] / (world.signal[i] + world.noise[i])).sqrt();
            let w = Array2::from_shape_fn((3, 3), |(i, j)| if i == j { size(i) } else { 0.0 });
            let f = after(&world, &Course::fresh(prediction), w).covariance(&world);
            for (i, direction) in directions.iter().enumerate() {
                let expected = law.after(*direction, alpha, start[i], STEPS as f64 * RATE);
                // Euler's steps are off by their rate times some derivatives of order 10.
                assert!(
                    (f[[i, i]] / expected - 1.0).abs() < 5e-3,
                    "{law:?} {alpha}: {} {expected}",
                    f[[i, i]]
                );
                // A law that stands still would test nothing.
                assert!((expected / start[i] - 1.0).abs() > 0.02, "{law:?} {alpha} {i}: {expected}");
            }
        }
    }
}

#[test]
fn in_a_round_world_they_follow_them_from_any_start() {
    // Halvagal et al.'s world: all images alike in every direction. F and P then have common axes
    // whatever W is.
    let world = world(&[1.0; 3], &[0.04; 3]);
    let mut rng = stream(3, Purpose::Test, 0, 0);
    let w = Array2::from_shape_simple_fn((3, 3), || rng.random_range(-0.6..0.6));
    let eigenvalues = |f: &Array2<f64>| {
        let matrix = nalgebra::DMatrix::from_fn(3, 3, |i, j| f[[i, j]]);
        let mut found: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
        found.sort_by(f64::total_cmp);
        found
    };
    let mut point = Point::start(&world, 0);
    point.encoder = w.clone();
    let start = eigenvalues(&point.covariance(&world));
    for (law, prediction) in of_recursion(0.5) {
        let ends = eigenvalues(&after(&world, &Course::fresh(prediction), w.clone()).covariance(&world));
        for (f, start) in ends.iter().zip(&start) {
            let expected =
                law.after(Direction { signal: 1.0, noise: 0.04 }, 0.5, *start, STEPS as f64 * RATE);
            assert!((f / expected - 1.0).abs() < 5e-3, "{law:?}: {f} {expected}");
        }
    }
}

#[test]
fn without_stop_gradient_the_law_is_that_of_the_losss_own_gradient() {
    // L(w) = E‖p w (x + ε) − w (x + ε′)‖² of one direction, p held still.
    let direction = Direction { signal: 0.8, noise: 0.3 };
    let c = direction.signal + direction.noise;
    for (alpha, f) in [(0.5, 0.2), (1.0, 0.2), (0.5, 1.4)] {
        let (w, p) = ((f / c).sqrt(), f64::powf(f, alpha));
        let loss = |w: f64| w * w * (c * p * p - 2.0 * direction.signal * p + c);
        let gradient = (loss(w + 1e-6) - loss(w - 1e-6)) / 2e-6;
        // f = c w², so that ḟ/f = 2 ẇ/w.
        let expected = -2.0 * gradient / w;
        let got = Law::NoStopGradient.rate(direction, alpha, f);
        assert!((got - expected).abs() < 1e-6 && got < -0.01, "{got} {expected}");
    }
}

#[test]
fn where_h_is_right_neither_comparison_moves_anything() {
    let direction = Direction { signal: 0.8, noise: 0.2 };
    // p = √f = λ/c.
    for law in [Law::Gradient, Law::Isotropic] {
        assert!(law.rate(direction, 0.5, 0.64).abs() < 1e-12);
        assert!((law.after(direction, 0.5, 0.001, 50.0) - 0.64).abs() < 1e-3, "{law:?} comes to rest there");
    }
    // The first factor is what delays small eigenvalues.
    let [slow, fast] = [Law::Gradient, Law::Isotropic].map(|law| law.rate(direction, 0.5, 1e-4));
    assert!((slow / fast - 0.01).abs() < 1e-9, "{slow} {fast}");
}

#[test]
fn the_cosines_law_is_the_gradient_of_the_loss() {
    // Eight rows with all signs of (√f₁, √f₂, √f₃), so that z_m² is the same in all.
    let (f, p) = ([1.0f64, 0.25, 0.04], [1.0f64, 0.6, 0.3]);
    let rows: Vec<f32> = (0..8)
        .flat_map(|row| (0..3).map(move |m| if row >> m & 1 == 0 { 1.0 } else { -1.0 } * f[m].sqrt() as f32))
        .collect();
    let h = Tensor::from_vec(p.map(|p| p as f32).to_vec(), 3, &Device::Cpu).unwrap();
    for isotropic in [false, true] {
        let z = Var::from_slice(&rows, (1, 8, 3), &Device::Cpu).unwrap();
        let predicted = z.broadcast_mul(&h).unwrap();
        let compared = match isotropic {
            true => (predicted.detach() + (z.as_tensor() - z.detach()).unwrap()).unwrap(),
            false => predicted,
        };
        let loss = ObjectiveConfig::default().loss(&compared, &z.detach(), None).unwrap();
        let gradient =
            loss.backward().unwrap().get(&z).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let rates = cosine_rates(&f, &p, isotropic);
        for m in 0..3 {
            // The loss is a mean over 8 rows; log z_m² grows by 2 ż_m/z_m.
            let got = -2.0 * 8.0 * f64::from(gradient[m]) / f64::from(rows[m]);
            assert!((got - rates[m]).abs() < 1e-5, "{isotropic} {m}: {got} {}", rates[m]);
        }
        assert!(rates[0] < 0.0 && rates[2] > 0.0, "small ones catch up: {rates:?}");
    }
    assert_eq!(cosine_rates(&f, &[1.0; 3], false), [0.0; 3], "without h nothing is said");
    assert_eq!(cosine_rates(&[0.0; 2], &[0.0; 2], true), [0.0; 2], "collapsed");
}

#[test]
fn h_has_the_eigenvalues_that_its_configuration_says() {
    let copy = DirectConfig { alpha: 1.0, epsilon: 0.25, ..DirectConfig::PAPER };
    assert_eq!(copy.of_eigenvalue(0.5, 2.0), 0.5);
    assert_eq!(DirectConfig::PAPER.of_eigenvalue(0.5, 2.0), 0.6);
    assert_eq!(DirectConfig::PAPER.of_eigenvalue(0.0, 0.0), 0.1);
}

fn resolve(study: &str, set: &[&str]) -> simsiam_em::Result<Recipe> {
    let set = set.iter().map(|set| set.to_string()).collect();
    let request = Request { scale: Some("smoke".into()), set, ..Request::default() };
    Ok(Study::find(study).unwrap().resolve(&request)?.remove(0).recipe)
}

fn train(recipe: &Recipe, path: &Path) {
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
    let ending = train::run(recipe, &dataset, &dir, 1, &AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(ending, Ending::Finished);
}

#[test]
fn eigenvalues_are_kept_where_asked_and_are_the_squares_of_the_spectrum() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, plain) = (folder.path().join("kept"), folder.path().join("plain"));
    train(&resolve("simsiam", &["measure.em.eigenvalues=true"]).unwrap(), &kept);
    train(&resolve("simsiam", &[]).unwrap(), &plain);
    let found = read_eigenvalues(&kept).unwrap();
    // The start and three epochs; 32 of them each.
    assert!(found.len() == 4 && found.iter().all(|values| values.len() == 32), "{}", found.len());
    let spectrum = std::fs::read_to_string(kept.join("spectrum.csv")).unwrap();
    for (line, eigenvalue) in spectrum.lines().skip(1).zip(found.last().unwrap()) {
        let s: f64 = line.split(',').nth(1).unwrap().parse().unwrap();
        // 80 held-out images.
        let expected = s * s / 80.0;
        assert!((f64::from(*eigenvalue) - expected).abs() <= 1e-6 * expected, "{eigenvalue} {expected}");
    }
    let table = read_metrics(&kept.join(METRICS_FILE)).unwrap();
    assert_eq!(table.points("epoch", "em/log_spread").len(), 4);
    assert!(read_eigenvalues(&plain).unwrap().is_empty());
    assert!(!std::fs::read_to_string(plain.join(METRICS_FILE)).unwrap().contains("log_spread"));
    let weights = |path: &Path| std::fs::read(path.join("weights.safetensors")).unwrap();
    assert!(weights(&kept) == weights(&plain), "measuring moves nothing");
}

#[test]
fn the_isotropic_comparison_needs_a_predictor_and_trains_another_encoder() {
    let none = resolve("simsiam", &["objective.comparison=\"isotropic\"", "predictor=none"]);
    let refused = none.expect_err("no h");
    assert!(refused.exit_code() == 2 && refused.to_string().contains("needs a predictor"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, set: &[&str]| {
        let path = folder.path().join(name);
        train(&resolve("simsiam", set).unwrap(), &path);
        std::fs::read(path.join("weights.safetensors")).unwrap()
    };
    let isotropic = ["objective.comparison=\"isotropic\""];
    assert!(weights("isotropic", &isotropic) != weights("simsiam", &[]));
    assert!(weights("again", &isotropic) == weights("isotropic", &isotropic));
}
