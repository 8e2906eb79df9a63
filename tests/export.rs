//! Exported backbones: the graph computed by plain tensor operations, files read back, the folder
//! for the hub; and the programs that they are for, where this machine's Python has them.

use crate::support::{golden, max_difference, output, relative_difference, root};
use candle_core::{Device, Tensor};
use prost::Message;
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::Precision;
use simsiam_em::network::config::{Backbone, EncoderConfig, HeadNorm, ProjectorConfig, Stem};
use simsiam_em::network::onnx::proto::{ModelProto, NodeProto};
use simsiam_em::network::onnx::{INPUT, OPSET, OUTPUT};
use simsiam_em::network::{read_weights, read_with_metadata, to_onnx};
use simsiam_em::pickle::{Pickle, Value};
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Model, Preprocessing, Pretrained, weights};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: usize = 16;

/// A model of this backbone whose statistics and normalisations are not those of a new one.
fn model(backbone: Backbone) -> Model {
    let projector = ProjectorConfig { layers: 2, hidden: None, dim: 6, norm: HeadNorm::All };
    let encoder = EncoderConfig::new(backbone, projector);
    let kernel = processor_kernel(Precision::F32).unwrap();
    let model = Model::new(&encoder, &Predictor::None {}, SIZE, 3, &kernel).unwrap();
    let part = model.parts().next().unwrap();
    let mut theta: Vec<f32> = part.theta.to_vec1().unwrap();
    let wave = |i: usize| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.2;
    for p in part.engine.network().parameters().iter().filter(|p| p.torch_shape.len() == 1) {
        (p.offset..p.offset + p.len).for_each(|i| theta[i] += wave(i));
    }
    let running = part.engine.running().unwrap();
    let running: Vec<f32> = running.iter().enumerate().map(|(i, value)| value + wave(i).abs()).collect();
    model.set("encoder", theta, &running).unwrap();
    model
}

