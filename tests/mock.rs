//! The command line with a formula in place of training: schedule, verdicts, output and streams,
//! byte for byte and in no time.

use crate::support::{output, sim};
use std::path::Path;
use std::process::Stdio;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\\', "/")
}

/// Compares with a file of tests/snapshots/, which `UPDATE=1 cargo test` rewrites.
pub fn assert_snapshot(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{name} differs; UPDATE=1 cargo test rewrites it");
}

#[test]
fn a_study_ends_with_table_verdicts_and_paths() {
    let folder = tempfile::tempdir().unwrap();
    let run =
        output(folder.path(), &["run", "membank", "--m", "0.8", "--scale", "mock", "--seeds", "8", "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    // Nothing but what everyone must know: the arm that is there to collapse does.
    let told: Vec<String> = text(&run.stderr).lines().map(String::from).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let words = [
        // Of whichever seed comes there first.
        "m=0 seed ",
        ": the outputs have collapsed",
        "held-out std 0.064",
        "eta.memory-bank (SimSiam: eta.one-step)",
        "predictor.none (SimSiam: predictor.mlp)",
    ];
    assert!(words.iter().all(|word| told[0].contains(word)), "{told:?}");
    let out = text(&run.stdout);
    assert_snapshot("membank.txt", &out);
    for line in out.lines().filter(|line| line.starts_with("runs/")) {
        assert!(folder.path().join(line).is_file(), "{line}");
    }
    for file in [
        "summary.csv",
        "claims.csv",
        "answer.json",
        "report.html",
        "figures/curves.svg",
        "figures/curves.png",
        "figures/curves.csv",
    ] {
        assert!(out.contains(&format!("runs/membank/{file}")), "{out}");
    }
    let again = output(folder.path(), &["run", "membank", "--m", "0.8", "--scale", "mock", "--seeds", "8"]);
    assert_eq!(text(&again.stdout), out, "the same command gives the same answer");
    assert!(text(&again.stderr).contains("24 of 24 runs had finished before; nothing to compute"));
}

/// Lines of prose and paths are left whole for `grep`; those of tables are known by their columns.
#[test]
fn no_table_is_wider_than_eighty_characters_or_than_columns_says() {
    let folder = tempfile::tempdir().unwrap();
    let tables = |args: &[&str], columns: Option<&str>| -> Vec<String> {
        let mut command = sim(folder.path(), args);
        match columns {
            Some(columns) => command.env("COLUMNS", columns),
            None => command.env_remove("COLUMNS"),
        };
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        let out = text(&output.stdout);
        let verdicts = ["reproduced", "contradicted", "undecided"];
        let of_a_table = |line: &&str| {
            line.trim_start().contains("   ") && !verdicts.iter().any(|verdict| line.starts_with(verdict))
        };
        out.lines().filter(of_a_table).map(String::from).collect()
    };
    let run = ["run", "membank", "--m", "0.8,0.95", "--scale", "mock", "--seeds", "3", "-q"];
    let over = ["k=1,2,3,4,5,6,7,8,9,10", "m=0.5,0.8"];
    let sweep =
        ["sweep", "membank", "--over", over[0], "--over", over[1], "--scale", "mock", "--seeds", "1", "-q"];
    for args in [&run[..], &sweep, &["compare", "runs/membank"], &["theory"], &["show", "membank"]] {
        for (columns, most) in [(None, 80), (Some("60"), 60), (Some("200"), 200), (Some("wide"), 80)] {
            // A value of a recipe may be longer than a line.
            let tables = tables(args, columns);
            let wide = tables.iter().filter(|line| line.chars().count() > most).collect::<Vec<_>>();
            assert!(wide.is_empty(), "{args:?} at {columns:?}: {wide:#?}");
            assert!(tables.len() > 3, "{args:?} at {columns:?}: {tables:#?}");
        }
    }
    // A median with its interval behind it.
    let is_whole = |line: &String| {
        line.as_bytes().windows(3).any(|three| three[0].is_ascii_digit() && &three[1..] == b" [")
    };
    let whole = |columns: &str| tables(&run, Some(columns)).iter().any(is_whole);
    assert!(whole("200") && !whole("80"));
}

#[test]
fn seeds_may_be_a_range() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = |arm: &str| {
        let entries = std::fs::read_dir(folder.path().join("runs").join(arm)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let run =
        output(folder.path(), &["run", "simsiam", "--scale", "mock", "--seeds", "10..12", "--json", "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert_eq!(seeds("simsiam/simsiam"), ["seed-10", "seed-11"]);
    let out = String::from_utf8_lossy(&run.stdout);
    let summary: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["seeds"], serde_json::json!([10, 11]));
    let sweep = ["sweep", "membank", "--over", "m=0.5,1", "--scale", "mock", "--seeds", "7..9", "-q"];
    let sweep = output(folder.path(), &sweep);
    assert_eq!(sweep.status.code(), Some(0), "{}", text(&sweep.stderr));
    assert_eq!(seeds("membank-sweep-m/m=0.5"), ["seed-7", "seed-8"]);
    let help = text(&output(folder.path(), &["run", "simsiam", "--help"]).stdout);
    assert!(help.contains("--seeds <SEEDS>") && help.contains("10..18"), "{help}");
}

#[test]
fn progress_goes_to_stderr_as_plain_lines_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let run = output(folder.path(), &["run", "simsiam", "--scale", "mock", "--jobs", "1", "--threads", "1"]);
    let said = text(&run.stderr);
    assert!(
        said.contains("1 arm (simsiam) × 2 seeds, smoke scale, on shapes; 1 at a time with 1 thread each"),
        "{said}"
    );
    assert!(said.contains("run directories: runs/simsiam"), "{said}");
    assert!(
        said.contains("simsiam seed 1: epoch 3.0/3  loss -0.900  held-out std 0.949  kNN 79.9 %"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "no colours");
}

#[test]
fn json_is_one_object_per_line_with_a_summary_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let run = output(
        folder.path(),
        &["run", "multistep", "--k", "10", "--scale", "mock", "--seeds", "8", "--json"],
    );
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&run.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, epochs) = lines.split_last().unwrap();
    assert_eq!(epochs.len(), 8 * 2 * 4);
    assert!(epochs.iter().all(|line| line["event"] == "epoch" && line["val/knn_top1"].is_f64()));
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["arms"][1]["arm"], "k=10");
    let claim = &summary["claims"][0];
    assert_eq!((&claim["verdict"], &claim["evidence"]["holds"]), (&"reproduced".into(), &8.into()));
    assert_eq!(claim["effect"]["values"].as_array().map(Vec::len), Some(8));
}

#[test]
fn an_arm_that_diverges_leaves_the_others_alone_and_exits_3() {
    let folder = tempfile::tempdir().unwrap();
    let study = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n[[arm]]\nname = \"wild\"\n\
                 optim.base_lr = 1e9\n[[arm]]\nname = \"tame\"\n[[claim]]\ntext = \"wild learns\"\n\
                 metric = \"val/knn_top1\"\narm = \"wild\"\nis = \"at least\"\nvalue = 1.0\n";
    std::fs::write(folder.path().join("mine.toml"), study).unwrap();
    let run = output(folder.path(), &["run", "./mine.toml", "--scale", "mock", "--seeds", "8", "-q"]);
    let out = text(&run.stdout);
    assert_eq!(run.status.code(), Some(3), "{out}{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("wild seed 0: diverged, the loss of step 100 is not finite"));
    assert!(out.contains("0 finished, 8 diverged at step 100"), "{out}");
    assert!(out.contains("contradicted  wild learns"), "{out}");
    assert!(out.contains("val/knn_top1 of wild at least 1: 0 of 8 seeds, E = 57 against\n"), "{out}");
    let row = |arm: &str| out.lines().find(|line| line.starts_with(arm)).unwrap_or_default().to_string();
    assert!(
        row("wild").contains("8 of 8 (63 to 100 %)") && row("tame").contains("0 of 8 (0 to 37 %)"),
        "{out}"
    );
}

#[test]
fn a_mistake_in_a_file_shows_file_line_and_caret() {
    let folder = tempfile::tempdir().unwrap();
    let study = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\noptim.base_lr = -1.0\n";
    std::fs::write(folder.path().join("mine.toml"), study).unwrap();
    let run = output(folder.path(), &["run", "mine.toml"]);
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2));
    assert!(said.contains("mine.toml:4:17") && said.contains("4 │ optim.base_lr = -1.0"), "{said}");
}

