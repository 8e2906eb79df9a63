//! Length and SHA-256 of bytes, taken as they pass.

use crate::error::{Error, Result};
use crate::files::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Bytes read at a time.
const CHUNK: usize = 1 << 17;

/// Length and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digested {
    /// Bytes.
    pub len_bytes: u64,
    /// Lower-case hexadecimal digits.
    pub sha256: String,
}

/// The digest of all bytes that have passed so far.
#[derive(Clone, Debug, Default)]
pub struct Digesting {
    sha256: Sha256,
    len_bytes: u64,
}

impl Digesting {
    /// Takes note of the next bytes.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.len_bytes += bytes.len() as u64;
    }

    /// Bytes that have passed so far.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// What has passed so far.
    pub fn digested(&self) -> Digested {
        Digested { len_bytes: self.len_bytes, sha256: hex(&self.sha256.clone().finalize()) }
    }

    /// The first `limit` bytes of `input`, or all where it has fewer.
    pub fn of(input: impl Read, limit: u64) -> std::io::Result<Digesting> {
        let (mut digesting, mut input, mut chunk) = (Digesting::default(), input.take(limit), vec![0; CHUNK]);
        loop {
            match input.read(&mut chunk) {
                Ok(0) => return Ok(digesting),
                Ok(read) => digesting.pass(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The digest of `bytes`.
pub fn digest_bytes(bytes: &[u8]) -> Digested {
    let mut digesting = Digesting::default();
    digesting.pass(bytes);
    digesting.digested()
}

/// The digest of the first `limit` bytes of a file, or of all where it has fewer; `None` where
/// there is no such file, or something else has its name.
///
/// # Errors
/// [`Error::Disk`] when the file cannot be read.
pub fn digest_file(path: &Path, limit: u64) -> Result<Option<Digested>> {
    if !path.is_file() {
        return Ok(None);
    }
    match File::open(path).and_then(|file| Digesting::of(file, limit)) {
        Ok(digesting) => Ok(Some(digesting.digested())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::disk(path, "read the file")(error)),
    }
}
