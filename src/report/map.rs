//! A map of images: a dot for each at its place in a plane, in its class's colour, and some of the
//! images themselves.

use super::axes::LABEL;
use super::pen::{GRID, Letters, Pen, Place, colour, prepare_font, text_width, wrap};
use super::sheet::encode;
use super::surface::{self, Drawing, PNG_SCALE, SVG_SCALE};
use super::thumbnail::{DOTS, data_uri, thumbnail};
use crate::augment::Image;
use crate::error::Result;
use crate::record::{csv_bytes, write_durable};
use image::{Rgb, RgbImage};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An image of a map.
pub struct Mapped {
    /// Its number among those that it was taken from.
    pub row: usize,
    /// Its file's name, or its number.
    pub name: String,
    /// Its class.
    pub class: usize,
}

/// The places of all images in one plane.
pub struct View {
    /// The beginning of its columns' names: `pca` for `pca_x` and `pca_y`.
    pub name: &'static str,
    /// Stands above.
    pub title: String,
    /// Stand below and at the left.
    pub labels: [String; 2],
    /// Where the images lie, in their order.
    pub places: Vec<(f64, f64)>,
}

/// A map: views of the same images side by side.
pub struct Map {
    /// Its title.
    pub title: String,
    /// Sentences below, and where the data come from.
    pub caption: [String; 2],
    /// Names of the classes; one alone says nothing and is not shown.
    pub classes: Vec<String>,
    /// The images.
    pub images: Vec<Mapped>,
    /// The planes.
    pub views: Vec<View>,
    /// Pictures of those that [`Map::shown`] names.
    pub pictures: BTreeMap<usize, Image>,
}

/// A picture with its frame's colour.
struct Placed {
    /// Its left upper corner, in dots.
    at: (u32, u32),
    picture: RgbImage,
    ink: RGBColor,
}

/// Side of a view, and the space at its left, its right, above and below it, in units.
const SIDE: f64 = 460.0;
const AROUND: [f64; 4] = [30.0, 14.0, 24.0, 32.0];
/// Side of a picture, half of what it needs with its frame, and the distance at least of markers
/// with pictures, in units.
const PICTURE: u32 = DOTS / PNG_SCALE;
const ROOM: f64 = PICTURE as f64 / 2.0 + 5.0;
const APART: f64 = 34.0;
/// Pictures of a view at most, and markers that one of them may hide.
const MOST_PICTURES: usize = 60;
const MOST_HIDDEN: usize = 3;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 15.0;
const CAPTION: [f64; 2] = [10.0, 9.0];
const LEGEND_ROW: f64 = 19.0;

/// Places around a marker where its picture may stand, the nearest first.
fn beside((x, y): Place) -> impl Iterator<Item = Place> {
    let directions = (0..16).map(|i| (f64::from(i) * std::f64::consts::PI / 8.0).sin_cos());
    [1.5, 2.2, 3.0].into_iter().flat_map(move |far| {
        directions.clone().map(move |(sin, cos)| (x + far * ROOM * cos, y + far * ROOM * sin))
    })
}

impl Map {
    /// Classes at most that colours and shapes tell apart; of more none is named.
    pub const MOST_CLASSES: usize = 40;

    /// The images whose pictures are drawn, by their place in `images`.
    pub fn shown(&self) -> Vec<usize> {
        let mut shown: Vec<usize> =
            (0..self.views.len()).flat_map(|view| self.pictured(view)).map(|(index, _)| index).collect();
        shown.sort_unstable();
        shown.dedup();
        shown
    }

    /// Writes `stem.csv`, `stem.svg` and `stem.png`.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] when a file cannot be written.
    pub fn save(&self, stem: &Path) -> Result<Vec<PathBuf>> {
        let paths = ["svg", "png", "csv"].map(|kind| stem.with_extension(kind));
        write_durable(&paths[0], self.svg()?.as_bytes())?;
        write_durable(&paths[1], &self.png()?)?;
        write_durable(&paths[2], &self.csv()?)?;
        Ok(paths.to_vec())
    }

