//! Squares that are cut out of a frame, as a tracker's network sees them.

use super::super::Preprocessing;
use crate::augment::Image;
use crate::masks::Rectangle;

/// Samples along a side of a pixel at most, where a square is shrunk.
const MOST_SAMPLES: usize = 8;
/// Context around the object: this part of its width plus its height, on both axes together.
const CONTEXT: f64 = 0.5;

/// A square of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// x and y of its middle, in pixels of the frame.
    pub centre: [f64; 2],
    /// Its side, in pixels of the frame.
    pub side: f64,
}

impl Window {
    /// The exemplar's: the object with its context, √((w + p)(h + p)) with p = (w + h)/2.
    pub fn around(&[x, y, w, h]: &Rectangle) -> Window {
        let context = CONTEXT * (w + h);
        Window { centre: [x + 0.5 * w, y + 0.5 * h], side: ((w + context) * (h + context)).sqrt() }
    }

    /// The same place, `factor` times as wide.
    pub fn times(self, factor: f64) -> Window {
        Window { side: self.side * factor, ..self }
    }
}

/// A frame with the colour of what lies outside of it: its mean.
pub struct Framed {
    image: Image,
    mean: [f32; 3],
}

impl Framed {
    pub fn new(image: Image) -> Framed {
        let pixels = (image.height * image.width).max(1) as f64;
        let mut sums = [0u64; 3];
        for pixel in image.pixels.chunks_exact(3) {
            sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += u64::from(*byte));
        }
        Framed { image, mean: sums.map(|sum| (sum as f64 / pixels) as f32) }
    }

    /// [width, height].
    pub fn size(&self) -> [usize; 2] {
        [self.image.width, self.image.height]
    }

    /// Appends `window` as `side` × `side` normalised pixels (side, side, 3): bilinear, the mean of
    /// several samples where it is shrunk.
    pub fn cut(&self, window: Window, side: usize, preprocessing: &Preprocessing, to: &mut Vec<f32>) {
        let step = window.side / side as f64;
        // A cast of what is too large gives the largest number.
        let samples = (step.ceil() as usize).clamp(1, MOST_SAMPLES);
        let taps = |axis: usize| -> Vec<[Tap; MOST_SAMPLES]> {
            let start = window.centre[axis] - 0.5 * window.side;
            let of_pixel = |pixel: usize| {
                std::array::from_fn(|sample| {
                    let within = (sample.min(samples - 1) as f64 + 0.5) / samples as f64;
                    Tap::at(start + (pixel as f64 + within) * step, self.size()[axis])
                })
            };
            (0..side).map(of_pixel).collect()
        };
        let (across, down) = (taps(0), taps(1));
        let share = 1.0 / (samples * samples) as f32;
        for rows in &down {
            for columns in &across {
                let mut sums = [0.0f32; 3];
                for row in &rows[..samples] {
                    for column in &columns[..samples] {
                        let sample = self.sample(row, column);
                        sums.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
                    }
                }
                for (channel, sum) in sums.into_iter().enumerate() {
                    let value = sum * share / 255.0;
                    to.push((value - preprocessing.mean[channel]) / preprocessing.std[channel]);
                }
            }
        }
    }

    fn sample(&self, row: &Tap, column: &Tap) -> [f32; 3] {
        let pixel = |y: Option<usize>, x: Option<usize>| match (y, x) {
            (Some(y), Some(x)) => {
                let at = (y * self.image.width + x) * 3;
                [0, 1, 2].map(|channel| f32::from(self.image.pixels[at + channel]))
            }
            _ => self.mean,
        };
        let mut value = [0.0; 3];
        for (y, of_row) in row.pixels.into_iter().zip(row.weights) {
            for (x, of_column) in column.pixels.into_iter().zip(column.weights) {
                let weight = of_row * of_column;
                value.iter_mut().zip(pixel(y, x)).for_each(|(sum, own)| *sum += weight * own);
            }
        }
        value
    }
}

/// Two neighbouring pixels along an axis, none where they lie outside, and their weights.
#[derive(Clone, Copy)]
struct Tap {
    pixels: [Option<usize>; 2],
    weights: [f32; 2],
}

impl Tap {
    /// At `place` of an axis of `len` pixels, whose values belong to their middles.
    fn at(place: f64, len: usize) -> Tap {
        let first = (place - 0.5).floor();
        let rest = (place - 0.5 - first) as f32;
        let inside = |pixel: f64| (pixel >= 0.0 && pixel < len as f64).then_some(pixel as usize);
        Tap { pixels: [inside(first), inside(first + 1.0)], weights: [1.0 - rest, rest] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Preprocessing {
        Preprocessing { size: 8, mean: [0.0; 3], std: [1.0; 3] }
    }

    #[test]
    fn a_whole_frame_is_itself_and_beyond_it_is_its_mean() {
        let pixels: Vec<u8> = (0..4 * 4 * 3).map(|i| (i * 5) as u8).collect();
        let framed = Framed::new(Image { height: 4, width: 4, pixels: pixels.clone() });
        let mut cut = Vec::new();
        framed.cut(Window { centre: [2.0, 2.0], side: 4.0 }, 4, &plain(), &mut cut);
        let expected: Vec<f32> = pixels.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        assert!(cut.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
        cut.clear();
        framed.cut(Window { centre: [100.0, -50.0], side: 4.0 }, 2, &plain(), &mut cut);
        let mean = framed.mean.map(|mean| mean / 255.0);
        assert!(cut.chunks(3).all(|pixel| pixel.iter().zip(mean).all(|(a, b)| (a - b).abs() < 1e-6)));
        // Half the size is the mean of four pixels.
        cut.clear();
        framed.cut(Window { centre: [2.0, 2.0], side: 4.0 }, 2, &plain(), &mut cut);
        let four = [0usize, 3, 12, 15].map(|at| expected[at]).iter().sum::<f32>() / 4.0;
        assert!((cut[0] - four).abs() < 1e-6, "{} {four}", cut[0]);
    }

    #[test]
    fn a_square_object_has_half_its_side_of_context_on_either_side() {
        let window = Window::around(&[10.0, 20.0, 8.0, 8.0]);
        assert_eq!(window, Window { centre: [14.0, 24.0], side: 16.0 });
        assert_eq!(window.times(2.0).side, 32.0);
    }
}
