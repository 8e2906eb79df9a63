//! SIGKILL at any moment, and a disk that is full: simulated point by point, and for real.

use super::*;
use std::process::{Command, Stdio};
use std::time::Duration;

const STEPS: u64 = 40;
const FOLDER: &str = "SIM_TEST_RUN_FOLDER";

fn uninterrupted(steps: u64) -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let folder = temporary();
    train(&open(folder.path()), steps);
    let remains = remains(folder.path());
    (folder, remains)
}

#[test]
fn a_kill_between_any_two_actions_of_saving_ends_with_the_same_bytes() {
    let (_keep, expected) = uninterrupted(12);
    let leave = |path: &Path, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(path).expect("a folder");
        std::fs::write(path.join(name), bytes).expect("a file");
    };
    type Kill<'a> = (&'a str, &'a dyn Fn(&Path));
    let kills: [Kill; 8] = [
        ("rows after the checkpoint", &|f| {
            let dir = open(f);
            let mut logs = dir.metrics(&COLUMNS).expect("logs");
            row(&mut logs, 11, 0.25);
        }),
        ("half a row", &|f| append(&f.join("metrics.csv"), b"11,2.75,70")),
        ("half a manifest beside its name", &|f| {
            leave(&f.join("checkpoints/.tmp-step-0000000012-77-0"), ".tmp-manifest.json-77-1", b"{")
        }),
        ("half a state in the temporary folder", &|f| {
            leave(&f.join("checkpoints/.tmp-step-0000000012-77-0"), "state.safetensors", b"half")
        }),
        ("an empty temporary folder", &|f| {
            std::fs::create_dir(f.join("checkpoints/.tmp-step-0000000012-77-0")).expect("made")
        }),
        ("the generation of the same step stepped back", &|f| {
            let generation = f.join("checkpoints/step-0000000010");
            std::fs::rename(&generation, f.join("checkpoints/step-0000000010.old")).expect("renamed");
        }),
        ("an old generation half forgotten", &|f| {
            leave(&f.join("checkpoints/.tmp-step-0000000006-77-3"), "state.safetensors", b"old")
        }),
        ("a file of the run half written", &|f| leave(f, ".tmp-env.json-77-9", b"{")),
    ];
    for (name, kill) in kills {
        let folder = temporary();
        train(&open(folder.path()), 10);
        kill(folder.path());
        let dir = open(folder.path());
        train(&dir, 12);
        assert_eq!(dir.take_notes(), Vec::<String>::new(), "{name}");
        drop(dir);
        assert_same(&remains(folder.path()), &expected, name);
    }
}

#[test]
fn a_kill_before_the_first_checkpoint_starts_over() {
    let (_keep, expected) = uninterrupted(4);
    for header in [&b""[..], b"step,epo", b"step,epoch,samples,wall_s,train/loss,val/knn_top1\n1,0.25"] {
        let folder = temporary();
        drop(open(folder.path()));
        append(&folder.path().join("metrics.csv"), header);
        append(&folder.path().join("events.out.tfevents.0000000001.sim"), &[24, 0, 0]);
        train(&open(folder.path()), 4);
        assert_same(&remains(folder.path()), &expected, "after the kill");
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut kept = std::fs::read(path).unwrap_or_default();
    kept.extend_from_slice(bytes);
    std::fs::write(path, kept).expect("written");
}

/// Trains in the folder that the environment names; a child of the tests below, nothing by itself.
#[test]
fn a_child_trains_where_it_is_told() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(&open(Path::new(&folder)), STEPS);
    }
}

const CHILD: &str = "record::kills::a_child_trains_where_it_is_told";

#[test]
fn real_kills_at_many_moments_end_with_the_same_bytes() {
    let (_keep, expected) = uninterrupted(STEPS);
    let folder = temporary();
    let mut kills = 0;
    for attempt in 0.. {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", CHILD])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        // Moments spread over starting, training and saving; later ones let it get to the end.
        std::thread::sleep(Duration::from_millis(3 + attempt * 7 % 40 + attempt / 8 * 20));
        if let Some(status) = child.try_wait().expect("a status") {
            assert!(status.success());
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        kills += 1;
    }
    assert!(kills > 0);
    assert_same(&remains(folder.path()), &expected, "after the kill");
}

/// No file may grow beyond a limit below that of a checkpoint: the error names path and action, and
/// the run goes on to the same bytes once there is space.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let (_keep, expected) = uninterrupted(STEPS);
    let folder = temporary();
    let script = format!("trap '' XFSZ; ulimit -f 4; exec \"$0\" --exact {CHILD} --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("this test"))
        .env(FOLDER, folder.path())
        .output()
        .expect("a child");
    let message =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(message.contains("step-0000000002") && message.contains("write the checkpoint"), "{message}");
    let left = std::fs::read_dir(folder.path().join("checkpoints")).expect("a folder").count();
    assert_eq!(left, 0, "the space is given back");
    train(&open(folder.path()), STEPS);
    assert_same(&remains(folder.path()), &expected, "after the kill");
}
