//! Filters of a batch's spectrum against numpy, the constrained E-step against its definition, and
//! runs that have both.

use super::support::results;
use candle_core::{Device, Tensor};
use ndarray::Array2;
use simsiam_em::data::Dataset;
use simsiam_em::eta::{EStep, Filtered};
use simsiam_em::kernel::spectral::Filter;
use simsiam_em::measure::collapse::direction_rank;
use simsiam_em::network::config::DirectConfig;
use simsiam_em::recipe::{Predictor, Recipe};
use simsiam_em::record::{METRICS_FILE, RunDir, read_metrics};
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{self, Direct, Ending};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Two views of four images, three outputs each.
const Z: [f32; 24] = [
    0.9, -0.4, 0.2, 1.3, 0.5, -0.1, -0.7, 0.8, 0.3, 0.2, -1.1, 0.4, //
    0.8, -0.2, 0.1, 1.1, 0.9, -0.3, -0.6, 0.4, 0.5, 0.4, -1.3, 0.2,
];

fn z() -> Tensor {
    Tensor::from_slice(&Z, (2, 4, 3), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn filtered(filter: Filter, sigma: f64, ridge: f64) -> Vec<f32> {
    values(&Filtered { filter, sigma, ridge }.of(&z()).unwrap())
}

/// Numbers of order 1 that were rounded to f32 once.
fn near(got: &[f32], expected: &[f64]) {
    assert!(got.len() >= expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let error = (f64::from(*got) - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-6, "{got}, {expected}");
    }
}

#[test]
fn filters_are_those_of_numpys_singular_value_decomposition() {
    // U (s·g(√(r² + ridge·mean r²))) Vᵀ by numpy.linalg.svd of numpy 2.4.6, in f64; r = s/√8. The
    // first rows, and for a logarithm g(16 r).
    near(
        &filtered(Filter::Power, -1.0, 0.001),
        &[1.15526165, -0.36335792, 0.89401625, 1.64126156, 0.74133424, 0.25078921, -0.70458645],
    );
    near(
        &filtered(Filter::Power, -0.5, 0.01),
        &[1.00695923, -0.39972796, 0.42383566, 1.45162371, 0.60150424, 0.00469901, -0.72037016],
    );
    near(
        &filtered(Filter::Power, 1.0, 0.0),
        &[0.73768014, -0.36200822, 0.02877551, 1.05206747, 0.35231449, -0.15416206, -0.62137457],
    );
    near(
        &filtered(Filter::Log, 0.0, 0.0),
        &[2.30137857, -1.09009317, 0.2341521, 3.31987188, 1.20451844, -0.41373492, -1.87982212],
    );
    near(
        &filtered(Filter::LogPlusOne, 0.0, 0.0),
        &[2.370535, -1.11267556, 0.2840553, 3.41844553, 1.24864987, -0.40094431, -1.92304347],
    );
    near(
        &filtered(Filter::LogSquarePlusOne, 0.0, 0.0),
        &[4.60936552, -2.18023181, 0.4822718, 6.64831729, 2.41384211, -0.82058336, -3.76112603],
    );
}

#[test]
fn the_same_filters_on_the_online_side_are_numpys() {
    let weights = |alpha: f64, filter: Filter| {
        let config = DirectConfig { rho: 0.0, epsilon: 0.0, every: 1, alpha, filter };
        let mut direct = Direct::of(&Predictor::Direct(config), 3).unwrap();
        direct.of_batch(&z(), &z()).unwrap()
    };
    // V g Vᵀ, of powers by the largest.
    near(
        &weights(0.5, Filter::Power),
        &[0.97289843, -0.04304779, -0.07811393, -0.04304779, 0.93015213, -0.09837281],
    );
    near(
        &weights(1.0, Filter::Power),
        &[0.95448626, -0.07423783, -0.0972162, -0.07423783, 0.87671331, -0.12019457],
    );
    near(
        &weights(0.5, Filter::LogPlusOne),
        &[2.63910352, -0.04905991, -0.12141036, -0.04905991, 2.59388983, -0.15482845],
    );
}

#[test]
fn powers_below_0_raise_the_rank_of_directions_and_those_above_lower_it() {
    let rank =
        |values: &[f32]| direction_rank(Array2::from_shape_vec((8, 3), values.to_vec()).unwrap().view());
    // By numpy: exp of the entropy of singular values over their sum, rows of unit length.
    for (rank, expected) in [
        (rank(&Z), 2.756827777),
        (rank(&filtered(Filter::Power, -1.0, 0.001)), 2.985683886),
        (rank(&filtered(Filter::Power, 1.0, 0.0)), 2.362706640),
    ] {
        assert!((rank - expected).abs() < 1e-5, "{rank}, {expected}");
    }
}

/// Σ (a − b)².
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn white_outputs_are_the_nearest_ones_that_are_white() {
    let eta = values(&Filtered::white(1e-9).of(&z()).unwrap());
    let product = |i: usize, j: usize| {
        (0..8).map(|row| f64::from(eta[3 * row + i]) * f64::from(eta[3 * row + j])).sum::<f64>()
    };
    for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
        let expected = if i == j { 8.0 } else { 0.0 };
        assert!((product(i, j) - expected).abs() < 1e-5, "ηᵀη = 8 I at {i}, {j}: {}", product(i, j));
    }
    // Others that meet the constraint are further away: outputs turned in a plane, and rows turned
    // in one.
    let nearest = distance(&Z, &eta);
    for angle in [-0.3f32, -0.01, 0.01, 0.3] {
        let (cos, sin) = (angle.cos(), angle.sin());
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            let mut turned = eta.clone();
            for row in turned.chunks_mut(3) {
                (row[i], row[j]) = (cos * row[i] - sin * row[j], sin * row[i] + cos * row[j]);
            }
            assert!(distance(&Z, &turned) > nearest, "{i}, {j} by {angle}");
        }
        for (a, b) in [(0, 1), (2, 7), (3, 5)] {
            let mut turned = eta.clone();
            for i in 0..3 {
                let (x, y) = (turned[3 * a + i], turned[3 * b + i]);
                (turned[3 * a + i], turned[3 * b + i]) = (cos * x - sin * y, sin * x + cos * y);
            }
            assert!(distance(&Z, &turned) > nearest, "rows {a}, {b} by {angle}");
        }
    }
}

