//! How images lie in a folder, and which of its classes and halves follow from that.

use super::classes::Half;
use super::{DataConfig, HeldOut, halves, unsplit};
use crate::error::{Error, Result};
use std::path::Path;

/// Lists the data set in `root`: its classes by label, and both halves. Says in `notes` what was
/// left out, and what was made of a folder without halves.
///
/// A folder with a train/ has its halves; so has one with a test/ or a val/, in which train/ is
/// missed. Of any other the folders are classes.
///
/// # Errors
/// [`Error::Data`] for a folder without images, or whose images are not what its layout asks for.
pub fn list(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let is_there = |name: &str| root.join(name).is_dir();
    let has_halves = is_there("train") || HeldOut::ALL.iter().any(|half| is_there(half.name()));
    if has_halves || config.held_out.is_some() {
        return halves::list(root, config, notes);
    }
    unsplit::labelled(root, notes)
}
