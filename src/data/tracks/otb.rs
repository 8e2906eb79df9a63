//! `otb:DIR`: the object tracking benchmark's layout (Wu, Lim & Yang 2013, 2015): for each sequence
//! a folder with img/ and groundtruth_rect.txt, a line x, y, width, height for each frame, told
//! apart by commas, tabs or spaces.
//!
//! Pixels are counted from 1: a box at 1 has its left edge at 0. Of a few published sequences the
//! boxes are of a part of the frames, as the benchmark's own code has it; of those that follow two
//! objects there are several such files (groundtruth_rect.1.txt), each of which is a sequence.

use super::{Frames, Sequence};
use crate::data::walk;
use crate::error::{Error, Result};
use crate::files;
use crate::masks::Rectangle;
use std::path::{Path, PathBuf};

const LAYOUT: &str = "expected OTB's layout: a folder for each sequence, with img/ and groundtruth_rect.txt";
const IMAGES: &str = "img";
const TRUTH: &str = "groundtruth_rect";
/// More frames of one sequence are taken for a damaged file; the longest published one has 3,872.
const MOST_FRAMES: usize = 1 << 20;
/// An edge farther away is taken for damage, and leaves nothing to compute with.
const FARTHEST: f64 = 1e6;
/// Sequences whose boxes are of the frames from the one number to the other, both counted
/// (Wu et al.'s `configSeqs.m`).
const PARTS: [(&str, usize, usize); 5] = [
    ("david", 300, 770),
    ("football1", 1, 74),
    ("freeman3", 1, 460),
    ("freeman4", 1, 283),
    ("diving", 1, 215),
];

/// The sequences in the folder `root`, which may itself be one.
///
/// # Errors
/// [`Error::Data`] for another layout, for a file that is not what it claims to be, and for frames
/// that are missing.
pub fn open(root: &Path) -> Result<Vec<Sequence>> {
    if root.join(IMAGES).is_dir() {
        return sequences(root);
    }
    let entries = walk::visible(root)?.into_iter().map(|entry| entry.path);
    let folders: Vec<PathBuf> = entries.filter(|path| path.join(IMAGES).is_dir()).collect();
    if folders.is_empty() {
        return Err(Error::data(root, format!("has no sequences; {LAYOUT}")));
    }
    let all = folders.iter().map(|folder| sequences(folder)).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// The sequences of one folder: one for each file of boxes.
fn sequences(folder: &Path) -> Result<Vec<Sequence>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (1..10).map(|number| (format!("{TRUTH}.{number}.txt"), format!("{name}.{number}")));
    let truths: Vec<(PathBuf, String)> = std::iter::once((format!("{TRUTH}.txt"), name.clone()))
        .chain(numbered)
        .map(|(file, name)| (folder.join(file), name))
        .filter(|(file, _)| file.exists())
        .collect();
    if truths.is_empty() {
        return Err(Error::data(folder, format!("has no {TRUTH}.txt; {LAYOUT}")));
    }
    let images = frames_of(folder, &name)?;
    truths.into_iter().map(|(file, name)| sequence(&file, name, &images)).collect()
}

/// The images of a sequence, in the order of their names.
fn frames_of(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let listed = walk::visible(&folder.join(IMAGES))?.into_iter().filter(walk::Entry::is_image);
    let mut images: Vec<PathBuf> = listed.map(|entry| entry.path).collect();
    let part = PARTS.iter().find(|(known, ..)| *known == name.to_lowercase());
    if let Some((_, first, last)) = part.filter(|(.., last)| images.len() >= *last) {
        images = images[first - 1..*last].to_vec();
    }
    Ok(images)
}

/// The sequence of the boxes in `file`.
fn sequence(file: &Path, name: String, images: &[PathBuf]) -> Result<Sequence> {
    let text = files::text(file, files::TABLE)
        .map_err(|e| Error::data(file, format!("cannot be read as boxes: {e}")))?;
    let boxes = parse(&text).map_err(|what| Error::data(file, what))?;
    if boxes.len() != images.len() {
        let what = format!("has boxes of {} frames, and {IMAGES}/ has {} images", boxes.len(), images.len());
        return Err(Error::data(file, what));
    }
    let sequence = Sequence { name, boxes, frames: Frames::Files(images.to_vec()) };
    let (first, [x, y, w, h]) = (sequence.frame(0)?, sequence.boxes[0]);
    let inside = x < first.width as f64 && y < first.height as f64 && x + w > 0.0 && y + h > 0.0;
    if w <= 0.0 || h <= 0.0 || !inside {
        let what = format!(
            "has a first box with nothing of the image in it: {x}, {y} and {w} × {h} pixels of {} × {}",
            first.width, first.height
        );
        return Err(Error::data(file, what));
    }
    Ok(sequence)
}

fn parse(text: &str) -> std::result::Result<Vec<Rectangle>, String> {
    let mut boxes = Vec::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (number, line) in lines {
        if boxes.len() == MOST_FRAMES {
            return Err(format!("has more than {MOST_FRAMES} boxes"));
        }
        boxes.push(rectangle(line).map_err(|what| format!("line {}: {what}", number + 1))?);
    }
    if boxes.is_empty() { Err("is empty, where a box for each frame is needed".into()) } else { Ok(boxes) }
}

/// The box of a line, counted from 0.
fn rectangle(line: &str) -> std::result::Result<Rectangle, String> {
    let shown: String = line.chars().take(40).collect();
    let words = line.split([',', '\t', ' ', '\r']).filter(|word| !word.is_empty());
    let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    let four: Option<[f64; 4]> = numbers.and_then(|numbers| numbers.try_into().ok());
    let [x, y, w, h] =
        four.ok_or_else(|| format!("'{shown}' is no box of four numbers: x, y, width, height"))?;
    if ![x, y, w, h].iter().all(|number| number.abs() <= FARTHEST) {
        return Err(format!("'{shown}' has a number that is none, or of no image"));
    }
    if w < 0.0 || h < 0.0 {
        return Err(format!("'{shown}' is a box of less than no size"));
    }
    Ok([x - 1.0, y - 1.0, w, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_tabs_and_spaces_tell_numbers_apart_and_pixels_count_from_one() {
        let text = "1,2,3,4\r\n10\t20\t30.5\t40\n\n  5 6  7 8 \n9, 9,\t9 , 9\n";
        let expected =
            vec![[0.0, 1.0, 3.0, 4.0], [9.0, 19.0, 30.5, 40.0], [4.0, 5.0, 7.0, 8.0], [8.0, 8.0, 9.0, 9.0]];
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn what_is_no_box_is_refused_with_its_line() {
        for (text, what) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("1,2,3\n", "line 1: '1,2,3' is no box of four numbers"),
            ("1,2,3,4\n1,2,3,4,5\n", "line 2: "),
            ("1,2,3,4\nNaN,NaN,NaN,NaN\n", "line 2: 'NaN,NaN,NaN,NaN' has a number that is none"),
            ("1,2,inf,4\n", "line 1: '1,2,inf,4' has a number"),
            ("1,2,1e300,4\n", "line 1: "),
            ("1,2,-3,4\n", "less than no size"),
            ("x y z w\n", "line 1: 'x y z w' is no box"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(what), "{text:?}: {said}");
        }
    }
}
