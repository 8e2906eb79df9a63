//! What a detector found, as files: detections in COCO's format of results, which COCO's own
//! programs judge too, and precision by recall.

use super::Judged;
use crate::error::{Error, Result};
use crate::files;
use crate::masks::Rle;
use crate::measure::average_precision::Detection;
use crate::record::{DETECTIONS_FILE, csv_bytes, read_result_if_any};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A detection in COCO's format of results. Ids are those of `sim data export`, from 1.
#[derive(Serialize, Deserialize)]
struct Entry {
    image_id: usize,
    category_id: usize,
    bbox: [f64; 4],
    score: f64,
    segmentation: Option<Segmentation>,
}

#[derive(Serialize, Deserialize)]
struct Segmentation {
    size: [usize; 2],
    counts: String,
}

/// Detections as COCO's programs read them.
///
/// # Errors
/// [`Error::Failure`] for numbers that JSON cannot express.
pub fn results(found: &[Detection]) -> Result<Vec<u8>> {
    let entry = |d: &Detection| Entry {
        image_id: d.image + 1,
        category_id: d.class + 1,
        bbox: d.bounding_box,
        score: d.score,
        segmentation: d.mask.as_ref().map(|mask| Segmentation { size: mask.size(), counts: mask.to_text() }),
    };
    let all: Vec<Entry> = found.iter().map(entry).collect();
    serde_json::to_vec(&all).map_err(|error| Error::Failure(format!("cannot write detections: {error}")))
}

/// What the detector of the finished run in the folder `run` found in held-out images; none where
/// the run fine-tuned no detector.
///
/// # Errors
/// [`Error::Data`] where the file is damaged.
pub fn read_found(run: &Path) -> Result<Option<Vec<Detection>>> {
    let Some(bytes) = read_result_if_any(run, DETECTIONS_FILE, files::WEIGHTS)? else { return Ok(None) };
    let wrong = |what: String| Error::data(run.join(DETECTIONS_FILE), what);
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let detection = |entry: Entry| -> Result<Detection> {
        let from_one =
            |id: usize| id.checked_sub(1).ok_or_else(|| wrong("an id of 0; ids begin at 1".into()));
        let mask = entry.segmentation.map(|s| Rle::from_text(s.size[0], s.size[1], &s.counts));
        Ok(Detection {
            image: from_one(entry.image_id)?,
            class: from_one(entry.category_id)?,
            score: entry.score,
            bounding_box: entry.bbox,
            mask: mask.transpose().map_err(|error| wrong(error.to_string()))?,
        })
    };
    entries.into_iter().map(detection).collect::<Result<_>>().map(Some)
}

/// Precision by recall, means over classes: the columns recall, box50, box75 and, where masks are
/// judged, mask50 and mask75.
pub fn precision(judged: &Judged) -> Result<Vec<u8>> {
    let kinds = [("box", Some(&judged.boxes)), ("mask", judged.masks.as_ref())];
    let kinds = kinds.into_iter().filter_map(|(kind, coco)| Some((kind, coco?)));
    let curves: Vec<(String, &Vec<f64>)> = kinds
        .flat_map(|(kind, coco)| {
            ["50", "75"]
                .into_iter()
                .zip(&coco.precision)
                .map(move |(at, curve)| (format!("{kind}{at}"), curve))
        })
        .collect();
    let header = std::iter::once("recall".to_string()).chain(curves.iter().map(|(name, _)| name.clone()));
    let length = curves.iter().map(|(_, curve)| curve.len()).max().unwrap_or(0);
    let row = |index: usize| -> Vec<String> {
        let recall = (index as f64 / 100.0).to_string();
        let values = curves.iter().map(|(_, curve)| curve.get(index).map_or(String::new(), f64::to_string));
        std::iter::once(recall).chain(values).collect()
    };
    let rows = std::iter::once(header.collect()).chain((0..length).map(row));
    csv_bytes(rows)
}
