//! The table of keys against the structs that read them: every key has a row, every row is a key,
//! ranges and defaults are those of the program, and the page of keys is made from all this.

use crate::support::{output, root};
use simsiam_em::data::Dataset;
use simsiam_em::recipe::Recipe;
use simsiam_em::recipe::key::{Key, Kind, Range};
use simsiam_em::recipe::keys::KEYS;
use simsiam_em::study::layer::CHOICES;
use simsiam_em::study::{Request, Study, keys};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// What each table of a recipe must have, and what else must change for it.
const SAMPLES: [(&str, &str); 39] = [
    ("eta.one-step", "eta.one-step = {}"),
    ("eta.k-step", "eta.k-step.k = 2"),
    ("eta.mean-of-others", "eta.mean-of-others = {}"),
    ("eta.filtered", "eta.filtered = { sigma = 0.5 }"),
    ("eta.whitened", "eta.whitened.ridge = 0.001"),
    ("eta.memory-bank", "eta.memory-bank.m = 0.5"),
    ("eta.expectation", "eta.expectation = { n = 2, normalised = true }"),
    ("eta.momentum-encoder", "eta.momentum-encoder.tau = 0.9\nobjective.similarity = \"info-nce\""),
    (
        "eta.sinkhorn",
        "eta.sinkhorn = { epsilon = 0.05, iterations = 3 }\nobjective.similarity = \"cross-entropy\"",
    ),
    ("eta.labels", "eta.labels = {}\npredictor.none = {}\nobjective.similarity = \"cross-entropy\""),
    ("eta.none", "eta.none = {}"),
    ("data.shapes", "data.shapes = SHAPES"),
    ("data.glyphs", "data.source = \"glyphs\"\ndata.glyphs = GLYPHS"),
    ("transfer", "transfer.images = 100"),
    ("measure.verification", "measure.verification.pairs = 3"),
    ("measure.one_shot", "measure.one_shot = { runs = 2, episodes = 2, queries = 2 }"),
    ("measure.tracking", "measure.tracking = { sequences = 2, exemplar = 16, tune = 2 }"),
    (
        "augment.finite",
        "augment.finite = { flips = true, scales = [0.5], translations = 2, colours = [[1.0, 1.0, 1.0, 0.0]] }",
    ),
    ("augment.multi_crop", "augment.multi_crop = { count = 2, size = 8, crop_scale = [0.1, 0.3] }"),
    ("encoder.backbone.mlp", "encoder.backbone.mlp.widths = [16]"),
    ("encoder.backbone.resnet8", "encoder.backbone.resnet8.width = 4"),
    ("encoder.backbone.resnet18", "encoder.backbone.resnet18.stem = \"cifar\""),
    ("encoder.backbone.resnet34", "encoder.backbone.resnet34.stem = \"cifar\""),
    ("encoder.backbone.resnet50", "encoder.backbone.resnet50.stem = \"cifar\""),
    (
        "encoder.backbone.resnet",
        "encoder.backbone.resnet = { blocks = [1], bottleneck = false, width = 8, stem = \"cifar\" }",
    ),
    ("predictor.none", "predictor.none = {}"),
    ("predictor.mlp", "predictor.mlp = { hidden = 8, norm = \"hidden\" }"),
    ("predictor.direct", "predictor.direct = { rho = 0.3, epsilon = 0.1, every = 1 }"),
    ("predictor.linear", "predictor.linear = {}"),
    ("predictor.least-squares", "predictor.least-squares = { rho = 0.3, ridge = 0.01, every = 1 }"),
    ("predictor.bias", "predictor.bias = {}"),
    (
        "objective.prototypes",
        "objective.prototypes.count = 8\neta.sinkhorn = { epsilon = 0.05, iterations = 3 }\nobjective.similarity = \
         \"cross-entropy\"",
    ),
    ("schedule.passes.multi-epoch", "schedule.passes.multi-epoch = {}"),
    ("schedule.passes.single-pass", "schedule.passes.single-pass.chunks = 2\nschedule.epochs = 3"),
    ("schedule.passes.cumulative", "schedule.passes.cumulative.chunks = 2\nschedule.epochs = 3"),
    (
        "schedule.passes.hybrid",
        "schedule.passes.hybrid = { chunks = 2, until_epoch = 1 }\nschedule.epochs = 3",
    ),
    ("objective.spread", "objective.spread = { variance = 1.0, sigreg = 0.1 }"),
    ("optim.lars", "optim.lars.trust = 0.001"),
    (
        "closed_form",
        "closed_form = { signal = [1.0, 0.5], noise = [0.1, 0.1], outputs = 2, steps_per_epoch = 5 }",
    ),
];

