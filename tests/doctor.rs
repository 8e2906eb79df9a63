//! `sim doctor`: planted faults and what is said of them, healthy configurations of which nothing
//! is said, and the command itself.

use crate::support::{root, within};
use image::{Rgb, RgbImage};
use serde_json::Value;
use simsiam_em::data::shapes::{ShapesConfig, render};
use simsiam_em::data::{DataConfig, Dataset};
use simsiam_em::device::Site;
use simsiam_em::doctor::diagnosis::Severity;
use simsiam_em::doctor::{Effort, Examination, examine, sampled};
use simsiam_em::recipe::Recipe;
use simsiam_em::study::{Request, Study};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

const CLASSES: usize = 4;
/// Training and held-out images of a class.
const OF_A_CLASS: [usize; 2] = [40, 10];

/// A folder of class folders whose images are `picture` of a number that no two have in common.
fn folder(picture: impl Fn(usize) -> RgbImage) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (half, name) in ["train", "test"].into_iter().enumerate() {
        for i in 0..CLASSES * OF_A_CLASS[half] {
            let class = root.path().join(name).join(format!("class-{}", i % CLASSES));
            std::fs::create_dir_all(&class).unwrap();
            picture(1000 * half + i).save(class.join(format!("{i:03}.png"))).unwrap();
        }
    }
    root
}

/// Procedural image `number` of `size` pixels.
fn shape(number: usize, size: usize) -> RgbImage {
    let config = ShapesConfig { classes: CLASSES, ..ShapesConfig::default() };
    let image = render(&config, 7, 0, number, size);
    RgbImage::from_raw(size as u32, size as u32, image.pixels).unwrap()
}

fn constant(number: usize) -> RgbImage {
    RgbImage::from_pixel(16, 16, Rgb([(37 * number) as u8, (91 * number) as u8, (53 * number) as u8]))
}

fn padded(number: usize) -> RgbImage {
    let inner = shape(number, 16);
    RgbImage::from_fn(48, 48, |x, y| match (x.checked_sub(16), y.checked_sub(16)) {
        (Some(x @ 0..16), Some(y @ 0..16)) => *inner.get_pixel(x, y),
        _ => Rgb([255, 255, 255]),
    })
}

/// Images that their colour tells apart.
fn tinted(number: usize) -> RgbImage {
    let mut image = shape(number, 16);
    let tint = [37 * number, 91 * number, 53 * number].map(|n| n % 256);
    for pixel in image.pixels_mut() {
        pixel.0 =
            std::array::from_fn(|channel| ((usize::from(pixel.0[channel]) + 3 * tint[channel]) / 4) as u8);
    }
    image
}

fn marked(number: usize) -> RgbImage {
    let mut image = shape(number, 24);
    for (x, y) in (12..22).flat_map(|x| (14..22).map(move |y| (x, y))) {
        image.put_pixel(x, y, if (x + y) % 3 == 0 { Rgb([200, 0, 0]) } else { Rgb([255, 255, 255]) });
    }
    image
}

/// The recipe of the first arm of `study` at the smallest scale, long enough to be judged.
fn recipe(study: &str, source: &str, set: &[&str]) -> Recipe {
    let long = ["schedule.epochs=40"];
    let request = Request {
        scale: Some("smoke".into()),
        data: Some(source.into()),
        set: long.iter().chain(set).map(|set| set.to_string()).collect(),
        ..Request::default()
    };
    let arm = Study::find(study).unwrap().resolve(&request).unwrap().remove(0);
    arm.recipe.with_seed(arm.seeds[0])
}

fn examined(recipe: &Recipe) -> Examination {
    let dataset = Dataset::open(&sampled(&recipe.data)).unwrap();
    // Few steps: networks are small, and a test is to be short.
    let effort = Effort { site: &Site::default(), stop: &AtomicBool::new(false), tell: &|_| {}, steps: 60 };
    examine(recipe, &dataset, None, &effort).unwrap()
}

