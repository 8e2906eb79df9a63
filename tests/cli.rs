//! The command line: what a person mistypes gives one clear message and the documented exit code.

use crate::support::output;
use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
}

/// Runs a command that must fail with `code` and a message with all of `words`, and never a panic.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    let output = sim(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "sim {args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "sim {args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "sim {args:?} does not say '{word}': {stderr}");
    }
}

#[test]
fn mistakes_on_the_command_line_exit_with_2_and_name_the_way_out() {
    fails(&["run", "multistp"], 2, &["multistep"]);
    fails(&["run", "multistep", "--kk", "3"], 2, &["--k"]);
    fails(&["run", "multistep", "--k", "0"], 2, &["k"]);
    fails(&["run", "multistep", "--k", "many"], 2, &["many"]);
    fails(&["run", "membank", "--m", "1.5"], 2, &["1.5"]);
    fails(&["run", "membank", "--m", "-0.1"], 2, &["-0.1"]);
    fails(&["run", "simsiam", "--set", "optim.base_lrr=1"], 2, &["base_lr"]);
    fails(&["run", "simsiam", "--set", "optim.base_lr=fast"], 2, &["optim.base_lr"]);
    fails(&["run", "simsiam", "--set", "schedule.batch=0"], 2, &["schedule.batch"]);
    fails(&["run", "simsiam", "--set", "schedule.batch=9999999999"], 2, &["schedule.batch"]);
    fails(&["run", "simsiam", "--set", "encoder.backbone.resnet8.width=0"], 2, &["width"]);
    fails(&["run", "simsiam", "--set", "encoder.projector.dim=1000000000"], 2, &["dim"]);
    fails(&["run", "simsiam", "--set", "objective.pairs=0"], 2, &["objective.pairs"]);
    fails(&["run", "membank", "--set", "objective.pairs=2"], 2, &["objective.pairs", "memory bank"]);
    fails(&["run", "simsiam", "--set", "optim.predictor_lr=fast"], 2, &["constant"]);
    fails(&["run", "simsiam", "--set", "optim.momentum=1"], 2, &["optim.momentum"]);
    // Of so many GPUs no machine has the last.
    fails(&["run", "simsiam", "--device", "cuda:4711"], 2, &["cuda:4711", "GPU"]);
    fails(&["run", "simsiam", "--scale", "laptp"], 2, &["laptop"]);
    fails(&["run", "simsiam", "--data", "imagenet:/x"], 2, &["shapes"]);
    fails(&["nonsense"], 2, &["nonsense"]);
    for command in [&["run", "simsiam"][..], &["sweep", "membank", "--over", "m=0,1"]] {
        let fails = |seeds: &str, words: &[&str]| fails(&[command, &["--seeds", seeds]].concat(), 2, words);
        fails("0", &["--seeds", "'0'", "at least one seed"]);
        fails("5..5", &["'5..5'", "no seeds", "5..13"]);
        fails("a..b", &["'a..b'", "such as 10..18"]);
        fails("10001", &["at most 10000"]);
        fails("0..10001", &["at most 10000"]);
    }
}

