//! Images with objects for a sheet: as they are, and with masks, boxes and the colours of classes.

use super::sheet::resized;
use crate::augment::Image;
use crate::masks::{Rectangle, Rle};

/// Longer side of such an image on a sheet: boxes of small objects have to be told apart.
const SIDE: usize = 192;
/// Part of a mask's colour that covers what is below.
const COVER: f32 = 0.45;
/// Dots of a line and of the gap behind it in the frame of a crowd.
const DASH: usize = 4;

/// Bright colours, which show on photographs as on grey; those of figures are for paper.
const COLOURS: [[u8; 3]; 10] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 210, 130],
    [240, 228, 66],
    [50, 110, 255],
    [255, 90, 30],
    [255, 120, 200],
    [170, 90, 255],
    [0, 235, 235],
    [255, 255, 255],
];

/// What is marked of an object.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    /// Its colour's number: that of its class.
    pub colour: usize,
    /// Its box in the image's pixels.
    pub bounding_box: Rectangle,
    /// Its mask, of the image's size.
    pub mask: Option<&'a Rle>,
    /// Whether its frame is dashed: a crowd, or one that is difficult.
    pub dashed: bool,
}

/// `image` alone, and with `objects` marked, both as large as a sheet shows them.
pub fn object_tiles(image: &Image, objects: &[Marked]) -> [Image; 2] {
    let longest = image.width.max(image.height).max(1);
    let side = |n: usize| match longest < SIDE {
        true => (n * SIDE.div_ceil(longest)) as u32,
        false => (n * SIDE / longest).max(1) as u32,
    };
    let plain = resized(image, (side(image.width), side(image.height)));
    let mut marked = plain.clone();
    for object in objects {
        cover(&mut marked, image, object);
    }
    for object in objects {
        frame(&mut marked, image, object);
    }
    [plain, marked]
}

/// Lays a mask's colour over its pixels.
fn cover(tile: &mut Image, image: &Image, object: &Marked) {
    let Some(mask) = object.mask.filter(|mask| mask.size() == [image.height, image.width]) else { return };
    let (inside, ink) = (mask.to_pixels(), COLOURS[object.colour % COLOURS.len()]);
    for y in 0..tile.height {
        for x in 0..tile.width {
            let (sx, sy) = (x * image.width / tile.width, y * image.height / tile.height);
            if inside[sy * image.width + sx] {
                let at = (y * tile.width + x) * 3;
                for (byte, ink) in tile.pixels[at..at + 3].iter_mut().zip(ink) {
                    *byte = (f32::from(*byte) * (1.0 - COVER) + f32::from(ink) * COVER) as u8;
                }
            }
        }
    }
}

/// Draws an object's box, one dot wide.
fn frame(tile: &mut Image, image: &Image, object: &Marked) {
    let scaled = |place: f64, [of, to]: [usize; 2]| {
        (place * to as f64 / of.max(1) as f64).round().clamp(0.0, to as f64) as usize
    };
    let [x, y, width, height] = object.bounding_box;
    let (along, down) = ([image.width, tile.width], [image.height, tile.height]);
    let (left, right) = (scaled(x, along), scaled(x + width, along).max(1) - 1);
    let (upper, lower) = (scaled(y, down), scaled(y + height, down).max(1) - 1);
    let ink = COLOURS[object.colour % COLOURS.len()];
    let mut dot = |x: usize, y: usize, step: usize| {
        if x < tile.width && y < tile.height && !(object.dashed && step / DASH % 2 == 1) {
            tile.pixels[(y * tile.width + x) * 3..][..3].copy_from_slice(&ink);
        }
    };
    for x in left..=right {
        dot(x, upper, x - left);
        dot(x, lower, x - left);
    }
    for y in upper..=lower {
        dot(left, y, y - upper);
        dot(right, y, y - upper);
    }
}
