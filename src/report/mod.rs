//! Figures for a paper and reports, from files alone.
//!
//! A [`Figure`] is saved as a CSV with its data and, in a comment line, everything else that the
//! drawing needs; SVG and PNG are drawn from that CSV, so it alone redraws them. A report
//! ([`page`], [`text`]) needs a study's `answer.json` and these CSV files.

mod axes;
mod caption;
mod chapter;
mod curves;
mod draw;
mod extra;
mod facets;
mod figure;
mod film;
mod head;
mod heat;
mod html;
mod map;
mod objects;
mod panel;
mod path;
mod pen;
mod plot;
mod projector;
mod seeds;
mod sheet;
mod strip;
mod surface;
mod tables;
mod tally;
mod thumbnail;

pub use chapter::{Chapter, Picture, count, find};
pub use extra::Extra;
pub use figure::{Figure, Panel, Point, Reference, Style};
pub use film::{Film, FilmArm, Frame};
pub use html::page;
pub use map::{Map, Mapped, View};
pub use objects::{Marked, object_tiles};
pub use projector::Projector;
pub use sheet::{Row, Tile, contact_sheet, tile_of};
pub use tables::{Format, text};
pub use tally::tally;
pub use thumbnail::thumbnail_of;
