//! What a run was made from belongs to it: numbers of other images are refused, never mixed in, and
//! results that were damaged after a run had ended are made again or refused by name.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of class folders with six training and four held-out images each, drawn from `draw`.
fn images(root: &Path, draw: u32) {
    for (class, name) in ["cat", "dog"].iter().enumerate() {
        for (half, count) in [("train", 6), ("test", 4)] {
            let folder = root.join(half).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                picture(&folder.join(format!("{index}.png")), draw + 100 * class as u32 + index);
            }
        }
    }
}

fn picture(path: &Path, draw: u32) {
    let pixel =
        |x: u32, y: u32| image::Rgb([(x * 17 + draw) as u8, (y * 23 + 3 * draw) as u8, (x * y + draw) as u8]);
    image::RgbImage::from_fn(12, 12, pixel).save(path).unwrap();
}

/// A sandbox with images in `a/imgs` and others in `b/imgs`.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Sandbox {
        let sandbox = Sandbox(tempfile::tempdir().unwrap());
        images(&sandbox.path("a/imgs"), 0);
        images(&sandbox.path("b/imgs"), 7);
        sandbox
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Runs a study on `imgs` below `folder`, with a run of four small steps.
    fn run(&self, folder: &str, study: &str, extra: &[&str]) -> Output {
        self.run_on("folder:imgs", folder, study, extra)
    }

    fn run_on(&self, data: &str, folder: &str, study: &str, extra: &[&str]) -> Output {
        self.run_seeds(1, data, folder, study, extra)
    }

    fn run_seeds(&self, seeds: u64, data: &str, folder: &str, study: &str, extra: &[&str]) -> Output {
        let seeds = seeds.to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.args(["run", study, "--scale", "smoke", "--seeds", &seeds, "--data", data, "--quiet"]);
        command.args([
            "--set",
            "schedule.batch=4",
            "--set",
            "data.train_images=0",
            "--set",
            "data.test_images=0",
        ]);
        command.arg("--out").arg(self.path("runs")).args(extra).current_dir(self.path(folder));
        command.output().unwrap()
    }

    fn succeeds(&self, folder: &str, study: &str, extra: &[&str]) -> String {
        let output = self.run(folder, study, extra);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{study} {extra:?}: {stderr}");
        stderr
    }

    fn refused(&self, folder: &str, study: &str, words: &[&str]) {
        let output = self.run(folder, study, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{study}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{study} does not say '{word}': {stderr}");
        }
    }

    fn env(&self, run: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path(run).join("env.json")).unwrap()).unwrap()
    }
}

/// What happens to a file or a folder behind the program's back.
type Change = fn(&Path);

/// Both ways out of a refusal.
const WAYS: [&str; 3] = ["other images", "--fresh", "--out DIR"];

#[test]
fn a_finished_run_is_refused_when_its_images_are_others() {
    let changes: [(&str, Change); 4] = [
        ("changed", |imgs| picture(&imgs.join("train/cat/0.png"), 99)),
        ("added", |imgs| picture(&imgs.join("train/dog/9.png"), 98)),
        ("removed", |imgs| std::fs::remove_file(imgs.join("test/dog/3.png")).unwrap()),
        ("relabelled", |imgs| {
            std::fs::rename(imgs.join("train/dog/5.png"), imgs.join("train/cat/5b.png")).unwrap();
        }),
    ];
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    for (what, change) in changes {
        let _ = std::fs::remove_dir_all(sandbox.path("a/imgs"));
        images(&sandbox.path("a/imgs"), 0);
        sandbox.succeeds("a", "simsiam", &[]);
        change(&sandbox.path("a/imgs"));
        let words: Vec<&str> = WAYS.into_iter().chain(["simsiam/simsiam/seed-0", "folder:imgs"]).collect();
        println!("{what}");
        sandbox.refused("a", "simsiam", &words);
    }
    // With more seeds old and new images would be averaged.
    let more = sandbox.run_seeds(2, "folder:imgs", "a", "simsiam", &[]);
    assert_eq!(more.status.code(), Some(4), "{}", String::from_utf8_lossy(&more.stderr));
    assert!(
        !sandbox.path("runs/simsiam/simsiam/seed-1").join("outcome.json").exists(),
        "nothing was trained"
    );
    // Another folder of the same relative name.
    sandbox.refused("b", "simsiam", &WAYS);
    sandbox.succeeds("b", "simsiam", &["--fresh"]);
    sandbox.succeeds("b", "simsiam", &[]);
}

