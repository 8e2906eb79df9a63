//! outcome.json: how a run ended, and the length and SHA-256 of every result it left, so that a
//! result that was damaged, replaced or removed afterwards is found by whoever reads it.
//!
//! Invariant: the file is written last, and its own checksum is right; the results that it names
//! are those that the run wrote.

use super::digest::{Digested, digest_bytes, digest_file};
use super::durable::{names, read_if_there};
use super::generations::checksum;
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const OUTCOME: &str = "outcome.json";
pub(super) const ENV: &str = "env.json";
/// Numbers by step.
pub const METRICS_FILE: &str = "metrics.csv";
/// The singular values of held-out outputs.
pub const SPECTRUM_FILE: &str = "spectrum.csv";
/// θ and running statistics at the end of a run.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// What a fine-tuned detector found, in COCO's format of results.
pub const DETECTIONS_FILE: &str = "detections.json";
/// Its precision by recall.
pub const PRECISION_FILE: &str = "precision.csv";
/// Its θ and running statistics.
pub const DETECTOR_FILE: &str = "detector.safetensors";
/// The folder of θ at every measurement.
pub const TRAJECTORY: &str = "trajectory";
/// The folder of outputs of the same images after every epoch.
pub const FILM: &str = "film";
/// The folder of the eigenvalues of E\[z zᵀ\] at every measurement.
pub const EIGENVALUES: &str = "eigenvalues";
/// The results that a checkpoint makes again; the others are refused where they are damaged.
pub(super) const REPAIRABLE: [&str; 6] =
    [METRICS_FILE, SPECTRUM_FILE, WEIGHTS_FILE, DETECTIONS_FILE, PRECISION_FILE, DETECTOR_FILE];
const CHECKSUM: &str = "outcome_sha256";
const FILES: &str = "files";

/// How a run ended for good; a stopped run has no outcome yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// All epochs were trained.
    Finished,
    /// The loss stopped being a finite number.
    Diverged {
        /// The step, counted from 0.
        step: u64,
    },
}

/// What outcome.json says.
pub(super) struct Sealed {
    pub(super) outcome: Outcome,
    /// Results by their name in the run's folder; none in files of versions that kept no digests.
    pub(super) files: BTreeMap<String, Digested>,
}

impl Sealed {
    pub(super) fn to_text(&self) -> Result<String> {
        let fail = |e: serde_json::Error| Error::Failure(format!("{OUTCOME}: {e}"));
        let mut value = serde_json::to_value(self.outcome).map_err(fail)?;
        value[FILES] = serde_json::to_value(&self.files).map_err(fail)?;
        value[CHECKSUM] = json!(checksum(&value));
        Ok(format!("{value:#}\n"))
    }

    /// The file of the run in the folder `run`; `None` where there is none.
    pub(super) fn read(run: &Path) -> Result<Option<Sealed>> {
        let file = run.join(OUTCOME);
        let Some(bytes) = read_if_there(&file, files::SHORT)? else { return Ok(None) };
        let damaged = |what: &str| {
            Error::data(&file, format!("damaged ({what}); remove it and run again to finish the run"))
        };
        let mut value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let claimed = value.as_object_mut().and_then(|object| object.remove(CHECKSUM));
        if claimed.is_some_and(|claimed| claimed.as_str() != Some(&checksum(&value))) {
            return Err(damaged("it does not match its checksum"));
        }
        let files = value.as_object_mut().and_then(|object| object.remove(FILES)).unwrap_or(json!({}));
        let files = serde_json::from_value(files).map_err(|e| damaged(&e.to_string()))?;
        let outcome = serde_json::from_value(value).map_err(|e| damaged(&e.to_string()))?;
        Ok(Some(Sealed { outcome, files }))
    }

    /// Refuses the result `name` of `run`, where it is sealed and its digest, if there is such a
    /// file, is not that of the seal.
    pub(super) fn check(&self, run: &Path, name: &str, found: Option<&Digested>) -> Result<()> {
        let difference = self.files.get(name).and_then(|expected| difference(found, expected));
        difference.map_or(Ok(()), |what| Err(changed(run, name, what)))
    }

