//! Generations: what is written, what is believed, what is kept.

use super::*;
use simsiam_em::Error;
use simsiam_em::store::{Part, Plain, Reader};
use std::path::PathBuf;
use std::sync::Arc;

fn generation(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("checkpoints/step-{step:010}"))
}

fn generations(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("checkpoints")).expect("checkpoints");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("bytes");
    bytes[at] ^= 4;
    std::fs::write(file, bytes).expect("written");
}

/// A folder in which ten steps were trained: generations 8 and 10.
fn trained() -> tempfile::TempDir {
    let folder = temporary();
    train(&open(folder.path()), 10);
    folder
}

/// A trained run, taken up, and its logs.
fn taken_up() -> (tempfile::TempDir, RunDir, MetricsLog) {
    let folder = trained();
    let dir = open(folder.path());
    dir.resume().expect("readable");
    let logs = dir.metrics(&COLUMNS).expect("logs");
    (folder, dir, logs)
}

#[test]
fn a_snapshot_is_read_back_as_it_was_saved_and_two_are_kept() {
    let folder = trained();
    assert_eq!(generations(folder.path()), ["step-0000000008", "step-0000000010"]);
    let read = open(folder.path()).resume().expect("readable").expect("a generation");
    let state = state(10);
    let mut saved = snapshot(10, &state);
    saved.tensors.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(read, saved);
}

/// A kill between saving and forgetting, and then nothing more to save.
#[test]
fn taking_up_a_run_forgets_what_saving_could_not() {
    let folder = trained();
    let old = generation(folder.path(), 6);
    std::fs::create_dir(&old).expect("a folder");
    for entry in std::fs::read_dir(generation(folder.path(), 8)).expect("a generation") {
        let file = entry.expect("an entry").path();
        std::fs::copy(&file, old.join(file.file_name().expect("a name"))).expect("copied");
    }
    open(folder.path()).resume().expect("readable").expect("a generation");
    assert_eq!(generations(folder.path()), ["step-0000000008", "step-0000000010"]);
}

