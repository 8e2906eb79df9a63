//! Supervised training on the same loop: η is the image's class, the objective the softmax
//! cross-entropy, the projector a linear head. Its gradient is softmax(z) − one-hot(y); what does
//! not fit the images or the head is refused.

use crate::support::{max_difference, normal};
use candle_core::{Tensor, Var};
use simsiam_em::data::Dataset;
use simsiam_em::error::Error;
use simsiam_em::eta::{BankPlace, EStep, Rule, Size, Views};
use simsiam_em::kernel;
use simsiam_em::recipe::Recipe;
use simsiam_em::record::RunDir;
use simsiam_em::study::{Base, Request, Study};
use simsiam_em::train::{self, Alternation, Compared, Ending, Losses, Model, Progress, Rates};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// The only arm of a study of the base method, with `set`.
fn resolve(scale: &str, set: &[&str]) -> simsiam_em::Result<Recipe> {
    let text = "title = \"t\"\nquestion = \"q?\"\nbase = \"supervised\"\n";
    let study = Study::parse("t", "t.toml", text.into()).unwrap();
    let set = set.iter().map(|set| set.to_string()).collect();
    let data = match scale {
        "cifar" => Some("cifar10:x".into()),
        "imagenet" => Some("folder:x".into()),
        _ => None,
    };
    let request = Request { scale: Some(scale.into()), data, set, ..Request::default() };
    Ok(study.resolve(&request)?.remove(0).recipe)
}

fn recipe(set: &[&str]) -> Recipe {
    resolve("smoke", set).unwrap()
}

const CLASSES: usize = 10;
const BATCH: usize = 6;
const LABELS: [u32; BATCH] = [3, 0, 9, 3, 5, 1];

fn views(recipe: &Recipe) -> Views {
    let size = recipe.augment.size;
    let x = normal(0, (recipe.views(), BATCH, size, size, 3));
    Views { step: 0, indices: (0..BATCH as u32).collect(), labels: LABELS.into(), x, small: None }
}

fn rule(recipe: &Recipe) -> Box<dyn EStep> {
    recipe.eta.build(&Size { dim: CLASSES, ..Size::default() }, &BankPlace::default()).unwrap()
}

fn model(recipe: &Recipe) -> Model {
    Model::of(recipe, &kernel::direct_sums().unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn loss(model: &Model, recipe: &Recipe, z: &Tensor, eta: &Tensor) -> Tensor {
    let compared = Compared { z, eta, small: None, negatives: None, directions: None };
    Losses::new(model, &recipe.objective, &compared).unwrap().descended
}

#[test]
fn the_gradient_in_the_heads_output_is_softmax_minus_one_hot() {
    for set in [&[][..], &["objective.symmetric=true"], &["objective.temperature=0.5"]] {
        let recipe = recipe(set);
        let (model, batch) = (model(&recipe), views(&recipe));
        let z = Var::from_tensor(&model.z(&batch.x).unwrap().detach()).unwrap();
        let eta = rule(&recipe).targets(&batch, &z, &model).unwrap();
        assert!(!eta.track_op());
        let loss = loss(&model, &recipe, &z, &eta);
        let got = values(loss.backward().unwrap().get(&z).unwrap());
        let (temperature, rows) = (recipe.objective.temperature, recipe.views() * BATCH);
        let (mut expected, mut sum) = (Vec::new(), 0.0);
        for (row, z) in values(&z).chunks(CLASSES).enumerate() {
            let label = LABELS[row % BATCH] as usize;
            let exponentials: Vec<f64> = z.iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
            let total: f64 = exponentials.iter().sum();
            sum -= (exponentials[label] / total).ln();
            expected.extend(exponentials.iter().enumerate().map(|(class, exponential)| {
                let one_hot = if class == label { 1.0 } else { 0.0 };
                ((exponential / total - one_hot) / (temperature * rows as f64)) as f32
            }));
        }
        // Sums of ten exponentials in f32.
        let difference = max_difference(&got, &expected);
        assert!(difference < 1e-6, "{set:?}: {difference}");
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - sum / rows as f64).abs() < 1e-5, "{set:?}: {value}, {}", sum / rows as f64);
    }
}

