//! Every study resolves; layers merge as they should.

use simsiam_em::Error;
use simsiam_em::eta::{Rule, Steps};
use simsiam_em::kernel::Precision;
use simsiam_em::measure::estimate::Estimate;
use simsiam_em::recipe::{Predictor, Recipe};
use simsiam_em::study::{Arm, Request, Study, embedded};
use simsiam_em::train::memory_bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn request() -> Request {
    Request::default()
}

fn with_flag(name: &str, values: &[&str]) -> Request {
    let values = values.iter().map(|value| value.to_string()).collect();
    Request { flags: vec![(name.into(), values)], ..request() }
}

fn with_set(set: &[&str]) -> Request {
    Request { set: set.iter().map(|set| set.to_string()).collect(), ..request() }
}

fn names(study: &str, request: &Request) -> Vec<String> {
    Study::find(study).unwrap().resolve(request).unwrap().into_iter().map(|arm| arm.name).collect()
}

fn recipe(study: &str, arm: &str, request: &Request) -> Recipe {
    let arms = Study::find(study).unwrap().resolve(request).unwrap();
    arms.into_iter().find(|other| other.name == arm).unwrap().recipe
}

/// The message and, where it points into a file, the text under the caret.
fn refusal(result: simsiam_em::Result<impl Sized>) -> (String, String) {
    match result.err().expect("a mistake is refused") {
        Error::Config(config) => {
            let under = config.text[config.span.clone()].to_string();
            let help = config.help.clone().unwrap_or_default();
            (format!("{} {help}", config.message), under)
        }
        error => {
            assert_eq!(error.exit_code(), 2);
            (error.to_string(), String::new())
        }
    }
}

#[test]
fn the_binary_carries_exactly_the_files_of_the_folder() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join("studies")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"));
            }
        }
    }
    let carried: BTreeSet<String> = embedded::FILES.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(carried, found);
}

#[test]
fn every_study_resolves_at_every_scale() {
    for study in Study::all().unwrap() {
        for scale in embedded::names("scale") {
            let data = match scale {
                "cifar" | "cifar-small" => Some("cifar10:x".to_string()),
                "imagenet" => Some("folder:x".to_string()),
                _ => None,
            };
            let arms = study.resolve(&Request { scale: Some(scale.into()), data, ..request() }).unwrap();
            let here = study.arms.iter().filter(|arm| arm.at.as_ref().is_none_or(|at| at.has(scale)));
            assert_eq!(arms.len(), here.count(), "{} at {scale}", study.name);
            let folders: BTreeSet<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
            assert_eq!(folders.len(), arms.len());
        }
    }
}

#[test]
fn every_study_says_how_to_run_it() {
    for file in embedded::FILES.iter().filter(|file| file.path.matches('/').count() == 1) {
        let name = file.path.trim_start_matches("studies/").trim_end_matches(".toml");
        assert!(file.text.starts_with(&format!("# sim run {name}")), "{}", file.path);
    }
}

#[test]
fn every_paper_number_belongs_to_an_arm_or_to_a_flag() {
    for study in Study::all().unwrap() {
        for arm in study.head.paper.iter().flat_map(|paper| paper.values.keys()) {
            let made = study.head.flag.iter().any(|flag| arm.starts_with(&format!("{}=", flag.name)));
            assert!(made || study.arms.iter().any(|other| other.name == *arm), "{}: {arm}", study.name);
        }
    }
}

#[test]
fn a_flag_makes_one_arm_per_value_beside_the_references() {
    assert_eq!(names("multistep", &request()), ["k=1", "k=10", "k=100", "k=epoch"]);
    assert_eq!(names("multistep", &with_flag("k", &["10"])), ["k=1", "k=10"]);
    assert_eq!(names("multistep", &with_flag("k", &["1", "100", "epoch"])), ["k=1", "k=100", "k=epoch"]);
    assert_eq!(names("membank", &with_flag("m", &["0.80", "0.5"])), ["simsiam", "m=0", "m=0.8", "m=0.5"]);
    let k = |arm| recipe("multistep", arm, &with_flag("k", &["100", "epoch"])).eta;
    assert_eq!(k("k=100"), Rule::KStep { k: Steps::Count(100) });
    assert_eq!(k("k=epoch"), Rule::KStep { k: Steps::Epoch });
    let bank = recipe("membank", "m=0.5", &with_flag("m", &["0.5"]));
    assert_eq!(
        (bank.eta, bank.predictor),
        (Rule::MemoryBank { m: 0.5, precision: Precision::F32, k: Steps::Count(1) }, Predictor::None {})
    );
}

