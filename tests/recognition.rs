//! Verification and one-shot recognition: numbers that were computed in Python, pairs and
//! episodes on procedural handwriting, the commands on trained weights, and hostile lists of pairs.

use crate::support::{golden, max_difference, picture, refused, said};
use candle_core::{Device, Tensor, Var};
use ndarray::Array2;
use serde_json::Value;
use simsiam_em::data::{DataConfig, Dataset, Exif, GlyphsConfig, images_of_pairs, read_pairs};
use simsiam_em::measure::one_shot::{Classifier, Episode, accuracy};
use simsiam_em::measure::verification::{equal_error_rate, fold_accuracy, roc_auc, tar_at_far};
use simsiam_em::network::read_weights;
use simsiam_em::objective::{ObjectiveConfig, Similarity};
use simsiam_em::study::{Request, Study};
use std::path::Path;

fn cases(name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn places(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as usize).collect()
}

/// Ratios of small whole numbers, and sums of a few hundred of them.
fn agrees(got: f64, expected: &Value, what: &str) {
    assert!((got - expected.as_f64().unwrap()).abs() < 1e-12, "{what}: {got}, {expected}");
}

#[test]
fn verification_has_the_numbers_that_python_computed() {
    for case in cases("verification.json") {
        let (name, scores) = (case["name"].as_str().unwrap(), floats(&case["scores"]));
        let same: Vec<bool> = places(&case["labels"]).into_iter().map(|label| label == 1).collect();
        agrees(roc_auc(&scores, &same).unwrap(), &case["auc"], name);
        agrees(equal_error_rate(&scores, &same).unwrap(), &case["eer"], name);
        for (far, tar) in case["tar_at_far"].as_object().unwrap() {
            agrees(tar_at_far(&scores, &same, far.parse().unwrap()).unwrap(), tar, name);
        }
        let ends = places(&case["folds"]);
        let fold = |pair: usize| ends.iter().filter(|end| **end <= pair).count() - 1;
        let folds: Vec<usize> = (0..scores.len()).map(fold).collect();
        let got = fold_accuracy(&scores, &same, &folds).unwrap();
        assert_eq!(got.thresholds, floats(&case["thresholds"]), "{name}");
        let by_fold = floats(&case["fold_accuracy"]);
        assert!(got.by_fold.iter().zip(&by_fold).all(|(a, b)| (a - b).abs() < 1e-12), "{name}");
        agrees(got.mean, &case["accuracy"], name);
        agrees(got.standard_error, &case["standard_error"], name);
    }
}

#[test]
fn one_shot_answers_and_intervals_are_those_that_python_computed() {
    for case in cases("one_shot.json") {
        let rows: Vec<Vec<f64>> = case["embeddings"].as_array().unwrap().iter().map(floats).collect();
        let x = Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32);
        let lists = |value: &Value| value.as_array().unwrap().iter().map(places).collect::<Vec<_>>();
        let of = |episode: &Value| Episode {
            support: lists(&episode["support"]),
            query: lists(&episode["query"]),
        };
        let golden = case["episodes"].as_array().unwrap();
        let episodes: Vec<Episode> = golden.iter().map(of).collect();
        for (by, name) in [
            (Classifier::Nearest, "nearest_cosine"),
            (Classifier::Prototype, "prototype_euclidean"),
            (Classifier::PrototypeCosine, "prototype_cosine"),
        ] {
            for (episode, golden) in episodes.iter().zip(golden) {
                assert_eq!(episode.answers(x.view(), by), places(&golden["answers"][name]), "{name}");
            }
            let summary = &case["summary"][name];
            let got = accuracy(&episodes, x.view(), by).unwrap();
            agrees(got.mean, &summary["mean"], name);
            // The quantile of Student's t is found by iteration.
            let half_width = summary["half_width"]["student"].as_f64().unwrap();
            assert!((got.half_width.unwrap() - half_width).abs() < 1e-9, "{name}");
        }
    }
}

