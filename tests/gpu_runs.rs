//! Whole runs on a device: the arms of the studies, and runs that change devices half-way. On the
//! emulation (see `emulation.rs`) some arms, one for each kind of state that a run has; on a GPU,
//! where there is one, all.

use crate::emulation::emulated_with_library;
use candle_core::Device;
use simsiam_em::data::Dataset;
use simsiam_em::device::{Place, Site};
use simsiam_em::network::read_weights;
use simsiam_em::recipe::Recipe;
use simsiam_em::record::RunDir;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{self, Ending, Progress};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Opens a place; every run has a stream of its own on a GPU.
type Open<'a> = &'a (dyn Fn() -> Site + Sync);

/// Every arm of every study that is trained, at the smallest scale; a run that several studies need
/// once.
fn arms() -> Vec<(String, Recipe)> {
    let request = Request { scale: Some("smoke".into()), ..Request::default() };
    let mut known = std::collections::HashSet::new();
    let of_study = |study: Study| {
        let arms = study.resolve(&request).unwrap().into_iter();
        arms.map(move |arm| (format!("{}, {}", study.name, arm.name), arm.recipe)).collect::<Vec<_>>()
    };
    let all = Study::all().unwrap().into_iter().flat_map(of_study);
    all.filter(|(_, recipe)| recipe.closed_form.is_none())
        .filter(|(_, recipe)| known.insert(toml::to_string(recipe).unwrap()))
        .collect()
}

/// Trains `recipe` in `path` at the `places` in turn, asked to change `steps` steps after each
/// began (0: at once, which is one step or one batch of an E-step, and the row of an epoch that
/// lacks it). A device tells of its steps many at a time, at the latest at an epoch's end, and
/// changes then. Gives how often a process would have begun, and how many steps the run has.
fn run(recipe: &Recipe, dataset: &Arc<Dataset>, path: &Path, places: &[Open], steps: u64) -> (u64, u64) {
    let whole = std::sync::atomic::AtomicU64::new(0);
    let mut came_from = None;
    // Who is asked to stop before it measures a step's η or L measures neither, and would never get
    // on.
    let watched = recipe.measure.em.as_ref().is_some_and(|em| em.eta || em.objective);
    let steps = if watched { steps.max(1) } else { steps };
    for (begins, open) in (1..1000).zip(places.iter().cycle()) {
        let dir = RunDir::open(path, &toml::to_string(recipe).unwrap(), false).unwrap();
        let (stop, begun) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
        let watch = |progress: Progress| match progress {
            Progress::Begun { resumed_at, steps: all } => {
                whole.store(all, Ordering::Relaxed);
                begun.store(resumed_at, Ordering::Relaxed);
                let owes_row =
                    resumed_at % (all / recipe.schedule.epochs) == 0 && came_from != Some(resumed_at);
                stop.store(steps == 0 && !owes_row, Ordering::Relaxed);
            }
            Progress::Measured { .. } if steps == 0 => stop.store(true, Ordering::Relaxed),
            Progress::Step { step, .. } if step >= begun.load(Ordering::Relaxed).saturating_add(steps) => {
                stop.store(true, Ordering::Relaxed);
            }
            _ => {}
        };
        match train::run_at(&open(), recipe, dataset, &dir, &stop, &watch).unwrap() {
            Ending::Finished => return (begins, whole.into_inner()),
            Ending::Stopped => came_from = Some(begun.into_inner()),
            Ending::Diverged { step } => panic!("{}: diverged at step {step}", path.display()),
        }
    }
    panic!("{}: never ended", path.display());
}

/// ‖b − a‖/‖a‖ of all weights of two runs together; not a number where one is not.
fn difference(a: &Path, b: &Path) -> f64 {
    let read = |path: &Path| read_weights(&path.join("weights.safetensors")).unwrap();
    let (a, b) = (read(a), read(b));
    let (mut difference, mut length) = (0.0, 0.0);
    for (name, (_, values)) in &a {
        for (a, b) in values.iter().zip(&b[name].1) {
            difference += f64::from(b - a).powi(2);
            length += f64::from(*a).powi(2);
        }
    }
    (difference / length).sqrt()
}