#[test]
fn a_recipe_tells_a_banks_precision_only_where_it_is_not_f32() {
    let text = |precision: &str| {
        let set = ["eta.memory-bank.m=0.5", &format!("eta.memory-bank.precision={precision}")];
        toml::to_string(&recipe("simsiam", "simsiam", &with_set(&set)).eta).unwrap()
    };
    assert_eq!(text("f32"), "[memory-bank]\nm = 0.5\n");
    assert_eq!(text("bf16"), "[memory-bank]\nm = 0.5\nprecision = \"bf16\"\n");
}

/// What a bank adds to the memory of a run.
fn bank_memory(precision: &str, images: usize) -> u64 {
    let choice = format!("eta.memory-bank.precision={precision}");
    let d = "encoder.projector.dim=2048";
    let bank = recipe("simsiam", "simsiam", &with_set(&["eta.memory-bank.m=0.5", &choice, d]));
    let without = recipe("simsiam", "simsiam", &with_set(&[d]));
    memory_bytes(&bank, images).unwrap() - memory_bytes(&without, images).unwrap()
}

#[test]
fn a_mapped_bank_is_not_counted_as_memory() {
    // Each image has two numbers, whether it was visited and when, and, in memory, 2048 of its
    // bank.
    assert_eq!(bank_memory("f32", 10_000), 10_000 * 4 * (2048 + 2));
    assert_eq!(bank_memory("bf16", 10_000), 10_000 * (2 * 2048 + 8));
    assert_eq!(bank_memory("bf16", 200_000), 200_000 * (2 * 2048 + 8));
    for (precision, images) in [("f32", 200_000), ("f32", 1_281_167), ("bf16", 1_281_167)] {
        assert_eq!(bank_memory(precision, images), images as u64 * 8);
    }
}

#[test]
fn arms_of_different_data_make_equally_many_steps() {
    let steps = |arm: &str| {
        let recipe = recipe("dimensional-collapse", arm, &request());
        recipe.schedule.epochs * (recipe.data.train_images / recipe.schedule.batch) as u64
    };
    for arm in ["width=4", "width=32", "images=256", "images=512", "images=1024", "images=4096"] {
        assert_eq!(steps(arm), 2688, "{arm}");
    }
}

#[test]
fn another_choice_replaces_and_the_same_choice_merges() {
    let arm = |set: &[&str]| recipe("simsiam", "simsiam", &with_set(set));
    assert_eq!(
        arm(&["eta.memory-bank.m=0.5"]).eta,
        Rule::MemoryBank { m: 0.5, precision: Precision::F32, k: Steps::Count(1) }
    );
    assert_eq!(arm(&["eta=none"]).eta, Rule::None {});
    assert_eq!(arm(&["predictor=none"]).predictor, Predictor::None {});
    let merged = arm(&["predictor.mlp.hidden=7"]).predictor;
    assert_eq!(merged.config().map(|h| h.hidden), Some(7));
    assert_eq!(merged.config().map(|h| h.norm), arm(&[]).predictor.config().map(|h| h.norm));
}

#[test]
fn data_bring_what_fits_them() {
    let with = |data: &str| recipe("simsiam", "simsiam", &Request { data: Some(data.into()), ..request() });
    assert_eq!(with("folder:photos").augment.size, 32);
    assert_eq!(with("folder:photos").data.source, "folder:photos");
    assert!((with("cifar10:x").augment.mean[0] - 0.4914).abs() < 1e-6);
    assert_eq!(recipe("simsiam", "simsiam", &request()).augment.size, 16);
    let larger = Request { data: Some("folder:photos".into()), ..with_set(&["augment.size=64"]) };
    assert_eq!(recipe("simsiam", "simsiam", &larger).augment.size, 64);
}

#[test]
fn a_recipe_written_by_a_run_is_a_study_that_gives_the_same_recipe() {
    for study in Study::all().unwrap() {
        for arm in study.resolve(&request()).unwrap() {
            let recipe = Recipe { seed: 5, ..arm.recipe };
            let text = toml::to_string(&recipe).unwrap();
            let again = Study::parse("config", "config.toml", text).unwrap();
            let arms = again.resolve(&request()).unwrap();
            assert_eq!(arms.len(), 1);
            assert_eq!(arms[0].seeds, [5]);
            assert_eq!(arms[0].recipe, recipe);
        }
    }
}

