//! `sim embed` and `sim eval`: the run's own preprocessing, rows that can be told apart, and
//! nothing written that is no number.

use crate::support::{golden, save_tensors};
use image::{Rgb, RgbImage};
use simsiam_em::data::{DataConfig, Dataset};
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::Precision;
use simsiam_em::network::config::*;
use simsiam_em::network::read_weights;
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Model, Preprocessing, Pretrained, Protocol, embed, evaluate, weights};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
}

/// Standard output of a command that must succeed.
fn said(args: &[&str]) -> String {
    let output = sim(args);
    assert!(output.status.success(), "sim {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command says that must fail with `code`.
fn refused(args: &[&str], code: i32) -> String {
    let output = sim(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "sim {args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// A trained run, and images of which some lie deeper than others.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        said(&["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out", &lab.path("runs")]);
        for (index, name) in
            ["train/cat/1.png", "train/cat/2.png", "train/cat-b/1.png", "test/cat/3.png", "test/cat-b/2.png"]
                .iter()
                .enumerate()
        {
            lab.picture(name, index as u8);
        }
        lab
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn run(&self) -> String {
        self.path("runs/simsiam/simsiam/seed-0")
    }

    fn picture(&self, name: &str, seed: u8) {
        let path = self.folder.path().join("images").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let noise =
            |x: u32, y: u32| Rgb([1, 2, 3].map(|c| (x * 37 + y * 91 + x * y * c) as u8 ^ (seed * 53)));
        RgbImage::from_fn(21, 18, noise).save(path).unwrap();
    }

    /// The array that `sim embed` makes with these arguments: its shape in words, and its numbers.
    fn embedded(&self, args: &[&str]) -> (String, Vec<f32>) {
        let out = self.path("e.npy");
        let images = self.path("images/train");
        said(&[&["embed", "--images", &images, "--out", &out], args].concat());
        let bytes = std::fs::read(out).unwrap();
        let begin = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..begin]).into_owned();
        (header, bytes[begin..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }
}

#[test]
fn embeddings_are_those_that_evaluation_uses_by_the_runs_own_preprocessing() {
    let lab = Lab::new();
    let (run, file, moved) = (lab.run(), lab.run() + "/weights.safetensors", lab.path("moved.safetensors"));
    std::fs::copy(&file, &moved).unwrap();
    let (header, of_run) = lab.embedded(&["--weights", &run]);
    assert!(header.contains("(3, 16)"), "{header}");
    assert_eq!(lab.embedded(&["--weights", &file]).1, of_run);
    assert_eq!(lab.embedded(&["--weights", &moved]).1, of_run);
    assert_ne!(lab.embedded(&["--weights", &moved, "--mean", "0.4,0.4,0.4"]).1, of_run);
    assert_ne!(lab.embedded(&["--weights", &moved, "--std", "0.2,0.2,0.2"]).1, of_run);
    assert_ne!(lab.embedded(&["--weights", &moved, "--size", "24"]).1, of_run);

    let pretrained = Pretrained::open(Path::new(&run)).unwrap();
    let recipe = pretrained.recipe.clone().unwrap();
    let data =
        DataConfig { source: format!("folder:{}", lab.path("images")), train_images: 0, ..recipe.data };
    let dataset = Dataset::open(&data).unwrap();
    let model = pretrained.model(&Default::default()).unwrap();
    let (features, z) = embed(&model, &dataset.train, &recipe.augment, &Default::default()).unwrap();
    // A data set is read class by class, an embedding in the order of paths: cat-b/1, cat/1, cat/2.
    let row = |row: usize| features.row(row).to_vec();
    assert_eq!([row(2), row(0), row(1)].concat(), of_run);
    let (header, projection) = lab.embedded(&["--weights", &run, "--projection"]);
    assert!(header.contains("(3, 32)"), "{header}");
    assert_eq!(projection[..32], z.row(2).to_vec());

    let said = said(&[
        "embed",
        "--weights",
        &moved,
        "--images",
        &lab.path("images/train"),
        "--out",
        &lab.path("f.npy"),
        "--std",
        "1,1,1",
    ]);
    assert!(
        said.contains("16 pixels, mean 0.5,0.5,0.5, std 1,1,1 (of --std; else of the file's metadata)"),
        "{said}"
    );
}

#[test]
fn weights_of_nobody_known_are_prepared_for_as_imagenets_and_it_is_said() {
    let weights = golden("checkpoints/state_dict.pth");
    let pretrained = Pretrained::open(&weights).unwrap();
    let imagenet = Preprocessing { size: 32, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    assert_eq!(pretrained.preprocessing, imagenet);
    assert!(pretrained.source.contains("--mean"), "{}", pretrained.source);
}

#[test]
fn a_table_beside_the_array_says_which_row_is_which_image() {
    let lab = Lab::new();
    lab.picture("train/.hidden.png", 9);
    lab.picture("train/.thumbs/1.png", 9);
    lab.picture("train/top.png", 8);
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", lab.folder.path().join("images/train/cat/up")).unwrap();
    let (header, _) = lab.embedded(&["--weights", &lab.run()]);
    assert!(header.contains("(4, 16)"), "{header}");
    let table = std::fs::read_to_string(lab.path("e.csv")).unwrap();
    assert_eq!(table, "row,path,label\n0,cat-b/1.png,cat-b\n1,cat/1.png,cat\n2,cat/2.png,cat\n3,top.png,\n");
    let [images, out] = ["images/train", "e.csv"].map(|name| lab.path(name));
    let refused = refused(&["embed", "--weights", &lab.run(), "--images", &images, "--out", &out], 2);
    assert!(refused.contains(".npy"), "{refused}");
}

#[test]
fn evaluation_takes_a_run_or_a_weights_file() {
    let lab = Lab::new();
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&said(&[&["eval", "--json"], args].concat())).unwrap()
    };
    let of_run = json(&[&lab.run()]);
    // The last line of metrics.csv has the same numbers.
    let metrics = std::fs::read_to_string(lab.run() + "/metrics.csv").unwrap();
    let lines: Vec<Vec<&str>> = metrics.lines().map(|line| line.split(',').collect()).collect();
    for (key, column) in [
        ("knn_top1", "val/knn_top1"),
        ("z_knn_top1", "val/z_knn_top1"),
        ("z_std", "val/z_std"),
        ("rankme", "val/rankme"),
        ("linear_top1", "val/linear_top1"),
    ] {
        let at = lines[0].iter().position(|name| *name == column).unwrap();
        let expected: f64 = lines.last().unwrap()[at].parse().unwrap();
        assert!(
            (of_run[key].as_f64().unwrap() - expected).abs() < 1e-6,
            "{key}: {} and {expected}",
            of_run[key]
        );
    }
    let moved = lab.path("moved.safetensors");
    std::fs::copy(lab.run() + "/weights.safetensors", &moved).unwrap();
    assert!(refused(&["eval", &moved], 2).contains("--data"));
    let images = format!("folder:{}", lab.path("images"));
    let of_file = json(&[&moved, "--data", &images]);
    let of_run = json(&[&lab.run(), "--data", &images]);
    for key in ["z_std", "rankme", "singular_values", "preprocessing"] {
        assert_eq!(of_file[key], of_run[key], "{key}");
    }
    assert!(said(&["eval", &lab.run()]).contains("kNN top-1 on z"));
    // Torchvision's classifier is no projector.
    let classifier = golden("checkpoints/classifier.safetensors").display().to_string();
    let text = said(&["eval", &classifier, "--data", &images, "--size", "8"]);
    assert!(text.contains("std(features/‖features‖)·√d") && !text.contains("on z"), "{text}");
    let out = lab.path("p.npy");
    let args =
        ["embed", "--weights", &classifier, "--images", &lab.path("images"), "--out", &out, "--projection"];
    assert!(refused(&args, 4).contains("no projector"));
}

#[test]
fn the_vote_on_outputs_sees_a_collapse_of_which_the_features_know_nothing() {
    let lab = Lab::new();
    let whole = Pretrained::open(Path::new(&lab.run())).unwrap();
    let recipe = whole.recipe.clone().unwrap();
    let mut weights = read_weights(&PathBuf::from(lab.run()).join("weights.safetensors")).unwrap();
    let projector = weights.iter_mut().filter(|(name, _)| name.starts_with("encoder.fc."));
    for (_, (_, values)) in projector.filter(|(name, _)| name.ends_with(".weight")) {
        values.fill(0.0);
    }
    let file = lab.path("collapsed.safetensors");
    save_tensors(&weights, [], Path::new(&file));
    let mut collapsed = Pretrained::open(Path::new(&file)).unwrap();
    collapsed.preprocessing = whole.preprocessing.clone();
    let dataset = Dataset::open(&recipe.data).unwrap();
    let protocol = Protocol { config: &recipe.measure, probe: false, seed: 0 };
    let [whole, collapsed] = [whole, collapsed].map(|pretrained| {
        let model = pretrained.model(&Default::default()).unwrap();
        evaluate(&model, &dataset, &recipe.augment, &protocol, &AtomicBool::new(false)).unwrap()
    });
    assert_eq!(collapsed.knn_top1, whole.knn_top1);
    assert!(collapsed.z_std < 1e-6, "{}", collapsed.z_std);
    // One output for every image: all are given one class, which a share of them has.
    let labels = dataset.test.labels();
    let of_class = |class: u32| labels.iter().filter(|label| **label == class).count();
    let shares: Vec<f64> = (0..dataset.classes.len() as u32)
        .map(|class| 100.0 * of_class(class) as f64 / labels.len() as f64)
        .collect();
    assert!(shares.iter().any(|share| (share - collapsed.z_knn_top1.unwrap()).abs() < 1e-9));
    assert!(
        collapsed.knn_top1.unwrap() > shares.iter().fold(0.0, |a, b| a.max(*b)),
        "{:?}",
        collapsed.knn_top1
    );
}

#[test]
fn weights_and_outputs_that_are_no_numbers_are_refused_and_nothing_is_written() {
    let lab = Lab::new();
    let weights = read_weights(&PathBuf::from(lab.run()).join("weights.safetensors")).unwrap();
    let file = lab.path("bad.safetensors");
    let args = ["embed", "--weights", &file, "--images", &lab.path("images"), "--out", &lab.path("bad.npy")];
    for (value, words) in [(f32::NAN, "'encoder.layer2.0.conv1.weight' holds NaN"), (f32::MAX, "not finite")]
    {
        let mut bad = weights.clone();
        bad.get_mut("encoder.layer2.0.conv1.weight").unwrap().1.fill(value);
        save_tensors(&bad, [], Path::new(&file));
        assert!(refused(&args, 4).contains(words), "{words}");
        let eval = ["eval", &file, "--data", &format!("folder:{}", lab.path("images"))];
        assert!(refused(&eval, 4).contains(words), "{words}");
    }
    assert!(!Path::new(&lab.path("bad.npy")).exists() && !Path::new(&lab.path("bad.csv")).exists());
}

#[test]
fn stages_of_any_width_and_number_are_trained_and_read_back() {
    let lab = Lab::new();
    for (name, resnet, features) in [
        ("widths", r#"{blocks=[1,2],bottleneck=false,width=4,widths=[6,5],stem="cifar"}"#, 5),
        ("stages", r#"{blocks=[1,1,1,1,1,1],bottleneck=false,width=4,stem="cifar"}"#, 128),
    ] {
        let out = lab.path(name);
        let set = format!("encoder.backbone.resnet={resnet}");
        said(&["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out", &out, "--set", &set]);
        let moved = lab.path("moved.safetensors");
        std::fs::copy(out.clone() + "/simsiam/simsiam/seed-0/weights.safetensors", &moved).unwrap();
        let (header, of_file) = lab.embedded(&["--weights", &moved]);
        assert!(header.contains(&format!("(3, {features})")), "{header}");
        assert_eq!(lab.embedded(&["--weights", &(out + "/simsiam/simsiam/seed-0")]).1, of_file);
    }
    let set = r#"encoder.backbone.resnet={blocks=[1,1],bottleneck=false,width=4,widths=[6],stem="cifar"}"#;
    let refused =
        refused(&["run", "simsiam", "--scale", "smoke", "--out", &lab.path("none"), "--set", set], 2);
    assert!(refused.contains("1 widths where blocks has 2 stages"), "{refused}");
}

#[test]
fn a_small_file_whose_activations_fill_memory_is_refused() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let backbone = Backbone::Resnet {
        blocks: vec![1],
        bottleneck: false,
        width: 20_000,
        widths: Some(vec![1]),
        stem: Stem::Cifar,
    };
    let projector = ProjectorConfig { layers: 1, hidden: None, dim: 2, norm: HeadNorm::All };
    let encoder = EncoderConfig::new(backbone, projector);
    let model = Model::new(&encoder, &Predictor::None {}, 8, 0, &kernel).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [file, images, out] =
        ["w.safetensors", "i.png", "o.npy"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&file, weights::to_safetensors(&model, None).unwrap()).unwrap();
    RgbImage::new(8, 8).save(&images).unwrap();
    // 84 GB for the first convolution's outputs alone.
    let args = ["embed", "--weights", &file, "--images", &images, "--out", &out, "--size", "1024"];
    let said = refused(&args, 4);
    assert!(
        said.contains("w.safetensors: one image of 1024×1024 pixels would take") && said.contains("GiB"),
        "{said}"
    );
}
