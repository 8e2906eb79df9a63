//! Polygons to masks, as pycocotools draws them.
//!
//! The rule is COCO's own and no other's: corners are rounded to fifths of a pixel, edges are
//! followed in steps of a fifth, and where they cross the middle of a column the pixels from there
//! on change sides. Masks of thin polygons differ from the even-odd rule at pixels' middles.

use super::{Rle, pixels};
use crate::error::{Error, Result};

/// Steps of a boundary for each pixel.
const FINER: f64 = 5.0;
/// Steps around a polygon at most: around the largest image they are 330,000.
const MOST_STEPS: u64 = 1 << 24;

impl Rle {
    /// The union of `polygons`, each one x, y, x, y, … of three corners at least, in pixels from
    /// the image's left upper corner.
    ///
    /// # Errors
    /// [`Error::Usage`] for fewer corners, an odd number of numbers, or corners that are far outside
    /// of the image.
    pub fn of_polygons(height: usize, width: usize, polygons: &[Vec<f64>]) -> Result<Rle> {
        let mut all = Rle::from_runs(height, width, vec![pixels(height, width)? as u32])?;
        for polygon in polygons {
            all = all.union(&drawn(height, width, &corners(polygon, height.max(width) as f64)?)?)?;
        }
        Ok(all)
    }
}

/// The corners in fifths of a pixel, in an image whose longer side is `side`.
fn corners(polygon: &[f64], side: f64) -> Result<Vec<[i64; 2]>> {
    if polygon.len() < 6 || !polygon.len().is_multiple_of(2) {
        return Err(Error::Usage(format!("a polygon of {} numbers; three corners are six", polygon.len())));
    }
    if let Some(place) = polygon.iter().find(|place| !(-side..=2.0 * side).contains(*place)) {
        return Err(Error::Usage(format!("a polygon has a corner at {place}, far outside of its image")));
    }
    // A cast cuts towards 0, also below it, as C does.
    Ok(polygon.chunks_exact(2).map(|at| [at[0], at[1]].map(|v| (FINER * v + 0.5) as i64)).collect())
}

/// Every corner with the next.
fn edges(corners: &[[i64; 2]]) -> impl Iterator<Item = ([i64; 2], [i64; 2])> {
    corners.iter().copied().zip(corners.iter().copied().cycle().skip(1))
}

/// The mask of one polygon, from the pixels at which columns change sides.
fn drawn(height: usize, width: usize, corners: &[[i64; 2]]) -> Result<Rle> {
    let steps: u64 =
        edges(corners).map(|(a, b)| 1 + (0..2).map(|i| a[i].abs_diff(b[i])).max().unwrap_or(0)).sum();
    if steps > MOST_STEPS {
        return Err(Error::Usage("a polygon's boundary is too long for its image".into()));
    }
    let mut changes = Vec::new();
    let mut last: Option<[i64; 2]> = None;
    for (from, to) in edges(corners) {
        follow(from, to, |at| {
            changes.extend(last.and_then(|last| crossing(last, at, [height, width])));
            last = Some(at);
        });
    }
    changes.push((height * width) as u32);
    changes.sort_unstable();
    // From places to lengths; two changes at one place are none.
    let mut runs: Vec<u32> = Vec::with_capacity(changes.len());
    let mut before = 0;
    let mut lengths = changes.into_iter().map(|place| {
        let len = place - before;
        before = place;
        len
    });
    runs.extend(lengths.next());
    while let Some(len) = lengths.next() {
        match (len, runs.last_mut()) {
            (0, Some(last)) => *last += lengths.next().unwrap_or(0),
            _ => runs.push(len),
        }
    }
    Rle::from_runs(height, width, runs)
}

/// Calls `each` with the points from one corner to another, both included, a step apart along the
/// longer side.
fn follow(from: [i64; 2], to: [i64; 2], mut each: impl FnMut([i64; 2])) {
    let (dx, dy) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
    let long = usize::from(dx < dy);
    let short = 1 - long;
    // Points are computed from the lower end, whichever way they are followed.
    let flipped = from[long] > to[long];
    let [low, high] = if flipped { [to, from] } else { [from, to] };
    let steps = high[long] - low[long];
    let slope = if steps == 0 { 0.0 } else { (high[short] - low[short]) as f64 / steps as f64 };
    for step in 0..=steps {
        let along = if flipped { steps - step } else { step };
        let mut at = [0; 2];
        at[long] = low[long] + along;
        at[short] = (low[short] as f64 + slope * along as f64 + 0.5) as i64;
        each(at);
    }
}

/// The pixel, by columns, from which on a column changes sides where the boundary goes from one
/// point to the next across the column's middle.
fn crossing(from: [i64; 2], to: [i64; 2], [height, width]: [usize; 2]) -> Option<u32> {
    if from[0] == to[0] {
        return None;
    }
    let whole = |fifths: i64| (fifths as f64 + 0.5) / FINER - 0.5;
    let column = whole(if to[0] < from[0] { to[0] } else { to[0] - 1 });
    if column.floor() != column || column < 0.0 || column > width as f64 - 1.0 {
        return None;
    }
    let row = whole(to[1].min(from[1])).clamp(0.0, height as f64).ceil();
    Some((column as usize * height + row as usize) as u32)
}
