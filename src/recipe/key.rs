//! What is told of one key: its name, which values it takes, what leaving it out means, where it
//! comes from and what it does. [`keys`](super::keys) has a row of this kind for each key of a
//! recipe, `study::keys` for each key of a study file.

use std::f64::consts::PI;
use std::fmt;

/// A key as it stands in TOML.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Which values.
    pub range: Range,
    /// What a table that leaves it out has, as TOML, or [`CHOICE`]; none for a key that its table
    /// must have.
    pub left_out: Option<&'static str>,
    /// Where it comes from: a section of the SimSiam paper, another paper, or the program.
    pub source: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// A key may be left out, and its meaning says what then.
pub const CHOICE: Option<&str> = Some("");

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Whole,
    /// A whole number or this word.
    WholeOr(&'static str),
    /// A number.
    Number,
    /// A list of so many numbers; 0: of any length.
    Numbers(usize),
    /// A list of whole numbers.
    Wholes,
    /// A list of lists of four numbers.
    Fours,
    /// `true` or `false`.
    Switch,
    /// Text in quotes.
    Text,
    /// A list of texts.
    Texts,
    /// `{}`: it is there or not.
    Empty,
    /// A table whose names are free.
    Table,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Kind::Whole => f.write_str("whole number"),
            Kind::WholeOr(word) => write!(f, "whole number or \"{word}\""),
            Kind::Number => f.write_str("number"),
            Kind::Numbers(0) => f.write_str("list of numbers"),
            Kind::Numbers(n) => write!(f, "list of {n} numbers"),
            Kind::Wholes => f.write_str("list of whole numbers"),
            Kind::Fours => f.write_str("list of lists of 4 numbers"),
            Kind::Switch => f.write_str("true or false"),
            Kind::Text => f.write_str("text"),
            Kind::Texts => f.write_str("list of texts"),
            Kind::Empty => f.write_str("{}"),
            Kind::Table => f.write_str("table"),
        }
    }
}

/// Which values a key takes. Of a list it is said of every entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Every value of its kind; nothing is said of it.
    Any,
    /// From the first to the second, both included.
    Within(f64, f64),
    /// From the first, included, to the second, which is not.
    Below(f64, f64),
    /// From the first, which is not included, to the second, which is.
    AboveTo(f64, f64),
    /// This or more.
    AtLeast(f64),
    /// More than this.
    Above(f64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// What is said here.
    Said(&'static str),
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Range::Any => Ok(()),
            Range::Within(low, PI) => write!(f, "{low} to π"),
            Range::Within(low, high) => write!(f, "{low} to {high}"),
            Range::Below(low, high) => write!(f, "at least {low}, below {high}"),
            Range::AboveTo(low, high) => write!(f, "above {low}, at most {high}"),
            Range::AtLeast(low) => write!(f, "at least {low}"),
            Range::Above(low) => write!(f, "above {low}"),
            Range::Words(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&quoted.join(", "))
            }
            Range::Said(what) => f.write_str(what),
        }
    }
}

/// Rows: name, kind, range, what leaving it out means, source: meaning.
macro_rules! rows {
    ($($name:literal, $kind:expr, $range:expr, $left_out:expr, $source:literal: $meaning:literal;)*) => {
        &[$(Key {
            name: $name, kind: $kind, range: $range, left_out: $left_out, source: $source, meaning: $meaning,
        }),*]
    };
}
pub(crate) use rows;
