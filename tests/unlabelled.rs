//! Images without labels: everything but accuracy is measured, and nothing else speaks of it.

use crate::support::{output, picture};
use simsiam_em::record::read_metrics;
use std::path::Path;

/// A hundred images, some of them in a folder inside, and a note.
fn images(root: &Path) {
    for i in 0..100 {
        let folder = if i % 2 == 0 { "photos" } else { "photos/inside/deeper" };
        picture(&root.join(folder).join(format!("{i}.png")), 2 * i);
    }
    std::fs::write(root.join("photos/notes.txt"), "?").unwrap();
}

fn sim(root: &Path, args: &str) -> (Option<i32>, String, String) {
    let out = output(root, &args.split(' ').collect::<Vec<_>>());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn a_run_on_images_without_labels_measures_the_spread_and_no_accuracy() {
    let root = tempfile::tempdir().unwrap();
    images(root.path());
    let (code, said, told) = sim(root.path(), "run membank --scale smoke --seeds 1 --data folder:photos");
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches("have no labels").count(), 1, "{told}");
    assert!(
        told.contains("50 in it and 50 in folders inside") && told.contains("one image in ten"),
        "{told}"
    );
    assert!(told.contains("1 file of another type was left out (1 .txt)"), "{told}");
    for word in ["chance", "top-1 (%)", "linear", "paper"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    assert!(said.contains("the images have no labels") && said.contains("std(z/‖z‖)·√d"), "{said}");

    let run = root.path().join("runs/membank/m=0.8/seed-0");
    let metrics = read_metrics(&run.join("metrics.csv")).unwrap();
    for column in ["val/knn_top1", "val/z_knn_top1", "val/linear_top1"] {
        assert!(metrics.points("epoch", column).is_empty(), "{column}");
    }
    for column in ["train/loss", "val/z_std", "val/rankme", "val/uniformity"] {
        assert!(metrics.last(column).is_some_and(f64::is_finite), "{column}");
    }
    let drawn = std::fs::read_to_string(root.path().join("runs/membank/figures/final.csv")).unwrap();
    assert!(drawn.contains("val/rankme") && !drawn.contains("top1"), "{drawn}");

    let (code, said, told) = sim(root.path(), "eval runs/membank/m=0.8/seed-0");
    assert!(code == Some(0) && told.matches("have no labels").count() == 1, "{told}");
    assert!(said.contains("effective rank of z") && !said.contains("top-1"), "{said}");
    let (_, said, _) = sim(root.path(), "eval runs/membank/m=0.8/seed-0 --json");
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(line["knn_top1"].is_null() && line["z_std"].is_f64(), "{line}");
}

#[test]
fn images_without_labels_are_looked_at_and_supervised_training_on_them_is_refused() {
    let root = tempfile::tempdir().unwrap();
    images(root.path());
    let (code, said, _) = sim(root.path(), "data check --data folder:photos --json");
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(line["train"].as_u64().unwrap() + line["test"].as_u64().unwrap(), 100);
    assert_eq!(line["classes"], serde_json::json!([]));
    assert_eq!(sim(root.path(), "data preview --data folder:photos").0, Some(0));

    let (code, _, told) = sim(root.path(), "data pack folder:photos packed");
    assert!(code == Some(4) && told.contains("no labels") && told.contains("class folders"), "{told}");

    let study = "title = \"t\"\nquestion = \"q?\"\nbase = \"supervised\"\n[[arm]]\nname = \"a\"\n";
    std::fs::write(root.path().join("mine.toml"), study).unwrap();
    let (code, _, told) = sim(root.path(), "run ./mine.toml --scale smoke --seeds 1 --data folder:photos");
    assert!(code == Some(2) && told.contains("have none; put them into class folders"), "{told}");
    assert!(!root.path().join("runs/mine/a/seed-0").exists());
}
