//! `sim compare`: runs side by side.

use crate::support::output;
use serde_json::Value;
use std::path::Path;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn study(folder: &Path) {
    let run = output(folder, &["run", "membank", "--m", "0.8", "--scale", "mock", "--seeds", "2", "-q"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
}

#[test]
fn arms_are_set_side_by_side_with_their_medians_and_their_recipes_differences() {
    let folder = tempfile::tempdir().unwrap();
    study(folder.path());
    let shown =
        output(folder.path(), &["compare", "runs/membank/m=0.8", "runs/membank/simsiam", "--out", "here"]);
    let out = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(
        out.contains("membank/m=0.8") && out.contains("2 of 2") && out.contains("kNN top-1 (%)"),
        "{out}"
    );
    assert!(out.contains("medians over the runs of a row"), "{out}");
    // Keys of what differs, with the value of each; seeds do not count.
    assert!(out.contains("\neta.memory-bank.m\n  membank/m=0.8     0.8\n  membank/simsiam   -\n"), "{out}");
    assert!(!out.contains("\nseed\n"), "{out}");
    for end in ["csv", "svg", "png"] {
        assert!(folder.path().join("here/compare").with_extension(end).is_file(), "{end}");
    }
    let drawn = std::fs::read_to_string(folder.path().join("here/compare.csv")).unwrap();
    assert!(drawn.contains("val/knn_top1,membank/m=0.8,1,"), "{drawn}");
}

#[test]
fn arms_of_one_name_are_told_apart_by_their_paths_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    study(folder.path());
    std::fs::create_dir(folder.path().join("earlier")).unwrap();
    std::fs::rename(folder.path().join("runs/membank"), folder.path().join("earlier/membank")).unwrap();
    study(folder.path());
    let both = ["compare", "earlier/membank/m=0.8", "runs/membank/m=0.8", "--out", "here"];
    let shown = output(folder.path(), &both);
    let out = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let drawn = std::fs::read_to_string(folder.path().join("here/compare.csv")).unwrap();
    for name in ["earlier/membank/m=0.8", "runs/membank/m=0.8"] {
        assert!(out.contains(name), "{out}");
        assert!(drawn.contains(&format!("val/knn_top1,{name},1,")), "{drawn}");
    }
}

#[test]
fn a_study_is_its_arms_and_a_run_is_itself() {
    let folder = tempfile::tempdir().unwrap();
    study(folder.path());
    let shown = output(folder.path(), &["compare", "runs/membank", "runs/membank/m=0/seed-1", "--json"]);
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let items = json["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["membank/m=0", "membank/m=0.8", "membank/simsiam", "membank/m=0/seed-1"]);
    assert_eq!(items[0]["runs"].as_array().unwrap().len(), 2);
    assert_eq!(items[0]["last"]["val/knn_top1"]["1"], items[3]["last"]["val/knn_top1"]["1"]);
    assert!(
        json["differing"]["eta.memory-bank.m"].is_array() && json["differing"]["seed"].is_null(),
        "{json}"
    );
    let same = output(folder.path(), &["compare", "runs/membank/m=0", "runs/membank/m=0/seed-1"]);
    assert!(
        text(&same.stdout).contains("the recipes are the same but for their seeds"),
        "{}",
        text(&same.stdout)
    );
}

#[test]
fn what_holds_no_run_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (path, words) in [("empty", "holds no run"), ("nowhere", "cannot be read")] {
        let refused = output(folder.path(), &["compare", path]);
        assert_eq!(refused.status.code(), Some(4));
        let said = text(&refused.stderr);
        assert!(said.contains(words) && said.contains(path) && said.lines().count() == 1, "{said}");
    }
    std::fs::write(folder.path().join("empty/config.toml"), "seed = ").unwrap();
    let refused = output(folder.path(), &["compare", "empty"]);
    assert!(refused.status.code() == Some(4) && text(&refused.stderr).contains("is no recipe"));
}
