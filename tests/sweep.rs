//! `sim sweep` with a formula in place of training, the closed form as a study, and what both
//! refuse.

use super::support::{Rows, output as sim};
use super::theory::oracle::{Rule as Step, State, World};
use ndarray::{Array1, Array2};
use simsiam_em::eta::{BankPlace, Rule, Size, Steps, Views};
use simsiam_em::kernel::Precision;
use simsiam_em::optim::OptimConfig;
use simsiam_em::report::Figure;
use simsiam_em::study::{Request, Study, closed_form};
use simsiam_em::theory::{ClosedForm, Course, Direction, Optimum, Point, Prediction, Rates, Targets};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\\', "/")
}

const GRID: [&str; 6] = ["sweep", "membank", "--over", "m=0..1:5", "--over", "k=1,10"];

#[test]
fn a_grid_is_run_drawn_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let mock = [&GRID[..], &["--scale", "mock"]].concat();
    let run = sim(folder.path(), &mock);
    let out = text(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    super::mock::assert_snapshot("sweep.txt", &out);
    assert!(text(&run.stderr).contains("5 values of m × 2 values of k of the arm m=0.8, 10 runs"));
    let own = folder.path().join("runs/membank-sweep-m-k");
    for line in out.lines().filter(|line| line.starts_with("runs/")) {
        assert!(folder.path().join(line).is_file(), "{line}");
    }
    let recipe = std::fs::read_to_string(own.join("m=0.25,k=10/seed-0/config.toml")).unwrap();
    assert!(recipe.contains("m = 0.25") && recipe.contains("k = 10"), "{recipe}");

    // A row for each cell: 60 + 10 m by the formula.
    let mut table = csv::Reader::from_path(own.join("sweep.csv")).unwrap();
    let header = table.headers().unwrap().clone();
    assert_eq!(
        &header.iter().take(3).collect::<Vec<_>>(),
        &["eta.memory-bank.m", "eta.memory-bank.k", "val/knn_top1"]
    );
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 10);
    assert_eq!((&rows[3][0], &rows[3][1]), ("0.75", "1"));
    let number = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
    assert!((number(3, 2) - number(1, 2) - 5.0).abs() < 1e-2, "{rows:?}");

    // The figure is drawn from its CSV alone, and the same again.
    let figures = own.join("figures");
    let png = std::fs::read(figures.join("sweep.png")).unwrap();
    let svg = std::fs::read(figures.join("sweep.svg")).unwrap();
    std::fs::remove_file(figures.join("sweep.png")).unwrap();
    assert_eq!(sim(folder.path(), &["plot", "runs/membank-sweep-m-k"]).status.code(), Some(0));
    assert!(png == std::fs::read(figures.join("sweep.png")).unwrap());
    assert!(svg == std::fs::read(figures.join("sweep.svg")).unwrap());
    let svg = text(&svg);
    for word in [
        "kNN top-1, held out (%)",
        "closed form: effective rank",
        "\n0.75\n",
        "\nk\n",
        "linear encoder of 5 outputs",
    ] {
        assert!(svg.contains(word), "{word}");
    }

    // Again: nothing to compute. A larger grid: what is missing. A study with the same runs:
    // shared.
    let again = sim(folder.path(), &mock);
    assert!(text(&again.stderr).contains("10 of 10 runs had finished before"), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout), out);
    let larger = ["sweep", "membank", "--over", "m=0..1:5", "--over", "k=1,5,10", "--scale", "mock"];
    let larger = sim(folder.path(), &larger);
    assert!(text(&larger.stderr).contains("10 of 15 runs had finished before"), "{}", text(&larger.stderr));
    let study = sim(folder.path(), &["run", "membank", "--m", "0.25", "--scale", "mock", "--seeds", "1"]);
    assert!(text(&study.stderr).contains("m=0.25 seed 0: the same run as"), "{}", text(&study.stderr));
}

