//! Tracking: numbers that were computed in Python, the correlation and its loss beside PyTorch's,
//! trackers that follow and learn, the command, and hostile folders of sequences.

use crate::support::{golden, max_difference, normal, output, refused, said};
use candle_core::{Device, Tensor, Var};
use serde_json::Value;
use simsiam_em::data::tracks::{HELD_OUT, Sequence, open_otb};
use simsiam_em::kernel::{all_supported, direct_sums};
use simsiam_em::measure::tracking::{Followed, PRECISION};
use simsiam_em::network::{correlate, read_weights};
use simsiam_em::objective::balanced;
use simsiam_em::train::{Pretrained, Track, Tracker};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Sums of at most a few dozen ratios of small whole numbers.
const ROUNDING: f64 = 1e-12;

fn boxes(value: &Value) -> Vec<[f64; 4]> {
    let number = |value: &Value| value.as_f64().unwrap();
    let one = |row: &Value| std::array::from_fn(|i| number(&row[i]));
    value.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn success_and_precision_are_those_that_python_computed() {
    let file: Value = serde_json::from_slice(&std::fs::read(golden("tracking.json")).unwrap()).unwrap();
    let agrees = |got: f64, expected: &Value, what: &str| {
        assert!((got - expected.as_f64().unwrap()).abs() < ROUNDING, "{what}: {got}, {expected}");
    };
    let same = |got: &Followed, expected: &Value| {
        agrees(got.auc, &expected["success_auc"], "auc");
        agrees(got.precision, &expected["precision_20"], "precision");
        agrees(got.success_50, &expected["success_50"], "success");
        agrees(got.overlap, &expected["average_overlap"], "overlap");
    };
    for case in file["cases"].as_array().unwrap() {
        let mut all = Vec::new();
        for sequence in case["sequences"].as_array().unwrap() {
            let (truth, found) = (boxes(&sequence["truth"]), boxes(&sequence["found"]));
            let got = Followed::of(&truth, &found, PRECISION).unwrap();
            same(&got, sequence);
            for (got, expected) in got.success.iter().zip(sequence["success_curve"].as_array().unwrap()) {
                agrees(*got, expected, "curve");
            }
            all.push(got);
        }
        same(&Followed::mean(&all).unwrap(), &case["overall"]);
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_correlation_and_both_gradients_are_pytorchs_on_every_kernel() {
    let tensors = read_weights(&golden("correlation.safetensors")).unwrap();
    let tensor = |name: &str| {
        let (shape, values) = &tensors[&format!("xcorr.{name}")];
        Tensor::from_vec(values.clone(), shape.as_slice(), &Device::Cpu).unwrap()
    };
    for kernel in all_supported() {
        let search = Var::from_tensor(&tensor("search")).unwrap();
        let exemplar = Var::from_tensor(&tensor("exemplar")).unwrap();
        let response = correlate(&search, &exemplar, &kernel).unwrap();
        let loss = (&response * tensor("dy")).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = |var: &Var| numbers(gradients.get(var).unwrap());
        for (got, name) in [
            (numbers(&response), "response"),
            (gradient(&search), "d_search"),
            (gradient(&exemplar), "d_exemplar"),
        ] {
            // Sums of at most 36 products of normal numbers, in f32.
            let difference = max_difference(&got, &numbers(&tensor(name)));
            assert!(difference < 1e-5, "{name} on {}: {difference}", kernel.name());
        }
    }
}

/// Three search windows of each of two exemplars: the response is linear in either map, so that a
/// central difference is exact but for rounding.
#[test]
fn gradients_of_several_windows_are_finite_differences() {
    let kernel = direct_sums().unwrap();
    let (search, exemplar) = (normal(1, (6, 5, 6, 3)), normal(2, (2, 2, 2, 3)));
    let weights = normal(3, (6, 4, 5));
    let loss = |search: &Tensor, exemplar: &Tensor| {
        (correlate(search, exemplar, &kernel).unwrap() * &weights).unwrap().sum_all().unwrap()
    };
    let vars = [Var::from_tensor(&search).unwrap(), Var::from_tensor(&exemplar).unwrap()];
    let gradients = loss(&vars[0], &vars[1]).backward().unwrap();
    for (which, (var, direction)) in
        vars.iter().zip([normal(4, (6, 5, 6, 3)), normal(5, (2, 2, 2, 3))]).enumerate()
    {
        let along = (gradients.get(var).unwrap() * &direction).unwrap().sum_all().unwrap();
        let moved = |by: f64| {
            let moved = (var.as_tensor() + (&direction * by).unwrap()).unwrap();
            let value = if which == 0 { loss(&moved, &exemplar) } else { loss(&search, &moved) };
            f64::from(value.to_scalar::<f32>().unwrap())
        };
        let (along, difference) =
            (f64::from(along.to_scalar::<f32>().unwrap()), (moved(1.0) - moved(-1.0)) / 2.0);
        // Losses of some tens, of 1440 products.
        assert!((along - difference).abs() < 1e-3, "{which}: {along}, {difference}");
    }
    for (search, exemplar) in [
        ((5, 5, 6, 3), (2, 2, 2, 3)),
        ((6, 5, 6, 4), (2, 2, 2, 3)),
        ((6, 5, 6, 3), (2, 6, 6, 3)),
        ((6, 5, 6, 3), (2, 2, 1, 3)),
    ] {
        assert!(correlate(&normal(1, search), &normal(2, exemplar), &kernel).is_err(), "{search:?}");
    }
}

#[test]
fn the_balanced_loss_and_its_gradient_are_pytorchs() {
    let tensors = read_weights(&golden("correlation.safetensors")).unwrap();
    let values = |name: &str| tensors[&format!("balanced.{name}")].1.clone();
    let response = Tensor::from_vec(values("response"), (3, 9, 9), &Device::Cpu).unwrap();
    let response = Var::from_tensor(&response).unwrap();
    // What is within 4 pixels, where a place of the response is 2 of them.
    let [pixels, stride] = values("params")[..] else { panic!("two numbers") };
    let loss = balanced(&response, f64::from(pixels / stride)).unwrap();
    let gradients = loss.backward().unwrap();
    assert!((loss.to_scalar::<f32>().unwrap() - values("loss")[0]).abs() < 1e-6);
    let difference = max_difference(&numbers(gradients.get(&response).unwrap()), &values("gradient"));
    assert!(difference < 1e-7, "{difference}");
}

/// The values of `column` in the metrics of `run`.
fn column(run: &Path, column: &str) -> Vec<Option<f64>> {
    let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|name| name == column).expect(column);
    text.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().parse().ok()).collect()
}

/// A run of the smallest scale that asks for tracking.
fn trained(here: &Path) -> String {
    said(here, &["run", "tracking", "--scale", "smoke", "--only", "0", "-q"]);
    "runs/tracking/simsiam/seed-0".into()
}

fn tracker(run: &Path) -> Tracker {
    let from = Pretrained::open(run).unwrap();
    let model = from.model(&simsiam_em::device::Site::default()).unwrap();
    Tracker::of(&model, &from.backbone().unwrap(), &from.preprocessing, 16).unwrap()
}

#[test]
fn a_run_measures_tracking_and_the_command_says_the_same_of_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let path = trained(here);
    let run = here.join(&path);
    let on = ["eval", &path, "--on", "tracking"];
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&said(here, &[&on[..], &["--json"], more].concat())).unwrap()
    };
    let followed = json(&["--strip", "strip.png"]);
    let agrees = |name: &str, expected: &Value, factor: f64| {
        let got = column(&run, name).last().copied().flatten().unwrap() / factor;
        assert!((got - expected.as_f64().unwrap()).abs() < ROUNDING, "{name}: {got}, {expected}");
    };
    agrees("track/auc", &followed["mean"]["auc"], 1.0);
    agrees("track/precision", &followed["mean"]["precision"], 100.0);
    let tuned = json(&["--tune", "2"]);
    agrees("track/tuned_auc", &tuned["mean"]["auc"], 1.0);
    agrees("track/tuned_near", &tuned["mean"]["near"], 100.0);
    let rows = column(&run, "track/tuned_auc");
    let there: Vec<bool> = rows.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, false, true], "the first weights and the last ones are tuned");
    let strip = image::open(here.join("strip.png")).unwrap();
    assert!(strip.width() > 8 * 192 && strip.height() > 2 * 192, "{} × {}", strip.width(), strip.height());
    assert!(said(here, &[&on[..], &["--tracks", "3", "--exemplar", "24"]].concat()).contains("mean of 3"));
    for (flags, says) in [
        (&["--tracks", "3"][..], "--tracks belongs to --on tracking"),
        (&["--on", "verification", "--strip", "x.png"], "--strip belongs to --on tracking"),
        (&["--on", "tracking", "--way", "5"], "--way belongs to --on one-shot"),
        (&["--on", "tracking", "--pairs", "x"], "--pairs belongs to --on verification"),
        (&["--on", "tracking", "--data", "shapes"], "tracking takes tracks or otb:DIR"),
        (&["--on", "tracking", "--data", "otb:x", "--tracks", "3"], "an OTB folder has its own"),
    ] {
        let text = refused(here, &[&["eval", &path][..], flags].concat(), 2);
        assert!(text.contains(says), "{flags:?}: {text}");
    }
    // An MLP has no maps of features.
    let mlp =
        ["--scale", "smoke", "--only", "0", "--set", "encoder.backbone.mlp.widths=[16]", "--out", "mlp"];
    let run = output(here, &[&["run", "tracking"][..], &mlp].concat());
    let text = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("measure.tracking: an MLP has no stages"), "{text}");
    // A recipe that does not ask has no such columns.
    said(here, &["run", "simsiam", "--scale", "smoke", "--only", "0", "-q"]);
    let plain = std::fs::read_to_string(here.join("runs/simsiam/simsiam/seed-0/metrics.csv")).unwrap();
    assert!(!plain.contains("track/"), "{plain}");
}

