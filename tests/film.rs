//! The film of outputs through training: what runs keep for it, and what is shown.

use crate::support::within;
use simsiam_em::train::read_film;
use std::path::Path;
use std::process::{Command, Output};

fn sim(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    within(300, command.args(args.split(' ')).current_dir(folder))
}

#[test]
fn runs_keep_a_frame_for_every_epoch_and_the_film_shows_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = "run stopgrad --scale smoke --seeds 0..1 -q --set measure.probe_epochs=0";
    // Without the key nothing is kept, and the film says how it is asked for.
    assert!(sim(folder.path(), &format!("{run} --out plain")).status.success());
    assert!(!folder.path().join("plain/stopgrad/with/seed-0/film").exists());
    let refused = sim(folder.path(), "film plain/stopgrad");
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--set measure.film=64"));

    let made = sim(folder.path(), &format!("{run} --set measure.film=20 --out runs"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let study = folder.path().join("runs/stopgrad");
    let films = ["with", "without"].map(|arm| read_film(&study.join(arm).join("seed-0")).unwrap());
    for frames in &films {
        // Before the first step, and after each of three epochs of five steps.
        assert_eq!(frames.iter().map(|frame| frame.step).collect::<Vec<_>>(), [0, 5, 10, 15]);
        assert_eq!(frames[0].z.dim(), (20, 32));
        assert!(frames[0].labels.iter().all(|label| *label < 8), "{:?}", frames[0].labels);
    }
    // Both arms begin with the same weights, and part.
    assert_eq!(films[0][0].z, films[1][0].z);
    assert_ne!(films[0][3].z, films[1][3].z);
    // What is measured beside it is the same.
    let weights = |out: &str| {
        let run = folder.path().join(out).join("stopgrad/without/seed-0");
        std::fs::read(run.join("weights.safetensors")).unwrap()
    };
    assert_eq!(weights("plain"), weights("runs"));

    let shown = sim(folder.path(), "film runs/stopgrad --out seen");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    for name in ["film.html", "film.png", "film.csv"] {
        assert!(folder.path().join("seen").join(name).is_file(), "{name}");
    }
    let csv = std::fs::read_to_string(folder.path().join("seen/film.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 4 * 20);
    let report = std::fs::read_to_string(study.join("report.html")).unwrap();
    assert!(report.contains("id=\"film0\"") && report.contains("prefers-reduced-motion"));

    // A frame that was changed afterwards is refused by name.
    let frame = study.join("with/seed-0/film/step-00000010.safetensors");
    let mut bytes = std::fs::read(&frame).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&frame, bytes).unwrap();
    let refused = sim(folder.path(), "film runs/stopgrad");
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("step-00000010"));
}
