//! One image, looked at: how much it varies, its border, and small pictures of it by which copies
//! are found.

use crate::augment::{CropBox, Image, resized_crop, shrunk};

/// An image none of whose channels has a larger standard deviation, of values from 0 to 255, is of
/// one colour: JPEG's rounding and a camera's noise reach 2 or 3.
pub const FLAT: f64 = 4.0;
/// Two images are copies where no number of their pictures of 8 × 8 pixels differs by more, of
/// values from 0 to 255: saving a picture again, or at another size, changes averages over so large
/// parts by 1 or 2.
pub const COPY: u8 = 2;
/// A border that takes a larger part of the area is one: what a scanner or a screen leaves at an
/// edge is a few per cent.
pub const BORDERED: f64 = 0.1;
/// Pixels of a border differ by no more from its corner, of values from 0 to 255: a JPEG's ringing
/// beside an edge reaches 8.
const OF_BORDER: u8 = 10;
/// A place of the grid is the same in all images where its standard deviation over them is below
/// this, of values from 0 to 255; those of photographs are 40 to 80.
const SAME: f64 = 5.0;
/// Sides of the two small pictures.
const COARSE: usize = 8;
const GRID: usize = 32;

/// What is known of an image.
pub struct Look {
    /// Its file, or its number.
    pub name: String,
    /// Its class.
    pub label: u32,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// The largest standard deviation of its channels, of values from 0 to 255.
    pub spread: f64,
    /// The part of its area that a border of one colour takes.
    pub border: f64,
    /// That border's colour.
    pub border_colour: Option<[u8; 3]>,
    /// (8, 8, 3).
    coarse: Vec<u8>,
    /// (32, 32, 3).
    grid: Vec<u8>,
    /// Whether a place of the grid lies within the border.
    inside: Vec<bool>,
    /// The image, smaller.
    pub kept: Image,
}

impl Look {
    /// Looks at `image`, keeping it with a shorter side of `keep` pixels at most.
    pub fn at(image: &Image, label: u32, name: String, keep: usize) -> Look {
        let (inner, border_colour) = within_border(image);
        let area = (image.width * image.height).max(1) as f64;
        let centre = |step: usize, side: usize| (2 * step + 1) * side / (2 * GRID);
        let inside = |place: usize| {
            let (y, x) = (centre(place / GRID, image.height), centre(place % GRID, image.width));
            (inner.top..inner.top + inner.height).contains(&y)
                && (inner.left..inner.left + inner.width).contains(&x)
        };
        Look {
            name,
            label,
            width: image.width,
            height: image.height,
            spread: spread(image),
            border: 1.0 - (inner.width * inner.height) as f64 / area,
            border_colour,
            coarse: small(image, COARSE),
            grid: small(image, GRID),
            inside: (0..GRID * GRID).map(inside).collect(),
            kept: shrunk(image, keep),
        }
    }

    /// Whether it is of nearly one colour.
    pub fn is_flat(&self) -> bool {
        self.spread < FLAT
    }

    fn is_copy_of(&self, other: &Look) -> bool {
        self.coarse.iter().zip(&other.coarse).all(|(a, b)| a.abs_diff(*b) <= COPY)
    }
}

/// Which of `looks` are copies of one of `originals`, with the first such: of an earlier one, where
/// the two are the same images.
pub fn copies(looks: &[Look], originals: &[Look]) -> Vec<(usize, usize)> {
    let same = std::ptr::eq(looks, originals);
    let original = |index: usize| {
        let candidates = if same { &originals[..index] } else { originals };
        candidates.iter().position(|other| looks[index].is_copy_of(other))
    };
    (0..looks.len()).filter_map(|index| Some((index, original(index)?))).collect()
}

/// The part of the picture within the border that is the same in all of `looks`: places of the grid
/// that lie within the border of most, and whose colours hardly differ between images. None where
/// no place does.
pub fn shared(looks: &[&Look]) -> Option<f64> {
    let within = |place: usize| 2 * looks.iter().filter(|look| look.inside[place]).count() > looks.len();
    let varies = |place: usize| {
        (0..3)
            .map(|channel| deviation(looks.iter().map(|look| look.grid[3 * place + channel])))
            .fold(0.0, f64::max)
    };
    let places: Vec<usize> = (0..GRID * GRID).filter(|place| within(*place)).collect();
    let same = places.iter().filter(|place| varies(**place) < SAME).count();
    (!places.is_empty()).then(|| same as f64 / places.len() as f64)
}

/// `image` as `side` × `side` pixels, (side, side, 3), whatever its proportions are.
fn small(image: &Image, side: usize) -> Vec<u8> {
    let whole = CropBox { top: 0, left: 0, height: image.height, width: image.width };
    let planes = resized_crop(image, whole, side, side);
    let area = side * side;
    let byte = |i: usize| (255.0 * planes[i % 3 * area + i / 3]).round().clamp(0.0, 255.0) as u8;
    (0..3 * area).map(byte).collect()
}

/// The largest standard deviation of the channels of `image`.
fn spread(image: &Image) -> f64 {
    let of = |channel: usize| deviation(image.pixels.iter().skip(channel).step_by(3).copied());
    (0..3).map(of).fold(0.0, f64::max)
}