/// Ids of what is worse than a note, with the trial of the recipe as it is.
fn alarms(found: &Examination) -> Vec<&'static str> {
    found.diagnoses.iter().filter(|d| d.severity != Severity::Note).map(|d| d.id).collect()
}

fn shown(name: &str, found: &Examination) -> String {
    let trials = found.facts.trials.iter().map(|trial| {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
        format!("{} {} {}", trial.name, number(trial.z_std), number(trial.rankme))
    });
    let trials: Vec<String> = trials.collect();
    format!("{name}: {:?}   [{}]", alarms(found), trials.join("; "))
}

/// Planted faults: the images, the changed keys, and what is to be said.
const FAULTS: [(&str, &str, &[&str], &str); 18] = [
    ("constant images", "constant", &[], "flat-images"),
    ("one image copied", "copied", &[], "copies"),
    ("all-white padding", "padded", &[], "border"),
    ("a watermark", "marked", &[], "shared-region"),
    ("held-out copies", "leaking", &[], "held-out-copies"),
    ("crops that never overlap", "plain", &["augment.crop_scale=[0.01,0.02]"], "crops-apart"),
    (
        "views identical",
        "plain",
        &["augment.crop_scale=[1.0,1.0]", "augment.flip=0.0", "augment.jitter=0.0", "augment.grayscale=0.0"],
        "views-alike",
    ),
    ("no change of colours", "tinted", &["augment.jitter=0.0", "augment.grayscale=0.0"], "colour-shortcut"),
    ("batch of 2", "plain", &["schedule.batch=2"], "small-batch"),
    ("batch beyond the images", "plain", &["schedule.batch=256"], "batch-repeats"),
    ("rate too high", "plain", &["optim.base_lr=800"], "high-rate"),
    ("no batch norm", "plain", &["encoder.projector.norm=none", "predictor.mlp.norm=none"], "no-batch-norm"),
    ("projector too wide", "plain", &["encoder.projector.dim=512"], "wide-projector"),
    ("no stop-gradient", "plain", &["eta=none"], "no-stop-gradient"),
    ("no predictor", "plain", &["predictor.none={}"], "no-predictor"),
    ("slow predictor", "plain", &["optim.predictor_rate=0.01"], "slow-predictor"),
    ("strong weight decay", "plain", &["optim.weight_decay=0.2"], "strong-decay"),
    ("a short run", "plain", &["schedule.epochs=3"], "short-run"),
];