const OWN: &str = r#"title    = "Mine"
question = "Is it mine?"
base     = "simsiam"
optim.weight_decay = 5e-4

[scale.laptop]
schedule.epochs = 7

[[flag]]
name   = "hidden"
sets   = "predictor.mlp.hidden"
like   = "small"
values = "N"
help   = "width"

[[arm]]
name = "small"
predictor.mlp.hidden = 16

[[claim]]
text   = "it learns"
metric = "val/knn_top1"
arm    = "small"
is     = "better than"
than   = "random initialisation"
"#;

#[test]
fn every_layer_wins_over_those_below_it() {
    let study = Study::parse("mine", "mine.toml", OWN.into()).unwrap();
    let arm = study.resolve(&request()).unwrap().remove(0);
    assert_eq!((arm.recipe.schedule.epochs, arm.recipe.optim.weight_decay), (7, 5e-4));
    let by: BTreeMap<String, String> =
        arm.tree.leaves().into_iter().map(|(key, e)| (key, e.origin.source.name.clone())).collect();
    assert_eq!(by["predictor.mlp.hidden"], "mine.toml");
    assert_eq!(by["predictor.mlp.norm"], "studies/base/simsiam.toml");
    assert_eq!(by["data.source"], "studies/scale/laptop.toml");
    assert_eq!(by["augment.size"], "studies/data/shapes.toml");
    let set = with_set(&["schedule.epochs=3"]);
    assert_eq!(study.resolve(&set).unwrap()[0].recipe.schedule.epochs, 3);
}

#[test]
fn mistakes_in_a_study_file_are_shown_at_their_place() {
    for (right, wrong, message, caret) in [
        ("title  ", "titel  ", "did you mean `title`?", "titel"),
        ("weight_decay = 5e-4", "weight_decay = -1.0", "optim.weight_decay", "-1.0"),
        ("weight_decay = 5e-4", "weight_decay = \"much\"", "expected a number", "\"much\""),
        ("schedule.epochs = 7", "schedule.epochs = -7", "expected a whole number", "-7"),
        ("schedule.epochs", "schedule.epoch", "did you mean `epochs`?", "epoch"),
        ("schedule.epochs = 7", "seeds = \"5..5\"", "`seeds`: no seeds", "\"5..5\""),
        ("schedule.epochs = 7", "seeds = \"a..b\"", "such as 10..18", "\"a..b\""),
        ("schedule.epochs = 7", "seeds = 0", "at least one seed", "0"),
        ("schedule.epochs = 7", "seeds = true", "a range in quotes", "true"),
        ("[scale.laptop]", "[scale.lapdog]", "did you mean `laptop`?", "lapdog"),
        ("mlp.hidden = 16", "mpl.hidden = 16", "did you mean `mlp`?", "mpl"),
        ("mlp.hidden = 16", "mlp.hiden = 16", "did you mean `hidden`?", "hiden"),
        ("mlp.hidden = 16", "none.hidden = 16", "hidden", "hidden"),
        ("base     = \"simsiam\"", "base = \"simsima\"", "did you mean `simsiam`?", "\"simsima\""),
        ("like   = \"small\"", "like = \"smal\"", "did you mean `small`?", "\"smal\""),
        ("name   = \"hidden\"", "name = \"seeds\"", "cannot be the name of a flag", "\"seeds\""),
        ("arm    = \"small\"", "arm = \"smal\"", "did you mean `small`?", "\"smal\""),
        ("val/knn_top1", "val/knn_top", "did you mean `val/knn_top1`?", "\"val/knn_top\""),
        ("\"better than\"", "\"bettr than\"", "did you mean `better than`?", "\"bettr than\""),
        ("\"better than\"", "\"at least\"", "needs `value`", "\"at least\""),
        ("name = \"small\"", "name = \"../up\"", "cannot be the name of a folder", "\"../up\""),
        ("question = \"Is", "question = Is", "opening quote", ""),
    ] {
        assert!(OWN.contains(right), "{right}");
        let text = OWN.replacen(right, wrong, 1);
        let refused = Study::parse("mine", "mine.toml", text).and_then(|study| study.resolve(&request()));
        let (said, under) = refusal(refused);
        assert!(said.contains(message), "{wrong}: {said}");
        assert_eq!(under, caret, "{wrong}: {said}");
    }
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    for (study, request, message) in [
        ("multistep", with_flag("k", &["0"]), "--k 0: 0 steps"),
        ("multistep", with_flag("k", &["-3"]), "--k -3: "),
        ("multistep", with_flag("k", &["many"]), "--k many: "),
        ("membank", with_flag("m", &["1.5"]), "--m 1.5: 1.5 is not between 0 and 1"),
        ("membank", with_flag("m", &["nan"]), "--m nan: "),
        ("simsiam", with_set(&["optim.base_lrr=1"]), "did you mean `base_lr`?"),
        ("simsiam", with_set(&["optim.base_lr=fast"]), "expected a number"),
        ("simsiam", with_set(&["optim"]), "expected key=value"),
        ("simsiam", with_set(&["eta=one-stp"]), "did you mean `one-step`?"),
        ("simsiam", with_set(&["seed=3"]), "--seeds"),
        ("simsiam", Request { data: Some("floder:x".into()), ..request() }, "did you mean `folder`?"),
        ("simsiam", Request { data: Some("folder:".into()), ..request() }, "--data folder:DIR"),
        ("simsiam", Request { scale: Some("cifar".into()), ..request() }, "--data cifar10:PATH"),
        ("simsiam", Request { scale: Some("lapdog".into()), ..request() }, "did you mean `laptop`?"),
    ] {
        let (said, _) = refusal(Study::find(study).unwrap().resolve(&request));
        assert!(said.contains(message), "{said}");
    }
    assert!(refusal(Study::find("multstep")).0.contains("did you mean `multistep`?"));
}

