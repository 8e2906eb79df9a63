//! Drawing with plotters: the same code for SVG and PNG.

use super::figure::{Figure, Panel, Style};
use crate::error::{Error, Result};
use crate::measure::estimate::Estimate;
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::collections::BTreeMap;

/// Colours that colour-blind readers can tell apart (Okabe & Ito 2008); each arm also has its own dash
/// and marker, for print in grey.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(160, 120, 40),
];
/// Dash patterns in pixels: drawn, left out; no gap means a solid line.
const DASHES: [(u32, u32); 4] = [(1, 0), (9, 5), (3, 4), (14, 4)];
/// Size of a panel with its labels, and of title, legend and caption, in pixels.
const PANEL: (u32, u32) = (400, 330);
const TITLE: u32 = 40;
const LEGEND_ROW: u32 = 24;
const CAPTION: u32 = 24;
/// PNG pixels for each unit of the drawing.
const PNG_SCALE: u32 = 2;

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

/// An embedded font, so that a machine without any renders the same letters.
fn prepare_font() -> Result<()> {
    static FONT_BYTES: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
    register_font(FONT, FontStyle::Normal, FONT_BYTES)
        .map_err(|_| Error::Failure("the embedded font cannot be read".into()))
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Failure(format!("cannot draw the figure: {e}"))
}

/// The figure's width and height, in units.
fn size(figure: &Figure) -> (u32, u32) {
    let width = PANEL.0 * figure.panels.len().max(1) as u32;
    (width, TITLE + legend_rows(figure, width).len() as u32 * LEGEND_ROW + PANEL.1 + CAPTION)
}

/// The figure as SVG.
pub fn svg(figure: &Figure) -> Result<String> {
    prepare_font()?;
    let mut text = String::new();
    draw(figure, 1, &SVGBackend::with_string(&mut text, size(figure)).into_drawing_area())?;
    // The renderer's fallbacks, where the embedded font's name means nothing.
    Ok(text.replace("font-family=\"sans-serif\"", "font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\""))
}

/// The figure as PNG.
pub fn png(figure: &Figure) -> Result<Vec<u8>> {
    prepare_font()?;
    let (width, height) = size(figure);
    let (width, height) = (width * PNG_SCALE, height * PNG_SCALE);
    let mut pixels = vec![0; (width * height * 3) as usize];
    draw(figure, PNG_SCALE, &BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area())?;
    let image = image::RgbImage::from_raw(width, height, pixels).ok_or_else(|| failed("wrong size"))?;
    super::sheet::encode(&image)
}

/// Drawing state: everything is in units times `scale`.
struct Pen<'a> {
    figure: &'a Figure,
    scale: u32,
}

fn draw<B: DrawingBackend>(figure: &Figure, scale: u32, area: &DrawingArea<B, Shift>) -> Result<()> {
    let pen = Pen { figure, scale };
    area.fill(&WHITE).map_err(failed)?;
    let (width, _) = size(figure);
    let rows = legend_rows(figure, width);
    let s = scale as i32;
    pen.text(area, &figure.title, 17, (s * width as i32 / 2, s * 12), HPos::Center, INK)?;
    for (row, entries) in rows.iter().enumerate() {
        let y = s * (TITLE + row as u32 * LEGEND_ROW + LEGEND_ROW / 2) as i32;
        pen.legend(area, entries, y)?;
    }
    let top = TITLE + rows.len() as u32 * LEGEND_ROW;
    for (index, panel) in figure.panels.iter().enumerate() {
        let part = area
            .clone()
            .shrink((index as u32 * PANEL.0 * scale, top * scale), (PANEL.0 * scale, PANEL.1 * scale));
        match panel.style {
            Style::Curves => pen.curves(&part, panel)?,
            Style::Columns => pen.columns(&part, panel)?,
        }
    }
    let y = s * (top + PANEL.1) as i32 + s * 4;
    pen.text(area, &figure.caption, 10, (s * width as i32 / 2, y), HPos::Center, RGBColor(110, 110, 110))?;
    area.present().map_err(failed)
}