/// Procedural images as their keys have them when nothing is said.
const SHAPES: &str = "{ classes = 10, spacing = [9.0, 12.0], scatter = 0.2, tilt = 0.25, noise = 0.04 }";

/// Procedural handwriting, likewise.
const GLYPHS: &str = "{ alphabets = 10, identities = 100, unseen = 20, writings = 20, forgeries = 5, jitter = 0.06, noise = 0.04 }";

/// The smoke scale's SimSiam, with so few images that opening them costs nothing.
fn smoke() -> Table {
    let set = ["data.train_images=4", "data.test_images=4", "data.shapes_seed=0"].map(String::from);
    let request = Request { scale: Some("smoke".into()), set: set.into(), ..Request::default() };
    let arms = Study::find("multistep").unwrap().resolve(&request).unwrap();
    arms[0].tree.value().as_table().unwrap().clone()
}

/// The table at `path`, made where it is missing.
fn at<'a>(tree: &'a mut Table, path: &[&str]) -> &'a mut Table {
    path.iter().fold(tree, |tree, key| {
        let inner = tree.entry(*key).or_insert_with(|| Value::Table(Table::new()));
        inner.as_table_mut().expect("a table")
    })
}

fn set(tree: &mut Table, name: &str, value: Value) {
    let path: Vec<&str> = name.split('.').collect();
    let (last, path) = path.split_last().unwrap();
    at(tree, path).insert(last.to_string(), value);
}

/// A recipe in which the table of `key` stands with what it must have.
fn sample(key: &Key) -> Table {
    let mut tree = smoke();
    if key.name == "objective.temperature" {
        set(&mut tree, "objective.similarity", "cross-entropy".into());
    }
    if key.name == "objective.margin" {
        let siamese = "eta.labels = {}\npredictor.none = {}\nobjective.similarity = \"contrastive\"";
        ["eta", "predictor"].into_iter().for_each(|choice| drop(tree.remove(choice)));
        lay(&mut tree, siamese.parse().unwrap());
    }
    let own = |table: &&(&str, &str)| key.name == table.0 || key.name.starts_with(&format!("{}.", table.0));
    if let Some((name, text)) = SAMPLES.iter().find(own) {
        choose(&mut tree, name);
        let sample: Table = text.replace("SHAPES", SHAPES).replace("GLYPHS", GLYPHS).parse().unwrap();
        for choice in ["eta", "predictor"].iter().filter(|choice| sample.contains_key(**choice)) {
            tree.remove(*choice);
        }
        lay(&mut tree, sample);
    }
    tree
}

/// Makes room for the table `name` where it is one of a choice.
fn choose(tree: &mut Table, name: &str) {
    for choice in CHOICES {
        if name.starts_with(&format!("{choice}.")) {
            set(tree, choice, Value::Table(Table::new()));
        }
    }
}

/// Lays `over` on `tree`, whose tables it joins.
fn lay(tree: &mut Table, over: Table) {
    for (key, value) in over {
        match (tree.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => lay(inner, over),
            (_, value) => drop(tree.insert(key, value)),
        }
    }
}

fn recipe(tree: &Table) -> Result<Recipe, String> {
    Value::Table(tree.clone()).try_into().map_err(|error: toml::de::Error| error.to_string())
}

/// What the program says of a recipe, and of the images that it names.
fn verdict(tree: &Table) -> Result<(), String> {
    let recipe = recipe(tree)?;
    recipe.check().map_err(|error| error.to_string())?;
    Dataset::open(&recipe.data).map(drop).map_err(|error| error.to_string())
}

