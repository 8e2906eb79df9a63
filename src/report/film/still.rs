//! A film as a strip of frames.

use super::{Film, FilmArm, Frame, MARGIN};
use crate::error::Result;
use crate::report::axes::LABEL;
use crate::report::pen::{GRID, Letters, Pen, Place, wrap};
use crate::report::surface::Drawing;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Side of a plane in units.
const CELL: f64 = 118.0;
const TITLE: f64 = 14.0;
const SMALL: f64 = 10.0;

impl Film {
    fn width(&self) -> f64 {
        let cells = self.arms.iter().map(|arm| arm.chosen().len()).max().unwrap_or(1).max(4);
        2.0 * MARGIN + cells as f64 * (CELL + 6.0)
    }

    fn lines(&self, text: &str, size: f64) -> Vec<String> {
        wrap(text, size, self.width() - 2.0 * MARGIN)
    }

    /// The height of an arm's row: its title, its cells, two lines below them.
    const ROW: f64 = 22.0 + CELL + 30.0;
}

/// The strip: a row for each arm, a plane for some of the frames.
impl Drawing for Film {
    fn size(&self) -> (f64, f64) {
        let title = self.lines(&self.title, TITLE).len() as f64 * 1.35 * TITLE;
        let below = self.lines(&self.caption(), SMALL).len() + self.lines(&self.origin, SMALL).len();
        let height = title + self.arms.len() as f64 * Film::ROW + 1.4 * SMALL * below as f64;
        (self.width(), height + 3.0 * MARGIN)
    }

    fn draw<B: DrawingBackend>(&self, pen: &Pen<B>) -> Result<()> {
        let middle = self.width() / 2.0;
        let mut top = MARGIN;
        for line in self.lines(&self.title, TITLE) {
            pen.text(&line, (middle, top + TITLE), Letters::new(TITLE, HPos::Center))?;
            top += 1.35 * TITLE;
        }
        let unit = CELL / 2.0 / self.extent();
        for arm in &self.arms {
            pen.text(&arm.title, (MARGIN, top + 16.0), Letters::new(LABEL, HPos::Left))?;
            for (place, index) in arm.chosen().into_iter().enumerate() {
                let corner = (MARGIN + place as f64 * (CELL + 6.0), top + 22.0);
                draw_cell(pen, arm, &arm.frames[index], corner, unit)?;
            }
            top += Film::ROW;
        }
        for text in [self.caption(), self.origin.clone()] {
            for line in self.lines(&text, SMALL) {
                top += 1.4 * SMALL;
                pen.text(&line, (middle, top), Letters::grey(SMALL, HPos::Center))?;
            }
        }
        Ok(())
    }
}

/// One frame of the strip, with its left upper corner at `(left, top)`.
fn draw_cell<B: DrawingBackend>(
    pen: &Pen<B>,
    arm: &FilmArm,
    frame: &Frame,
    (left, top): Place,
    unit: f64,
) -> Result<()> {
    let (right, bottom) = (left + CELL, top + CELL);
    let edge = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    pen.line(&edge, GRID.to_rgba(), 1.2, &[])?;
    for ((x, y), label) in frame.places.iter().zip(&arm.labels) {
        let place = (left + CELL / 2.0 + unit * x, top + CELL / 2.0 - unit * y);
        pen.marker(place, *label as usize, 1.9)?;
    }
    let middle = left + CELL / 2.0;
    pen.text(&frame.time(), (middle, bottom + 12.0), Letters::grey(SMALL, HPos::Center))?;
    let said = format!("std·√d {:.2}", frame.z_std);
    pen.text(&said, (middle, bottom + 24.0), Letters::grey(SMALL, HPos::Center))
}
