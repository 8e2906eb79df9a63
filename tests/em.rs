//! The EM laboratory on real, small runs: exact half-steps, η against its expectation, refusals.

use std::path::Path;
use std::process::{Command, Output};

fn sim(out: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(args).args(["--scale", "smoke", "--seeds", "1", "--quiet", "--out"]).arg(out);
    command.output().unwrap()
}

/// A column of a run's metrics where it has values.
fn column(out: &Path, run: &str, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(out.join(run).join("seed-0/metrics.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let place = lines.next().unwrap().iter().position(|column| *column == name).unwrap();
    lines.filter_map(|cells| cells[place].parse().ok()).collect()
}

#[test]
fn the_exact_e_step_never_raises_the_objective_and_a_sample_is_no_minimiser() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let longer = ["run", "em-objective", "--set", "schedule.epochs=8"];
    assert!(sim(out, &longer).status.success());
    let of = |arm: &str, name: &str| column(out, &format!("em-objective/{arm}"), name);
    // One rounding of f32 for each of the cosines' sums, which are of order 1.
    assert!(of("exact", "em/e_rise").iter().all(|rise| *rise <= 1e-6), "{:?}", of("exact", "em/e_rise"));
    assert_eq!(of("exact", "em/e_rise").len(), 7, "no η comes before the first E-step");
    assert_eq!(of("exact", "em/loss_after_e").len(), 8);
    // L is the same function of the same θ for both: at the first E-step the exact η must be the
    // better one.
    assert!(of("exact", "em/loss_after_e")[0] < of("sample", "em/loss_after_e")[0] - 0.01);
}

#[test]
fn an_exact_eta_is_its_own_expectation() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let set = "eta.expectation={ n = \"all\", normalised = false }";
    let run = sim(out, &["run", "eta-gap", "--k", "1", "--set", set]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for cosine in column(out, "eta-gap/k=1", "em/eta_cosine") {
        assert!((cosine - 1.0).abs() < 1e-5, "{cosine}");
    }
    assert!(column(out, "eta-gap/k=1", "em/eta_bias").is_empty(), "one exact η has no second draw");
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (study, set, said) in [
        ("expectation", "eta.expectation.n=0", "0 samples; from 1 to 256, each a forward pass"),
        ("expectation", "eta.expectation.n=some", "a number of samples or \"all\""),
        ("expectation", "eta.expectation.k=0", "k is at least 1"),
        ("expectation", "eta.expectation.m=1.5", "1.5 is not between 0 and 1"),
        ("expectation", "augment.finite.translations=9", "324 views of each image; from 2 to 256"),
        (
            "expectation",
            "augment.finite.rotations=4",
            "unknown key `augment.finite.rotations`; known here: flips, scales",
        ),
        ("simsiam", "eta.expectation={ n = \"all\", normalised = true }", "needs a finite set"),
        ("simsiam", "measure.em.views=1", "1 must be between 4 and"),
        ("eta-gap", "eta.memory-bank.m=-0.1", "-0.1 is not between 0 and 1"),
        ("eta-gap", "eta.k-step.k=0", "k is at least 1"),
    ] {
        let run = sim(folder.path(), &["run", study, "--set", set]);
        let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{set}: {stderr}");
        assert!(stderr.replace('\n', " ").contains(said), "{set}: {stderr}");
        assert!(!folder.path().join(study).join("n=all").exists(), "{set}: something ran");
    }
}

#[test]
fn the_closed_form_has_no_prediction_for_a_gradient_into_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let run = sim(
        folder.path(),
        &["sweep", "stopgrad", "--arm", "without", "--over", "optim.base_lr=0.1,0.2", "--theory"],
    );
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("eta.none"), "{stderr}");
}

#[test]
fn a_finite_set_too_large_for_memory_is_refused_with_its_cost() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["--set", "schedule.batch=1000000", "--set", "augment.finite.translations=8"];
    let run = sim(folder.path(), &[&["run", "expectation", "--n", "all"][..], &sets].concat());
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("GiB of memory"), "{stderr}");
}
