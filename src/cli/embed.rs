//! `sim embed`: features of images by anybody's weights, as a NumPy file.

use super::output::Output;
use crate::augment::{Image, normalise, resize_and_centre_crop};
use crate::data::decode;
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::network::read_weights;
use crate::record::write_durable;
use crate::train::{Model, weights};
use candle_core::{Device, Tensor};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Images per forward pass.
const BATCH: usize = 64;
/// The official code's normalisation: ImageNet's.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The command.
pub fn command() -> Command {
    let path = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).required(true).value_parser(value_parser!(PathBuf))
    };
    Command::new("embed")
        .about("Write the features of images by given weights as a NumPy array")
        .arg(path("weights", "FILE").help(
            "An official SimSiam .pth.tar, or safetensors with torchvision's names (encoder.*), such as a run's weights.safetensors",
        ))
        .arg(path("images", "DIR|FILE").help(
            "A folder of JPEG and PNG files (read in sorted order), one such file, or safetensors with a tensor `images` (N, 3, H, W), already normalised",
        ))
        .arg(path("out", "FILE").help("Where the array goes: float32, (N, D)"))
        .arg(
            Arg::new("size")
                .long("size")
                .value_name("PIXELS")
                .value_parser(value_parser!(u64).range(4..=4096))
                .help("Side to which images are resized and cropped [default: 32 for a CIFAR stem, 224 for an ImageNet one]"),
        )
        .arg(
            Arg::new("projection")
                .long("projection")
                .action(ArgAction::SetTrue)
                .help("The projector's output z instead of the pooled backbone features"),
        )
        .arg(super::run::device_flag())
        .arg(super::json_flag())
}

/// Runs it.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let path = |name: &str| matches.get_one::<PathBuf>(name);
    let (Some(weights_path), Some(images), Some(out)) = (path("weights"), path("images"), path("out")) else {
        return Ok(2);
    };
    let tensors = read_weights(weights_path)?;
    let imagenet = tensors.get("encoder.conv1.weight").is_some_and(|(shape, _)| shape.get(2) == Some(&7));
    let size = matches.get_one::<u64>("size").map_or(if imagenet { 224 } else { 32 }, |size| *size as usize);
    let source = Source::open(images, size)?;
    let site = super::run::place(matches)?.open()?;
    let kernel = site.host_kernel(Precision::F32)?;
    let (mut values, mut dim) = (Vec::new(), 0);
    site.guard(|| {
        let model = weights::model_of(&tensors, source.size(), &kernel)
            .and_then(|model| model.on(&site))
            .map_err(|e| e.in_file(weights_path))?;
        for start in (0..source.len()).step_by(BATCH) {
            let x = source.batch(start, (start + BATCH).min(source.len()))?;
            let z = embed(&model, &x, matches.get_flag("projection"))?;
            dim = z.dim(1)?;
            values.extend(z.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    })?;
    write_durable(out, &npy(source.len(), dim, &values))?;
    let (images, shown) = (source.len(), out.display().to_string());
    output.line(&match matches.get_flag("json") {
        true => json!({"images": images, "dim": dim, "path": shown}).to_string(),
        false => format!("{shown}: {images} × {dim}"),
    })?;
    Ok(0)
}

fn embed(model: &Model, x: &Tensor, projection: bool) -> Result<Tensor> {
    let (features, z) = model.evaluate(x)?;
    Ok(if projection { z } else { features })
}

/// Where the images are.
enum Source {
    Files {
        paths: Vec<PathBuf>,
        size: usize,
    },
    /// (N, 3, S, S), normalised.
    Tensor {
        shape: Vec<usize>,
        values: Vec<f32>,
    },
}

impl Source {
    fn open(path: &Path, size: usize) -> Result<Source> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let (shape, values) = read_weights(path)?
                .remove("images")
                .ok_or_else(|| Error::data(path, "has no tensor 'images'"))?;
            return match shape[..] {
                [n, 3, h, w] if n > 0 && h == w => Ok(Source::Tensor { shape, values }),
                _ => Err(Error::data(path, format!("'images' has shape {shape:?}; expected (N, 3, S, S)"))),
            };
        }
        let mut paths = Vec::new();
        if path.is_dir() {
            collect(path, &mut paths)?
        } else {
            paths.push(path.to_path_buf())
        }
        paths.sort();
        if paths.is_empty() {
            return Err(Error::data(path, "has no JPEG or PNG files"));
        }
        Ok(Source::Files { paths, size })
    }

    fn len(&self) -> usize {
        match self {
            Source::Files { paths, .. } => paths.len(),
            Source::Tensor { shape, .. } => shape[0],
        }
    }

    fn size(&self) -> usize {
        match self {
            Source::Files { size, .. } => *size,
            Source::Tensor { shape, .. } => shape[2],
        }
    }

    /// Images `start..end` as (B, S, S, 3).
    fn batch(&self, start: usize, end: usize) -> Result<Tensor> {
        let (n, size) = (end - start, self.size());
        match self {
            Source::Tensor { values, .. } => {
                let len = 3 * size * size;
                let x =
                    Tensor::from_slice(&values[start * len..end * len], (n, 3, size, size), &Device::Cpu)?;
                Ok(x.permute((0, 2, 3, 1))?.contiguous()?)
            }
            Source::Files { paths, .. } => {
                let mut x = vec![0.0; n * size * size * 3];
                for (path, out) in paths[start..end].iter().zip(x.chunks_exact_mut(size * size * 3)) {
                    let image: Image = decode(path)?;
                    normalise(&resize_and_centre_crop(&image, size), MEAN, STD, out);
                }
                Ok(Tensor::from_vec(x, (n, size, size, 3), &Device::Cpu)?)
            }
        }
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |e: std::io::Error| Error::data(folder, format!("cannot be listed: {e}"));
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        if path.is_dir() {
            collect(&path, paths)?;
        } else if matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png")) {
            paths.push(path);
        }
    }
    Ok(())
}

/// A NumPy file, version 1.0: little-endian float32, (rows, columns), row by row.
fn npy(rows: usize, columns: usize, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The data begins at a multiple of 64 bytes; the header ends with a line feed.
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}