#[test]
fn keys_with_a_flag_of_their_own_are_set_by_it_once() {
    for (flag, value, key, other) in [
        ("--epochs", "3", "schedule.epochs", "schedule={epochs=4}"),
        ("--lr", "0.125", "optim.base_lr", "optim.base_lr = 1"),
        ("--batch-size", "24", "schedule.batch", "schedule.batch=16"),
    ] {
        let by_flag = sim(&["show", "simsiam", flag, value, "--json"]);
        let by_key = sim(&["show", "simsiam", "--set", &format!("{key}={value}"), "--json"]);
        let recipe = |output: &Output, typed: &str| {
            let mut line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let said = line["recipe"][key]["set_by"].take();
            assert_eq!(said, typed);
            line
        };
        let set = format!("--set {key}={value}");
        assert_eq!(recipe(&by_flag, &format!("{flag} {value}")), recipe(&by_key, &set));
        fails(&["run", "simsiam", flag, value, "--set", other], 2, &[flag, "--set", key, "give one of them"]);
        fails(&["run", "simsiam", flag, "many"], 2, &["many", key]);
        fails(&["run", "simsiam", flag, "0", flag, "1"], 2, &[flag]);
    }
    fails(&["run", "simsiam", "--epochs", "0"], 2, &["--epochs 0", "schedule.epochs"]);
    fails(&["run", "simsiam", "--lr", "-1"], 2, &["--lr -1", "optim.base_lr"]);
    fails(&["run", "batchsize", "--batch-size", "32"], 2, &["--batch-size 32", "the same run", "--batch"]);
    fails(&["sweep", "simsiam", "--over", "optim.base_lr=1,2", "--lr", "3"], 2, &["--over"]);
    // What others call them is no flag, but known.
    for (typed, meant) in [("--learning-rate", "--lr"), ("--bs", "--batch-size"), ("--epoch", "--epochs")] {
        for command in [&["run", "simsiam"][..], &["show", "membank"]] {
            fails(&[command, &[typed, "1"]].concat(), 2, &[typed, &format!("'{meant}'")]);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_would_not_fit_into_memory_is_refused_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let huge = ["--set", "schedule.batch=1000000", "--set", "augment.size=1024"];
    let smoke = ["run", "simsiam", "--scale", "smoke", "--out", &out];
    fails(&[&smoke[..], &huge].concat(), 2, &["GiB", "schedule.batch"]);
}

#[test]
fn missing_and_damaged_files_exit_with_4_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs").display().to_string();
    fails(&["run", "simsiam", "--out", &out, "--data", "folder:/nowhere/at/all"], 4, &["/nowhere/at/all"]);
    fails(&["run", "simsiam", "--out", &out, "--data", "cifar10:/nowhere"], 4, &["/nowhere"]);
    fails(&["replay", "/nowhere.safetensors"], 4, &["/nowhere.safetensors"]);
    let bad = folder.path().join("bad.safetensors");
    for bytes in [Vec::new(), b"not a tensor file".to_vec(), vec![255; 64], b"PK\x03\x04 broken".to_vec()] {
        std::fs::write(&bad, bytes).unwrap();
        let bad = bad.display().to_string();
        fails(&["replay", &bad], 4, &["bad.safetensors"]);
        fails(
            &["embed", "--weights", &bad, "--images", &bad, "--out", "/tmp/x.npy"],
            4,
            &["bad.safetensors"],
        );
    }
    // A single image cannot be skipped.
    let message = simsiam_em::data::decode(&bad, simsiam_em::data::Exif::Ignored)
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(message.contains("bad.safetensors") && !message.contains("--skip-bad"), "{message}");
    fails(&["data", "preview", "--out", "sheet.jpg"], 2, &["sheet.jpg", ".png"]);
    fails(&["plot", "/nowhere"], 4, &["/nowhere"]);
    fails(&["eval", "/nowhere"], 4, &["/nowhere"]);
    let csv = folder.path().join("figure.csv");
    std::fs::write(&csv, "panel,arm\n1,2\n").unwrap();
    fails(&["plot", &csv.display().to_string()], 4, &["figure.csv", "line 1"]);
}

#[test]
fn an_unwritable_directory_exits_with_5() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "a file, not a folder").unwrap();
    let below = file.join("runs").display().to_string();
    fails(&["run", "simsiam", "--scale", "smoke", "--out", &below], 5, &["file"]);
    fails(&["data", "preview", "--out", &file.join("x.png").display().to_string()], 5, &["x.png"]);
}

#[test]
fn products_of_bf16_numbers_are_trained_with_where_the_processor_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let command = |kernel: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args([
            "run",
            "simsiam",
            "--scale",
            "smoke",
            "--seeds",
            "1",
            "--set",
            "encoder.precision=bf16",
        ]);
        command.args(["--set", "encoder.backbone.resnet8.width=16", "-q", "--out"]).arg(&out);
        kernel.map(|kernel| command.env("SIM_KERNEL", kernel));
        command.output().unwrap()
    };
    let refused = command(Some("portable"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("precision bf16 needs"));
    if simsiam_em::kernel::bf16().is_none() {
        println!("skipped: no AVX512-BF16 on this machine");
        return;
    }
    let done = command(None);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let run = out.join("simsiam/simsiam/seed-0");
    let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap();
    assert!(read("env.json").contains("\"kernel\": \"avx512-bf16\""));
    assert!(read("config.toml").contains("precision = \"bf16\""));
}

