//! What runs on procedural images keep in their features: the share of each factor's variance that
//! a linear map of them explains on held-out images. `cargo bench --bench factors -- ARM…`, an arm
//! being a folder of seeds such as `runs/multistep/k=10`. It asks whether such a measure tells arms
//! apart where accuracies do not: every arm is compared with the first one, seed by seed.

use nalgebra::DMatrix;
use simsiam_em::data::{Dataset, ShapesSeed, Split, shapes};
use simsiam_em::device::Place;
use simsiam_em::recipe::Recipe;
use simsiam_em::record::read_metrics;
use simsiam_em::train::{Pretrained, embed};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Nobody asks to stop.
static NEVER: AtomicBool = AtomicBool::new(false);
/// What is added to the covariance of standardised features: one of them for each factor, chosen on
/// a fifth of the training images.
const RIDGES: [f64; 5] = [1e-4, 1e-3, 1e-2, 0.1, 1.0];
/// One of so many training images chooses the ridge.
const HELD_BACK: usize = 5;

/// Numbers by name: R² of factors, accuracies in per cent.
type Numbers = BTreeMap<String, f64>;

fn main() {
    let arms: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arms.is_empty() {
        println!("no arms: cargo bench --bench factors -- runs/multistep/k=1 runs/multistep/k=10");
        return;
    }
    let read: Vec<BTreeMap<String, Numbers>> = arms.iter().map(|arm| seeds(Path::new(arm))).collect();
    let names: Vec<&String> = read[0].values().next().expect("the first arm has a run").keys().collect();
    println!("medians of held-out R² (accuracies in per cent); above the first arm in so many seeds");
    for (arm, runs) in arms.iter().zip(&read) {
        println!("{arm}, {} seeds", runs.len());
        for name in &names {
            let mut values: Vec<f64> = runs.values().map(|run| run[*name]).collect();
            values.sort_by(f64::total_cmp);
            let pairs = runs.iter().filter_map(|(seed, run)| Some((run[*name], read[0].get(seed)?[*name])));
            let pairs: Vec<(f64, f64)> = pairs.collect();
            let above = pairs.iter().filter(|(this, first)| this > first).count();
            let (worst, best) = (values[0], values[values.len() - 1]);
            let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
            println!("  {name:<16} {median:>8.3}   {worst:.3} to {best:.3}   {above} of {}", pairs.len());
        }
    }
}

/// What each run of an arm keeps.
fn seeds(arm: &Path) -> BTreeMap<String, Numbers> {
    let folders = std::fs::read_dir(arm).unwrap().map(|entry| entry.unwrap().path());
    let runs = folders.filter(|path| path.join("metrics.csv").is_file());
    runs.map(|run| (run.file_name().unwrap().to_string_lossy().into_owned(), numbers(&run))).collect()
}

/// What one run keeps, and its last accuracies.
fn numbers(run: &Path) -> Numbers {
    let pretrained = Pretrained::open(run).unwrap();
    let recipe = pretrained.recipe.as_ref().expect("a run has its recipe");
    let data = Dataset::open(&recipe.data).unwrap();
    let model = pretrained.model(&Place::Cpu.open().unwrap()).unwrap();
    let features = |split: &Split| {
        let rows = embed(&model, split, &pretrained.preprocessing.augment(), &NEVER).unwrap().0;
        DMatrix::from_fn(rows.nrows(), rows.ncols(), |i, j| f64::from(rows[[i, j]]))
    };
    let (names, y) = targets(recipe, &data.train, 0);
    let (_, truth) = targets(recipe, &data.test, 1);
    let guess = guesses(&features(&data.train), &y, &features(&data.test));
    let mut by_name: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (column, name) in names.into_iter().enumerate() {
        by_name.entry(name).or_default().push(r2(&guess, &truth, column));
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let mut numbers: Numbers = by_name.into_iter().map(|(name, r2)| (name, mean(r2))).collect();
    let metrics = read_metrics(&run.join("metrics.csv")).unwrap();
    for column in ["val/knn_top1", "val/linear_top1"] {
        numbers.insert(column.into(), metrics.last(column).unwrap_or(f64::NAN));
    }
    numbers
}

/// The factors of a split's images, a column each with its name: `shape` is one of a class and not
/// another.
fn targets(recipe: &Recipe, split: &Split, number: u64) -> (Vec<String>, DMatrix<f64>) {
    let ShapesSeed::Fixed(seed) = recipe.data.shapes_seed else { panic!("a run's images have a seed") };
    let (config, size) = (&recipe.data.shapes, recipe.data.shapes_size);
    let row = |index: usize| -> Vec<(&'static str, f32)> {
        let label = shapes::label(index, config.classes);
        let shape = (0..config.classes as u32).map(|class| ("shape", f32::from(u8::from(class == label))));
        shape.chain(shapes::factors(config, seed, number, index, size)).collect()
    };
    let rows: Vec<_> = (0..split.len()).map(row).collect();
    let names = rows[0].iter().map(|(name, _)| name.to_string()).collect();
    (names, DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| f64::from(rows[i][j].1)))
}

/// Ridge regression of `y` on the standardised `x`, applied to `held_out`; each column of `y` with
/// the ridge that is best for it on images held back from the fit.
fn guesses(x: &DMatrix<f64>, y: &DMatrix<f64>, held_out: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = x.row_mean();
    let scale = x.row_variance().map(|variance| variance.sqrt().max(1e-9));
    let standard =
        |x: &DMatrix<f64>| DMatrix::from_fn(x.nrows(), x.ncols(), |i, j| (x[(i, j)] - mean[j]) / scale[j]);
    let (x, held_out) = (standard(x), standard(held_out));
    let rows = |back: bool| (0..x.nrows()).filter(move |row| (row % HELD_BACK == 0) == back);
    let pick = |of: &DMatrix<f64>, back: bool| of.select_rows(&rows(back).collect::<Vec<_>>());
    let (fit_x, fit_y, back_x, back_y) = (pick(&x, false), pick(y, false), pick(&x, true), pick(y, true));
    let tried: Vec<DMatrix<f64>> =
        RIDGES.iter().map(|ridge| regress(&fit_x, &fit_y, *ridge, &back_x)).collect();
    let whole: Vec<DMatrix<f64>> = RIDGES.iter().map(|ridge| regress(&x, y, *ridge, &held_out)).collect();
    let best = |column: usize| {
        let scores = tried.iter().map(|guess| r2(guess, &back_y, column));
        scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(index, _)| index)
    };
    let columns: Vec<_> = (0..y.ncols()).map(|column| whole[best(column)].column(column)).collect();
    DMatrix::from_columns(&columns)
}

fn regress(x: &DMatrix<f64>, y: &DMatrix<f64>, ridge: f64, held_out: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = y.row_mean();
    let apart = DMatrix::from_fn(y.nrows(), y.ncols(), |i, j| y[(i, j)] - mean[j]);
    let mut square = x.tr_mul(x);
    for i in 0..x.ncols() {
        square[(i, i)] += ridge * x.nrows() as f64;
    }
    let slope = square.cholesky().expect("features are finite").solve(&x.tr_mul(&apart));
    let guess = held_out * slope;
    DMatrix::from_fn(guess.nrows(), guess.ncols(), |i, j| guess[(i, j)] + mean[j])
}

/// 1 − squared error / variance of a column.
fn r2(guess: &DMatrix<f64>, truth: &DMatrix<f64>, column: usize) -> f64 {
    let (guess, truth) = (guess.column(column), truth.column(column));
    1.0 - (guess - truth).norm_squared() / (truth.variance() * truth.len() as f64)
}