#[test]
fn seeds_are_those_of_the_command_line_the_study_or_the_scale() {
    let seeds = |text: &str, asked: Option<&str>| {
        let study = Study::parse("t", "t.toml", text.to_string()).unwrap();
        let seeds = asked.map(|asked| asked.parse().unwrap());
        study.resolve(&Request { seeds, scale: Some("smoke".into()), ..request() }).unwrap()[0].seeds.clone()
    };
    let own = format!("{OWN}[scale.smoke]\nseeds = \"4..6\"\n");
    assert_eq!(seeds(OWN, None), [0, 1], "the scale's");
    assert_eq!(seeds(OWN, Some("3")), [0, 1, 2]);
    assert_eq!(seeds(&own, None), [4, 5]);
    assert_eq!(seeds(&own, Some("3")), [4, 5, 6]);
    assert_eq!(seeds(&own, Some("10..12")), [10, 11]);
    // A recipe that a run left goes on from its own seed.
    let recipe = toml::to_string(&Recipe { seed: 5, ..recipe("simsiam", "simsiam", &request()) }).unwrap();
    let recipe = Study::parse("config", "config.toml", recipe).unwrap();
    let more = Request { seeds: Some("2".parse().unwrap()), ..request() };
    assert_eq!(recipe.resolve(&more).unwrap()[0].seeds, [5, 6]);
}

#[test]
fn an_arm_of_one_scale_is_trained_there_or_when_asked_for() {
    let at = |scale: Option<&str>, batches: &[&str]| {
        let data = scale.map(|_| "folder:/images".to_string());
        let request = Request { scale: scale.map(String::from), data, ..with_flag("batch", batches) };
        let arms = Study::find("batchsize").unwrap().resolve(&request).unwrap();
        arms.into_iter().map(|arm| (arm.name, arm.recipe.optim.warmup_epochs)).collect::<Vec<_>>()
    };
    let large = ("batch=4096".to_string(), 10);
    let arm = |batch: usize| (format!("batch={batch}"), 0);
    let small = |batch: usize| (format!("batch={batch}"), 1);
    assert!(!at(None, &[]).contains(&large) && !at(Some("smoke"), &[]).contains(&large));
    assert!(at(Some("imagenet"), &[]).contains(&large) && at(Some("cifar"), &[]).contains(&large));
    // An arm that others are compared with is trained whatever is asked for, at its scales only.
    assert_eq!(at(None, &["4096"]), [small(32), small(256), large.clone()]);
    assert_eq!(at(Some("imagenet"), &["4096"]), [arm(256), large]);
    assert_eq!(at(None, &[])[..2], [small(16), small(32)]);
    assert_eq!(at(Some("cifar"), &[])[..2], [arm(64), arm(128)]);
}

