//! A heat map: rows of cells from bottom to top, columns from left to right, a bar that says what
//! colours mean.

use super::axes::{LABEL, TICK, labels, ticks};
use super::figure::{Figure, Panel};
use super::pen::{INK, Letters, Pen, Place, text_width, wrap};
use super::plot::LOWEST_R2;
use super::seeds::Spread;
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Width of the cells, of the bar with its numbers, and the space between.
const CELLS: f64 = 240.0;
const BAR: f64 = 11.0;
const BAR_GAP: f64 = 10.0;
const BAR_NUMBERS: f64 = 46.0;
/// Space above for what is measured, and below for the columns' axis.
const HEAD: f64 = 36.0;
const BOTTOM: f64 = 46.0;
/// Between labels and the edge of the panel.
const MARGIN: f64 = 10.0;
/// Numbers stand in the cells of a map with at most this many rows and columns.
const NUMBERED: usize = 8;
/// Labels are at least this far apart along the columns.
const LABEL_GAP: f64 = 6.0;

/// viridis (van der Walt & Smith 2015), every eighth of its length: light where values are high, in
/// even steps of lightness, and told apart without red and green.
const PALETTE: [RGBColor; 9] = [
    RGBColor(68, 1, 84),
    RGBColor(71, 45, 123),
    RGBColor(59, 82, 139),
    RGBColor(44, 114, 142),
    RGBColor(33, 145, 140),
    RGBColor(40, 174, 128),
    RGBColor(94, 201, 98),
    RGBColor(173, 220, 48),
    RGBColor(253, 231, 37),
];
/// Where no run has a value.
const NONE: RGBColor = RGBColor(215, 215, 215);

/// What a panel shows.
pub struct Map<'a> {
    /// Its arms are the rows.
    pub figure: &'a Figure,
    /// Its y says what is measured.
    pub panel: &'a Panel,
    /// Labels of the columns.
    pub columns: &'a [String],
    /// Label of the rows' axis.
    pub rows: &'a str,
    /// For each row (column, what the seeds say).
    pub medians: &'a [Vec<(f64, Spread)>],
}

/// The width of a panel with its labels.
pub fn width(figure: &Figure) -> f64 {
    2.0 * MARGIN + row_labels(figure) + CELLS + BAR_GAP + BAR + BAR_NUMBERS
}

/// The rows' labels, ticks and axis label.
fn row_labels(figure: &Figure) -> f64 {
    let widest = figure.arms.iter().map(|(_, title)| text_width(title, TICK)).fold(0.0, f64::max);
    widest + LABEL + 18.0
}

