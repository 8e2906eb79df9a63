//! Reading layers as values of a type; what does not fit is shown where it was set.

use super::layer::{Entry, Node};
use super::nearest::nearest;
use super::source::Origin;
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// A mistake in the value at `path`, or where that is missing in what should hold it.
pub fn at_path(tree: &Entry, path: &[&str], message: String) -> Error {
    let path: Vec<String> = path.iter().filter(|key| !key.is_empty()).map(|key| key.to_string()).collect();
    let (entry, found) = descend(tree, &path);
    if found == path.len() {
        entry.origin.at_value(message, None)
    } else {
        entry.origin.at_key(message, None)
    }
}

/// Reads `tree` as a `T`; `also` are further names that may stand at its top level.
pub fn deserialize<T: DeserializeOwned>(tree: &Entry, also: &[&str]) -> Result<T> {
    serde_path_to_error::deserialize(tree.value()).map_err(|error| {
        let path: Vec<String> = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Map { key } => Some(key.clone()),
                Segment::Enum { variant } => Some(variant.clone()),
                Segment::Seq { index } => Some(index.to_string()),
                Segment::Unknown => None,
            })
            .collect();
        explain(tree, &path, error.inner().message(), also)
    })
}

/// A value out of range, reported as "dotted.key: what".
pub fn out_of_range(tree: &Entry, message: &str) -> Error {
    let Some((key, what)) = message.split_once(": ") else {
        return Error::Usage(message.to_string());
    };
    let path: Vec<String> = key.split('.').map(str::to_string).collect();
    let (entry, found) = descend(tree, &path);
    if found < path.len() {
        return Error::Usage(message.to_string());
    }
    match entry.origin.source.flag {
        true => Error::Usage(format!("{}: {what} ({key})", entry.origin.source.name)),
        false => {
            let Origin { source, value, .. } = &entry.origin;
            source.mistake(value.clone(), message.into(), "this value".into(), None)
        }
    }
}

/// The deepest entry on `path` that exists, and how many steps of the path lead to it.
fn descend<'a>(tree: &'a Entry, path: &[String]) -> (&'a Entry, usize) {
    let mut entry = tree;
    for (depth, key) in path.iter().enumerate() {
        let next = match &entry.node {
            Node::Table(table) => table.get(key),
            Node::List(list) => key.parse::<usize>().ok().and_then(|index| list.get(index)),
            Node::Scalar(_) => None,
        };
        match next {
            Some(next) => entry = next,
            None => return (entry, depth),
        }
    }
    (entry, path.len())
}

/// Turns serde's words into ours and finds the place.
fn explain(tree: &Entry, path: &[String], message: &str, also: &[&str]) -> Error {
    let message = message.trim();
    let mut names = message.split('`').skip(1).step_by(2);
    let (entry, depth) = descend(tree, path);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let wrong = names.next().unwrap_or_default();
        let mut known: Vec<&str> = names.collect();
        let is_key = message.starts_with("unknown field");
        if path.len() <= 1 && is_key {
            known.extend(also);
        }
        // A variant may be a table's key, which the path does not contain.
        let (entry, key) = match entry.get(wrong) {
            Some(inner) => (inner, true),
            None => (entry, is_key),
        };
        let mut whole: Vec<&str> = path.iter().map(String::as_str).collect();
        if whole.last() != Some(&wrong) {
            whole.push(wrong);
        }
        let what = if is_key { "unknown key" } else { "unknown choice" };
        let help = match nearest(wrong, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let message = format!("{what} `{}`", if key { whole.join(".") } else { wrong.to_string() });
        return if key {
            entry.origin.at_key(message, Some(help))
        } else {
            entry.origin.at_value(message, Some(help))
        };
    }
    if message.starts_with("missing field") {
        let field = names.next().unwrap_or_default();
        let mut whole: Vec<&str> = path[..depth].iter().map(String::as_str).collect();
        whole.push(field);
        return entry.origin.at_key(format!("`{}` is missing", whole.join(".")), None);
    }
    let key = path[..depth].join(".");
    let message = in_words(message);
    let message = if key.is_empty() { message.to_string() } else { format!("`{key}`: {message}") };
    entry.origin.at_value(message, None)
}

/// serde's names of types in words.
fn in_words(message: &str) -> String {
    let (what, expected) = message.rsplit_once("expected ").unwrap_or((message, ""));
    let expected = match expected {
        "f32" | "f64" => "a number",
        "u32" | "u64" | "usize" => "a whole number, not negative",
        other => other,
    };
    if expected.is_empty() { what.to_string() } else { format!("{what}expected {expected}") }
}
