//! What TensorBoard shows of a run and of a map, read back by its own code where Python has it.

use crate::support::{root, within};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn sim(folder: &Path, args: &[&str]) -> Output {
    let made = within(300, Command::new(env!("CARGO_BIN_EXE_sim")).args(args).current_dir(folder));
    assert!(made.status.success(), "{args:?}: {}", String::from_utf8_lossy(&made.stderr));
    made
}

/// A Python that has `tensorboard`: the one that SIM_PYTHON names, or python3.
fn python() -> Option<String> {
    let python = std::env::var("SIM_PYTHON").unwrap_or_else(|_| "python3".into());
    let asked = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if asked.is_ok_and(|asked| asked.status.success()) {
        return Some(python);
    }
    println!("skipped: {python} has no package tensorboard (SIM_PYTHON names another)");
    None
}

#[test]
fn tensorboard_reads_the_recipe_the_end_and_the_projector() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["--set", "schedule.epochs=1", "--set", "measure.probe_epochs=0"];
    let run = ["run", "simsiam", "--scale", "smoke", "--seeds", "0..1", "-q"];
    sim(folder.path(), &[&run[..], &set[..]].concat());
    let run = "runs/simsiam/simsiam/seed-0";
    sim(folder.path(), &["map", run, "--out", "seen", "--images", "40", "--projector"]);
    let projector = folder.path().join("seen/projector");
    for name in ["projector_config.pbtxt", "tensors.tsv", "metadata.tsv", "sprite.png"] {
        assert!(projector.join(name).is_file(), "{name}");
    }
    let Some(python) = python() else { return };
    let script = root().join("tests/record/read_tensorboard.py");
    let mut command = Command::new(python);
    let read = within(120, command.arg(script).arg(folder.path().join(run)).arg(&projector));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let said: Value = serde_json::from_slice(&read.stdout).unwrap();
    let (of_run, of_map) = (&said["run"], &said["projector"]);
    for (key, value) in [
        ("schedule.epochs", json!(1.0)),
        ("objective.similarity", json!("cosine")),
        ("objective.symmetric", json!(true)),
        ("optim.base_lr", json!(0.12)),
    ] {
        assert_eq!(of_run["hparams"][key], value, "{key}");
    }
    assert_eq!(of_run["status"], "STATUS_SUCCESS");
    assert!(of_run["scalars"].as_array().unwrap().contains(&json!("val/knn_top1")), "{of_run}");
    // Four blocks of resnet8's smallest width: 16 features.
    assert_eq!((&of_map["shape"], &of_map["told_shape"]), (&json!([40, 16]), &json!([40, 16])));
    assert_eq!(of_map["labels"].as_array().unwrap().len(), 40);
    assert_eq!((&of_map["sprite"], &of_map["single"]), (&json!([7 * 32, 7 * 32]), &json!([32, 32])));
}