#[test]
fn the_same_snapshot_gives_the_same_bytes_which_safetensors_reads() {
    let bytes =
        |folder: &Path| std::fs::read(generation(folder, 10).join("state.safetensors")).expect("bytes");
    let (a, b) = (trained(), trained());
    assert_eq!(bytes(a.path()), bytes(b.path()));
    let bytes = bytes(a.path());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let metadata = header.metadata().as_ref().expect("metadata");
    assert_eq!(metadata.get("step").map(String::as_str), Some("10"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("readable");
    let theta = tensors.tensor("theta").expect("theta");
    assert_eq!((theta.dtype(), theta.shape()), (safetensors::Dtype::F32, &[10, 100][..]));
    let numbers: Vec<f32> =
        theta.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect();
    assert_eq!(numbers, state(10));
    assert!(bytes.len().is_multiple_of(4) && theta.data().as_ptr().align_offset(4) == 0);
}

#[test]
fn the_step_of_a_generation_can_be_saved_again() {
    let (folder, dir, mut logs) = taken_up();
    row(&mut logs, 10, 9.0);
    let state = state(11);
    dir.save(&snapshot(10, &state), &mut logs).expect("saved");
    assert_eq!(generations(folder.path()), ["step-0000000008", "step-0000000010"]);
    let read = dir.resume().expect("readable").expect("a generation");
    assert_eq!(read.tensors[1].data, state.into());
}

#[test]
fn every_kind_of_damage_falls_back_to_the_generation_before() {
    let manifest = |folder: &Path| generation(folder, 10).join("manifest.json");
    let tensors = |folder: &Path| generation(folder, 10).join("state.safetensors");
    let len = |path: &Path| path.metadata().expect("metadata").len() as usize;
    let cut = |path: &Path, by: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(len(path) as u64 - by).expect("cut");
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let pipe = |path: &Path| {
        std::fs::remove_file(path).expect("removed");
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    };
    let damages: [Damage; 11] = [
        ("manifest.json is missing", &|f| std::fs::remove_file(manifest(f)).expect("removed")),
        ("manifest.json", &|f| cut(&manifest(f), 9)),
        ("checksum", &|f| {
            let text = std::fs::read_to_string(manifest(f)).expect("text");
            std::fs::write(manifest(f), text.replace("\"step\": 10", "\"step\": 11")).expect("written");
        }),
        ("its length", &|f| cut(&tensors(f), 1)),
        ("its length", &|f| std::fs::write(tensors(f), "").expect("written")),
        ("state.safetensors", &|f| std::fs::remove_file(tensors(f)).expect("removed")),
        ("SHA-256", &|f| flip(&tensors(f), len(&tensors(f)) - 1)),
        ("header is longer", &|f| flip(&tensors(f), 6)),
        ("manifest.json cannot be read: it is a pipe", &|f| pipe(&manifest(f))),
        ("state.safetensors: it is a pipe", &|f| pipe(&tensors(f))),
        ("metrics.csv has", &|f| cut(&f.join("metrics.csv"), 1)),
    ];
    let undamaged = trained();
    for (expected, damage) in damages {
        let folder = trained();
        damage(folder.path());
        let dir = open(folder.path());
        let read = dir.resume().expect("it falls back").expect("a generation");
        assert_eq!(read.step, 8, "{expected}");
        let notes = dir.take_notes().join("\n");
        assert!(notes.contains(expected) && notes.contains("step-0000000010"), "{expected}: {notes}");
        assert!(notes.ends_with("broken-step-0000000010; going on from step 8"), "{notes}");
        assert_eq!(generations(folder.path()), ["broken-step-0000000010", "step-0000000008"]);
        train(&dir, 10);
        drop(dir);
        std::fs::remove_dir_all(folder.path().join("checkpoints/broken-step-0000000010")).expect("removed");
        assert_same(&remains(folder.path()), &remains(undamaged.path()), expected);
    }
}

/// Flips every byte in turn: none may lead to a panic or to a state that was never saved.
#[test]
fn a_flipped_byte_anywhere_is_found() {
    let folder = trained();
    let newest = generation(folder.path(), 10);
    let read = |path: &Path| (path.to_path_buf(), std::fs::read(path).expect("bytes"));
    let logs =
        std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let logs = logs.filter(|path| path.is_file() && path.file_name().is_some_and(|name| name != ".lock"));
    let mut kept: Vec<_> = logs.map(|path| read(&path)).collect();
    kept.extend(["manifest.json", "state.safetensors"].map(|name| read(&newest.join(name))));
    let dir = open(folder.path());
    for name in ["manifest.json", "state.safetensors"] {
        let len = newest.join(name).metadata().expect("metadata").len() as usize;
        for at in (0..len).step_by(if name == "manifest.json" { 5 } else { 61 }) {
            flip(&newest.join(name), at);
            let read = dir.resume().expect("it falls back").expect("a generation");
            assert_eq!(read.step, 8, "{name}, byte {at}");
            std::fs::create_dir_all(&newest).expect("made");
            kept.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
        }
    }
}

#[test]
fn both_generations_broken_means_from_the_start_with_empty_logs() {
    let folder = trained();
    let undamaged = remains(folder.path());
    for step in [8, 10] {
        std::fs::remove_file(generation(folder.path(), step).join("manifest.json")).expect("removed");
    }
    let dir = open(folder.path());
    assert!(dir.resume().expect("readable").is_none());
    assert!(!folder.path().join("metrics.csv").exists());
    let notes = dir.take_notes();
    assert_eq!(notes.len(), 2);
    for (step, note) in [10, 8].iter().zip(&notes) {
        let aside = format!("checkpoints/broken-step-{step:010}");
        assert!(note.ends_with(&format!("{aside}; starting over")), "{note}");
        assert!(folder.path().join(aside).is_dir());
    }
    train(&dir, 10);
    drop(dir);
    let again: Vec<_> =
        remains(folder.path()).into_iter().filter(|(name, _)| !name.contains("broken-")).collect();
    assert_same(&again, &undamaged, "from the start");
}

#[test]
fn a_snapshot_that_is_a_defect_is_refused_and_nothing_is_lost() {
    let (folder, dir, mut logs) = taken_up();
    let state = state(12);
    let mut twice = snapshot(12, &state);
    twice.tensors[1].name = "theta".into();
    let mut short = snapshot(12, &state);
    short.tensors[0].shape = vec![999];
    for wrong in [twice, short] {
        let refused = dir.save(&wrong, &mut logs).expect_err("not a snapshot");
        assert!(matches!(refused, Error::Disk { .. }), "{refused}");
        assert_eq!(generations(folder.path()), ["step-0000000008", "step-0000000010"]);
    }
}

#[test]
fn numbers_that_a_gpu_does_not_give_are_its_error_and_nothing_is_lost() {
    let (folder, dir, mut logs) = taken_up();
    let state = state(12);
    let mut lost = snapshot(12, &state);
    let read: Reader<f32> = Arc::new(|_| Err(std::io::Error::other(Error::device("copying", "gone"))));
    lost.tensors[1].data = f32::numbers(Part::Away { read, len: 7 });
    let failed = dir.save(&lost, &mut logs).expect_err("no numbers");
    assert!(matches!(&failed, Error::Device(why) if why == "the GPU failed (copying): gone"), "{failed:?}");
    assert_eq!(generations(folder.path()), ["step-0000000008", "step-0000000010"]);
}

/// `checkpoints` cannot be written: a file stands in its place.
#[test]
fn a_checkpoint_that_cannot_be_written_names_path_and_action() {
    let folder = temporary();
    let dir = open(folder.path());
    let mut logs = dir.metrics(&COLUMNS).expect("logs");
    std::fs::write(folder.path().join("checkpoints"), "").expect("a file");
    let refused = dir.save(&snapshot(1, &state(1)), &mut logs).expect_err("no folder");
    assert!(matches!(refused, Error::Disk { .. }), "{refused}");
    assert!(refused.to_string().contains("checkpoints: cannot create the folder"), "{refused}");
}
