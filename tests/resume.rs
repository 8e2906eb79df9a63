//! Same seed, same bytes: for any number of threads, and for runs that were killed and started
//! again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A command for the smoke scale of `study`, writing under `out`.
fn sim(study: &str, out: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["run", study, "--scale", "smoke", "--seeds", "1", "--jobs", "1", "--quiet"]).args(extra);
    command.arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn run(study: &str, out: &Path, extra: &[&str]) {
    let output = sim(study, out, extra).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every run's metrics without their wall-clock column, and weights, by path below `out`.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![out.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let relative = path.strip_prefix(out).unwrap().to_path_buf();
            match name.as_str() {
                _ if path.is_dir() => folders.push(path),
                "weights.safetensors" | "spectrum.csv" => {
                    found.push((relative, std::fs::read(&path).unwrap()))
                }
                "metrics.csv" => found.push((relative, without_wall_clock(&path))),
                _ => {}
            }
        }
    }
    found.sort();
    assert!(found.len() >= 4, "too few results: {found:?}");
    found
}

fn without_wall_clock(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..3], &cells[4..]].concat().join(",")
    });
    rows.collect::<Vec<_>>().join("\n").into_bytes()
}

fn assert_same(a: &Path, b: &Path, what: &str) {
    for ((path, a), (other, b)) in results(a).iter().zip(&results(b)) {
        assert_eq!(path, other, "{what}");
        assert!(a == b, "{what}: {} differs", path.display());
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let out = |threads: &str| folder.path().join(threads);
    for threads in ["1", "2", "3", "8"] {
        run("multistep", &out(threads), &["--k", "3", "--threads", threads]);
        assert_same(&out("1"), &out(threads), &format!("{threads} threads"));
    }
}

/// Runs `study` whole, and again killed and started `kills` times.
fn killed_and_whole(study: &str, kills: u32) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let begun = std::time::Instant::now();
    run(study, &whole, &[]);
    let took = begun.elapsed();
    let killed = folder.path().join("killed");
    // Kills spread over the whole time of an uninterrupted run; each attempt goes on from the last.
    for part in 1..=kills {
        let mut child = sim(study, &killed, &[]).spawn().unwrap();
        std::thread::sleep(took * part / (2 * kills + 2) + Duration::from_millis(u64::from(part) * 7));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(study, &killed, &[]);
    assert_same(&whole, &killed, "killed");
}

#[test]
fn a_run_killed_at_any_moment_ends_with_the_same_bytes() {
    killed_and_whole("membank", 7);
}

#[test]
fn a_killed_run_with_a_bank_of_bf16_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let study = folder.path().join("half.toml");
    let arm = |precision: &str| {
        format!(
            "[[arm]]\nname = \"{precision}\"\neta.memory-bank = {{ m = 0.8, precision = \"{precision}\" }}\n\
             predictor.none = {{}}\nobjective.symmetric = false\nschedule.epochs = 6\n"
        )
    };
    let head = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n";
    std::fs::write(&study, format!("{head}{}{}", arm("f32"), arm("bf16"))).unwrap();
    let study = study.to_str().unwrap();
    killed_and_whole(study, 3);
    // The precision reaches training.
    let out = folder.path().join("both");
    run(study, &out, &[]);
    let weights = |arm: &str| std::fs::read(out.join("half").join(arm).join("seed-0/weights.safetensors"));
    assert!(weights("f32").unwrap() != weights("bf16").unwrap());
}

/// A study of the other methods, with queues, small crops, LARS and labels.
fn methods(folder: &Path) -> String {
    let path = folder.join("others.toml");
    let text = r#"title = "t"
question = "q?"
base = "simsiam"
schedule.epochs = 6

[[arm]]
name = "moco"
base = "moco"

[[arm]]
name = "swav"
base = "swav"
eta.sinkhorn = { queue = 64, queue_from_epoch = 1 }
augment.multi_crop = { count = 2, size = 8, crop_scale = [0.1, 0.3] }

[[arm]]
name = "byol"
base = "byol"
optim = { lars.trust = 0.01, weight_decay_on = "weights" }

[[arm]]
name = "simclr"
base = "simclr"

[[arm]]
name = "supervised"
base = "supervised"
"#;
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn killed_runs_of_other_methods_end_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    killed_and_whole(&methods(folder.path()), 5);
}

#[test]
fn other_methods_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let study = methods(folder.path());
    let out = |threads: &str| folder.path().join(threads);
    for threads in ["1", "3"] {
        run(&study, &out(threads), &["--threads", threads]);
        assert_same(&out("1"), &out(threads), &format!("{threads} threads"));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_exits_75() {
    // With targets of a whole epoch; with two banks, and a momentum encoder; with what is known of
    // L around the half-steps.
    for (study, first, extra) in [
        ("multistep", "k=1", &["--k", "epoch"][..]),
        ("eta-gap", "k=1", &["--m", "0.8", "--tau", "0.9"][..]),
        ("em-objective", "exact", &[][..]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        let whole = folder.path().join("whole");
        let extra =
            [extra, &["--set", "schedule.epochs=12", "--set", "schedule.checkpoint_every=5"]].concat();
        run(study, &whole, &extra);
        let child = sim(study, &out, &extra).spawn().unwrap();
        // The signal may come only after the handler is there: wait for the first row of metrics.
        let metrics = out.join(study).join(first).join("seed-0/metrics.csv");
        while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 2 {
            std::thread::sleep(Duration::from_millis(2));
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
        run(study, &out, &extra);
        assert_same(&whole, &out, "stopped by a signal");
    }
}

#[test]
fn whatever_is_measured_the_weights_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let watched = [
        "--set=measure.em.eta=true",
        "--set=measure.em.objective=true",
        "--set=measure.em.trajectory=true",
        "--set=measure.em.views=6",
    ];
    run("membank", &folder.path().join("plain"), &["--m", "0.8"]);
    run("membank", &folder.path().join("watched"), &[&["--m", "0.8"][..], &watched].concat());
    for arm in ["simsiam", "m=0.8"] {
        let weights = |out: &str| {
            let path = folder.path().join(out).join("membank").join(arm).join("seed-0/weights.safetensors");
            std::fs::read(path).unwrap()
        };
        assert!(weights("plain") == weights("watched"), "{arm}");
    }
}

#[test]
fn running_the_same_command_again_recomputes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run("multistep", folder.path(), &["--k", "2"]);
    let metrics = folder.path().join("multistep/k=2/seed-0/metrics.csv");
    let before = (std::fs::read(&metrics).unwrap(), std::fs::metadata(&metrics).unwrap().modified().unwrap());
    run("multistep", folder.path(), &["--k", "2"]);
    assert_eq!(before.0, std::fs::read(&metrics).unwrap());
    assert_eq!(before.1, std::fs::metadata(&metrics).unwrap().modified().unwrap());
}

#[test]
fn one_step_per_alternation_gives_the_bytes_of_simsiam() {
    let folder = tempfile::tempdir().unwrap();
    // The baseline has its probe measured along the run.
    run("multistep", &folder.path().join("k"), &["--k", "1", "--set", "measure.probe_always=true"]);
    run("simsiam", &folder.path().join("s"), &[]);
    let weights =
        |path: &str| std::fs::read(folder.path().join(path).join("seed-0/weights.safetensors")).unwrap();
    let metrics = |path: &str| without_wall_clock(&folder.path().join(path).join("seed-0/metrics.csv"));
    assert!(weights("k/multistep/k=1") == weights("s/simsiam/simsiam"));
    assert!(metrics("k/multistep/k=1") == metrics("s/simsiam/simsiam"));
}
