//! Collapse is announced while it happens, once for each arm, with what in the recipe is not
//! SimSiam's.

use simsiam_em::measure::collapse::is_collapsed;
use simsiam_em::study::{Request, Study, unlike_simsiam};
use std::process::Command;

/// What a smoke run of `study` with `extra` flags says on stderr.
fn said(study: &str, extra: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command
        .args(["run", study, "--scale", "smoke", "--set", "schedule.epochs=24", "--out"])
        .arg(folder.path());
    let output = command.args(extra).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

/// The lines of `said` that announce a collapse.
fn warnings(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains("the outputs have collapsed")).collect()
}

#[test]
fn an_arm_that_collapses_is_announced_once_with_what_differs_from_simsiam() {
    for quiet in [&[][..], &["--quiet"]] {
        let said = said("stopgrad", &[&["--seeds", "2", "--set", "optim.base_lr=1"], quiet].concat());
        let warnings = warnings(&said);
        assert_eq!(warnings.len(), 1, "one for the arm, not one for each seed or epoch: {said}");
        for word in
            ["without seed ", "held-out std ", "RankMe ", "loss -0.", "eta.none (SimSiam: eta.one-step)"]
        {
            assert!(warnings[0].contains(word), "'{word}' is not in {}", warnings[0]);
        }
    }
}

#[test]
fn what_learns_is_not_announced_and_progress_names_the_held_out_std() {
    let said = said("simsiam", &["--seeds", "3"]);
    assert!(warnings(&said).is_empty(), "{said}");
    assert!(said.contains("epoch 24.0/24  loss -") && said.contains("  held-out std "), "{said}");
}

#[test]
fn few_outputs_are_a_collapse_whatever_their_spread() {
    assert!(is_collapsed(0.004, 1.2, 256), "constant");
    assert!(is_collapsed(0.98, 1.9, 256), "two points");
    assert!(is_collapsed(0.6, 2.4, 2048), "a loss of -0.998 at RankMe 2.4");
    assert!(!is_collapsed(0.19, 12.0, 256), "the lowest spread and rank of a run that learns");
    assert!(!is_collapsed(0.9, 1.9, 2), "two dimensions have no more");
}

#[test]
fn every_arm_of_the_papers_ablations_is_told_from_simsiam_by_its_key() {
    let unlike = |study: &str, arm: &str, set: &[&str]| {
        let request = Request { set: set.iter().map(|set| set.to_string()).collect(), ..Request::default() };
        let arms = Study::find(study).unwrap().resolve(&request).unwrap();
        let recipe = &arms.iter().find(|found| found.name == arm).unwrap().recipe;
        unlike_simsiam(recipe, None).unwrap().join("; ")
    };
    assert_eq!(unlike("simsiam", "simsiam", &[]), "");
    assert_eq!(unlike("stopgrad", "without", &[]), "eta.none (SimSiam: eta.one-step)");
    assert_eq!(unlike("predictor", "none", &[]), "predictor.none (SimSiam: predictor.mlp)");
    let rate = unlike("simsiam", "simsiam", &["optim.base_lr=8"]);
    assert_eq!(rate, "optim.base_lr = 8.0 (SimSiam: 0.8)");
    assert!(unlike("batchnorm", "none", &[]).contains("encoder.projector.norm"));
}
