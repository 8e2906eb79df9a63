//! The run directory: who may write, and which recipe it belongs to.
//!
//! Invariant: while a [`RunDir`] lives, no other process has one for the same folder;
//! [`super::lock`] says how.

use super::durable::{
    make_folder, names, parent, read_if_there, remove, remove_temporaries, sync_folder, write_durable,
};
use super::events::EVENTS_PREFIX;
use super::keys::{differing, flatten, or_absent};
use super::lock::{LOCK, Lock, OWNER};
use super::outcome::{EIGENVALUES, ENV, FILM, OUTCOME, REPAIRABLE, TRAJECTORY, read_outcome};
use crate::error::{Error, Result};
use crate::files;
use crate::threads;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The complete recipe of a run, in its folder.
pub const CONFIG_FILE: &str = "config.toml";
/// What a person is told where two processes on one machine could not be kept apart.
const NO_LOCKS: &str =
    "the file system of this folder knows no locks: start no second command on its runs on this machine";
/// Keys of a recipe that say how files are read, and nothing about what is trained: a run may go on
/// with others. Images and weights that are not those it began with are found by their digests.
const READING: [&str; 2] = ["data.skip_bad", "encoder.init"];

/// What a message about a run of another length begins with.
const EPOCHS: &str = "schedule.epochs:";

/// One run's folder, locked for as long as the value lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    notes: Mutex<Vec<String>>,
    _lock: Lock,
}