impl Map<'_> {
    /// Draws it with its left upper corner at `left`, `top`; place, words and seeds of each cell.
    pub fn draw<B: DrawingBackend>(
        &self,
        pen: &Pen<B>,
        (left, top): Place,
        height: f64,
    ) -> Result<Vec<(Place, String, Spread)>> {
        let from = (left + MARGIN + row_labels(self.figure), top + height - BOTTOM);
        let (columns, rows) = (self.columns.len().max(1), self.figure.arms.len().max(1));
        let size = (CELLS / columns as f64, (from.1 - top - HEAD) / rows as f64);
        let scale = Scale::of(self.medians, &self.panel.y);
        let mut told = Vec::new();
        for row in 0..self.figure.arms.len() {
            for (column, label) in self.columns.iter().enumerate() {
                let corner = (from.0 + column as f64 * size.0, from.1 - (row + 1) as f64 * size.1);
                let spread = self.spread(row, column);
                self.cell(pen, corner, size, spread.map(|spread| spread.median), &scale)?;
                if let Some(spread) = spread {
                    let (x, title) = (&self.panel.x, &self.figure.arms[row].1);
                    let words = format!("{x} {label}, {} {title}", self.rows);
                    told.push(((corner.0 + size.0 / 2.0, corner.1 + size.1 / 2.0), words, spread));
                }
            }
        }
        self.axes(pen, from, size)?;
        let bar = (from.0 + CELLS + BAR_GAP, from.1);
        scale.draw(pen, bar, from.1 - top - HEAD)?;
        let lines = wrap(&self.panel.y, LABEL, CELLS + BAR_GAP + BAR + BAR_NUMBERS);
        for (index, line) in lines.iter().rev().take(2).enumerate() {
            let baseline = top + HEAD - 8.0 - index as f64 * 1.25 * LABEL;
            pen.text(line, (from.0 + CELLS / 2.0, baseline), Letters::new(LABEL, HPos::Center))?;
        }
        Ok(told)
    }

    fn spread(&self, row: usize, column: usize) -> Option<Spread> {
        let cells = self.medians.get(row)?;
        cells.iter().find(|(x, _)| *x == column as f64).map(|(_, spread)| *spread)
    }

    fn cell<B: DrawingBackend>(
        &self,
        pen: &Pen<B>,
        (x, y): Place,
        (width, height): (f64, f64),
        median: Option<f64>,
        scale: &Scale,
    ) -> Result<()> {
        let fill = median.map_or(NONE, |median| scale.colour(median));
        pen.area(&rectangle((x, y), (width, height)), fill.to_rgba())?;
        if self.columns.len().max(self.figure.arms.len()) > NUMBERED {
            return Ok(());
        }
        let text = median.map_or("–".to_string(), |median| scale.number(median));
        let fitting = TICK.min(0.86 * TICK * width / text_width(&text, TICK).max(1.0)).min(0.7 * height);
        let letters = Letters { colour: letters(fill), ..Letters::new(fitting, HPos::Center) };
        pen.text(&text, (x + width / 2.0, y + height / 2.0 + 0.36 * fitting), letters)
    }

    /// Ticks and labels of both axes; of many labels every second, third, ….
    fn axes<B: DrawingBackend>(
        &self,
        pen: &Pen<B>,
        (x, y): Place,
        (width, height): (f64, f64),
    ) -> Result<()> {
        let shown: Vec<String> = self.columns.iter().map(|label| label.replace('-', "−")).collect();
        let widest = shown.iter().map(|label| text_width(label, TICK)).fold(0.0, f64::max);
        let every = ((widest + LABEL_GAP) / width).ceil().max(1.0) as usize;
        for (index, label) in shown.iter().enumerate().step_by(every) {
            let middle = x + (index as f64 + 0.5) * width;
            pen.line(&[(middle, y), (middle, y + 3.5)], INK.to_rgba(), 0.9, &[])?;
            pen.text(label, (middle, y + 7.0 + 0.73 * TICK), Letters::new(TICK, HPos::Center))?;
        }
        let every = (1.3 * TICK / height).ceil().max(1.0) as usize;
        let titles = self.figure.arms.iter().map(|(_, title)| title.replace('-', "−"));
        for (index, label) in titles.enumerate().step_by(every) {
            let middle = y - (index as f64 + 0.5) * height;
            pen.line(&[(x - 3.5, middle), (x, middle)], INK.to_rgba(), 0.9, &[])?;
            pen.text(&label, (x - 6.0, middle + 0.36 * TICK), Letters::new(TICK, HPos::Right))?;
        }
        pen.text(&self.panel.x, (x + CELLS / 2.0, y + 34.0), Letters::new(LABEL, HPos::Center))?;
        let middle = y - height * self.figure.arms.len() as f64 / 2.0;
        let upwards = Letters { upwards: true, ..Letters::new(LABEL, HPos::Center) };
        pen.text(self.rows, (x - row_labels(self.figure) + LABEL, middle), upwards)
    }
}

