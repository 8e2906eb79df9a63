//! What each key of a study file means, and the list of all keys: those of a study, those of a
//! recipe with what SimSiam has at the default scale, and the metrics that a study may name.

use super::file::Study;
use super::resolve::{DEFAULT_SCALE, Request};
use crate::error::Result;
use crate::measure::metrics;
use crate::recipe::key::{CHOICE, Key, Kind, Range, rows};
use crate::recipe::keys::KEYS;
use std::collections::BTreeMap;
use std::fmt::Write;

use Kind::{Number, Switch, Table, Text, Texts, WholeOr};
use Range::{Any, AtLeast, Said, Words};

const BASE: Range = Words(&["simsiam", "simclr", "moco", "byol", "swav", "supervised", "siamese"]);
const ARM: Range = Said("an arm's name");

/// Every key of a study file that is no key of a recipe; `flag`, `claim` and `arm` are lists,
/// written `[[claim]]`.
pub const STUDY: &[Key] = rows! {
    "title", Text, Any, None, "sim":
        "A few words: the heading of tables and of the report.";
    "question", Text, Any, None, "sim":
        "One sentence with a question mark.";
    "base", Text, BASE, CHOICE, "sim":
        "The method that the study's recipes begin from; left out: the study is a complete recipe.";
    "suite", Text, Words(&["paper", "comparisons", "laboratory", "critics"]), Some("\"paper\""), "sim":
        "Which group of studies it is listed with.";
    "shows", Texts, Said("metrics, see below"), CHOICE, "sim":
        "Metrics of its table and curves; left out: kNN, linear probe, std and loss.";
    "facts", Texts, Words(&["batch", "negatives", "momentum-encoder", "epoch-seconds", "memory"]), CHOICE, "sim":
        "What its table says of each arm beside metrics; left out: nothing.";
    "figures", Texts,
        Words(&[
            "half-steps", "trajectories", "spectrum", "rank-accuracy", "area-accuracy", "loss-accuracy", "cost-accuracy",
            "passes-accuracy", "grid", "growth", "precision-recall",
        ]),
        CHOICE, "sim":
        "Figures beside the curves and the last values, which every study has; left out: none.";
    "paper.where", Text, Any, None, "sim":
        "Section or table of a paper whose numbers are shown beside the study's own.";
    "paper.metric", Text, Any, None, "sim":
        "What those numbers measure.";
    "paper.values", Table, Any, None, "sim":
        "The number of each arm, by the arm's name.";
    "arm.name", Text, Said("letters, digits, = . _ + - ,"), None, "sim":
        "Name of the arm and of its folder. Recipe keys beside it are what the arm changes.";
    "arm.title", Text, Any, CHOICE, "sim":
        "Its name in tables; left out: its name.";
    "arm.reference", Switch, Any, Some("false"), "sim":
        "Whether it is trained also when a flag asks for other arms.";
    "arm.at", Texts, Said("scales"), CHOICE, "sim":
        "The scales at which it is trained without being asked for; left out: all.";
    "arm.base", Text, BASE, CHOICE, "sim":
        "Its base method; left out: the study's.";
    "arm.from", Text, Said("an arm above"), CHOICE, "sim":
        "The arm whose weights at the end of the run of the same seed it begins with; left out: they are drawn.";
    "claim.text", Text, Any, None, "sim":
        "The claim in words; {arm} and {than} stand for the arms.";
    "claim.metric", Text, Said("a metric, see below"), CHOICE, "sim":
        "What it compares; \"collapses\", \"does not collapse\" and \"diverges\" need none.";
    "claim.arm", Text, ARM, None, "sim":
        "The arm it is about; `k=*` makes one claim of each arm whose name begins with `k=`.";
    "claim.is", Text,
        Words(&["not worse than", "better than", "not better than", "at least", "at most", "above", "below",
            "diverges", "collapses", "does not collapse"]), None, "sim":
        "The predicate.";
    "claim.of", Text, Words(&["end", "highest", "lowest", "mean", "first"]), Some("\"end\""), "sim":
        "Which number of the curve is compared.";
    "claim.than", Text, Said("an arm, random initialisation, chance, or a metric"), CHOICE, "sim":
        "What it is compared with; \"better than\" and its relatives need it.";
    "claim.value", Number, Any, CHOICE, "sim":
        "The number it is compared with; \"at least\" and its relatives need it.";
    "claim.margin", Number, AtLeast(0.0), Some("0.0"), "sim":
        "By how much a difference may fail (\"not worse than\") or must succeed (\"better than\").";
    "claim.except", Text, ARM, CHOICE, "sim":
        "An arm that a `*` does not mean.";
    "claim.every", Switch, Any, Some("false"), "sim":
        "Whether one seed that fails contradicts the claim.";
    "flag.name", Text, Any, None, "sim":
        "`k` gives the study a flag `--k`, whose values make arms called `k=10`.";
    "flag.sets", Text, Said("a recipe key"), None, "sim":
        "The key that takes the value.";
    "flag.like", Text, ARM, None, "sim":
        "The arm whose other differences the new arm shares.";
    "flag.values", Text, Any, None, "sim":
        "What stands for the value in the help, such as STEPS.";
    "flag.help", Text, Any, None, "sim":
        "The help text.";
    "scale.NAME.seeds", WholeOr("10..18"), Said("1 to 10000 seeds"), CHOICE, "sim":
        "Seeds of every arm at the scale NAME; left out: the scale's. Recipe keys beside it hold at that scale.";
    "scale.NAME.about", Text, Any, CHOICE, "sim":
        "What the scale is for.";
};