/// The keys of the table at `path`, or nothing where it is no table or an empty one: from serde's
/// refusal.
fn inside(path: &str) -> Option<Vec<String>> {
    let mut tree = smoke();
    let stray = Table::from_iter([("zzz".to_string(), Value::Integer(1))]);
    match path {
        "" => drop(tree.insert("zzz".into(), Value::Integer(1))),
        path => {
            choose(&mut tree, path);
            set(&mut tree, path, Value::Table(stray));
        }
    }
    let refusal = recipe(&tree).expect_err("a stray key is refused");
    // Further lines say where.
    let list = |behind: &str| behind.lines().next().unwrap_or_default().to_string();
    let names = |behind: &str| list(behind).split('`').skip(1).step_by(2).map(String::from).collect();
    let word = refusal.contains("unknown variant") && !CHOICES.contains(&path);
    match refusal.split_once("`zzz`, expected") {
        Some((_, behind)) if !word => Some(names(behind)),
        _ => None,
    }
}

fn collect(path: &str, keys: &mut BTreeSet<String>) {
    // A recipe within the recipe has the same keys again.
    match inside(path).filter(|_| path != "pretraining") {
        Some(inner) => inner.iter().for_each(|name| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(&path, keys);
        }),
        None => drop(keys.insert(path.to_string())),
    }
}

#[test]
fn every_key_of_a_recipe_has_a_row_and_every_row_is_a_key() {
    let mut keys = BTreeSet::new();
    collect("", &mut keys);
    let rows: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_string()).collect();
    assert_eq!(rows, keys);
    assert_eq!(rows.len(), KEYS.len(), "no key has two rows");
}

#[test]
fn what_may_be_left_out_may_and_means_what_its_row_says() {
    for key in KEYS.iter().filter(|key| key.kind != Kind::Empty) {
        let tree = sample(key);
        let mut without = tree.clone();
        let (path, last) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        at(&mut without, &path).remove(last);
        match key.left_out {
            // All procedural images' keys stand together, as in the program's own default.
            Some(value) if key.name.starts_with("data.shapes.") || key.name.starts_with("data.glyphs.") => {
                let (kind, all) = match key.name.starts_with("data.shapes.") {
                    true => ("shapes", SHAPES),
                    false => ("glyphs", GLYPHS),
                };
                let mut given = tree.clone();
                given["data"].as_table_mut().unwrap().remove(kind);
                let whole = recipe(&given).unwrap();
                let all = format!("x = {all}").parse::<Table>().unwrap()["x"].clone();
                set(&mut given, &format!("data.{kind}"), all);
                set(&mut given, key.name, format!("x = {value}").parse::<Table>().unwrap()["x"].clone());
                assert_eq!(recipe(&given).unwrap(), whole, "{}", key.name);
            }
            Some("") => assert!(recipe(&without).is_ok(), "{} may be left out", key.name),
            Some(value) => {
                let mut given = tree.clone();
                set(&mut given, key.name, format!("x = {value}").parse::<Table>().unwrap()["x"].clone());
                assert_eq!(recipe(&given).unwrap(), recipe(&without).unwrap(), "{}", key.name);
            }
            None => assert!(recipe(&without).is_err(), "{} must be there", key.name),
        }
    }
}

/// Numbers at the ends of a range, and numbers just outside.
fn ends(key: &Key) -> (Vec<f64>, Vec<f64>) {
    let step = |end: f64| if is_whole(key) { 1.0 } else { 0.01 * end.abs().max(1.0) };
    match key.range {
        Range::Within(low, high) => (vec![low, high], vec![low - step(low), high + step(high)]),
        Range::Below(low, high) => (vec![low, high - step(high)], vec![low - step(low), high]),
        Range::AboveTo(low, high) => (vec![low + step(low), high], vec![low, high + step(high)]),
        Range::AtLeast(low) => (vec![low], vec![low - step(low)]),
        Range::Above(low) => (vec![low + step(low)], vec![low]),
        Range::Any | Range::Words(_) | Range::Said(_) => (Vec::new(), Vec::new()),
    }
}