/// Central differences along the gradient and along another direction. The loss of some 2.3 has an
/// error of 1e-6 or so in f32, which a step of 2e-3 makes 5e-4 of a derivative of 1. What the
/// ReLU's corners on the way add falls with the step; with a step of 1e-2 it was up to 2e-2.
#[test]
fn the_gradient_in_theta_is_that_of_finite_differences() {
    let recipe = recipe(&["encoder.zero_init_residual=false"]);
    let (model, batch) = (model(&recipe), views(&recipe));
    let value = |model: &Model| {
        let z = model.z(&batch.x).unwrap();
        let eta = rule(&recipe).targets(&batch, &z, model).unwrap();
        loss(model, &recipe, &z, &eta)
    };
    let encoder = model.parts().next().unwrap();
    let gradients = value(&model).backward().unwrap();
    let gradient = values(gradients.get(encoder.theta).unwrap());
    let (theta, running) = (values(encoder.theta), encoder.engine.running().unwrap());
    let alternating: Vec<f32> = (0..theta.len()).map(|i| [1.0, -0.5, 0.25][i % 3]).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for direction in [&gradient, &alternating] {
        let length = dot(direction, direction).sqrt();
        let at = |step: f64| {
            let moved = theta.iter().zip(direction);
            let moved = moved.map(|(theta, d)| theta + (step * f64::from(*d) / length) as f32).collect();
            model.set("encoder", moved, &running).unwrap();
            f64::from(value(&model).to_scalar::<f32>().unwrap())
        };
        let (step, expected) = (2e-3, dot(&gradient, direction) / length);
        let got = (at(step) - at(-step)) / (2.0 * step);
        let allowed = 1e-2 * dot(&gradient, &gradient).sqrt();
        assert!((got - expected).abs() < allowed, "{got}, {expected}");
    }
}

#[test]
fn every_view_of_an_image_has_its_class_as_the_target() {
    for (set, shown) in [(&[][..], 1), (&["objective.symmetric=true"], 2), (&["objective.pairs=2"], 2)] {
        let recipe = recipe(set);
        assert_eq!((recipe.views(), recipe.batch_shape().views), (shown, shown), "{set:?}");
        let (model, batch) = (model(&recipe), views(&recipe));
        let z = model.z(&batch.x).unwrap();
        let eta = rule(&recipe).targets(&batch, &z, &model).unwrap();
        assert_eq!(eta.dims(), [shown, BATCH, CLASSES]);
        let one_hot = values(&eta.exp().unwrap());
        for (row, weights) in one_hot.chunks(CLASSES).enumerate() {
            let expected: Vec<f32> =
                (0..CLASSES).map(|class| f32::from(class == LABELS[row % BATCH] as usize)).collect();
            assert_eq!(weights, expected, "{set:?}");
        }
        assert_eq!(model.passed(), 0, "no pass of an E-step");
    }
    let recipe = recipe(&[]);
    let (model, mut batch) = (model(&recipe), views(&recipe));
    let z = model.z(&batch.x).unwrap();
    batch.labels[2] = CLASSES as u32;
    assert!(rule(&recipe).targets(&batch, &z, &model).is_err());
}

#[test]
fn a_batch_is_learned_by_heart() {
    let recipe = recipe(&[]);
    let batch = views(&recipe);
    let (objective, optim) = (recipe.objective.clone(), recipe.optim.clone());
    let mut alternation =
        Alternation::new(model(&recipe), &recipe.eta, rule(&recipe), objective, optim, 0).unwrap();
    let rates = Rates { encoder: 0.1, predictor: 0.1 };
    let mut step = |step| alternation.step(step, 60, rates, &mut |step| Ok(Views { step, ..batch.clone() }));
    let losses: Vec<f64> = (0..60).map(|i| step(i).unwrap().loss.wait().unwrap()).collect();
    // Ten classes by guessing: log 10 = 2.3.
    assert!(losses[0] > 1.5 && losses[59] < 0.1, "from {} to {}", losses[0], losses[59]);
}

