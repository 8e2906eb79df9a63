//! Asked to stop, a run saves what it trained within seconds, whatever it is doing, and ends with
//! the same bytes.

use crate::support::{open_run, results};
use simsiam_em::data::Dataset;
use simsiam_em::eta::{Rule, Samples, Steps};
use simsiam_em::kernel::Precision;
use simsiam_em::measure::em::EmConfig;
use simsiam_em::recipe::Recipe;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{self, Ending, Progress};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The recipe of `arm` of a study at the smallest scale.
fn recipe(study: &str, arm: &str) -> Recipe {
    let study = Study::find(study).unwrap();
    let request = Request { scale: Some("smoke".into()), ..Request::default() };
    study.resolve(&request).unwrap().into_iter().find(|known| known.name == arm).unwrap().recipe
}

/// Trains in `folder` until `stop` is set; `watch` may set it.
fn run(
    recipe: &Recipe,
    data: &Arc<Dataset>,
    folder: &Path,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Ending {
    let dir = open_run(folder, &toml::to_string(recipe).unwrap());
    train::run(recipe, data, &dir, 1, stop, watch).unwrap()
}

/// Sets `stop` after `delay`, unless `done` comes first.
fn stop_after<T>(delay: Duration, stop: &AtomicBool, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while begun.elapsed() < delay && !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(200));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let made = work();
        done.store(true, Ordering::Relaxed);
        made
    })
}

/// Recipes with every kind of work that can be interrupted: measuring, now and then or always; E_T;
/// L around the half-steps; E-steps over several batches and over more than an epoch (of 5 steps);
/// banks, averages of θ.
fn recipes() -> Vec<Recipe> {
    let watched = |mut recipe: Recipe, eta: bool| {
        recipe.measure.em = Some(EmConfig {
            images: 16,
            views: 4,
            eta,
            objective: true,
            trajectory: true,
            field: 0,
            ranks: true,
            eigenvalues: true,
        });
        recipe
    };
    let with = |study: &str, arm: &str, eta: Rule| Recipe { eta, ..recipe(study, arm) };
    let bank = Rule::MemoryBank { m: 0.8, precision: Precision::F32, k: Steps::Count(4) };
    let mean = |n| Rule::Expectation { n: Samples::Count(n), normalised: true, k: Steps::Count(8), m: 0.5 };
    let mut seldom = recipe("eta-gap", "m=0.8");
    (seldom.measure.every, seldom.schedule.checkpoint_every) = (2, 2);
    // Most of its time goes by in E-steps.
    let mut in_e_steps = with("expectation", "h+n=4", mean(24));
    (in_e_steps.measure.every, in_e_steps.measure.probe_epochs, in_e_steps.measure.em) = (100, 0, None);
    in_e_steps.schedule.epochs = 10;
    let mut probed = recipe("swav", "swav");
    (probed.measure.probe_always, probed.measure.probe_epochs) = (true, 40);
    let k = Rule::KStep { k: Steps::Count(7) };
    vec![
        watched(with("multistep", "k=10", k), true),
        watched(with("simsiam", "simsiam", bank), false),
        watched(with("simsiam", "simsiam", Rule::Whitened { ridge: 1e-3 }), false),
        watched(with("expectation", "h+n=4", mean(4)), true),
        in_e_steps,
        seldom,
        watched(recipe("byol", "byol"), false),
        probed,
    ]
}

