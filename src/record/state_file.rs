//! state.safetensors: all tensors of a checkpoint, written and read in one pass over the bytes.
//!
//! ```text
//! u64 length of the header · header (JSON, padded with spaces to 8 bytes) · f32 numbers    little-endian
//! ```
//!
//! Written here rather than by the safetensors crate because that one orders its metadata at random,
//! never syncs, sets mode 0600 and wants all bytes in memory at once. Any reader of safetensors opens it.
//!
//! Invariant: the bytes depend on the snapshot alone; step and integers stand in `__metadata__`.

use super::checkpoint::{SavedTensor, Snapshot};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// Numbers turned into bytes at a time.
const CHUNK: usize = 1 << 15;
const INTEGER: &str = "integer.";

/// Length and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Bytes.
    pub len_bytes: u64,
    /// Lower-case hexadecimal digits.
    pub sha256: String,
}

/// Writes and syncs the file.
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<Digested> {
    let mut out = Digesting::over(OpenOptions::new().write(true).create_new(true).open(path)?);
    let mut tensors: Vec<&SavedTensor> = snapshot.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut header = Map::new();
    let mut metadata = Map::from_iter([("step".to_string(), json!(snapshot.step.to_string()))]);
    metadata
        .extend(snapshot.integers.iter().map(|(name, n)| (format!("{INTEGER}{name}"), json!(n.to_string()))));
    header.insert("__metadata__".to_string(), Value::Object(metadata));
    let mut at = 0;
    for tensor in &tensors {
        let end = at + 4 * tensor.data.len();
        let fits = tensor.shape.iter().product::<usize>() == tensor.data.len();
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end] });
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
    let mut bytes = Vec::with_capacity(4 * CHUNK);
    for numbers in tensors.iter().flat_map(|tensor| tensor.data.chunks(CHUNK)) {
        bytes.clear();
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        out.write(&bytes)?;
    }
    out.file.sync_all()?;
    Ok(out.digested())
}

/// Reads the file, which must be of this length and digest: only then its bytes are believed.
pub fn read(path: &Path, expected: &Digested) -> Result<Snapshot<'static>> {
    let mut input = Digesting::over(File::open(path)?);
    if input.file.metadata()?.len() != expected.len_bytes {
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
    let mut entries = Vec::new();
    for (name, entry) in &header {
        if name == "__metadata__" {
            continue;
        }
        let part = |key: &str| entry.get(key).cloned().unwrap_or_default();
        let shape: Vec<usize> = serde_json::from_value(part("shape"))?;
        let [start, end]: [u64; 2] = serde_json::from_value(part("data_offsets"))?;
        let len = shape.iter().try_fold(4u64, |len, dim| len.checked_mul(*dim as u64));
        if part("dtype") != "F32" || end.checked_sub(start) != len || end > body - length {
            return Err(damaged("a tensor is not what its header says"));
        }
        entries.push((start, name, shape));
    }
    entries.sort();
    let mut tensors = Vec::with_capacity(entries.len());
    let mut at = 0;
    let mut bytes = vec![0; 4 * CHUNK];
    for (start, name, shape) in entries {
        if start != at {
            return Err(damaged("its tensors do not lie side by side"));
        }
        let count: usize = shape.iter().product();
        let mut data = Vec::with_capacity(count);
        while data.len() < count {
            let part = &mut bytes[..4 * CHUNK.min(count - data.len())];
            input.read(part)?;
            data.extend(part.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        at += 4 * count as u64;
        tensors.push(SavedTensor { name: name.clone(), shape, data: Cow::Owned(data) });
    }
    if at != body - length || input.digested() != *expected {
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

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// A file whose bytes are digested as they pass.
struct Digesting {
    file: File,
    sha256: Sha256,
    len_bytes: u64,
}

impl Digesting {
    fn over(file: File) -> Self {
        Self { file, sha256: Sha256::new(), len_bytes: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)?;
        self.pass(bytes);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes)?;
        self.pass(bytes);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.len_bytes += bytes.len() as u64;
    }

    fn digested(self) -> Digested {
        Digested { len_bytes: self.len_bytes, sha256: hex(&self.sha256.finalize()) }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