/// Three images (3, SIZE, SIZE, 3).
fn images() -> Tensor {
    let values: Vec<f32> = (0..3 * SIZE * SIZE * 3).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    Tensor::from_vec(values, (3, SIZE, SIZE, 3), &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every kind of backbone that is exported.
fn backbones() -> Vec<Backbone> {
    let resnet = |blocks: &[usize], bottleneck, widths: Option<&[usize]>, stem| Backbone::Resnet {
        blocks: blocks.to_vec(),
        bottleneck,
        width: 4,
        widths: widths.map(<[usize]>::to_vec),
        stem,
    };
    vec![
        Backbone::Resnet8 { width: 4 },
        resnet(&[2, 1], false, None, Stem::Imagenet),
        resnet(&[1, 2], true, Some(&[3, 5]), Stem::Cifar),
        Backbone::Mlp { widths: vec![9, 5] },
    ]
}

fn onnx(model: &Model) -> Vec<u8> {
    let part = model.parts().next().unwrap();
    let (theta, running) = (part.theta.to_vec1().unwrap(), part.engine.running().unwrap());
    to_onnx(part.engine.network(), &theta, &running, &[("key".into(), "text".into())]).unwrap()
}

/// The whole numbers of a node's attribute.
fn ints(node: &NodeProto, name: &str) -> Vec<usize> {
    let attribute = node.attribute.iter().find(|a| a.name.as_deref() == Some(name)).unwrap();
    attribute.ints.iter().map(|i| *i as usize).collect()
}

/// The values of one operator by what ONNX says of it.
fn computed(node: &NodeProto, x: &[&Tensor]) -> candle_core::Result<Tensor> {
    let channels = |of: &Tensor, like: &Tensor| {
        let shape: Vec<usize> =
            (0..like.rank()).map(|axis| if axis == 1 { of.elem_count() } else { 1 }).collect();
        of.reshape(shape)
    };
    match node.op_type.as_deref().unwrap() {
        "Conv" => {
            let (pads, strides) = (ints(node, "pads"), ints(node, "strides"));
            assert_eq!(ints(node, "kernel_shape"), x[1].dims()[2..]);
            assert!(pads.iter().all(|pad| *pad == pads[0]) && strides[0] == strides[1]);
            x[0].conv2d(x[1], pads[0], strides[0], 1, 1)
        }
        "BatchNormalization" => {
            let epsilon = f64::from(node.attribute[0].f.unwrap());
            let of = |index: usize| channels(x[index], x[0]);
            let spread = (of(4)? + epsilon)?.sqrt()?;
            x[0].broadcast_sub(&of(3)?)?
                .broadcast_div(&spread)?
                .broadcast_mul(&of(1)?)?
                .broadcast_add(&of(2)?)
        }
        "Relu" => x[0].relu(),
        "Add" => x[0] + x[1],
        "MaxPool" => {
            assert_eq!((ints(node, "kernel_shape"), ints(node, "pads")), (vec![3, 3], vec![1; 4]));
            // Behind a ReLU a zero is no larger than anything.
            x[0].pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)
        }
        "GlobalAveragePool" => x[0].mean_keepdim((2, 3)),
        "Transpose" => x[0].permute(ints(node, "perm")),
        "Flatten" => x[0].contiguous()?.flatten_from(1),
        "Gemm" => x[0].matmul(&x[1].t()?),
        "Identity" => Ok(x[0].clone()),
        other => panic!("an operator {other} that the test does not know"),
    }
}

#[test]
fn the_graph_computes_the_features() {
    for backbone in backbones() {
        let model = model(backbone.clone());
        let read = ModelProto::decode(&onnx(&model)[..]).unwrap();
        assert_eq!(read.opset_import[0].version, Some(OPSET));
        assert_eq!(read.metadata_props[0].key.as_deref(), Some("key"));
        let graph = read.graph.unwrap();
        let mut values: HashMap<String, Tensor> = HashMap::new();
        for tensor in graph.initializer {
            let raw = tensor.raw_data.unwrap();
            let floats: Vec<f32> =
                raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let shape: Vec<usize> = tensor.dims.iter().map(|side| *side as usize).collect();
            let tensor = (tensor.name.unwrap(), Tensor::from_vec(floats, shape, &Device::Cpu).unwrap());
            assert!(!tensor.0.starts_with("fc."), "the projector is no part of a backbone");
            values.insert(tensor.0, tensor.1);
        }
        let x = images();
        values.insert(INPUT.into(), x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap());
        for node in &graph.node {
            let inputs: Vec<&Tensor> = node.input.iter().map(|name| &values[name]).collect();
            let value = computed(node, &inputs).unwrap();
            values.insert(node.output[0].clone(), value);
        }
        let sides = |of: &simsiam_em::network::onnx::proto::ValueInfoProto| -> Vec<Option<i64>> {
            let shape = of.r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap();
            shape.dim.iter().map(|dim| dim.dim_value).collect()
        };
        let features = model.features_dim();
        assert_eq!(sides(&graph.input[0]), [None, Some(3), Some(SIZE as i64), Some(SIZE as i64)]);
        assert_eq!(sides(&graph.output[0]), [None, Some(features as i64)]);
        let (ours, _) = model.evaluate(&x).unwrap();
        assert_eq!(values[OUTPUT].dims(), [3, features]);
        let error = relative_difference(&numbers(&values[OUTPUT]), &numbers(&ours));
        assert!(error < 1e-5, "{backbone:?}: {error:.1e}");
    }
}

/// `sim` in the folder `here`: exit code, stdout, stderr.
fn sim(here: &Path, args: &[&str]) -> (i32, String, String) {
    let output = output(here, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code().unwrap(), text(&output.stdout), stderr)
}

/// A folder with a finished run of these keys, and the run's name in it.
fn lab(set: &[&str]) -> (tempfile::TempDir, &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let set = set.iter().flat_map(|set| ["--set", set]);
    let args = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out", "runs"];
    let args: Vec<&str> = args.into_iter().chain(set).collect();
    let (code, _, said) = sim(folder.path(), &args);
    assert_eq!(code, 0, "{said}");
    (folder, "runs/simsiam/simsiam/seed-0")
}

#[test]
fn a_file_for_torchvision_has_bare_names_and_is_read_back_with_its_preprocessing() {
    let (folder, run) = lab(&[]);
    let here = folder.path();
    let (code, said, _) = sim(here, &["export", run, "--to", "torchvision", "--out", "tv.safetensors"]);
    assert_eq!(code, 0, "{said}");
    let (tensors, metadata) = read_with_metadata(&here.join("tv.safetensors")).unwrap();
    let whole = read_weights(&here.join(run).join("weights.safetensors")).unwrap();
    let backbone = whole.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("encoder.")?, tensor)));
    let backbone: HashMap<&str, _> = backbone.filter(|(name, _)| !name.starts_with("fc.")).collect();
    assert_eq!(tensors.len(), backbone.len());
    assert!(tensors.iter().all(|(name, tensor)| backbone[name.as_str()] == tensor));
    assert_eq!(metadata["format"], "pt");
    assert!(metadata["transforms"].starts_with("Compose([Resize(16), CenterCrop(16)"), "{metadata:?}");
    let [of_run, of_file] = [run, "tv.safetensors"].map(|path| Pretrained::open(&here.join(path)).unwrap());
    assert_eq!(of_run.preprocessing, of_file.preprocessing);
    let x = images();
    let features = |of: &Pretrained| numbers(&of.model(&Default::default()).unwrap().evaluate(&x).unwrap().0);
    assert_eq!(max_difference(&features(&of_run), &features(&of_file)), 0.0);
}

