//! Contact sheets: images beside their views, a row for each class; images beside those that are
//! like them.

use super::pen::{failed, text_width};
use crate::augment::Image;
use crate::error::{Error, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, imageops};
use plotters::prelude::*;

/// A row of tiles and what it is called, such as a class.
pub struct Row {
    /// Stands at the left.
    pub name: String,
    /// Groups of tiles, such as an image and its views.
    pub groups: Vec<Vec<Tile>>,
}

/// An image on a sheet.
pub struct Tile {
    /// As [`tile_of`] gives it; a larger one has the size that it has.
    pub image: Image,
    /// Stands below it.
    pub note: String,
    /// Framed and marked as right or wrong.
    pub right: Option<bool>,
}

impl From<Image> for Tile {
    fn from(image: Image) -> Tile {
        Tile { image, note: String::new(), right: None }
    }
}

/// Shortest side of a tile on the sheet.
const TILE: u32 = 72;
const GAP: u32 = 4;
const GROUP_GAP: u32 = 16;
const MARGIN: u32 = 12;
const TEXT: u32 = 18;
/// Size of what stands above a sheet and below its tiles.
const NOTE: u32 = 13;
/// Space below tiles with notes, and beside tiles with frames.
const BELOW: u32 = NOTE + 6;
const FRAMED_GAP: u32 = 12;
const FRAME: u32 = 3;
/// Radius of the mark on a tile's corner.
const MARK: i32 = 10;
/// Right and wrong, as colour-blind readers tell them apart.
const RIGHT: RGBColor = super::pen::colour(0);
const WRONG: RGBColor = super::pen::colour(1);

/// Dots of a sheet at most: a thousand classes with four images each are fewer.
const MOST_DOTS: u64 = 120_000_000;

/// As much of an image as the sheet shows of it, so that a thousand photographs need no memory for
/// what is not shown.
pub fn tile_of(image: &Image) -> Image {
    let longest = image.width.max(image.height);
    let side = |n: usize| (TILE * n as u32 / longest.max(1) as u32).max(1);
    match longest > TILE as usize {
        true => resized(image, (side(image.width), side(image.height))),
        false => image.clone(),
    }
}

/// An image of (width, height) pixels, each of which is the nearest one of `image`.
pub(super) fn resized(image: &Image, (width, height): (u32, u32)) -> Image {
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend(pixel(image, (x, y), (width, height)));
        }
    }
    Image { height: height as usize, width: width as usize, pixels }
}

/// Where everything stands, in dots.
struct Layout {
    left: u32,
    top: u32,
    tile: u32,
    gap: u32,
    /// From one row to the next.
    pitch: u32,
    width: u32,
    height: u32,
}

impl Layout {
    fn of(heading: &[String], rows: &[Row]) -> Layout {
        let tiles = || rows.iter().flat_map(|row| row.groups.iter().flatten());
        let name = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0) as u32;
        let left = MARGIN + name * TEXT * 6 / 10 + MARGIN;
        let longer = |image: &Image| scaled(image.width as u32).max(scaled(image.height as u32));
        let tile = tiles().map(|tile| longer(&tile.image)).max().unwrap_or(TILE);
        let gap = if tiles().any(|tile| tile.right.is_some()) { FRAMED_GAP } else { GAP };
        let below = if tiles().any(|tile| !tile.note.is_empty()) { BELOW } else { 0 };
        let group = |n: usize| n as u32 * (tile + gap) + GROUP_GAP;
        let wide = |row: &Row| row.groups.iter().map(|g| group(g.len())).sum::<u32>();
        let written = heading.iter().map(|line| text_width(line, f64::from(NOTE)).ceil() as u32);
        let width = left + rows.iter().map(wide).max().unwrap_or(0);
        let width = written.map(|text| text + 2 * MARGIN).fold(width, u32::max);
        let above = heading.len() as u32 * (NOTE + 6);
        let top = MARGIN + above + if above > 0 { MARGIN } else { 0 };
        let pitch = tile + gap + below;
        Layout { left, top, tile, gap, pitch, width, height: top + MARGIN + rows.len() as u32 * pitch }
    }

    /// Every tile with its left upper corner.
    fn tiles<'a>(&self, rows: &'a [Row]) -> Vec<(u32, u32, &'a Tile)> {
        let mut placed = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let (mut x, y) = (self.left, self.top + index as u32 * self.pitch);
            for tiles in &row.groups {
                for tile in tiles {
                    placed.push((x, y, tile));
                    x += self.tile + self.gap;
                }
                x += GROUP_GAP;
            }
        }
        placed
    }
}

