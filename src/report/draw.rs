//! A figure as SVG and PNG: title, legend, panels side by side (many heat maps in two rows), caption. The same code draws both.
//!
//! Invariant: nothing is read but the [`Figure`], and the same figure gives the same bytes.

use super::axes::LABEL;
use super::figure::{Figure, Panel, Style};
use super::heat;
use super::panel;
use super::pen::{GREY, Letters, Pen, Place, Target, colour, dash, failed, prepare_font, text_width, wrap};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Dots for each unit: fine enough for smooth lines in an SVG, 200 dots per inch in a PNG.
const SVG_SCALE: u32 = 10;
const PNG_SCALE: u32 = 2;
/// A PNG is drawn this much larger: plotters sets letters on whole dots.
const PNG_FINER: u32 = 2;
/// Size of a panel of curves with its labels, in units.
const PANEL_WIDTH: f64 = 370.0;
const PANEL_HEIGHT: f64 = 300.0;
/// Columns are no closer than this, and no further apart than that.
const SLOT: std::ops::RangeInclusive<f64> = 78.0..=132.0;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 15.0;
const CAPTION: f64 = 9.0;
const LEGEND_ROW: f64 = 19.0;
/// Length of the line in the legend, and the space before its text and after it.
const SAMPLE: (f64, f64, f64) = (30.0, 7.0, 22.0);
/// The same where nothing but the marker is shown.
const MARKER: (f64, f64, f64) = (10.0, 5.0, 22.0);

/// Dots of a drawing at most, at the scale at which it is drawn.
const MOST_DOTS: f64 = 3e8;

/// The figure as SVG.
pub fn svg(figure: &Figure) -> Result<String> {
    prepare_font()?;
    let layout = Layout::of(figure)?;
    let (width, height) = layout.dots(1);
    let (inner_width, inner_height) = layout.dots(SVG_SCALE);
    let mut text = String::new();
    let backend = SVGBackend::with_string(&mut text, (inner_width, inner_height));
    layout.draw(figure, SVG_SCALE, Target::Svg, &backend.into_drawing_area())?;
    // plotters counts in whole dots: it draws at a larger scale, the view box brings it back.
    let drawn = format!("<svg width=\"{inner_width}\" height=\"{inner_height}\"");
    let shown = format!("<svg width=\"{width}\" height=\"{height}\"");
    let fonts = "font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\"";
    Ok(text.replacen(&drawn, &shown, 1).replace("font-family=\"sans-serif\"", fonts))
}

/// The figure as PNG.
pub fn png(figure: &Figure) -> Result<Vec<u8>> {
    prepare_font()?;
    let layout = Layout::of(figure)?;
    let (width, height) = layout.dots(PNG_SCALE * PNG_FINER);
    let mut dots = vec![0; width as usize * height as usize * 3];
    let backend = BitMapBackend::with_buffer(&mut dots, (width, height));
    layout.draw(figure, PNG_SCALE * PNG_FINER, Target::Bitmap, &backend.into_drawing_area())?;
    let drawn = image::RgbImage::from_raw(width, height, dots).ok_or_else(|| failed("wrong size"))?;
    let (width, height) = layout.dots(PNG_SCALE);
    super::sheet::encode(&image::imageops::thumbnail(&drawn, width, height))
}

/// One panel of the figure as SVG for a page: as wide as its place, without background, legend and letters
/// around it; its means tell their numbers when pointed at.
pub fn panel_svg(figure: &Figure, panel: &Panel) -> Result<String> {
    prepare_font()?;
    let (width, height) = (panel_width(figure, panel), PANEL_HEIGHT + panel::below(figure, panel));
    let dots = (width.ceil() as u32 * SVG_SCALE, height.ceil() as u32 * SVG_SCALE);
    let mut text = String::new();
    let mut spots = String::new();
    {
        let area = SVGBackend::with_string(&mut text, dots).into_drawing_area();
        let pen = Pen::new(&area, SVG_SCALE, Target::Svg);
        for spot in panel::draw(figure, panel, &pen, (0.0, width), (0.0, PANEL_HEIGHT))? {
            let [x, y] = [spot.place.0, spot.place.1].map(|units| (units * f64::from(SVG_SCALE)).round());
            let text = maud::html! { (spot.text) }.into_string();
            spots.push_str(&format!(
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"70\"><title>{text}</title></circle>\n"
            ));
        }
        area.present().map_err(failed)?;
    }
    let drawn = format!("<svg width=\"{}\" height=\"{}\"", dots.0, dots.1);
    let label = maud::html! { (panel.y) " of " (figure.title) }.into_string();
    let shown = format!("<svg role=\"img\" aria-label=\"{label}\"");
    let fonts = "font-family=\"inherit\"";
    Ok(text
        .replacen(&drawn, &shown, 1)
        .replace("font-family=\"sans-serif\"", fonts)
        .replace("</svg>", &format!("<g class=\"spots\">\n{spots}</g></svg>")))
}

