//! Where results are written: into devices and through links, beside what killed processes left,
//! and by two processes.

use crate::support::{output, sim};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The child's output; it must end within `limit`.
fn end(mut child: Child, limit: Duration) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > limit {
            child.kill().unwrap();
            panic!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn temporaries(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(temporaries(&path));
        }
        found.extend(path.to_str().filter(|name| name.contains("/.tmp-")).map(String::from));
    }
    found
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_written_into_where_a_person_names_it_and_links_stay() {
    use simsiam_em::record::{write_durable, write_where_told};
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A link, to a file elsewhere and to one that is not there yet, over another link.
    std::fs::create_dir(path("elsewhere")).unwrap();
    std::fs::write(path("elsewhere/old"), "old").unwrap();
    symlink("elsewhere/old", path("link")).unwrap();
    symlink("elsewhere/new", path("dangling")).unwrap();
    symlink("dangling", path("twice")).unwrap();
    for (link, target) in
        [("link", "elsewhere/old"), ("dangling", "elsewhere/new"), ("twice", "elsewhere/new")]
    {
        write_durable(&path(link), link.as_bytes()).unwrap();
        write_where_told(&path(link), link.as_bytes()).unwrap();
        assert!(path(link).is_symlink() && !path(target).is_symlink(), "{link}");
        assert_eq!(std::fs::read_to_string(path(target)).unwrap(), link);
    }
    symlink("circle", path("circle")).unwrap();
    assert_eq!(write_durable(&path("circle"), b"").unwrap_err().exit_code(), 5);
    assert_eq!(write_durable(folder.path(), b"").unwrap_err().exit_code(), 5, "a folder");
    // A pipe.
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let reader = Command::new("cat").arg(path("pipe")).stdout(Stdio::piped()).spawn().unwrap();
    write_where_told(&path("pipe"), b"through a pipe").unwrap();
    assert_eq!(text(&end(reader, Duration::from_secs(10)).stdout), "through a pipe");
    assert!(path("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    // Devices; who may not replace them would fail, and who may would destroy them.
    write_where_told(Path::new("/dev/null"), b"gone").unwrap();
    assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
    let full = write_where_told(Path::new("/dev/full"), b"too much").unwrap_err();
    assert!(full.to_string().starts_with("/dev/full: cannot write the file"), "{full}");
    assert_eq!(temporaries(folder.path()), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn results_can_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let preview = ["data", "preview", "--per-class", "1", "--out"];
    std::os::unix::fs::symlink("/dev/stdout", folder.path().join("sheet.png")).unwrap();
    let piped = output(folder.path(), &[&preview[..], &["sheet.png"]].concat());
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert!(folder.path().join("sheet.png").is_symlink());
    // The sheet alone: its name is told elsewhere.
    let whole = output(folder.path(), &[&preview[..], &["whole.png"]].concat());
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    assert!(piped.stdout == std::fs::read(folder.path().join("whole.png")).unwrap());
    assert!(text(&piped.stderr).contains("sheet.png"), "{}", text(&piped.stderr));
    assert_eq!(text(&whole.stdout), "whole.png\n");
    // Into a file behind the shell's redirection.
    let redirected = std::fs::File::create(folder.path().join("redirected")).unwrap();
    let args = [&preview[..], &["sheet.png"]].concat();
    assert!(sim(folder.path(), &args).stdout(redirected).status().unwrap().success());
    assert!(piped.stdout == std::fs::read(folder.path().join("redirected")).unwrap());
}

#[cfg(unix)]
#[test]
fn embeddings_can_go_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q"];
    assert!(output(folder.path(), &smoke).status.success());
    for number in 0..3 {
        crate::support::picture(&folder.path().join(format!("images/{number}.png")), number);
    }
    let embed = ["embed", "--weights", "runs/simsiam/simsiam/seed-0", "--images", "images", "--out"];
    let file = output(folder.path(), &[&embed[..], &["rows.npy"]].concat());
    assert!(file.status.success(), "{}", text(&file.stderr));
    let piped = output(folder.path(), &[&embed[..], &["/dev/stdout"]].concat());
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert!(piped.stdout == std::fs::read(folder.path().join("rows.npy")).unwrap());
    assert!(text(&piped.stderr).contains("/dev/stdout: 3 × "), "{}", text(&piped.stderr));
    assert!(!Path::new("/dev/stdout.csv").exists());
}

/// An allocation that fails ends with a sentence and 1, not with a signal.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_for_images_of_ones_own_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q"];
    assert!(output(folder.path(), &smoke).status.success());
    // A tensor of 0.9 GB that takes no room on the disk.
    let (count, side) = (1500usize, 224usize);
    let bytes = count * 3 * side * side * 4;
    let header = format!(
        "{{\"images\":{{\"dtype\":\"F32\",\"shape\":[{count},3,{side},{side}],\"data_offsets\":[0,{bytes}]}}}}"
    );
    let path = folder.path().join("images.safetensors");
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((8 + header.len() + bytes) as u64).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 800000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sim"), "embed"]);
    command.args([
        "--weights",
        "runs/simsiam/simsiam/seed-0",
        "--images",
        "images.safetensors",
        "--out",
        "x.npy",
    ]);
    let ended = end(
        command.current_dir(folder.path()).stderr(Stdio::piped()).spawn().unwrap(),
        Duration::from_secs(60),
    );
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("memory"), "{}", text(&ended.stderr));
    assert!(!folder.path().join("x.npy").exists());
}