#[test]
fn a_precision_left_open_is_settled_once_for_all_runs_of_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let run = |out: &str, precision: &str, seeds: &str| {
        let set = format!("encoder.precision={precision}");
        let args = ["run", "simsiam", "--scale", "smoke", "--seeds", seeds, "--set", &set, "--out", out];
        let done = output(folder.path(), &args);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let is_bf16 = |out: &str, seed: u64| {
        let config = folder.path().join(out).join(format!("simsiam/simsiam/seed-{seed}/config.toml"));
        std::fs::read_to_string(config).unwrap().contains("precision = \"bf16\"")
    };
    let said = run("open", "auto", "1");
    assert!(said.contains("encoder.precision = auto: "), "{said}");
    assert_eq!(is_bf16("open", 0), said.contains("auto: bf16"));
    // Runs that are there settle it, whatever would be measured now.
    let known: &[&str] = if simsiam_em::kernel::bf16().is_some() { &["f32", "bf16"] } else { &["f32"] };
    for precision in known {
        run(precision, precision, "1");
        let said = run(precision, "auto", "2");
        assert!(!said.contains("auto: "), "{said}");
        assert_eq!(is_bf16(precision, 1), *precision == "bf16");
    }
}

#[test]
fn mistakes_in_ones_own_study_show_line_and_caret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let head = "title = \"Mine\"\nquestion = \"?\"\nbase = \"simsiam\"\n\n[[arm]]\nname = \"a\"\n";
    for (line, words) in [
        ("optim.base_lr = \"fast\"", ["mine.toml", "base_lr"]),
        ("optim.base_lrr = 0.1", ["mine.toml", "base_lr"]),
        ("eta.memory-bank = { m = 2.0 }", ["mine.toml", "m"]),
        ("eta.k-step = { k = 0 }", ["mine.toml", "k"]),
        ("eta.k-step = ", ["mine.toml", "7"]),
    ] {
        std::fs::write(&path, format!("{head}{line}\n")).unwrap();
        fails(&["run", &path.display().to_string(), "--scale", "smoke"], 2, &words);
    }
}

#[test]
fn ones_own_study_does_not_take_the_name_of_a_built_in_one() {
    // By any path, that of the built-in study's own file among them.
    for path in ["studies/simsiam.toml", "./studies/simsiam.toml"] {
        fails(&["run", path, "--scale", "smoke"], 2, &[path, "is built in", "another name"]);
    }
}

#[test]
fn fresh_runs_of_the_closed_form_are_told_of_no_other_version() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let output = sim(&["run", "linear-em", "--scale", "smoke", "--seeds", "1", "--out", &out]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("linear-em"), "{said}");
    assert!(!said.contains("another version"), "{said}");
    // An arm that is 60 times as long is cut in the figure of curves, which says so.
    let figure =
        |name: &str| std::fs::read_to_string(folder.path().join(format!("linear-em/figures/{name}.csv")));
    assert!(figure("curves").unwrap().contains("cut at epoch 20, goes on: bank-long to 1200"));
    assert!(!figure("final").unwrap().contains("cut at"));
}

#[test]
fn runs_in_closed_form_are_not_reckoned_as_training() {
    let args = ["run", "linear-field", "--scale", "smoke", "--seeds", "100"];
    fails(&args, 2, &["800 runs; at most 400"]);
}

#[test]
fn a_loss_that_is_not_finite_exits_with_3_says_the_step_and_spares_the_other_arms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = "title = \"Mine\"\nquestion = \"?\"\nbase = \"simsiam\"\n\n[[arm]]\nname = \"wild\"\noptim.base_lr = 1e30\n\n[[arm]]\nname = \"tame\"\n";
    std::fs::write(&path, text).unwrap();
    let out = folder.path().join("runs");
    let args = ["run", &path.display().to_string(), "--scale", "smoke", "--out", &out.display().to_string()];
    let output = sim(&args);
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{all}");
    assert!(all.contains("step"), "{all}");
    assert!(out.join("mine/tame/seed-0/weights.safetensors").is_file(), "{all}");
}

#[test]
fn a_directory_in_use_exits_with_6() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let long =
        ["--set", "schedule.epochs=2000", "--scale", "smoke", "--seeds", "1", "--jobs", "1", "--out", &out];
    let mut first =
        Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "simsiam", "-q"]).args(long).spawn().unwrap();
    let metrics = folder.path().join("simsiam/simsiam/seed-0/metrics.csv");
    let begun = std::time::Instant::now();
    while !metrics.is_file() {
        assert!(begun.elapsed().as_secs() < 60, "no metrics");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Without --fresh it would wait.
    let second =
        Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "simsiam", "-q", "--fresh"]).args(long).output();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.unwrap().status.code(), Some(6));
}