/// The number of a cell is the median of its seeds in the table, the CSV, JSON and the figure
/// alike.
#[test]
fn a_cell_of_several_seeds_has_their_median() {
    let folder = tempfile::tempdir().unwrap();
    let asked = ["sweep", "membank", "--over", "m=0,0.5", "--scale", "mock", "--seeds", "4"];
    let run = sim(folder.path(), &asked);
    assert!(text(&run.stdout).contains("4 seeds, medians"), "{}", text(&run.stdout));
    let own = folder.path().join("runs/membank-sweep-m");
    let mut table = csv::Reader::from_path(own.join("sweep.csv")).unwrap();
    let header: Vec<String> = table.headers().unwrap().iter().take(5).map(str::to_string).collect();
    let knn = |of: &str| format!("val/knn_top1{of}");
    let columns = [knn(""), knn(" lower_quartile"), knn(" upper_quartile"), knn(" seeds")];
    assert_eq!(header[1..], columns);
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let json = sim(folder.path(), &[&asked[..], &["--json", "-q"]].concat());
    for (row, line) in rows.iter().zip(text(&json.stdout).lines()) {
        let cell: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut runs: Vec<f64> = (0..4)
            .map(|seed| {
                let path = own.join(format!("m={}/seed-{seed}/metrics.csv", &row[0]));
                simsiam_em::record::read_metrics(&path).unwrap().last("val/knn_top1").unwrap()
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        let (median, mean) = ((runs[1] + runs[2]) / 2.0, runs.iter().sum::<f64>() / 4.0);
        assert!((median - mean).abs() > 1e-3, "the two must be told apart: {runs:?}");
        assert!((row[1].parse::<f64>().unwrap() - median).abs() < 1e-9, "{row:?}");
        assert!((cell["val/knn_top1"].as_f64().unwrap() - median).abs() < 1e-9, "{cell}");
        assert_eq!((&row[4], row.len() % 4), ("4", 1));
    }
}

#[test]
fn json_has_a_line_for_each_cell() {
    let folder = tempfile::tempdir().unwrap();
    let run = sim(folder.path(), &[&GRID[..], &["--scale", "mock", "--json", "-q", "--seeds", "2"]].concat());
    let lines: Vec<serde_json::Value> =
        text(&run.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cells: Vec<_> = lines.iter().filter(|line| line["event"] == "cell").collect();
    assert_eq!(cells.len(), 10);
    assert!(cells.iter().all(|cell| cell["val/knn_top1"].is_f64() && cell["theory/std"].is_f64()));
    assert_eq!(cells[6]["eta.memory-bank.m"], "0.25");
    let summary = lines.last().unwrap();
    assert_eq!((&summary["event"], summary["seeds"].as_array().map(Vec::len)), (&"summary".into(), Some(2)));
}

#[test]
fn what_cannot_be_swept_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["membank", "--over", "m=0,1.5"][..], &["--over m=1.5", "not between 0 and 1"][..]),
        (&["membank", "--over", "m=0..2:9"], &["not between 0 and 1"]),
        (&["membank", "--over", "k=1,0"], &["--over k=0", "k is at least 1"]),
        (&["membank", "--over", "mm=1"], &["did you mean `m`?"]),
        (&["membank", "--over", "optim.base_lrr=1"], &["did you mean `base_lr`?"]),
        (&["membank", "--over", "optimm.base_lr=1"], &["no key `optimm`"]),
        (&["membank", "--over", "m=0", "--over", "eta.memory-bank.m=1"], &["has an axis already"]),
        (&["membank", "--over", "m="], &["an empty value"]),
        (&["membank", "--over", "m=0,,1"], &["an empty value"]),
        (&["membank", "--over", "m"], &["expected key=v1,v2"]),
        (&["membank", "--over", "m=0..1"], &["from..to:count"]),
        (&["membank", "--over", "m=0.5,0.50"], &["0.50 stands twice"]),
        (&["membank", "--over", "seed=1,2"], &["--seeds says how many, or which"]),
        (&["membank"], &["one or two axes"]),
        (&["membank", "--over", "m=0", "--over", "eta.k-step.k=2"], &["replaces eta.memory-bank.m"]),
        (&["membank", "--over", "m=0", "--arm", "m=0.81"], &["did you mean `m=0.8`?"]),
        (&["membank", "--over", "m=0", "--device", "cuda:4711"], &["GPU"]),
        (
            &["membank", "--over", "m=0..1:50", "--over", "k=1..50:50", "--scale", "smoke"],
            &["2500 runs, about", "MiB of memory", "at most 400"],
        ),
        (
            &["membank", "--over", "m=0..1:21", "--over", "k=1..20:20", "--scale", "mock"],
            &["420 runs", "at most 400"],
        ),
        (
            &["linear-em", "--over", "m=0..1:300", "--over", "k=1..300:300"],
            &["90000 cells of the closed form", "at most 65536"],
        ),
        (
            &["linear-em", "--over", "objective.similarity=cosine,cross-entropy"],
            &["cross-entropy has no closed form"],
        ),
        (&["linear-em", "--over", "closed_form.outputs=0"], &["0 outputs; from 1 to 64"]),
        (&["simsiam", "--theory", "--over", "objective.similarity=cross-entropy"], &["no closed form"]),
        (&["membnak", "--over", "m=0"], &["did you mean `membank`?"]),
    ] {
        let run = sim(folder.path(), &[&["sweep"], args].concat());
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} does not say '{word}': {said}");
        }
        assert!(!folder.path().join("runs").exists(), "{args:?} left something behind");
    }
}