/// Each pair is a batch of two images; PyTorch has the mean over all pairs.
#[test]
fn the_contrastive_loss_and_its_gradients_are_pytorchs() {
    let tensors = read_weights(&golden("contrastive.safetensors")).unwrap();
    let values = |name: &str| tensors[name].1.clone();
    let (a, b, same, margin) = (values("a"), values("b"), values("same"), values("margin")[0]);
    let (pairs, dim) = (same.len(), a.len() / same.len());
    let objective = ObjectiveConfig {
        similarity: Similarity::Contrastive,
        margin: f64::from(margin),
        ..ObjectiveConfig::default()
    };
    let (mut sum, mut d_a, mut d_b) = (0.0, Vec::new(), Vec::new());
    for (pair, same) in same.iter().enumerate() {
        let of = pair * dim..(pair + 1) * dim;
        let z = [&a[of.clone()], &b[of]].concat();
        let z = Var::from_tensor(&Tensor::from_vec(z, (1, 2, dim), &Device::Cpu).unwrap()).unwrap();
        let never = f32::NEG_INFINITY;
        let eta = if *same == 1.0 { [0.0, never, 0.0, never] } else { [0.0, never, never, 0.0] };
        let eta = Tensor::from_slice(&eta, (1, 2, 2), &Device::Cpu).unwrap();
        let loss = objective.loss(&z, &eta, None).unwrap();
        sum += f64::from(loss.to_scalar::<f32>().unwrap());
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&z).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let share = |part: &[f32]| part.iter().map(|v| v / pairs as f32).collect::<Vec<_>>();
        d_a.extend(share(&gradient[..dim]));
        d_b.extend(share(&gradient[dim..]));
    }
    // Distances come from products of vectors of some 30 squared, of which f32 leaves 2e-6.
    let loss = values("loss")[0];
    assert!((sum / pairs as f64 - f64::from(loss)).abs() < 1e-5 * f64::from(loss), "{sum}, {loss}");
    assert!(max_difference(&d_a, &values("d_a")) < 1e-5);
    assert!(max_difference(&d_b, &values("d_b")) < 1e-5);
}

fn glyphs() -> DataConfig {
    DataConfig { train_images: 30, test_images: 20, ..DataConfig::all_of("glyphs") }
}

#[test]
fn handwriting_is_a_data_set_with_strangers() {
    let dataset = Dataset::open(&glyphs()).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len(), dataset.classes.len()), (30, 20, 100));
    assert_eq!(dataset.train.label(7), dataset.test.label(7));
    assert_eq!(dataset.drawn_with, Some(0));
    let strangers = dataset.strangers.as_ref().unwrap();
    assert_eq!(strangers.alphabets().len(), 200);
    assert_eq!(strangers.images().each_ref().map(|split| split.len()), [4000, 1000]);
    let other = DataConfig { glyphs: GlyphsConfig { jitter: 0.1, ..GlyphsConfig::default() }, ..glyphs() };
    assert_ne!(Dataset::open(&other).unwrap().digest, dataset.digest);
    let without = DataConfig { glyphs: GlyphsConfig { unseen: 0, ..GlyphsConfig::default() }, ..glyphs() };
    assert!(Dataset::open(&without).unwrap().strangers.is_none());
    let wrong = DataConfig { glyphs: GlyphsConfig { identities: 0, ..GlyphsConfig::default() }, ..glyphs() };
    assert!(Dataset::open(&wrong).unwrap_err().to_string().contains("data.glyphs.identities"));
}

/// Few strangers, with enough images of each for five examples and three questions.
const FEW: &str =
    "data.glyphs={alphabets=2,identities=10,unseen=20,writings=8,forgeries=2,jitter=0.06,noise=0.04}";

/// The last value of `column` in the metrics of `run`.
fn last(run: &Path, column: &str) -> f64 {
    let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|name| name == column).expect(column);
    text.lines().last().unwrap().split(',').nth(at).unwrap().parse().unwrap()
}

