//! state.safetensors: all tensors of a checkpoint, written and read in one pass over the bytes.
//!
//! ```text
//! u64 length of the header · header (JSON, padded with spaces to 8 bytes) · numbers    little-endian
//! ```
//!
//! Written here rather than by the safetensors crate because that one orders its metadata at
//! random, never syncs, sets mode 0600 and wants all bytes in memory at once. Any reader of
//! safetensors opens it.
//!
//! Large tensors are never copied as a whole: they are written from where they lie, and reading
//! checks their bytes but leaves them in the file, for the caller to fetch piece by piece.
//!
//! Invariant: the bytes depend on the snapshot alone; step and integers stand in `__metadata__`.

use super::digest::{Digested, Digesting};
use crate::files;
use crate::kernel::Precision;
use crate::store::{Numbers, Part, Plain};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes read at a time.
const CHUNK: usize = 1 << 17;
/// Tensors of more bytes stay in the file when it is read.
const LARGE: usize = 64 << 20;
const INTEGER: &str = "integer.";

/// A named array of a state.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedTensor<'a> {
    /// Unique in its snapshot.
    pub name: String,
    /// Lengths of its dimensions; their product is the length of `data`.
    pub shape: Vec<usize>,
    /// Numbers, row by row. Borrowed for saving, so that a state is not held twice; large ones are
    /// still in the checkpoint when it has been read.
    pub data: Numbers<'a>,
}

/// All that a run needs in order to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot<'a> {
    /// SGD steps made.
    pub step: u64,
    /// The arrays; read back in the order of their names.
    pub tensors: Vec<SavedTensor<'a>>,
    /// Whole numbers, among them the bits of floats.
    pub integers: BTreeMap<String, u64>,
}

impl Snapshot<'_> {
    /// The tensors in the order in which a file has them.
    fn in_order(&self) -> Vec<&SavedTensor<'_>> {
        let mut tensors: Vec<&SavedTensor> = self.tensors.iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }

    /// Hands the bytes of all numbers to `write`, in the order in which a file has them.
    ///
    /// # Errors
    /// As [`Numbers::write`].
    pub fn pass(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.in_order().into_iter().try_for_each(|tensor| tensor.data.write(write))
    }
}

