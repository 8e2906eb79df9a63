//! `sim map` and `sim neighbours`, and the t-SNE behind them.

use crate::support::{golden, output, picture, save_tensors, sim};
use ndarray::Array2;
use simsiam_em::measure::tsne::{descend, tsne};
use simsiam_em::network::read_weights;
use std::path::Path;
use std::sync::atomic::AtomicBool;

static NEVER: AtomicBool = AtomicBool::new(false);

/// How well the places `y` of points `x` keep neighbourhoods of `k`: 1 where no neighbour in the
/// plane is new (Venna & Kaski 2001).
fn trustworthiness(x: &Array2<f64>, y: &Array2<f64>, k: usize) -> f64 {
    let n = x.nrows();
    let order = |points: &Array2<f64>, i: usize| {
        let far = |j: usize| (&points.row(i) - &points.row(j)).mapv(|v| v * v).sum();
        let mut others: Vec<usize> = (0..n).filter(|j| *j != i).collect();
        others.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
        others
    };
    let mut missed = 0.0;
    for i in 0..n {
        let before = order(x, i);
        for j in &order(y, i)[..k] {
            let rank = 1 + before.iter().position(|other| other == j).unwrap();
            missed += rank.saturating_sub(k) as f64;
        }
    }
    1.0 - missed * 2.0 / (n * k * (2 * n - 3 * k - 1)) as f64
}

#[test]
fn tsne_takes_the_steps_of_scikit_learn() {
    let tensors = read_weights(&golden("tsne.safetensors")).unwrap();
    let matrix = |name: &str| {
        let (shape, values) = tensors[name].clone();
        Array2::from_shape_vec((shape[0], shape[1]), values).unwrap()
    };
    let (x, start) = (matrix("x"), matrix("start").mapv(f64::from));
    let after = |steps| descend(x.view(), start.view(), 12.0, steps, &NEVER).unwrap();
    let largest = |a: &Array2<f64>| a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    // scikit-learn's distances are float32, and the descent doubles a difference in every step.
    for (steps, within) in [(5, 1e-6), (20, 3e-2)] {
        let expected = matrix(&format!("after{steps}")).mapv(f64::from);
        let off = largest(&(&after(steps).places - &expected)) / largest(&expected);
        assert!(off < within, "{steps} steps: {off}");
    }
    // At the end they may have parted, and must be as good.
    let late = after(1000);
    let [divergence, trust] = [tensors["end"].1[0], tensors["end"].1[1]].map(f64::from);
    assert!((late.divergence - divergence).abs() < 0.05 * divergence, "{} {divergence}", late.divergence);
    let got = trustworthiness(&x.mapv(f64::from), &late.places, 12);
    assert!(got > trust - 0.005, "{got} {trust}");
    let theirs = trustworthiness(&x.mapv(f64::from), &matrix("late").mapv(f64::from), 12);
    assert!((theirs - trust).abs() < 1e-4, "{theirs} {trust}");
}

#[test]
fn tsne_has_the_same_bytes_for_any_number_of_threads_and_survives_points_that_are_equal() {
    let mut x = Array2::from_shape_fn((40, 5), |(i, j)| ((i * i * 7 + j * 13 * i) % 17) as f32);
    let start = Array2::from_shape_fn((40, 2), |(i, j)| ((i * 3 + j * 5) % 7) as f64 - 3.0);
    let on = |threads: usize, x: &Array2<f32>, start: &Array2<f64>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| tsne(x.view(), start.view(), &NEVER).unwrap().places)
    };
    assert_eq!(on(1, &x, &start), on(3, &x, &start));
    x.slice_mut(ndarray::s![..30, ..]).fill(1.0);
    assert!(on(2, &x, &start).iter().all(|v| v.is_finite()));
    let few = ndarray::s![26..30, ..];
    assert!(on(2, &x.slice(few).to_owned(), &start.slice(few).to_owned()).iter().all(|v| v.is_finite()));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of pictures in two classes, which red tells apart, and the weights of a short run on
/// them.
fn trained(folder: &Path, classes: &[&str], each: u8) {
    for (half, shift) in [("train", 0), ("test", 3)] {
        for (class, name) in classes.iter().enumerate() {
            for i in 0..each {
                let path = folder.join(format!("photos/{half}/{name}/{i}.png"));
                picture(&path, class as u8 * 150 + 5 * i + shift);
            }
        }
    }
    let images = format!("data.train_images=0 data.test_images=0 schedule.batch={}", 2.max(each / 2));
    let mut args =
        vec!["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--data", "folder:photos"];
    images.split(' ').for_each(|set| args.extend(["--set", set]));
    let run = output(folder, &args);
    assert!(run.status.success(), "{}", text(&run.stderr));
}