#[test]
fn what_a_killed_writer_left_is_removed_by_the_next_command_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let mock = ["run", "simsiam", "--scale", "mock", "-q"];
    assert!(output(folder.path(), &mock).status.success());
    let left = [
        "runs/.tmp-report.html-4711-3",
        "runs/simsiam/.tmp-answer.json-4711-0",
        "runs/simsiam/.tmp-summary.csv-4711-12",
        "runs/simsiam/figures/.tmp-curves.svg-4711-7",
    ];
    let others = [
        "runs/.tmp-mine",
        "runs/.tmp-mine-4711-3",
        "runs/.tmp-report.html-4711-3-4",
        "runs/simsiam/.tmp-notes-old",
        "runs/simsiam/.tmp-figure-of-mine.csv-4711-12",
        "runs/simsiam/figures/.tmp-4711-x",
    ];
    for name in left.iter().chain(&others) {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    // A writer that lives holds its file.
    let held = folder.path().join("runs/simsiam/.tmp-claims.csv-4712-0");
    let writer = std::fs::File::create(&held).unwrap();
    writer.lock().unwrap();
    assert!(output(folder.path(), &mock).status.success());
    let there = |name: &&str| folder.path().join(name).exists();
    assert_eq!(left.iter().filter(|name| there(name)).count(), 0);
    assert_eq!(others.iter().filter(|name| there(name)).count(), others.len());
    assert!(held.exists());
    drop(writer);
    assert!(output(folder.path(), &mock).status.success());
    assert!(!held.exists());
}

#[test]
fn a_file_of_ones_own_does_not_replace_the_answer_of_a_study_that_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    assert!(output(folder.path(), &["run", "simsiam", "--scale", "mock", "-q"]).status.success());
    let answer = folder.path().join("runs/simsiam/answer.json");
    let before = std::fs::read(&answer).unwrap();
    std::fs::write(
        folder.path().join("simsiam.toml"),
        "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n",
    )
    .unwrap();
    for args in [
        &["run", "./simsiam.toml", "--scale", "mock"][..],
        &["sweep", "simsiam.toml", "--over", "optim.base_lr=0.1,0.2", "--scale", "mock"],
    ] {
        let refused = output(folder.path(), args);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("simsiam.toml") && said.contains("another name"), "{said}");
    }
    assert!(std::fs::read(&answer).unwrap() == before);
    std::fs::rename(folder.path().join("simsiam.toml"), folder.path().join("mine.toml")).unwrap();
    assert!(output(folder.path(), &["run", "./mine.toml", "--scale", "mock", "-q"]).status.success());
}