    /// The first result below `run` that is not what the run left, as a sentence without a subject.
    pub(super) fn damage(&self, run: &Path) -> Result<Option<(String, &'static str)>> {
        for (name, expected) in &self.files {
            let found = digest_file(&run.join(name), u64::MAX)?;
            if let Some(what) = difference(found.as_ref(), expected) {
                return Ok(Some((name.clone(), what)));
            }
        }
        Ok(None)
    }
}

/// What is wrong with a file whose digest is `found`, where something is.
fn difference(found: Option<&Digested>, expected: &Digested) -> Option<&'static str> {
    match found {
        None => Some("is missing"),
        Some(found) if found != expected => Some("is damaged: its bytes are not those that the run wrote"),
        Some(_) => None,
    }
}

/// The names of the results in the folder `run`, those of a trajectory, of a film and of
/// eigenvalues with their folder.
pub(super) fn results(run: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names(run)? {
        let path = run.join(&name);
        if [TRAJECTORY, FILM, EIGENVALUES].contains(&name.as_str()) && path.is_dir() {
            let inner = names(&path)?.into_iter().filter(|inner| !inner.starts_with('.'));
            found.extend(inner.map(|inner| format!("{name}/{inner}")));
        } else if name == ENV || REPAIRABLE.contains(&name.as_str()) {
            found.push(name);
        }
    }
    Ok(found)
}

/// How the run in the folder `path` ended, without taking its lock and without reading its results;
/// `None` while it has not, or where there is no such run.
///
/// # Errors
/// [`Error::Data`] where outcome.json is not what [`RunDir::set_outcome`] writes.
pub fn read_outcome(path: &Path) -> Result<Option<Outcome>> {
    Ok(Sealed::read(path)?.map(|sealed| sealed.outcome))
}

/// Whether the run in the folder `path` has ended and left what it says it left.
///
/// # Errors
/// [`Error::Data`] where outcome.json is damaged, [`Error::Disk`] where a result cannot be read.
pub fn is_whole(path: &Path) -> Result<bool> {
    Ok(match Sealed::read(path)? {
        Some(sealed) => sealed.damage(path)?.is_none(),
        None => false,
    })
}

/// Refuses the file `name` in the folder `run` where the run has ended and it is not what the run
/// left.
///
/// # Errors
/// [`Error::Data`] naming the file.
pub fn check_result(run: &Path, name: &str) -> Result<()> {
    let Some(sealed) = Sealed::read(run)? else { return Ok(()) };
    sealed.check(run, name, digest_file(&run.join(name), u64::MAX)?.as_ref())
}

/// The result `name` in the folder `run` was changed after the run had ended.
pub(super) fn changed(run: &Path, name: &str, what: &str) -> Error {
    let way = match REPAIRABLE.contains(&name) {
        true => "the command that made the run makes it again",
        false => "no checkpoint can make it again; --fresh makes the run again",
    };
    Error::data(run.join(name), format!("{what}; {way}"))
}

/// The bytes of the result `name` in the folder `run`, at most `most`; where the run has ended,
/// those that it wrote.
///
/// # Errors
/// [`Error::Data`] where the file is missing, or was changed after the run had ended.
pub fn read_result(run: &Path, name: &str, most: u64) -> Result<Vec<u8>> {
    read_result_if_any(run, name, most)?.ok_or_else(|| Error::data(run.join(name), "there is no such file"))
}

/// As [`read_result`]; `None` where the file is missing and the run has not ended, or ended without
/// it.
///
/// # Errors
/// As [`read_result`].
pub fn read_result_if_any(run: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let bytes = read_if_there(&run.join(name), most)?;
    if let Some(sealed) = Sealed::read(run)? {
        sealed.check(run, name, bytes.as_deref().map(digest_bytes).as_ref())?;
    }
    Ok(bytes)
}

/// What env.json of the run in the folder `path` holds; `None` where there is none.
///
/// # Errors
/// [`Error::Data`] where it is damaged: nobody knows then what the run was made from.
pub fn read_env(path: &Path) -> Result<Option<BTreeMap<String, Value>>> {
    let damaged = |e: serde_json::Error| {
        let what =
            format!("damaged ({e}), so that nobody knows which images the run saw; --fresh starts over");
        Error::data(path.join(ENV), what)
    };
    let bytes = read_result_if_any(path, ENV, files::SHORT)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(damaged)).transpose()
}
