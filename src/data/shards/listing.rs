//! Which files of a folder are shards of which half.

use super::super::{DataConfig, HeldOut};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// How the shards of a kind are named.
pub struct Layout {
    /// What their names end in, without the point.
    pub ending: &'static str,
    /// What stands between the name of a half and the rest.
    pub behind: &'static [char],
    /// Names of the half that [`HeldOut::Val`] means.
    pub val: &'static [&'static str],
    /// What is expected, for a person.
    pub expected: &'static str,
}

impl Layout {
    /// The shards of both halves, by name. Says in `notes` which are not used.
    ///
    /// # Errors
    /// [`Error::Data`] where a half is missing, or a folder cannot be listed.
    pub fn halves(
        &self,
        root: &Path,
        config: &DataConfig,
        notes: &mut Vec<String>,
    ) -> Result<[Vec<PathBuf>; 2]> {
        if !root.is_dir() {
            return Err(Error::data(root, "is not a folder"));
        }
        let train = self.shards_of(root, &["train"])?;
        let [test, val] = [self.shards_of(root, &[HeldOut::Test.name()])?, self.shards_of(root, self.val)?];
        if config.held_out.is_none() && !test.is_empty() && !val.is_empty() {
            notes.push("test is held out and val is not used; data.held_out = \"val\" takes val".into());
        }
        let held_out = match config.held_out {
            Some(HeldOut::Val) => val,
            Some(HeldOut::Test) => test,
            None if test.is_empty() => val,
            None => test,
        };
        if train.is_empty() || held_out.is_empty() {
            return Err(self.missing(root));
        }
        Ok([train, held_out])
    }

    /// The refusal of a folder without both halves.
    pub fn missing(&self, root: &Path) -> Error {
        Error::data(root, format!("has not both halves of a data set; {}", self.expected))
    }

    /// Files whose names begin with one of `halves`, and all files of folders that have such a
    /// name, in the order of their paths.
    ///
    /// # Errors
    /// [`Error::Data`] for a folder that cannot be listed.
    pub fn shards_of(&self, root: &Path, halves: &[&str]) -> Result<Vec<PathBuf>> {
        let mut shards = Vec::new();
        for half in halves {
            let begins =
                |name: &str| name.strip_prefix(half).is_some_and(|rest| rest.starts_with(self.behind));
            shards.extend(self.files(root)?.into_iter().filter(|(name, _)| begins(name)));
            let inner = root.join(half);
            if inner.is_dir() {
                shards.extend(self.files(&inner)?);
            }
        }
        let mut shards: Vec<PathBuf> = shards.into_iter().map(|(_, path)| path).collect();
        shards.sort();
        Ok(shards)
    }

    /// The files of this kind in `folder`, with their names.
    ///
    /// # Errors
    /// As [`Layout::shards_of`].
    pub fn files(&self, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
        let unlisted = |error: std::io::Error| Error::data(folder, format!("cannot be listed: {error}"));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_shard = name.strip_suffix(self.ending).is_some_and(|stem| stem.ends_with('.'));
            if is_shard && !name.starts_with('.') {
                files.push((name, entry.path()));
            }
        }
        Ok(files)
    }
}