#[test]
fn sixteen_by_sixteen_cells_of_the_closed_form_take_a_moment_and_no_runs() {
    let folder = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    let run = sim(
        folder.path(),
        &["sweep", "linear-em", "--over", "predictor-rate=0.1..10:16:log", "--over", "decay=1e-4..1:16:log"],
    );
    // A second on an idle machine is the claim; a busy one is given time.
    assert!(begun.elapsed().as_secs_f64() < 20.0);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let own = folder.path().join("runs/linear-em-sweep-predictor-rate-decay");
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 2, "sweep.csv and figures alone");
    let figure = Figure::from_csv(&own.join("figures/sweep.csv")).unwrap();
    assert_eq!((figure.arms.len(), figure.panels.len(), figure.points.len()), (16, 3, 3 * 256));
    // Weight decay above λ²/(2c) of every direction, at most 0.952, collapses whatever the
    // predictor's rate.
    let above = figure.points.iter().filter(|p| p.panel == "theory/std" && p.arm == "1");
    assert!(above.clone().count() == 16 && above.clone().all(|p| p.y < 0.01));
    // A fast predictor with little of it does not.
    let kept = figure.points.iter().find(|p| p.panel == "theory/std" && p.arm == "0.0001" && p.x == 15.0);
    assert!(kept.unwrap().y > 0.5);
}

#[test]
fn without_training_the_prediction_alone_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let run = sim(folder.path(), &[&GRID[..], &["--theory"]].concat());
    let out = text(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(out.contains("closed form: std of the outputs") && !out.contains("kNN"), "{out}");
    assert!(folder.path().join("runs/membank-sweep-m-k-theory/figures/sweep.png").is_file());
}

#[test]
fn one_axis_is_drawn_as_columns() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["sweep", "simsiam", "--over", "optim.predictor_rate=0.1,1,10", "--scale", "mock", "-q"];
    let run = sim(folder.path(), &args);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let own = folder.path().join("runs/simsiam-sweep-optim.predictor_rate");
    let figure = Figure::from_csv(&own.join("figures/sweep.csv")).unwrap();
    assert_eq!(figure.arms.iter().map(|(arm, _)| arm.as_str()).collect::<Vec<_>>(), ["0.1", "1", "10"]);
    // At 1 the key is left out, as in recipes that never had it.
    let recipe = |arm: &str| std::fs::read_to_string(own.join(arm).join("seed-0/config.toml")).unwrap();
    assert!(recipe("optim.predictor_rate=10").contains("predictor_rate = 10.0"));
    assert!(!recipe("optim.predictor_rate=1").contains("predictor_rate"));
}