#[test]
fn outputs_that_have_no_spectrum_make_no_numbers_up() {
    let white = Filtered::white(1e-3);
    let of = |values: &[f32]| {
        self::values(
            &white.of(&Tensor::from_slice(values, (1, values.len() / 2, 2), &Device::Cpu).unwrap()).unwrap(),
        )
    };
    assert_eq!(of(&[0.0; 6]), [0.0; 6], "nothing stays nothing");
    let same = of(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    assert!(same.iter().all(|value| value.is_finite()), "collapsed: {same:?}");
    assert!((same[1] / same[0] - 2.0).abs() < 1e-5, "one direction stays that direction");
    assert!(of(&[f32::NAN, 1.0, 2.0, 3.0])[0].is_nan(), "the loss tells of it");
    assert!(of(&[1e-30, 2e-30, -1e-30, 1e-30]).iter().all(|value| value.is_finite()), "tiny outputs");
    assert!(of(&[1e30, 2e30, -1e30, 1e30]).iter().all(|value| value.is_finite()), "huge outputs");
}

fn resolve(set: &[&str]) -> simsiam_em::Result<Recipe> {
    let set = set.iter().map(|set| set.to_string()).collect();
    let request = Request { scale: Some("smoke".into()), set, ..Request::default() };
    Ok(Study::find("simsiam").unwrap().resolve(&request)?.remove(0).recipe)
}

#[test]
fn what_has_no_meaning_is_refused_in_one_sentence() {
    for (set, word) in [
        (&["eta.whitened.ridge=0"][..], "0 must be above 0 for r to the power of -1"),
        (&["eta.filtered.sigma=-1"], "eta.filtered.ridge: 0 must be above 0"),
        (&["eta.filtered={ sigma = 1.0, filter = \"log\" }"], "only filter"),
        (&["eta.filtered={ sigma = nan }"], "eta.filtered.sigma"),
        (&["eta.filtered={ ridge = -1.0 }"], "eta.filtered.ridge"),
        (&["eta.whitened.ridge=0.001", "schedule.batch=8"], "16 outputs of a batch"),
        (
            &["predictor.direct={ rho = 0.0, epsilon = 0.0, every = 1, alpha = 0.0 }"],
            "predictor.direct.alpha",
        ),
        (
            &[
                "measure.em.ranks=true",
                "eta=labels",
                "predictor=none",
                "objective.similarity=\"cross-entropy\"",
            ],
            "em.ranks",
        ),
    ] {
        let refused = resolve(set).expect_err(word);
        assert!(refused.exit_code() == 2 && refused.to_string().contains(word), "{word}: {refused}");
    }
    let known = ["eta.filtered={ sigma = 0.5, filter = \"sine\" }"];
    assert!(resolve(&known).expect_err("sine").to_string().contains("log-plus-one"));
}

/// Trains `recipe` on so many threads.
fn train(recipe: &Recipe, path: &Path, threads: usize) -> Ending {
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
    train::run(recipe, &dataset, &dir, threads, &AtomicBool::new(false), &|_| ()).unwrap()
}

#[test]
fn ranks_are_taken_where_asked_and_do_not_depend_on_threads_nor_move_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let white = ["eta.whitened.ridge=0.001", "predictor=none", "measure.em.ranks=true"];
    let recipe = resolve(&white).unwrap();
    for threads in [1, 3] {
        assert_eq!(train(&recipe, &path(&threads.to_string()), threads), Ending::Finished);
    }
    assert!(results(&path("1")) == results(&path("3")));
    let without = resolve(&white[..2]).unwrap();
    assert_eq!(train(&without, &path("without"), 1), Ending::Finished);
    let weights = |name: &str| std::fs::read(path(name).join("weights.safetensors")).unwrap();
    assert!(weights("1") == weights("without"), "measuring moves nothing");
    let table = read_metrics(&path("1").join(METRICS_FILE)).unwrap();
    let column = |name: &str| table.points("epoch", name);
    let (p, eta, gap) = (column("em/rank_p"), column("em/rank_eta"), column("em/rank_gap"));
    // Rows after each of 3 epochs, none before the first step.
    assert_eq!(gap.len(), 3);
    for ((p, eta), gap) in p.iter().zip(&eta).zip(&gap) {
        assert_eq!(gap.1, eta.1 - p.1);
        // White outputs of unit length span all 32 dimensions nearly alike.
        assert!(eta.1 > 28.0 && eta.1 <= 32.0 && gap.1 > 0.0, "{} {}", eta.1, gap.1);
    }
    let other = std::fs::read_to_string(path("without").join(METRICS_FILE)).unwrap();
    assert!(!other.contains("em/rank_"), "only where asked");
}

#[test]
fn outputs_that_are_not_finite_end_the_run() {
    let set = ["eta.whitened.ridge=0.001", "predictor=none", "measure.em.ranks=true", "optim.base_lr=1e30"];
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(train(&resolve(&set).unwrap(), folder.path(), 1), Ending::Diverged { .. }));
}

#[test]
fn a_filter_that_changes_nothing_is_one_sample() {
    // g = 1: z = U s Vᵀ again, to rounding.
    let same = Filtered { filter: Filter::Power, sigma: 0.0, ridge: 0.0 };
    for (got, z) in values(&same.of(&z()).unwrap()).iter().zip(Z) {
        assert!((got - z).abs() < 1e-6, "{got}, {z}");
    }
    assert_eq!(same.chunk(), 1);
}
