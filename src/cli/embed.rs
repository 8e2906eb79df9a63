//! `sim embed`: features of images by trained weights, as a NumPy file and a table of its rows.

use super::flags::{device_flag, json_flag, path_option, place, switch};
use super::output::Output;
use super::pretrained::{opened, preprocessing_flags};
use crate::augment::{normalise, resize_and_centre_crop};
use crate::data::{Exif, TYPES, decode, images_in};
use crate::error::{Error, Result};
use crate::network::read_weights;
use crate::record::{csv_bytes, is_stream, write_durable, write_where_told};
use crate::train::{BATCH, Model, Preprocessing, Pretrained};
use candle_core::{Device, Tensor};
use clap::{ArgMatches, Command};
use rayon::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};

/// `sim embed` and its flags.
pub fn command() -> Command {
    Command::new("embed")
        .about("Write the features of images by given weights as a NumPy array")
        .arg(path_option(
            "weights",
            "RUN|FILE",
            "A run's folder; or a weights file: a run's weights.safetensors, a PyTorch checkpoint (an official SimSiam .pth.tar, a state dict) or safetensors with torchvision's names",
        ).required(true))
        .arg(path_option(
            "images",
            "DIR|FILE",
            "A folder of images, also in folders inside it, in the order of their paths; one image; or safetensors with a tensor `images` (N, 3, S, S), already normalised",
        ).required(true))
        .arg(path_option(
            "out",
            "FILE",
            "Where the array goes: float32, (N, D). Beside it, with the ending .csv, goes a table of its rows: row,path,label, a label being the name of an image's folder",
        ).required(true))
        .args(preprocessing_flags())
        .arg(switch("projection", "The projector's output z instead of the pooled backbone features"))
        .args([device_flag(), json_flag()])
}

/// Runs `sim embed` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let path = |name: &str| matches.get_one::<PathBuf>(name);
    let (Some(weights), Some(images), Some(out)) = (path("weights"), path("images"), path("out")) else {
        return Ok(2);
    };
    let mut pretrained = opened(weights, matches)?;
    let source = Source::open(images, &mut pretrained, matches)?;
    let table = source.table(out)?;
    let site = place(matches)?.open()?;
    let projection = matches.get_flag("projection");
    let (mut values, mut dim, mut headless) = (Vec::new(), 0, false);
    site.guard(|| {
        let model = pretrained.model(&site)?;
        if projection && !model.has_projector() {
            return Err(Error::data(
                &pretrained.path,
                "has no projector that is known here; leave out --projection",
            ));
        }
        headless = !model.has_projector();
        let batch = model.evaluation_batch(BATCH)?;
        for start in (0..source.len()).step_by(batch) {
            let x = source.batch(start, (start + batch).min(source.len()), &pretrained.preprocessing)?;
            let rows = embed(&model, &x, projection)?;
            dim = rows.dim(1)?;
            values.extend(rows.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    })?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(pretrained.overflow());
    }
    write_where_told(out, &npy(source.len(), dim, &values))?;
    if let Some((path, rows)) = &table {
        write_durable(path, rows)?;
    }
    let written = Written {
        path: out,
        table: table.as_ref().map(|(path, _)| path.as_path()),
        images: source.len(),
        dim,
        headless,
    };
    written.say(&pretrained, matches.get_flag("json"), output)
}

fn embed(model: &Model, x: &Tensor, projection: bool) -> Result<Tensor> {
    let (features, z) = model.evaluate(x)?;
    Ok(if projection { z } else { features })
}

/// What was written.
struct Written<'a> {
    path: &'a Path,
    table: Option<&'a Path>,
    images: usize,
    dim: usize,
    headless: bool,
}

impl Written<'_> {
    fn say(&self, pretrained: &Pretrained, json: bool, output: &Output) -> Result<i32> {
        let Written { path, table, images, dim, headless } = *self;
        if json {
            let line = json!({"images": images, "dim": dim, "has_projector": !headless, "path": path.display().to_string(),
                "table": table.map(|path| path.display().to_string()), "preprocessing": pretrained.preprocessing,
                "preprocessing_source": pretrained.source});
            output.tell_of(path, &line.to_string())?;
            return Ok(0);
        }
        output.tell_of(path, &format!("{}: {images} × {dim}", path.display()))?;
        if let Some(table) = table {
            output.tell_of(path, &format!("{}: the image of each row", table.display()))?;
        }
        if headless {
            let what = "the weights have no projector that is known here; features need none";
            output.tell_of(path, what)?;
        }
        output.tell_of(path, &format!("images: {} ({})", pretrained.preprocessing, pretrained.source))?;
        Ok(0)
    }
}