#[test]
fn real_runs_are_swept_at_the_smallest_scale() {
    let folder = tempfile::tempdir().unwrap();
    // An epoch is five steps: no chunk sees an image twice.
    let args = ["sweep", "membank", "--over", "m=0,0.8", "--over", "k=1,5", "--scale", "smoke", "-q"];
    let run = sim(folder.path(), &args);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let own = folder.path().join("runs/membank-sweep-m-k");
    assert!(own.join("m=0.8,k=5/seed-0/weights.safetensors").is_file());
    // A bank without memory is the multi-step alternation; running statistics alone see other
    // passes.
    let like = ["--set", "predictor=none", "--set", "objective.symmetric=false"];
    let other = [&["run", "multistep", "--k", "5", "--scale", "smoke", "-q", "--seeds", "1"][..], &like];
    assert_eq!(sim(folder.path(), &other.concat()).status.code(), Some(0));
    let losses = |path: &str| -> Vec<f64> {
        let metrics = folder.path().join("runs").join(path).join("seed-0/metrics.csv");
        let table = simsiam_em::record::read_metrics(&metrics).unwrap();
        table.points("epoch", "train/loss").into_iter().map(|(_, loss)| loss).collect()
    };
    let (one, two) = (losses("membank-sweep-m-k/m=0,k=1"), losses("membank-sweep-m-k/m=0,k=5"));
    assert_eq!(one, losses("multistep/k=1"));
    assert_eq!(two, losses("multistep/k=5"));
    assert!(one != two && one.len() == 3);
}

fn world(normalised: bool) -> ClosedForm {
    let (signal, noise) = (vec![2.0, 1.0, 0.7, 0.3, 0.05], vec![0.1, 0.5, 0.7, 0.9, 0.4]);
    ClosedForm { signal, noise, outputs: 3, steps_per_epoch: 7, normalised, optimum: Optimum::None }
}

/// Every rule of the matrices is a case of the course, which knows no matrix C.
#[test]
fn the_course_equals_the_matrices_for_every_rule() {
    let own = world(false);
    let diagonal = |values: &[f64]| Array2::from_diag(&Array1::from(values.to_vec()));
    let matrices = World::new(diagonal(&own.signal), &diagonal(&own.noise));
    let (rate, predictor_rate, decay) = (0.02, 0.1, 1e-2);
    for rule in [
        Step::Exact,
        Step::Steps { k: 1, rate, decay },
        Step::Steps { k: 10, rate, decay },
        Step::Memory { m: 0.8, k: 7, rate, decay },
        Step::Joint { rate },
        Step::BestPredictor { rate, decay },
        Step::LearnedPredictor { rate, predictor_rate, decay },
    ] {
        let (course, rates) = rule.course();
        let mut courses = vec![course];
        if let Targets::Updated { m, k: 7, .. } = course.targets {
            // A bank of which all images are updated together, once an epoch of 7 batches.
            courses.push(Course { targets: Targets::Updated { m, k: 7, batches: 7 }, ..course });
        }
        for course in courses {
            let mut point = Point::start(&own, 3);
            let mut state = State::new(point.encoder.clone(), Array2::eye(own.outputs));
            for iteration in 0..100 {
                matrices.step(rule, &mut state);
                for _ in 0..course.steps() {
                    point.advance(&own, &course, rates);
                }
                let difference =
                    (&point.encoder - &state.encoder).mapv(f64::abs).fold(0.0, |a: f64, b| a.max(*b));
                // Sums of at most 5 products of numbers of size 1, a hundred times.
                assert!(difference < 1e-11, "{rule:?}, iteration {iteration}: {difference:e}");
            }
        }
    }
}

/// What a cell says is what the rates of the directions say.
#[test]
fn the_end_of_a_run_is_the_power_of_its_rates() {
    let study = Study::find("linear-em").unwrap();
    for arm in study.resolve(&Request::default()).unwrap() {
        let world = arm.recipe.closed_form.clone().unwrap();
        let steps = world.steps_per_epoch * arm.recipe.schedule.epochs;
        let rate = 0.02;
        let (rule, iterations) = match arm.name.as_str() {
            "exact" => (Step::Exact, steps),
            "k=1" => (Step::Steps { k: 1, rate, decay: 0.0 }, steps),
            "k=10" => (Step::Steps { k: 10, rate, decay: 0.0 }, steps / 10),
            "k=100" => (Step::Steps { k: 100, rate, decay: 0.0 }, steps / 100),
            _ => continue,
        };
        let course = closed_form::course(&arm.recipe, &world).unwrap();
        let directions = Direction::of(&world);
        let (like, rates) = rule.course();
        let mut ended = Point::start(&world, 0);
        for (i, direction) in directions.iter().enumerate() {
            let factor = direction.rate(&like, rates).unwrap().powi(iterations as i32);
            ended.encoder.column_mut(i).mapv_inplace(|w| w * factor);
        }
        let predicted = ended.measure(&world, &course).std;
        let got = closed_form::end(&arm.recipe, &world).unwrap().unwrap().std;
        assert!((got - predicted).abs() <= 1e-9 * predicted, "{}: {got}, predicted {predicted}", arm.name);
    }
}