#[test]
fn every_planted_fault_gets_its_diagnosis() {
    let plain = folder(|number| shape(number, 16));
    let folders = [
        ("plain", plain),
        ("constant", folder(constant)),
        ("copied", folder(|_| shape(3, 16))),
        ("padded", folder(padded)),
        ("marked", folder(marked)),
        ("tinted", folder(tinted)),
        ("leaking", folder(|number| shape(number % 1000, 16))),
    ];
    let mut missed = Vec::new();
    for (name, images, set, expected) in FAULTS {
        let path = folders.iter().find(|(name, _)| *name == images).unwrap().1.path();
        let found = examined(&recipe("simsiam", &format!("folder:{}", path.display()), set));
        println!("{}", shown(name, &found));
        assert!(!found.healthy, "{name}");
        let diagnosis = found.diagnoses.iter().find(|diagnosis| diagnosis.id == expected);
        if diagnosis.is_none_or(|d| d.severity == Severity::Note || d.remedy.is_empty() || d.why.is_empty()) {
            missed.push(shown(name, &found));
        }
        // Numbers stand beyond the bounds that they are said to break.
        for evidence in found.diagnoses.iter().flat_map(|diagnosis| &diagnosis.evidence) {
            assert!(evidence.bound.is_broken_by(evidence.value), "{name}: {evidence:?}");
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn of_ten_healthy_configurations_one_gets_an_alarm_at_most() {
    let small = folder(|number| shape(number, 20));
    let large = folder(|number| shape(number, 40));
    let [small, large] = [&small, &large].map(|root| format!("folder:{}", root.path().display()));
    let healthy: [(&str, &str, &[&str]); 10] = [
        ("simsiam", "shapes", &[]),
        ("simsiam", "shapes", &["data.shapes_seed=11", "data.shapes_size=24", "augment.size=20"]),
        ("simsiam", &small, &["schedule.batch=16"]),
        ("simsiam", &large, &["schedule.batch=64", "data.train_images=160"]),
        ("simsiam", "shapes", &["optim.base_lr=0.8", "data.train_images=320"]),
        (
            "simsiam",
            &large,
            &["encoder.backbone.resnet8.width=8", "encoder.projector.dim=64", "predictor.mlp.hidden=16"],
        ),
        ("simsiam", "shapes", &["data.shapes_seed=3", "augment.crop_scale=[0.4,1.0]", "schedule.batch=48"]),
        ("byol", &small, &[]),
        ("simclr", "shapes", &["data.shapes_seed=5"]),
        ("multistep", "shapes", &["data.shapes_seed=8", "encoder.projector.layers=3"]),
    ];
    let mut alarmed = Vec::new();
    for (study, source, set) in healthy {
        let found = examined(&recipe(study, source, set));
        println!("{}", shown(&format!("{study} {set:?}"), &found));
        if !alarms(&found).is_empty() {
            alarmed.push(shown(&format!("{study} {set:?}"), &found));
        }
    }
    assert!(alarmed.len() <= 1, "{alarmed:#?}");
}

#[test]
fn the_same_seed_gets_the_same_diagnosis_on_any_number_of_threads() {
    let recipe = recipe("simsiam", "shapes", &["data.train_images=128", "eta=none"]);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        serde_json::to_string(&pool.install(|| examined(&recipe))).unwrap()
    };
    assert_eq!(on(1), on(3));
}

/// What was printed, however it was broken into lines.
fn in_one_line(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn doctor(args: &[&str]) -> std::process::Output {
    within(300, Command::new(env!("CARGO_BIN_EXE_sim")).arg("doctor").args(args).current_dir(root()))
}

#[test]
fn the_command_says_what_its_json_says_and_keeps_to_the_exit_codes() {
    let images = folder(|number| shape(number, 16));
    let data = format!("folder:{}", images.path().display());
    let args = ["--scale", "smoke", "--steps", "50", "--data", &data, "--set", "schedule.batch=2"];
    let text = doctor(&args);
    let said = in_one_line(&text.stdout);
    assert_eq!(text.status.code(), Some(0), "{said}");
    for words in ["fault small-batch: a batch has 2 images", "do: --set schedule.batch=32", "without h"] {
        assert!(said.contains(words), "{said}");
    }
    // What is to be copied stands on one line.
    let printed = String::from_utf8_lossy(&text.stdout).into_owned();
    let long = printed.lines().find(|line| line.chars().count() > 80 && !line.starts_with("        do: "));
    assert_eq!(long, None);
    let json = doctor(&[&args[..], &["--json"]].concat());
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["healthy"], false);
    let found = value["diagnoses"].as_array().unwrap().iter().find(|d| d["id"] == "small-batch").unwrap();
    assert_eq!((&found["severity"], &found["key"]), (&Value::from("fault"), &Value::from("schedule.batch")));
    assert_eq!(found["evidence"][0]["bound"]["at_least"], 8.0);
    assert_eq!(value["facts"]["images"]["looked_at"][0], 160);

    // Recipes with small crops, and batches that are cut into shards.
    let crops = ["swav", "--scale", "smoke", "--steps", "50", "--data", &data, "--set", "schedule.shards=8"];
    assert_eq!(doctor(&crops).status.code(), Some(0));
    let alone = doctor(&[&crops[..], &["--set", "schedule.sync_batch_norm=false"]].concat());
    let said = in_one_line(&alone.stdout);
    for words in [
        "warning small-batch: a shard has 4 images of a batch",
        "do: --set schedule.sync_batch_norm=true",
        "not over each of 8 shards alone",
    ] {
        assert!(said.contains(words), "{said}");
    }

    let bad = images.path().join("train/class-0/000.png");
    std::fs::write(&bad, "no image").unwrap();
    for (args, code, words) in [
        (vec!["--scale", "smoke", "--data", &data], 4, "000.png"),
        (vec!["--data", "folder:/nowhere/at/all"], 4, "/nowhere"),
        (vec!["linear-em"], 2, "closed form"),
        (vec!["--run", "a", "--weights", "b"], 2, "cannot be used with"),
        (vec!["--set", "schedule.batch=0"], 2, "schedule.batch"),
    ] {
        let refused = doctor(&args);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

/// A run of the smallest scale in `out`, and its folder.
fn run_in(out: &Path, set: &[&str]) -> std::path::PathBuf {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["run", "simsiam", "--scale", "smoke", "--seeds", "0..1", "-q", "--out"]).arg(out);
    command.args(set.iter().flat_map(|set| ["--set", *set]));
    within(300, &mut command);
    out.join("simsiam/simsiam/seed-0")
}

#[test]
fn a_run_that_collapsed_or_diverged_is_told_as_such() {
    let out = tempfile::tempdir().unwrap();
    let collapsed =
        run_in(out.path(), &["optim.weight_decay=0.9", "optim.base_lr=2.0", "schedule.epochs=20"]);
    let said = doctor(&["--steps", "50", "--run", collapsed.to_str().unwrap()]);
    let said = in_one_line(&said.stdout);
    assert!(said.contains("fault weights-collapsed") && said.contains("since step"), "{said}");
    assert!(said.contains("strong-decay"), "{said}");
    let weights = collapsed.join("weights.safetensors");
    let said = doctor(&["--steps", "50", "--scale", "smoke", "--weights", weights.to_str().unwrap()]);
    let said = in_one_line(&said.stdout);
    assert!(said.contains("fault weights-collapsed"), "{said}");
    let nowhere = doctor(&["--run", out.path().to_str().unwrap()]);
    assert_eq!(nowhere.status.code(), Some(4), "{}", String::from_utf8_lossy(&nowhere.stderr));
}

#[test]
fn images_without_labels_are_examined_too() {
    let images = tempfile::tempdir().unwrap();
    for number in 0..200 {
        shape(number, 16).save(images.path().join(format!("{number}.png"))).unwrap();
    }
    let source = format!("folder:{}", images.path().display());
    let recipe = recipe("simsiam", &source, &[]);
    let found = examined(&Recipe { data: DataConfig { source, ..recipe.data.clone() }, ..recipe });
    assert_eq!((found.facts.images.classes, found.facts.images.class_sizes), (0, None));
    assert!(found.facts.trials.iter().all(|trial| trial.z_knn_top1.is_none()));
}

#[test]
fn of_few_images_it_is_said_that_they_are_few_and_no_more() {
    let images = tempfile::tempdir().unwrap();
    for (half, count) in [("train", 3), ("test", 1)] {
        let class = images.path().join(half).join("one");
        std::fs::create_dir_all(&class).unwrap();
        (0..count).for_each(|i| shape(i, 16).save(class.join(format!("{i}.png"))).unwrap());
    }
    let source = format!("folder:{}", images.path().display());
    let found = examined(&recipe("simsiam", &source, &["schedule.epochs=60"]));
    assert!(alarms(&found).contains(&"few-images"), "{:?}", alarms(&found));
    assert!(found.diagnoses.iter().all(|diagnosis| diagnosis.severity != Severity::Fault), "{found:?}");
}