#[test]
fn a_folder_for_the_hub_says_what_the_weights_are_and_what_was_judged() {
    let (folder, run) = lab(&[]);
    let here = folder.path();
    let args = ["export", run, "--to", "hf", "--out", "hub", "--licence", "cc-by-4.0"];
    let (code, said, _) = sim(here, &args);
    assert_eq!(code, 0, "{said}");
    let card = std::fs::read_to_string(here.join("hub/README.md")).unwrap();
    let front = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0;
    for line in ["license: cc-by-4.0", "library_name: pytorch", "pipeline_tag: image-feature-extraction"] {
        assert!(front.lines().any(|have| have == line), "{front}");
    }
    for part in [
        "## Data\n\n`shapes`: 160 training",
        "| `optim.base_lr` |",
        "| `augment.grayscale` | `0.2` |",
        "## Measured",
        "`val/knn_top1`",
        "## Claims and verdicts",
        "| undecided |",
        "sim export --to onnx",
    ] {
        assert!(card.contains(part), "no {part}: {card}");
    }
    let config = std::fs::read(here.join("hub/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["backbone"]["resnet8"]["width"], 4);
    let images = std::fs::read(here.join("hub/preprocessor_config.json")).unwrap();
    let images: serde_json::Value = serde_json::from_slice(&images).unwrap();
    assert_eq!(images["size"]["shortest_edge"], 16);
    assert_eq!(images["image_mean"], serde_json::json!([0.5, 0.5, 0.5]));
    // A run beside its study says nothing of the study's claims.
    std::fs::rename(here.join(run), here.join("moved")).unwrap();
    let (code, said, note) = sim(here, &["export", "moved", "--to", "hf", "--out", "other"]);
    assert!(code == 0 && note.contains("licence is unknown"), "{said} {note}");
    let card = std::fs::read_to_string(here.join("other/README.md")).unwrap();
    assert!(card.contains("license: unknown") && !card.contains("## Claims"), "{card}");
}

#[test]
fn a_card_keeps_the_last_name_of_a_place() {
    let (folder, _) = lab(&[]);
    let here = folder.path().to_path_buf();
    for class in ["cat", "dog"] {
        for half in ["train", "test"] {
            let file = |i: u8| here.join(format!("secret/photos/{half}/{class}/{i}.png"));
            (0..4).for_each(|i| crate::support::picture(&file(i), 50 * i));
        }
    }
    let data = format!("folder:{}", here.join("secret/photos").display());
    let set = ["--set", "schedule.epochs=1", "--set", "schedule.batch=4"];
    let args = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--data", &data, "--out", "own"];
    let (code, _, said) = sim(&here, &[&args[..], &set].concat());
    assert_eq!(code, 0, "{said}");
    let run = "own/simsiam/simsiam/seed-0";
    assert_eq!(sim(&here, &["export", run, "--to", "hf", "--out", "hub"]).0, 0);
    let card = std::fs::read_to_string(here.join("hub/README.md")).unwrap();
    assert!(card.contains("`folder:photos`") && !card.contains("secret"), "{card}");
}

#[test]
fn what_cannot_be_exported_is_told_and_nothing_is_written() {
    let (folder, mlp) = lab(&["encoder.backbone.mlp.widths=[8]"]);
    let here = folder.path();
    std::fs::create_dir(here.join("there")).unwrap();
    std::fs::write(here.join("file"), "x").unwrap();
    let classifier = golden("checkpoints/classifier.safetensors").display().to_string();
    for (args, code, words) in [
        (&["export", mlp, "--to", "torchvision", "--out", "o"][..], 2, "--to onnx takes any backbone"),
        (&["export", mlp, "--to", "detectron2", "--out", "o"], 2, "--to onnx takes any backbone"),
        (&["export", mlp, "--to", "onnx", "--out", "there"], 2, "is a folder"),
        (&["export", mlp, "--to", "hf", "--out", "file"], 2, "is a file"),
        (&["export", mlp, "--to", "hf", "--out", "o", "--licence", "mit\ntags: x"], 2, "--licence"),
        (&["export", mlp, "--to", "keras", "--out", "o"], 2, "torchvision, onnx, hf"),
        (&["export", "file", "--to", "onnx", "--out", "o"], 4, "neither safetensors nor"),
        (&["export", "runs", "--to", "onnx", "--out", "o"], 4, "expected a run's folder"),
    ] {
        let (ended, _, said) = sim(here, args);
        assert!(ended == code && said.contains(words), "{args:?}: {ended}, {said}");
        assert!(!here.join("o").exists(), "{args:?}");
    }
    assert_eq!(sim(here, &["export", mlp, "--to", "onnx", "--out", "mlp.onnx"]).0, 0);
    // The weights of others have no run: no data, no claims.
    let (code, _, said) = sim(here, &["export", &classifier, "--to", "hf", "--out", "hub"]);
    assert_eq!(code, 0, "{said}");
    let card = std::fs::read_to_string(here.join("hub/README.md")).unwrap();
    assert!(card.contains("How it was trained is not known here") && !card.contains("## Data"));
}

/// This machine's Python where it has all of `packages`; prints that the case is skipped otherwise.
/// SIM_PYTHON names another one.
fn python(packages: &str) -> Option<PathBuf> {
    let python = std::env::var_os("SIM_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let import = Command::new(&python).args(["-c", &format!("import {packages}")]).output();
    if import.is_ok_and(|import| import.status.success()) {
        return Some(python);
    }
    println!("skipped: this machine's Python lacks one of {packages} (set SIM_PYTHON to one that has them)");
    None
}

/// The largest difference of features by Python's `program`, run on `file`, and `model`'s, over
/// their largest value.
fn difference(python: &Path, program: &str, file: &Path, model: &Model) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let x = images();
    let raw = |x: &Tensor| numbers(x).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let [given, got] = ["x", "y"].map(|name| folder.path().join(name));
    std::fs::write(&given, raw(&x.permute((0, 3, 1, 2)).unwrap())).unwrap();
    let script = root().join("tests/golden/exported.py");
    let mut command = Command::new(python);
    let ran =
        command.arg(script).arg(program).args([file, &given, &got]).arg(SIZE.to_string()).output().unwrap();
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    let features = std::fs::read(&got).unwrap();
    let features: Vec<f32> =
        features.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    relative_difference(&features, &numbers(&model.evaluate(&x).unwrap().0))
}

/// `model` as a weights file, exported to `to` by the command.
fn exported(model: &Model, to: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let preprocessing = Preprocessing { size: SIZE, mean: [0.5; 3], std: [0.5; 3] };
    let bytes = weights::to_safetensors(model, Some(&preprocessing)).unwrap();
    std::fs::write(folder.path().join("w.safetensors"), bytes).unwrap();
    let (code, _, said) = sim(folder.path(), &["export", "w.safetensors", "--to", to, "--out", "exported"]);
    assert_eq!(code, 0, "{said}");
    let out = folder.path().join("exported");
    (folder, out)
}

#[test]
fn onnxruntime_gives_the_same_features() {
    let Some(python) = python("numpy, onnxruntime") else { return };
    for backbone in backbones() {
        let model = model(backbone.clone());
        let (_folder, file) = exported(&model, "onnx");
        let error = difference(&python, "onnx", &file, &model);
        assert!(error < 1e-5, "{backbone:?}: {error:.1e}");
    }
}

#[test]
fn torchvision_and_transformers_give_the_same_features() {
    for (to, packages, stems) in [
        ("torchvision", "numpy, torchvision, safetensors", &[Stem::Cifar, Stem::Imagenet][..]),
        ("hf", "numpy, transformers, torch", &[Stem::Imagenet]),
    ] {
        let Some(python) = python(packages) else { continue };
        for stem in stems {
            let model = model(Backbone::Resnet18 { stem: *stem });
            let (_folder, file) = exported(&model, to);
            let program = if *stem == Stem::Cifar { "torchvision-cifar" } else { to };
            let error = difference(&python, program, &file, &model);
            assert!(error < 1e-5, "{to}, {stem:?}: {error:.1e}");
        }
    }
}

/// Writes what a pickle for detectron2 holds, a tensor a line.
const READ_BACK: &str = "
import pickle, sys
with open(sys.argv[1], 'rb') as file:
    read = pickle.load(file, encoding='latin1')
assert read['matching_heuristics'] is True and read['__author__'] == 'sim', list(read)
for name, array in read['model'].items():
    assert array.dtype == 'float32' and array.flags.c_contiguous, name
    print(name, list(array.shape), array.tobytes().hex())
";

/// detectron2's name in torchvision's words.
fn from_detectron2(name: &str) -> String {
    let mut name = name.trim_start_matches("stem.").replace("shortcut.norm", "downsample.1");
    name = name.replace("shortcut", "downsample.0");
    (1..=4).for_each(|stage| name = name.replace(&format!("res{}.", stage + 1), &format!("layer{stage}.")));
    (1..=3).for_each(|conv| name = name.replace(&format!("conv{conv}.norm"), &format!("bn{conv}")));
    name
}

#[test]
fn detectron2_gets_the_layout_of_mocos_converter() {
    let python = python("numpy");
    for backbone in backbones().into_iter().filter(|backbone| !matches!(backbone, Backbone::Mlp { .. })) {
        let model = model(backbone);
        let (_folder, file) = exported(&model, "detectron2");
        let (_other, torchvision) = exported(&model, "torchvision");
        let expected = read_weights(&torchvision).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let pickle = Pickle::read_within(&bytes, bytes.len()).unwrap();
        let held = pickle.get(pickle.item(pickle.root_id(), "model").unwrap());
        assert!(matches!(held, Value::Dict(entries) if entries.len() == expected.len()));
        let Some(python) = &python else { continue };
        let read = Command::new(python).args(["-c", READ_BACK]).arg(&file).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let text = String::from_utf8(read.stdout).unwrap();
        assert_eq!(text.lines().count(), expected.len());
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap();
            let (shape, hex) = rest.rsplit_once(' ').unwrap();
            let (theirs, values) = &expected[&from_detectron2(name)];
            assert_eq!(shape, format!("{theirs:?}"), "{name}");
            let bytes: String =
                values.iter().flat_map(|v| v.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect();
            assert!(hex == bytes, "{name}");
        }
    }
}