/// Trains `recipe` in `path`; the last row of its metrics, and its first.
fn trained(recipe: &Recipe, path: &Path) -> simsiam_em::Result<[BTreeMap<&'static str, f64>; 2]> {
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
    let rows = Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if let Progress::Measured { values, .. } = progress {
            rows.lock().unwrap().push(values.into_iter().collect::<BTreeMap<_, _>>());
        }
    };
    assert_eq!(train::run(recipe, &dataset, &dir, 2, &AtomicBool::new(false), &watch)?, Ending::Finished);
    let rows = rows.into_inner().unwrap();
    Ok([rows[0].clone(), rows[rows.len() - 1].clone()])
}

#[test]
fn it_learns_held_out_classes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&[
        "schedule.epochs=40",
        "measure.every=40",
        "measure.probe_epochs=30",
        "encoder.backbone.resnet8.width=8",
        "optim.base_lr=0.4",
        "data.train_images=320",
    ]);
    let [first, last] = trained(&recipe, folder.path()).unwrap();
    let (knn, linear) = (last["val/knn_top1"], last["val/linear_top1"]);
    // Five times chance: after so short a training kernels differ by some points.
    assert!(knn > first["val/knn_top1"] + 20.0 && linear > 50.0, "{first:?}, {last:?}");
    assert!(last["train/loss"] < 0.7 * (CLASSES as f64).ln(), "{last:?}");
    assert_eq!(last["train/e_passes"], 0.0);
}

#[test]
fn a_head_for_another_number_of_classes_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let error = trained(&recipe(&["encoder.projector.dim=7"]), folder.path()).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("7 outputs") && text.contains("the 10 classes of shapes"), "{text}");
    assert!(text.contains("--set encoder.projector.dim=10"), "{text}");
}

#[test]
fn what_does_not_fit_labels_is_refused_in_one_sentence() {
    for (set, says) in [
        (&["objective.similarity=cosine"][..], "classes need objective.similarity"),
        (&["predictor.mlp={hidden=8,norm=\"hidden\"}"], "the classifier's head"),
        (&["predictor.bias={}"], "the classifier's head"),
        (&["objective.prototypes.count=5"], "makes no codes"),
        (&["objective.comparison=mirror"], "needs a predictor"),
        (&["measure.em.eta=true"], "labels are no outputs"),
    ] {
        let report = format!("{:?}", resolve("smoke", set).expect_err("it was taken"));
        assert!(report.contains(says), "{set:?}: {report}");
    }
}

#[test]
fn the_head_is_linear_and_has_an_output_for_each_class_at_every_scale() {
    let of = |scale: &str| {
        let recipe = resolve(scale, &[]).unwrap();
        let projector = &recipe.encoder.projector;
        assert_eq!(projector.layers, 1, "{scale}");
        assert!(recipe.data.source != "shapes" || projector.dim == recipe.data.shapes.classes, "{scale}");
        (projector.dim, recipe.views(), recipe.optim.momentum, recipe.optim.base_lr)
    };
    assert_eq!([of("smoke").0, of("laptop").0], [10, 20]);
    assert_eq!(of("cifar"), (10, 1, 0.9, 0.2));
    // He et al. 2016: 0.1 at a batch of 256, momentum 0.9, decay 1e-4.
    assert_eq!(of("imagenet"), (1000, 1, 0.9, 0.1));
    assert_eq!(resolve("imagenet", &[]).unwrap().optim.weight_decay, 1e-4);
    assert_eq!(Base::find("supervised").unwrap().of.as_deref(), Some("simsiam"));
    // A view of its own costs what a view costs: less memory than two.
    let bytes = |set: &[&str]| train::memory_bytes(&recipe(set), 160).unwrap();
    assert!(bytes(&[]) < bytes(&["objective.symmetric=true"]));
    assert_eq!(recipe(&[]).eta, Rule::Labels {});
}

#[test]
fn an_e_step_that_reads_labels_never_moves_l() {
    let folder = tempfile::tempdir().unwrap();
    let [_, last] = trained(&recipe(&["measure.em.objective=true"]), folder.path()).unwrap();
    assert_eq!(last["em/e_rise"], 0.0, "{last:?}");
    assert!(last["em/loss_after_m"].is_finite(), "{last:?}");
}
