//! A figure as SVG and PNG: title, legend, panels in rows, caption. The same code draws both.
//!
//! Invariant: nothing is read but the [`Figure`], and the same figure gives the same bytes.

use super::axes::LABEL;
use super::caption;
use super::figure::{Figure, Panel, Style};
use super::panel;
use super::pen::{Letters, Pen, Place, Target, colour, dash, failed, prepare_font, text_width, wrap};
use super::surface::{Drawing, MOST_DOTS, SVG_SCALE, fits, png, svg, with_head};
use crate::error::{Error, Result};
use crate::record::write_durable;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::path::{Path, PathBuf};

/// A figure is at least as wide as a title needs, and rows of several panels at most as wide as a
/// page shows without making letters too small.
const WIDTH: std::ops::Range<f64> = 370.0..1220.0;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 15.0;
const CAPTION: f64 = 9.0;
const READING: f64 = 10.0;
const LEGEND_ROW: f64 = 19.0;
/// Length of the line in the legend, and the space before its text and after it.
const SAMPLE: (f64, f64, f64) = (30.0, 7.0, 22.0);
/// The lengths of [`SAMPLE`] for a legend that shows markers and no lines.
const MARKER: (f64, f64, f64) = (10.0, 5.0, 22.0);

impl Figure {
    /// Writes `stem.csv` and draws `stem.svg` and `stem.png` from it.
    ///
    /// # Errors
    /// [`Error::Disk`] when a file cannot be written.
    pub fn save(&self, stem: &Path) -> Result<Vec<PathBuf>> {
        let csv = stem.with_extension("csv");
        write_durable(&csv, self.to_csv()?.as_bytes())?;
        let mut paths = Figure::from_csv(&csv)?.draw(stem)?;
        paths.push(csv);
        Ok(paths)
    }

    /// Draws `stem.svg` and `stem.png`.
    ///
    /// # Errors
    /// [`Error::Disk`] when a file cannot be written, [`Error::Failure`] for a figure that is too
    /// large.
    pub fn draw(&self, stem: &Path) -> Result<Vec<PathBuf>> {
        let paths = ["svg", "png"].map(|kind| stem.with_extension(kind));
        let layout = Layout::of(self)?;
        write_durable(&paths[0], svg(&layout)?.as_bytes())?;
        write_durable(&paths[1], &super::sheet::encode(&png(&layout)?)?)?;
        Ok(paths.to_vec())
    }
}

/// One panel of the figure as SVG for a page: as wide as its place, without background, legend and
/// letters around it; its values tell their numbers when pointed at.
pub fn panel_svg(figure: &Figure, panel: &Panel) -> Result<String> {
    prepare_font()?;
    let (width, height) = panel::size(figure, panel, true);
    if width * height > MOST_DOTS / f64::from(SVG_SCALE) {
        return Err(too_large(figure));
    }
    let dots = (width.ceil() as u32 * SVG_SCALE, height.ceil() as u32 * SVG_SCALE);
    let mut text = String::new();
    let mut spots = String::new();
    {
        let area = SVGBackend::with_string(&mut text, dots).into_drawing_area();
        let pen = Pen::new(&area, SVG_SCALE, Target::Svg);
        for spot in panel::draw(figure, panel, &pen, (0.0, 0.0), true)? {
            let [x, y] = [spot.place.0, spot.place.1].map(|units| (units * f64::from(SVG_SCALE)).round());
            let text = maud::html! { (spot.text) }.into_string();
            spots.push_str(&format!(
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"45\"><title>{text}</title></circle>\n"
            ));
        }
        area.present().map_err(failed)?;
    }
    let label = maud::html! { (panel.y) " of " (figure.title) ", seed by seed" }.into_string();
    Ok(with_head(&text, dots, &format!("role=\"img\" aria-label=\"{label}\""))
        .replace("font-family=\"sans-serif\"", "font-family=\"inherit\"")
        .replace("</svg>", &format!("<g class=\"spots\">\n{spots}</g></svg>")))
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
    let shown = format!("aria-hidden=\"true\" width=\"{}\" height=\"12\"", dots.0 / SVG_SCALE);
    Ok(with_head(&text, dots, &shown))
}

fn draw_sample<B: DrawingBackend>(pen: &Pen<B>, index: usize, (left, y): Place, length: f64) -> Result<()> {
    if length > MARKER.0 {
        pen.line(&[(left, y), (left + length, y)], colour(index).to_rgba(), 2.0, dash(index))?;
    }
    pen.marker((left + length / 2.0, y), index, 3.4)
}

fn too_large(figure: &Figure) -> Error {
    let (panels, arms) = (figure.panels.len(), figure.arms.len());
    Error::Failure(format!("a figure of {panels} panels and {arms} arms is too large to be drawn"))
}

/// Where everything stands, in units.
struct Layout<'a> {
    figure: &'a Figure,
    width: f64,
    height: f64,
    title: Vec<String>,
    /// Rows of (arm's index, left edge).
    legend: Vec<Vec<(usize, f64)>>,
    legend_top: f64,
    /// Panels, the left upper corner of each, and whether it names its arms.
    panels: Vec<(&'a Panel, Place, bool)>,
    panels_bottom: f64,
    /// Lines of the caption with their letters' size.
    caption: Vec<(String, f64)>,
}