#[test]
fn a_tracker_learns_and_its_bytes_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join(trained(folder.path()));
    let sequences: Vec<Sequence> = (0..5).map(|index| Sequence::drawn(1, HELD_OUT, index)).collect();
    let with = |threads: usize, steps: usize| -> (Vec<f64>, Vec<Option<Track>>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let stop = AtomicBool::new(false);
        pool.install(|| {
            let mut tracker = tracker(&run);
            let losses = tracker.tune(1, steps, &stop).unwrap();
            (losses, tracker.follow(&sequences, &stop).unwrap())
        })
    };
    let (losses, _) = with(2, 40);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[35..]));
    assert!(last < 0.95 * first, "{first} to {last}");
    assert_eq!(with(1, 3), with(3, 3));
    let stopped = tracker(&run).follow(&sequences, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(simsiam_em::Error::Stopped)));
}

/// A sequence in OTB's layout: a bright square on grey, `boxes` as the text of its file.
fn otb(folder: &Path, frames: usize, boxes: &str) {
    std::fs::create_dir_all(folder.join("img")).unwrap();
    for number in 0..frames {
        let mut frame = image::RgbImage::from_fn(60, 50, |x, y| {
            image::Rgb([100 + ((x * 7 + y * 13) % 17) as u8, 90, 100])
        });
        for (x, y) in (0..12).flat_map(|y| (0..12).map(move |x| (x, y))) {
            frame.put_pixel(10 + 2 * number as u32 + x, 20 + y, image::Rgb([230, 200 - 8 * x as u8, 220]));
        }
        frame.save(folder.join(format!("img/{:04}.png", number + 1))).unwrap();
    }
    std::fs::write(folder.join("groundtruth_rect.txt"), boxes).unwrap();
}

