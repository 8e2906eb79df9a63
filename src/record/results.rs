//! How a run leaves its results and how another process finds them: sealed at its end, taken back
//! where they are damaged, copied where another run is the same one.

use super::digest::{digest_bytes, digest_file};
use super::directory::RunDir;
use super::durable::{names, parent, read_if_there, remove, write_durable};
use super::events::EVENTS_PREFIX;
use super::outcome::{ENV, OUTCOME, Outcome, REPAIRABLE, Sealed, changed, read_outcome, results};
use super::provenance::Environment;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

impl RunDir {
    /// Says that the run has ended, and seals the results that lie in its folder.
    ///
    /// # Errors
    /// [`Error::Disk`] where a result cannot be read or the file cannot be written.
    pub fn set_outcome(&self, outcome: &Outcome) -> Result<()> {
        let mut files = BTreeMap::new();
        for name in results(self.path())? {
            if let Some(digest) = digest_file(&self.path().join(&name), u64::MAX)? {
                files.insert(name, digest);
            }
        }
        let text = Sealed { outcome: *outcome, files }.to_text()?;
        write_durable(&self.path().join(OUTCOME), text.as_bytes())
    }

    /// How the run ended, where it has and all of its results are whole.
    ///
    /// Where a result is missing or damaged that a checkpoint makes again, the outcome is taken
    /// back, so that the run goes on from its last checkpoint; a note says so.
    ///
    /// # Errors
    /// [`Error::Data`] naming a damaged file that no checkpoint makes again.
    pub fn whole_outcome(&self) -> Result<Option<Outcome>> {
        let Some(sealed) = Sealed::read(self.path())? else { return Ok(None) };
        let Some((name, what)) = sealed.damage(self.path())? else { return Ok(Some(sealed.outcome)) };
        if !REPAIRABLE.contains(&name.as_str()) {
            return Err(changed(self.path(), &name, what));
        }
        remove(&self.path().join(OUTCOME))?;
        let file = self.path().join(name);
        self.note(format!("{} {what}; making the run's results again", file.display()));
        Ok(None)
    }

    /// How the run ended; `None` while it has not.
    ///
    /// # Errors
    /// As [`read_outcome`].
    pub fn outcome(&self) -> Result<Option<Outcome>> {
        read_outcome(self.path())
    }

    /// Takes over the finished run in the folder `from`, which had the same recipe: its metrics,
    /// weights, trajectory and outcome. env.json says where they come from. Checkpoints stay
    /// behind.
    ///
    /// # Errors
    /// [`Error::Data`] when a file of it cannot be read or is not what that run left,
    /// [`Error::Disk`] when one cannot be written.
    pub fn adopt(&self, from: &Path) -> Result<()> {
        let Some(sealed) = Sealed::read(from)? else {
            return Err(Error::Failure(format!("{}: not a finished run", from.display())));
        };
        self.remove_results()?;
        let kept =
            if sealed.files.is_empty() { results(from)? } else { sealed.files.keys().cloned().collect() };
        let events = names(from)?.into_iter().filter(|name| name.starts_with(EVENTS_PREFIX));
        let mut environment = Environment::new();
        for name in kept.into_iter().chain(events) {
            let (file, copy) = (from.join(&name), self.path().join(&name));
            let missing = || Error::data(&file, "there is no such file; the run was taken away meanwhile");
            let bytes = read_if_there(&file, u64::MAX)?.ok_or_else(missing)?;
            sealed.check(from, &name, Some(&digest_bytes(&bytes)))?;
            if name == ENV {
                environment =
                    serde_json::from_slice(&bytes).map_err(|e| Error::data(&file, e.to_string()))?;
                continue;
            }
            let folder = parent(&copy);
            std::fs::create_dir_all(folder).map_err(Error::disk(folder, "create the folder"))?;
            write_durable(&copy, &bytes)?;
        }
        environment.insert("taken_from".into(), from.display().to_string().into());
        self.write_env(&json!(environment))?;
        self.set_outcome(&sealed.outcome)
    }

    /// Writes env.json: machine, images, versions; whatever is not part of the recipe.
    ///
    /// # Errors
    /// [`Error::Disk`] where it cannot be written.
    pub fn write_env(&self, env: &Value) -> Result<()> {
        let path = self.path().join(ENV);
        let text = serde_json::to_string_pretty(env)
            .map_err(|e| Error::Failure(format!("{}: {e}", path.display())))?;
        write_durable(&path, format!("{text}\n").as_bytes())
    }
}
