//! Strokes, markers and letters in units, for both backends alike.
//!
//! Everything is placed in units (CSS pixels of the drawing) and drawn at `scale` dots per unit;
//! the backends know whole dots only. Text is placed by its baseline, which the two backends of
//! plotters put at different heights of the box they are asked to draw into.

use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, register_font};

/// A place in units: x to the right, y downwards.
pub type Place = (f64, f64);

/// The colour of text and axes.
pub const INK: RGBColor = RGBColor(40, 40, 40);
/// The colour of what is said aside.
const GREY: RGBColor = RGBColor(105, 105, 105);
/// The colour of lines behind the data.
pub const GRID: RGBColor = RGBColor(228, 228, 228);
/// The colour of the other arms' data, behind that of one.
pub const OTHERS: RGBColor = RGBColor(196, 196, 196);

/// Colours that colour-blind readers can tell apart (Okabe & Ito 2008), the dark ones first.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(150, 110, 30),
];
/// Dashes in units, drawn and left out in turn, for print in grey. As many as shapes of markers.
const DASHES: [&[f64]; 5] = [&[], &[7.0, 3.5], &[1.8, 2.6], &[9.0, 3.0, 1.8, 3.0], &[13.0, 4.0]];
/// The name under which the embedded font is known to plotters.
const FONT: &str = "sans-serif";
/// DejaVu Sans' ascent and descent in em, the unit in which plotters' bitmap fonts count their
/// size.
const LINE_EM: f64 = 1.164;

/// An embedded font, so that a machine without any renders the same letters.
pub fn prepare_font() -> Result<()> {
    static FONT_BYTES: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
    register_font(FONT, FontStyle::Normal, FONT_BYTES)
        .map_err(|_| Error::Failure("the embedded font cannot be read".into()))
}

/// A drawing error as the program's.
pub fn failed(e: impl std::fmt::Display) -> Error {
    Error::Failure(format!("cannot draw the figure: {e}"))
}

/// The colour of arm `index`.
pub const fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// The dash of arm `index`.
pub fn dash(index: usize) -> &'static [f64] {
    DASHES[index % DASHES.len()]
}

/// Width of a text of `size` (em) in units, as the embedded font sets it.
pub fn text_width(text: &str, size: f64) -> f64 {
    let measured = (FONT, 100.0 * LINE_EM).into_font().layout_box(text);
    measured
        .map_or(0.6 * size * text.chars().count() as f64, |(_, (right, _))| f64::from(right) * size / 100.0)
}

/// The words of `text` in lines no wider than `width`; a longer word has a line for itself.
pub fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Which backend draws.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Text stays text.
    Svg,
    /// Text becomes dots.
    Bitmap,
}

/// How a text stands.
#[derive(Clone, Copy)]
pub struct Letters {
    /// em in units.
    pub size: f64,
    /// Which end of the baseline is given.
    pub align: HPos,
    /// Its colour.
    pub colour: RGBColor,
    /// Reads upwards instead of to the right.
    pub upwards: bool,
}

impl Letters {
    /// Dark letters that read to the right.
    pub fn new(size: f64, align: HPos) -> Self {
        Self { size, align, colour: INK, upwards: false }
    }

    /// Letters that read to the right, in the colour of what is said aside.
    pub fn grey(size: f64, align: HPos) -> Self {
        Self { colour: GREY, ..Self::new(size, align) }
    }
}

/// Draws in units. Its methods fail with [`Error::Failure`] where the backend does.
pub struct Pen<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: f64,
    target: Target,
}

impl<'a, B: DrawingBackend> Pen<'a, B> {
    /// A pen on `area`, `scale` dots for each unit.
    pub fn new(area: &'a DrawingArea<B, Shift>, scale: u32, target: Target) -> Self {
        Self { area, scale: f64::from(scale), target }
    }

    fn dots(&self, units: f64) -> i32 {
        (units * self.scale).round() as i32
    }

    fn at(&self, place: Place) -> (i32, i32) {
        (self.dots(place.0), self.dots(place.1))
    }

    fn stroke(&self, colour: RGBAColor, width: f64) -> ShapeStyle {
        colour.stroke_width(self.dots(width).max(1) as u32)
    }

    /// A text whose baseline begins, has its middle or ends at `place`.
    pub fn text(&self, text: &str, place: Place, letters: Letters) -> Result<()> {
        // plotters: SVG's font-size is size / 1.24, its baseline 0.76 em below the top; a bitmap's
        // size is a line's height, its baseline half of that below the top.
        let (size, drop) = match self.target {
            Target::Svg => (1.24 * letters.size, 0.76 * letters.size),
            Target::Bitmap => (LINE_EM * letters.size, LINE_EM * letters.size / 2.0),
        };
        let font = (FONT, size * self.scale).into_font();
        let (font, top) = if letters.upwards {
            (font.transform(FontTransform::Rotate270), (place.0 - drop, place.1))
        } else {
            (font, (place.0, place.1 - drop))
        };
        let style = TextStyle::from(font).color(&letters.colour).pos(Pos::new(letters.align, VPos::Top));
        self.area.draw_text(text, &style, self.at(top)).map_err(failed)
    }

