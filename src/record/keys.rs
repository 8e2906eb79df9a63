//! Recipes as dotted keys, and the keys in which they differ.

use std::collections::{BTreeMap, BTreeSet};

/// A recipe's keys, dotted, each with its value as TOML.
pub type Keys = BTreeMap<String, String>;

/// The keys of `table` and of the tables inside it.
pub fn flatten(table: toml::Table) -> Keys {
    let mut flat = Keys::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                flat.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            other => {
                flat.insert(key, other.to_string());
            }
        }
    }
    flat
}

/// The keys in which `recipes` differ, in their order, with the value of each recipe; none where it
/// lacks the key.
pub fn differing(recipes: &[&Keys]) -> Vec<(String, Vec<Option<String>>)> {
    let keys: BTreeSet<&String> = recipes.iter().flat_map(|recipe| recipe.keys()).collect();
    let row = |key: &String| recipes.iter().map(|recipe| recipe.get(key).cloned()).collect::<Vec<_>>();
    let rows = keys.into_iter().map(|key| (key.clone(), row(key)));
    rows.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

/// The value of a key as a person is told of it.
pub fn or_absent(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("absent")
}