/// Draws the sheet: `heading` above, names at the left, tiles enlarged by whole factors so that
/// pixels stay square.
///
/// # Errors
/// [`Error::Usage`] for more rows and groups than a picture can hold.
pub fn contact_sheet(heading: &[String], rows: &[Row]) -> Result<Vec<u8>> {
    super::pen::prepare_font()?;
    let layout = Layout::of(heading, rows);
    let (width, height) = (layout.width, layout.height);
    if u64::from(width) * u64::from(height) > MOST_DOTS {
        let what = format!(
            "{width}×{height} dots are too many for one sheet; fewer images need fewer (--per-class, --queries, --nearest)"
        );
        return Err(Error::Usage(what));
    }
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    for (x, y, tile) in layout.tiles(rows) {
        if let Some(right) = tile.right {
            let ink = if right { RIGHT } else { WRONG };
            let (wide, high) = shown(&tile.image);
            for y in y - FRAME..y + high + FRAME {
                (x - FRAME..x + wide + FRAME).for_each(|x| sheet.put_pixel(x, y, Rgb([ink.0, ink.1, ink.2])));
            }
        }
        paste(&mut sheet, &tile.image, x, y);
    }
    letters(&mut sheet, &layout, heading, rows)?;
    encode(&sheet)
}

/// A side enlarged by a whole factor to at least [`TILE`].
fn scaled(side: u32) -> u32 {
    side * TILE.div_ceil(side.max(1)).max(1)
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

/// Names, notes, marks and the heading.
fn letters(sheet: &mut RgbImage, layout: &Layout, heading: &[String], rows: &[Row]) -> Result<()> {
    for (index, line) in heading.iter().enumerate() {
        write(sheet, line, NOTE, (MARGIN, MARGIN + index as u32 * (NOTE + 6)))?;
    }
    for (index, row) in rows.iter().enumerate() {
        let y = layout.top + index as u32 * layout.pitch + layout.tile / 2 - TEXT / 5;
        write(sheet, &row.name, TEXT, (MARGIN, y))?;
    }
    for (x, y, tile) in layout.tiles(rows) {
        let (wide, high) = shown(&tile.image);
        let note = fitting(&tile.note, f64::from(layout.tile + layout.gap - 4));
        write(sheet, &note, NOTE, (x, y + high + 5))?;
        if let Some(right) = tile.right {
            mark(sheet, right, ((x + wide) as i32 - MARK + 2, (y + high) as i32 - MARK + 2))?;
        }
    }
    Ok(())
}

/// A text whose left upper corner is `at`, drawn finer than it is shown: plotters sets letters on
/// whole dots.
fn write(sheet: &mut RgbImage, text: &str, size: u32, at: (u32, u32)) -> Result<()> {
    const FINER: u32 = 3;
    if text.is_empty() {
        return Ok(());
    }
    let wide =
        (text_width(text, f64::from(size)).ceil() as u32).min(sheet.width().saturating_sub(at.0)).max(1);
    let (width, height) = (wide * FINER, (size + size / 2) * FINER);
    let mut finer = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let area = BitMapBackend::with_buffer(&mut finer, (width, height)).into_drawing_area();
    let style = TextStyle::from(("sans-serif", f64::from(size * FINER)).into_font());
    // plotters' letters reach half their size above the place that they are given.
    area.draw_text(text, &style, (0, (size * FINER / 2) as i32)).map_err(failed)?;
    area.present().map_err(failed)?;
    drop(area);
    let shown = imageops::thumbnail(&finer, wide, size + size / 2);
    for (x, y, ink) in shown.enumerate_pixels() {
        let (x, y) = (at.0 + x, (at.1 + y).saturating_sub(size / 2));
        if x < sheet.width() && y < sheet.height() {
            // Frames that the text's white reaches into stay.
            let below = sheet.get_pixel_mut(x, y);
            below.0 = std::array::from_fn(|channel| below.0[channel].min(ink.0[channel]));
        }
    }
    Ok(())
}

/// As much of `text` as is no wider than `width`.
fn fitting(text: &str, width: f64) -> String {
    let mut kept = text.to_string();
    while text_width(&kept, 0.86 * f64::from(NOTE)) > width && kept.pop().is_some() {}
    kept
}

/// A disc with a tick or a cross.
fn mark(sheet: &mut RgbImage, right: bool, (x, y): (i32, i32)) -> Result<()> {
    let ink = if right { RIGHT } else { WRONG };
    let size = sheet.dimensions();
    let area = BitMapBackend::with_buffer(sheet, size).into_drawing_area();
    area.draw(&Circle::new((x, y), MARK, WHITE.filled())).map_err(failed)?;
    area.draw(&Circle::new((x, y), MARK - 1, ink.filled())).map_err(failed)?;
    let lines: &[&[(i32, i32)]] = match right {
        true => &[&[(-5, 0), (-1, 4), (5, -4)]],
        false => &[&[(-4, -4), (4, 4)], &[(-4, 4), (4, -4)]],
    };
    for line in lines {
        let line: Vec<_> = line.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&PathElement::new(line, WHITE.stroke_width(3))).map_err(failed)?;
    }
    area.present().map_err(failed)
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