#[test]
fn a_run_measures_what_its_recipe_asks_and_the_command_says_the_same_of_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let one_shot = "measure.one_shot={runs=4,episodes=6,queries=3}";
    said(
        here,
        &["run", "verification", "--scale", "smoke", "--only", "0", "-q", "--set", FEW, "--set", one_shot],
    );
    let run = here.join("runs/verification/simsiam/seed-0");
    let path = run.to_str().unwrap();
    let verified: Value =
        serde_json::from_str(&said(here, &["eval", path, "--on", "verification", "--json"])).unwrap();
    agrees(last(&run, "verify/auc"), &verified["features"]["auc"], "auc");
    agrees(last(&run, "verify/z_auc"), &verified["z"]["auc"], "auc by z");
    agrees(last(&run, "verify/forged_eer") / 100.0, &verified["forged"]["eer"], "eer of forgeries");
    let answered: Value =
        serde_json::from_str(&said(here, &["eval", path, "--on", "one-shot", "--json"])).unwrap();
    let top1 = |task: usize, by: &str| answered["tasks"][task]["by"][by]["top1"].clone();
    agrees(last(&run, "oneshot/top1"), &top1(0, "nearest mean (cosine)"), "20-way");
    agrees(last(&run, "oneshot/five_shot_nearest"), &top1(2, "nearest example (cosine)"), "5-shot");
    let text = said(here, &["eval", path, "--on", "one-shot", "--way", "7", "--shot", "2", "--queries", "3"]);
    assert!(text.contains("7-way 2-shot: 600 episodes, 3 questions of each class\n"), "{text}");
    for (flags, code, says) in [
        (&["--way", "5"][..], 2, "--way belongs to --on one-shot"),
        (&["--on", "verification", "--within"], 2, "--within belongs to --on one-shot"),
        (&["--on", "one-shot", "--pairs", "x"], 2, "--pairs belongs to --on verification"),
        (&["--on", "one-shot", "--way", "41"], 2, "40 identities"),
        (&["--on", "one-shot", "--way", "5", "--shot", "8"], 2, "5 classes with 23 images each"),
        (&["--on", "verification", "--pairs", "nowhere.txt"], 4, "cannot be read as pairs"),
    ] {
        let text = refused(here, &[&["eval", path][..], flags].concat(), code);
        assert!(text.contains(says), "{flags:?}: {text}");
    }
    // A recipe that does not ask has no such columns.
    said(here, &["run", "simsiam", "--scale", "smoke", "--only", "0", "-q"]);
    let plain = std::fs::read_to_string(here.join("runs/simsiam/simsiam/seed-0/metrics.csv")).unwrap();
    assert!(!plain.contains("verify/") && !plain.contains("oneshot/"), "{plain}");

    pairs_of_a_folder(here, path);
}

/// Faces as LFW has them, of which a list names pairs.
fn pairs_of_a_folder(here: &Path, run: &str) {
    for (person, name) in ["Ada_L", "Bob", "Cy"].into_iter().enumerate() {
        for number in 1..=3u8 {
            let shade = 80 * person as u8 + 5 * number;
            picture(&here.join(format!("faces/{name}/{name}_{number:04}.png")), shade);
        }
    }
    let lines = "2\t2\nAda_L\t1\t2\nBob\t1\t3\nAda_L\t1\tBob\t1\nCy\t2\tBob\t2\n\
                 Cy\t1\t2\nCy\t2\t3\nCy\t1\tAda_L\t3\nAda_L\t2\tBob\t3\n";
    std::fs::write(here.join("pairs.txt"), lines).unwrap();
    let pairs = read_pairs(&here.join("pairs.txt")).unwrap();
    let images = images_of_pairs(&pairs, &here.join("faces"), Exif::Ignored).unwrap();
    assert_eq!((images.split.len(), images.places.len()), (9, 8));
    let on = ["eval", run, "--on", "verification", "--pairs", "pairs.txt"];
    let asked = [&on[..], &["--data", "folder:faces"]].concat();
    let verified: Value = serde_json::from_str(&said(here, &[&asked[..], &["--json"]].concat())).unwrap();
    assert_eq!(verified["features"]["pairs"], serde_json::json!([4, 4]));
    assert!(verified["forged"].is_null());
    assert!(said(here, &asked).contains("accuracy over folds"));
    assert!(refused(here, &on, 2).contains("--data folder:DIR"));
    for (from, to, says) in [
        ("Bob\t1\t3", "Bob\t1\t9", "has no image 9 of 'Bob'"),
        ("Bob\t1\t3", "Eve\t1\t3", "has no folder 'Eve'"),
        ("Bob\t1\t3", "../faces/Bob\t1\t3", "no folder's"),
        ("2\t2\n", "10\t300\n", "ends after 8 of the 6000"),
    ] {
        std::fs::write(here.join("pairs.txt"), lines.replacen(from, to, 1)).unwrap();
        let text = refused(here, &asked, 4);
        assert!(text.contains(says), "{text}");
    }
    std::fs::write(here.join("pairs.txt"), [0xff, 0xfe, 0x00]).unwrap();
    refused(here, &asked, 4);
}

