//! The order of the rooms: who may import whom, and what each may do. Every rule is a function of
//! the sources that gives a sentence for each fault, so that it can be seen to fail on sources with
//! a fault in them.

mod functions;
mod imports;

use functions::functions;
use imports::{Sources, circles, named, program};
use std::collections::BTreeSet;
use std::path::Path;

/// Each room and the rooms it may import, from the ground up. Those of [`OPEN`] are open to all.
const ROOMS: [(&str, &[&str]); 29] = [
    ("error", &[]),
    ("defaults", &[]),
    ("files", &[]),
    ("pickle", &[]),
    ("rng", &[]),
    ("threads", &[]),
    ("kernel", &[]),
    ("masks", &[]),
    ("store", &["kernel"]),
    // candle's arrays in GPU memory as the kernel room's spans.
    ("device", &["kernel"]),
    ("optim", &["device", "kernel"]),
    ("objective", &[]),
    ("augment", &[]),
    ("network", &["device", "kernel"]),
    ("detect", &["kernel", "network"]),
    ("data", &["augment", "masks"]),
    ("fetch", &[]),
    ("measure", &["masks"]),
    ("eta", &["kernel", "objective", "store"]),
    ("record", &["kernel", "store"]),
    ("theory", &["kernel", "measure"]),
    // A recipe may ask for the closed form in the place of training.
    ("recipe", &["augment", "data", "eta", "measure", "network", "objective", "optim", "theory"]),
    (
        "train",
        &[
            "augment",
            "data",
            "detect",
            "device",
            "eta",
            "kernel",
            "masks",
            "measure",
            "network",
            "objective",
            "optim",
            "recipe",
            "record",
            "store",
        ],
    ),
    (
        "doctor",
        &[
            "augment",
            "data",
            "device",
            "eta",
            "measure",
            "network",
            "objective",
            "optim",
            "recipe",
            "record",
            "train",
        ],
    ),
    // A model card says what was measured, from the files of the run.
    ("export", &["eta", "measure", "network", "recipe", "record", "train"]),
    ("report", &["augment", "masks", "measure", "record"]),
    // The formula that stands for training collapses where an objective is reported to.
    // A study names the figures that a report knows.
    (
        "study",
        &["data", "device", "eta", "measure", "objective", "recipe", "record", "report", "theory", "train"],
    ),
    // The rank correlation in a figure's caption is a measurement.
    ("figures", &["measure", "recipe", "record", "report", "study", "theory", "train"]),
    (
        "cli",
        &[
            "augment", "data", "device", "doctor", "export", "fetch", "figures", "kernel", "measure",
            "network", "recipe", "record", "report", "study", "theory", "train",
        ],
    ),
];

/// Rooms on which any other may stand.
const OPEN: [&str; 6] = ["defaults", "error", "files", "pickle", "rng", "threads"];
/// Rooms whose files may print.
const PRINTING: [&str; 1] = ["cli"];
/// Files beside the kernel room where `unsafe` may stand: a mapped file is memory that another
/// process could change, and setting a variable is safe only before the first thread.
const UNSAFE: [&str; 2] = ["store/mapped.rs", "threads.rs"];
/// What arithmetic does without, as paths begin: the world outside of the slices that it is given.
const IMPURE: [&str; 8] =
    ["std::fs", "std::env", "std::io", "candle_core", "candle_nn", "safetensors", "memmap2", "tempfile"];
/// A longer file is hard to read at one go.
const MOST_LINES: usize = 400;
/// So is a longer function.
const MOST_LINES_OF_A_FUNCTION: usize = 60;
/// More of them are mixed up where a function is called. Arithmetic, which is called by one place,
/// is let off.
const MOST_PARAMETERS: usize = 6;

