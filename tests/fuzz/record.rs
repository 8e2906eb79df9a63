//! What runs leave on disk, read again: checkpoints, tables, results.

#[cfg(test)]
use super::run;
#[cfg(test)]
use crate::support::within;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use simsiam_em::record::{RunDir, SavedTensor, Snapshot, read_env, read_metrics, read_outcome};
use simsiam_em::report::{Chapter, Figure, Format, page, text};
use simsiam_em::store::Numbers;
use std::collections::BTreeMap;
#[cfg(test)]
use std::path::Path;
#[cfg(test)]
use std::process::Command;

thread_local! {
    /// A run with one generation, at step 4.
    static RUN: (tempfile::TempDir, RunDir) = {
        let folder = tempfile::tempdir().expect("a folder");
        let run = RunDir::open(folder.path(), "seed = 1\n", true).expect("a run");
        let theta: Vec<f32> = (0..40).map(|i| i as f32).collect();
        let tensor = |name: &str, shape| SavedTensor { name: name.into(), shape, data: Numbers::from(&theta[..]) };
        let tensors = vec![tensor("theta", vec![4, 10]), tensor("eta.bank", vec![40])];
        let mut logs = run.metrics(&["train/loss"]).expect("logs");
        logs.row(4, 1.0, 64, 0.1, &[("train/loss", 0.5)]).expect("a row");
        run.save(&Snapshot { step: 4, tensors, integers: BTreeMap::from([("a".into(), 7)]) }, &mut logs).expect("saved");
        (folder, run)
    };
}

/// The bytes of one of the two files of that generation.
fn generation(name: &str) -> Vec<u8> {
    RUN.with(|(folder, _)| {
        std::fs::read(folder.path().join("checkpoints/step-0000000004").join(name)).expect("bytes")
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A manifest with the checksum that belongs to it, where it is JSON at all.
fn believed(manifest: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(manifest) else { return manifest.to_vec() };
    if let Some(object) = value.as_object_mut() {
        object.remove("manifest_sha256");
        let checksum = hex(&Sha256::digest(value.to_string().as_bytes()));
        value["manifest_sha256"] = json!(checksum);
    }
    value.to_string().into_bytes()
}

/// Takes the run up from these two files.
fn take_up(manifest: &[u8], state: &[u8]) {
    RUN.with(|(folder, run)| {
        let generation = folder.path().join("checkpoints/step-0000000004");
        std::fs::create_dir_all(&generation).expect("a folder");
        std::fs::write(
            folder.path().join("metrics.csv"),
            "step,epoch,samples,wall_s,train/loss\n4,1,64,0.1,0.5\n",
        )
        .expect("written");
        std::fs::write(generation.join("manifest.json"), manifest).expect("written");
        std::fs::write(generation.join("state.safetensors"), state).expect("written");
        let _ = run.resume();
    });
}

/// Takes up a run whose manifest is this, with a right checksum.
pub fn manifest(bytes: &[u8]) {
    thread_local!(static STATE: Vec<u8> = generation("state.safetensors"));
    STATE.with(|state| take_up(&believed(bytes), state));
}

/// Takes up a run whose state is this and whose manifest believes it.
pub fn state(bytes: &[u8]) {
    let files = json!({ "len_bytes": bytes.len(), "sha256": hex(&Sha256::digest(bytes)) });
    let manifest =
        json!({ "schema": 1, "step": 4, "files": { "state.safetensors": files }, "logs_len_bytes": {} });
    take_up(&believed(manifest.to_string().as_bytes()), bytes);
}

/// The files that a study of made-up numbers leaves: those of its folder and of one of its runs.
#[cfg(test)]
fn study() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["run", "membank", "--scale", "mock", "--seeds", "2", "-q", "--out"];
    let ended = within(60, Command::new(env!("CARGO_BIN_EXE_sim")).args(args).arg(folder.path()));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    folder
}

/// The files below `folder` whose names end so.
#[cfg(test)]
fn ending(folder: &Path, end: &str) -> Vec<Vec<u8>> {
    let (mut folders, mut paths) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.to_string_lossy().ends_with(end) => paths.push(path),
                _ => {}
            }
        }
    }
    paths.sort();
    paths.truncate(6);
    paths.iter().map(|path| std::fs::read(path).expect("bytes")).collect()
}

/// Reads a run's table of numbers.
pub fn metrics(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("metrics.csv");
    std::fs::write(&path, bytes).expect("written");
    if let Ok(table) = read_metrics(&path) {
        table.names().iter().for_each(|name| drop((table.points("epoch", name), table.largest(name))));
    }
}

/// Reads a figure's points; a small part of what can be read is drawn, which takes longer.
pub fn figure(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("figure.csv");
    std::fs::write(&path, bytes).expect("written");
    if let Ok(figure) = Figure::from_csv(&path)
        && Sha256::digest(bytes)[0] < 8
    {
        let _ = figure.draw(&folder.path().join("figure"));
    }
}

/// Reads the results of a run and the answer of a study, and reports on it.
pub fn results(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["outcome.json", "env.json", "answer.json"] {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let _ = (read_outcome(folder.path()), read_env(folder.path()));
    if let Ok(chapter) = Chapter::read(folder.path()) {
        let chapters = [chapter];
        let _ = (page(&chapters), text(&chapters, Format::Markdown), text(&chapters, Format::Latex));
    }
}

#[test]
fn manifests_are_taken_up_or_set_aside() {
    run("manifest", vec![generation("manifest.json")], manifest);
}

#[test]
fn states_are_taken_up_or_set_aside() {
    run("state", vec![generation("state.safetensors")], state);
}

#[test]
fn metrics_are_read_or_refused() {
    run("metrics CSV", ending(study().path(), "metrics.csv"), metrics);
}

#[test]
fn figures_are_read_or_refused() {
    let folder = study();
    let mut corpus = ending(&folder.path().join("membank/figures"), ".csv");
    corpus.iter_mut().for_each(|text| text.truncate(20_000));
    // The last line may have been cut.
    corpus
        .iter_mut()
        .for_each(|text| text.truncate(text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)));
    run("figure CSV", corpus, figure);
}

#[test]
fn results_are_read_or_refused() {
    let folder = study();
    let corpus = ["answer.json", "outcome.json", "env.json"].map(|name| ending(folder.path(), name));
    run("results JSON", corpus.concat(), results);
}
