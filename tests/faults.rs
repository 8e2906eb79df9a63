//! Kills and failing disks at every call that changes files: whatever is cut short, the same
//! command again ends with the same bytes and leaves no temporary file.
//!
//! `SIM_FAULTS=all cargo test --release --test all faults:: -- --nocapture` tries every call, and a
//! number in the place of `all` for so many seconds; otherwise each test tries for a few seconds,
//! in an order that spreads over all calls.

#![cfg(target_os = "linux")]

use crate::support::within;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// How long each test tries.
const SECONDS: u64 = 7;
/// What happens at a call: see faults.c.
const KINDS: [&str; 4] = ["kill", "half", "5", "28"];

/// The shim that makes calls fail, built in `folder`; none where there is no C compiler.
fn shim(folder: &Path) -> Option<PathBuf> {
    let (source, built) = (crate::support::root().join("tests/faults.c"), folder.join("faults.so"));
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&built).arg(source).arg("-ldl");
    if compile.output().is_ok_and(|output| output.status.success()) {
        return Some(built);
    }
    println!("skipped: no C compiler (cc) that could build tests/faults.c");
    None
}

/// A command that is disturbed, and what lies there before it.
struct Case {
    shim: PathBuf,
    /// Where everything is.
    root: PathBuf,
    args: Vec<&'static str>,
    /// The same command for the second try.
    again: Vec<&'static str>,
}

impl Case {
    fn command(&self, out: &Path, args: &[&str], at: usize, kind: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(args).arg("--out").arg(out).env("LD_PRELOAD", &self.shim);
        command.env("SIM_FAULT_BELOW", out).env("SIM_FAULT_AT", at.to_string());
        command.env("SIM_FAULT_KIND", kind).env("SIM_FAULT_COUNT", self.root.join("count"));
        command
    }

    /// Runs undisturbed; how many calls that took.
    fn undisturbed(&self, out: &Path, args: &[&str]) -> usize {
        let output = within(120, &mut self.command(out, args, 0, ""));
        assert!(output.status.success(), "{}", said(&output));
        std::fs::read_to_string(self.root.join("count")).unwrap().trim().parse().unwrap()
    }

    /// Runs disturbed, again undisturbed, and compares; how the disturbed one ended.
    fn try_at(&self, before: Option<&Path>, expected: &Remains, at: usize, kind: &str) -> Option<i32> {
        let out = self.root.join("tried");
        if out.exists() {
            std::fs::remove_dir_all(&out).unwrap();
        }
        if let Some(before) = before {
            copy(before, &out);
        }
        let disturbed = within(120, &mut self.command(&out, &self.args, at, kind));
        let code = disturbed.status.code();
        let what = format!("{kind} at call {at} of {:?}: {}", self.args, said(&disturbed));
        assert!(!said(&disturbed).contains("panicked"), "{what}");
        // Killed; or an error of the disk; or a call whose failure is no harm, or not met.
        assert!(matches!(code, None | Some(0 | 5)), "{code:?} after {what}");
        if code == Some(5) {
            assert!(said(&disturbed).contains(": cannot "), "{what}");
        }
        let again = within(120, &mut self.command(&out, &self.again, 0, ""));
        assert!(again.status.success(), "{} after {what}", said(&again));
        let remains = Remains::of(&out);
        assert!(*expected == remains, "{:?} after {what}", expected.differences(&remains));
        code
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => assert!(std::fs::copy(&path, &target).is_ok()),
        }
    }
}

/// Every file that a command left, by its path; of files that hold times, that they are there.
#[derive(PartialEq)]
struct Remains(BTreeMap<String, Vec<u8>>);

