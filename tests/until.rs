//! `--until-decided` with a formula in place of training: which arms get how many seeds, what is
//! said of it, and that a command that was cut short comes to the same.

use crate::support::{CLAIMED, mine, output, sim};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const RUN: [&str; 7] = ["run", "mine.toml", "--scale", "mock", "--until-decided", "--max-seeds", "30"];

fn folder_with(study: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), study).unwrap();
    folder
}

/// The seeds of an arm's runs, sorted.
fn seeds(folder: &Path, arm: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(folder.join("runs").join(arm)).unwrap();
    let seed = |name: String| name.strip_prefix("seed-").unwrap().parse().unwrap();
    let mut seeds: Vec<u64> = entries.map(|e| seed(e.unwrap().file_name().into_string().unwrap())).collect();
    seeds.sort_unstable();
    seeds
}

#[test]
fn seeds_go_to_what_is_undecided_until_it_is_decided_or_cannot_be() {
    let folder = folder_with(&mine(&CLAIMED));
    let run = output(folder.path(), &RUN);
    let (out, said) = (text(&run.stdout), text(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{said}");
    // 8 of 8 decide; 10 of 12 and 13 of 16 do not, 16 of 19 do; 10 of 19 cannot become enough
    // within 30.
    for (arm, count) in [("sure", 8), ("slow", 19), ("open", 19)] {
        assert_eq!(seeds(folder.path(), &format!("mine/{arm}")), (0..count).collect::<Vec<_>>(), "{arm}");
    }
    for line in [
        "3 arms (sure, slow, open) × 2 seeds to begin with, at most 30 seeds of each arm, smoke scale",
        "sure holds for every seed: holds in 2 of 2 seeds, E = 2.3 → seeds 2 to 7",
        "slow holds for most seeds: holds in 1 of 2 seeds, E = 0.7 → seeds 2 to 11",
        "open holds for half of the seeds: holds in 0 of 2 seeds, E = 2.3 against it → seeds 2 to 7",
        "slow holds for most seeds: holds in 10 of 12 seeds, E = 9.4 → seeds 12 to 15",
        "open holds for half of the seeds: holds in 3 of 8 seeds, E = 0.8 against it → seeds 8 to 18",
        "slow holds for most seeds: holds in 13 of 16 seeds, E = 13.7 → seeds 16 to 18",
        "open holds for half of the seeds: holds in 10 of 19 seeds, E = 0.3; given up: no more seeds up to --max-seeds 30 \
         could decide it",
        "2 of 3 claims decided with 46 runs in 1 min; 1 would need more than --max-seeds 30",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(said.matches("given up").count(), 1, "{said}");
    assert!(out.contains("reproduced    sure holds for every seed"), "{out}");
    assert!(out.contains("reproduced    slow holds for most seeds"), "{out}");
    assert!(out.contains("undecided     open holds for half of the seeds"), "{out}");
    assert!(out.contains("8 to 19 seeds"), "{out}");

    // Again: the same rounds, of which every run is there.
    let again = output(folder.path(), &RUN);
    assert_eq!(text(&again.stdout), out);
    assert!(text(&again.stderr).contains("46 of 46 runs had finished before; nothing to compute"));
    // Without it a study is judged on the seeds that it asks for, whatever else lies there.
    let two = output(folder.path(), &["run", "mine.toml", "--scale", "mock", "-q"]);
    assert!(text(&two.stdout).contains("\n2 seeds"), "{}", text(&two.stdout));
}

#[test]
fn a_command_that_was_cut_short_goes_on_to_the_same_answer() {
    let whole = folder_with(&mine(&CLAIMED));
    let expected = text(&output(whole.path(), &RUN).stdout);

    // Killed in the middle of a round.
    let killed = folder_with(&mine(&CLAIMED));
    let mut child = sim(killed.path(), &[&RUN[..], &["--jobs", "1", "-q"]].concat())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !killed.path().join("runs/mine/open/seed-9").exists() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no tenth seed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // As if it had been killed elsewhere: a run of the first round is lost, one of the last, and
    // the answer.
    let lost = folder_with(&mine(&CLAIMED));
    assert!(output(lost.path(), &RUN).status.success());
    for name in ["sure/seed-1", "slow/seed-17", "open/seed-9"] {
        std::fs::remove_dir_all(lost.path().join("runs/mine").join(name)).unwrap();
    }
    std::fs::remove_file(lost.path().join("runs/mine/answer.json")).unwrap();
    for folder in [killed, lost] {
        let run = output(folder.path(), &RUN);
        assert_eq!(text(&run.stdout), expected, "{}", text(&run.stderr));
        for name in ["answer.json", "claims.csv", "summary.csv"] {
            let read = |folder: &Path| std::fs::read(folder.join("runs/mine").join(name)).unwrap();
            assert!(read(folder.path()) == read(whole.path()), "{name}");
        }
    }
}

#[test]
fn json_has_a_line_for_each_round() {
    let folder = folder_with(&mine(&CLAIMED));
    let run = output(folder.path(), &[&RUN[..], &["--json", "--quiet"]].concat());
    assert_eq!(text(&run.stderr), "", "--quiet");
    let lines: Vec<serde_json::Value> =
        text(&run.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rounds: Vec<_> = lines.iter().filter(|line| line["event"] == "round").collect();
    let runs: Vec<_> = rounds.iter().map(|round| round["runs"].as_u64().unwrap()).collect();
    assert_eq!(runs, [6, 28, 43, 46]);
    let slow = &rounds[1]["claims"][0];
    assert_eq!((&slow["holds"], &slow["fails"], &slow["arm"]), (&10.into(), &2.into(), &"slow".into()));
    assert_eq!(slow["next_seeds"], serde_json::json!([12, 13, 14, 15]));
    let last = rounds[3]["claims"].as_array().unwrap();
    assert_eq!((last.len(), &last[0]["next_seeds"]), (1, &serde_json::json!([])));
    assert_eq!(lines.last().unwrap()["event"], "summary");
}

#[test]
fn where_seeds_decide_nothing_it_ends_and_says_why() {
    // So few steps of training, in a real run.
    let folder = tempfile::tempdir().unwrap();
    let smoke = output(folder.path(), &["run", "simsiam", "--scale", "smoke", "--until-decided"]);
    let said = text(&smoke.stderr);
    assert_eq!(smoke.status.code(), Some(0), "{said}");
    assert!(said.contains("0 of ") && said.contains("that no seed decides: 15 steps of training"), "{said}");
    assert_eq!(seeds(folder.path(), "simsiam/simsiam"), [0, 1]);
    // No claims.
    let mine = mine(&CLAIMED);
    let none = mine.split("[[claim]]").next().unwrap();
    let folder = folder_with(none);
    let run = output(folder.path(), &RUN);
    assert_eq!(run.status.code(), Some(0));
    assert!(text(&run.stderr).contains("there is no claim to decide"), "{}", text(&run.stderr));
    assert_eq!(seeds(folder.path(), "mine/sure"), [0, 1]);
}

#[test]
fn what_nobody_means_is_refused() {
    let folder = folder_with(&mine(&CLAIMED));
    for (args, words) in [
        (&["--max-seeds", "20"][..], &["--max-seeds 20", "--until-decided", "--seeds"][..]),
        (&["--until-decided", "--max-seeds", "0"], &["--max-seeds"]),
        (&["--until-decided", "--seeds", "4294967280..4294967288"], &["--max-seeds", "4294967295"]),
        (&["--until-decided", "--max-seeds", "8", "--seeds", "9"], &["begins with 9 seeds already"]),
        (&["--until-decided", "--max-seeds", "100000"], &["300000 runs", "at most 2000"]),
        (
            &["--until-decided", "--seeds", "200", "--max-seeds", "300"],
            &["--seeds", "600 runs", "at most 400"],
        ),
    ] {
        let run = output(folder.path(), &[&["run", "mine.toml", "--scale", "mock"], args].concat());
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        for word in words {
            assert!(text(&run.stderr).contains(word), "{args:?}: {}", text(&run.stderr));
        }
    }
}

/// The runs below `folder` by recipe: how many were made, and how many copied.
fn made_and_copied(folder: &Path) -> BTreeMap<String, (usize, usize)> {
    let folders = |path: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    };
    let mut counted: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for run in folders(folder.join("runs")).into_iter().flat_map(folders).flat_map(folders) {
        let Ok(config) = std::fs::read_to_string(run.join("config.toml")) else { continue };
        let count = counted.entry(config).or_default();
        // The formula writes no env.json; a copy says there what it is a copy of.
        match run.join("env.json").exists() {
            true => count.1 += 1,
            false => count.0 += 1,
        }
    }
    counted
}

#[test]
fn a_run_that_several_studies_need_is_made_once_in_whichever_round() {
    for fresh in [&[][..], &["--fresh"]] {
        let folder = tempfile::tempdir().unwrap();
        let args = ["run", "paper", "--scale", "mock", "--until-decided", "--max-seeds", "10"];
        let run = output(folder.path(), &[&args[..], fresh].concat());
        assert!(matches!(run.status.code(), Some(0)), "{}", text(&run.stderr));
        let counted = made_and_copied(folder.path());
        assert!(counted.values().all(|(made, _)| *made == 1), "{fresh:?}");
        assert!(counted.values().any(|(_, copied)| *copied > 1), "{fresh:?}");
        // Runs of later rounds, too.
        let later =
            |config: &String| config.lines().any(|line| line.starts_with("seed = ") && line > "seed = 1");
        assert!(counted.iter().any(|(config, (_, copied))| later(config) && *copied > 0), "{fresh:?}");
        // An arm that collapses is told of once.
        let said = text(&run.stderr);
        let collapsed: Vec<&str> = said.lines().filter(|line| line.contains("have collapsed")).collect();
        let arm = |line: &str| line.split(" seed ").next().unwrap().to_string();
        let mut arms: Vec<String> = collapsed.iter().map(|line| arm(line)).collect();
        arms.sort();
        let all = arms.len();
        arms.dedup();
        assert!(all > 0 && arms.len() == all, "{collapsed:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_between_two_steps_and_the_same_command_goes_on() {
    let folder = folder_with(&mine(&CLAIMED));
    let child = sim(folder.path(), &[&RUN[..], &["--jobs", "1"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // The second round: a signal must not be lost between rounds.
    while !folder.path().join("runs/mine/sure/seed-3").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no fourth seed");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = text(&ended.stderr);
    // On a machine that is busy it may have come to its end before the signal came.
    if ended.status.code() == Some(0) {
        println!("skipped: it ended before the signal");
        return;
    }
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("stopped; the same command goes on from here"), "{said}");
    let again = output(folder.path(), &RUN);
    assert!(text(&again.stderr).contains("2 of 3 claims decided with 46 runs"), "{}", text(&again.stderr));
}
