//! Ranks as processes under MPICH's launcher. Where there is none these tests do nothing, unless
//! SIM_TEST_MPI=required says that there must be.

use crate::support::{results, sim, within};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// MPICH's `mpiexec`, and the library beside it.
fn mpich() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find_map(|folder| {
        let library = folder.parent()?.join("lib/libmpi_abi.so.1");
        Some((folder.join("mpiexec"), library))
            .filter(|(program, library)| program.is_file() && library.is_file())
    });
    let required = std::env::var_os("SIM_TEST_MPI").is_some_and(|word| word == "required");
    assert!(found.is_some() || !required, "SIM_TEST_MPI=required, and no MPICH on PATH");
    if found.is_none() {
        println!("no MPICH on PATH: not tested");
    }
    found
}

/// `sim` with `args` on so many ranks, in `folder`.
fn ranks(size: usize, folder: &Path, args: &[&str]) -> Option<Command> {
    let (mpiexec, _) = mpich()?;
    let mut command = Command::new(mpiexec);
    command.args(["-n", &size.to_string(), env!("CARGO_BIN_EXE_sim")]).args(args).current_dir(folder);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

const RUN: [&str; 9] =
    ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "--quiet", "--set", "schedule.shards=2"];

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&RUN[..], more].concat()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn run_of(out: &Path) -> PathBuf {
    out.join("simsiam/simsiam/seed-0")
}

#[test]
fn two_processes_leave_the_bytes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = ranks(2, folder.path(), &with(&["--out", "two"])) else { return };
    let two = within(300, &mut command);
    assert!(two.status.success(), "{}", text(&two));
    let one = sim(folder.path(), &with(&["--out", "one"])).output().unwrap();
    assert!(one.status.success(), "{}", text(&one));
    let [one_run, two_run] = ["one", "two"].map(|out| run_of(&folder.path().join(out)));
    assert!(results(&two_run) == results(&one_run));
    // The first speaks, the other does not.
    let table = |output: &Output| String::from_utf8_lossy(&output.stdout).replace("two/", "one/");
    assert_eq!(table(&two), table(&one));
    let env = std::fs::read_to_string(two_run.join("env.json")).unwrap();
    assert!(env.contains("\"ranks\": 2"), "{env}");
}

/// The process id that a run's folder names as its owner's.
fn owner(run: &Path) -> u32 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        let trained = run.join("checkpoints").is_dir();
        let text = std::fs::read_to_string(run.join(".owner")).unwrap_or_default();
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        let alive = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "sim"
        };
        if let (true, Some(pid)) = (trained, numbers.into_iter().find(alive)) {
            return pid;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} has no owner", run.display())
}

fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn one_rank_that_is_asked_to_stop_stops_all_and_another_number_goes_on() {
    let long = ["--epochs", "400", "--set", "schedule.checkpoint_every=1"];
    let folder = tempfile::tempdir().unwrap();
    let args = with(&[&long[..], &["--out", "two"]].concat());
    let Some(mut command) = ranks(2, folder.path(), &args) else { return };
    let child = command.spawn().unwrap();
    send("-TERM", owner(&run_of(&folder.path().join("two"))));
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(stopped.status.code(), Some(75), "{}", text(&stopped));
    // A rank that is killed ends the others soon.
    let child = ranks(2, folder.path(), &args).unwrap().spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send("-KILL", owner(&run_of(&folder.path().join("two"))));
    let killed = Instant::now();
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success());
    assert!(killed.elapsed() < Duration::from_secs(60), "{:?}", killed.elapsed());
    // One process goes on where two stood.
    for out in ["two", "one"] {
        let args = with(&[&long[..], &["--out", out]].concat());
        let output = within(300, &mut sim(folder.path(), &args));
        assert!(output.status.success(), "{}", text(&output));
    }
    let [one, two] = ["one", "two"].map(|out| run_of(&folder.path().join(out)));
    assert!(results(&two) == results(&one));
}

/// The one sentence of a refusal, with exit code 2.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", text(output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.matches("error:").count(), 1, "{text}");
    text
}

#[test]
fn ranks_that_cannot_share_a_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let alone = sim(folder.path(), &with(&["--ranks", "2"])).output().unwrap();
    assert!(refusal(&alone).contains("mpiexec -n 2"));
    let word = sim(folder.path(), &with(&["--ranks", "all"])).output().unwrap();
    assert_eq!(word.status.code(), Some(2));
    let launched = |variable: &str, size: &str, args: &[&str]| {
        sim(folder.path(), &with(&[])).args(args).env(variable, size).output().unwrap()
    };
    let told = refusal(&launched("SLURM_STEP_NUM_TASKS", "4", &["--ranks", "2"]));
    assert!(told.contains("started 4"), "{told}");
    let told = refusal(&launched("SLURM_STEP_NUM_TASKS", "3", &[]));
    assert!(told.contains("no power of two"), "{told}");
    let mut absent = sim(folder.path(), &with(&[]));
    absent.env("PMI_SIZE", "2").env("SIM_MPI", "/no such library");
    assert!(refusal(&absent.output().unwrap()).contains("mpich"));
    let Some((_, library)) = mpich() else { return };
    // Two processes each of which is alone in its job.
    let mut single = sim(folder.path(), &with(&[]));
    single.env("SLURM_STEP_NUM_TASKS", "2").env("SIM_MPI", &library);
    assert!(refusal(&single.output().unwrap()).contains("MPI knows of 1"));
    // Batches that are not cut, told once.
    let args = ["run", "simsiam", "--scale", "smoke", "--seeds", "1"];
    let whole = within(120, &mut ranks(2, folder.path(), &args).unwrap());
    assert!(refusal(&whole).contains("schedule.shards=2"));
    assert!(!folder.path().join("runs/simsiam/simsiam").exists(), "a run was begun");
}
