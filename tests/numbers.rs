//! The bytes of runs, for one kernel: they change only together with the number that says so in
//! env.json.

use super::mock::assert_snapshot;
use sha2::{Digest, Sha256};
use simsiam_em::train::NUMBERS;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of each study that is run for itself: its arms beyond those of `sim run all`.
const EXTRA_ARMS: [(&str, &[&str]); 1] = [("multistep", &["--k", "3"])];

/// The first eight bytes of the SHA-256, in hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// metrics.csv without the seconds, the one column that differs from run to run.
fn metrics_without_seconds(run: &Path) -> String {
    let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let seconds = text.lines().next().unwrap().split(',').position(|name| name == "wall_s").unwrap();
    let kept = |line: &str| {
        let cells = line.split(',').enumerate().filter(|(column, _)| *column != seconds);
        cells.map(|(_, cell)| cell).collect::<Vec<_>>().join(",")
    };
    text.lines().map(|line| kept(line) + "\n").collect()
}

/// The folders in `folder`, sorted.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// `study/arm`, the digest of the weights, which a closed form does not have, and the metrics'.
fn line(arm: &Path) -> Option<String> {
    let run = folders(arm).into_iter().find(|run| run.join("metrics.csv").is_file())?;
    let weights = std::fs::read(run.join("weights.safetensors"));
    let weights = weights.map_or_else(|_| "no weights      ".to_string(), |bytes| digest(&bytes));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let metrics = digest(metrics_without_seconds(&run).as_bytes());
    Some(format!("{weights} {metrics} {}/{}\n", name(arm.parent().unwrap()), name(arm)))
}

fn run(study: &str, flags: &[&str], out: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["run", study, "--scale", "smoke", "--seeds", "1", "-q", "--out"]).arg(out).args(flags);
    let output = command.env("SIM_KERNEL", "portable").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The mathematical functions of other systems' C libraries differ in last digits, and bytes with
/// them.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn the_bytes_of_every_study_change_only_with_the_number_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    run("all", &[], out);
    for (study, flags) in EXTRA_ARMS {
        run(study, flags, out);
    }
    let mut text = format!(
        "numbers {NUMBERS}: grows where a line below changes, so that older runs are told apart\n\
         weights, metrics, study/arm\n"
    );
    // Runs that others begin with are told by what became of those.
    let studies = folders(out).into_iter().filter(|study| !study.ends_with("pretraining"));
    let arms = studies.flat_map(|study| folders(&study));
    text.extend(arms.filter_map(|arm| line(&arm)));
    assert_snapshot("numbers.txt", &text);
}
