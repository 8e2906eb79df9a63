//! What is told and refused before anything is trained: runs, threads, numbers and memory beyond
//! reason, data that is not there, and how long it will take.

use crate::support::{sim, within};
use simsiam_em::data::Dataset;
use simsiam_em::record::read_metrics;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{Ending, memory_bytes, run};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_nobody_means_is_refused_and_named_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<String> = (1..300).map(|k| k.to_string()).collect();
    let many = many.join(",");
    for (args, words) in [
        (&["multistep", "--k", &many, "--seeds", "100"][..], &["29900 runs", "at most 400", "--seeds"][..]),
        (&["multistep", "--k", &many, "--seeds", "100", "--scale", "mock"], &["29900 runs", "at most 400"]),
        (&["simsiam", "--threads", "1024"], &["--threads", "with 1024 each", "cores"]),
        (&["simsiam", "--jobs", "64", "--threads", "64", "--seeds", "64"], &["4096 threads"]),
        (&["simsiam", "--set", "measure.probe_epochs=1000000000000"], &["measure.probe_epochs"]),
        (&["simsiam", "--set", "schedule.epochs=9223372036854775807"], &["schedule.epochs"]),
        (&["simsiam", "--set", "data.train_images=10000000"], &["data.train_images", "10000000"]),
        (&["simsiam", "--set", "data.test_images=9223372036854775807"], &["data.test_images"]),
    ] {
        let refused = within(60, &mut sim(folder.path(), &[&["run"], args].concat()));
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {}", said(&refused));
        for word in words {
            assert!(said(&refused).contains(word), "{args:?} does not say '{word}': {}", said(&refused));
        }
        assert!(!folder.path().join("runs/simsiam/simsiam").exists(), "{args:?} left a run behind");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_process_counts_for_images_and_for_runs() {
    let folder = tempfile::tempdir().unwrap();
    let limited = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sim")]).args(args);
        within(60, command.current_dir(folder.path()))
    };
    let run = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "--jobs", "1", "--threads", "1", "-q"];
    // 6.3 GB of pixels.
    let images = ["--set", "data.train_images=2000", "--set", "data.shapes_size=1024"];
    let refused = limited(&[&run[..], &images].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    for word in ["data.train_images", "data.shapes_size=1024", "GiB", "ulimit -v"] {
        assert!(said(&refused).contains(word), "{}", said(&refused));
    }
    let refused = limited(&[&run[..], &["--set", "schedule.batch=200000"]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("schedule.batch") && said(&refused).contains("ulimit -v"),
        "{}",
        said(&refused)
    );
    let fits = limited(&run);
    assert!(fits.status.success(), "{}", said(&fits));
}

#[test]
fn data_of_every_arm_are_opened_before_the_first_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let study = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n[[arm]]\nname = \"first\"\n[[arm]]\nname = \"second\"\n\
                 data.source = \"folder:/nowhere/at/all\"\n";
    std::fs::write(folder.path().join("mine.toml"), study).unwrap();
    let refused = within(60, &mut sim(folder.path(), &["run", "mine.toml", "--scale", "smoke"]));
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("/nowhere/at/all"), "{}", said(&refused));
    assert!(!folder.path().join("runs/mine/first").exists());
}

#[test]
fn several_studies_tell_how_long_they_will_take_also_where_their_data_differ() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sim(folder.path(), &["run", "laboratory", "--scale", "smoke", "--seeds", "1"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let begun = Instant::now();
    let told = loop {
        match lines.recv_timeout(Duration::from_secs(120)) {
            Ok(line) if line.contains("expected to take") => break Some(line),
            Ok(_) if begun.elapsed() < Duration::from_secs(120) => {}
            _ => break None,
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines);
    reader.join().unwrap();
    let told = told.expect("a line that tells the time");
    assert!(told.contains(" min, judging by a few steps of each arm"), "{told}");
}

/// VmHWM of a process in bytes.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_holds_about_the_memory_that_is_reckoned() {
    let set = ["measure.every=1", "schedule.batch=128", "data.train_images=512", "data.test_images=128"];
    let request = Request {
        scale: Some("laptop".into()),
        set: set.iter().map(|set| set.to_string()).collect(),
        ..Request::default()
    };
    let recipe = Study::find("simsiam").unwrap().resolve(&request).unwrap().remove(0).recipe;
    let reckoned = memory_bytes(&recipe, 512).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["run", "simsiam", "--scale", "laptop", "--seeds", "0..1", "--threads", "1", "-q"];
    args.extend(set.iter().flat_map(|set| ["--set", *set]));
    let mut child = sim(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let metrics = folder.path().join("runs/simsiam/simsiam/seed-0/metrics.csv");
    let begun = Instant::now();
    let mut held = 0;
    // The header, the initial weights and an epoch.
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no epoch");
        held = peak(child.id()).map_or(held, |bytes| bytes.max(held));
        std::thread::sleep(Duration::from_millis(20));
    }
    held = peak(child.id()).map_or(held, |bytes| bytes.max(held));
    child.kill().unwrap();
    child.wait().unwrap();
    // The program itself and its images are not reckoned.
    println!("{} MiB held, {} MiB reckoned", held >> 20, reckoned >> 20);
    assert!(held < 2 * reckoned + (100 << 20) && reckoned < 2 * held, "{held} held, {reckoned} reckoned");
}

#[test]
fn measurements_come_every_so_many_epochs_and_at_the_end() {
    let request = Request {
        scale: Some("smoke".into()),
        set: vec!["measure.every=2".into(), "schedule.epochs=5".into()],
        ..Request::default()
    };
    let recipe = Study::find("simsiam").unwrap().resolve(&request).unwrap().remove(0).recipe;
    let data = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let dir = crate::support::open_run(folder.path(), &toml::to_string(&recipe).unwrap());
    let ending = run(&recipe, &data, &dir, 1, &AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(ending, Ending::Finished);
    let table = read_metrics(&folder.path().join("metrics.csv")).unwrap();
    let epochs = |column: &str| -> Vec<f64> {
        table.points("epoch", column).into_iter().map(|(epoch, _)| epoch).collect()
    };
    assert_eq!(epochs("val/knn_top1"), [0.0, 2.0, 4.0, 5.0]);
    assert_eq!(epochs("train/loss"), [1.0, 2.0, 3.0, 4.0, 5.0]);
}

/// By util-linux's `script`, which gives a program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_each_run_has_a_bar() {
    let folder = tempfile::tempdir().unwrap();
    let command = format!("'{}' run simsiam --scale smoke --seeds 1", env!("CARGO_BIN_EXE_sim"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(folder.path()).env("TERM", "xterm");
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: no `script` on this machine");
        return;
    }
    let shown = within(120, &mut script);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}");
    assert!(text.contains("simsiam seed 0 ") && text.contains('━'), "{text}");
    assert!(text.contains("epoch 3.0/3") && text.contains("simsiam seed 0: finished after"), "{text}");
}