#[test]
fn the_scales_of_an_arm_are_a_name_or_a_list_of_known_ones() {
    let study = |at: &str| {
        let head = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n[[arm]]\nname = \"a\"\n";
        Study::parse("t", "t.toml", format!("{head}at = {at}\n"))
    };
    let scales = |at: &str| study(at).unwrap().arms.remove(0).at.unwrap().all().to_vec();
    assert_eq!(scales("\"cifar\""), ["cifar"]);
    assert_eq!(scales("[\"cifar\", \"imagenet\"]"), ["cifar", "imagenet"]);
    for (at, says, marked) in [
        ("[\"cifar\", \"imagnet\"]", "unknown scale `imagnet`; did you mean `imagenet`", "\"imagnet\""),
        ("\"laptpo\"", "unknown scale `laptpo`", "\"laptpo\""),
        ("3", "a scale's name or a list of such", "3"),
    ] {
        let (message, place) = refusal(study(at));
        assert!(message.contains(says) && place.contains(marked), "{at}: {message}, {place}");
    }
}

/// From 1024 on, and there 10 epochs, as in the paper; methods with LARS have their own paper's.
#[test]
fn large_batches_alone_are_warmed_up() {
    for scale in ["smoke", "laptop", "cifar", "imagenet"] {
        let data = (scale == "cifar" || scale == "imagenet").then(|| "folder:/images".to_string());
        let request = Request { scale: Some(scale.into()), data, ..request() };
        let arms = |study: &str| Study::find(study).unwrap().resolve(&request).unwrap();
        for arm in arms("batchsize").into_iter().chain(arms("batch-methods")) {
            let own = arm.recipe.optim.lars.is_some();
            // The laptop scale warms every arm up for an epoch.
            let otherwise = u64::from(scale == "laptop");
            let expected = if arm.recipe.schedule.batch >= 1024 || own { 10 } else { otherwise };
            assert_eq!(arm.recipe.optim.warmup_epochs, expected, "{scale}, {}", arm.name);
        }
        // A small and a large batch, the same for all methods; prototypes stay for an epoch.
        let sizes: Vec<(usize, usize)> =
            arms("batch-methods").chunks(2).map(|pair| (batch(&pair[0]), batch(&pair[1]))).collect();
        assert!(sizes.len() == 4 && sizes.iter().all(|size| *size == sizes[0]), "{scale}: {sizes:?}");
        assert!(sizes[0].0 * 8 <= sizes[0].1, "{scale}: {sizes:?}");
        let images = match scale {
            "smoke" => 160,
            "laptop" => 2000,
            "cifar" => 50_000,
            _ => 1_281_167,
        };
        for arm in arms("batch-methods").iter().filter(|arm| arm.name.starts_with("swav")) {
            let frozen = arm.recipe.objective.prototypes.unwrap().frozen_steps;
            assert_eq!(frozen, (images / batch(arm)) as u64, "{scale}, {}", arm.name);
        }
        // The paper's row without batch norm: a tenth of the epochs.
        let none = arms("batchnorm").into_iter().find(|arm| arm.name == "none").unwrap().recipe;
        let tenth = none.schedule.epochs as f64 / 10.0;
        assert!((none.optim.warmup_epochs as f64 - tenth).abs() < 1.0, "{scale}");
        if scale == "cifar" || scale == "imagenet" {
            assert!(arms("stopgrad").iter().all(|arm| arm.seeds.len() == 5), "{scale}");
        }
    }
}

fn batch(arm: &Arm) -> usize {
    arm.recipe.schedule.batch
}

#[test]
fn a_slash_behind_a_folder_makes_no_other_recipe() {
    let study = Study::find("simsiam").unwrap();
    let source = |data: &str| {
        let request = Request { data: Some(data.into()), ..request() };
        study.resolve(&request).unwrap()[0].recipe.data.source.clone()
    };
    assert_eq!(source("folder:images/"), "folder:images");
    assert_eq!(source("folder:images"), "folder:images");
    assert_eq!(source("folder:/"), "folder:/");
    assert_eq!(source("shapes"), "shapes");
}