/// Width of a text of `size`, in units: a generous mean over letters.
fn text_width(text: &str, size: u32) -> u32 {
    (text.chars().count() as f64 * f64::from(size) * 0.58) as u32
}

/// Arms of the legend, in rows that fit into `width`: (arm's index, x).
fn legend_rows(figure: &Figure, width: u32) -> Vec<Vec<(usize, u32)>> {
    let mut rows = vec![Vec::new()];
    let mut x = 20;
    for (index, (_, title)) in figure.arms.iter().enumerate() {
        let len = 46 + text_width(title, 13) + 18;
        if x + len > width && x > 20 {
            rows.push(Vec::new());
            x = 20;
        }
        if let Some(row) = rows.last_mut() {
            row.push((index, x));
        }
        x += len;
    }
    rows
}

impl Pen<'_> {
    fn text<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        text: &str,
        size: u32,
        at: (i32, i32),
        align: HPos,
        colour: RGBColor,
    ) -> Result<()> {
        let style = TextStyle::from((FONT, (size * self.scale) as f64).into_font())
            .color(&colour)
            .pos(Pos::new(align, VPos::Top));
        area.draw_text(text, &style, at).map_err(failed)
    }

    fn legend<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        entries: &[(usize, u32)],
        y: i32,
    ) -> Result<()> {
        let s = self.scale as i32;
        for &(index, x) in entries {
            let x = s * x as i32;
            let ends = [(x, y), (x + s * 32, y)];
            let style = colour(index).stroke_width(2 * self.scale);
            self.dashed(area, ends, index, style)?;
            self.marker(area, (x + s * 16, y), index, 4)?;
            self.text(area, &self.figure.arms[index].1, 13, (x + s * 40, y - s * 6), HPos::Left, INK)?;
        }
        Ok(())
    }

    /// A level line in the dash of arm `index`.
    fn dashed<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        ends: [(i32, i32); 2],
        index: usize,
        style: ShapeStyle,
    ) -> Result<()> {
        let (on, off) = self.dash(index);
        let [(from, y), (to, _)] = ends;
        let (on, gap) = if off == 0 { (to - from, 1) } else { (on as i32, off as i32) };
        let mut x = from;
        while x < to {
            let dash = vec![(x, y), ((x + on).min(to), y)];
            area.draw(&PathElement::new(dash, style)).map_err(failed)?;
            x += on + gap;
        }
        Ok(())
    }

    fn dash(&self, index: usize) -> (u32, u32) {
        let (on, off) = DASHES[index % DASHES.len()];
        (on * self.scale, off * self.scale)
    }

    /// The marker of arm `index`: its shape goes with its dash.
    fn marker<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        (x, y): (i32, i32),
        index: usize,
        radius: i32,
    ) -> Result<()> {
        let (r, style) = (radius * self.scale as i32, colour(index).filled());
        let drawn = match index % 4 {
            0 => area.draw(&Circle::new((x, y), r, style)),
            1 => area.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], style)),
            2 => area.draw(&Polygon::new(vec![(x, y - r), (x + r, y + r), (x - r, y + r)], style)),
            _ => area.draw(&Polygon::new(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)], style)),
        };
        drawn.map_err(failed)
    }

    /// x → values of all seeds, for one arm in one panel.
    fn by_x(&self, panel: &Panel, arm: &str) -> Vec<(f64, Vec<f64>)> {
        let mut at: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for p in self.figure.points.iter().filter(|p| p.panel == panel.name && p.arm == arm) {
            // x is an epoch: never negative, so the order of bits is the order of numbers.
            at.entry(p.x.to_bits()).or_insert((p.x, Vec::new())).1.push(p.y);
        }
        at.into_values().collect()
    }

    /// The range of a panel's y with a margin: data, intervals and references.
    fn y_range(&self, panel: &Panel) -> std::ops::Range<f64> {
        let data = self.figure.points.iter().filter(|p| p.panel == panel.name).map(|p| p.y);
        let intervals = self.figure.arms.iter().flat_map(|(arm, _)| {
            let ends = |(_, values): (f64, Vec<f64>)| {
                Estimate::of(&values).map(|e| [e.mean - half(&e), e.mean + half(&e)])
            };
            self.by_x(panel, arm).into_iter().filter_map(ends).flatten().collect::<Vec<_>>()
        });
        let references = panel.references.iter().map(|r| r.value);
        let (low, high) = data
            .chain(intervals)
            .chain(references)
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return 0.0..1.0;
        }
        let margin = ((high - low) * 0.08).max(1e-3 * high.abs().max(1e-3));
        low - margin..high + margin
    }

    fn curves<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<()> {
        let xs = self.figure.points.iter().filter(|p| p.panel == panel.name).map(|p| p.x);
        let last = xs.fold(0.0, f64::max).max(1e-9);
        let mut chart =
            self.builder(area).build_cartesian_2d(0.0..last * 1.02, self.y_range(panel)).map_err(failed)?;
        self.mesh(chart.configure_mesh().x_labels(6), panel)?;
        for reference in &panel.references {
            let style = INK.mix(0.7).stroke_width(self.scale);
            let line = [(0.0, reference.value), (last * 1.02, reference.value)];
            let (on, off) = (4 * self.scale, 4 * self.scale);
            chart.draw_series(DashedLineSeries::new(line, on, off, style)).map_err(failed)?;
            let font = TextStyle::from((FONT, f64::from(11 * self.scale)).into_font()).color(&INK);
            let font = font.pos(Pos::new(HPos::Right, VPos::Bottom));
            let label = Text::new(reference.label.clone(), (last, reference.value), font);
            chart.draw_series([label]).map_err(failed)?;
        }
        for (index, (arm, _)) in self.figure.arms.iter().enumerate() {
            let means: Vec<(f64, Option<Estimate>)> =
                self.by_x(panel, arm).into_iter().map(|(x, values)| (x, Estimate::of(&values))).collect();
            let means: Vec<(f64, Estimate)> = means.into_iter().filter_map(|(x, e)| Some((x, e?))).collect();
            let upper = means.iter().map(|(x, e)| (*x, e.mean + half(e)));
            let lower = means.iter().rev().map(|(x, e)| (*x, e.mean - half(e)));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            chart.draw_series([Polygon::new(band, colour(index).mix(0.15))]).map_err(failed)?;
            let mut seeds: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
            for p in self.figure.points.iter().filter(|p| p.panel == panel.name && p.arm == *arm) {
                seeds.entry(p.seed).or_default().push((p.x, p.y));
            }
            if seeds.len() > 1 {
                let thin = colour(index).mix(0.45).stroke_width(self.scale);
                for line in seeds.into_values() {
                    chart.draw_series(LineSeries::new(line, thin)).map_err(failed)?;
                }
            }
            let line = means.iter().map(|(x, e)| (*x, e.mean));
            let thick = colour(index).stroke_width(2 * self.scale);
            let (on, off) = self.dash(index);
            match off {
                0 => chart.draw_series(LineSeries::new(line, thick)).map(|_| ()).map_err(failed)?,
                _ => chart
                    .draw_series(DashedLineSeries::new(line, on, off, thick))
                    .map(|_| ())
                    .map_err(failed)?,
            }
        }
        Ok(())
    }

    fn columns<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, panel: &Panel) -> Result<()> {
        let arms = &self.figure.arms;
        let x_range = -0.5..arms.len() as f64 - 0.5;
        let mut chart =
            self.builder(area).build_cartesian_2d(x_range, self.y_range(panel)).map_err(failed)?;
        self.mesh(chart.configure_mesh().x_labels(0).disable_x_mesh(), panel)?;
        let s = self.scale as i32;
        for (index, (arm, _)) in arms.iter().enumerate() {
            let values: Vec<f64> = self.by_x(panel, arm).into_iter().flat_map(|(_, values)| values).collect();
            let x = index as f64;
            let references = || panel.references.iter().filter(|r| r.arm.as_ref().is_none_or(|a| a == arm));
            for reference in references() {
                let style = INK.mix(0.8).stroke_width(2 * self.scale);
                let line = vec![(x - 0.32, reference.value), (x + 0.32, reference.value)];
                chart.draw_series([PathElement::new(line, style)]).map_err(failed)?;
            }
            // Below the axis: the arm, and the values it is compared with.
            let (left, _) = self.local(area, chart.backend_coord(&(x, 0.0)));
            let bottom = s * PANEL.1 as i32;
            self.text(area, arm, 12, (left, bottom - s * 46), HPos::Center, INK)?;
            for (line, reference) in references().enumerate() {
                let y = bottom - s * (30 - 13 * line as i32);
                self.text(area, &reference.label, 10, (left, y), HPos::Center, INK)?;
            }
            let Some(estimate) = Estimate::of(&values) else { continue };
            let style = colour(index).stroke_width(2 * self.scale);
            let (low, high) = (estimate.mean - half(&estimate), estimate.mean + half(&estimate));
            chart.draw_series([PathElement::new(vec![(x, low), (x, high)], style)]).map_err(failed)?;
            for end in [low, high] {
                let cap = vec![(x - 0.06, end), (x + 0.06, end)];
                chart.draw_series([PathElement::new(cap, style)]).map_err(failed)?;
            }
            let dot = colour(index).mix(0.55).filled();
            for (seed, value) in values.iter().enumerate() {
                let side = x + 0.14 + 0.05 * seed as f64;
                chart.draw_series([Circle::new((side, *value), 2 * s, dot)]).map_err(failed)?;
            }
            let at = self.local(area, chart.backend_coord(&(x, estimate.mean)));
            self.marker(area, at, index, 5)?;
            self.text(
                area,
                &format!("{:.1}", estimate.mean),
                11,
                (at.0 - s * 9, at.1 - s * 7),
                HPos::Right,
                INK,
            )?;
        }
        Ok(())
    }

    /// A position of the whole drawing as one of `area`.
    fn local<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, (x, y): (i32, i32)) -> (i32, i32) {
        let (left, top) = area.get_base_pixel();
        (x - left, y - top)
    }

    fn builder<'b, 'c, B: DrawingBackend>(&self, area: &'b DrawingArea<B, Shift>) -> ChartBuilder<'b, 'c, B> {
        let mut builder = ChartBuilder::on(area);
        builder
            .margin(10 * self.scale)
            .margin_right(16 * self.scale)
            .x_label_area_size(42 * self.scale)
            .y_label_area_size(58 * self.scale);
        builder
    }

    fn mesh<'m, B: DrawingBackend>(
        &self,
        mesh: &mut MeshStyle<
            'm,
            '_,
            plotters::coord::types::RangedCoordf64,
            plotters::coord::types::RangedCoordf64,
            B,
        >,
        panel: &Panel,
    ) -> Result<()> {
        let font = |size: u32| (FONT, f64::from(size * self.scale)).into_font().color(&INK);
        mesh.x_desc(panel.x.clone())
            .y_desc(panel.y.clone())
            .y_labels(6)
            .light_line_style(WHITE)
            .bold_line_style(GRID.stroke_width(self.scale))
            .axis_style(INK.stroke_width(self.scale))
            .label_style(font(11))
            .axis_desc_style(font(13))
            .y_label_formatter(&|v| tidy(*v))
            .x_label_formatter(&|v| tidy(*v))
            .draw()
            .map_err(failed)
    }
}

/// A tick's number without needless digits.
fn tidy(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.replace('-', "−") }
}

fn half(estimate: &Estimate) -> f64 {
    estimate.half_width.unwrap_or(0.0)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}