/// Writes and syncs the file.
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<Digested> {
    let mut out = Passing::over(OpenOptions::new().write(true).create_new(true).open(path)?);
    let tensors = snapshot.in_order();
    let mut header = Map::new();
    let mut metadata = Map::from_iter([("step".to_string(), json!(snapshot.step.to_string()))]);
    metadata
        .extend(snapshot.integers.iter().map(|(name, n)| (format!("{INTEGER}{name}"), json!(n.to_string()))));
    header.insert("__metadata__".to_string(), Value::Object(metadata));
    let mut at = 0;
    for tensor in tensors {
        let precision = tensor.data.precision();
        let end = at + precision.bytes() * tensor.data.len();
        let fits = tensor.shape.iter().product::<usize>() == tensor.data.len();
        let entry = json!({ "dtype": precision.dtype(), "shape": tensor.shape, "data_offsets": [at, end] });
        if !fits || header.insert(tensor.name.clone(), entry).is_some() {
            let what = format!("tensor '{}' stands twice or does not fill its shape", tensor.name);
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        at = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write(&(text.len() as u64).to_le_bytes())?;
    out.write(&text)?;
    snapshot.pass(&mut |bytes| out.write(bytes))?;
    out.file.sync_all()?;
    Ok(out.digesting.digested())
}

/// Reads the file, which must be of this length and digest: only then its bytes are believed.
pub fn read(path: &Path, expected: &Digested) -> Result<Snapshot<'static>> {
    let (file, metadata) = files::open(path)?;
    let mut input = Passing::over(file);
    if metadata.len() != expected.len_bytes {
        return Err(damaged("its length is not the manifest's"));
    }
    // Lengths inside the file are bounded by its own, so a damaged one cannot ask for more memory.
    let mut length = [0; 8];
    input.read(&mut length)?;
    let body = expected.len_bytes.saturating_sub(8);
    let length = u64::from_le_bytes(length);
    if length > body {
        return Err(damaged("its header is longer than the file"));
    }
    let mut text = vec![0; length as usize];
    input.read(&mut text)?;
    let header: Map<String, Value> = serde_json::from_slice(&text)?;
    let entries = entries(&header, body - length)?;
    let mut tensors = Vec::with_capacity(entries.len());
    let mut at = 0;
    // A second handle with a place of its own, for what stays in the file.
    let again = Arc::new(File::open(path)?);
    for (start, name, shape, precision) in entries {
        if start != at {
            return Err(damaged("its tensors do not lie side by side"));
        }
        let place = (again.clone(), 8 + length + at, shape.iter().product());
        let data = match precision {
            Precision::F32 => Numbers::F32(take::<f32>(&mut input, place)?),
            Precision::Bf16 => Numbers::Bf16(take::<u16>(&mut input, place)?),
        };
        at += (precision.bytes() * data.len()) as u64;
        tensors.push(SavedTensor { name: name.clone(), shape, data });
    }
    if at != body - length || input.digesting.digested() != *expected {
        return Err(damaged("its bytes are not those that were written (SHA-256)"));
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut snapshot = Snapshot { step: 0, tensors, integers: BTreeMap::new() };
    for (key, value) in header.get("__metadata__").and_then(Value::as_object).into_iter().flatten() {
        let number = value.as_str().and_then(|text| text.parse().ok());
        match (key.as_str(), key.strip_prefix(INTEGER), number) {
            ("step", _, Some(step)) => snapshot.step = step,
            (_, Some(name), Some(n)) => drop(snapshot.integers.insert(name.to_string(), n)),
            _ => return Err(damaged("its metadata are not those of a checkpoint")),
        }
    }
    Ok(snapshot)
}

/// A tensor as the header has it: where its numbers begin, its name, shape and precision.
type Entry<'a> = (u64, &'a String, Vec<usize>, Precision);

/// The tensors of a header in the order of their numbers, none of which may lie beyond `room`
/// bytes.
fn entries(header: &Map<String, Value>, room: u64) -> Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    for (name, entry) in header {
        if name == "__metadata__" {
            continue;
        }
        let part = |key: &str| entry.get(key).cloned().unwrap_or_default();
        let shape: Vec<usize> = serde_json::from_value(part("shape"))?;
        let [start, end]: [u64; 2] = serde_json::from_value(part("data_offsets"))?;
        let wrong = || damaged("a tensor is not what its header says");
        let dtype = part("dtype");
        let precision = Precision::ALL.into_iter().find(|p| dtype == p.dtype()).ok_or_else(wrong)?;
        let number = precision.bytes() as u64;
        let len = shape.iter().try_fold(number, |len, dim| len.checked_mul(*dim as u64));
        if end.checked_sub(start) != len || end > room {
            return Err(wrong());
        }
        entries.push((start, name, shape, precision));
    }
    entries.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
    Ok(entries)
}

/// Passes over `len` numbers, which begin at the byte `at` of `file`, and keeps them unless they
/// are many.
fn take<T: Plain>(input: &mut Passing, (file, at, len): (Arc<File>, u64, usize)) -> Result<Part<'static, T>> {
    let size = T::PRECISION.bytes();
    let large = size * len > LARGE;
    let mut values = Vec::with_capacity(if large { 0 } else { len });
    let mut bytes = vec![0; CHUNK.min(size * len)];
    let mut left = size * len;
    while left > 0 {
        let part = &mut bytes[..CHUNK.min(left)];
        input.read(part)?;
        if !large {
            values.extend(part.chunks_exact(size).map(T::take));
        }
        left -= part.len();
    }
    Ok(if large { Part::Filed { file, at, len } } else { Part::Held(values.into()) })
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// A file whose bytes are digested as they pass.
struct Passing {
    file: File,
    digesting: Digesting,
}

impl Passing {
    fn over(file: File) -> Self {
        Self { file, digesting: Digesting::default() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.digesting.pass(bytes);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes)?;
        self.digesting.pass(bytes);
        Ok(())
    }
}