/// Value of each key that a study of SimSiam has at the default scale when it says nothing.
///
/// # Errors
/// None unless the embedded files are damaged.
pub fn defaults() -> Result<BTreeMap<String, String>> {
    let text = "title = \"defaults\"\nquestion = \"?\"\nbase = \"simsiam\"\n".to_string();
    let arms = Study::parse("defaults", "defaults", text)?.resolve(&Request::default())?;
    let leaves = arms.iter().flat_map(|arm| arm.tree.leaves());
    Ok(leaves.map(|(key, entry)| (key, entry.value().to_string())).collect())
}

/// What stands in the column of defaults.
pub fn default_of(key: &Key, defaults: &BTreeMap<String, String>) -> String {
    match (defaults.get(key.name), key.left_out) {
        (Some(value), _) => value.clone(),
        (None, Some("")) => "left out".to_string(),
        (None, Some(value)) => value.to_string(),
        (None, None) if key.kind == Kind::Empty => "left out".to_string(),
        (None, None) => String::new(),
    }
}

/// The page paper-notes/guide/keys.md.
///
/// # Errors
/// As for [`defaults`].
pub fn page() -> Result<String> {
    let mut page = format!("{HEAD}`--scale {DEFAULT_SCALE}`{BEHIND_SCALE}");
    table(&mut page, "The study file", STUDY, &BTreeMap::new());
    let defaults = defaults()?;
    for part in KEYS.chunk_by(|a, b| top(a) == top(b)) {
        table(&mut page, &format!("`{}`", top(&part[0])), part, &defaults);
    }
    page.push_str(METRICS);
    for metric in metrics::judged() {
        let better = if metric.larger_is_better == Some(true) { "more" } else { "less" };
        let _ = writeln!(page, "| `{}` | {} | {better} |", metric.name, metric.title);
    }
    Ok(page)
}

const HEAD: &str = "# Keys

This page is made from the program's own tables (`src/recipe/keys/`, `src/study/keys.rs`); a test compares it with them.
`sim show --keys` prints the same, `sim show STUDY` prints which file set each key of a study's recipes.

A key of the recipe can be set in a study file, in one of its arms (`[[arm]]`) or scales (`[scale.NAME]`), or for all arms of a
run by `--set KEY=VALUE`. `eta`, `predictor` and `encoder.backbone` are choices: a recipe has one of the tables below each, and
setting another one replaces it (`--set eta=one-step` is short for `eta.one-step = {}`).

**Default** is what a study with `base = \"simsiam\"` and nothing else has at ";

const BEHIND_SCALE: &str = ", or, for a key that it does not have, what the key's table has without it. \
*Left out* says that the key may be missing; its meaning says what then. An empty cell belongs to a key that must stand in \
its table. **Source** names a part of the SimSiam paper (Sec., Table, App.), another paper, or `sim` for a choice of \
this program. Of a list, the range is that of each entry.
";

const METRICS: &str = "
## Metrics

What `shows` and `claim.metric` may name. `train/` are means over an epoch, `val/` is measured on held-out images, `em/` needs
`measure.em`, `spectrum/` needs `measure.spectrum`, `predictor/` needs `measure.predictor`, `verify/` needs `measure.verification`, `oneshot/` needs `measure.one_shot`, `track/` needs `measure.tracking`; `det/` and `seg/` are of runs with `transfer`.