/// SciPy 1.x: `stats.t.interval(0.95, n − 1, mean, stats.sem(values))`, and for the last one
/// `stats.ttest_rel(a, b).confidence_interval(0.95)` of the two arms below.
#[test]
fn intervals_are_those_of_scipy() {
    let (a, b) = ([51.0, 61.0, 71.1], [50.0, 60.0, 70.0]);
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    for (values, mean, half) in [
        (&[79.8, 98.2, 97.8][..], 91.93333333333334, 26.107487655477527),
        (&[1.0, 2.0], 1.5, 6.353102368087347),
        (&[0.91, 0.93, 0.92, 0.95, 0.90, 0.99], 0.9333333333333335, 0.03427442447515083),
        (&differences, 1.0333333333333314, 1.1767550909916387 - 1.0333333333333314),
    ] {
        let estimate = Estimate::of(values).unwrap();
        let got = estimate.half_width.unwrap();
        assert!((estimate.mean - mean).abs() < 1e-12 * mean.abs(), "{values:?}: {estimate:?}");
        // The quantile is found by iteration, in SciPy and here.
        assert!((got - half).abs() < 1e-9 * half, "{values:?}: {estimate:?}");
    }
    assert_eq!(Estimate::of(&[3.0]).unwrap().half_width, None);
    assert_eq!(Estimate::of(&[]), None);
}

const OF_A_METHOD: &str = r#"title    = "Mine"
question = "Is it mine?"
base     = "simclr"

[[arm]]
name = "simclr"
title = "SimCLR"

[[arm]]
name = "byol"
base = "byol"
predictor.mlp.hidden = 48

[arm.scale.smoke]
predictor.mlp.hidden = 24
"#;

#[test]
fn a_method_lies_on_the_scale_and_below_the_study() {
    let study = Study::parse("mine", "mine.toml", OF_A_METHOD.into()).unwrap();
    let at = |scale: &str| study.resolve(&Request { scale: Some(scale.into()), ..request() }).unwrap();
    let of = |arm: &simsiam_em::study::Arm, key: &str| {
        let leaves = arm.tree.leaves();
        let (_, entry) = leaves.into_iter().find(|(name, _)| name == key).unwrap();
        (entry.value().to_string(), entry.origin.source.name.clone())
    };
    let laptop = at("laptop");
    let [simclr, byol] = &laptop[..] else { panic!("two arms") };
    let stands = |value: &str, file: &str| (value.to_string(), format!("studies/{file}.toml"));
    // From SimSiam, from the scale, from the method, from the method at the scale.
    assert_eq!(of(simclr, "optim.momentum"), stands("0.9", "base/simsiam"));
    assert_eq!(of(simclr, "optim.weight_decay"), stands("0.0005", "scale/laptop"));
    assert_eq!(of(simclr, "optim.base_lr"), stands("1.6", "base/simclr"));
    assert_eq!(of(simclr, "encoder.projector.dim"), stands("128", "base/simclr"));
    assert_eq!(of(simclr, "encoder.projector.hidden"), stands("256", "base/simclr"));
    // A scale's predictor does not come back where the method has none.
    assert_eq!(simclr.recipe.predictor, simsiam_em::recipe::Predictor::None {});
    assert_eq!(of(byol, "objective.similarity"), stands("\"mse\"", "base/byol"));
    assert_eq!(of(byol, "predictor.mlp.hidden").0, "48");
    assert_eq!(of(&at("smoke")[1], "predictor.mlp.hidden").0, "24");
}

#[test]
fn an_unknown_base_of_an_arm_is_pointed_at() {
    let text = OF_A_METHOD.replace("base = \"byol\"", "base = \"byoll\"");
    let error = Study::parse("mine", "mine.toml", text).unwrap_err();
    let report = format!("{error:?}");
    assert!(report.contains("did you mean `byol`?"), "{report}");
}

#[test]
fn at_full_scale_each_method_has_its_own_papers_optimiser() {
    use simsiam_em::optim::Penalised;
    let request = Request { scale: Some("imagenet".into()), data: Some("folder:x".into()), ..request() };
    let arms = Study::find("methods").unwrap().resolve(&request).unwrap();
    // Batch, base lr, weight decay, whether it spares BN and biases, LARS.
    let of = |arm: &simsiam_em::study::Arm| {
        let optim = &arm.recipe.optim;
        let spares = optim.weight_decay_on == Penalised::Weights;
        let lars = optim.lars.map(|lars| lars.trust);
        (arm.recipe.schedule.batch, optim.base_lr, optim.weight_decay, spares, lars)
    };
    let got: Vec<_> = arms.iter().map(|arm| (arm.name.as_str(), of(arm))).collect();
    let expected = [
        ("simsiam", (256, 0.05, 1e-4, false, None)),
        ("simclr", (4096, 0.3, 1e-6, true, Some(0.001))),
        ("moco", (256, 0.03, 1e-4, false, None)),
        ("byol", (4096, 0.45, 1e-6, true, Some(0.001))),
        ("swav", (4096, 0.3, 1e-6, false, Some(0.001))),
    ];
    assert_eq!(got, expected);
}
