//! Checkpoints: saving one generation, taking a run up again from the newest that is whole.
//!
//! Saving: sync the logs · write state and manifest into a temporary folder, syncing each file and
//! the folder · rename it to `step-N` · sync checkpoints/ · forget all but the newest two. Killed
//! anywhere before the rename, the previous generation is the newest; after it, this one.
//!
//! Taking up: the newest generation whose manifest, lengths and SHA-256 are right and whose logs
//! are at least as long as it says; logs are then cut back to those lengths, or removed where there
//! is no generation, so that rows of steps that will be trained again do not stand twice.

use super::RunDir;
use super::digest::{Digested, digest_file};
use super::durable::{
    names, read_if_there, remove, remove_temporaries, sync_folder, temporary_beside, write_durable,
};
use super::events::EVENTS_PREFIX;
use super::generations::{self, MANIFEST, Manifest, REPLACED, STATE};
use super::metrics::MetricsLog;
use super::outcome::METRICS_FILE;
use super::state_file::{self, Snapshot};
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Generations kept.
const KEPT: usize = 2;

/// Why a generation was not taken.
enum Fault {
    /// It is damaged: an older one will do.
    Broken(String),
    /// It may be whole, but cannot be used now: taking an older one would lose work.
    Stop(Error),
}

impl RunDir {
    /// Saves a generation: whole and durable when this returns, or the previous one is untouched.
    ///
    /// # Errors
    /// [`Error::Disk`] naming path and action, [`Error::Device`] when a GPU does not give its
    /// numbers; nothing already on disk is lost.
    pub fn save(&self, snapshot: &Snapshot, logs: &mut MetricsLog) -> Result<()> {
        let logs = logs.sync()?;
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(Error::disk(&checkpoints, "create the folder"))?;
        sync_folder(self.path()).map_err(Error::disk(self.path(), "write the folder to the disk"))?;
        let generation = generations::folder(&checkpoints, snapshot.step);
        let temporary = temporary_beside(&generation);
        let written =
            write_generation(&temporary, snapshot, logs).and_then(|()| put_in_place(&temporary, &generation));
        written.map_err(|source| {
            // The save has failed already; what matters is to give back the space it took.
            let _ = fs::remove_dir_all(&temporary);
            Error::disk(&generation, "write the checkpoint")(source)
        })?;
        prune(&checkpoints, &generation)
    }