| metric | title | better |
|---|---|---|
";

/// The first part of a key's name.
fn top(key: &Key) -> &'static str {
    key.name.split('.').next().unwrap_or(key.name)
}

/// A heading and a table of `keys`.
fn table(page: &mut String, title: &str, keys: &[Key], defaults: &BTreeMap<String, String>) {
    let _ = write!(
        page,
        "\n## {title}\n\n| key | meaning | value | range | default | source |\n|---|---|---|---|---|---|\n"
    );
    for key in keys {
        let code = |text: String| match text.as_str() {
            "" | "left out" => text,
            _ => format!("`{text}`"),
        };
        let (default, kind) = (code(default_of(key, defaults)), key.kind.to_string());
        let kind = if key.kind == Kind::Empty { code(kind) } else { kind };
        let range = key.range.to_string();
        let cells = format!("{} | {kind} | {range} | {default} | {}", key.meaning, key.source);
        let _ = writeln!(page, "| `{}` | {cells} |", key.name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{ARM as ARM_KEYS, BODY, HEAD as HEAD_KEYS, SCALE};
    use super::*;
    use crate::study::{Claim, Flag, Head, Paper};
    use std::collections::BTreeSet;

    /// The fields that serde's refusal of another one lists.
    fn fields<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let refusal = toml::from_str::<T>("zzz = 1").err().map(|e| e.to_string()).unwrap_or_default();
        let (_, expected) = refusal.split_once("expected").unwrap();
        let list = expected.lines().next().unwrap_or_default();
        list.split('`').skip(1).step_by(2).map(String::from).collect()
    }

    /// The words that serde's refusal of another one lists.
    fn words<T: serde::de::DeserializeOwned>(text: &str) -> BTreeSet<String> {
        let refusal = toml::from_str::<T>(text).err().map(|e| e.to_string()).unwrap_or_default();
        let (_, expected) = refusal.split_once("`zzz`, expected").unwrap();
        let list = expected.lines().next().unwrap_or_default();
        list.split('`').skip(1).step_by(2).map(String::from).collect()
    }

    #[test]
    fn words_are_those_that_a_study_takes() {
        let row = |name: &str| match STUDY.iter().find(|key| key.name == name).unwrap().range {
            Words(words) => BTreeSet::from_iter(words.iter().map(|word| word.to_string())),
            _ => BTreeSet::new(),
        };
        let head = |line: &str| words::<Head>(&format!("title = \"\"\nquestion = \"\"\n{line}"));
        assert_eq!(row("suite"), head("suite = \"zzz\""));
        assert_eq!(row("facts"), head("facts = [\"zzz\"]"));
        assert_eq!(row("figures"), head("figures = [\"zzz\"]"));
        let claim = |rest: &str| words::<Claim>(&format!("text = \"\"\narm = \"\"\n{rest}"));
        assert_eq!(row("claim.is"), claim("is = \"zzz\""));
        assert_eq!(row("claim.of"), claim("is = \"above\"\nof = \"zzz\""));
        let bases = BTreeSet::from_iter(crate::study::embedded::names("base").map(String::from));
        assert_eq!((row("base"), row("arm.base")), (bases.clone(), bases));
    }

    #[test]
    fn every_key_of_a_study_has_a_row_and_every_row_is_a_key() {
        let within = |table: &str, fields: Vec<String>| -> Vec<String> {
            fields.iter().map(|field| format!("{table}.{field}")).collect()
        };
        let of = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>();
        let tables = ["paper", "flag", "claim"];
        assert_eq!(BTreeSet::from_iter(fields::<Head>()), BTreeSet::from_iter(of(&HEAD_KEYS)));
        assert_eq!(BODY, ["arm", "scale"]);
        let plain = fields::<Head>().into_iter().filter(|field| !tables.contains(&field.as_str()));
        let keys: BTreeSet<String> = plain
            .chain(within("paper", fields::<Paper>()))
            .chain(within("flag", fields::<Flag>()))
            .chain(within("claim", fields::<Claim>()))
            .chain(within("arm", of(&ARM_KEYS)))
            .chain(within("scale.NAME", of(&SCALE)))
            .collect();
        let rows: BTreeSet<String> = STUDY.iter().map(|key| key.name.to_string()).collect();
        assert_eq!(rows, keys);
    }
}