    /// A line through `places`; `dash` as in [`dash`], empty for a solid one.
    pub fn line(&self, places: &[Place], colour: RGBAColor, width: f64, dash: &[f64]) -> Result<()> {
        let style = self.stroke(colour, width);
        if places.iter().any(|(x, y)| !(x.is_finite() && y.is_finite())) {
            return Err(failed("a line leads through no place"));
        }
        let draw = |part: &[Place]| {
            let dots: Vec<(i32, i32)> = part.iter().map(|place| self.at(*place)).collect();
            if dots.len() > 1 {
                self.area.draw(&PathElement::new(dots, style)).map_err(failed)
            } else {
                Ok(())
            }
        };
        if dash.is_empty() {
            return draw(places);
        }
        let (mut turn, mut left) = (0, dash[0]);
        let mut part: Vec<Place> = places.first().copied().into_iter().collect();
        for pair in places.windows(2) {
            let (mut from, to) = (pair[0], pair[1]);
            loop {
                let length = (to.0 - from.0).hypot(to.1 - from.1);
                if length < left {
                    left -= length;
                    part.push(to);
                    break;
                }
                let share = left / length;
                from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
                part.push(from);
                if turn % 2 == 0 {
                    draw(&part)?;
                }
                part = vec![from];
                turn += 1;
                left = dash[turn % dash.len()];
            }
        }
        if turn % 2 == 0 { draw(&part) } else { Ok(()) }
    }

    /// A filled shape.
    pub fn area(&self, places: &[Place], colour: RGBAColor) -> Result<()> {
        let dots: Vec<(i32, i32)> = places.iter().map(|place| self.at(*place)).collect();
        if dots.len() < 3 {
            return Ok(());
        }
        self.area.draw(&Polygon::new(dots, colour.filled())).map_err(failed)
    }

    /// A filled circle.
    pub fn dot(&self, place: Place, radius: f64, colour: RGBAColor) -> Result<()> {
        self.area.draw(&Circle::new(self.at(place), self.dots(radius), colour.filled())).map_err(failed)
    }

    /// The marker of arm `index` with a white rim; its shape goes with its dash.
    pub fn marker(&self, place: Place, index: usize, radius: f64) -> Result<()> {
        let corners = |r: f64| -> Vec<Place> {
            let (x, y) = place;
            match index % DASHES.len() {
                1 => vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
                2 => vec![(x, y - 1.25 * r), (x + 1.2 * r, y + r), (x - 1.2 * r, y + r)],
                3 => vec![(x, y - 1.35 * r), (x + 1.35 * r, y), (x, y + 1.35 * r), (x - 1.35 * r, y)],
                4 => vec![(x, y + 1.25 * r), (x + 1.2 * r, y - r), (x - 1.2 * r, y - r)],
                _ => Vec::new(),
            }
        };
        if index.is_multiple_of(DASHES.len()) {
            self.dot(place, 1.1 * radius + 1.0, WHITE.to_rgba())?;
            return self.dot(place, 1.1 * radius, colour(index).to_rgba());
        }
        self.area(&corners(radius + 1.0), WHITE.to_rgba())?;
        self.area(&corners(radius), colour(index).to_rgba())
    }

    /// A cross with a white rim: a run that diverged.
    pub fn cross(&self, (x, y): Place, radius: f64, colour: RGBColor) -> Result<()> {
        for (ink, width) in [(WHITE, 3.4), (colour, 1.7)] {
            for slope in [1.0, -1.0] {
                let line = [(x - radius, y - slope * radius), (x + radius, y + slope * radius)];
                self.line(&line, ink.to_rgba(), width, &[])?;
            }
        }
        Ok(())
    }

    /// A triangle whose tip lies at `tip` and points in `direction`: values lie beyond an edge.
    pub fn beyond(&self, tip: Place, direction: (f64, f64), colour: RGBColor) -> Result<()> {
        const LONG: f64 = 6.5;
        let back = |share: f64, side: f64| {
            let (dx, dy) = direction;
            (tip.0 - share * LONG * dx - side * dy, tip.1 - share * LONG * dy + side * dx)
        };
        self.area(&[tip, back(1.0, 4.0), back(1.0, -4.0)], colour.to_rgba())
    }

    /// A ring around a dot.
    pub fn ring(&self, place: Place, radius: f64, colour: RGBColor, width: f64) -> Result<()> {
        let style = self.stroke(colour.to_rgba(), width);
        self.area.draw(&Circle::new(self.at(place), self.dots(radius), style)).map_err(failed)
    }
}
