//! Sequences in which one object is followed: `tracks` are drawn, `otb:DIR` is read.
//!
//! Boxes are left and upper edge, width and height in pixels, ends exclusive, the first pixel from
//! 0 to 1. OTB counts pixels from 1; its reader makes them so.

mod drawn;
mod otb;

pub use drawn::{FRAMES, SIDE};

use super::picture::{self, Exif};
use crate::augment::Image;
use crate::error::Result;
use crate::masks::Rectangle;
use drawn::Drawn;
use std::path::PathBuf;

/// The sources of sequences.
pub const SOURCES: [&str; 2] = ["tracks", "otb:DIR"];

/// Sequences that trackers are fine-tuned on, and those that they are judged on: the `split` of
/// [`Sequence::drawn`].
pub const TRAINING: u64 = 0;
/// See [`TRAINING`].
pub const HELD_OUT: u64 = 1;

/// A sequence of frames, and where the object is in each.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What it is called.
    pub name: String,
    boxes: Vec<Rectangle>,
    frames: Frames,
}

#[derive(Clone, Debug)]
enum Frames {
    /// Drawn when they are asked for.
    Drawn(Box<Drawn>),
    /// Files, decoded when they are asked for.
    Files(Vec<PathBuf>),
}

/// The sequences of OTB's layout in the folder at `path`, which may itself be one.
///
/// # Errors
/// [`crate::Error::Data`] for another layout, for a file that is not what it claims to be, and for
/// frames that are missing.
pub fn open_otb(path: &str) -> Result<Vec<Sequence>> {
    otb::open(&super::expand(path)?)
}

impl Sequence {
    /// Procedural sequence `index` of `split`, a function of (seed, split, index): [`FRAMES`]
    /// frames of [`SIDE`] × [`SIDE`] pixels.
    ///
    /// ```
    /// use simsiam_em::data::tracks::{HELD_OUT, Sequence};
    ///
    /// # fn main() -> simsiam_em::Result<()> {
    /// let sequence = Sequence::drawn(7, HELD_OUT, 0);
    /// let [left, upper, width, height] = sequence.boxes()[0];
    /// assert!(left >= 0.0 && upper >= 0.0 && left + width <= 64.0 && upper + height <= 64.0);
    /// assert_eq!(sequence.frame(39)?.pixels, Sequence::drawn(7, HELD_OUT, 0).frame(39)?.pixels);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drawn(seed: u64, split: u64, index: usize) -> Sequence {
        let drawn = Drawn::new(seed, split, index);
        let name = format!("{} {}", drawn.motif(), index + 1);
        Sequence { name, boxes: drawn.boxes(), frames: Frames::Drawn(Box::new(drawn)) }
    }

    /// The number of frames, at least 1.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there are none; no sequence is so.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Where the object is, frame by frame; it may be hidden there.
    pub fn boxes(&self) -> &[Rectangle] {
        &self.boxes
    }

    /// Frame `number`, from 0 on.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where a file cannot be decoded.
    pub fn frame(&self, number: usize) -> Result<Image> {
        match &self.frames {
            Frames::Drawn(drawn) => Ok(drawn.frame(number)),
            Frames::Files(files) => picture::decode(&files[number], Exif::Ignored),
        }
    }
}
