//! The run directory: locks, recipes, tables, events, checkpoints, and every moment of a kill.

mod checkpoints;
mod directory;
mod kills;
mod logs;

use simsiam_em::record::{MetricsLog, RunDir, SavedTensor, Snapshot};
use simsiam_em::store::Numbers;
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "seed = 1\n[eta.memory-bank]\nm = 0.5\n";
const COLUMNS: [&str; 2] = ["train/loss", "val/knn_top1"];

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(path: &Path) -> RunDir {
    // Other tests of this process start programs; between fork and exec a child holds every lock.
    for _ in 0..200 {
        match RunDir::open(path, CONFIG, false) {
            Err(simsiam_em::Error::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened.expect("the run directory opens"),
        }
    }
    panic!("the run directory stays in use")
}

/// The state after `step` steps of a make-believe training: every number depends on all before it.
fn state(step: u64) -> Vec<f32> {
    (0..step).fold((0..1000).map(|i| i as f32 / 1000.0).collect(), advance)
}

fn advance(state: Vec<f32>, step: u64) -> Vec<f32> {
    let rotated = state.iter().cycle().skip(1);
    state.iter().zip(rotated).map(|(a, b)| (0.75 * a + 0.5 * b + step as f32 * 1e-3).sin()).collect()
}

fn snapshot(step: u64, state: &[f32]) -> Snapshot<'_> {
    let tensor =
        |name: &str, shape, data| SavedTensor { name: name.into(), shape, data: Numbers::from(data) };
    Snapshot {
        step,
        tensors: vec![tensor("theta", vec![10, 100], state), tensor("eta.bank", vec![7], &state[..7])],
        integers: BTreeMap::from([("epoch.loss".into(), 0.1f64.to_bits()), ("epoch.steps".into(), step)]),
    }
}

fn row(logs: &mut MetricsLog, step: u64, loss: f32) {
    let values = [("train/loss", f64::from(loss))];
    logs.row(step, step as f64 / 4.0, step * 64, step as f64 * 0.37, &values).expect("a row is written");
}

/// Trains to `steps`, a row after every step and a generation after every second.
fn train(dir: &RunDir, steps: u64) {
    let resumed = dir.resume().expect("the run is taken up");
    let mut logs = dir.metrics(&COLUMNS).expect("the logs open");
    let (mut step, mut state) = match resumed {
        Some(mut snapshot) => (snapshot.step, snapshot.tensors.remove(1).data.into_f32().expect("numbers")),
        None => (0, state(0)),
    };
    while step < steps {
        state = advance(state, step);
        step += 1;
        row(&mut logs, step, state[0]);
        if step.is_multiple_of(2) {
            dir.save(&snapshot(step, &state), &mut logs).expect("a generation is saved");
        }
    }
}

/// Everything that must be equal between two equal runs: (name, bytes). Event files count by
/// length, for their times differ, and so do their names.
fn remains(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut remains = Vec::new();
    for entry in std::fs::read_dir(path).expect("the folder is listed") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            remains.extend(
                self::remains(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else if name.starts_with("events.out.tfevents.") {
            let len = path.metadata().expect("metadata").len();
            remains.push(("events".into(), len.to_le_bytes().to_vec()));
        } else if name != "manifest.json" {
            remains.push((name, std::fs::read(&path).expect("bytes")));
        }
    }
    remains.sort();
    remains
}

/// Two runs left the same; names what differs rather than printing thousands of bytes.
fn assert_same(left: &[(String, Vec<u8>)], right: &[(String, Vec<u8>)], context: &str) {
    let only = |a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]| -> Vec<String> {
        a.iter()
            .filter(|file| !b.contains(file))
            .map(|(name, bytes)| format!("{name} ({} B)", bytes.len()))
            .collect()
    };
    assert!(left == right, "{context}: {:?} against {:?}", only(left, right), only(right, left));
}