/// The width of a panel with its labels, in units.
pub fn panel_width(figure: &Figure, panel: &Panel) -> f64 {
    match panel.style {
        Style::Curves | Style::LogCurves | Style::Scatter | Style::Path => return PANEL_WIDTH,
        Style::Heat { .. } => return heat::width(figure),
        Style::Columns => {}
    }
    // Columns have as much space as their names need.
    let names = figure.arms.iter().map(|(name, _)| text_width(name, panel::NAME) + 14.0);
    let slot = names.fold(*SLOT.start(), f64::max).min(*SLOT.end());
    (slot * figure.arms.len() as f64 + panel::LEFT + panel::RIGHT).max(PANEL_WIDTH * 0.8)
}

/// The sample of arm `index` in a legend, as SVG.
pub fn sample_svg(figure: &Figure, index: usize) -> Result<String> {
    let (length, ..) = sample(figure);
    let dots = ((length + 2.0) as u32 * SVG_SCALE, 12 * SVG_SCALE);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, dots).into_drawing_area();
        let pen = Pen::new(&area, SVG_SCALE, Target::Svg);
        draw_sample(&pen, index, (1.0, 6.0), length)?;
        area.present().map_err(failed)?;
    }
    let drawn = format!("<svg width=\"{}\" height=\"{}\"", dots.0, dots.1);
    let shown = format!("<svg aria-hidden=\"true\" width=\"{}\" height=\"12\"", dots.0 / SVG_SCALE);
    Ok(text.replacen(&drawn, &shown, 1))
}

fn draw_sample<B: DrawingBackend>(pen: &Pen<B>, index: usize, (left, y): Place, length: f64) -> Result<()> {
    if length > MARKER.0 {
        pen.line(&[(left, y), (left + length, y)], colour(index).to_rgba(), 2.0, dash(index))?;
    }
    pen.marker((left + length / 2.0, y), index, 3.4)
}

/// Where everything stands, in units.
struct Layout {
    width: f64,
    height: f64,
    title: Vec<String>,
    /// Rows of (arm's index, left edge).
    legend: Vec<Vec<(usize, f64)>>,
    legend_top: f64,
    panels_bottom: f64,
    /// Left and right edge of each panel, and its top.
    panels: Vec<(f64, f64, f64)>,
    caption: Vec<String>,
}

impl Layout {
    fn of(figure: &Figure) -> Result<Layout> {
        let per_row = per_row(figure);
        let mut edges = Vec::new();
        let mut width = PANEL_WIDTH;
        for row in figure.panels.chunks(per_row) {
            let mut right = 0.0;
            for panel in row {
                let left = right;
                right += panel_width(figure, panel);
                edges.push((left, right));
            }
            width = width.max(right);
        }
        let title = wrap(&figure.title, TITLE, width - 2.0 * MARGIN);
        let legend_top = MARGIN + title.len() as f64 * 1.35 * TITLE + 4.0;
        let legend = legend(figure, width);
        let panels_top = legend_top + legend.len() as f64 * LEGEND_ROW;
        let below = figure.panels.iter().map(|panel| panel::below(figure, panel)).fold(0.0, f64::max);
        let rows = figure.panels.len().div_ceil(per_row).max(1);
        let top = |index: usize| panels_top + (index / per_row) as f64 * (PANEL_HEIGHT + below);
        let panels = edges.into_iter().enumerate().map(|(i, (left, right))| (left, right, top(i))).collect();
        let panels_bottom = panels_top + rows as f64 * (PANEL_HEIGHT + below);
        let caption = wrap(&figure.caption, CAPTION, width - 2.0 * MARGIN);
        let height = panels_bottom + caption.len() as f64 * 1.4 * CAPTION + MARGIN;
        // Both sides may be long, but not what lies between them: it is held in memory.
        let scale = f64::from(PNG_SCALE * PNG_FINER);
        if width * scale * height * scale > MOST_DOTS {
            let (panels, arms) = (figure.panels.len(), figure.arms.len());
            let what = format!("a figure of {panels} panels and {arms} arms is too large to be drawn");
            return Err(Error::Failure(what));
        }
        Ok(Layout { width, height, title, legend, legend_top, panels_bottom, panels, caption })
    }