/// Whether `recipe`, trained at `place` and at both by turns, ends within `allowed` of the
/// processor's weights. By turns in two ways: for one step each, so that every state goes both ways
/// at every step of an epoch and of a chunk; and from the processor to the place in an epoch's
/// middle.
fn agrees((what, recipe): &(String, Recipe), place: Open, allowed: f64) -> bool {
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    run(recipe, &dataset, &path("cpu"), &[&Site::default], u64::MAX);
    run(recipe, &dataset, &path("there"), &[place], u64::MAX);
    let (begins, steps) = run(recipe, &dataset, &path("steps"), &[place, &Site::default], 0);
    let watched = recipe.measure.em.as_ref().is_some_and(|em| em.eta || em.objective);
    assert!(begins > if watched { 1 } else { steps }, "{what}: not every step was a change");
    run(recipe, &dataset, &path("parts"), &[&Site::default, place], 3);
    let off = ["there", "steps", "parts"].map(|name| difference(&path("cpu"), &path(name)));
    let [whole, steps, parts] = off;
    println!(
        "{what}: weights off by {whole:.1e} there, {steps:.1e} changing every step, {parts:.1e} in parts"
    );
    off.iter().all(|off| *off < allowed)
}

/// A GPU's gradients are off by some 1e-6. Perturbed by 7e-6 a step, 860 runs on the processor
/// ended within 1.2e-2 of the unperturbed ones: a few ReLUs fall on the other side, without
/// stop-gradient while everything shrinks.
const ALLOWED: f64 = 0.03;

/// Four arms at a time, as `sim run --jobs` has them; all, so that one run shows everything.
fn every_arm_agrees(place: Open, allowed: f64) {
    let arms = arms();
    let wrong: Vec<&str> = std::thread::scope(|scope| {
        let share = |arms| scope.spawn(move || of_share(arms, |arm| agrees(arm, place, allowed)));
        let shares: Vec<_> = arms.chunks(arms.len().div_ceil(4)).map(share).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap()).collect()
    });
    println!("{} arms", arms.len());
    assert!(wrong.is_empty(), "weights off by {allowed} and more, or a run failed: {wrong:?}");
}

/// The names of those arms of a thread's share that are wrong; one that panics is.
fn of_share(arms: &[(String, Recipe)], agrees: impl Fn(&(String, Recipe)) -> bool) -> Vec<&str> {
    let failed = |arm| !catch_unwind(AssertUnwindSafe(|| agrees(arm))).unwrap_or(false);
    arms.iter().filter(|arm| failed(arm)).map(|(what, _)| what.as_str()).collect()
}

fn gpu() -> Option<Place> {
    Place::find("cuda:0").inspect_err(|why| println!("skipped: {why}")).ok()
}

#[test]
fn every_arm_trains_on_a_gpu_and_changes_devices() {
    let Some(place) = gpu() else { return };
    every_arm_agrees(&|| place.open().unwrap(), ALLOWED);
}

/// A ReLU on the other side is 1.2e-3 at most there; momentum that is lost is more in most arms.
#[test]
#[ignore = "ten minutes"]
fn every_arm_trains_on_the_emulation_and_changes_devices() {
    let Some(device) = emulated_with_library(None) else { return };
    every_arm_agrees(&|| Site::new(Device::Cpu, device.clone()).unwrap(), 3e-3);
}

/// One for each kind of state that a run has: targets of a chunk, a bank, twins, a momentum encoder
/// with and without a queue, prototypes with small crops, labels, a rate of its own for h, a second
/// network beside it, an F that sets it, L of half-steps.
const SOME: [&str; 11] = [
    "multistep, k=10",
    "membank, m=0.8",
    "eta-gap, m=0.5",
    "methods, byol",
    "methods, moco",
    "swav, multi-crop",
    "batch-methods, supervised-small",
    "predictor, constant",
    "dispute, inverse",
    "dispute, direct",
    "em-objective, k=10+h",
];

/// The emulation adds up as the processor does, nearly everywhere: of all arms three end further
/// than 1e-4 from it, at most 1.2e-3, none of them here. Momentum that is lost on its way to a
/// device is 2.8e-2 in the first (8.6e-3 in parts).
#[test]
fn arms_train_on_the_emulation_and_change_devices() {
    let Some(device) = emulated_with_library(None) else { return };
    let arms = arms();
    for name in SOME {
        let arm = arms.iter().find(|(what, _)| what == name).unwrap();
        assert!(agrees(arm, &|| Site::new(Device::Cpu, device.clone()).unwrap(), 1e-4), "{name}");
    }
}

