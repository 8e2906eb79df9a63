//! What runs were made from, of what env.json says: their images, and the program and the kernel
//! that computed them. Numbers of runs that differ in this are never mixed without a word.

use super::outcome::read_env;
use crate::error::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What env.json holds.
pub type Environment = BTreeMap<String, Value>;

/// The key of the digest of a run's images.
pub const IMAGES: &str = "data_sha256";
/// The keys on which the bytes of a run may depend beside its recipe and its images.
pub const TELLING: [&str; 4] = ["sim", "numbers", "kernel", "algorithm"];
/// The key of what computed a run's first steps, where it changed machines.
pub const EARLIER: &str = "earlier";
/// The keys that say which images a run asked for. Two runs that agree in them and not in the
/// digest saw different images.
const ASKED: [&str; 4] = ["data", "train_images", "test_images", DRAWN];
/// The seed of procedural images, where a run saw such.
pub const DRAWN: &str = "images_drawn_with_seed";

/// The key of the weights that a run began with, where they were not drawn.
pub const INIT: &str = "init";

/// What is said of a run whose images cannot be told.
pub const UNKNOWN_IMAGES: &str = "nobody knows which images this run saw, for its env.json is missing; --fresh starts over, --out DIR keeps both";

/// The digest of the images that the run in the folder `run` was made from; `None` where it saw
/// none, or has no env.json.
///
/// # Errors
/// [`crate::Error::Data`] where env.json is damaged.
pub fn images_of(run: &Path) -> Result<Option<String>> {
    Ok(read_env(run)?.as_ref().and_then(images).map(str::to_string))
}

/// The digest of the images in `environment`.
pub fn images(environment: &Environment) -> Option<&str> {
    environment.get(IMAGES)?.as_str()
}

/// Sentences about what differs between runs that stand side by side, each with its environment and
/// what a person calls it: the program and the kernel that computed them, and images that were
/// asked for in the same words but are others. Empty where nothing does.
pub fn cautions(runs: &[(String, Environment)]) -> Vec<String> {
    // What a formula computed, as runs in closed form are, used no kernel.
    let ways = groups(runs, |environment| {
        environment.contains_key(TELLING[2]).then(|| TELLING.map(|key| all_of(environment, key)))
    });
    let images = groups(runs, |environment| {
        let asked = ASKED.map(|key| word(environment.get(key)));
        Some((asked, images(environment)?.get(..12)?.to_string()))
    });
    let mut sentences = Vec::new();
    if ways.len() > 1 {
        let differs = |key: &usize| ways.iter().any(|(way, _)| way[*key] != ways[0].0[*key]);
        let told: Vec<usize> = (0..TELLING.len()).filter(differs).collect();
        let way = |(way, names): &([String; 4], Vec<&str>)| {
            let parts: Vec<String> =
                told.iter().map(|key| format!("{} {}", TELLING[*key], way[*key])).collect();
            format!("{} ({})", parts.join(", "), some(names))
        };
        let ways: Vec<String> = ways.iter().map(way).collect();
        sentences.push(format!(
            "the runs were not all computed by the same program and kernel, and may differ for that reason: {}",
            ways.join("; ")
        ));
    }
    let mut names: Vec<&[String; 4]> = images.iter().map(|((asked, _), _)| asked).collect();
    names.dedup();
    for asked in names {
        let seen: Vec<_> = images.iter().filter(|((other, _), _)| other == asked).collect();
        if seen.len() > 1 {
            let seen: Vec<String> =
                seen.iter().map(|((_, digest), names)| format!("{digest}… ({})", some(names))).collect();
            let seen = seen.join("; ");
            sentences.push(format!("the runs did not see the same images of {}: sha256 {seen}", asked[0]));
        }
    }
    sentences
}

/// A sentence about runs that all are of one version, and that not the one whose version and
/// numbers are `now`; none where there are no such runs.
pub fn outdated(runs: &[(String, Environment)], now: &[(&str, Value)]) -> Option<String> {
    let made = runs.iter().map(|(_, environment)| environment).filter(|of| of.contains_key(TELLING[0]));
    let words = |of: &Environment| now.iter().map(|(key, _)| format!("{key} {}", all_of(of, key))).collect();
    let mut ways: Vec<Vec<String>> = made.map(words).collect();
    ways.sort();
    ways.dedup();
    let here: Vec<String> = now.iter().map(|(key, value)| format!("{key} {}", word(Some(value)))).collect();
    match &ways[..] {
        [way] if *way != here => Some(format!(
            "the runs were made by another version of this program ({}; this one is {}), whose numbers may differ; \
             --fresh makes them again",
            way.join(", "),
            here.join(", ")
        )),
        _ => None,
    }
}