fn is_whole(key: &Key) -> bool {
    matches!(key.kind, Kind::Whole | Kind::WholeOr(_) | Kind::Wholes)
}

/// `number` as `key` takes it: in every place of the list that stands in `tree`.
fn value(key: &Key, number: f64, tree: &Table) -> Value {
    let one = if is_whole(key) { Value::Integer(number as i64) } else { Value::Float(number) };
    let here = key.name.split('.').try_fold(Value::Table(tree.clone()), |at, part| at.get(part).cloned());
    match (key.kind, here) {
        (Kind::Numbers(_) | Kind::Wholes, Some(Value::Array(list))) => Value::Array(vec![one; list.len()]),
        (Kind::Numbers(_) | Kind::Wholes, _) => Value::Array(vec![one]),
        _ => one,
    }
}

#[test]
fn ranges_are_those_that_the_program_holds() {
    // Where other keys forbid an end: batch norm a batch of 1, the batch more shards than it has
    // images, several places a crop of the whole.
    let elsewhere = ["schedule.batch", "schedule.shards", "augment.finite.scales"];
    for key in KEYS {
        let tree = sample(key);
        assert_eq!(verdict(&tree), Ok(()), "the sample for {}", key.name);
        let with = |value: Value| {
            let mut tree = tree.clone();
            set(&mut tree, key.name, value);
            verdict(&tree)
        };
        let (inside, outside) = ends(key);
        for number in inside {
            let said = with(value(key, number, &tree));
            assert!(said.is_ok() || elsewhere.contains(&key.name), "{} = {number}: {said:?}", key.name);
        }
        for number in outside {
            let said = with(value(key, number, &tree)).expect_err(key.name);
            let of_its_type = number < 0.0 && is_whole(key);
            let mut parts = key.name.rsplit('.').take(2);
            assert!(of_its_type || parts.any(|part| said.contains(part)), "{} = {number}: {said}", key.name);
        }
        if let Range::Words(words) = key.range {
            let with = |word: &str| {
                let mut tree = tree.clone();
                set(&mut tree, key.name, word.into());
                recipe(&tree)
            };
            assert!(words.iter().all(|word| with(word).is_ok()), "{}: {words:?}", key.name);
            assert!(with("zzz").is_err(), "{}", key.name);
        }
        if let Kind::WholeOr(word) = key.kind {
            let mut tree = tree.clone();
            set(&mut tree, key.name, word.into());
            assert!(recipe(&tree).is_ok(), "{} = {word}", key.name);
        }
    }
}

#[test]
fn the_page_of_keys_is_made_from_the_table() {
    let path = root().join("paper-notes/guide/keys.md");
    let page = keys::page().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, expected, "keys.md differs; UPDATE=1 cargo test rewrites it");
}

#[test]
fn the_command_line_lists_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let shown = output(folder.path(), &["show", "--keys"]);
    assert_eq!(shown.status.code(), Some(0));
    let text = String::from_utf8(shown.stdout).unwrap();
    let all = || keys::STUDY.iter().chain(KEYS);
    for key in all() {
        assert!(text.contains(&format!("  {}\n      {}\n", key.name, key.meaning)), "{}", key.name);
    }
    let lines = output(folder.path(), &["show", "--keys", "--json"]);
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert_eq!(lines.lines().count(), all().count());
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let neither = output(folder.path(), &["show"]);
    assert_eq!(neither.status.code(), Some(2), "without a study it is a mistake");
    let without_study = output(folder.path(), &["show", "--scale", "smoke"]);
    assert_eq!(without_study.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without_study.stderr).contains("sim show --keys"));
}

#[test]
fn studies_in_the_guide_are_studies() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("paper-notes/guide")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
        for (block, _) in blocks.filter(|(block, _)| block.starts_with("title")) {
            let request = Request { scale: Some("smoke".into()), ..Request::default() };
            let arms =
                Study::parse("guide", "guide.toml", block.into()).and_then(|study| study.resolve(&request));
            assert!(arms.is_ok(), "{:?}: {block}", arms.err());
            found += 1;
        }
    }
    assert!(found > 0, "the guide shows a study");
}
