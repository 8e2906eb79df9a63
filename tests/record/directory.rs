//! Who may write into a folder, which recipe it belongs to, how its run ended.

use super::*;
use simsiam_em::Error;
use simsiam_em::record::{Outcome, check_recipe, read_outcome, write_durable};

#[test]
fn a_second_opener_is_told_that_the_folder_is_in_use() {
    let folder = temporary();
    let first = open(folder.path());
    let second = RunDir::open(folder.path(), CONFIG, false);
    assert!(matches!(second, Err(Error::InUse { ref path, .. }) if path == folder.path()), "{second:?}");
    drop(first);
    open(folder.path());
}

#[test]
fn another_recipe_is_refused_by_the_keys_that_differ() {
    let folder = temporary();
    let path = folder.path().join("study/arm/seed-1");
    drop(open(&path));
    let message = RunDir::open(&path, "seed = 1\nbatch = 64\n[eta.memory-bank]\nm = 0.8\n", false)
        .expect_err("another recipe")
        .to_string();
    for part in ["eta.memory-bank.m: 0.5 there, 0.8 asked for", "batch: absent there, 64", "--fresh"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("seed:"), "{message}");
    let respelled = "# the same\nseed = 1\neta.memory-bank.m = 0.50\n";
    assert!(RunDir::open(&path, respelled, false).is_ok(), "the same keys and values, spelled otherwise");
}

/// A bad file's message asks for --skip-bad: that is no other recipe, but how the same one is read.
#[test]
fn a_run_goes_on_with_other_keys_of_reading_and_keeps_them() {
    let folder = temporary();
    let of =
        |skip: bool, images: u32| format!("seed = 1\n[data]\nskip_bad = {skip}\ntrain_images = {images}\n");
    let config = || std::fs::read_to_string(folder.path().join("config.toml")).expect("a recipe");
    for skip in [false, true, false] {
        let dir = RunDir::open(folder.path(), &of(skip, 9), false).expect("the same run");
        assert_eq!(config(), of(skip, 9));
        drop(dir);
    }
    let refused = RunDir::open(folder.path(), &of(true, 8), false).expect_err("another recipe").to_string();
    assert!(refused.contains("data.train_images") && !refused.contains("skip_bad"), "{refused}");
    check_recipe(folder.path(), &of(true, 9)).expect("the same run");
    // A finished run stays as it was made.
    let dir = RunDir::open(folder.path(), &of(false, 9), false).expect("the same run");
    dir.set_outcome(&Outcome::Finished).expect("an outcome");
    drop(dir);
    drop(RunDir::open(folder.path(), &of(true, 9), false).expect("the same run"));
    assert_eq!(config(), of(false, 9));
}

#[test]
fn fresh_removes_the_run_but_never_a_folder_that_is_none() {
    let folder = temporary();
    let dir = open(folder.path());
    train(&dir, 4);
    // θ along an earlier run must not be read as that of a shorter one.
    let trajectory = folder.path().join("trajectory");
    std::fs::create_dir(&trajectory).expect("a folder");
    std::fs::write(trajectory.join("step-00000099.safetensors"), "").expect("a file");
    dir.set_outcome(&Outcome::Finished).expect("an outcome is written");
    drop(dir);
    let dir = RunDir::open(folder.path(), "seed = 2\n", true).expect("it starts over");
    assert_eq!(dir.outcome().expect("readable"), None);
    assert!(dir.resume().expect("readable").is_none());
    let left: Vec<String> = remains(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, [".lock", ".owner", "config.toml"]);

    let other = temporary();
    std::fs::write(other.path().join("thesis.tex"), "years").expect("a file");
    for fresh in [false, true] {
        let refused = RunDir::open(other.path(), CONFIG, fresh).expect_err("not a run");
        assert!(matches!(refused, Error::Usage(ref text) if text.contains("thesis.tex")), "{refused}");
    }
    assert!(other.path().join("thesis.tex").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_of_the_disk() {
    let folder = temporary();
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    for path in [file.join("arm/seed-1"), "/dev/null/seed-1".into()] {
        let refused = RunDir::open(&path, CONFIG, false).expect_err("a file is no folder");
        assert!(matches!(refused, Error::Disk { .. }), "{refused}");
        assert_eq!(refused.exit_code(), 5);
        assert!(refused.to_string().contains("create the folder"), "{refused}");
    }
}

#[test]
fn outcomes_are_read_back_and_damaged_ones_named() {
    let folder = temporary();
    let dir = open(folder.path());
    for outcome in [Outcome::Finished, Outcome::Diverged { step: 7 }] {
        dir.set_outcome(&outcome).expect("written");
        assert_eq!(read_outcome(folder.path()).expect("readable"), Some(outcome));
    }
    std::fs::write(folder.path().join("outcome.json"), "{\"outcome\":\"fin").expect("damaged");
    let refused = dir.outcome().expect_err("damaged").to_string();
    assert!(refused.contains("outcome.json") && refused.contains("damaged"), "{refused}");
    assert_eq!(read_outcome(&folder.path().join("nowhere")).expect("no run"), None);
}

#[test]
fn a_damaged_config_is_named() {
    let folder = temporary();
    drop(open(folder.path()));
    std::fs::write(folder.path().join("config.toml"), "seed = = 1").expect("damaged");
    let refused = RunDir::open(folder.path(), CONFIG, false).expect_err("damaged");
    assert!(matches!(refused, Error::Data { .. }), "{refused}");
    assert!(refused.to_string().contains("config.toml"), "{refused}");
}

#[test]
fn files_take_their_mode_from_the_umask_and_leave_nothing_beside() {
    let folder = temporary();
    let path = folder.path().join("weights.safetensors");
    write_durable(&path, b"1").expect("written");
    write_durable(&path, b"22").expect("replaced");
    assert_eq!(std::fs::read(&path).expect("bytes"), b"22");
    assert_eq!(remains(folder.path()).len(), 1);
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").expect("a file");
    let mode = |path: &Path| path.metadata().expect("metadata").permissions();
    assert_eq!(mode(&path), mode(&plain));
    let refused = write_durable(&folder.path().join("no/where"), b"").expect_err("no such folder");
    assert!(matches!(refused, Error::Disk { .. }), "{refused}");
}
