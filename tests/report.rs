//! Figures: the CSV alone redraws them, damage is named, what cannot be drawn is left out.

use simsiam_em::Error;
use simsiam_em::report::{Figure, Panel, Point, Reference, Style};
use std::path::Path;

/// Three arms × three seeds that look like a study: one of them collapses.
fn figure() -> Figure {
    let arms =
        [("k=1", "SimSiam (k = 1)"), ("k=10", "ten steps per alternation"), ("none", "no stop-gradient")];
    let panel = |name: &str, y: &str, style| Panel {
        name: name.into(),
        x: "epoch".into(),
        y: y.into(),
        style,
        references: Vec::new(),
    };
    let mut panels = vec![
        panel("loss", "training loss", Style::Curves),
        panel("std", "std of z/‖z‖ · √d, held out", Style::Curves),
        panel("knn", "kNN top-1, held out (%)", Style::Curves),
        panel("linear", "linear probe top-1, held out (%)", Style::Columns),
    ];
    panels[2].references.push(Reference { label: "raw pixels 34.2".into(), value: 34.2, arm: None });
    for (arm, value) in [("k=1", 68.1), ("k=10", 68.7)] {
        let label = format!("paper {value}");
        panels[3].references.push(Reference { label, value, arm: Some(arm.into()) });
    }
    let mut points = Vec::new();
    for (index, (arm, _)) in arms.iter().enumerate() {
        for seed in 1..=3u64 {
            let noise =
                |x: f64| ((x * 12.9 + seed as f64 * 78.2 + index as f64 * 37.7).sin() * 437.5).fract();
            let mut add = |panel: &str, x: f64, y: f64| {
                points.push(Point { panel: panel.into(), arm: (*arm).into(), seed, x, y });
            };
            for epoch in 0..=20u32 {
                let (x, t) = (f64::from(epoch), 1.0 - (-f64::from(epoch) / 6.0).exp());
                let n = noise(x);
                match index {
                    2 => [
                        ("loss", -1.0 + 0.9 * (-x).exp()),
                        ("std", 0.2 * (-x).exp()),
                        ("knn", 30.0 - 18.0 * t + n),
                    ],
                    _ => [
                        ("loss", -0.9 * t + 0.02 * n),
                        ("std", 0.2 + 0.75 * t + 0.02 * n),
                        ("knn", 42.0 + 38.0 * t + 1.5 * n),
                    ],
                }
                .into_iter()
                .filter(|(panel, _)| *panel != "loss" || epoch > 0)
                .for_each(|(panel, y)| add(panel, x, y));
            }
            add("linear", 0.0, if index == 2 { 14.0 } else { 84.0 + 2.0 * index as f64 } + 2.0 * noise(99.0));
        }
    }
    let caption =
        "sim run multistep --k 1,10   ·   laptop scale, 3 seeds: thin lines; mean ± 95 % interval".into();
    Figure {
        title: "Multi-step alternation".into(),
        caption,
        arms: arms.map(|(a, b)| (a.into(), b.into())).into(),
        panels,
        points,
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}

#[test]
fn the_csv_alone_redraws_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stem, again) = (folder.path().join("curves"), folder.path().join("again"));
    let paths = figure().save(&stem).expect("saved");
    assert_eq!(paths.len(), 3);
    if let Some(kept) = std::env::var_os("SIM_KEEP_FIGURES") {
        figure().save(&Path::new(&kept).join("curves")).expect("saved");
    }
    let csv = stem.with_extension("csv");
    let figure = Figure::from_csv(&csv).expect("read back");
    assert_eq!(figure, self::figure());
    figure.draw(&again).expect("drawn");
    for extension in ["svg", "png"] {
        assert!(
            read(&stem.with_extension(extension)) == read(&again.with_extension(extension)),
            "{extension}"
        );
    }
    figure.save(&again).expect("saved");
    assert!(read(&csv) == read(&again.with_extension("csv")));
}

#[test]
fn svg_text_is_text_with_a_generic_family_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let stem = folder.path().join("curves");
    figure().save(&stem).expect("saved");
    let svg = String::from_utf8(read(&stem.with_extension("svg"))).expect("text");
    for text in
        ["Multi-step alternation", "no stop-gradient", "kNN top-1, held out (%)", "epoch", "paper 68.1"]
    {
        assert!(svg.contains(text), "{text}");
    }
    assert_eq!(svg.matches("font-family").count(), svg.matches(", sans-serif\"").count());
    let png = image::load_from_memory(&read(&stem.with_extension("png"))).expect("a picture");
    assert!(png.width() > 2 * png.height());
}

/// Nothing measured, a single seed, a single point, one value throughout, numbers that are none.
#[test]
fn odd_data_is_drawn_without_panic() {
    let whole = figure();
    let folder = tempfile::tempdir().expect("a folder");
    let keep = |keep: &dyn Fn(&Point) -> bool| Figure {
        points: whole.points.iter().filter(|p| keep(p)).cloned().collect(),
        ..whole.clone()
    };
    let mut constant = whole.clone();
    constant.points.iter_mut().for_each(|p| p.y = 0.0);
    let mut broken = whole.clone();
    broken.points.iter_mut().step_by(3).for_each(|p| p.y = f64::NAN);
    broken.points.iter_mut().skip(1).step_by(7).for_each(|p| p.y = f64::INFINITY);
    let mut huge = whole.clone();
    huge.points.iter_mut().step_by(5).for_each(|p| p.y *= 1e300);
    let mut many = whole.clone();
    many.arms =
        (0..23).map(|i| (format!("arm-{i} with a name that is long"), format!("a title {i}"))).collect();
    many.points.iter_mut().enumerate().for_each(|(i, p)| p.arm = many.arms[i % 23].0.clone());
    let empty = Figure { arms: Vec::new(), panels: Vec::new(), points: Vec::new(), ..whole.clone() };
    let cases = [
        ("nothing", keep(&|_| false)),
        ("one seed", keep(&|p| p.seed == 1)),
        ("one point", keep(&|p| p.x == 0.0 && p.seed == 1)),
        ("constant", constant),
        ("broken", broken),
        ("huge", huge),
        ("many arms", many),
        ("empty", empty),
    ];
    for (name, figure) in cases {
        let stem = folder.path().join(name.replace(' ', "-"));
        assert_eq!(figure.save(&stem).map(|paths| paths.len()).map_err(|e| e.to_string()), Ok(3), "{name}");
        if let Some(kept) = std::env::var_os("SIM_KEEP_FIGURES") {
            figure.save(&Path::new(&kept).join(name.replace(' ', "-"))).expect("saved");
        }
    }
}

