//! TOML texts as trees in which every key remembers which text set it, and where.
//!
//! Layers merge key by key, later ones winning. Where a table is a choice (externally tagged: the
//! key names the variant), another variant replaces the earlier one instead of joining it.

use super::source::{Origin, Source};
use crate::error::Result;
use crate::files;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Tables whose single key names a variant.
pub const CHOICES: [&str; 4] = ["eta", "predictor", "encoder.backbone", "schedule.passes"];

/// A value with its origin.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it was set.
    pub origin: Origin,
    /// The value.
    pub node: Node,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Node {
    /// A table.
    Table(BTreeMap<String, Entry>),
    /// An array.
    List(Vec<Entry>),
    /// Anything else.
    Scalar(toml::Value),
}

impl Entry {
    /// Reads a text; its top level is a table.
    ///
    /// # Errors
    /// [`crate::Error::Config`], or [`crate::Error::Usage`] of a flag, for what is no TOML.
    pub fn parse(source: &Arc<Source>) -> Result<Entry> {
        if let Some(place) = files::nested_too_deep(&source.text) {
            let message = "tables, arrays or dotted keys nested too deeply".to_string();
            return Err(source.mistake(place, message, "here".into(), None));
        }
        let table = DeTable::parse(&source.text).map_err(|e| source.no_toml(&e))?;
        let span = 0..0;
        let node = table_node(source, table.get_ref());
        Ok(Entry { origin: Origin { source: source.clone(), key: span.clone(), value: span }, node })
    }

    /// This value as the `toml` crate has it, without its origins.
    pub fn value(&self) -> toml::Value {
        match &self.node {
            Node::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, entry)| (key.clone(), entry.value())).collect())
            }
            Node::List(list) => toml::Value::Array(list.iter().map(Entry::value).collect()),
            Node::Scalar(value) => value.clone(),
        }
    }

    /// The table's entry called `key`.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.node {
            Node::Table(table) => table.get(key),
            _ => None,
        }
    }

    /// The table's entries.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        match &self.node {
            Node::Table(table) => Some(table.iter()),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// Puts `entry` into the table.
    pub fn put(&mut self, key: &str, entry: Entry) {
        if let Node::Table(table) = &mut self.node {
            table.insert(key.to_string(), entry);
        }
    }

    /// Takes `key` out of the table.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        match &mut self.node {
            Node::Table(table) => table.remove(key),
            _ => None,
        }
    }

    /// A table of those `keys` that are here, taken out.
    pub fn split(&mut self, keys: &[&str]) -> Entry {
        let taken = keys.iter().filter_map(|key| Some(((*key).to_string(), self.take(key)?))).collect();
        Entry { origin: self.origin.clone(), node: Node::Table(taken) }
    }

    /// Lays `over` on top: its keys win.
    pub fn merge(&mut self, over: Entry) {
        self.merge_at(over, "");
    }

    fn merge_at(&mut self, mut over: Entry, path: &str) {
        let choice = CHOICES.contains(&path);
        if let (true, Node::Scalar(toml::Value::String(variant))) = (choice, &over.node) {
            // `eta = "one-step"` is short for `eta.one-step = {}`.
            let empty = Entry { origin: over.origin.clone(), node: Node::Table(BTreeMap::new()) };
            over.node = Node::Table(BTreeMap::from([(variant.clone(), empty)]));
        }
        let (Node::Table(mine), Node::Table(theirs)) = (&mut self.node, &mut over.node) else {
            *self = over;
            return;
        };
        if choice && !theirs.keys().all(|key| mine.contains_key(key)) {
            *self = over;
            return;
        }
        for (key, entry) in std::mem::take(theirs) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match mine.get_mut(&key) {
                Some(here) => here.merge_at(entry, &path),
                None => {
                    let mut fresh =
                        Entry { origin: entry.origin.clone(), node: Node::Table(BTreeMap::new()) };
                    fresh.merge_at(entry, &path);
                    mine.insert(key, fresh);
                }
            }
        }
    }

    /// Every scalar or array with its dotted key, in alphabetical order.
    pub fn leaves(&self) -> Vec<(String, &Entry)> {
        let mut leaves = Vec::new();
        self.collect_leaves("", &mut leaves);
        leaves
    }

    fn collect_leaves<'a>(&'a self, path: &str, leaves: &mut Vec<(String, &'a Entry)>) {
        match &self.node {
            Node::Table(table) if !table.is_empty() || path.is_empty() => {
                for (key, entry) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    entry.collect_leaves(&path, leaves);
                }
            }
            _ => leaves.push((path.to_string(), self)),
        }
    }
}

fn table_node(source: &Arc<Source>, table: &DeTable) -> Node {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue>)| {
        let key: &toml::Spanned<std::borrow::Cow<str>> = key;
        (key.get_ref().to_string(), spanned(source, key.span(), value))
    };
    Node::Table(table.iter().map(entry).collect())
}

fn spanned(source: &Arc<Source>, key: Range<usize>, value: &toml::Spanned<DeValue>) -> Entry {
    let node = match value.get_ref() {
        DeValue::Table(table) => table_node(source, table),
        DeValue::Array(list) => {
            Node::List(list.iter().map(|item| spanned(source, item.span(), item)).collect())
        }
        scalar => Node::Scalar(scalar_value(scalar)),
    };
    Entry { origin: Origin { source: source.clone(), key, value: value.span() }, node }
}

fn scalar_value(value: &DeValue) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => toml::Value::Integer(integer),
            // Beyond 64 bits: no key takes such a number, so the text goes on and is refused by
            // type.
            Err(_) => toml::Value::String(integer.to_string()),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(float) => toml::Value::Float(float),
            Err(_) => toml::Value::String(float.to_string()),
        },
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        other => toml::Value::String(format!("{other:?}")),
    }
}