/// A bank that is updated batch by batch, written out for one direction.
#[test]
fn each_batch_of_an_epoch_has_a_bank_of_its_own() {
    let own = ClosedForm { signal: vec![0.7], noise: vec![0.7], outputs: 1, ..world(false) };
    let (m, k, batches, rate) = (0.6, 3u64, 7u64, 0.05);
    let targets = Targets::Updated { m, k, batches };
    let course = Course { targets, ..Course::fresh(Prediction::Absent) };
    let mut point = Point::start(&own, 1);
    let mut w = point.encoder[[0, 0]];
    let mut bank: Vec<Option<f64>> = vec![None; batches as usize];
    for step in 0..50u64 {
        if step % k == 0 {
            for batch in step..step + k {
                let slot = &mut bank[(batch % batches) as usize];
                *slot = Some(slot.map_or(w, |a| m * a + (1.0 - m) * w));
            }
        }
        let a = bank[(step % batches) as usize].unwrap();
        w -= rate * 2.0 * (1.4 * w - 0.7 * a);
        point.advance(&own, &course, Rates { encoder: rate, predictor: 0.0 });
        assert!((point.encoder[[0, 0]] - w).abs() < 1e-12, "step {step}");
    }
}

#[test]
fn the_predictors_rate_is_a_factor_on_whatever_it_is() {
    let arm = Study::find("simsiam").unwrap().resolve(&Request::default()).unwrap().remove(0);
    let at = |optim: &OptimConfig| optim.predictor_lr(64, 100, 1000, 10);
    let plain = arm.recipe.optim;
    for name in ["decayed", "constant", "zero"] {
        let text = toml::to_string(&plain).unwrap().replace("\"decayed\"", &format!("\"{name}\""));
        let optim: OptimConfig = toml::from_str(&text).unwrap();
        let faster = OptimConfig { predictor_rate: 4.0, ..optim.clone() };
        assert_eq!(at(&faster), 4.0 * at(&optim));
        assert_eq!(at(&optim) == 0.0, name == "zero");
    }
    assert!(OptimConfig { predictor_rate: -1.0, ..plain }.check().is_err());
}

/// The E-step of a bank with k > 1: the images of k batches move with one θ, and only then.
#[test]
fn a_bank_with_k_moves_the_images_of_k_batches_together() {
    use candle_core::{Device, Tensor};
    let place = BankPlace::default();
    let rule = Rule::MemoryBank { m: 0.5, precision: Precision::F32, k: Steps::Count(2) };
    let size = Size { images: 4, dim: 1, per_epoch: 2, steps: 2, elements: 0, ..Size::default() };
    let mut bank = rule.build(&size, &place).unwrap();
    assert_eq!((bank.chunk(), bank.reads(2)), (2, 0..2));
    let views = |step: u64, indices: [u32; 2]| Views {
        step,
        indices: indices.to_vec(),
        x: Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], (2, 2, 1, 1, 1), &Device::Cpu).unwrap(),
        labels: Vec::new(),
        small: None,
    };
    let both = [views(0, [0, 1]), views(1, [2, 3])];
    bank.refresh(&Rows, &mut both.iter().cloned().map(Ok)).unwrap();
    let z = Tensor::zeros((1, 2, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
    for batch in &both {
        let eta = bank.targets(batch, &z, &Rows).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(eta, [3.0, 4.0], "the second views of step {}", batch.step);
    }
    let text = |k| {
        toml::to_string(&Rule::MemoryBank { m: 0.5, precision: Precision::F32, k: Steps::Count(k) }).unwrap()
    };
    assert!(!text(1).contains("k ="), "recipes without it keep their text: {}", text(1));
    assert!(text(2).contains("k = 2"));
}
