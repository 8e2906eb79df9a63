//! Weights as people have them: what is read gives PyTorch's features, and what cannot be is
//! refused by a sentence.

use crate::support::{golden, max_difference};
use candle_core::{Device, Tensor};
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::Precision;
use simsiam_em::network::config::*;
use simsiam_em::network::{Tensors, read_weights};
use simsiam_em::recipe::Predictor;
use simsiam_em::train::{Model, weights};
use std::path::Path;

const SIZE: usize = 8;

fn expected(name: &str) -> (Vec<usize>, Vec<f32>) {
    read_weights(&golden("checkpoints/expected.safetensors")).unwrap()[name].clone()
}

fn images() -> Tensor {
    let (shape, values) = expected("images");
    let x = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_kind_of_checkpoint_gives_pytorchs_features() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    for (file, projector) in [
        ("state_dict.pth", true),
        ("protocol_4.pth", true),
        ("before_1.6.pth", true),
        ("model_f16.pth", false),
        ("model_state_dict_f64.pth", true),
        ("parameters_bf16.pth", true),
        ("classifier.safetensors", false),
    ] {
        let tensors = read_weights(&golden("checkpoints").join(file)).unwrap();
        let model = weights::encoder_of(&tensors, SIZE, &kernel).unwrap();
        let (features, z) = model.evaluate(&images()).unwrap();
        let error = max_difference(&numbers(&features), &expected("features").1);
        assert!(error < 1e-5, "{file}: features are off by {error:.1e}");
        let z_of = expected(if projector { "z" } else { "features" }).1;
        let error = max_difference(&numbers(&z), &z_of);
        assert!(error < 1e-4, "{file}: z is off by {error:.1e}");
    }
}

/// What reading the weights of `file` and making an encoder of them says.
fn refusal(file: &Path) -> String {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let read = read_weights(file).and_then(|tensors| weights::encoder_of(&tensors, SIZE, &kernel));
    read.map(drop).unwrap_err().to_string()
}

#[test]
fn files_that_hold_no_weights_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.pth");
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 94496785\n";
    for (bytes, words) in [
        (&b""[..], "is empty"),
        (lfs, "git lfs pull"),
        (b"\n<!DOCTYPE html><html><head><title>Sign in", "HTML page"),
        (b"<HTML>404", "HTML page"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x80\x04\x95\x00", "torch.save(model.state_dict()"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04 broken", "zip archive"),
        (b"not a tensor file", "neither safetensors nor a PyTorch checkpoint"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "breaks off"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let said = refusal(&file);
        assert!(said.contains(words) && said.contains("weights.pth"), "{words}: {said}");
    }
    assert!(refusal(folder.path()).contains("is a folder"));
    assert!(refusal(&golden("checkpoints/whole_model.pth")).contains("model.state_dict()"));
    let optimiser = refusal(&golden("evaluation.safetensors"));
    assert!(optimiser.contains("encoder_q.") && optimiser.contains("'metric."), "{optimiser}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_does_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(refusal(&pipe).contains("a pipe, not a file"));
}

#[test]
fn a_damaged_checkpoint_is_found_by_its_checksums() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(golden("checkpoints/state_dict.pth")).unwrap();
    let file = folder.path().join("damaged.pth");
    for place in [0.1, 0.3, 0.5, 0.7] {
        let mut bytes = whole.clone();
        // A byte that is not padding.
        let from = (place * bytes.len() as f64) as usize;
        let at = (from..bytes.len()).find(|at| bytes[*at] != 0).unwrap();
        bytes[at] ^= 4;
        std::fs::write(&file, &bytes).unwrap();
        if let Ok(read) = read_weights(&file) {
            assert_eq!(read, read_weights(&golden("checkpoints/state_dict.pth")).unwrap(), "byte {at}");
        }
        std::fs::write(&file, &whole[..from]).unwrap();
        assert!(read_weights(&file).is_err(), "cut at {from}");
    }
}

/// The weights of a small model with all parts.
fn whole_model() -> Tensors {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let projector = ProjectorConfig { layers: 2, hidden: None, dim: 6, norm: HeadNorm::All };
    let backbone = Backbone::Resnet8 { width: 2 };
    let encoder = EncoderConfig::new(backbone, projector);
    let predictor = Predictor::Mlp(PredictorConfig { hidden: 3, norm: HeadNorm::Hidden, inverse: true });
    let model =
        Model::new(&encoder, &predictor, SIZE, 0, &kernel).unwrap().with_prototypes(5, 0, &kernel).unwrap();
    let bytes = weights::to_safetensors(&model, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, bytes).unwrap();
    read_weights(&path).unwrap()
}

#[test]
fn a_tensor_of_any_other_shape_is_refused_by_a_sentence() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let whole = whole_model();
    assert!(weights::model_of(&whole, SIZE, &kernel).is_ok());
    for name in whole.keys() {
        let (shape, values) = &whole[name];
        // One prototype more is a model of its own.
        let free = name == "prototypes.0.weight";
        let mut wider = shape.clone();
        wider[0] += 1;
        let len = wider.iter().product();
        for (shape, values) in [
            (vec![], vec![0.0]),
            (vec![0], vec![]),
            (vec![values.len(), 1, 1, 1, 1], values.clone()),
            (vec![1, values.len()], values.clone()),
            (wider, vec![0.0; len]),
        ] {
            if whole[name].0 == shape || free && shape.len() == 2 {
                continue;
            }
            let mut other = whole.clone();
            other.insert(name.clone(), (shape.clone(), values));
            let refused = weights::model_of(&other, SIZE, &kernel).map(drop);
            assert!(refused.is_err(), "{name} of shape {shape:?} was taken");
            if shape.is_empty() {
                let said = weights::encoder_of(&other, SIZE, &kernel).map(drop).unwrap_err().to_string();
                assert!(said.contains(&format!("'{name}' has shape []")), "{said}");
            }
        }
        let mut without = whole.clone();
        without.remove(name);
        // A model without its last part is one with fewer parts.
        let part = name.split('.').next().unwrap();
        if part == "encoder" {
            assert!(weights::model_of(&without, SIZE, &kernel).is_err(), "{name} is not missed");
        }
    }
}