#[test]
fn a_run_with_another_recipe_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let run = |extra: &[&str]| {
        let args = [&["run", "simsiam", "--scale", "mock", "-q"], extra].concat();
        output(folder.path(), &args)
    };
    assert_eq!(run(&[]).status.code(), Some(0));
    let metrics = folder.path().join("runs/simsiam/simsiam/seed-0/metrics.csv");
    let before = std::fs::read(&metrics).unwrap();
    let changed = run(&["--set", "optim.base_lr=0.5"]);
    assert_eq!(changed.status.code(), Some(2));
    let said = text(&changed.stderr);
    assert!(said.contains("optim.base_lr") && said.contains("--fresh"), "{said}");
    assert_eq!(std::fs::read(&metrics).unwrap(), before);
    assert_eq!(run(&["--set", "optim.base_lr=0.5", "--fresh"]).status.code(), Some(0));
}

#[test]
fn a_studys_flags_are_in_its_help() {
    let folder = tempfile::tempdir().unwrap();
    let help = text(&output(folder.path(), &["run", "multistep", "--help"]).stdout);
    assert!(help.contains("--k <STEPS>") && help.contains("SGD steps on θ per update of η"), "{help}");
    let list = text(&output(folder.path(), &["list"]).stdout);
    let row = list.lines().find(|line| line.starts_with("  multistep ")).unwrap();
    assert!(row.ends_with("per update of η?") && list.contains("  laptop "), "{list}");
    let show = text(&output(folder.path(), &["show", "membank", "--set", "optim.momentum=0.5"]).stdout);
    let set = show.lines().find(|line| line.contains("optim.momentum")).unwrap();
    assert!(set.contains("0.5") && set.ends_with("--set optim.momentum=0.5"), "{set}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for args in
        [&["list"][..], &["show", "multistep"], &["run", "simsiam", "--scale", "mock", "--json", "-q"]]
    {
        let mut child =
            sim(folder.path(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), text(&ended.stderr)), (Some(0), String::new()), "{args:?}");
    }
}