#[test]
fn a_study_has_the_figures_that_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let run = [
        "run",
        "dimensional-collapse",
        "--width",
        "8",
        "--scale",
        "smoke",
        "--seeds",
        "2",
        "-q",
        "--out",
        out,
    ];
    let ended = Command::new(env!("CARGO_BIN_EXE_sim")).args(run).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let study = folder.path().join("dimensional-collapse");
    let figure = |name: &str| std::fs::read_to_string(study.join("figures").join(name)).unwrap();
    // The projector's outputs have 32 dimensions, relative to the largest of each run.
    let spectrum = figure("spectrum.csv");
    assert_eq!(spectrum.lines().filter(|line| line.ends_with(",1.0,1.0")).count(), 4);
    assert!(spectrum.lines().count() > 4 * 20);
    let scatter = figure("rank-accuracy.csv");
    assert!(scatter.contains("Spearman's rank correlation over 4 runs: "), "{scatter}");
    assert_eq!(scatter.lines().filter(|line| line.starts_with("rank-accuracy,")).count(), 4);
    let page = std::fs::read_to_string(study.join("report.html")).unwrap();
    assert!(page.contains("singular value / largest") && page.contains("Spearman"));
}

#[test]
fn figures_redraw_from_their_csv_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    assert!(sim(&["run", "stopgrad", "--scale", "smoke", "-q", "--out", &out]).status.success());
    let figures = folder.path().join("stopgrad/figures");
    let svg = std::fs::read(figures.join("curves.svg")).unwrap();
    assert!(String::from_utf8_lossy(&svg).contains("<text"));
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    std::fs::copy(figures.join("curves.csv"), alone.join("curves.csv")).unwrap();
    assert!(sim(&["plot", &alone.display().to_string()]).status.success());
    assert!(svg == std::fs::read(alone.join("curves.svg")).unwrap());
    assert!(
        std::fs::read(figures.join("curves.png")).unwrap()
            == std::fs::read(alone.join("curves.png")).unwrap()
    );
}

#[test]
fn embeddings_of_ones_own_weights_are_a_numpy_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs").display().to_string();
    assert!(
        sim(&["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out", &out]).status.success()
    );
    let weights = folder.path().join("runs/simsiam/simsiam/seed-0/weights.safetensors").display().to_string();
    let picture = folder.path().join("picture.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([9, 99, 200])).save(&picture).unwrap();
    let npy = folder.path().join("emb.npy");
    let [picture, npy_path] = [&picture, &npy].map(|path| path.display().to_string());
    let output =
        sim(&["embed", "--weights", &weights, "--images", &picture, "--out", &npy_path, "--size", "16"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(npy).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header_len = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    assert_eq!(header_len % 64, 0);
    let header = String::from_utf8_lossy(&bytes[10..header_len]).into_owned();
    assert!(header.contains("(1, "), "{header}");
}

#[test]
fn every_study_runs_through_at_the_smallest_scale() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let all = sim(&["run", "all", "--scale", "smoke", "-q", "--out", &out]);
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    let text = String::from_utf8_lossy(&all.stdout);
    let studies = simsiam_em::study::Study::all().unwrap().len();
    assert!(text.contains(&format!("claims of {studies} studies")), "{text}");
    assert!(folder.path().join("symmetry/asymmetric-2x/seed-1/weights.safetensors").is_file());
}

#[test]
fn completions_know_the_scales_and_manual_pages_the_commands() {
    let script = |shell: &str| String::from_utf8(sim(&["completions", shell]).stdout).unwrap();
    let bash = script("bash");
    assert!(bash.contains("\"smoke laptop cifar cifar-small imagenet\""), "{bash}");
    assert!(bash.contains("\"html md latex\""));
    assert!(script("zsh").contains("(smoke laptop cifar cifar-small imagenet)"));
    // They are no rule: a scale of tests is taken, and what is none is refused in the same words.
    fails(&["run", "simsiam", "--scale", "laptp"], 2, &["--scale laptp: unknown scale", "laptop"]);

    let folder = tempfile::tempdir().unwrap();
    let pages = sim(&["man", &folder.path().display().to_string()]);
    assert!(pages.status.success(), "{pages:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("sim.1").contains("sim\\-map(1)") && read("sim.1").contains("Exit codes"));
    assert!(read("sim-run.1").contains("until\\-decided") && read("sim-data-check.1").contains("skip\\-bad"));
    // A study is no command of its own.
    assert!(!folder.path().join("sim-run-simsiam.1").exists());
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 15);
}