/// Both make runs, neither makes one twice, and the answer is there when the last one ends.
#[test]
fn two_processes_with_the_same_command_share_the_work_and_both_answer() {
    for attempt in 0..4u64 {
        let folder = tempfile::tempdir().unwrap();
        let args = ["run", "multistep", "--k", "2", "--scale", "smoke", "--seeds", "3", "--jobs", "1"];
        let spawn = || {
            let mut command = sim(folder.path(), &args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let first = spawn();
        std::thread::sleep(Duration::from_millis(attempt * 40));
        let second = spawn();
        let ends = [first, second].map(|child| end(child, Duration::from_secs(120)));
        let mut made = 0;
        for ended in &ends {
            let said = text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(0), "{said}");
            made += said.matches(": finished after").count();
        }
        assert_eq!(made, 6, "{}\n{}", text(&ends[0].stderr), text(&ends[1].stderr));
        assert_eq!(text(&ends[0].stdout), text(&ends[1].stdout));
        assert!(folder.path().join("runs/multistep/answer.json").is_file());
        assert_eq!(temporaries(folder.path()), Vec::<String>::new());
    }
}

/// One leaves before it has removed anything, and the other makes everything and answers.
#[test]
fn of_two_processes_that_start_over_one_leaves_and_the_other_answers() {
    let smoke = ["run", "simsiam", "--scale", "smoke", "--seeds", "2", "--jobs", "1", "-q"];
    let sweep =
        ["sweep", "simsiam", "--over", "optim.base_lr=0.1,0.2", "--scale", "smoke", "--jobs", "1", "-q"];
    for (command, answer) in
        [(&smoke[..], "runs/simsiam/answer.json"), (&sweep[..], "runs/simsiam-sweep-optim.base_lr/sweep.csv")]
    {
        let folder = tempfile::tempdir().unwrap();
        let spawn = |fresh: &[&str]| {
            let mut command = sim(folder.path(), &[command, fresh].concat());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        for _ in 0..3 {
            let ends = [spawn(&["--fresh"]), spawn(&["--fresh"])].map(|c| end(c, Duration::from_secs(120)));
            let mut codes = ends.each_ref().map(|ended| ended.status.code());
            codes.sort();
            assert_eq!(codes, [Some(0), Some(6)], "{}\n{}", text(&ends[0].stderr), text(&ends[1].stderr));
            let refused = ends.iter().find(|ended| !ended.status.success()).unwrap();
            assert!(text(&refused.stderr).contains("in use by another sim process"));
            assert!(folder.path().join(answer).is_file());
            std::fs::remove_file(folder.path().join(answer)).unwrap();
        }
        // Beside one that goes on, the runs' own locks decide; whoever ends with 0 has answered.
        let ends = [spawn(&["--fresh"]), spawn(&[])].map(|c| end(c, Duration::from_secs(120)));
        let codes = ends.each_ref().map(|ended| ended.status.code());
        assert!(codes.contains(&Some(0)), "{}\n{}", text(&ends[0].stderr), text(&ends[1].stderr));
        assert!(folder.path().join(answer).is_file());
    }
}

/// A pipe waits for a reader who never comes, and a device loses what is written.
#[cfg(unix)]
#[test]
fn pipes_and_devices_under_the_names_of_results_are_replaced_or_refused() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let smoke = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q"];
    assert!(output(folder.path(), &smoke).status.success());
    let study = folder.path().join("runs/simsiam");
    let run = |name: &str| format!("simsiam/seed-0/{name}");
    let event = std::fs::read_dir(study.join(run(""))).unwrap().flatten();
    let event = event.filter_map(|entry| entry.file_name().into_string().ok());
    let event = event.into_iter().find(|name| name.starts_with("events.")).unwrap();
    let replaced = [
        run("weights.safetensors"),
        run("spectrum.csv"),
        run("metrics.csv"),
        "answer.json".into(),
        "summary.csv".into(),
        "claims.csv".into(),
        "report.html".into(),
        "figures/curves.csv".into(),
        "figures/curves.svg".into(),
        "figures/final.png".into(),
    ];
    let refused = [run("outcome.json"), run("config.toml"), run("env.json"), run(".lock")];
    // Nobody reads the events of a run that has ended.
    let left_alone = [run(&event)];
    for (name, device) in
        left_alone.iter().chain(&replaced).chain(&refused).flat_map(|n| [(n, false), (n, true)])
    {
        let file = study.join(name);
        let was = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        if device {
            symlink("/dev/null", &file).unwrap();
        } else {
            assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        }
        let mut again = sim(folder.path(), &smoke);
        let again = end(
            again.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
            Duration::from_secs(60),
        );
        let (code, said) = (again.status.code(), text(&again.stderr));
        if refused.contains(name) {
            assert_eq!(code, Some(4), "{name}, {device}: {said}");
            let kind = if device { "a device" } else { "a pipe" };
            assert!(said.contains(name.as_str()) && said.contains(kind), "{name}: {said}");
        } else {
            assert_eq!(code, Some(0), "{name}, {device}: {said}");
        }
        if replaced.contains(name) {
            let kind = file.symlink_metadata().unwrap().file_type();
            assert!(kind.is_file(), "{name}, {device}: {kind:?}");
            if !name.ends_with("metrics.csv") {
                assert!(std::fs::read(&file).unwrap() == was, "{name}, {device}");
            }
            continue;
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, was).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_run_whose_process_is_killed_is_made_by_the_one_that_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let endless =
        ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "--set", "measure.probe_epochs=1000000"];
    let spawn = || {
        let mut command = sim(folder.path(), &endless);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut first = spawn();
    let begun = Instant::now();
    let lock = folder.path().join("runs/simsiam/simsiam/seed-0/env.json");
    while !lock.is_file() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    // It waits, and can be asked to stop meanwhile.
    let waiting = spawn();
    std::thread::sleep(Duration::from_millis(700));
    Command::new("kill").args(["-TERM", &waiting.id().to_string()]).status().unwrap();
    let stopped = end(waiting, Duration::from_secs(5));
    assert_eq!(stopped.status.code(), Some(75), "{}", text(&stopped.stderr));
    assert!(text(&stopped.stderr).contains("another sim process makes it"), "{}", text(&stopped.stderr));
    // To start over is refused at once.
    let fresh = end(
        sim(folder.path(), &[&endless[..], &["--fresh"]].concat()).stderr(Stdio::piped()).spawn().unwrap(),
        Duration::from_secs(20),
    );
    assert_eq!(fresh.status.code(), Some(6), "{}", text(&fresh.stderr));
    // Whoever waits takes over.
    let second = spawn();
    std::thread::sleep(Duration::from_millis(300));
    first.kill().unwrap();
    first.wait().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    Command::new("kill").args(["-TERM", &second.id().to_string()]).status().unwrap();
    let second = end(second, Duration::from_secs(5));
    assert_eq!(second.status.code(), Some(75), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("stopped"), "{}", text(&second.stderr));
}
