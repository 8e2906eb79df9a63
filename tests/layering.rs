//! The order of the rooms: who may import whom, and what each may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import, from the ground up. Those of [`OPEN`] are open to all.
const ROOMS: [(&str, &[&str]); 22] = [
    ("error", &[]),
    ("files", &[]),
    ("rng", &[]),
    ("threads", &[]),
    ("kernel", &[]),
    ("store", &["kernel"]),
    // candle's arrays in GPU memory as the kernel room's spans.
    ("device", &["kernel"]),
    ("optim", &["device", "kernel"]),
    ("objective", &[]),
    ("augment", &[]),
    ("network", &["device", "kernel"]),
    ("data", &["augment"]),
    ("measure", &[]),
    ("eta", &["kernel", "objective", "store"]),
    ("record", &["kernel", "store"]),
    ("theory", &["measure"]),
    // A recipe may ask for the closed form in the place of training.
    ("recipe", &["augment", "data", "eta", "measure", "network", "objective", "optim", "theory"]),
    (
        "train",
        &[
            "augment",
            "data",
            "device",
            "eta",
            "kernel",
            "measure",
            "network",
            "objective",
            "optim",
            "recipe",
            "record",
        ],
    ),
    ("report", &["augment", "measure", "record"]),
    // The formula that stands for training collapses where an objective is reported to.
    ("study", &["data", "device", "eta", "measure", "objective", "recipe", "record", "theory", "train"]),
    // The rank correlation in a figure's caption is a measurement.
    ("figures", &["measure", "recipe", "record", "report", "study", "theory", "train"]),
    (
        "cli",
        &[
            "augment", "data", "device", "figures", "kernel", "measure", "network", "recipe", "record",
            "report", "study", "theory", "train",
        ],
    ),
];

/// Rooms on which any other may stand.
const OPEN: [&str; 3] = ["error", "files", "rng"];
/// Rooms whose files may print.
const PRINTING: [&str; 1] = ["cli"];
/// Files beside the kernel room where `unsafe` may stand: a mapped file is memory that another process could
/// change, and setting a variable is safe only before the first thread.
const UNSAFE: [&str; 2] = ["store/mapped.rs", "threads.rs"];
/// A longer file is hard to read at one go.
const MOST_LINES: usize = 400;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// (room, path, text) of every source file but main.rs and lib.rs.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    let named = found.into_iter().map(|path| {
        let first = path.strip_prefix(&src).unwrap().components().next().unwrap();
        let room = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        (room, path, text)
    });
    named.filter(|(room, ..)| room != "main" && room != "lib").collect()
}

/// The program's part of a file: without comments and without its tests.
fn program(text: &str) -> String {
    let program = text.split("#[cfg(test)]").next().unwrap_or_default();
    program.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_room_imports_only_from_rooms_below_it() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ROOMS.iter().map(|(room, below)| (*room, below.iter().copied().collect())).collect();
    for (index, (room, below)) in ROOMS.iter().enumerate() {
        for other in *below {
            assert!(
                ROOMS[..index].iter().any(|(name, _)| name == other),
                "{room} → {other} is not downwards"
            );
        }
    }
    for (room, path, text) in sources() {
        let Some(below) = allowed.get(room.as_str()) else { panic!("{room} is missing from the table") };
        for part in program(&text).split("crate::").skip(1) {
            let other: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let known = allowed.contains_key(other.as_str());
            let open = other == room || OPEN.contains(&other.as_str()) || !known;
            assert!(open || below.contains(other.as_str()), "{}: {room} imports {other}", path.display());
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    for (room, path, text) in sources() {
        let prints = ["println!", "print!(", "eprintln!", "eprint!(", "dbg!("];
        let found = prints.iter().find(|word| program(&text).contains(**word));
        assert!(found.is_none() || PRINTING.contains(&room.as_str()), "{} prints", path.display());
    }
}

#[test]
fn unsafe_stands_where_its_argument_is_known() {
    for (room, path, text) in sources() {
        let allowed = room == "kernel" || UNSAFE.iter().any(|file| path.ends_with(file));
        assert!(allowed || !program(&text).contains("unsafe "), "{}", path.display());
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}
