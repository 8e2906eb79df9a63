//! How images lie in a folder, and which of its classes and halves follow from that.

use super::classes::Half;
use super::walk::visible;
use super::{DataConfig, HeldOut, halves, unsplit};
use crate::error::{Error, Result};
use std::path::Path;

/// Lists the data set in `root`: its classes by label, none where images have no labels,
/// and both halves. Says in `notes` what was
/// left out, and what was made of a folder without halves.
///
/// A folder with a train/ has its halves. One with images directly in it has neither halves nor
/// classes, whatever folders stand beside them. In one with a test/ or a val/ train/ is missed. Of
/// any other the folders are classes.
///
/// # Errors
/// [`Error::Data`] for a folder without images, or whose images are not what its layout asks for.
pub fn list(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<(Vec<String>, [Half; 2])> {
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let is_there = |name: &str| root.join(name).is_dir();
    if is_there("train") || config.held_out.is_some() {
        return halves::list(root, config, notes);
    }
    if visible(root)?.iter().any(|entry| !entry.is_folder && entry.is_image()) {
        return Ok((Vec::new(), unsplit::unlabelled(root, notes)?));
    }
    if HeldOut::ALL.iter().any(|half| is_there(half.name())) {
        return halves::list(root, config, notes);
    }
    unsplit::labelled(root, notes)
}
