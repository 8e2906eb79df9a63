//! Runs that fine-tune a detector: the same bytes whatever the threads and stops, what they leave,
//! where they begin, and what is refused.

use crate::support::{open_run, output};
use serde_json::Value;
use simsiam_em::measure::average_precision::{Coco, Detection, Overlap, Truth, coco};
use simsiam_em::recipe::{Beginning, Recipe};
use simsiam_em::record::read_metrics;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{Ending, Progress, fine_tune, read_found};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The recipe of an arm of the study at the smallest scale.
fn recipe(arm: &str) -> Recipe {
    let request = Request { scale: Some("smoke".into()), ..Request::default() };
    let arms = Study::find("transfer").unwrap().resolve(&request).unwrap();
    arms.into_iter().find(|one| one.name == arm).unwrap().recipe
}

/// The run of `recipe` in `folder`, once it has gone to its end; it is asked to stop behind each of
/// the steps `stops`.
fn run(recipe: &Recipe, folder: &Path, threads: usize, stops: &[u64]) -> Ending {
    let config = toml::to_string(recipe).unwrap();
    let set = recipe.transfer.as_ref().unwrap().open(recipe.seed).unwrap();
    let digest = set.digest().unwrap();
    for at in stops.iter().map(Some).chain([None]) {
        let stop = AtomicBool::new(false);
        let watch = |progress: Progress| {
            if let (Progress::Step { step, .. }, Some(at)) = (&progress, at) {
                stop.fetch_or(step == at, Ordering::Relaxed);
            }
        };
        let dir = open_run(folder, &config);
        let ending = fine_tune(recipe, (&set, &digest), &dir, threads, &stop, &watch).unwrap();
        match at {
            Some(_) => assert_eq!(ending, Ending::Stopped),
            None => return ending,
        }
    }
    unreachable!("the last one is not asked to stop")
}

/// What a run leaves, without its seconds.
fn bytes(run: &Path) -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    let metrics = String::from_utf8(read("metrics.csv")).unwrap();
    let line = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..3], &cells[4..]].concat().join(",")
    };
    let metrics: Vec<String> = metrics.lines().map(line).collect();
    let files = ["detector.safetensors", "detections.json", "precision.csv"];
    std::iter::once(metrics.join("\n").into_bytes()).chain(files.map(read)).collect()
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_stops() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe("100-scratch");
    let [whole, threads, stopped] = ["whole", "threads", "stopped"].map(|name| folder.path().join(name));
    assert_eq!(run(&recipe, &whole, 1, &[]), Ending::Finished);
    assert_eq!(run(&recipe, &threads, 3, &[]), Ending::Finished);
    // Between two rows, at a row, and behind the last step, before the detector is judged.
    assert_eq!(run(&recipe, &stopped, 1, &[2, 3, 4, 6]), Ending::Finished);
    assert!(bytes(&whole) == bytes(&threads));
    assert!(bytes(&whole) == bytes(&stopped));
    // A result that was lost is made again from the last checkpoint.
    std::fs::remove_file(threads.join("detections.json")).unwrap();
    assert_eq!(run(&recipe, &threads, 1, &[]), Ending::Finished);
    assert!(bytes(&whole) == bytes(&threads));

    let table = read_metrics(&whole.join("metrics.csv")).unwrap();
    assert_eq!(
        table.points("epoch", "train/loss").iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(),
        [1.5, 3.0]
    );
    assert_eq!(table.points("epoch", "det/ap").len(), 1, "measured at the end");
    judged_again(&recipe, &whole);
}

/// AP of the detections that `run` left is what its metrics say.
fn judged_again(recipe: &Recipe, run: &Path) {
    let set = recipe.transfer.as_ref().unwrap().open(recipe.seed).unwrap();
    let found: Vec<Detection> = read_found(run).unwrap().unwrap();
    let truths = (0..set.test.len()).flat_map(|image| {
        set.test.objects(image).into_iter().map(move |object| Truth {
            image,
            class: object.class,
            bounding_box: object.bounding_box,
            mask: object.mask,
            area: object.area,
            crowd: object.crowd,
        })
    });
    let truths: Vec<Truth> = truths.collect();
    let table = read_metrics(&run.join("metrics.csv")).unwrap();
    for (overlap, columns) in [
        (Overlap::Boxes, ["det/ap", "det/ap50", "det/ap75"]),
        (Overlap::Masks, ["seg/ap", "seg/ap50", "seg/ap75"]),
    ] {
        let Coco { numbers, precision, .. } = coco(&truths, &found, set.classes.len(), overlap).unwrap();
        for (column, number) in columns.into_iter().zip(numbers) {
            assert_eq!(table.last(column), number.map(|number| 100.0 * number), "{column}");
        }
        // AP at one threshold is the mean of its curve; sums of a hundred numbers of 1 at most.
        for (curve, number) in precision.iter().zip(&numbers[1..3]) {
            let mean = curve.iter().sum::<f64>() / curve.len() as f64;
            assert!((mean - number.unwrap()).abs() < 1e-12, "{mean}, {number:?}");
        }
    }
}

#[test]
fn a_rate_beyond_all_reason_diverges() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("100-scratch");
    recipe.transfer.as_mut().unwrap().lr = 1e30;
    let dir = folder.path().join("run");
    assert!(matches!(run(&recipe, &dir, 1, &[]), Ending::Diverged { .. }));
    assert!(matches!(run(&recipe, &dir, 1, &[]), Ending::Diverged { .. }), "it stays so");
}