#[test]
fn held_out_images_are_mapped_and_beside_their_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path(), &["cat", "dog"], 8);
    let run = std::fs::read_dir(folder.path().join("runs/simsiam/simsiam")).unwrap().next().unwrap().unwrap();
    let run = run.path().display().to_string();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let map = output(folder.path(), &["map", &run, "--out", "a"]);
    assert!(map.status.success(), "{}", text(&map.stderr));
    let rows = text(&read("a/map.csv"));
    let lines: Vec<&str> = rows.lines().collect();
    assert_eq!((lines[0], lines.len()), ("row,image,label,pca_x,pca_y,tsne_x,tsne_y", 17));
    assert!(lines[1].starts_with("0,cat/0.png,cat,") && lines[16].starts_with("15,dog/7.png,dog,"), "{rows}");
    let svg = text(&read("a/map.svg"));
    for words in ["t-SNE", "first principal direction", "cat", "dog", "data:image/png;base64,"] {
        assert!(svg.contains(words), "{words}");
    }
    // The same bytes again, on one thread.
    let mut again = sim(folder.path(), &["map", &run, "--out", "b"]);
    assert!(again.env("RAYON_NUM_THREADS", "1").status().unwrap().success());
    assert_eq!(read("a/map.csv"), read("b/map.csv"));
    image::load_from_memory(&read("a/map.png")).unwrap();

    let near = output(folder.path(), &["neighbours", &run, "--queries", "4", "--nearest", "3", "--out", "a"]);
    assert!(near.status.success(), "{}", text(&near.stderr));
    assert!(text(&near.stdout).contains(" of 12 neighbours have the class of their image"), "{near:?}");
    let rows = text(&read("a/neighbours.csv"));
    assert_eq!(rows.lines().count(), 13, "{rows}");
    assert!(rows.lines().nth(1).unwrap().starts_with("0,cat/0.png,cat,1,"), "{rows}");
    let sheet = image::load_from_memory(&read("a/neighbours.png")).unwrap().to_rgb8();
    assert!(sheet.pixels().any(|dot| dot.0 == [0, 114, 178]), "no neighbour is framed as right");

    let report = output(folder.path(), &["report", "runs/simsiam", "--maps", "--out", "page.html"]);
    assert!(report.status.success(), "{}", text(&report.stderr));
    assert_eq!(text(&read("page.html")).matches("data:image/png;base64,").count(), 2);
    let tables = output(folder.path(), &["report", "runs/simsiam", "--maps", "--format", "md"]);
    assert!(tables.status.code() == Some(2) && text(&tables.stderr).contains("--maps"), "{tables:?}");
}

#[test]
fn one_class_has_no_marks_and_too_little_to_map_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    trained(folder.path(), &["all"], 4);
    let run = std::fs::read_dir(folder.path().join("runs/simsiam/simsiam")).unwrap().next().unwrap().unwrap();
    let run = run.path();
    let shown = run.display().to_string();
    let near = output(folder.path(), &["neighbours", &shown]);
    assert!(near.status.success() && !text(&near.stdout).contains("have the class"), "{near:?}");
    let sheet = image::open(folder.path().join("neighbours.png")).unwrap().to_rgb8();
    assert!(!sheet.pixels().any(|dot| [[0, 114, 178], [213, 94, 0]].contains(&dot.0)));
    assert!(output(folder.path(), &["map", &shown]).status.success());

    for i in 1..4 {
        std::fs::remove_file(folder.path().join(format!("photos/test/all/{i}.png"))).unwrap();
    }
    let photos = ["map", &shown, "--data", "folder:photos"];
    let few = output(folder.path(), &photos);
    assert_eq!(few.status.code(), Some(4));
    assert!(text(&few.stderr).contains("has 1 held-out image; a map needs 4 at least"), "{few:?}");
    // Its own images are no longer those that it was made from.
    let changed = output(folder.path(), &photos[..2]);
    assert_eq!(changed.status.code(), Some(4));

    // Equal images have equal features.
    for i in 0..4 {
        picture(&folder.path().join(format!("photos/test/all/{i}.png")), 9);
        picture(&folder.path().join(format!("photos/train/all/{i}.png")), 9);
    }
    for command in ["map", "neighbours"] {
        let same = output(folder.path(), &[command, &shown, "--data", "folder:photos"]);
        assert_eq!(same.status.code(), Some(4), "{same:?}");
        assert!(text(&same.stderr).contains("gives all images the same features"), "{same:?}");
    }

    // Weights that are no numbers; a file of its own has no seal.
    let mut tensors = read_weights(&run.join("weights.safetensors")).unwrap();
    tensors.retain(|name, _| name.starts_with("encoder."));
    for (_, values) in tensors.values_mut() {
        values.fill(f32::NAN);
    }
    save_tensors(&tensors, [], &folder.path().join("nan.safetensors"));
    let nan = output(folder.path(), &["map", "nan.safetensors", "--data", "folder:photos"]);
    assert_eq!(nan.status.code(), Some(4), "{nan:?}");
    assert_eq!(text(&nan.stderr).lines().count(), 1, "{nan:?}");
}

#[test]
fn images_without_labels_are_mapped_and_beside_their_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    (0..120).for_each(|i| picture(&folder.path().join(format!("photos/{i}.png")), 2 * i));
    let run = "run simsiam --scale smoke --seeds 0..1 -q --set schedule.epochs=1 --data folder:photos";
    for args in [run, "map runs/simsiam/simsiam/seed-0", "neighbours runs/simsiam/simsiam/seed-0"] {
        let made = output(folder.path(), &args.split(' ').collect::<Vec<_>>());
        assert!(made.status.success(), "{args}: {}", text(&made.stderr));
    }
    let csv = std::fs::read_to_string(folder.path().join("map.csv")).unwrap();
    assert!(csv.lines().nth(1).unwrap().contains(".png,,"), "{csv}");
}
