//! A panel of paths: where each run goes in a plane, from its first point to its last.

use super::axes::Axes;
use super::panel::Spot;
use super::pen::{INK, Pen, Place, colour};
use crate::error::Result;
use plotters::prelude::*;
use std::collections::BTreeMap;

/// The runs of one arm: seed → points in order.
pub type Runs = BTreeMap<u64, Vec<(f64, f64)>>;

/// Draws `arms` with their titles: a line for each run, a ring where it starts, the arm's marker where it ends.
pub fn draw<B: DrawingBackend>(
    titles: &[(String, String)],
    arms: &[Runs],
    pen: &Pen<B>,
    axes: &Axes,
) -> Result<Vec<Spot>> {
    let mut spots = Vec::new();
    for (index, runs) in arms.iter().enumerate() {
        for line in runs.values() {
            let places: Vec<Place> = line.iter().map(|(x, y)| axes.place(*x, *y)).collect();
            // Piece by piece: the corner of a sharp turn would be drawn as a spike.
            for piece in places.windows(2) {
                pen.line(piece, colour(index).to_rgba(), 1.2, &[])?;
            }
        }
    }
    for (index, runs) in arms.iter().enumerate() {
        for (seed, line) in runs {
            let (Some(first), Some(last)) = (line.first(), line.last()) else { continue };
            pen.dot(axes.place(first.0, first.1), 3.4, INK.to_rgba())?;
            let place = axes.place(last.0, last.1);
            pen.marker(place, index, 4.2)?;
            let text = format!("{}, seed {seed}, the end: {:.3}, {:.3}", titles[index].1, last.0, last.1);
            spots.push(Spot { place, text });
        }
    }
    Ok(spots)
}

/// What a reader is told of an arm's runs: where they start and end.
pub fn in_words(runs: &Runs) -> String {
    let ends = |line: &Vec<(f64, f64)>| {
        let (first, last) = (line.first()?, line.last()?);
        Some(format!("({:.3}, {:.3}) to ({:.3}, {:.3})", first.0, first.1, last.0, last.1))
    };
    runs.values().filter_map(ends).collect::<Vec<_>>().join("; ")
}