/// Where the images are.
enum Source {
    Files {
        /// The image of each row.
        paths: Vec<PathBuf>,
        /// Its path from the folder, with `/` between names.
        names: Vec<String>,
        /// Whether they are turned, as the run's images were.
        exif: Exif,
    },
    /// (N, 3, S, S), normalised.
    Tensor { count: usize, values: Vec<f32> },
}

impl Source {
    fn open(path: &Path, pretrained: &mut Pretrained, matches: &ArgMatches) -> Result<Source> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let given = |flag: &&&str| matches.contains_id(flag);
            if let Some(flag) = ["size", "mean", "std"].iter().find(given) {
                let what =
                    format!("--{flag} says nothing of {}, whose images are normalised", path.display());
                return Err(Error::Usage(what));
            }
            return Source::tensor(path, pretrained);
        }
        let exif = match &pretrained.recipe {
            Some(recipe) if recipe.data.exif => Exif::Applied,
            _ => Exif::Ignored,
        };
        if !path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Source::Files { paths: vec![path.to_path_buf()], names: vec![name], exif });
        }
        let mut found: Vec<(String, PathBuf)> =
            images_in(path)?.into_iter().map(|image| (relative(&image, path), image)).collect();
        if found.is_empty() {
            return Err(Error::data(path, format!("has no images ({TYPES} files)")));
        }
        found.sort();
        let (names, paths) = found.into_iter().unzip();
        Ok(Source::Files { paths, names, exif })
    }

    fn tensor(path: &Path, pretrained: &mut Pretrained) -> Result<Source> {
        let images = read_weights(path)?.remove("images");
        let (shape, values) = images.ok_or_else(|| Error::data(path, "has no tensor 'images'"))?;
        let [count, 3, height, width] = shape[..] else {
            return Err(Error::data(path, format!("'images' has shape {shape:?}; expected (N, 3, S, S)")));
        };
        if count == 0 || height != width {
            return Err(Error::data(path, format!("'images' has shape {shape:?}; expected (N, 3, S, S)")));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::data(path, format!("'images' holds {value}")));
        }
        pretrained.preprocessing.size = height;
        pretrained.preprocessing.check().map_err(|e| e.in_file(path))?;
        pretrained.source = format!("sides of {}, whose images are normalised already", path.display());
        Ok(Source::Tensor { count, values })
    }

    fn len(&self) -> usize {
        match self {
            Source::Files { paths, .. } => paths.len(),
            Source::Tensor { count, .. } => *count,
        }
    }

    /// Images `start..end` as (B, S, S, 3).
    fn batch(&self, start: usize, end: usize, preprocessing: &Preprocessing) -> Result<Tensor> {
        let Preprocessing { size, mean, std } = *preprocessing;
        let (n, len) = (end - start, 3 * size * size);
        match self {
            Source::Tensor { values, .. } => {
                let values = &values[start * len..end * len];
                let x = Tensor::from_slice(values, (n, 3, size, size), &Device::Cpu)?;
                Ok(x.permute((0, 2, 3, 1))?.contiguous()?)
            }
            Source::Files { paths, exif, .. } => {
                let mut x = vec![0.0; n * len];
                x.par_chunks_exact_mut(len).zip(&paths[start..end]).try_for_each(|(out, path)| {
                    normalise(&resize_and_centre_crop(&decode(path, *exif)?, size), mean, std, out);
                    Ok::<_, Error>(())
                })?;
                Ok(Tensor::from_vec(x, (n, size, size, 3), &Device::Cpu)?)
            }
        }
    }

    /// Path and text of the table of rows that goes beside `out`; images of a tensor have no names.
    fn table(&self, out: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Source::Files { names, .. } = self else { return Ok(None) };
        // Nothing lies beside a pipe or a device.
        if is_stream(out) {
            return Ok(None);
        }
        let path = out.with_extension("csv");
        if path == out {
            let what = format!(
                "--out {} would be overwritten by the table of its rows; end it on .npy",
                out.display()
            );
            return Err(Error::Usage(what));
        }
        let row = |(row, name): (usize, &String)| {
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let label = folder.rsplit('/').next().unwrap_or_default();
            vec![row.to_string(), name.clone(), label.to_string()]
        };
        let header = vec!["row".to_string(), "path".to_string(), "label".to_string()];
        let rows = std::iter::once(header).chain(names.iter().enumerate().map(row));
        Ok(Some((path, csv_bytes(rows)?)))
    }
}

/// The path of `image` from `folder`, with `/` between names on every system.
fn relative(image: &Path, folder: &Path) -> String {
    let path = image.strip_prefix(folder).unwrap_or(image);
    path.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("/")
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
