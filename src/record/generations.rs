//! The folders below checkpoints/, one per generation, and what their manifests say.
//!
//! `step-N` is a generation, `step-N.old` the one it is about to replace at the same step,
//! `broken-…` one that failed its checks and is out of use. Invariant: a manifest that is believed
//! has passed its own checksum.
//!
//! What changes or lists folders here fails with [`Error::Disk`].

use super::digest::{Digested, digest_bytes};
use super::durable::{names, remove};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layout of manifest and state; a program refuses what a newer one wrote.
pub const SCHEMA: u64 = 1;
/// The tensors' file in a generation.
pub const STATE: &str = "state.safetensors";
/// The file that makes a generation believable.
pub const MANIFEST: &str = "manifest.json";
/// What a replaced generation's name ends with while its successor takes its place.
pub const REPLACED: &str = ".old";
/// What the name of a generation out of use begins with.
pub const BROKEN: &str = "broken-";

/// The folder of the generation at `step`.
pub fn folder(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("step-{step:010}"))
}

/// Every generation, the newest first; nothing where the folder is missing.
pub fn newest_first(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    if !checkpoints.exists() {
        return Ok(Vec::new());
    }
    let mut found: Vec<(u64, bool, PathBuf)> = names(checkpoints)?
        .into_iter()
        .filter_map(|name| {
            let current = name.strip_suffix(REPLACED);
            let digits = current.unwrap_or(&name).strip_prefix("step-")?;
            Some((digits.parse().ok()?, current.is_none(), checkpoints.join(&name)))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().rev().map(|(step, _, path)| (step, path)).collect())
}

/// Gives a generation its name back whose successor never took its place.
pub fn step_forward(checkpoints: &Path) -> Result<()> {
    for name in names(checkpoints)? {
        if let Some(current) = name.strip_suffix(REPLACED).map(|current| checkpoints.join(current))
            && !current.exists()
        {
            let replaced = checkpoints.join(&name);
            std::fs::rename(&replaced, current).map_err(Error::disk(&replaced, "rename the checkpoint"))?;
        }
    }
    Ok(())
}

/// Removes the generations that an earlier process put out of use.
pub fn forget_broken(checkpoints: &Path) -> Result<()> {
    let broken = names(checkpoints)?.into_iter().filter(|name| name.starts_with(BROKEN));
    broken.map(|name| checkpoints.join(name)).try_for_each(|path| remove(&path))
}

/// Puts a generation that failed its checks out of use; where it is kept.
pub fn set_aside(checkpoints: &Path, generation: &Path) -> Result<PathBuf> {
    let name = generation.file_name().unwrap_or_default().to_string_lossy();
    let aside = checkpoints.join(format!("{BROKEN}{name}"));
    std::fs::rename(generation, &aside)
        .map_err(Error::disk(generation, "set the broken checkpoint aside"))?;
    Ok(aside)
}

/// What a generation holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// SGD steps made.
    pub step: u64,
    /// Length and digest of state.safetensors.
    pub state: Digested,
    /// Name → length in bytes of each append-only log at this step.
    pub logs: BTreeMap<String, u64>,
    /// Name → SHA-256 of each log up to that length; none of versions that kept no digests.
    pub log_digests: BTreeMap<String, String>,
}

impl Manifest {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut value = json!({
            "schema": SCHEMA,
            "step": self.step,
            "files": { STATE: { "len_bytes": self.state.len_bytes, "sha256": self.state.sha256 } },
            "logs_len_bytes": self.logs,
            "logs_sha256": self.log_digests,
        });
        value["manifest_sha256"] = json!(checksum(&value));
        format!("{value:#}\n")
    }

    /// Understands the file's text.
    ///
    /// # Errors
    /// What is wrong with it, and whether a newer program wrote it (then it is not damaged).
    pub fn parse(text: &[u8]) -> std::result::Result<Manifest, (String, bool)> {
        let damaged = |what: &str| (format!("{MANIFEST}: {what}"), false);
        let mut value: Value = serde_json::from_slice(text).map_err(|e| damaged(&e.to_string()))?;
        let claimed = value.as_object_mut().and_then(|object| object.remove("manifest_sha256"));
        if claimed.as_ref().and_then(Value::as_str) != Some(&checksum(&value)) {
            return Err(damaged("it does not match its checksum"));
        }
        match value["schema"].as_u64() {
            Some(SCHEMA) => {}
            Some(schema) if schema > SCHEMA => {
                return Err((format!("written by a newer version of sim (schema {schema})"), true));
            }
            _ => return Err(damaged("it has no schema number")),
        }
        let state = &value["files"][STATE];
        let parts = || {
            let sha256 = state["sha256"].as_str()?.to_string();
            Some(Manifest {
                step: value["step"].as_u64()?,
                state: Digested { len_bytes: state["len_bytes"].as_u64()?, sha256 },
                logs: serde_json::from_value(value["logs_len_bytes"].clone()).ok()?,
                log_digests: match &value["logs_sha256"] {
                    Value::Null => BTreeMap::new(),
                    digests => serde_json::from_value(digests.clone()).ok()?,
                },
            })
        };
        let manifest = parts().ok_or_else(|| damaged("an entry is missing"))?;
        // Logs are cut by these names: they must not lead out of the run directory.
        if manifest.logs.keys().any(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
            return Err(damaged("a log's name is a path"));
        }
        Ok(manifest)
    }
}

/// SHA-256 of a file of JSON without its checksum, as compact JSON.
pub(super) fn checksum(value: &Value) -> String {
    digest_bytes(value.to_string().as_bytes()).sha256
}