#[test]
fn an_arm_begins_with_the_weights_of_another_at_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    said(here, &["run", "verification", "--scale", "smoke", "--seeds", "1", "-q"]);
    let runs = here.join("runs/verification");
    let env = std::fs::read_to_string(runs.join("fine-tuned/seed-0/env.json")).unwrap();
    let env: Value = serde_json::from_str(&env).unwrap();
    let weights = env["init"]["weights"].as_str().unwrap();
    assert!(weights.ends_with("runs/verification/simsiam/seed-0/weights.safetensors"), "{weights}");
    assert!(env["init"]["taken"].as_array().unwrap().contains(&"backbone".into()));
    assert!(!runs.join("fine-tuned/seed-0/pretraining").exists(), "the study's own run is taken");
    let first_row = |arm: &str, place: usize| {
        let text = std::fs::read_to_string(runs.join(arm).join("seed-0/metrics.csv")).unwrap();
        let mut lines = text.lines();
        let at = lines.next().unwrap().split(',').position(|name| name == "verify/auc").unwrap();
        lines.nth(place).unwrap().split(',').nth(at).unwrap().to_string()
    };
    assert_eq!(first_row("fine-tuned", 0), first_row("simsiam", 3), "it begins where that one ends");
    // Alone in a folder, it makes that run first, and ends with the same bytes.
    let arms = Study::find("verification").unwrap();
    let request = Request { scale: Some("smoke".into()), ..Request::default() };
    let arms = arms.resolve(&request).unwrap();
    let place = arms.iter().position(|arm| arm.name == "fine-tuned").unwrap().to_string();
    let alone =
        ["run", "verification", "--scale", "smoke", "--seeds", "1", "-q", "--only", &place, "--out", "alone"];
    said(here, &alone);
    let alone = here.join("alone/verification/fine-tuned/seed-0");
    let firsts = std::fs::read_dir(here.join("alone/pretraining")).unwrap();
    let firsts: Vec<_> = firsts.map(|first| first.unwrap().path().join("seed-0")).collect();
    assert!(firsts.len() == 1 && firsts[0].join("weights.safetensors").is_file(), "{firsts:?}");
    let bytes = |run: &Path| std::fs::read(run.join("weights.safetensors")).unwrap();
    assert!(bytes(&alone) == bytes(&runs.join("fine-tuned/seed-0")));
}

#[test]
fn what_no_arm_can_begin_with_is_refused_with_its_place() {
    let study = |arms: &str| {
        let text = format!("title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n{arms}");
        let request = Request { scale: Some("smoke".into()), ..Request::default() };
        let arms = Study::parse("t", "t.toml", text).and_then(|study| study.resolve(&request));
        format!("{:?}", arms.map(drop).expect_err("it was taken"))
    };
    let first = "[[arm]]\nname = \"a\"\n";
    for (arms, says) in [
        ("[[arm]]\nname = \"b\"\nfrom = \"a\"\n".to_string(), "no arm above"),
        (format!("{first}[[arm]]\nname = \"b\"\nfrom = \"b\"\n"), "no arm above"),
        (
            format!(
                "{first}[[arm]]\nname = \"b\"\nfrom = \"a\"\nseed = 3\n[[arm]]\nname = \"c\"\nfrom = \"b\"\n"
            ),
            "no arm above",
        ),
        (
            format!("{first}[[arm]]\nname = \"b\"\nfrom = \"a\"\nencoder.backbone.resnet8.width = 8\n"),
            "another encoder.backbone",
        ),
    ] {
        let text = study(&arms);
        assert!(text.contains(says), "{arms}: {text}");
    }
    let contrastive = "[[arm]]\nname = \"a\"\nobjective.similarity = \"contrastive\"\n";
    assert!(study(contrastive).contains("eta.labels has"));
    let margin = "[[arm]]\nname = \"a\"\nobjective.margin = 2.0\n";
    assert!(study(margin).contains("objective.margin"));
}