    /// The newest state that is whole, and both logs cut back to it; `None` to start from step 0.
    ///
    /// Broken newer generations are set aside as `checkpoints/broken-…`, in the place of earlier
    /// ones, and told by [`RunDir::take_notes`].
    ///
    /// # Errors
    /// [`Error::Data`] for a checkpoint of a newer program; [`Error::Disk`] where reading is
    /// refused.
    pub fn resume(&self) -> Result<Option<Snapshot<'static>>> {
        let checkpoints = self.checkpoints();
        if checkpoints.exists() {
            remove_temporaries(&checkpoints)?;
            generations::step_forward(&checkpoints)?;
        }
        let mut broken: Vec<(PathBuf, String)> = Vec::new();
        for (_, generation) in generations::newest_first(&checkpoints)? {
            match self.read_generation(&generation) {
                Ok((snapshot, manifest)) => {
                    self.set_aside(&broken, &format!("going on from step {}", snapshot.step))?;
                    self.cut_logs(&manifest.logs)?;
                    // A kill between saving and forgetting leaves one too many, perhaps for good.
                    prune(&checkpoints, &generation)?;
                    return Ok(Some(snapshot));
                }
                Err(Fault::Stop(error)) => return Err(error),
                Err(Fault::Broken(what)) => broken.push((generation, what)),
            }
        }
        self.set_aside(&broken, "starting over")?;
        self.cut_logs(&BTreeMap::new())?;
        Ok(None)
    }

    /// Puts generations out of use, each with what is wrong with it, and tells that and how the run
    /// goes on.
    fn set_aside(&self, broken: &[(PathBuf, String)], goes_on: &str) -> Result<()> {
        if !broken.is_empty() {
            generations::forget_broken(&self.checkpoints())?;
        }
        for (generation, what) in broken {
            let aside = generations::set_aside(&self.checkpoints(), generation)?;
            let (generation, aside) = (generation.display(), aside.display());
            self.note(format!("{generation}: broken checkpoint ({what}), kept as {aside}; {goes_on}"));
        }
        Ok(())
    }

    fn checkpoints(&self) -> PathBuf {
        self.path().join("checkpoints")
    }

    fn read_generation(&self, generation: &Path) -> Result<(Snapshot<'static>, Manifest), Fault> {
        let text = read_if_there(&generation.join(MANIFEST), files::SHORT).map_err(|error| match error {
            Error::Data { what, .. } => Fault::Broken(format!("{MANIFEST} {what}")),
            error => Fault::Stop(error),
        })?;
        let text = text.ok_or_else(|| Fault::Broken(format!("{MANIFEST} is missing")))?;
        let manifest = Manifest::parse(&text).map_err(|(what, newer)| {
            if newer { Fault::Stop(Error::data(generation, what)) } else { Fault::Broken(what) }
        })?;
        let file = generation.join(STATE);
        let snapshot = state_file::read(&file, &manifest.state).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied | ErrorKind::OutOfMemory => {
                Fault::Stop(Error::disk(&file, "read it")(e))
            }
            _ => Fault::Broken(format!("{STATE}: {e}")),
        })?;
        if snapshot.step != manifest.step {
            return Err(Fault::Broken("state and manifest are of different steps".to_string()));
        }
        manifest.logs.iter().try_for_each(|(name, len_bytes)| self.check_log(name, *len_bytes, &manifest))?;
        Ok((snapshot, manifest))
    }

    /// Refuses a generation whose log is shorter than it was, or begins with other bytes.
    fn check_log(&self, name: &str, len_bytes: u64, manifest: &Manifest) -> Result<(), Fault> {
        let found = digest_file(&self.path().join(name), len_bytes).map_err(Fault::Stop)?;
        let length = found.as_ref().map_or(0, |found| found.len_bytes);
        if length < len_bytes {
            return Err(Fault::Broken(format!("{name} has {length} bytes where it had {len_bytes}")));
        }
        match manifest.log_digests.get(name) {
            Some(digest) if found.is_none_or(|found| found.sha256 != *digest) => {
                Err(Fault::Broken(format!("{name} does not begin with the bytes that it had")))
            }
            _ => Ok(()),
        }
    }

    /// Cuts each log to its length in `lengths`; a log that is not in there is removed.
    fn cut_logs(&self, lengths: &BTreeMap<String, u64>) -> Result<()> {
        for name in names(self.path())? {
            if name != METRICS_FILE && !name.starts_with(EVENTS_PREFIX) {
                continue;
            }
            let path = self.path().join(&name);
            let Some(len_bytes) = lengths.get(&name) else {
                remove(&path)?;
                continue;
            };
            let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
                if file.metadata()?.len() != *len_bytes {
                    file.set_len(*len_bytes)?;
                    file.sync_all()?;
                }
                Ok(())
            });
            cut.map_err(Error::disk(&path, "cut the log back to the checkpoint"))?;
        }
        Ok(())
    }
}

fn write_generation(
    folder: &Path,
    snapshot: &Snapshot,
    logs: [(String, Digested); 2],
) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    let state = state_file::write(&folder.join(STATE), snapshot)?;
    let manifest = Manifest {
        step: snapshot.step,
        state,
        logs: logs.iter().map(|(name, log)| (name.clone(), log.len_bytes)).collect(),
        log_digests: logs.into_iter().map(|(name, log)| (name, log.sha256)).collect(),
    };
    write_durable(&folder.join(MANIFEST), manifest.to_text().as_bytes()).map_err(|error| match error {
        Error::Disk { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    })?;
    sync_folder(folder)
}

/// Renames `temporary` to `generation`. A folder cannot replace another one in one go: a generation
/// of the same step steps back to `….old` first, where [`RunDir::resume`] still finds it.
fn put_in_place(temporary: &Path, generation: &Path) -> std::io::Result<()> {
    let mut replaced = generation.as_os_str().to_owned();
    replaced.push(REPLACED);
    let replaced = PathBuf::from(replaced);
    if generation.exists() {
        if replaced.exists() {
            fs::remove_dir_all(&replaced)?;
        }
        fs::rename(generation, &replaced)?;
    }
    fs::rename(temporary, generation)?;
    sync_folder(super::durable::parent(generation))
}

/// Forgets all generations but `newest` and the one before it.
fn prune(checkpoints: &Path, newest: &Path) -> Result<()> {
    let older = generations::newest_first(checkpoints)?.into_iter().map(|(_, path)| path);
    let replaced = |path: &PathBuf| path.to_string_lossy().ends_with(REPLACED);
    let mut kept = 1;
    for path in older.filter(|path| path != newest) {
        if !replaced(&path) && kept < KEPT {
            kept += 1;
            continue;
        }
        // Under a temporary name half a generation is never mistaken for a broken one.
        let temporary = temporary_beside(&path);
        let action = "remove an old checkpoint";
        fs::rename(&path, &temporary).map_err(Error::disk(&path, action))?;
        fs::remove_dir_all(&temporary).map_err(Error::disk(&path, action))?;
    }
    Ok(())
}
