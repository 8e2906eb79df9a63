//! Outputs of the same few held-out images after every epoch: the frames of a film.

use super::evaluate::embed_some;
use super::records::Records;
use super::{Model, weights};
use crate::augment::AugmentConfig;
use crate::data::{Dataset, first_of_each_class};
use crate::error::{Error, Result};
use crate::files;
use crate::record::{FILM, read_result};
use ndarray::Array2;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Classes of the images of a film: as many as colours tell apart.
const CLASSES: u32 = 8;
/// What frames are called.
const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";
/// Frames that are read of a run at most.
const MOST_FRAMES: usize = 2000;

/// A frame of a film.
#[derive(Clone, Debug)]
pub struct FilmFrame {
    /// SGD steps made.
    pub step: u64,
    /// z of the images, (n, d).
    pub z: Array2<f32>,
    /// Their classes.
    pub labels: Vec<u32>,
}

/// The held-out images of a film of `images` images: those of the first eight classes, the first of
/// each in equal parts.
fn chosen(dataset: &Dataset, images: usize) -> Vec<usize> {
    let labels = dataset.test.labels();
    let of_first: Vec<usize> = (0..labels.len()).filter(|index| labels[*index] < CLASSES).collect();
    let kept: Vec<u32> = of_first.iter().map(|index| labels[*index]).collect();
    let classes = dataset.classes.len().min(CLASSES as usize);
    first_of_each_class(&kept, classes, images.max(1)).into_iter().map(|index| of_first[index]).collect()
}

/// Keeps z of `images` held-out images at `step`, in evaluation mode, among the run's
/// `records`.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set, [`Error::Disk`] when it cannot be written.
pub fn write_frame(
    model: &Model,
    dataset: &Dataset,
    (augment, images): (&AugmentConfig, usize),
    step: u64,
    records: Records,
    stop: &AtomicBool,
) -> Result<()> {
    let rows = chosen(dataset, images);
    let (_, z) = embed_some(model, &dataset.test, &rows, augment, stop)?;
    let labels: Vec<f32> = rows.iter().map(|row| dataset.test.label(*row) as f32).collect();
    let shape = vec![z.nrows(), z.ncols()];
    let tensors = vec![
        ("labels".to_string(), vec![labels.len()], labels),
        ("z".to_string(), shape, z.into_iter().collect()),
    ];
    records.write(&format!("{FILM}/{PREFIX}{step:08}{SUFFIX}"), &weights::safetensors_of(tensors, None)?)
}

/// The film of the run in the folder `run`, in order; empty where none was kept.
///
/// # Errors
/// [`Error::Data`] for a frame that cannot be read, or is of other images than the one before it.
pub fn read_film(run: &Path) -> Result<Vec<FilmFrame>> {
    let folder = run.join(FILM);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let unreadable = |e: std::io::Error| Error::data(&folder, format!("cannot be read: {e}"));
    let mut steps: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        let step = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        steps.extend(step.and_then(|step| step.parse::<u64>().ok()));
    }
    steps.sort_unstable();
    steps.dedup();
    if steps.len() > MOST_FRAMES {
        let what = format!("holds {} frames; a film of at most {MOST_FRAMES} is read", steps.len());
        return Err(Error::data(&folder, what));
    }
    let frames = steps.iter().map(|step| read_frame(run, *step)).collect::<Result<Vec<_>>>()?;
    let differs =
        frames.windows(2).find(|two| two[0].labels != two[1].labels || two[0].z.dim() != two[1].z.dim());
    match differs {
        None => Ok(frames),
        Some(two) => {
            let what = format!("the frame of step {} is of other images than the one before it", two[1].step);
            Err(Error::data(&folder, what))
        }
    }
}

fn read_frame(run: &Path, step: u64) -> Result<FilmFrame> {
    let name = format!("{FILM}/{PREFIX}{step:08}{SUFFIX}");
    let bytes = read_result(run, &name, files::WEIGHTS)?;
    let wrong = |what: String| Error::data(run.join(&name), what);
    let vector = |of: &str| weights::read_vector(of, &bytes).map_err(|e| wrong(e.to_string()));
    let (labels, z) = (vector("labels")?, vector("z")?);
    let n = labels.len();
    let fits = n > 0 && z.len().is_multiple_of(n) && z.iter().chain(&labels).all(|value| value.is_finite());
    let Some(z) = fits.then(|| Array2::from_shape_vec((n, z.len() / n), z).ok()).flatten() else {
        return Err(wrong("is no frame of a film: its numbers are not those of so many images".into()));
    };
    Ok(FilmFrame { step, z, labels: labels.into_iter().map(|label| label.max(0.0) as u32).collect() })
}