impl RunDir {
    /// Creates the folder `path` for the recipe `config` (TOML), or opens it again.
    ///
    /// With `fresh` everything an earlier run left in it is removed first.
    ///
    /// # Errors
    /// - [`Error::InUse`] while another process holds it.
    /// - [`Error::Usage`] where it belongs to another recipe (the keys that differ are named), or
    ///   holds files but no config.toml.
    /// - [`Error::Data`] where its config.toml is not TOML.
    /// - [`Error::Disk`] where it cannot be created or written.
    pub fn open(path: &Path, config: &str, fresh: bool) -> Result<RunDir> {
        make_folder(path)?;
        let lock = Lock::take(path)?;
        remove_temporaries(path)?;
        let file = path.join(CONFIG_FILE);
        let mut kept = read_if_there(&file, files::SHORT)?;
        let others = || -> Result<Vec<String>> {
            Ok(names(path)?
                .into_iter()
                .filter(|name| ![LOCK, OWNER, CONFIG_FILE].contains(&name.as_str()))
                .collect())
        };
        if kept.is_none()
            && let Some(name) = others()?.first()
        {
            return Err(Error::Usage(format!(
                "{}: holds files ({name}, …) but no {CONFIG_FILE}, so it is not a run of sim; choose another --out",
                path.display()
            )));
        }
        if fresh && kept.is_some() {
            // How it ended goes first, so that what is left of a run never passes for a finished
            // one; the recipe goes last, so that the folder is still known as a run's.
            remove(&path.join(OUTCOME))?;
            sync_folder(path).map_err(Error::disk(path, "remove what an earlier run left"))?;
            for name in others()?.into_iter().filter(|name| is_of_a_run(name)) {
                remove(&path.join(name))?;
            }
            remove(&file)?;
            kept = None;
        }
        match kept {
            Some(bytes) if bytes == config.as_bytes() => {}
            Some(bytes) => {
                compare(&file, &bytes, config)?;
                // What it says of reading holds from now on; a finished run stays as it is.
                if read_outcome(path)?.is_none() {
                    write_durable(&file, config.as_bytes())?;
                }
            }
            None => {
                write_durable(&file, config.as_bytes())?;
            }
        }
        let notes = match lock.is_known {
            true => Vec::new(),
            false => vec![NO_LOCKS.to_string()],
        };
        Ok(RunDir { path: path.to_path_buf(), notes: Mutex::new(notes), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier run left beside its recipe.
    pub(super) fn remove_results(&self) -> Result<()> {
        let mut of_a_run = names(&self.path)?.into_iter().filter(|name| is_of_a_run(name));
        of_a_run.try_for_each(|name| remove(&self.path.join(name)))
    }

    /// What a person should know about how the run was taken up again, such as a broken checkpoint;
    /// each is given once.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *threads::lock(&self.notes))
    }

    pub(super) fn note(&self, note: String) {
        threads::lock(&self.notes).push(note);
    }
}

/// Whether a run writes files of this name; others in its folder are somebody's own and stay.
fn is_of_a_run(name: &str) -> bool {
    const NAMES: [&str; 6] = [ENV, OUTCOME, "checkpoints", TRAJECTORY, FILM, EIGENVALUES];
    NAMES.contains(&name) || REPAIRABLE.contains(&name) || name.starts_with(EVENTS_PREFIX)
}

/// The folder of the run of `arm` with `seed` below that of its study.
pub fn run_folder(study: &Path, arm: &str, seed: u64) -> PathBuf {
    study.join(arm).join(format!("seed-{seed}"))
}

/// Whether the run in the folder `path` has left numbers from which another process would go on.
pub fn has_begun(path: &Path) -> bool {
    path.join(OUTCOME).exists() || path.join("checkpoints").exists()
}

/// Refuses, without changing anything, a folder in which [`RunDir::open`] would refuse the recipe
/// `config`.
///
/// # Errors
/// [`Error::Usage`] where the folder belongs to another recipe, [`Error::Data`] where its recipe is
/// damaged.
pub fn check_recipe(path: &Path, config: &str) -> Result<()> {
    let file = path.join(CONFIG_FILE);
    read_if_there(&file, files::SHORT)?.map_or(Ok(()), |kept| compare(&file, &kept, config))
}

/// A run of the recipe `config` below `out` (out/study/arm/seed), in a folder called `seed`, that
/// `accepts` takes as the same run as the one in `own`. What cannot be read is no twin.
pub fn find_twin(
    out: &Path,
    seed: &std::ffi::OsStr,
    config: &str,
    own: &Path,
    accepts: &dyn Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        all.sort();
        all
    };
    let runs = folders(out).into_iter().flat_map(|study| folders(&study)).map(|arm| arm.join(seed));
    let same = |run: &PathBuf| {
        run != own
            && files::read(&run.join(CONFIG_FILE), files::SHORT).is_ok_and(|bytes| bytes == config.as_bytes())
    };
    runs.filter(same).find(|run| accepts(run))
}

/// Refuses to go on with a run of another recipe.
fn compare(file: &Path, kept: &[u8], config: &str) -> Result<()> {
    if kept == config.as_bytes() {
        return Ok(());
    }
    let kept = std::str::from_utf8(kept).map_err(|e| Error::data(file, format!("not a text: {e}")))?;
    let damaged = |what: &str| Error::data(file, format!("not valid TOML ({what}); --fresh starts over"));
    if files::nested_too_deep(kept).is_some() {
        return Err(damaged("nested too deeply"));
    }
    let was: toml::Table = kept.parse().map_err(|e: toml::de::Error| damaged(e.message()))?;
    let asked = |e: toml::de::Error| Error::Failure(format!("the recipe is not TOML: {}", e.message()));
    let is: toml::Table = config.parse().map_err(asked)?;
    let told = |(key, values): (String, Vec<Option<String>>)| {
        format!("  {key}: {} there, {} asked for", or_absent(&values[0]), or_absent(&values[1]))
    };
    let differing = differing(&[&flatten(was), &flatten(is)]).into_iter();
    let differing: Vec<String> =
        differing.filter(|(key, _)| !READING.contains(&key.as_str())).map(told).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let folder = parent(file).display();
    let more = match &differing[..] {
        [only] if only.trim_start().starts_with(EPOCHS) => format!(
            "; --init {folder} --out DIR makes a new run that begins with the weights of this one, once it is finished"
        ),
        _ => String::new(),
    };
    Err(Error::Usage(format!(
        "{folder}: this run was begun with another recipe:\n{}\n--fresh starts over, --out DIR keeps both{more}",
        differing.join("\n")
    )))
}