#[test]
fn a_run_of_other_images_is_no_twin() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "stopgrad", &[]);
    sandbox.succeeds("a", "predictor", &[]);
    assert!(
        sandbox.env("runs/predictor/decayed/seed-0")["taken_from"].is_string(),
        "the same images are shared"
    );
    std::fs::remove_dir_all(sandbox.path("runs/predictor")).unwrap();
    sandbox.succeeds("b", "predictor", &[]);
    let env = sandbox.env("runs/predictor/decayed/seed-0");
    assert!(env["taken_from"].is_null());
    assert_ne!(env["data_sha256"], sandbox.env("runs/stopgrad/with/seed-0")["data_sha256"]);
}

#[test]
fn a_changed_file_inside_an_archive_of_cifar_is_seen() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("a/cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).unwrap();
    let record =
        |label: u8, shade: u8| std::iter::once(label).chain((0..3072).map(move |i| (i as u8) ^ shade));
    let batch = |shade: u8| (0..10).flat_map(|label| record(label, shade + label)).collect::<Vec<u8>>();
    for (index, name) in
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
            .iter()
            .enumerate()
    {
        std::fs::write(folder.join(format!("{name}.bin")), batch(index as u8)).unwrap();
    }
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    std::fs::write(folder.join("batches.meta.txt"), names).unwrap();
    let run = || sandbox.run_on("cifar10:cifar-10-batches-bin", "a", "simsiam", &[]);
    assert!(run().status.success(), "{}", String::from_utf8_lossy(&run().stderr));
    std::fs::write(folder.join("data_batch_3.bin"), batch(77)).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_images_of_a_half_finished_run_are_compared_before_its_state_is_restored() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "membank", &["--m", "0.8"]);
    let run = sandbox.path("runs/membank/m=0.8/seed-0");
    std::fs::remove_file(run.join("outcome.json")).unwrap();
    // Another number of images: the memory bank would not fit.
    picture(&sandbox.path("a/imgs/train/dog/9.png"), 98);
    let output = sandbox.run("a", "membank", &["--m", "0.8"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("other images") && !stderr.contains("memory bank does not fit"), "{stderr}");
}

#[test]
fn finished_runs_whose_images_are_gone_still_have_their_answer() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    std::fs::remove_dir_all(sandbox.path("a/imgs")).unwrap();
    let said = sandbox.succeeds("a", "simsiam", &[]);
    assert!(said.contains("cannot be compared"), "{said}");
}

/// Damages the file: one byte changed, cut short, emptied, removed, replaced by another.
fn damages() -> [(&'static str, Change); 5] {
    [
        ("one byte changed", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut short", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
        }),
        ("emptied", |path| std::fs::write(path, "").unwrap()),
        ("removed", |path| std::fs::remove_file(path).unwrap()),
        ("replaced", |path| std::fs::write(path, std::fs::read("Cargo.toml").unwrap()).unwrap()),
    ]
}

#[test]
fn a_damaged_result_of_a_finished_run_is_made_again_with_the_same_bytes() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let run = sandbox.path("runs/simsiam/simsiam/seed-0");
    let of = |name: &str| std::fs::read(run.join(name)).unwrap();
    let without_times = |bytes: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| {
                [&line.split(',').collect::<Vec<_>>()[..3], &line.split(',').collect::<Vec<_>>()[4..]]
                    .concat()
                    .join(",")
            })
            .collect()
    };
    let (weights, spectrum, metrics) =
        (of("weights.safetensors"), of("spectrum.csv"), without_times(of("metrics.csv")));
    for name in ["weights.safetensors", "spectrum.csv", "metrics.csv"] {
        for (what, damage) in damages() {
            damage(&run.join(name));
            let said = sandbox.succeeds("a", "simsiam", &[]);
            assert!(said.contains(name), "{name} {what}: {said}");
            assert!(of("weights.safetensors") == weights, "{name} {what}");
            assert!(of("spectrum.csv") == spectrum, "{name} {what}");
            assert_eq!(without_times(of("metrics.csv")), metrics, "{name} {what}");
            assert_eq!(sandbox.succeeds("a", "simsiam", &[]), "", "{name} {what}: whole again");
        }
    }
}

