//! Which part of an image a view shows: torchvision's `RandomResizedCrop.get_params`.

use rand::Rng;

use crate::rng::{Stream, below};

/// Width over height of a crop, lowest and highest; log-uniform between them.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Draws before the fallback to a central crop.
const TRIES: usize = 10;

/// A rectangle of pixels inside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A random box of an image of `height` × `width` pixels, its area in `scale` of the image's.
pub fn crop_box(height: usize, width: usize, scale: [f32; 2], rng: &mut Stream) -> CropBox {
    let area = (height * width) as f64;
    let (low, high) = (f64::from(scale[0]), f64::from(scale[1]));
    for _ in 0..TRIES {
        let target = area * (low + (high - low) * rng.random::<f64>());
        let [narrow, wide] = RATIO.map(f64::ln);
        let ratio = (narrow + (wide - narrow) * rng.random::<f64>()).exp();
        let w = (target * ratio).sqrt().round_ties_even() as usize;
        let h = (target / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return CropBox {
                top: below(height - h + 1, rng),
                left: below(width - w + 1, rng),
                height: h,
                width: w,
            };
        }
    }
    let ratio = width as f64 / height as f64;
    let (h, w) = if ratio < RATIO[0] {
        ((width as f64 / RATIO[0]).round_ties_even() as usize, width)
    } else if ratio > RATIO[1] {
        (height, (height as f64 * RATIO[1]).round_ties_even() as usize)
    } else {
        (height, width)
    };
    let (h, w) = (h.clamp(1, height), w.clamp(1, width));
    CropBox { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn a_crop_lies_inside_the_image_and_covers_the_asked_area() {
        for draw in 0..2000 {
            let mut rng = stream(1, Purpose::Test, 0, draw);
            let b = crop_box(37, 50, [0.2, 1.0], &mut rng);
            assert!(b.top + b.height <= 37 && b.left + b.width <= 50, "{b:?}");
            let share = (b.height * b.width) as f64 / (37.0 * 50.0);
            assert!((0.17..=1.0).contains(&share), "{b:?}");
        }
    }

    #[test]
    fn an_image_too_thin_for_any_ratio_gives_its_centre() {
        let mut rng = stream(1, Purpose::Test, 0, 0);
        let b = crop_box(1, 100, [1.0, 1.0], &mut rng);
        assert_eq!(b, CropBox { top: 0, left: 49, height: 1, width: 1 });
    }
}
