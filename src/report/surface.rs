//! Drawings as SVG and as dots: the same code draws both.

use super::pen::{Pen, Target, failed, prepare_font};
use crate::error::Result;
use image::RgbImage;
use plotters::prelude::*;

/// Dots for each unit: fine enough for smooth lines in an SVG, 200 dots per inch in a PNG.
pub const SVG_SCALE: u32 = 10;
/// Dots for each unit of a PNG.
pub const PNG_SCALE: u32 = 2;
/// A PNG is drawn this much larger: plotters sets letters on whole dots.
const PNG_FINER: u32 = 2;
/// Dots of a drawing at most, at the scale at which it is drawn.
pub const MOST_DOTS: f64 = 3e8;

/// What can be drawn, in units.
pub trait Drawing {
    /// Its width and height.
    fn size(&self) -> (f64, f64);
    /// Draws it on white.
    fn draw<B: DrawingBackend>(&self, pen: &Pen<B>) -> Result<()>;
}

/// Whether so large a drawing can be held in memory: both sides may be long, but not what lies
/// between them.
pub fn fits(width: f64, height: f64) -> bool {
    let scale = f64::from(PNG_SCALE * PNG_FINER);
    width * scale * height * scale <= MOST_DOTS
}

fn dots((width, height): (f64, f64), scale: u32) -> (u32, u32) {
    (width.ceil() as u32 * scale, height.ceil() as u32 * scale)
}

/// The drawing as SVG.
pub fn svg(drawing: &impl Drawing) -> Result<String> {
    prepare_font()?;
    let (width, height) = dots(drawing.size(), 1);
    let inner = dots(drawing.size(), SVG_SCALE);
    let mut text = String::new();
    on(SVGBackend::with_string(&mut text, inner), drawing, SVG_SCALE, Target::Svg)?;
    // plotters counts in whole dots: it draws at a larger scale, the view box brings it back.
    let fonts = "font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\"";
    let text = with_head(&text, inner, &format!("width=\"{width}\" height=\"{height}\""));
    Ok(text.replace("font-family=\"sans-serif\"", fonts))
}

/// An SVG that was drawn on so many dots, with other attributes in the place of its size.
pub fn with_head(svg: &str, (width, height): (u32, u32), attributes: &str) -> String {
    svg.replacen(&format!("<svg width=\"{width}\" height=\"{height}\""), &format!("<svg {attributes}"), 1)
}

/// The drawing as dots, [`PNG_SCALE`] for each unit.
pub fn png(drawing: &impl Drawing) -> Result<RgbImage> {
    prepare_font()?;
    let (width, height) = dots(drawing.size(), PNG_SCALE * PNG_FINER);
    let mut drawn = vec![0; width as usize * height as usize * 3];
    let backend = BitMapBackend::with_buffer(&mut drawn, (width, height));
    on(backend, drawing, PNG_SCALE * PNG_FINER, Target::Bitmap)?;
    let drawn = RgbImage::from_raw(width, height, drawn).ok_or_else(|| failed("wrong size"))?;
    let (width, height) = dots(drawing.size(), PNG_SCALE);
    Ok(image::imageops::thumbnail(&drawn, width, height))
}

fn on<B: DrawingBackend>(backend: B, drawing: &impl Drawing, scale: u32, target: Target) -> Result<()> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    drawing.draw(&Pen::new(&area, scale, target))?;
    area.present().map_err(failed)
}