#[test]
fn what_no_checkpoint_makes_again_is_refused_by_name() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &["--set", "measure.em.trajectory=true"]);
    let run = sandbox.path("runs/simsiam/simsiam/seed-0");
    let step = "trajectory/step-00000003.safetensors";
    for name in ["env.json", "outcome.json", step] {
        for (what, damage) in damages() {
            if (name, what) == ("outcome.json", "removed") {
                continue;
            }
            let before = std::fs::read(run.join(name)).unwrap();
            damage(&run.join(name));
            let output = sandbox.run("a", "simsiam", &["--set", "measure.em.trajectory=true"]);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(4), "{name} {what}: {stderr}");
            assert!(stderr.contains(name), "{name} {what}: {stderr}");
            std::fs::write(run.join(name), before).unwrap();
        }
    }
    sandbox.succeeds("a", "simsiam", &["--set", "measure.em.trajectory=true"]);
}

#[test]
fn readers_of_a_finished_run_find_its_damage() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let metrics = sandbox.path("runs/simsiam/simsiam/seed-0/metrics.csv");
    let text = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, text.replacen("0.", "1.", 1)).unwrap();
    let refused = simsiam_em::record::read_metrics(&metrics).unwrap_err();
    assert_eq!(refused.exit_code(), 4);
    assert!(refused.to_string().contains("metrics.csv: is damaged"), "{refused}");
}

#[test]
fn an_outcome_of_a_version_that_kept_no_digests_is_believed() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let outcome = sandbox.path("runs/simsiam/simsiam/seed-0/outcome.json");
    std::fs::write(&outcome, "{\n  \"outcome\": \"finished\"\n}\n").unwrap();
    assert_eq!(sandbox.succeeds("a", "simsiam", &[]), "");
}

#[test]
fn runs_of_another_program_or_kernel_are_told_in_the_answer_and_the_report() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "stopgrad", &[]);
    let run = sandbox.path("runs/stopgrad/with/seed-0");
    let mut env = sandbox.env("runs/stopgrad/with/seed-0");
    env["numbers"] = serde_json::json!(0);
    std::fs::write(run.join("env.json"), env.to_string()).unwrap();
    std::fs::write(run.join("outcome.json"), "{\"outcome\": \"finished\"}").unwrap();
    let output = sandbox.run("a", "stopgrad", &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("caution: the runs were not all computed by the same program and kernel"),
        "{said}"
    );
    assert!(said.contains("numbers 0 (with seed 0)"), "{said}");
    let page = std::fs::read_to_string(sandbox.path("runs/stopgrad/report.html")).unwrap();
    assert!(page.contains("Caution: the runs were not all computed"));
}

#[test]
fn a_twin_brings_its_trajectory() {
    let sandbox = Sandbox::new();
    let kept = ["--set", "measure.em.trajectory=true"];
    sandbox.succeeds("a", "stopgrad", &kept);
    sandbox.succeeds("a", "predictor", &kept);
    assert!(sandbox.env("runs/predictor/decayed/seed-0")["taken_from"].is_string());
    let twin = sandbox.path("runs/predictor/decayed/seed-0/trajectory/step-00000003.safetensors");
    assert!(twin.is_file());
}

/// Runs `sim` with `args` in `folder`: exit code, and all that it said.
fn sim(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn damaged_weights_are_not_measured_and_other_images_only_by_name() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let (run, a) = (sandbox.path("runs/simsiam/simsiam/seed-0"), sandbox.path("a"));
    let eval = |extra: &[&str]| sim(&a, &[&["eval", run.to_str().unwrap()], extra].concat());
    assert_eq!(eval(&[]).0, Some(0), "{}", eval(&[]).1);
    picture(&sandbox.path("a/imgs/train/cat/0.png"), 99);
    let (code, said) = eval(&[]);
    assert!(code == Some(4) && said.contains("other images than folder:imgs"), "{said}");
    assert_eq!(eval(&["--data", "folder:imgs"]).0, Some(0));
    let weights = run.join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    for given in [&run, &weights] {
        let embed = ["embed", "--weights", given.to_str().unwrap(), "--images", "imgs", "--out", "x.npy"];
        let (code, said) = sim(&a, &embed);
        assert!(code == Some(4) && said.contains("weights.safetensors: is damaged"), "{said}");
    }
    assert!(!a.join("x.npy").exists());
}

#[test]
fn studies_of_different_images_side_by_side_are_told_in_the_report() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    std::fs::rename(sandbox.path("runs"), sandbox.path("first")).unwrap();
    sandbox.succeeds("b", "stopgrad", &[]);
    let root = sandbox.path("");
    for (format, told) in
        [("md", "Caution: the runs did not see the same images of folder:imgs"), ("latex", "% caution: ")]
    {
        let (code, said) = sim(&root, &["report", "first/simsiam", "runs/stopgrad", "--format", format]);
        assert!(code == Some(0) && said.contains(told), "{said}");
    }
    let (_, alone) = sim(&root, &["report", "first/simsiam", "--format", "md"]);
    assert!(!alone.contains("Caution"), "{alone}");
}

