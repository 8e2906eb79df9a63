//! The names that training codes give to the weights of a residual network and of its heads, and
//! ours for them.
//!
//! Torchvision, timm, the official codes of SimSiam and MoCo, and solo-learn name a backbone's
//! layers alike and put different words before them. Lightly numbers them, as a sequence of
//! torchvision's modules does.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What may stand before a name, in any combination: data parallelism, compilation, and the names
/// under which training codes keep their encoder.
const PREFIXES: [&str; 6] = ["module.", "_orig_mod.", "encoder.", "encoder_q.", "backbone.", "model."];
/// The first layer of a residual network, and of an MLP.
const FIRST_LAYERS: [&str; 2] = ["conv1.weight", "layers.0.weight"];
/// The first layer of a sequence of torchvision's modules, and one that tells it from any other
/// sequence: `torch.nn.Sequential(*list(resnet.children())[:-1])`.
const SEQUENCE: [&str; 2] = ["0.weight", "4.0.conv1.weight"];
/// The modules of such a sequence that have weights.
const IN_SEQUENCE: [(&str, &str); 6] = [
    ("0.", "conv1."),
    ("1.", "bn1."),
    ("4.", "layer1."),
    ("5.", "layer2."),
    ("6.", "layer3."),
    ("7.", "layer4."),
];
/// Parts beside the backbone: what solo-learn, lightly and the official codes call them, and we.
const HEADS: [(&str, &str); 8] = [
    ("predictor.", "predictor."),
    ("prediction_head.layers.", "predictor."),
    ("prediction_head.", "predictor."),
    ("inverse.", "inverse."),
    ("prototypes.", "prototypes."),
    ("projector.", "encoder.fc."),
    ("projection_head.layers.", "encoder.fc."),
    ("projection_head.", "encoder.fc."),
];
/// Names that a message shows.
const SHOWN: usize = 6;

/// For each tensor of a model's part its name here (`encoder.conv1.weight`, `predictor.0.weight`)
/// and the name in the file, which has `names`. Tensors of nothing that is known, such as a queue,
/// are left out.
///
/// # Errors
/// [`Error::Failure`] when there is no backbone among them, or more than one.
pub fn part_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<BTreeMap<String, &'a str>> {
    let all: BTreeSet<&str> = names.clone().collect();
    let split = names.clone().map(|name| (name, split(name)));
    let is_sequence = |prefix: &str| SEQUENCE.iter().all(|of| all.contains(format!("{prefix}{of}").as_str()));
    let is_first = |(prefix, rest): (&str, &str)| {
        FIRST_LAYERS.contains(&rest) || rest == SEQUENCE[0] && is_sequence(prefix)
    };
    let roots: BTreeSet<&str> =
        split.clone().filter(|(_, parts)| is_first(*parts)).map(|(_, (prefix, _))| prefix).collect();
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
    let in_sequence = is_sequence(root);
    let mut parts = BTreeMap::new();
    for (name, (prefix, rest)) in split {
        let head = HEADS.iter().find_map(|(theirs, ours)| Some((ours, rest.strip_prefix(theirs)?)));
        let here = match head {
            Some((ours, rest)) => format!("{ours}{rest}"),
            None if prefix == root => format!("encoder.{}", of_backbone(rest, in_sequence)),
            None => continue,
        };
        if let Some(other) = parts.insert(here, name) {
            return Err(Error::Failure(format!("has '{other}' and '{name}', which are one tensor's names")));
        }
    }
    Ok(parts)
}

/// Torchvision's name for the backbone's tensor called `name`, which may be one of a sequence.
fn of_backbone(name: &str, in_sequence: bool) -> String {
    let module = IN_SEQUENCE.iter().filter(|_| in_sequence);
    let named = module.clone().find_map(|(theirs, ours)| Some((ours, name.strip_prefix(theirs)?)));
    let name = named.map_or(name.to_string(), |(ours, rest)| format!("{ours}{rest}"));
    // Codes for CIFAR's images call a block's second branch so.
    name.replace(".shortcut.", ".downsample.")
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
    fn sequences_and_the_heads_of_solo_learn_and_lightly_get_our_names() {
        let named = |names: &[&str]| -> Vec<String> {
            let parts = part_names(names.iter().copied()).unwrap();
            names
                .iter()
                .map(|name| parts.iter().find(|(_, there)| *there == name).unwrap().0.clone())
                .collect()
        };
        let lightly = [
            "backbone.0.weight",
            "backbone.1.running_mean",
            "backbone.4.0.conv1.weight",
            "backbone.7.1.downsample.0.weight",
            "projection_head.layers.3.weight",
            "prediction_head.layers.0.weight",
        ];
        let ours = [
            "encoder.conv1.weight",
            "encoder.bn1.running_mean",
            "encoder.layer1.0.conv1.weight",
            "encoder.layer4.1.downsample.0.weight",
            "encoder.fc.3.weight",
            "predictor.0.weight",
        ];
        assert_eq!(named(&lightly), ours);
        let solo = ["backbone.conv1.weight", "backbone.layer2.0.shortcut.0.weight", "projector.0.weight"];
        let ours = ["encoder.conv1.weight", "encoder.layer2.0.downsample.0.weight", "encoder.fc.0.weight"];
        assert_eq!(named(&solo), ours);
        // A moving average beside the backbone is no second one.
        let parts =
            part_names(["backbone.conv1.weight", "momentum_backbone.conv1.weight"].into_iter()).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(part_names(["0.weight", "3.weight"].into_iter()).is_err(), "a head alone is no backbone");
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