    /// The map as PNG bytes.
    ///
    /// # Errors
    /// [`crate::Error::Failure`] where it cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut dots = surface::png(self)?;
        for Placed { at, picture, ink } in self.placed(PNG_SCALE)? {
            let (width, height) = picture.dimensions();
            let frame = |rim: u32, ink: RGBColor, dots: &mut RgbImage| {
                for y in at.1.saturating_sub(rim)..(at.1 + height + rim).min(dots.height()) {
                    for x in at.0.saturating_sub(rim)..(at.0 + width + rim).min(dots.width()) {
                        dots.put_pixel(x, y, Rgb([ink.0, ink.1, ink.2]));
                    }
                }
            };
            frame(3 * PNG_SCALE, WHITE, &mut dots);
            frame(2 * PNG_SCALE, ink, &mut dots);
            image::imageops::replace(&mut dots, &picture, i64::from(at.0), i64::from(at.1));
        }
        encode(&dots)
    }

    fn svg(&self) -> Result<String> {
        let mut pictures = String::new();
        for Placed { at, picture, ink } in self.placed(SVG_SCALE)? {
            // Of the picture that a PNG has: an SVG needs no more of it.
            let (width, height) = picture.dimensions();
            let [width, height] = [width, height].map(|dots| dots * SVG_SCALE / PNG_SCALE);
            let rim = |units: u32, ink: &str| {
                let rim = units * SVG_SCALE;
                format!(
                    "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{ink}\"/>\n",
                    i64::from(at.0) - i64::from(rim),
                    i64::from(at.1) - i64::from(rim),
                    width + 2 * rim,
                    height + 2 * rim
                )
            };
            pictures.push_str(&rim(3, "#ffffff"));
            pictures.push_str(&rim(2, &format!("#{:02x}{:02x}{:02x}", ink.0, ink.1, ink.2)));
            let uri = data_uri(&encode(&picture)?);
            pictures.push_str(&format!(
                "<image x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" href=\"{uri}\"/>\n",
                at.0, at.1
            ));
        }
        Ok(surface::svg(self)?.replace("</svg>", &format!("{pictures}</svg>")))
    }

    /// The pictures at `scale` dots for each unit.
    fn placed(&self, scale: u32) -> Result<Vec<Placed>> {
        prepare_font()?;
        let mut placed = Vec::new();
        let top = self.top();
        for view in 0..self.views.len() {
            for (index, (x, y)) in self.pictured(view) {
                let Some(image) = self.pictures.get(&index) else { continue };
                let picture = thumbnail(image, DOTS);
                let (left, top) = self.corner(view, top);
                let half = |dots: u32| f64::from(dots) / f64::from(2 * PNG_SCALE);
                let at = |units: f64| (units * f64::from(scale)).round().max(0.0) as u32;
                let corner = (at(left + x - half(picture.width())), at(top + y - half(picture.height())));
                placed.push(Placed { at: corner, picture, ink: colour(self.images[index].class) });
            }
        }
        Ok(placed)
    }

    /// Rows: row, path or number, label, and x and y of each view.
    fn csv(&self) -> Result<Vec<u8>> {
        let mut header: Vec<String> = ["row", "image", "label"].map(String::from).to_vec();
        header.extend(self.views.iter().flat_map(|v| [format!("{}_x", v.name), format!("{}_y", v.name)]));
        let row = |(index, image): (usize, &Mapped)| {
            // Images without labels are of one class, which has no name.
            let label = self.classes.get(image.class).cloned().unwrap_or_default();
            let mut row = vec![image.row.to_string(), image.name.clone(), label];
            for view in &self.views {
                let (x, y) = view.places[index];
                row.extend([x, y].map(|v| format!("{v:.6}")));
            }
            row
        };
        csv_bytes(std::iter::once(header).chain(self.images.iter().enumerate().map(row)))
    }

    /// Where the images lie in a view: from its left upper corner, in units.
    fn places(&self, view: usize) -> Vec<Place> {
        let places = &self.views[view].places;
        let ends = |of: fn(&(f64, f64)) -> f64| {
            let values = places.iter().map(of);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((x0, x1), (y0, y1)) = (ends(|p| p.0), ends(|p| p.1));
        // One scale for both axes: distances in all directions are to be compared.
        let room = SIDE - 60.0;
        let unit = room / (x1 - x0).max(y1 - y0).max(f64::MIN_POSITIVE);
        let at = |v: f64, low: f64, high: f64| SIDE / 2.0 + unit * (v - (low / 2.0 + high / 2.0));
        places.iter().map(|(x, y)| (at(*x, x0, x1), SIDE - at(*y, y0, y1))).collect()
    }

    /// Images that are drawn as pictures in a view, with the places of these: classes by turns,
    /// each beside its marker where it hides the fewest others.
    fn pictured(&self, view: usize) -> Vec<(usize, Place)> {
        let mut seen = vec![0usize; self.classes.len().max(1)];
        let mut order: Vec<(usize, usize, usize)> = Vec::with_capacity(self.images.len());
        for (index, image) in self.images.iter().enumerate() {
            order.push((seen[image.class], image.class, index));
            seen[image.class] += 1;
        }
        order.sort_unstable();
        let places = self.places(view);
        let far = |a: Place, b: Place| (a.0 - b.0).abs().max((a.1 - b.1).abs());
        let mut chosen: Vec<(usize, Place)> = Vec::new();
        for (.., index) in order {
            let own = places[index];
            let near = chosen.iter().any(|(other, _)| far(places[*other], own) < APART);
            if near || chosen.len() >= MOST_PICTURES {
                continue;
            }
            // A picture may touch no other, and no marker that another belongs to.
            let free = |at: &Place| {
                let inside = [at.0, at.1].iter().all(|v| (ROOM..=SIDE - ROOM).contains(v));
                let clear = |(other, picture): &(usize, Place)| {
                    far(*picture, *at) >= 2.0 * ROOM
                        && far(places[*other], *at) >= ROOM
                        && far(*picture, own) >= ROOM
                };
                inside && chosen.iter().all(clear)
            };
            let hidden = |at: &Place| places.iter().filter(|place| far(**place, *at) < ROOM).count();
            let best = beside(own).filter(free).map(|at| (hidden(&at), at)).min_by_key(|(hidden, _)| *hidden);
            chosen.extend(best.filter(|(hidden, _)| *hidden <= MOST_HIDDEN).map(|(_, at)| (index, at)));
        }
        chosen
    }

    fn lines(&self, text: &str, size: f64) -> Vec<String> {
        wrap(text, size, self.width() - 2.0 * MARGIN)
    }

    fn width(&self) -> f64 {
        self.views.len() as f64 * (AROUND[0] + SIDE + AROUND[1])
    }

    fn legend_top(&self) -> f64 {
        MARGIN + self.lines(&self.title, TITLE).len() as f64 * 1.35 * TITLE + 4.0
    }

    /// The upper edge of the views.
    fn top(&self) -> f64 {
        self.legend_top() + self.legend().len() as f64 * LEGEND_ROW + AROUND[2]
    }

    /// The left upper corner of a view, whose upper edge is `top`.
    fn corner(&self, view: usize, top: f64) -> Place {
        (view as f64 * (AROUND[0] + SIDE + AROUND[1]) + AROUND[0], top)
    }

    /// Rows of classes with their left edges.
    fn legend(&self) -> Vec<Vec<(usize, f64)>> {
        let mut rows: Vec<(f64, Vec<(usize, f64)>)> = Vec::new();
        if !(2..=Map::MOST_CLASSES).contains(&self.classes.len()) {
            return Vec::new();
        }
        for (class, name) in self.classes.iter().enumerate() {
            let wide = 15.0 + text_width(name, LABEL) + 18.0;
            match rows.last_mut() {
                Some((used, row)) if *used + wide <= self.width() - 2.0 * MARGIN => {
                    row.push((class, *used));
                    *used += wide;
                }
                _ => rows.push((wide, vec![(class, 0.0)])),
            }
        }
        let centred = |(used, row): (f64, Vec<(usize, f64)>)| {
            row.into_iter().map(|(class, left)| (class, left + (self.width() - used + 18.0) / 2.0)).collect()
        };
        rows.into_iter().map(centred).collect()
    }
}

