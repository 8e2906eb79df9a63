//! Weights of others, pickles inside PyTorch's archive, and replay cases.

#[cfg(test)]
use super::run;
use candle_core::{DType, Device, Tensor};
use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::{self, Precision};
use simsiam_em::network::read_weights;
use simsiam_em::train::{Case, replay, weights};
use std::io::{Cursor, Read, Write};
use std::path::Path;
#[cfg(test)]
use std::path::PathBuf;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// Side in pixels of the images that a network is made for.
const SIZE: usize = 8;

#[cfg(test)]
fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

/// Calls `read` with a file of these bytes.
fn with_file(bytes: &[u8], read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mutant");
    std::fs::write(&path, bytes).expect("written");
    read(&path);
}

/// Reads weights and passes an image through every network that they make.
pub fn model(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(tensors) = read_weights(path) else { return };
        let kernel = processor_kernel(Precision::F32).expect("a kernel");
        let x = Tensor::ones((1, SIZE, SIZE, 3), DType::F32, &Device::Cpu).expect("an image");
        let encoder = weights::encoder_of(&tensors, SIZE, &kernel);
        for model in [encoder, weights::model_of(&tensors, SIZE, &kernel)].into_iter().flatten() {
            if model.evaluation_batch(1).is_ok() {
                model.evaluate(&x).expect("a network that was made runs");
            }
        }
    });
}

/// Reads `bytes` as the pickle of an archive whose checksums are right.
pub fn pickle(bytes: &[u8]) {
    let whole = include_bytes!("../golden/checkpoints/state_dict.pth");
    let mut archive = ZipArchive::new(Cursor::new(&whole[..])).expect("an archive");
    let mut made = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).expect("a member");
        let name = member.name().expect("a name").into_owned();
        let mut data = Vec::new();
        member.read_to_end(&mut data).expect("stored");
        made.start_file(name.as_str(), stored).expect("begun");
        made.write_all(if name.ends_with("data.pkl") { bytes } else { &data }).expect("written");
    }
    model(&made.finish().expect("closed").into_inner());
}

/// Reads a replay case and trains on it.
pub fn case(bytes: &[u8]) {
    with_file(bytes, |path| {
        let Ok(case) = Case::read(path) else { return };
        let kernel = kernel::direct_sums().expect("a kernel");
        // Each step takes as long as the one before: two show what there is to see.
        let mut left = 2;
        let _ = replay(&case, &kernel, &mut |_| {
            left -= 1;
            if left == 0 { Err(simsiam_em::Error::Failure("enough".into())) } else { Ok(()) }
        });
    });
}

#[cfg(test)]
mod corpus {
    use super::*;
    use crate::support::{golden, save_tensors};
    use simsiam_em::network::{Tensors, read_with_metadata};
    use std::collections::BTreeMap;

    fn saved(tensors: &Tensors, metadata: BTreeMap<String, String>) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        save_tensors(tensors, metadata, &path);
        std::fs::read(path).expect("written")
    }

    pub fn files() -> Vec<Vec<u8>> {
        let names = ["classifier.safetensors", "before_1.6.pth", "state_dict.pth", "parameters_bf16.pth"];
        let mut files: Vec<_> =
            names.iter().map(|name| std::fs::read(checkpoint(name)).expect("a checkpoint")).collect();
        // All parts of a model: mutants of an archive rarely have right checksums.
        let (tensors, _) = read_with_metadata(&golden("byol.safetensors")).expect("a case");
        let parts = tensors
            .into_iter()
            .filter(|(name, _)| name.starts_with("encoder.") || name.starts_with("predictor."));
        files.push(saved(&parts.collect(), BTreeMap::new()));
        files
    }

    pub fn pickles() -> Vec<Vec<u8>> {
        let names = [
            "state_dict.pth",
            "protocol_4.pth",
            "parameters_bf16.pth",
            "model_state_dict_f64.pth",
            "whole_model.pth",
        ];
        let pickle = |name: &&str| {
            let whole = std::fs::read(checkpoint(name)).expect("a checkpoint");
            let mut archive = ZipArchive::new(Cursor::new(whole)).expect("an archive");
            let place = archive.file_names().position(|name| name.expect("a name").ends_with("data.pkl"));
            let mut bytes = Vec::new();
            archive.by_index(place.expect("a pickle")).expect("it").read_to_end(&mut bytes).expect("stored");
            bytes
        };
        let mut pickles: Vec<_> = names.iter().map(pickle).collect();
        let doubling = b"h\x00h\x00\x86q\x00".repeat(30);
        pickles.push([&b"\x80\x02Nq\x00"[..], &doubling, b"."].concat());
        pickles.push([&b"\x80\x02N"[..], &[0x85; 100_000], b"."].concat());
        pickles.push([&b"\x80\x02"[..], &[b']'; 50_000], &[b'a'; 49_999], b"."].concat());
        pickles
    }

    pub fn cases() -> Vec<Vec<u8>> {
        let names = ["simsiam", "alternation_k3", "memory_bank_m08", "byol", "moco_v2"];
        let case = |name: &&str| {
            let (tensors, metadata) =
                read_with_metadata(&golden(&format!("{name}.safetensors"))).expect("a case");
            let needed = |name: &str| {
                ["encoder.", "predictor.", "views."].iter().any(|part| name.starts_with(part))
                    || ["ids", "queue"].contains(&name)
            };
            saved(
                &tensors.into_iter().filter(|(name, _)| needed(name)).collect(),
                metadata.into_iter().collect(),
            )
        };
        names.iter().map(case).collect()
    }
}

#[test]
fn weights_are_read_or_refused() {
    run("weights and model", corpus::files(), model);
}

#[test]
fn pickles_are_read_or_refused() {
    run("pickle", corpus::pickles(), pickle);
}

#[test]
fn replay_cases_are_read_or_refused() {
    run("replay case", corpus::cases(), case);
}