/// The different values of `key` in order, each with the names of the runs that have it; runs
/// without one are left out.
fn groups<K: Ord>(
    runs: &[(String, Environment)],
    key: impl Fn(&Environment) -> Option<K>,
) -> Vec<(K, Vec<&str>)> {
    let mut groups: BTreeMap<K, Vec<&str>> = BTreeMap::new();
    for (name, environment) in runs {
        if let Some(key) = key(environment) {
            groups.entry(key).or_default().push(name);
        }
    }
    groups.into_iter().collect()
}

/// All that a key has held while a run was made: the values of earlier machines, then the last one.
fn all_of(environment: &Environment, key: &str) -> String {
    let earlier = environment.get(EARLIER).and_then(Value::as_array).into_iter().flatten();
    let mut values: Vec<String> = earlier.map(|part| word(part.get(key))).collect();
    values.push(word(environment.get(key)));
    values.dedup();
    values.join(", then ")
}

fn word(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
        None => "not recorded".to_string(),
    }
}

/// The names in one line, of many the first four: "a, b, c, d and 4 more".
pub fn some(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, environment: Value) -> (String, Environment) {
        (name.into(), serde_json::from_value(environment).unwrap())
    }

    fn on(kernel: &str, images: &str) -> Value {
        json!({"sim": "1", "numbers": 1, "kernel": kernel, "data": "folder:a", "train_images": 4, "data_sha256": images})
    }

    #[test]
    fn runs_that_are_alike_need_no_caution() {
        let same = on("avx2", "0123456789abcdef");
        assert_eq!(cautions(&[run("a", same.clone()), run("b", same), run("mock", json!({}))]), [""; 0]);
    }

    #[test]
    fn another_kernel_and_other_images_are_told_with_the_runs_that_have_them() {
        let (first, second) = (on("avx2", "0123456789abcdef"), on("avx512", "fedcba9876543210"));
        let told =
            cautions(&[run("a seed 0", first), run("b seed 0", second.clone()), run("b seed 1", second)]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].ends_with("kernel avx2 (a seed 0); kernel avx512 (b seed 0, b seed 1)"),
            "{}",
            told[0]
        );
        let images =
            "images of folder:a: sha256 0123456789ab… (a seed 0); fedcba987654… (b seed 0, b seed 1)";
        assert!(told[1].ends_with(images), "{}", told[1]);
    }

    #[test]
    fn a_run_in_closed_form_is_beside_any_kernel() {
        let formula = json!({"sim": "1", "numbers": 1, "made_by": "the closed form"});
        assert_eq!(cautions(&[run("a", on("avx2", "0123456789abcdef")), run("b", formula)]), [""; 0]);
    }

    #[test]
    fn runs_of_one_older_version_are_told_beside_this_program() {
        let runs = [run("a", on("avx2", "0123456789abcdef")), run("mock", json!({}))];
        assert_eq!(outdated(&runs, &[("sim", json!("1")), ("numbers", json!(1))]), None);
        let told = outdated(&runs, &[("sim", json!("1")), ("numbers", json!(2))]).unwrap();
        assert!(told.contains("(sim 1, numbers 1; this one is sim 1, numbers 2)"), "{told}");
    }

    #[test]
    fn other_numbers_of_images_are_other_questions() {
        let mut second = on("avx2", "fedcba9876543210");
        second["train_images"] = json!(8);
        assert_eq!(cautions(&[run("a", on("avx2", "0123456789abcdef")), run("b", second)]), [""; 0]);
    }

    #[test]
    fn a_run_that_changed_machines_is_told_from_one_that_did_not() {
        let mut moved = on("avx2", "0123456789abcdef");
        moved[EARLIER] = json!([{"sim": "1", "numbers": 1, "kernel": "cuda", "to_step": 8}]);
        let told = cautions(&[run("a", on("avx2", "0123456789abcdef")), run("b", moved)]);
        assert!(told[0].contains("kernel cuda, then avx2 (b)"), "{told:?}");
    }
}
