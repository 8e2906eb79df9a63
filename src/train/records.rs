//! Where the records of a run go: into its folder on the first rank, nowhere on the others.
//!
//! All ranks do the same calls in the same order, also where only the first writes: numbers that
//! several ranks hold together are handed over while they are written.

use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::kernel::ranks::{Ranks, bytes_of, numbers_of};
use crate::record::{MetricsLog, Outcome, RunDir, SavedTensor, Snapshot, make_folder, write_durable};
use crate::store::{Numbers, Part, Plain, Reader};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The folder of a run, and who writes into it.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    folder: &'a Path,
    dir: Option<&'a RunDir>,
}

/// A checkpoint as it is told to other ranks: what each tensor is, its numbers apart.
#[derive(Serialize, Deserialize)]
struct Told {
    step: u64,
    integers: BTreeMap<String, u64>,
    tensors: Vec<(String, Vec<usize>, Precision)>,
}

impl<'a> Records<'a> {
    /// Records in the folder of `dir`.
    pub fn of(dir: &'a RunDir) -> Self {
        Self { folder: dir.path(), dir: Some(dir) }
    }

    /// Records that another rank writes into `folder`.
    pub fn elsewhere(folder: &'a Path) -> Self {
        Self { folder, dir: None }
    }

    /// The folder.
    pub fn folder(&self) -> &'a Path {
        self.folder
    }

    /// The folder's owner, on the rank that writes.
    pub fn dir(&self) -> Option<&'a RunDir> {
        self.dir
    }

    /// What is told of the run's way so far, on the rank that writes.
    pub fn take_notes(&self) -> Vec<String> {
        self.dir.map(RunDir::take_notes).unwrap_or_default()
    }

    /// The newest checkpoint, read by the first of `ranks` and handed to all.
    ///
    /// # Errors
    /// As [`RunDir::resume`] and [`Ranks`].
    pub fn resume(&self, ranks: &Arc<dyn Ranks>) -> Result<Option<Snapshot<'static>>> {
        let own = self.dir.map(RunDir::resume).transpose()?.flatten();
        if ranks.size() == 1 {
            return Ok(own);
        }
        let told = own.as_ref().map(|snapshot| Told {
            step: snapshot.step,
            integers: snapshot.integers.clone(),
            tensors: snapshot
                .tensors
                .iter()
                .map(|t| (t.name.clone(), t.shape.clone(), t.data.precision()))
                .collect(),
        });
        let unread = |e: serde_json::Error| Error::Failure(format!("a checkpoint between ranks: {e}"));
        let text = ranks.broadcast(&serde_json::to_vec(&told).map_err(unread)?)?;
        let Some(told) = serde_json::from_slice::<Option<Told>>(&text).map_err(unread)? else {
            return Ok(None);
        };
        let mut kept = own.map(|snapshot| snapshot.tensors.into_iter());
        let tensors = told.tensors.into_iter().map(|(name, shape, precision)| {
            let numbers = kept.as_mut().and_then(Iterator::next).map(|tensor| tensor.data);
            let len = shape.iter().product();
            let data = match precision {
                Precision::F32 => Numbers::F32(shared(ranks, numbers.and_then(f32::into_part), len)),
                Precision::Bf16 => Numbers::Bf16(shared(ranks, numbers.and_then(u16::into_part), len)),
            };
            SavedTensor { name, shape, data }
        });
        Ok(Some(Snapshot { step: told.step, tensors: tensors.collect(), integers: told.integers }))
    }

    /// The logs, with these columns, on the rank that writes.
    ///
    /// # Errors
    /// As [`RunDir::metrics`].
    pub fn logs(&self, columns: &[&str]) -> Result<Option<MetricsLog>> {
        self.dir.map(|dir| dir.metrics(columns)).transpose()
    }

    /// Saves a checkpoint.
    ///
    /// # Errors
    /// As [`RunDir::save`].
    pub fn save(&self, snapshot: &Snapshot, logs: Option<&mut MetricsLog>) -> Result<()> {
        match (self.dir, logs) {
            (Some(dir), Some(logs)) => dir.save(snapshot, logs),
            // Numbers of several ranks pass by in the order in which they are written.
            _ => snapshot.pass(&mut |_| Ok(())).map_err(Error::disk(self.folder, "hand a checkpoint over")),
        }
    }

    /// Writes `bytes` into the file `name` of the folder, durably.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(dir) = self.dir else { return Ok(()) };
        let path = dir.path().join(name);
        path.parent().map_or(Ok(()), make_folder)?;
        write_durable(&path, bytes)
    }

    /// Writes env.json.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn write_env(&self, environment: &Value) -> Result<()> {
        self.dir.map_or(Ok(()), |dir| dir.write_env(environment))
    }

    /// Writes how the run has ended.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn set_outcome(&self, outcome: &Outcome) -> Result<()> {
        self.dir.map_or(Ok(()), |dir| dir.set_outcome(outcome))
    }
}

/// `len` numbers that the first rank has and that are read by all ranks at once.
fn shared<T: Plain>(ranks: &Arc<dyn Ranks>, own: Option<Part<'static, T>>, len: usize) -> Part<'static, T> {
    let ranks = ranks.clone();
    let read: Reader<T> = Arc::new(move |range| {
        let numbers = match &own {
            None => Vec::new(),
            Some(own) => {
                let mut numbers = vec![T::default(); range.len()];
                own.read(range.start, &mut numbers)?;
                numbers
            }
        };
        let bytes = ranks.broadcast(bytes_of(&numbers)).map_err(std::io::Error::other)?;
        let numbers = numbers_of(&bytes);
        let short = || std::io::Error::other("the first rank has gone");
        (numbers.len() == range.len()).then_some(numbers).ok_or_else(short)
    });
    Part::Away { read, len }
}
