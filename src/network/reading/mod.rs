//! Reading weights of others: safetensors and PyTorch's checkpoints, old and new.
//!
//! A file is a person's download: nothing in it is believed before it is compared with the file's
//! length.

mod checkpoint;
mod prefixes;

pub use prefixes::part_names;

use crate::error::{Error, Result};
use crate::files;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A tensor's shape and numbers.
pub type ShapedNumbers = (Vec<usize>, Vec<f32>);
/// Tensors by name.
pub type Tensors = BTreeMap<String, ShapedNumbers>;

/// What PyTorch's container before version 1.6 begins with: a pickle of one number.
const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// All tensors of a file, as f32, under the names that they have there; of a PyTorch checkpoint,
/// those of its state dict.
///
/// # Errors
/// [`Error::Data`] when the file is neither safetensors nor a PyTorch checkpoint, or is damaged.
pub fn read_weights(path: &Path) -> Result<Tensors> {
    read_with_metadata(path).map(|(tensors, _)| tensors)
}

/// The tensors of [`read_weights`] and the metadata of a safetensors file; a checkpoint has none.
///
/// # Errors
/// As [`read_weights`].
pub fn read_with_metadata(path: &Path) -> Result<(Tensors, HashMap<String, String>)> {
    let bytes = read_file(path)?;
    let read = if bytes.starts_with(ZIP_MAGIC) {
        checkpoint::read_zip(&bytes).map(|tensors| (tensors, HashMap::new()))
    } else if bytes.starts_with(OLD_MAGIC) {
        checkpoint::read_old(&bytes).map(|tensors| (tensors, HashMap::new()))
    } else {
        read_safetensors(&bytes)
    };
    read.map_err(|e| e.in_file(path))
}

/// The bytes of a regular file of a length that weights may have.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        return Err(Error::data(path, "is a folder; give the file of weights that lies in it"));
    }
    files::read(path, files::WEIGHTS).map_err(|e| Error::data(path, format!("cannot be read: {e}")))
}

fn read_safetensors(bytes: &[u8]) -> Result<(Tensors, HashMap<String, String>)> {
    if let Some(what) = something_else(bytes) {
        return Err(Error::Failure(what.into()));
    }
    let damaged = |e| Error::Failure(format!("is neither safetensors nor a PyTorch checkpoint: {e}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let values = numbers(view.dtype(), view.data()).map_err(|e| e.of_tensor(&name))?;
        tensors.insert(name, (view.shape().to_vec(), values));
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// What a file is that people take for weights, by its first bytes.
fn something_else(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(256)];
    let text =
        String::from_utf8_lossy(start).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let begins = |with: &[u8]| start.starts_with(with);
    Some(match () {
        () if bytes.is_empty() => "is empty",
        () if text.starts_with("version https://git-lfs") => {
            "is a git-lfs pointer, not the weights themselves; fetch them with `git lfs pull`"
        }
        () if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") => {
            "is an HTML page, not weights: the download gave a page of the site; download the file again"
        }
        () if begins(b"\x1f\x8b") => "is gzip-compressed; decompress it first",
        () if begins(b"\x93NUMPY") => "is a NumPy array, not weights with names",
        () if begins(b"\x89HDF") => {
            "is an HDF5 file; weights are read from safetensors or a PyTorch checkpoint"
        }
        () if begins(b"\x80") && start.get(1).is_some_and(|version| (2..=5).contains(version)) => {
            "is a Python pickle without PyTorch's container; write it with torch.save(model.state_dict(), file)"
        }
        () => return None,
    })
}

/// Stored numbers, little-endian, as f32.
fn numbers(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    Ok(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => each(bytes, |b| half(u16::from_le_bytes(b))),
        Dtype::BF16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U8 | Dtype::BOOL => each(bytes, |[b]| f32::from(b)),
        other => {
            return Err(Error::Failure(format!("has numbers of kind {other:?}, which are not read here")));
        }
    })
}

/// The value of a number of IEEE 754's half precision.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, u32::from(bits & 0x3ff));
    let value = match exponent {
        0 => fraction as f32 * 2f32.powi(-24),
        0x1f if fraction == 0 => f32::INFINITY,
        0x1f => f32::NAN,
        // f32 has 8 bits of exponent, of bias 127 where these have 15, and 13 bits of fraction
        // more.
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
    };
    if sign == 1 { -value } else { value }
}

impl Error {
    /// This error's message as a failure about the tensor called `name`.
    fn of_tensor(self, name: &str) -> Error {
        Error::Failure(format!("tensor '{name}' {self}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_exactly() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}
