//! How images lie in a folder, and which of its classes and halves follow from that.

use super::classes::{Half, class_folders};
use super::walk::{Entry, visible};
use super::{DataConfig, HeldOut, halves, unsplit};
use crate::error::{Error, Result};
use std::path::Path;

/// Images beside class folders are strays where they are at most one of so many of all.
const STRAY: usize = 20;

/// Lists the data set in `root`: its classes by label, none where images have no labels, and both
/// halves. Says in `notes` what was left out, and what was made of a folder without halves.
///
/// A folder with a train/ has its halves. One with images directly in it has neither halves nor
/// classes, whatever folders stand beside them, unless these images are a few strays, which are
/// left out as torchvision leaves them out. In one with a test/ or a val/ train/ is missed. Of any
/// other the folders are classes.
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
    if is_of_images(root, &visible(root)?)? {
        return Ok((Vec::new(), unsplit::unlabelled(root, notes)?));
    }
    if HeldOut::ALL.iter().any(|half| is_there(half.name())) {
        return halves::list(root, config, notes);
    }
    unsplit::labelled(root, notes)
}

/// Whether images, and not folders of them, are what `root` with these `entries` is made of.
fn is_of_images(root: &Path, entries: &[Entry]) -> Result<bool> {
    let direct = entries.iter().filter(|entry| !entry.is_folder && entry.is_image()).count();
    if direct == 0 || !entries.iter().any(|entry| entry.is_folder) {
        return Ok(direct > 0);
    }
    let inside: usize = class_folders(root, root)?.classes.iter().map(|class| class.images.len()).sum();
    Ok(direct * STRAY > direct + inside)
}