impl<'a> Layout<'a> {
    fn of(figure: &'a Figure) -> Result<Layout<'a>> {
        prepare_font()?;
        // Before anything is measured: that takes time for each arm and panel.
        if figure.arms.len().max(1) * figure.panels.len().max(1) > MOST_PARTS {
            return Err(too_large(figure));
        }
        let panels = figure.drawn();
        let rows = rows(figure, &panels);
        let wide = |row: &Vec<Slot>| row.iter().map(|panel| panel.size.0).sum::<f64>();
        let width = rows.iter().map(wide).fold(WIDTH.start, f64::max);
        let title = wrap(&figure.title, TITLE, width - 2.0 * MARGIN);
        let legend_top = MARGIN + title.len() as f64 * 1.35 * TITLE + 4.0;
        let legend = legend(figure, &panels, width);
        let mut top = legend_top + if legend.is_empty() { 8.0 } else { legend.len() as f64 * LEGEND_ROW };
        let mut placed = Vec::new();
        for row in &rows {
            let mut left = 0.0;
            for panel in row {
                placed.push((panel.panel, (left, top), panel.named));
                left += panel.size.0;
            }
            top += row.iter().map(|panel| panel.size.1).fold(0.0, f64::max);
        }
        let panels_bottom = top;
        let lines = |text: &str, size: f64| {
            wrap(text, size, width - 2.0 * MARGIN).into_iter().map(move |line| (line, size))
        };
        let caption: Vec<_> = lines(&caption::reading(figure), READING)
            .chain(lines(&caption::origin(figure), CAPTION))
            .collect();
        let height = panels_bottom + caption.iter().map(|(_, size)| 1.4 * size).sum::<f64>() + MARGIN;
        if !fits(width, height) {
            return Err(too_large(figure));
        }
        Ok(Layout {
            figure,
            width,
            height,
            title,
            legend,
            legend_top,
            panels: placed,
            panels_bottom,
            caption,
        })
    }
}

impl Drawing for Layout<'_> {
    fn size(&self) -> (f64, f64) {
        (self.width, self.height)
    }

    fn draw<B: DrawingBackend>(&self, pen: &Pen<B>) -> Result<()> {
        let figure = self.figure;
        let middle = self.width / 2.0;
        for (row, line) in self.title.iter().enumerate() {
            let baseline = MARGIN + TITLE + row as f64 * 1.35 * TITLE;
            pen.text(line, (middle, baseline), Letters::new(TITLE, HPos::Center))?;
        }
        let (length, before, _) = sample(figure);
        for (row, entries) in self.legend.iter().enumerate() {
            let y = self.legend_top + (row as f64 + 0.5) * LEGEND_ROW;
            for &(index, left) in entries {
                draw_sample(pen, index, (left, y), length)?;
                let text = (left + length + before, y + 0.36 * LABEL);
                pen.text(&figure.arms[index].1, text, Letters::new(LABEL, HPos::Left))?;
            }
        }
        for (panel, corner, named) in &self.panels {
            panel::draw(figure, panel, pen, *corner, *named)?;
        }
        let mut baseline = self.panels_bottom;
        for (line, size) in &self.caption {
            baseline += 1.4 * size;
            let letters = Letters::grey(*size, HPos::Center);
            pen.text(line, (middle, baseline), letters)?;
        }
        Ok(())
    }
}

/// A panel, its size, and whether it names its arms.
struct Slot<'a> {
    panel: &'a Panel,
    size: (f64, f64),
    named: bool,
}

/// The panels in as few rows as the width allows, of nearly the same number. Of strips in a row
/// only the first names the arms.
fn rows<'a>(figure: &Figure, panels: &[&'a Panel]) -> Vec<Vec<Slot<'a>>> {
    let in_rows = |per_row: usize| -> Vec<Vec<Slot<'a>>> {
        let row = |row: &[&'a Panel]| {
            let sized = |(index, panel): (usize, &&'a Panel)| {
                let named = index == 0 || row[index - 1].style != Style::Columns;
                Slot { panel, size: panel::size(figure, panel, named), named }
            };
            row.iter().enumerate().map(sized).collect()
        };
        panels.chunks(per_row).map(row).collect()
    };
    let fits = |rows: &Vec<Vec<Slot>>| {
        rows.iter().all(|row| row.len() == 1 || row.iter().map(|p| p.size.0).sum::<f64>() <= WIDTH.end)
    };
    let most = panels.len().clamp(1, MOST_IN_ROW);
    (1..=panels.len().max(1))
        .map(|count| panels.len().div_ceil(count).max(1))
        .filter(|per_row| *per_row <= most)
        .map(in_rows)
        .find(fits)
        .unwrap_or_else(|| in_rows(1))
}

/// Panels in a row at most, and parts (arms of panels) of a figure.
const MOST_IN_ROW: usize = 4;
const MOST_PARTS: usize = 20_000;

fn sample(figure: &Figure) -> (f64, f64, f64) {
    let lines = |panel: &Panel| matches!(panel.style, Style::Curves | Style::LogCurves);
    if figure.panels.iter().any(lines) { SAMPLE } else { MARKER }
}

/// Whether a panel needs a legend to say which arm is which.
pub fn has_legend(figure: &Figure, panels: &[&Panel]) -> bool {
    panels.iter().any(|panel| !panel::names_arms(figure, panel))
}

/// The arms in rows that fit into `width`, each row in the middle; none where panels name the arms.
fn legend(figure: &Figure, panels: &[&Panel], width: f64) -> Vec<Vec<(usize, f64)>> {
    if !has_legend(figure, panels) {
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
