//! What the study `dispute` is made of: each comparison's gradient against finite differences of
//! its formula in f64, exact laws between comparisons, DirectPred's predictor, resumption,
//! refusals.

use candle_core::{Device, Tensor, Var};
use rand::Rng;
use simsiam_em::data::Dataset;
use simsiam_em::eta::{BankPlace, Rule, Size, Views};
use simsiam_em::kernel;
use simsiam_em::network::config::*;
use simsiam_em::network::{names, read_weights};
use simsiam_em::objective::{Comparison, ObjectiveConfig};
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::{Predictor, Recipe};
use simsiam_em::record::RunDir;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{self, Alternation, Compared, Ending, Losses, Model, Progress, Rates, weights};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const VIEWS: usize = 2;
const BATCH: usize = 5;
const DIM: usize = 6;
const HIDDEN: usize = 4;
/// Of an image.
const SIZE: usize = 4;

fn random(len: usize, purpose: u64) -> Vec<f32> {
    let mut rng = stream(3, Purpose::Test, purpose, 0);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn variable(purpose: u64) -> Var {
    let values = random(VIEWS * BATCH * DIM, purpose);
    Var::from_vec(values, (VIEWS, BATCH, DIM), &Device::Cpu).unwrap()
}

fn mlp() -> Predictor {
    Predictor::Mlp(PredictorConfig { hidden: HIDDEN, norm: HeadNorm::None, inverse: true })
}

fn model(predictor: &Predictor) -> Model {
    let projector = ProjectorConfig { layers: 1, hidden: None, dim: DIM, norm: HeadNorm::All };
    let encoder = EncoderConfig::new(Backbone::Mlp { widths: vec![8] }, projector);
    Model::new(&encoder, predictor, SIZE, 1, &kernel::direct_sums().unwrap()).unwrap()
}

fn objective(comparison: Comparison) -> ObjectiveConfig {
    ObjectiveConfig { comparison, ..ObjectiveConfig::default() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The reported loss, and the gradient in z, in h and in h⁻¹ (PyTorch's layout).
struct Descent {
    loss: f64,
    z: Vec<f32>,
    parts: Vec<(&'static str, Vec<f32>)>,
}

impl Descent {
    fn of(model: &Model, comparison: Comparison, z: &Var, eta: &Var) -> Descent {
        let compared = Compared { z, eta, small: None, negatives: None, directions: None };
        let losses = Losses::new(model, &objective(comparison), &compared).unwrap();
        let gradients = losses.descended.backward().unwrap();
        assert_eq!(gradients.get(eta).is_some(), comparison == Comparison::Simsiam, "{comparison:?}: η");
        let gradient = |part: train::Part| {
            let flat = gradients.get(part.theta)?.to_vec1::<f32>().unwrap();
            let named = names::to_torch(part.engine.network(), &flat);
            Some((part.name, named.into_iter().flat_map(|(_, _, values)| values).collect()))
        };
        Descent {
            loss: f64::from(losses.encoder.to_scalar::<f32>().unwrap()),
            z: values(gradients.get(z).unwrap()),
            parts: model.parts().filter_map(gradient).collect(),
        }
    }

    fn part(&self, name: &str) -> &[f32] {
        &self.parts.iter().find(|(part, _)| *part == name).unwrap().1
    }
}

/// A head of h's architecture in f64: W₂ relu(W₁z + b₁) + b₂, parameters W₁, b₁, W₂, b₂ in a row.
fn head(parameters: &[f64], z: &[f64]) -> Vec<f64> {
    let (w1, rest) = parameters.split_at(HIDDEN * DIM);
    let (b1, rest) = rest.split_at(HIDDEN);
    let (w2, b2) = rest.split_at(DIM * HIDDEN);
    let apply = |w: &[f64], b: &[f64], x: &[f64]| -> Vec<f64> {
        w.chunks(x.len()).zip(b).map(|(row, b)| dot(row, x) + b).collect()
    };
    let hidden: Vec<f64> = apply(w1, b1, z).into_iter().map(|v| v.max(0.0)).collect();
    apply(w2, b2, &hidden)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn unit(a: &[f64]) -> Vec<f64> {
    let length = dot(a, a).sqrt();
    a.iter().map(|v| v / length).collect()
}

fn rows(values: &[f64], f: &dyn Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    values.chunks(DIM).flat_map(f).collect()
}

/// −mean over rows of â·b̂.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    -dot(&rows(a, &unit), &rows(b, &unit)) / (VIEWS * BATCH) as f64
}

/// Everything that a comparison's losses are made of.
struct Reference {
    comparison: Comparison,
    z: Vec<f64>,
    eta: Vec<f64>,
    h: Vec<f64>,
    inverse: Vec<f64>,
}

impl Reference {
    fn parameters(model: &Model, name: &str) -> Vec<f64> {
        let part = model.parts().find(|part| part.name == name).unwrap();
        let theta = part.theta.to_vec1::<f32>().unwrap();
        let named = names::to_torch(part.engine.network(), &theta);
        named.into_iter().flat_map(|(_, _, values)| values).map(f64::from).collect()
    }

    fn p(&self, z: &[f64]) -> Vec<f64> {
        rows(z, &|z| head(&self.h, z))
    }

    /// The encoder's loss at `z`, everything behind a stop-gradient staying as it is in `self`.
    fn encoder(&self, z: &[f64]) -> f64 {
        let predicted = self.p(&self.eta);
        match self.comparison {
            Comparison::Simsiam => cosine(&self.p(z), &self.eta),
            Comparison::SymmetricPredictor => cosine(&self.p(z), &predicted),
            Comparison::Mirror => cosine(z, &predicted),
            // p(z) moves with z as if h were the identity.
            Comparison::Isotropic => {
                let moved = z.iter().zip(&self.z).map(|(z, from)| z - from);
                let p: Vec<f64> = self.p(&self.z).iter().zip(moved).map(|(p, by)| p + by).collect();
                cosine(&p, &self.eta)
            }
            Comparison::InversePredictor => {
                cosine(&self.p(z), &rows(&predicted, &|p| head(&self.inverse, p)))
            }
            Comparison::Centre | Comparison::Residual => {
                let (eta, predicted) = (rows(&self.eta, &unit), rows(&predicted, &unit));
                let mut target = predicted.clone();
                for view in 0..VIEWS {
                    for i in 0..DIM {
                        let at = |row: usize| (view * BATCH + row) * DIM + i;
                        let extra = |row: usize| eta[at(row)] - predicted[at(row)];
                        let centre = (0..BATCH).map(extra).sum::<f64>() / BATCH as f64;
                        for row in 0..BATCH {
                            let residual = extra(row) - centre;
                            let of_centre = self.comparison == Comparison::Centre;
                            target[at(row)] += if of_centre { centre } else { residual };
                        }
                    }
                }
                -dot(&rows(&self.p(z), &unit), &target) / (VIEWS * BATCH) as f64
            }
        }
    }
}

/// The gradient of `f` at `x` by central differences.
fn differences(x: &[f64], f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-6;
    let at = |i: usize, by: f64| {
        let mut x = x.to_vec();
        x[i] += by;
        f(&x)
    };
    (0..x.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
}

/// Both come from sums of at most some dozens of f32 products of numbers below 1.
fn near(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(expected.iter().any(|v| v.abs() > 1e-3), "{what}: a gradient of nothing");
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() < 2e-6, "{what}: {got}, {expected}");
    }
}

#[test]
fn gradients_are_those_of_the_formulas_in_f64() {
    let model = model(&mlp());
    let (z, eta) = (variable(0), variable(1));
    let double = |var: &Var| -> Vec<f64> { values(var).into_iter().map(f64::from).collect() };
    for comparison in Comparison::ALL {
        let reference = Reference {
            comparison,
            z: double(&z),
            eta: double(&eta),
            h: Reference::parameters(&model, "predictor"),
            inverse: Reference::parameters(&model, "inverse"),
        };
        let got = Descent::of(&model, comparison, &z, &eta);
        assert!((got.loss - reference.encoder(&reference.z)).abs() < 1e-6, "{comparison:?}");
        near(&format!("{comparison:?}: z"), &got.z, &differences(&reference.z, &|z| reference.encoder(z)));
        // h descends SimSiam's own loss whatever the encoder compares.
        let of_h = |h: &[f64]| cosine(&rows(&reference.z, &|z| head(h, z)), &reference.eta);
        near(&format!("{comparison:?}: h"), got.part("predictor"), &differences(&reference.h, &of_h));
        if comparison == Comparison::InversePredictor {
            let p = reference.p(&reference.z);
            let of_inverse = |inverse: &[f64]| cosine(&rows(&p, &|p| head(inverse, p)), &reference.z);
            near("h⁻¹", got.part("inverse"), &differences(&reference.inverse, &of_inverse));
        } else {
            assert!(got.parts.iter().all(|(name, _)| *name != "inverse"), "{comparison:?} trains h⁻¹");
        }
    }
}

#[test]
fn with_h_the_identity_every_comparison_is_that_of_no_predictor() {
    // A bias of zero. An inverse it does not have.
    let (identity, none) = (model(&Predictor::Bias {}), model(&Predictor::None {}));
    identity.set("predictor", vec![0.0; DIM], &[]).unwrap();
    let (z, eta) = (variable(0), variable(1));
    let expected = Descent::of(&none, Comparison::Simsiam, &z, &eta);
    for comparison in Comparison::ALL.into_iter().filter(|c| *c != Comparison::InversePredictor) {
        let got = Descent::of(&identity, comparison, &z, &eta);
        assert!((got.loss - expected.loss).abs() < 1e-6, "{comparison:?}");
        for (got, expected) in got.z.iter().zip(&expected.z) {
            assert!((got - expected).abs() < 1e-6, "{comparison:?}: {got}, {expected}");
        }
    }
}

#[test]
fn centre_and_residual_make_up_what_simsiam_has_beyond_the_symmetric_predictor() {
    let model = model(&mlp());
    let (z, eta) = (variable(0), variable(1));
    let of = |comparison| Descent::of(&model, comparison, &z, &eta);
    let (simsiam, symmetric) = (of(Comparison::Simsiam), of(Comparison::SymmetricPredictor));
    let (centre, residual) = (of(Comparison::Centre), of(Comparison::Residual));
    assert!((centre.loss + residual.loss - symmetric.loss - simsiam.loss).abs() < 1e-6);
    for i in 0..z.elem_count() {
        let sum = centre.z[i] + residual.z[i] - symmetric.z[i];
        assert!((sum - simsiam.z[i]).abs() < 1e-6, "{i}: {sum}, {}", simsiam.z[i]);
    }
}

fn direct(every: u64) -> Predictor {
    Predictor::Direct(DirectConfig { every, ..DirectConfig::PAPER })
}

fn alternation(predictor: &Predictor) -> Alternation {
    let place = BankPlace::default();
    let rule = Rule::OneStep {};
    let size = Size { images: BATCH, dim: DIM, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
    let e_step = rule.build(&size, &place).unwrap();
    let optim = OptimConfig { base_lr: 0.1, decay: Decay::Constant, ..OptimConfig::default() };
    Alternation::new(model(predictor), &rule, e_step, objective(Comparison::Simsiam), optim, 0).unwrap()
}

#[test]
fn a_direct_predictor_is_set_in_every_so_many_steps_and_never_descends() {
    let mut alternation = alternation(&direct(2));
    let mut batch = |step: u64| {
        let x = random(VIEWS * BATCH * SIZE * SIZE * 3, 10 + step);
        let x = Tensor::from_vec(x, (VIEWS, BATCH, SIZE, SIZE, 3), &Device::Cpu)?;
        Ok(Views { step, indices: (0..BATCH as u32).collect(), labels: Vec::new(), x, small: None })
    };
    let mut seen = Vec::new();
    for step in 0..4 {
        let made = alternation.step(step, 4, Rates { encoder: 0.1, predictor: 0.1 }, &mut batch).unwrap();
        assert!(made.gradients.is_some());
        let direct = alternation.direct.as_ref().unwrap();
        let part = alternation.model.parts().find(|part| part.name == "predictor").unwrap();
        let w = part.theta.to_vec1::<f32>().unwrap();
        assert_eq!(w == direct.weights(), step % 2 == 0, "step {step}");
        for i in 0..DIM {
            for j in 0..DIM {
                assert_eq!(w[i * DIM + j], w[j * DIM + i]);
            }
        }
        seen.push(w);
    }
    assert!(seen[0] == seen[1] && seen[1] != seen[2] && seen[2] == seen[3]);
}

#[test]
fn weights_say_which_predictor_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (index, predictor) in [direct(1), Predictor::Bias {}, mlp(), Predictor::None {}].iter().enumerate() {
        let written = model(predictor);
        let path = folder.path().join(format!("{index}.safetensors"));
        std::fs::write(&path, weights::to_safetensors(&written, None).unwrap()).unwrap();
        let read = weights::model_of(&read_weights(&path).unwrap(), SIZE, &kernel::direct_sums().unwrap());
        let read = read.unwrap();
        let parts = |model: &Model| -> Vec<(&str, Vec<f32>)> {
            model.parts().map(|part| (part.name, part.theta.to_vec1().unwrap())).collect()
        };
        assert_eq!(parts(&read), parts(&written), "{predictor:?}");
        assert_eq!(read.predictor().is_set(), predictor.is_set());
    }
}

fn request(set: &[&str]) -> Request {
    let set = set.iter().map(|set| set.to_string()).collect();
    Request { scale: Some("smoke".into()), set, ..Request::default() }
}

fn recipe(arm: &str) -> Recipe {
    let arms = Study::find("dispute").unwrap().resolve(&request(&["schedule.epochs=2"])).unwrap();
    arms.into_iter().find(|other| other.name == arm).unwrap().recipe
}

/// Runs `recipe` in `path`; with `piecewise` it is stopped after every step and opened anew.
fn run(recipe: &Recipe, dataset: &Arc<Dataset>, path: &Path, piecewise: bool) -> u64 {
    let mut pieces = 0;
    loop {
        let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
        let stop = AtomicBool::new(false);
        let watch = |progress: Progress| {
            if piecewise && matches!(progress, Progress::Step { .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        pieces += 1;
        match train::run(recipe, dataset, &dir, 1, &stop, &watch).unwrap() {
            Ending::Finished => return pieces,
            Ending::Stopped => {}
            Ending::Diverged { step } => panic!("diverged at step {step}"),
        }
    }
}

#[test]
fn a_run_stopped_after_every_step_ends_with_the_same_bytes() {
    for arm in ["direct", "inverse", "residual"] {
        let (recipe, folder) = (recipe(arm), tempfile::tempdir().unwrap());
        let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
        let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
        assert_eq!(run(&recipe, &dataset, &whole, false), 1);
        // 160 images in batches of 32, twice, and the last row, which is not measured before a
        // stop.
        assert_eq!(run(&recipe, &dataset, &pieces, true), 11, "{arm}");
        for file in ["weights.safetensors", "spectrum.csv"] {
            let bytes = |path: &Path| std::fs::read(path.join(file)).unwrap();
            assert!(bytes(&whole) == bytes(&pieces), "{arm}: {file} differs");
        }
    }
}

#[test]
fn combinations_that_make_no_sense_are_refused_in_one_sentence() {
    for (set, words) in [
        (
            &["objective.comparison=mirror", "predictor=none"][..],
            &["objective.comparison", "mirror", "none"][..],
        ),
        (
            &["objective.comparison=symmetric-predictor", "eta=none"],
            &["symmetric-predictor", "without gradient"],
        ),
        (&["objective.comparison=centre", "objective.similarity=mse"], &["centre", "cosine"]),
        (&["objective.comparison=inverse-predictor"], &["predictor.mlp.inverse"]),
        (&["predictor.mlp.inverse=true"], &["objective.comparison", "inverse-predictor"]),
        (&["predictor.direct={rho=1.0, epsilon=0.1, every=1}"], &["predictor.direct.rho", "1"]),
        (&["predictor.direct={rho=0.3, epsilon=-0.1, every=1}"], &["predictor.direct.epsilon", "-0.1"]),
        (&["predictor.direct={rho=0.3, epsilon=0.1, every=0}"], &["predictor.direct.every"]),
        (
            &["predictor.direct={rho=0.3, epsilon=0.1, every=1}", "optim.predictor_lr=constant"],
            &["optim.predictor_lr"],
        ),
    ] {
        let refused = Study::find("simsiam").unwrap().resolve(&request(set)).expect_err(&set.join(" "));
        let message = refused.to_string();
        assert_eq!(refused.exit_code(), 2, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{set:?}: {message}");
        assert!(!message.contains(". "), "more than a sentence: {message}");
    }
}

#[test]
fn a_recipe_without_them_does_not_name_the_new_keys() {
    let arms = Study::find("simsiam").unwrap().resolve(&request(&[])).unwrap();
    let text = toml::to_string(&arms[0].recipe).unwrap();
    assert!(!text.contains("comparison") && !text.contains("inverse"), "{text}");
}
