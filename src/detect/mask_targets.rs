//! Masks between an image and the bins of a box: targets of the mask head, and its answers pasted
//! back.

use super::boxes::{Corners, sides};
use crate::kernel::roi_align::{Roi, RoiAlign};

/// Probabilities from here on are inside.
const INSIDE: f32 = 0.5;

/// Which of the `bins` × `bins` bins of a box are inside a mask (H, W): those that it covers by
/// half or more.
pub fn mask_target(mask: &[bool], [height, width]: [usize; 2], corners: &Corners, bins: usize) -> Vec<bool> {
    let align = RoiAlign {
        batch: 1,
        height,
        width,
        channels: 1,
        rows: bins,
        columns: bins,
        scale: 1.0,
        samples: 0,
        aligned: true,
    };
    let values: Vec<f32> = mask.iter().map(|inside| f32::from(u8::from(*inside))).collect();
    let mut covered = vec![0.0; bins * bins];
    align.forward(&values, &[Roi { image: 0, corners: *corners }], &mut covered);
    covered.into_iter().map(|part| part >= INSIDE).collect()
}

/// Along one axis, the two bins around the middle of each of `len` pixels and the part of the second
/// one, for a box from `from` on that is `side` long.
fn between(len: usize, from: f32, side: f32, bins: usize) -> Vec<(isize, f32)> {
    let place = |pixel: usize| {
        // The order of operations is grid_sample's.
        let grid = (pixel as f32 + 0.5 - from) / side * 2.0 - 1.0;
        let at = ((grid + 1.0) * bins as f32 - 1.0) / 2.0;
        (at.floor() as isize, at - at.floor())
    };
    (0..len).map(place).collect()
}

/// The mask (H, W) of `probabilities` (bins, bins) in a box: bilinear at the middles of pixels, 0
/// outside of the bins.
pub fn paste(
    probabilities: &[f32],
    bins: usize,
    corners: &Corners,
    [height, width]: [usize; 2],
) -> Vec<bool> {
    let [wide, high] = sides(corners);
    let across = between(width, corners[0], wide, bins);
    let down = between(height, corners[1], high, bins);
    let value = |row: isize, column: isize| {
        let within = |place: isize| (0..bins as isize).contains(&place);
        let inside = within(row) && within(column);
        if inside { probabilities[row as usize * bins + column as usize] } else { 0.0 }
    };
    let mut pixels = Vec::with_capacity(height * width);
    for &(row, v) in &down {
        for &(column, u) in &across {
            let upper = value(row, column) * (1.0 - u) * (1.0 - v) + value(row, column + 1) * u * (1.0 - v);
            let lower = value(row + 1, column) * (1.0 - u) * v + value(row + 1, column + 1) * u * v;
            pixels.push(upper + lower >= INSIDE);
        }
    }
    pixels
}