/// What colours mean.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// From the lowest median to the highest, or as much further that a small difference looks like
    /// one: 10 points of a percentage, a tenth of other values.
    fn of(medians: &[Vec<(f64, Spread)>], y: &str) -> Scale {
        let (percent, r2) = (y.contains('%'), y.contains("R²"));
        let values = || medians.iter().flatten().map(|(_, spread)| spread.median);
        let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Scale { low: 0.0, high: 1.0 };
        }
        let least = if percent { 10.0 } else { 0.1 * high.abs().max(low.abs()).max(1e-3) };
        // Below it an R² says only that it is far below.
        let low = if r2 { low.max(LOWEST_R2).min(high) } else { low };
        let missing = (least - (high - low)).max(0.0) / 2.0;
        Scale { low: low - missing, high: high + missing }
    }

    /// Between 0 and 1.
    fn share(&self, value: f64) -> f64 {
        // Halves, because the distance of the two largest numbers overflows.
        ((value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)).clamp(0.0, 1.0)
    }

    fn colour(&self, value: f64) -> RGBColor {
        mixed(self.share(value))
    }

    /// A value with as many digits as tell the map's values apart.
    fn number(&self, value: f64) -> String {
        let span = self.high - self.low;
        let digits = if span >= 10.0 { 1 } else { 2 };
        match value.abs() < 1e5 {
            true => format!("{value:.digits$}").replace('-', "−"),
            false => format!("{value:.0e}").replace('-', "−"),
        }
    }

    /// The bar upwards from `(x, y)`.
    fn draw<B: DrawingBackend>(&self, pen: &Pen<B>, (x, y): Place, height: f64) -> Result<()> {
        const STRIPES: usize = 64;
        let step = height / STRIPES as f64;
        for stripe in 0..STRIPES {
            let corner = (x, y - (stripe + 1) as f64 * step);
            // A little over the edge, so that no white line is left between two stripes.
            let tall = if stripe == 0 { step } else { step + 0.5 };
            let fill = mixed((stripe as f64 + 0.5) / STRIPES as f64);
            pen.area(&rectangle(corner, (BAR, tall)), fill.to_rgba())?;
        }
        let marks = ticks(&(self.low..self.high), 5, &[1.0, 2.0, 2.5, 5.0, 10.0]);
        for (mark, label) in marks.iter().zip(labels(&marks)) {
            let at = y - self.share(*mark) * height;
            pen.line(&[(x + BAR, at), (x + BAR + 3.0, at)], INK.to_rgba(), 0.9, &[])?;
            pen.text(&label, (x + BAR + 5.5, at + 0.36 * TICK), Letters::new(TICK, HPos::Left))?;
        }
        Ok(())
    }
}

/// The palette's colour at `share` of its length.
fn mixed(share: f64) -> RGBColor {
    let at = share * (PALETTE.len() - 1) as f64;
    let before = (at.floor() as usize).min(PALETTE.len() - 2);
    let (a, b, part) = (PALETTE[before], PALETTE[before + 1], at - before as f64);
    let channel = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(channel(a.0, b.0), channel(a.1, b.1), channel(a.2, b.2))
}

/// Black or white, whichever is easier to read on `fill`.
fn letters(fill: RGBColor) -> RGBColor {
    if contrast(fill, BLACK) > contrast(fill, WHITE) { BLACK } else { WHITE }
}

/// The contrast of two colours as WCAG 2 has it: from 1 to 21, readable from 4.5 on.
fn contrast(a: RGBColor, b: RGBColor) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Between 0 and 1, as an eye sees it.
fn luminance(RGBColor(red, green, blue): RGBColor) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
}

fn rectangle((x, y): Place, (width, height): (f64, f64)) -> [Place; 4] {
    [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_lighter_with_the_value() {
        let all: Vec<f64> = (0..=100).map(|i| luminance(mixed(f64::from(i) / 100.0))).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }

    #[test]
    fn letters_are_readable_on_every_colour() {
        for i in 0..=100 {
            let fill = mixed(f64::from(i) / 100.0);
            assert!(contrast(fill, letters(fill)) >= 4.5, "{i}: {}", contrast(fill, letters(fill)));
        }
    }
}