fn said(folder: &Path, args: &[&str], code: i32) -> String {
    let ended = output(folder, args);
    let text =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(code), "{args:?}: {text}");
    text
}

/// The folders in `folder`.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[test]
fn a_pre_training_is_made_once_and_taken_from_other_studies() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let mine = "title = \"Mine\"\nquestion = \"?\"\nbase = \"simsiam\"\n\
                [transfer]\nsize = 32\nimages = 4\ntest_images = 2\nbatch = 4\nsteps = 2\nprecise_batches = 1\n\
                [[arm]]\nname = \"trained\"\n[[arm]]\nname = \"faster\"\ntransfer.lr = 0.2\n\
                [[arm]]\nname = \"permuted\"\ntransfer.from = \"permuted\"\n\
                [[arm]]\nname = \"random\"\ntransfer.from = \"init\"\n";
    std::fs::write(here.join("mine.toml"), mine).unwrap();
    let flags = ["--scale", "smoke", "--seeds", "1", "--jobs", "2", "-q"];
    said(here, &[&["run", "mine.toml"][..], &flags].concat(), 0);
    let made = folders(&here.join("runs/pretraining"));
    assert_eq!(made.len(), 1, "{made:?}");
    let began = |out: &str, arm: &str| {
        let env = std::fs::read(here.join(out).join("mine").join(arm).join("seed-0/env.json")).unwrap();
        serde_json::from_slice::<Value>(&env).unwrap()["init"]["weights"].as_str().map(String::from)
    };
    let weights = began("runs", "trained").unwrap();
    assert!(weights.starts_with("runs/pretraining/"), "{weights}");
    assert_eq!(began("runs", "faster"), Some(weights.clone()));
    assert_eq!(began("runs", "permuted"), Some(weights));
    assert_eq!(began("runs", "random"), None);
    let first_loss = |arm: &str| {
        let run = here.join("runs/mine").join(arm).join("seed-0/metrics.csv");
        read_metrics(&run).unwrap().points("epoch", "train/loss")[0].1
    };
    assert_ne!(first_loss("trained"), first_loss("permuted"));
    assert_ne!(first_loss("trained"), first_loss("random"));
    // Where another study has made it, nobody makes it again.
    let out = [&flags[..], &["--out", "other"]].concat();
    said(here, &[&["run", "methods", "--only", "0"][..], &out].concat(), 0);
    said(here, &[&["run", "mine.toml"][..], &out].concat(), 0);
    assert!(!here.join("other/pretraining").exists());
    assert_eq!(began("other", "trained").unwrap(), "other/methods/simsiam/seed-0/weights.safetensors");
    let detector =
        |out: &str| std::fs::read(here.join(out).join("mine/trained/seed-0/detector.safetensors")).unwrap();
    assert!(detector("runs") == detector("other"));
    // A page shows what was found; a folder of a detector is no encoder's.
    let page = std::fs::read_to_string(here.join("runs/mine/report.html")).unwrap_or_default();
    assert!(page.contains("what was found of them"), "no sheet");
    let text =
        said(here, &["embed", "--weights", "runs/mine/trained/seed-0", "--images", ".", "--out", "x.npy"], 4);
    assert!(text.contains("fine-tunes a detector"), "{text}");
}

#[test]
fn what_cannot_be_fine_tuned_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q"];
    for (set, code, says) in [
        (&["transfer.images=1"][..], 2, "transfer.images"),
        (&["transfer.images=0"], 2, "transfer.images"),
        (&["transfer.lr=0"], 2, "transfer.lr"),
        (&["transfer.lr=nan"], 2, "transfer.lr"),
        (&["transfer.rate=0.1"], 2, "rate"),
        (&["transfer.data=coco:nowhere"], 4, "nowhere"),
        (&["transfer.data=cats"], 2, "not one of scenes"),
        (&["transfer.from=scratch"], 2, "scratch"),
        (&["transfer.images=20", "encoder.backbone.mlp.widths=[16]"], 2, "MLP"),
        (&["transfer.images=4", "transfer.batch=2", "transfer.test_images=0"], 2, "transfer.test_images"),
    ] {
        let set = set.iter().flat_map(|set| ["--set", set]);
        let text = said(here, &run.into_iter().chain(set).collect::<Vec<_>>(), code);
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn arms_begin_as_the_study_says() {
    assert_eq!(recipe("100-scratch").first(), None);
    let (plain, permuted) = (recipe("100-simsiam"), recipe("500-permuted"));
    assert_eq!(permuted.transfer.as_ref().unwrap().from, Beginning::Permuted);
    assert!(plain.first().is_some() && plain.first() == permuted.first(), "they begin with one run");
    let request = Request { scale: Some("smoke".into()), ..Request::default() };
    let methods = Study::find("methods").unwrap().resolve(&request).unwrap();
    for arm in ["simsiam", "simclr", "moco", "byol", "swav"] {
        let method = methods.iter().find(|one| one.name == arm).unwrap();
        assert_eq!(recipe(&format!("500-{arm}")).first().as_ref(), Some(&method.recipe), "{arm}");
    }
}