impl Remains {
    fn of(out: &Path) -> Remains {
        let mut files = BTreeMap::new();
        let mut folders = vec![out.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                // A study's are made by commands that start over. The lock holds nothing, and an
                // owner that could not be removed is believed by nobody on this machine.
                let name = path.file_name().unwrap().to_string_lossy();
                if name == ".lock" || name.contains(".owner") {
                    continue;
                }
                let mut name = path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
                let bytes = std::fs::read(&path).unwrap();
                let bytes = match path.file_name().unwrap().to_str().unwrap() {
                    "metrics.csv" => without_wall_clock(&bytes),
                    "manifest.json" | "answer.json" | "report.html" | "outcome.json" => Vec::new(),
                    // The times of saving are in there.
                    "state.safetensors" => Vec::new(),
                    file if file.starts_with("events.") => {
                        name = name.replace(file, "events");
                        bytes.len().to_le_bytes().to_vec()
                    }
                    _ => bytes,
                };
                files.insert(name, bytes);
            }
        }
        Remains(files)
    }

    fn differences(&self, other: &Remains) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

fn without_wall_clock(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let rows = text.lines().map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..3], &cells[4..]].concat().join(",")
    });
    rows.collect::<Vec<_>>().join("\n").into_bytes()
}

/// Tries `args` with every kind of fault at as many calls as there is time for, on what `first`
/// left, if anything.
fn disturb(name: &str, first: Option<&[&'static str]>, args: &[&'static str], again: &[&'static str]) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let Some(shim) = shim(&root) else { return };
    let case = Case { shim, root: root.clone(), args: args.to_vec(), again: again.to_vec() };
    let before = first.map(|first| {
        case.undisturbed(&root.join("before"), first);
        root.join("before")
    });
    let whole = root.join("tried");
    if let Some(before) = &before {
        copy(before, &whole);
    }
    let calls = case.undisturbed(&whole, args);
    let expected = Remains::of(&whole);
    assert!(calls > 40, "only {calls} calls");
    let seconds = match std::env::var("SIM_FAULTS").as_deref() {
        Ok("all") => u64::MAX,
        asked => asked.map_or(SECONDS, |seconds| seconds.parse().unwrap()),
    };
    // Steps of the golden ratio spread over all tries, whenever time is up.
    let total = calls * KINDS.len();
    let step =
        (1..total).rev().find(|step| step * 1618 < total * 1000 && gcd(*step, total) == 1).unwrap_or(1);
    let (begun, mut tried, mut killed, mut failed) = (Instant::now(), 0, 0, 0);
    for i in 0..total {
        if begun.elapsed().as_secs() > seconds {
            break;
        }
        let place = i * step % total;
        let (at, kind) = (place / KINDS.len() + 1, KINDS[place % KINDS.len()]);
        match case.try_at(before.as_deref(), &expected, at, kind) {
            None => killed += 1,
            Some(5) => failed += 1,
            _ => {}
        }
        tried += 1;
    }
    println!(
        "{name}: {calls} calls; tried {tried} of {total} faults, all held: {killed} kills, {failed} errors of the disk"
    );
    assert!(tried > 2);
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

const MOCK: [&str; 8] = ["run", "simsiam", "--scale", "mock", "--seeds", "1", "--jobs=1", "-q"];
const SMOKE: [&str; 14] = [
    "run",
    "membank",
    "--m=0.8",
    "--scale=smoke",
    "--seeds=1",
    "--jobs=1",
    "--threads=1",
    "-q",
    "--set=schedule.epochs=2",
    "--set=data.train_images=64",
    "--set=data.test_images=20",
    "--set=measure.em.images=4",
    "--set=measure.em.trajectory=true",
    "--set=measure.em.views=4",
];

#[test]
fn an_answer_survives() {
    disturb("answer", None, &MOCK, &MOCK);
}

#[test]
fn training_survives() {
    disturb("training", None, &SMOKE, &SMOKE);
}

#[test]
fn starting_over_survives() {
    let fresh = [&SMOKE[..], &["--fresh"]].concat();
    disturb("starting over", Some(&SMOKE), &fresh, &SMOKE);
}
