//! What those who draw a panel have in common: its numbers, the values that it shows, and the space
//! for its labels.

use super::figure::{Figure, Panel, Style};
use super::pen::Place;
use super::seeds::{Data, Spread};

/// Space at the left of axes, for the y axis.
pub const LEFT: f64 = 66.0;
/// Space at the right of axes.
pub const RIGHT: f64 = 16.0;
/// Space below axes, for the x axis.
pub const BOTTOM: f64 = 46.0;
/// More arms than this hide one another on one pair of axes: each has its own.
const MOST_TOGETHER: usize = 6;

/// Where the axis of an R² ends below, at the latest.
pub const LOWEST_R2: f64 = -1.0;

/// A value that is shown, and what it says to a reader who points at it.
pub struct Spot {
    /// Where it lies.
    pub place: Place,
    /// "k=10, epoch 12: 85.3 (81.2 to 89.4)".
    pub text: String,
}

/// A panel with its numbers.
#[derive(Clone, Copy)]
pub struct Plot<'a> {
    /// Its figure.
    pub figure: &'a Figure,
    /// The panel.
    pub panel: &'a Panel,
    /// Its numbers.
    pub data: &'a Data,
    /// For each arm the places (x, spread of the seeds' values there).
    pub spreads: &'a [Vec<(f64, Spread)>],
}

/// Whether the arms of the panel stand on axes of their own.
pub fn is_faceted(figure: &Figure, panel: &Panel) -> bool {
    figure.arms.len() > MOST_TOGETHER && !matches!(panel.style, Style::Columns | Style::Heat { .. })
}
