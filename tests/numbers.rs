//! The bytes of runs, for one kernel: they change only together with the number that says so in
//! env.json.

use super::mock::assert_snapshot;
use sha2::{Digest, Sha256};
use simsiam_em::train::NUMBERS;
use std::process::Command;

/// Arms whose E-steps, objectives and heads differ.
const RUNS: [(&str, &[&str]); 3] =
    [("multistep", &["--k", "3"]), ("membank", &["--m", "0.8"]), ("byol", &[])];

/// The mathematical functions of other systems' C libraries differ in last digits, and bytes with
/// them.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn the_bytes_of_a_run_change_only_with_the_number_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut text =
        format!("numbers {NUMBERS}: grows where a line below changes, so that older runs are told apart\n");
    for (study, flags) in RUNS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command
            .args(["run", study, "--scale", "smoke", "--seeds", "1", "-q", "--out"])
            .arg(folder.path())
            .args(flags);
        let output = command.env("SIM_KERNEL", "portable").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut arms: Vec<_> = std::fs::read_dir(folder.path().join(study))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("seed-0").is_dir())
            .collect();
        arms.sort();
        for arm in arms {
            let weights = std::fs::read(arm.join("seed-0/weights.safetensors")).unwrap();
            let digest: String =
                Sha256::digest(&weights).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            text += &format!("{study}/{} {digest}\n", arm.file_name().unwrap().to_string_lossy());
        }
    }
    assert_snapshot("numbers.txt", &text);
}