    fn dots(&self, scale: u32) -> (u32, u32) {
        (self.width.ceil() as u32 * scale, self.height.ceil() as u32 * scale)
    }

    fn draw<B: DrawingBackend>(
        &self,
        figure: &Figure,
        scale: u32,
        target: Target,
        area: &DrawingArea<B, Shift>,
    ) -> Result<()> {
        area.fill(&WHITE).map_err(failed)?;
        let pen = Pen::new(area, scale, target);
        let middle = self.width / 2.0;
        for (row, line) in self.title.iter().enumerate() {
            let baseline = MARGIN + TITLE + row as f64 * 1.35 * TITLE;
            pen.text(line, (middle, baseline), Letters::new(TITLE, HPos::Center))?;
        }
        let (length, before, _) = sample(figure);
        for (row, entries) in self.legend.iter().enumerate() {
            let y = self.legend_top + (row as f64 + 0.5) * LEGEND_ROW;
            for &(index, left) in entries {
                draw_sample(&pen, index, (left, y), length)?;
                let text = (left + length + before, y + 0.36 * LABEL);
                pen.text(&figure.arms[index].1, text, Letters::new(LABEL, HPos::Left))?;
            }
        }
        for (panel, &(left, right, top)) in figure.panels.iter().zip(&self.panels) {
            panel::draw(figure, panel, &pen, (left, right), (top, top + PANEL_HEIGHT))?;
        }
        for (row, line) in self.caption.iter().enumerate() {
            let baseline = self.panels_bottom + CAPTION + row as f64 * 1.4 * CAPTION;
            let letters = Letters { colour: GREY, ..Letters::new(CAPTION, HPos::Center) };
            pen.text(line, (middle, baseline), letters)?;
        }
        area.present().map_err(failed)
    }
}

/// Columns beside which another panel would make the figure too wide to read.
const MANY_COLUMNS: usize = 8;

/// Columns of all panels side by side beyond which a page has to make them too small.
const MOST_COLUMNS: usize = 20;

/// More panels side by side are too small to read on a page.
const MOST_PANELS: usize = 4;

/// Panels in a row: all, but more than three heat maps stand in two, and many columns alone or in two.
fn per_row(figure: &Figure) -> usize {
    let panels = figure.panels.len().max(1);
    let heat = figure.panels.iter().all(|panel| panel.style.heat().is_some());
    let columns = figure.panels.iter().all(|panel| panel.style == Style::Columns);
    match figure.arms.len() {
        _ if heat && panels > 3 => panels.div_ceil(2),
        arms if columns && arms > MANY_COLUMNS => 1,
        arms if columns && arms * panels > MOST_COLUMNS => panels.div_ceil(2),
        _ if panels > MOST_PANELS => panels.div_ceil(2),
        _ => panels,
    }
}

fn sample(figure: &Figure) -> (f64, f64, f64) {
    let lines = |panel: &Panel| matches!(panel.style, Style::Curves | Style::LogCurves);
    if figure.panels.iter().any(lines) { SAMPLE } else { MARKER }
}

/// The arms in rows that fit into `width`, each row in the middle; none where columns bear the names.
fn legend(figure: &Figure, width: f64) -> Vec<Vec<(usize, f64)>> {
    let named = figure.arms.iter().all(|(name, title)| name == title);
    if named && figure.panels.iter().all(|panel| panel.style != Style::Curves) {
        return Vec::new();
    }
    let mut rows: Vec<(f64, Vec<(usize, f64)>)> = Vec::new();
    let (length, before, after) = sample(figure);
    for (index, (_, title)) in figure.arms.iter().enumerate() {
        let len = length + before + text_width(title, LABEL) + after;
        match rows.last_mut() {
            Some((used, row)) if *used + len - after <= width - 2.0 * MARGIN => {
                row.push((index, *used));
                *used += len;
            }
            _ => rows.push((len, vec![(index, 0.0)])),
        }
    }
    let centred = |(used, row): (f64, Vec<(usize, f64)>)| {
        let shift = ((width - (used - after)) / 2.0).max(0.0);
        row.into_iter().map(|(index, left)| (index, left + shift)).collect()
    };
    rows.into_iter().map(centred).collect()
}