/// The newest of a run's checkpoints, removed.
fn forget_the_newest_checkpoint(run: &Path) {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap();
    let newest = entries.map(|entry| entry.unwrap().path()).max().unwrap();
    std::fs::remove_dir_all(newest).unwrap();
}

#[test]
fn a_checkpoint_knows_its_images_and_without_any_record_a_run_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let run = sandbox.path("runs/simsiam/simsiam/seed-0");
    let weights = std::fs::read(run.join("weights.safetensors")).unwrap();
    let unfinish = || {
        std::fs::remove_file(run.join("outcome.json")).unwrap();
        std::fs::remove_file(run.join("env.json")).unwrap();
        forget_the_newest_checkpoint(&run);
    };
    unfinish();
    sandbox.refused("b", "simsiam", &["images have changed", "--fresh"]);
    sandbox.succeeds("a", "simsiam", &[]);
    assert!(
        std::fs::read(run.join("weights.safetensors")).unwrap() == weights,
        "it went on with its own images"
    );
    std::fs::write(run.join("outcome.json"), "{\"outcome\": \"finished\"}").unwrap();
    std::fs::remove_file(run.join("env.json")).unwrap();
    sandbox.refused("a", "simsiam", &["nobody knows which images", "--fresh", "--out DIR"]);
}

#[test]
fn an_altered_answer_and_runs_of_an_older_version_are_told() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let (root, answer) = (sandbox.path(""), sandbox.path("runs/simsiam/answer.json"));
    let report = || sim(&root, &["report", "runs/simsiam", "--format", "md"]);
    assert_eq!(report().0, Some(0));
    let text = std::fs::read_to_string(&answer).unwrap();
    std::fs::write(&answer, text.replacen("\"mean\": ", "\"mean\": 9", 1)).unwrap();
    let (code, said) = report();
    assert!(
        code == Some(4) && said.contains("answer.json: damaged (it does not match its checksum)"),
        "{said}"
    );
    let run = sandbox.path("runs/simsiam/simsiam/seed-0");
    let mut env = sandbox.env("runs/simsiam/simsiam/seed-0");
    env["numbers"] = serde_json::json!(0);
    std::fs::write(run.join("env.json"), env.to_string()).unwrap();
    std::fs::write(run.join("outcome.json"), "{\"outcome\": \"finished\"}").unwrap();
    let said = String::from_utf8(sandbox.run("a", "simsiam", &[]).stdout).unwrap();
    assert!(said.contains("caution: the runs were made by another version"), "{said}");
    assert_eq!(report().0, Some(0), "the same command writes the answer again");
}

#[test]
fn images_of_one_class_are_told_beside_the_table() {
    let sandbox = Sandbox::new();
    for half in ["train", "test"] {
        std::fs::remove_dir_all(sandbox.path(&format!("a/imgs/{half}/dog"))).unwrap();
    }
    let said = String::from_utf8(sandbox.run("a", "simsiam", &[]).stdout).unwrap();
    assert!(said.contains("caution: the images have one class, of which every guess is right"), "{said}");
}

#[test]
fn a_study_file_whose_name_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let study = "title = \"t\"\nquestion = \"q?\"\nbase = \"simsiam\"\n[[arm]]\nname = \"a\"\n";
    for name in ["...toml", "..toml", ".toml"] {
        std::fs::write(folder.path().join(name), study).unwrap();
        let (code, said) =
            sim(folder.path(), &["run", &format!("./{name}"), "--scale", "mock", "--out", "out/in"]);
        assert!(code == Some(2) && said.contains("another name"), "{name}: {said}");
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn the_spectrum_is_that_of_the_last_measurement() {
    let sandbox = Sandbox::new();
    sandbox.succeeds("a", "simsiam", &[]);
    let run = sandbox.path("runs/simsiam/simsiam/seed-0");
    let text = std::fs::read_to_string(run.join("spectrum.csv")).unwrap();
    let values: Vec<f64> =
        text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    let measured = simsiam_em::record::read_metrics(&run.join("metrics.csv")).unwrap().last("val/rankme");
    assert_eq!(measured, Some(simsiam_em::measure::collapse::rankme(&values)));
}