#[test]
fn shapes_are_compared_before_memory_is_taken() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let of = |shapes: &[(&str, &[usize])]| -> Tensors {
        let zeros = |shape: &[usize]| (shape.to_vec(), vec![0.0; shape.iter().product()]);
        shapes.iter().map(|(name, shape)| (name.to_string(), zeros(shape))).collect()
    };
    // 33 GB, 275 GB and 17 GB if their layers were made.
    for shapes in [
        &[("layers.0.weight", &[65_536, 1][..]), ("layers.3.weight", &[65_536, 1])][..],
        &[("conv1.weight", &[3000, 3, 3, 3]), ("layer1.0.conv1.weight", &[65_000, 1, 1, 1])],
        &[("layers.0.weight", &[1, 192]), ("fc.0.weight", &[65_536, 1]), ("fc.3.weight", &[65_536, 1])],
    ] {
        let said = weights::encoder_of(&of(shapes), SIZE, &kernel).map(drop).unwrap_err().to_string();
        assert!(said.contains("tensor"), "{said}");
    }
}

#[test]
fn what_belongs_to_no_layer_is_not_left_out_silently() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    for strange in [
        "encoder.conv1.bias",
        "encoder.layer1.0.conv9.weight",
        "encoder.layer9.0.conv1.weight",
        "predictor.9.weight",
    ] {
        let mut tensors = whole_model();
        tensors.insert(strange.into(), (vec![2], vec![0.5; 2]));
        let said = weights::model_of(&tensors, SIZE, &kernel).map(drop).unwrap_err().to_string();
        assert!(said.contains(strange.split_once('.').unwrap().1), "{said}");
    }
    // A count of batches and a queue are no weights.
    let mut tensors = whole_model();
    tensors.insert("encoder.bn1.num_batches_tracked".into(), (vec![], vec![7.0]));
    tensors.insert("queue".into(), (vec![2], vec![0.5; 2]));
    assert!(weights::model_of(&tensors, SIZE, &kernel).is_ok());
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    for (bad, of) in [(f32::NAN, ""), (f32::INFINITY, ""), (-1.0, "running_var")] {
        for name in whole_model().keys().filter(|name| name.ends_with(of)) {
            let mut tensors = whole_model();
            tensors.get_mut(name).unwrap().1[0] = bad;
            // Features need no head, and yet a damaged one is not passed over.
            for model in [weights::model_of, weights::encoder_of] {
                let said = model(&tensors, SIZE, &kernel).map(drop).unwrap_err().to_string();
                assert!(said.contains(&format!("'{name}' holds {bad}")), "{name}: {said}");
            }
        }
    }
}

#[test]
fn residual_networks_of_any_stages_are_read_back() {
    let kernel = processor_kernel(Precision::F32).unwrap();
    let resnet = |blocks: &[usize], bottleneck, width, widths: Option<&[usize]>, stem| Backbone::Resnet {
        blocks: blocks.to_vec(),
        bottleneck,
        width,
        widths: widths.map(<[usize]>::to_vec),
        stem,
    };
    for backbone in [
        resnet(&[1, 1], false, 3, Some(&[5, 4]), Stem::Cifar),
        resnet(&[1], false, 3, None, Stem::Imagenet),
        resnet(&[1, 2, 1], true, 2, Some(&[3, 2, 5]), Stem::Cifar),
        resnet(&[1; 5], false, 2, None, Stem::Cifar),
        resnet(&[1; 8], false, 1, None, Stem::Cifar),
        resnet(&[1, 1, 1, 1, 1, 1, 1, 2], true, 1, Some(&[4, 3, 2, 1, 2, 3, 4, 5]), Stem::Cifar),
        Backbone::Mlp { widths: vec![7, 3] },
    ] {
        let projector = ProjectorConfig { layers: 2, hidden: Some(7), dim: 6, norm: HeadNorm::All };
        let encoder = EncoderConfig::new(backbone, projector);
        let model = Model::new(&encoder, &Predictor::None {}, SIZE, 3, &kernel).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, weights::to_safetensors(&model, None).unwrap()).unwrap();
        let read = weights::model_of(&read_weights(&path).unwrap(), SIZE, &kernel).unwrap();
        let x = images();
        let (a, b) = (model.evaluate(&x).unwrap(), read.evaluate(&x).unwrap());
        assert_eq!(numbers(&a.0), numbers(&b.0), "{encoder:?}");
        assert_eq!(numbers(&a.1), numbers(&b.1), "{encoder:?}");
    }
}