/// The standard deviation of bytes.
pub fn deviation(values: impl Iterator<Item = u8>) -> f64 {
    let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
    for value in values {
        let value = u64::from(value);
        (count, sum, squares) = (count + 1, sum + value, squares + value * value);
    }
    let n = count.max(1) as f64;
    (squares as f64 / n - (sum as f64 / n).powi(2)).max(0.0).sqrt()
}

/// The part of `image` within a border of one colour, and that colour; the whole image where it has
/// none, or nothing else.
fn within_border(image: &Image) -> (CropBox, Option<[u8; 3]>) {
    let whole = CropBox { top: 0, left: 0, height: image.height, width: image.width };
    let pixel = |y: usize, x: usize| {
        let start = 3 * (y * image.width + x);
        [image.pixels[start], image.pixels[start + 1], image.pixels[start + 2]]
    };
    let (bottom, right) = (image.height.saturating_sub(1), image.width.saturating_sub(1));
    // A border has one colour, which stands in one corner at least.
    let inner = |corner: [u8; 3]| {
        let is_border = |y, x| pixel(y, x).iter().zip(corner).all(|(a, b)| a.abs_diff(b) <= OF_BORDER);
        let row = |y: &usize| (0..image.width).all(|x| is_border(*y, x));
        let top = (0..image.height).take_while(row).count();
        if top == image.height {
            return whole;
        }
        let below = (0..image.height).rev().take_while(row).count();
        let rows = top..image.height - below;
        let column = |x: &usize| rows.clone().all(|y| is_border(y, *x));
        let left = (0..image.width).take_while(column).count();
        let beside = (0..image.width).rev().take_while(column).count();
        CropBox { top, left, height: rows.len(), width: image.width - left - beside }
    };
    let corners = [pixel(0, 0), pixel(bottom, right)];
    let found = corners.map(|corner| (inner(corner), Some(corner)));
    let area = |(part, _): &(CropBox, Option<[u8; 3]>)| part.width * part.height;
    let smaller = found.into_iter().min_by_key(area).unwrap_or((whole, None));
    if area(&smaller) == image.width * image.height { (whole, None) } else { smaller }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(height: usize, width: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> Image {
        let pixels = (0..height * width).flat_map(|i| colour(i / width, i % width)).collect();
        Image { height, width, pixels }
    }

    fn noise(y: usize, x: usize) -> [u8; 3] {
        [(y * 97 + x * 41) as u8, (y * 53 + x * 71) as u8, (y * 29 + x * 13) as u8]
    }

    #[test]
    fn a_border_is_measured_by_its_area() {
        let framed =
            picture(
                40,
                20,
                |y, x| {
                    if (10..30).contains(&y) && x >= 4 { noise(y, x) } else { [255, 255, 250] }
                },
            );
        let look = Look::at(&framed, 0, "a".into(), 16);
        assert!((look.border - (1.0 - 20.0 * 16.0 / 800.0)).abs() < 1e-9, "{}", look.border);
        assert_eq!(look.border_colour, Some([255, 255, 250]));
        assert_eq!((look.kept.height, look.kept.width), (32, 16));
        assert!(!look.is_flat());
        let bare = Look::at(&picture(9, 7, noise), 0, "b".into(), 16);
        assert_eq!((bare.border, bare.border_colour), (0.0, None));
    }

    #[test]
    fn one_colour_is_flat_and_has_no_border() {
        let look = Look::at(&picture(8, 8, |y, _| [100, (y % 2) as u8, 3]), 0, "a".into(), 8);
        assert!(look.is_flat());
        assert_eq!(look.border, 0.0);
    }

    #[test]
    fn a_copy_is_found_at_another_size_and_another_picture_is_not() {
        let smooth = |scale: usize| {
            picture(16 * scale, 16 * scale, |y, x| {
                let (y, x) = (y / scale, x / scale);
                [(y * 15) as u8, (x * 15) as u8, ((x + y) * 7) as u8]
            })
        };
        let looks = [
            Look::at(&smooth(1), 0, "a".into(), 8),
            Look::at(&picture(16, 16, noise), 0, "b".into(), 8),
            Look::at(&smooth(2), 0, "c".into(), 8),
        ];
        assert_eq!(copies(&looks, &looks), [(2, 0)]);
        assert_eq!(copies(&looks[2..], &looks[..2]), [(0, 0)]);
    }

    #[test]
    fn what_all_images_share_is_found_within_the_border() {
        let marked = |n: usize| {
            picture(64, 64, |y, x| match (y, x) {
                (16..32, 16..32) => [if (x / 2 + y / 2) % 2 == 0 { 255 } else { 0 }; 3],
                _ => noise(y * n + n, x + 31 * n * n),
            })
        };
        let looks: Vec<Look> = (1..40).map(|n| Look::at(&marked(n), 0, n.to_string(), 8)).collect();
        let all: Vec<&Look> = looks.iter().collect();
        let part = shared(&all).unwrap();
        assert!((0.03..0.08).contains(&part), "{part}");
    }
}