#[test]
fn a_run_that_several_studies_need_is_made_once_and_copied() {
    let folder = tempfile::tempdir().unwrap();
    let all = output(folder.path(), &["run", "all", "--scale", "mock"]);
    let (out, err) = (text(&all.stdout), text(&all.stderr));
    assert!(all.status.success(), "{err}");
    assert!(err.contains("of them different") && err.contains("simsiam, stopgrad"), "{err}");
    assert!(err.contains("predictor/decayed seed 0: the same run as") && err.contains("copied"), "{err}");
    assert!(out.contains("studies: ") && out.contains(" reproduced, "), "{out}");
    let file =
        |run: &str, name: &str| std::fs::read(folder.path().join("runs").join(run).join(name)).unwrap();
    let (made, copied) = ("stopgrad/with/seed-0", "predictor/decayed/seed-0");
    for name in ["config.toml", "metrics.csv"] {
        assert!(file(made, name) == file(copied, name), "{name}");
    }
    // Its own outcome.json, which seals its own env.json.
    assert!(file(made, "outcome.json") != file(copied, "outcome.json"));
    assert!(text(&file(copied, "env.json")).contains(made));

    // A later command takes over what lies there; starting over does not.
    std::fs::remove_dir_all(folder.path().join("runs/membank")).unwrap();
    let again = output(folder.path(), &["run", "membank", "--scale", "mock"]);
    assert!(text(&again.stderr).contains("simsiam seed 0: the same run as"), "{}", text(&again.stderr));
    let fresh = output(folder.path(), &["run", "membank", "--scale", "mock", "--fresh"]);
    assert!(!text(&fresh.stderr).contains("the same run as"), "{}", text(&fresh.stderr));
    assert_eq!(text(&again.stdout), text(&fresh.stdout));
}

const DIVERGING: &str = r#"title    = "Diverging"
question = "Does it?"
base     = "simsiam"
facts    = ["batch", "negatives", "momentum-encoder", "epoch-seconds", "memory"]

[[arm]]
name = "calm"

[[arm]]
name = "wild"
optim.base_lr = 1e7
"#;

#[test]
fn a_divergence_that_a_claim_expects_is_an_outcome_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let run = |claim: &str| {
        std::fs::write(folder.path().join("d.toml"), format!("{DIVERGING}{claim}")).unwrap();
        output(folder.path(), &["run", "d.toml", "--scale", "mock", "--seeds", "8", "-q"])
    };
    let unexpected = run("");
    assert_eq!(unexpected.status.code(), Some(3), "{}", text(&unexpected.stderr));
    let claim = "[[claim]]\ntext = \"{arm} diverges\"\narm = \"wild\"\nis = \"diverges\"\n";
    let expected = run(claim);
    assert_eq!(expected.status.code(), Some(0), "{}", text(&expected.stderr));
    let out = text(&expected.stdout);
    assert!(out.contains("reproduced    wild diverges"), "{out}");
    assert!(out.contains(" wild diverges: 8 of 8 seeds, E = 57\n"), "{out}");
    // Of both arms the table says what they are.
    let header = out.lines().find(|line| line.starts_with("arm ")).unwrap();
    for title in ["batch", "negatives", "momentum encoder", "s / epoch", "MiB, reckoned", "runs"] {
        assert!(header.contains(title), "{header}");
    }
}