impl Drawing for Map {
    fn size(&self) -> (f64, f64) {
        let captions = self.caption.iter().zip(CAPTION);
        let below: f64 = captions.map(|(text, size)| 1.4 * size * self.lines(text, size).len() as f64).sum();
        (self.width(), self.top() + SIDE + AROUND[3] + below + MARGIN)
    }

    fn draw<B: DrawingBackend>(&self, pen: &Pen<B>) -> Result<()> {
        let middle = self.width() / 2.0;
        for (row, line) in self.lines(&self.title, TITLE).iter().enumerate() {
            let baseline = MARGIN + TITLE + row as f64 * 1.35 * TITLE;
            pen.text(line, (middle, baseline), Letters::new(TITLE, HPos::Center))?;
        }
        for (row, entries) in self.legend().iter().enumerate() {
            let y = self.legend_top() + (row as f64 + 0.5) * LEGEND_ROW;
            for &(class, left) in entries {
                pen.marker((left + 5.0, y), class, 3.4)?;
                let place = (left + 15.0, y + 0.36 * LABEL);
                pen.text(&self.classes[class], place, Letters::new(LABEL, HPos::Left))?;
            }
        }
        let top = self.top();
        for view in 0..self.views.len() {
            self.draw_view(pen, view, self.corner(view, top))?;
        }
        let mut baseline = top + SIDE + AROUND[3];
        for (text, size) in self.caption.iter().zip(CAPTION) {
            for line in self.lines(text, size) {
                baseline += 1.4 * size;
                pen.text(&line, (middle, baseline), Letters::grey(size, HPos::Center))?;
            }
        }
        Ok(())
    }
}

impl Map {
    fn draw_view<B: DrawingBackend>(&self, pen: &Pen<B>, view: usize, (left, top): Place) -> Result<()> {
        let View { title, labels: [below, beside], .. } = &self.views[view];
        let (right, bottom, middle) = (left + SIDE, top + SIDE, left + SIDE / 2.0);
        let frame = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        pen.line(&frame, GRID.to_rgba(), 1.2, &[])?;
        pen.text(title, (middle, top - 8.0), Letters::new(LABEL, HPos::Center))?;
        pen.text(below, (middle, bottom + 16.0), Letters::grey(LABEL - 1.5, HPos::Center))?;
        let upwards = Letters { upwards: true, ..Letters::grey(LABEL - 1.5, HPos::Center) };
        pen.text(beside, (left - 8.0, top + SIDE / 2.0), upwards)?;
        let radius = if self.images.len() > 300 { 2.2 } else { 3.2 };
        let places = self.places(view);
        for ((x, y), image) in places.iter().zip(&self.images) {
            pen.marker((left + x, top + y), image.class, radius)?;
        }
        for (index, (x, y)) in self.pictured(view) {
            let (own, class) = ((left + places[index].0, top + places[index].1), self.images[index].class);
            pen.line(&[own, (left + x, top + y)], colour(class).to_rgba(), 1.2, &[])?;
            pen.marker(own, class, radius + 0.8)?;
        }
        Ok(())
    }
}
