//! Anchors: the boxes that an RPN looks at, several at each place of a feature map.

use super::boxes::Corners;

/// Which boxes stand at each place.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchors {
    /// Roots of areas, in pixels.
    pub sizes: Vec<f32>,
    /// Heights over widths.
    pub ratios: Vec<f32>,
    /// Where in the cell of a place its boxes have their middle, as a part of the stride.
    pub offset: f32,
}

impl Anchors {
    /// Boxes at each place.
    pub fn at_each_place(&self) -> usize {
        self.sizes.len() * self.ratios.len()
    }

    /// All boxes of a feature map of `height` × `width` places `stride` pixels apart, row by row; at
    /// a place the ratios of the first size, then of the next. They are not rounded, and reach
    /// beyond the image.
    pub fn on(&self, stride: usize, [height, width]: [usize; 2]) -> Vec<Corners> {
        // Sides are f64 until they are stored, as in the original.
        let shapes = self.sizes.iter().flat_map(|size| {
            self.ratios.iter().map(move |ratio| {
                let width = (f64::from(*size).powi(2) / f64::from(*ratio)).sqrt();
                [width, f64::from(*ratio) * width].map(|side| (side / 2.0) as f32)
            })
        });
        let shapes: Vec<[f32; 2]> = shapes.collect();
        let place = |index: usize| (index as f32 + self.offset) * stride as f32;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| [x, y]));
        let boxes = places.flat_map(|[x, y]| {
            let (x, y) = (place(x), place(y));
            shapes.iter().map(move |[w, h]| [x - w, y - h, x + w, y + h])
        });
        boxes.collect()
    }
}