#[test]
fn a_damaged_csv_is_an_error_that_names_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let stem = folder.path().join("curves");
    figure().save(&stem).expect("saved");
    let csv = stem.with_extension("csv");
    let text = String::from_utf8(read(&csv)).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let with = |index: usize, line: &str| {
        let mut lines = lines.clone();
        lines[index] = line;
        lines.join("\n") + "\n"
    };
    let cases = [
        (with(0, "panel,arm"), "line 1: does not describe a figure"),
        (with(0, "# {\"title\":3}"), "line 1: does not describe a figure"),
        (with(4, "loss,k=1,1,3.0,minus one"), "line 5:"),
        (with(5, "loss,k=1,1,3.0"), "line 6:"),
        (with(6, "los,k=1,1,3.0,1.0"), "line 7: line 1 names no panel 'los'"),
        (with(7, "loss,k=2,1,3.0,1.0"), "line 8: line 1 names no arm 'k=2'"),
        (text[..text.len() - 3].to_string(), "as if the file were cut short"),
        (String::new(), "line 1:"),
    ];
    for (damaged, expected) in cases {
        std::fs::write(&csv, damaged).expect("written");
        let refused = Figure::from_csv(&csv).expect_err(expected);
        assert!(matches!(refused, Error::Data { ref path, .. } if *path == csv), "{refused}");
        assert!(refused.to_string().contains(expected), "{expected}: {refused}");
    }
}

/// A CSV is text: nothing but its first line says how large the figure is.
#[test]
fn a_figure_too_large_for_memory_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wide = figure();
    wide.panels = (0..100_000).map(|i| Panel { name: i.to_string(), ..wide.panels[0].clone() }).collect();
    let mut many = figure();
    many.arms = (0..100_000).map(|i| (i.to_string(), i.to_string())).collect();
    for too_large in [wide, many] {
        let refused = too_large.draw(&folder.path().join("figure")).expect_err("too large").to_string();
        assert!(refused.contains("too large to be drawn"), "{refused}");
    }
}

/// A spectrum on a logarithmic axis, and a marker for each run.
fn spectrum_and_scatter() -> Figure {
    let panel = |name: &str, style| Panel {
        name: name.into(),
        x: format!("x of {name}"),
        y: format!("y of {name}"),
        style,
        references: Vec::new(),
    };
    let mut points = Vec::new();
    for (index, arm) in ["narrow", "wide"].into_iter().enumerate() {
        for seed in 0..3u64 {
            let mut add =
                |panel: &str, x, y| points.push(Point { panel: panel.into(), arm: arm.into(), seed, x, y });
            for i in 0..20 {
                add("spectrum", f64::from(i + 1), 10f64.powf(-f64::from(i) / (5.0 * (1.0 + index as f64))));
            }
            // What has no logarithm is left out.
            add("spectrum", 21.0, 0.0);
            add("scatter", 12.0 + 10.0 * index as f64 + seed as f64, 40.0 + 20.0 * index as f64);
        }
    }
    Figure {
        title: "Spectrum".into(),
        caption: "sim".into(),
        arms: ["narrow", "wide"].map(|arm| (arm.into(), arm.into())).into(),
        panels: vec![panel("spectrum", Style::LogCurves), panel("scatter", Style::Scatter)],
        points,
    }
}

#[test]
fn a_spectrum_has_powers_of_ten_and_a_scatter_a_marker_for_each_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let stem = folder.path().join("spectrum");
    let figure = spectrum_and_scatter();
    figure.save(&stem).expect("saved");
    assert_eq!(Figure::from_csv(&stem.with_extension("csv")).expect("read back"), figure);
    let svg = String::from_utf8(read(&stem.with_extension("svg"))).expect("text");
    let texts: Vec<&str> =
        svg.split("<text").skip(1).filter_map(|t| t.split_once(">")?.1.split("</").next()).collect();
    let has = |text: &str| texts.iter().any(|t| t.trim() == text);
    assert!(["1", "0.1", "0.01", "0.001", "1e−4", "x of scatter"].into_iter().all(has), "{texts:?}");
    // The decades lie at equal distances: "narrow" falls by 3.8 of them, hence from 1 to 1e−4.
    assert!(!has("1e−5"), "{texts:?}");
    // Of the arm "narrow", a rim and a disc for each of 3 runs; its curve has at least six markers, the legend one.
    let without = Figure {
        points: figure.points.iter().filter(|p| p.panel == "spectrum").cloned().collect(),
        ..figure
    };
    without.save(&stem).expect("saved");
    let fewer = String::from_utf8(read(&stem.with_extension("svg"))).expect("text");
    assert_eq!(svg.matches("<circle").count() - fewer.matches("<circle").count(), 2 * 3);
}