#[test]
fn folders_of_otb_are_followed_and_hostile_ones_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let path = trained(here);
    let good: String = (0..6).map(|number| format!("{}\t21\t12\t12\n", 11 + 2 * number)).collect();
    otb(&here.join("otb/Square"), 6, &good);
    otb(&here.join("otb/One"), 1, "11,21,12,12");
    let sequences = open_otb(here.join("otb").to_str().unwrap()).unwrap();
    let names: Vec<(&str, usize)> = sequences.iter().map(|s| (s.name.as_str(), s.len())).collect();
    assert_eq!(names, [("One", 1), ("Square", 6)]);
    assert_eq!(sequences[1].boxes()[1], [12.0, 20.0, 12.0, 12.0]);
    let on = |data: &str| -> Vec<String> {
        ["eval", &path, "--on", "tracking", "--data", data].map(String::from).to_vec()
    };
    fn asked(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let mut args = on("otb:otb");
    args.extend(["--strip".into(), "otb.png".into(), "--json".into()]);
    let followed: Value = serde_json::from_str(&said(here, &asked(&args))).unwrap();
    let of = |place: usize| &followed["sequences"][place]["followed"];
    // Of one frame nothing but the given box is asked: above 20 of 21 thresholds.
    assert!((of(0)["auc"].as_f64().unwrap() - 20.0 / 21.0).abs() < ROUNDING, "{followed}");
    // The given box is one of six.
    assert!(of(1)["overlap"].as_f64().unwrap() >= 1.0 / 6.0 - ROUNDING, "{followed}");
    assert_eq!(followed["sequences"][1]["boxes"].as_array().unwrap().len(), 6);
    assert_eq!(followed["threshold"], 20.0);
    assert!(said(here, &asked(&on("otb:otb/Square"))).contains("Square"));
    for (boxes, says) in [
        ("", "is empty"),
        ("11,21,12,12\n", "has boxes of 1 frames, and img/ has 6 images"),
        (&good.replacen("11\t21\t12\t12", "500\t21\t12\t12", 1), "nothing of the image in it"),
        (&good.replacen("11\t21\t12\t12", "11\t21\t0\t0", 1), "nothing of the image in it"),
        (&good.replacen("13\t21", "NaN\t21", 1), "line 2: 'NaN\t21\t12\t12' has a number that is none"),
        (&good.replacen("13\t21", "1e9\t21", 1), "line 2: "),
        (&good.replacen("13\t21", "13\t21\t3", 1), "no box of four numbers"),
    ] {
        std::fs::write(here.join("otb/Square/groundtruth_rect.txt"), boxes).unwrap();
        let text = refused(here, &asked(&on("otb:otb")), 4);
        assert!(text.contains(says), "{boxes:?}: {text}");
    }
    // A box that leaves the image later is an object that has left it.
    let leaves = good.replacen("21\t21", "900\t21", 1);
    std::fs::write(here.join("otb/Square/groundtruth_rect.txt"), leaves).unwrap();
    said(here, &asked(&on("otb:otb")));
    std::fs::write(here.join("otb/Square/groundtruth_rect.txt"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(refused(here, &asked(&on("otb:otb")), 4).contains("cannot be read as boxes"));
    std::fs::write(here.join("otb/Square/groundtruth_rect.txt"), &good).unwrap();
    std::fs::write(here.join("otb/Square/img/0003.png"), b"no image").unwrap();
    assert!(refused(here, &asked(&on("otb:otb")), 4).contains("0003.png"));
    std::fs::remove_file(here.join("otb/Square/img/0003.png")).unwrap();
    assert!(refused(here, &asked(&on("otb:otb")), 4).contains("img/ has 5 images"));
    std::fs::remove_file(here.join("otb/One/groundtruth_rect.txt")).unwrap();
    assert!(refused(here, &asked(&on("otb:otb/One")), 4).contains("has no groundtruth_rect.txt"));
    for nothing in ["otb:nowhere", "otb:runs"] {
        refused(here, &asked(&on(nothing)), 4);
    }
}
