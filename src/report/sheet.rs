//! The contact sheet: images beside their views, a row for each class.

use crate::augment::Image;
use crate::error::{Error, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};
use plotters::prelude::*;

/// A class and its tiles: each image followed by its views.
pub struct Row {
    /// The class name.
    pub name: String,
    /// Groups of an image and its views.
    pub groups: Vec<Vec<Image>>,
}

/// Shortest side of a tile on the sheet.
const TILE: u32 = 72;
const GAP: u32 = 4;
const GROUP_GAP: u32 = 16;
const MARGIN: u32 = 12;
const TEXT: u32 = 18;

/// Dots of a sheet at most: a thousand classes with four images each are fewer.
const MOST_DOTS: u64 = 120_000_000;

/// As much of an image as the sheet shows of it, so that a thousand photographs need no memory for
/// what is not shown.
pub fn tile_of(image: &Image) -> Image {
    let (width, height) = shown(image);
    if width as usize >= image.width {
        return image.clone();
    }
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend(pixel(image, (x, y), (width, height)));
        }
    }
    Image { height: height as usize, width: width as usize, pixels }
}

/// Draws the sheet: names at the left, tiles enlarged by whole factors so that pixels stay square.
///
/// # Errors
/// [`Error::Usage`] for more rows and groups than a picture can hold.
pub fn contact_sheet(rows: &[Row]) -> Result<Vec<u8>> {
    let name_width =
        rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0) as u32 * TEXT * 6 / 10;
    let left = MARGIN + name_width + MARGIN;
    let tile = rows
        .iter()
        .flat_map(|row| row.groups.iter().flatten())
        .map(|image| scaled(image.width as u32).max(scaled(image.height as u32)))
        .max()
        .unwrap_or(TILE);
    let group = |n: usize| n as u32 * (tile + GAP) + GROUP_GAP;
    let width =
        rows.iter().map(|row| row.groups.iter().map(|g| group(g.len())).sum::<u32>()).max().unwrap_or(0);
    let (width, height) = (left + width, 2 * MARGIN + rows.len() as u32 * (tile + GAP));
    if u64::from(width) * u64::from(height) > MOST_DOTS {
        let what =
            format!("{width}×{height} dots are too many for one sheet; a smaller --per-class needs fewer");
        return Err(Error::Usage(what));
    }
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    names(&mut sheet, rows, tile)?;
    for (index, row) in rows.iter().enumerate() {
        let (mut x, y) = (left, MARGIN + index as u32 * (tile + GAP));
        for images in &row.groups {
            for image in images {
                paste(&mut sheet, image, x, y);
                x += tile + GAP;
            }
            x += GROUP_GAP;
        }
    }
    encode(&sheet)
}

/// A side enlarged by a whole factor to at least [`TILE`], or cut down to it.
fn scaled(side: u32) -> u32 {
    if side >= TILE { TILE } else { side * TILE.div_ceil(side.max(1)) }
}

/// Width and height of an image on the sheet.
fn shown(image: &Image) -> (u32, u32) {
    let longest = image.width.max(image.height) as u32;
    let side = |n: usize| (scaled(longest) * n as u32 / longest.max(1)).max(1);
    (side(image.width), side(image.height))
}

/// The pixel of an image shown as `width` × `height` that stands at (x, y).
fn pixel(image: &Image, (x, y): (u32, u32), (width, height): (u32, u32)) -> [u8; 3] {
    let (sx, sy) = (x as usize * image.width / width as usize, y as usize * image.height / height as usize);
    let at = (sy * image.width + sx) * 3;
    [image.pixels[at], image.pixels[at + 1], image.pixels[at + 2]]
}

fn paste(sheet: &mut RgbImage, image: &Image, left: u32, top: u32) {
    let size = shown(image);
    for y in 0..size.1 {
        for x in 0..size.0 {
            sheet.put_pixel(left + x, top + y, Rgb(pixel(image, (x, y), size)));
        }
    }
}

fn names(sheet: &mut RgbImage, rows: &[Row], tile: u32) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::Failure(format!("cannot draw the contact sheet: {e}"));
    super::pen::prepare_font()?;
    let size = sheet.dimensions();
    let area = BitMapBackend::with_buffer(sheet, size).into_drawing_area();
    let style = TextStyle::from(("sans-serif", f64::from(TEXT)).into_font());
    for (index, row) in rows.iter().enumerate() {
        let y = MARGIN + index as u32 * (tile + GAP) + tile / 2 - TEXT / 5;
        area.draw_text(&row.name, &style, (MARGIN as i32, y as i32)).map_err(|e| failed(&e))?;
    }
    area.present().map_err(|e| failed(&e))
}

/// A picture as PNG bytes.
pub(super) fn encode(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive);
    let (width, height) = picture.dimensions();
    encoder
        .write_image(picture, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| Error::Failure(format!("cannot encode a PNG: {e}")))?;
    Ok(bytes)
}