#[test]
fn a_run_stopped_at_any_moment_ends_with_the_same_bytes() {
    let (mut stops, mut in_e_steps, mut owed) = (0, 0, 0);
    for recipe in recipes() {
        let data = Arc::new(Dataset::open(&recipe.data).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
        let begun = Instant::now();
        assert_eq!(run(&recipe, &data, &whole, &AtomicBool::new(false), &|_| ()), Ending::Finished);
        let took = begun.elapsed();
        // Every process gets a little further than its start; the last one is left alone.
        let mut attempts = 0..40;
        loop {
            let delay = attempts.next().map_or(Duration::MAX, |i| took * (3 + i * 5 % 7) / 60);
            let stop = AtomicBool::new(false);
            match stop_after(delay, &stop, || run(&recipe, &data, &stopped, &stop, &|_| ())) {
                Ending::Finished => break,
                ending => assert_eq!(ending, Ending::Stopped),
            }
            stops += 1;
            let state = newest_state(&stopped);
            in_e_steps += usize::from(state.contains("integer.e_step.read"));
            let step = format!("\"step\":\"{}\"", recipe.schedule.epochs * 5);
            owed += usize::from(state.contains(&step));
        }
        assert!(results(&whole) == results(&stopped), "{:?}", recipe.eta);
    }
    println!("{stops} stops, {in_e_steps} of them in an E-step, {owed} while the last epoch was measured");
    assert!(stops >= 6 && in_e_steps >= 2, "{stops} stops, {in_e_steps} in E-steps");
}

/// The header of the newest checkpoint's state.
fn newest_state(run: &Path) -> String {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let newest = entries.map(|entry| entry.path().join("state.safetensors")).max();
    let bytes = newest.map_or_else(Vec::new, |path| std::fs::read(path).unwrap());
    String::from_utf8_lossy(&bytes[..bytes.len().min(8192)]).into_owned()
}

#[test]
fn what_was_trained_is_saved_before_it_is_measured() {
    // Nobody could wait for this probe.
    let mut recipe = recipe("simsiam", "simsiam");
    (recipe.measure.probe_always, recipe.measure.probe_epochs) = (false, 1_000_000);
    let data = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let steps = recipe.schedule.epochs * 5;
    let (stop, saved, rows) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    for attempt in 0..2 {
        stop.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        let ending = run(&recipe, &data, folder.path(), &stop, &|progress| match progress {
            Progress::Saved { step } => {
                saved.fetch_add(1, Ordering::Relaxed);
                // The last row is being measured from now on.
                stop.store(step == steps, Ordering::Relaxed);
            }
            Progress::Begun { resumed_at, .. } => {
                assert_eq!(resumed_at, attempt * steps);
                stop.store(attempt == 1, Ordering::Relaxed);
            }
            Progress::Measured { .. } => drop(rows.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        });
        assert_eq!(ending, Ending::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert_eq!((saved.into_inner(), rows.into_inner()), (3, 3), "the last epoch has no row yet");
}

#[test]
fn a_broken_checkpoint_is_told_when_the_run_goes_on() {
    let recipe = recipe("simsiam", "simsiam");
    let data = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let stop_after_saving = |progress| {
        if let Progress::Saved { step } = progress {
            stop.store(step == 10, Ordering::Relaxed);
        }
    };
    assert_eq!(run(&recipe, &data, folder.path(), &stop, &stop_after_saving), Ending::Stopped);
    std::fs::remove_file(folder.path().join("checkpoints/step-0000000010/manifest.json")).unwrap();
    let events = std::sync::Mutex::new(Vec::new());
    stop.store(false, Ordering::Relaxed);
    let ending = run(&recipe, &data, folder.path(), &stop, &|progress| events.lock().unwrap().push(progress));
    assert_eq!(ending, Ending::Finished);
    let events = events.into_inner().unwrap();
    assert!(
        matches!(&events[0], Progress::Note(note) if note.ends_with("going on from step 5")),
        "{:?}",
        events[0]
    );
    assert!(matches!(events[1], Progress::Begun { resumed_at: 5, .. }), "{:?}", events[1]);
}

#[cfg(unix)]
mod signals {
    use std::path::Path;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    /// A run whose last epoch is measured for hours.
    fn endless(out: &Path) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out"]).arg(out);
        command.args(["--set", "measure.probe_always=false", "--set", "measure.probe_epochs=1000000"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn send(child: &Child, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// The child's end, within `limit`.
    fn end(mut child: Child, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > limit {
                child.kill().unwrap();
                panic!("still running after {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for(path: &Path) {
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} never came", path.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    const LAST: &str = "simsiam/simsiam/seed-0/checkpoints/step-0000000015";

    #[test]
    fn every_signal_that_asks_to_stop_is_served_while_something_is_measured() {
        for signal in ["TERM", "INT", "HUP", "USR1", "USR2", "XCPU"] {
            let folder = tempfile::tempdir().unwrap();
            let child = endless(folder.path());
            wait_for(&folder.path().join(LAST));
            send(&child, signal);
            assert_eq!(end(child, Duration::from_secs(5)).code(), Some(75), "{signal}");
        }
    }

    #[test]
    fn a_second_signal_quits_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let child = endless(folder.path());
        wait_for(&folder.path().join(LAST));
        // Both are there before the program can serve the first.
        for signal in ["STOP", "INT", "TERM", "CONT"] {
            send(&child, signal);
        }
        let code = end(child, Duration::from_secs(5)).code();
        assert!(matches!(code, Some(130 | 143)), "{code:?}");
    }

    #[test]
    fn a_signal_while_the_answer_is_written_lets_it_be_finished() {
        for signal in ["TERM", "INT", "HUP"] {
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
            command.args(["run", "membank", "--scale", "mock", "--seeds", "4", "-q", "--out"]);
            let child = command.arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = child.spawn().unwrap();
            // The first of the answer's files.
            wait_for(&folder.path().join("membank/summary.csv"));
            send(&child, signal);
            assert_eq!(end(child, Duration::from_secs(60)).code(), Some(0), "{signal}");
            assert!(folder.path().join("membank/report.html").is_file(), "{signal}");
        }
    }

    #[test]
    fn a_limit_on_the_size_of_files_is_an_error_of_the_disk_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let out = |name: &str| folder.path().join(name);
        let run = |out: &Path, limit: &str| {
            let script = format!("ulimit -f {limit}; exec \"$0\" \"$@\"");
            let mut command = Command::new("sh");
            command.args(["-c", &script, env!("CARGO_BIN_EXE_sim")]);
            command.args(["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out"]).arg(out);
            command.output().unwrap()
        };
        let cut = run(&out("cut"), "16");
        let said = String::from_utf8_lossy(&cut.stderr).into_owned();
        assert_eq!(cut.status.code(), Some(5), "{said}");
        assert!(said.contains("File too large") && said.contains("step-"), "{said}");
        assert!(run(&out("whole"), "unlimited").status.success());
        assert!(run(&out("cut"), "unlimited").status.success());
        let results = |name: &str| crate::support::results(&out(name).join("simsiam/simsiam/seed-0"));
        assert!(results("cut") == results("whole"));
    }
}
