//! What wrappers and training codes put before the names of a backbone's weights, taken off.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What may stand before a name, in any combination: data parallelism, compilation, and the names
/// under which training codes keep their encoder.
const PREFIXES: [&str; 6] = ["module.", "_orig_mod.", "encoder.", "encoder_q.", "backbone.", "model."];
/// The first layer of a residual network, and of an MLP.
const FIRST_LAYERS: [&str; 2] = ["conv1.weight", "layers.0.weight"];
/// Parts beside the encoder.
const HEADS: [&str; 3] = ["predictor.", "inverse.", "prototypes."];
/// Names that a message shows.
const SHOWN: usize = 6;

/// For each tensor of a model's part its name here (`encoder.conv1.weight`, `predictor.0.weight`)
/// and the name in the file, which has `names`. Tensors of nothing that is known, such as a queue,
/// are left out.
///
/// # Errors
/// [`Error::Failure`] when there is no backbone among them, or more than one.
pub fn part_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<BTreeMap<String, &'a str>> {
    let split = names.clone().map(|name| (name, split(name)));
    let roots: BTreeSet<&str> = split
        .clone()
        .filter(|(_, (_, rest))| FIRST_LAYERS.contains(rest))
        .map(|(_, (prefix, _))| prefix)
        .collect();
    let mut roots_in_order = roots.iter();
    let root = match (roots_in_order.next(), roots_in_order.next()) {
        (Some(root), None) => *root,
        (Some(one), Some(two)) => {
            return Err(Error::Failure(format!(
                "has several backbones, one behind '{one}' and one behind '{two}'; keep one of them"
            )));
        }
        (None, _) => return Err(no_backbone(names)),
    };
    let mut parts = BTreeMap::new();
    for (name, (prefix, rest)) in split {
        let here = match () {
            () if HEADS.iter().any(|head| rest.starts_with(head)) => rest.to_string(),
            () if prefix == root => format!("encoder.{rest}"),
            () => continue,
        };
        if let Some(other) = parts.insert(here, name) {
            return Err(Error::Failure(format!("has '{other}' and '{name}', which are one tensor's names")));
        }
    }
    Ok(parts)
}

/// A name's known prefixes, and the rest of it.
fn split(name: &str) -> (&str, &str) {
    let mut rest = name;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    name.split_at(name.len() - rest.len())
}

fn no_backbone<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Error {
    let count = names.clone().count();
    let mut shown: Vec<String> = names.take(SHOWN).map(|name| format!("'{name}'")).collect();
    if count > SHOWN {
        shown.push(format!("… ({count} names)"));
    }
    let shown = if shown.is_empty() { "no tensors at all".into() } else { shown.join(", ") };
    let (first, known) = (FIRST_LAYERS.join(" or "), PREFIXES.join(", "));
    Error::Failure(format!(
        "has no backbone: there is no {first}, with or without {known} before it; it has {shown}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_prefixes_are_taken_off_in_any_combination() {
        for prefix in [
            "",
            "encoder.",
            "module.encoder.",
            "module.encoder_q.",
            "_orig_mod.module.model.backbone.",
            "model.",
        ] {
            let names =
                ["conv1.weight", "layer1.0.bn1.bias", "fc.0.weight"].map(|name| format!("{prefix}{name}"));
            let all = names.iter().map(String::as_str).chain([
                "module.predictor.0.weight",
                "queue",
                "teacher.conv1.weight",
            ]);
            let parts = part_names(all).unwrap();
            for name in ["conv1.weight", "layer1.0.bn1.bias", "fc.0.weight"] {
                assert_eq!(parts[&format!("encoder.{name}")], format!("{prefix}{name}"));
            }
            assert_eq!(parts["predictor.0.weight"], "module.predictor.0.weight");
            let bare = usize::from(prefix.is_empty());
            // Behind no prefix, what is not known may be the backbone's own.
            assert_eq!(parts.len(), 4 + 2 * bare, "{prefix}: {parts:?}");
        }
    }

    #[test]
    fn no_backbone_and_two_of_them_are_sentences() {
        let said = |names: &[&str]| part_names(names.iter().copied()).unwrap_err().to_string();
        let none = said(&["student.conv1.weight", "b", "c", "d", "e", "f", "g"]);
        for word in ["'student.conv1.weight'", "encoder_q.", "_orig_mod.", "7 names", "layers.0.weight"] {
            assert!(none.contains(word), "{none}");
        }
        assert!(said(&[]).contains("no tensors at all"));
        let two = said(&["encoder.conv1.weight", "module.encoder.conv1.weight"]);
        assert!(two.contains("'encoder.'") && two.contains("'module.encoder.'"), "{two}");
        let twice = said(&["conv1.weight", "predictor.0.weight", "module.predictor.0.weight"]);
        assert!(twice.contains("module.predictor.0.weight"), "{twice}");
    }
}