fn add(folder: &Path, below: &str, sources: &mut Sources) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            add(&entry.path(), &format!("{name}/"), sources);
        } else if name.ends_with(".rs") && name != "main.rs" {
            sources.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// Every source file of the library.
fn sources() -> Sources {
    let mut sources = Sources::new();
    add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// Imports of rooms that do not lie below.
fn upward(sources: &Sources) -> BTreeSet<String> {
    let below = |room: &str| ROOMS.iter().find(|(name, _)| *name == room).map(|(_, below)| *below);
    let missing = sources.keys().filter(|file| *file != "lib.rs" && below(room(file)).is_none());
    let mut faults: BTreeSet<String> =
        missing.map(|file| format!("{file}: {} is missing from the table of rooms", room(file))).collect();
    for named in named(sources) {
        let (from, Some((by, file))) = (room(&named.from), &named.of_ours) else { continue };
        // What the crate's root hands on is reached by no room but its own.
        let to = if below(by).is_some() { by } else { room(file) };
        let open = from == to || OPEN.contains(&to);
        if !open && below(from).is_some_and(|below| !below.contains(&to)) {
            faults.insert(format!("{}: {from} imports {to}, which does not lie below it", named.from));
        }
    }
    faults
}

/// Circles of files.
fn round(sources: &Sources) -> BTreeSet<String> {
    circles(&named(sources)).into_iter().map(|circle| circle.join(" → ")).collect()
}

/// Files of the kernel room that know more than slices and shapes.
fn impure(sources: &Sources) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    for named in named(sources).into_iter().filter(|named| room(&named.from) == "kernel") {
        let begins =
            |with: &&str| named.path.strip_prefix(*with).is_some_and(|r| r.is_empty() || r.starts_with(':'));
        if IMPURE.iter().any(begins) {
            faults.insert(format!("{} is arithmetic and names {}", named.from, named.path));
        }
    }
    faults
}

/// Files that print and may not.
fn printing(sources: &Sources) -> BTreeSet<String> {
    let prints = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    let named = named(sources).into_iter().filter(|named| !PRINTING.contains(&room(&named.from)));
    named.filter(|n| prints.contains(&n.path.as_str())).map(|n| format!("{} prints", n.from)).collect()
}

/// Files with `unsafe` in the wrong place.
fn unsafe_elsewhere(sources: &Sources) -> BTreeSet<String> {
    let elsewhere = sources.iter().filter(|(f, _)| room(f) != "kernel" && !UNSAFE.contains(&f.as_str()));
    let found = elsewhere.filter(|(_, text)| program(text).iter().any(|word| word == "unsafe"));
    found.map(|(file, _)| format!("{file} has unsafe code")).collect()
}

/// Functions that are too long to read, or take too much to be called safely.
fn overgrown(sources: &Sources) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    for (file, text) in sources {
        for function in functions(text) {
            if function.lines > MOST_LINES_OF_A_FUNCTION {
                faults.insert(format!("{file}: {} has {} lines", function.name, function.lines));
            }
            if function.parameters > MOST_PARAMETERS && room(file) != "kernel" {
                faults.insert(format!("{file}: {} has {} parameters", function.name, function.parameters));
            }
        }
    }
    faults
}

#[test]
fn the_table_of_rooms_leads_downwards() {
    for (index, (room, below)) in ROOMS.iter().enumerate() {
        for other in *below {
            let lies_below = ROOMS[..index].iter().any(|(name, _)| name == other);
            assert!(lies_below, "{room} → {other} is not downwards");
        }
    }
}

#[test]
fn the_house_stands() {
    let sources = sources();
    let none = BTreeSet::new();
    assert_eq!(upward(&sources), none);
    assert_eq!(round(&sources), none);
    assert_eq!(impure(&sources), none);
    assert_eq!(printing(&sources), none);
    assert_eq!(unsafe_elsewhere(&sources), none);
}

#[test]
fn no_file_is_too_long_to_read() {
    for (file, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines");
    }
}

#[test]
fn every_function_is_read_at_a_glance() {
    assert_eq!(overgrown(&sources()), BTreeSet::new());
}

