//! Figures for a paper, from files alone.
//!
//! A [`Figure`] is saved as a CSV with its data and, in comment lines, everything else that the drawing
//! needs; SVG and PNG are drawn from that CSV, so it alone redraws them.

mod axes;
mod draw;
mod figure;
mod panel;
mod pen;
mod sheet;

pub use figure::{Figure, Panel, Point, Reference, Style};
pub use sheet::{Row, contact_sheet};