/// A library's gaps are told once each, and plain loops give the same run.
#[test]
fn what_a_library_has_no_algorithm_for_is_told() {
    let Some(device) = emulated_with_library(Some(1)) else { return };
    let site = Site::new(Device::Cpu, device).unwrap();
    let (_, recipe) = arms().remove(0);
    let dataset = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::open(folder.path(), &toml::to_string(&recipe).unwrap(), false).unwrap();
    let notes = Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if let Progress::Note(note) = progress {
            notes.lock().unwrap().push(note);
        }
    };
    train::run_at(&site, &recipe, &dataset, &dir, &AtomicBool::new(false), &watch).unwrap();
    let notes = notes.into_inner().unwrap();
    let of = |what: &str| notes.iter().filter(|note| note.contains(what)).count();
    // The two convolutions beside the strided blocks, in evaluation with batches of its own too.
    assert_eq!((of("the weights' gradient of"), of("the input's gradient of")), (2, 2), "{notes:?}");
    assert!(of("1×1/2+0: there is no fast algorithm") == notes.len() && notes.len() >= 6, "{notes:?}");
    let different: std::collections::HashSet<_> = notes.iter().collect();
    assert_eq!(different.len(), notes.len());
    run(&recipe, &dataset, &folder.path().join("cpu"), &[&Site::default], u64::MAX);
    assert!(difference(&folder.path().join("cpu"), folder.path()) < 1e-4);
}

/// kNN after training `recipe`, in per cent.
fn knn(recipe: &Recipe, dataset: &Arc<Dataset>, open: Open) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    run(recipe, dataset, folder.path(), &[open], u64::MAX);
    let text = std::fs::read_to_string(folder.path().join("metrics.csv")).unwrap();
    let cells = |line: &str| line.split(',').map(String::from).collect::<Vec<_>>();
    let column = cells(text.lines().next().unwrap()).iter().position(|name| name == "val/knn_top1").unwrap();
    cells(text.lines().last().unwrap())[column].parse().unwrap()
}

/// Values and their gradients in 16 bits against f32, on the same images: CIFAR names their folder.
#[test]
#[ignore = "half an hour, and CIFAR-10 as class folders of JPEG"]
fn bf16_on_a_device_learns_as_well_as_f32() {
    let Ok(folder) = std::env::var("CIFAR") else { return println!("skipped: CIFAR is not set") };
    let set = [
        "schedule.epochs=10",
        "data.train_images=10000",
        "data.test_images=10000",
        "measure.every=10",
        "measure.probe_epochs=0",
    ];
    let recipe = |seed: u64, precision: &str| {
        let set =
            set.map(String::from).into_iter().chain([format!("encoder.precision={precision:?}")]).collect();
        let data = Some(format!("folder:{folder}"));
        let request = Request { scale: Some("laptop".into()), data, set, ..Request::default() };
        let arm = Study::find("simsiam").unwrap().resolve(&request).unwrap().remove(0);
        Recipe { seed, ..arm.recipe }
    };
    let dataset = Arc::new(Dataset::open(&recipe(0, "f32").data).unwrap());
    let emulated = emulated_with_library(None).map(|device| Site::new(Device::Cpu, device).unwrap());
    let emulation = || emulated.clone().unwrap();
    let place = gpu();
    if place.is_none() && emulated.is_none() {
        return println!("skipped: neither a GPU nor its emulation");
    }
    let on_gpu = || place.unwrap().open().unwrap();
    let there: Open = if place.is_some() { &on_gpu } else { &emulation };
    let mut sum = 0.0;
    for seed in 0..3 {
        let [f32, bf16] = ["f32", "bf16"].map(|precision| {
            // In f32 the processor computes the same, faster.
            let open: Open = if precision == "f32" { &Site::default } else { there };
            knn(&recipe(seed, precision), &dataset, open)
        });
        println!("seed {seed}: kNN {f32:.2} % in f32, {bf16:.2} % in bf16");
        sum += bf16 - f32;
    }
    let difference = sum / 3.0;
    println!("bf16 − f32: {difference:.2}");
    assert!(difference > -1.0, "bf16 learns less: {difference:.2} points");
}