#[test]
fn a_function_that_has_overgrown_is_found() {
    let many = "fn many<F: Fn(u8) -> u8>(&self, (a, b): (u8, u8), c: Map<u8, u8>, d: [u8; 2], e: F, f: impl \
        Fn(u8, u8) -> Map<u8, u8>, g: u8, h: u8,) -> u8 where F: Copy { let text = \"} fn {\"; a }";
    let told = overgrown(&with("measure/plane.rs", many));
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["measure/plane.rs: many has 7 parameters"]);
    assert_eq!(overgrown(&with("kernel/pool.rs", many)), BTreeSet::new());
    for (lines, is_told) in [(60, false), (61, true)] {
        let body = "    // } a comment\n".repeat(lines - 2);
        let long = format!("fn long() -> [u8; 2] {{\n{body}}}\nfn short(f: fn(u8) -> u8) {{}}\n");
        let told = overgrown(&with("kernel/pool.rs", &long));
        let expected = is_told.then(|| format!("kernel/pool.rs: long has {lines} lines"));
        assert_eq!(told, expected.into_iter().collect());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(overgrown(&with("kernel/pool.rs", &tests)), BTreeSet::new());
    }
}

/// Our sources with `text` behind those of `file`.
fn with(file: &str, text: &str) -> Sources {
    let mut sources = sources();
    sources.get_mut(file).unwrap().push_str(text);
    sources
}

#[test]
fn an_arrow_upwards_is_found_however_it_is_written() {
    for text in [
        "use crate::study::Study;",
        "use crate::{error::Result, study::{self as questions, Study as Question}};",
        "use super::super::study;\nfn f() { study::jobs(); }",
        "fn f() -> Option<crate::study::Study> { None }",
        "#[cfg(test)]\nuse crate::rng::stream;\nfn f() { crate::study::jobs() }",
        "#[cfg(test)]\nmod tests { fn f() { if '{' == '\\'' {} } }\nmod more { use super::super::super::study::Study; }",
    ] {
        let told = upward(&with("measure/plane.rs", text));
        let expected = "measure/plane.rs: measure imports study, which does not lie below it";
        assert_eq!(told, [expected.to_string()].into(), "{text}");
    }
    for text in [
        "// crate::study::Study",
        "const S: &str = \"crate::study::Study\";",
        "const S: &str = r#\"\" crate::study::S\"#;",
        "#[cfg(test)]\nmod tests { use crate::study::Study; }",
    ] {
        assert_eq!(upward(&with("measure/plane.rs", text)), BTreeSet::new(), "{text}");
    }
}

#[test]
fn a_circle_of_files_is_found_through_what_hands_on() {
    let circle = "measure/collapse.rs → measure/knn.rs → measure/collapse.rs";
    for text in [
        "use super::collapse::is_collapsed;",
        "use super::collapse::*;",
        "use super::collapse;\nfn f() { collapse::is_collapsed(); }",
    ] {
        assert!(round(&with("measure/knn.rs", text)).contains(circle), "{text}");
    }
    let handed_on = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod x; mod y; mod z; pub use x::X; pub use y::Y as Why; pub use self::z::Z;"),
        ("a/x.rs", "use super::Why; pub struct X;"),
        ("a/y.rs", "use crate::a::Z; pub struct Y;"),
        ("a/z.rs", "pub struct Z; fn f() -> super::X { super::X }"),
    ];
    let mut sources: Sources = handed_on.map(|(file, text)| (file.to_string(), text.to_string())).into();
    assert_eq!(round(&sources), ["a/x.rs → a/y.rs → a/z.rs → a/x.rs".to_string()].into());
    sources.insert("a/z.rs".into(), "pub struct Z;".into());
    assert_eq!(round(&sources), BTreeSet::new());
}

#[test]
fn what_a_room_must_not_do_is_found() {
    let one = |sentence: &str| BTreeSet::from([sentence.to_string()]);
    let told = impure(&with("kernel/pool.rs", "fn f() { let _ = std::fs::read(\"x\"); }"));
    assert_eq!(told, one("kernel/pool.rs is arithmetic and names std::fs::read"));
    let told = impure(&with("kernel/pool.rs", "use {std::{env, fmt}, std::sync::Arc};"));
    assert_eq!(told, one("kernel/pool.rs is arithmetic and names std::env"));
    assert_eq!(impure(&with("kernel/cpu.rs", "use candle_core::Tensor;")).len(), 1);
    assert_eq!(printing(&with("train/cost.rs", "fn f() { println!(); }")), one("train/cost.rs prints"));
    let told = unsafe_elsewhere(&with("train/cost.rs", "unsafe fn f() {}"));
    assert_eq!(told, one("train/cost.rs has unsafe code"));
}
