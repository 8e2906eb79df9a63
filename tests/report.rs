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
        larger_is_better: None,
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
    let caption = "sim run multistep --k 1,10   ·   laptop scale".into();
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
    assert!(png.width() > png.height());
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
    let mut diverged = whole.clone();
    for (index, (arm, _)) in whole.arms.iter().enumerate() {
        let end =
            |panel: &str, seed, x| Point { panel: panel.into(), arm: arm.clone(), seed, x, y: f64::NAN };
        diverged.points.push(end("loss", 9, 4.0));
        diverged.points.extend((0..=index as u64).map(|seed| end("linear", seed, 0.0)));
    }
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
        ("diverged", diverged),
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
        larger_is_better: None,
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
    // Of the arm "narrow", whose marker is a circle, a rim and a disc for each of 3 runs.
    let without = Figure {
        points: figure.points.iter().filter(|p| p.panel == "spectrum").cloned().collect(),
        ..figure
    };
    without.save(&stem).expect("saved");
    let fewer = String::from_utf8(read(&stem.with_extension("svg"))).expect("text");
    assert_eq!(svg.matches("<circle").count() - fewer.matches("<circle").count(), 2 * 3);
}

/// The figure as SVG.
fn svg(figure: &Figure) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let stem = folder.path().join("figure");
    figure.save(&stem).expect("saved");
    String::from_utf8(read(&stem.with_extension("svg"))).expect("text")
}

/// Its texts, in the order in which they were drawn.
fn texts(figure: &Figure) -> Vec<String> {
    let svg = svg(figure);
    let text = |part: &str| Some(part.split_once('>')?.1.split("</").next()?.trim().to_string());
    svg.split("<text").skip(1).filter_map(text).collect()
}

/// A figure of one panel: these values of each arm, seeds from 0 on.
fn strips(y: &str, arms: &[(&str, &[f64])]) -> Figure {
    let points = arms.iter().flat_map(|(arm, values)| {
        values.iter().zip(0..).map(|(y, seed)| Point {
            panel: "p".into(),
            arm: (*arm).into(),
            seed,
            x: 0.0,
            y: *y,
        })
    });
    Figure {
        title: "t".into(),
        caption: "sim".into(),
        arms: arms.iter().map(|(arm, _)| ((*arm).into(), (*arm).into())).collect(),
        panels: vec![Panel::new("p", "", y, Style::Columns)],
        points: points.collect(),
    }
}

#[test]
fn strips_say_median_worst_seed_and_how_many_diverged() {
    let nan = f64::NAN;
    let texts = texts(&strips(
        "kNN (%)",
        &[("a", &[99.0, 98.0, 60.0, 99.6]), ("b", &[50.0, nan, 52.0]), ("c", &[40.0, nan, nan])],
    ));
    let beside = |head: &str| texts.iter().skip_while(|t| *t != head).skip(1).take(3).collect::<Vec<_>>();
    assert_eq!(beside("median"), ["98.5", "51.0", "–"], "one seed of three is no median: {texts:?}");
    assert_eq!(beside("worst"), ["60.0", "diverged", "diverged"]);
    assert_eq!(beside("seeds"), ["4", "2 of 3", "1 of 3"]);
    assert!(texts.iter().any(|t| t.starts_with("Dots: 3 to 4 seeds; lines: their medians.")), "{texts:?}");
}

#[test]
fn nothing_is_drawn_beyond_what_is_possible() {
    // A t interval of these reaches from 29 to 150.
    let texts = texts(&strips("kNN (%)", &[("a", &[60.0, 99.0, 100.0]), ("b", &[99.0, 99.5, 100.0])]));
    let numbers = texts.iter().filter_map(|text| text.parse::<f64>().ok());
    assert!(numbers.clone().count() > 6 && numbers.into_iter().all(|n| n <= 100.0), "{texts:?}");
}

#[test]
fn a_panel_in_which_nothing_differs_is_left_out_and_said_and_the_last_one_stays() {
    let mut figure = figure();
    for point in figure.points.iter_mut().filter(|point| point.panel == "std") {
        point.y = 0.75;
    }
    let names = |figure: &Figure| figure.drawn().iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&figure), ["loss", "knn", "linear"]);
    let said = "Not drawn, being constant: std of z/‖z‖ · √d, held out (0.750).";
    assert!(texts(&figure).join(" ").contains(said));
    figure.points.iter_mut().for_each(|point| point.y = 1.0);
    assert_eq!(names(&figure), ["loss"]);
}

/// Seven arms have axes of their own, six share them.
#[test]
fn more_than_six_arms_stand_on_axes_of_their_own() {
    let with = |count: usize| {
        let mut whole = figure();
        whole.panels.truncate(3);
        let (points, arms) = (std::mem::take(&mut whole.points), std::mem::take(&mut whole.arms));
        for index in 0..count {
            let of = |p: &&Point| p.arm == arms[index % 3].0 && p.panel != "linear";
            let own = points.iter().filter(of).map(|p| Point { arm: index.to_string(), ..p.clone() });
            whole.points.extend(own);
            whole.arms.push((index.to_string(), format!("arm {index}")));
        }
        let texts = texts(&whole);
        (0..count).map(|index| texts.iter().filter(|t| **t == format!("arm {index}")).count()).max()
    };
    assert_eq!(with(6), Some(1), "the legend alone names an arm");
    assert_eq!(with(7), Some(3), "each of three panels does");
}

#[test]
fn values_far_from_all_others_are_marked_at_the_edge() {
    let mut figure = figure();
    let usual = svg(&figure);
    assert!(!usual.contains("Triangles at the edge"));
    let one = figure.points.iter_mut().find(|p| p.panel == "loss" && p.x == 10.0).expect("a point");
    one.y = 1e6;
    let texts = texts(&figure);
    assert!(texts.join(" ").contains("Triangles at the edge: values beyond it."), "{texts:?}");
    assert!(
        texts.iter().any(|text| text == "−0.75" || text == "−0.8"),
        "the others are told apart: {texts:?}"
    );
    assert_eq!(svg(&figure).matches("<polygon").count(), usual.matches("<polygon").count() + 1);
}

/// What earlier versions committed, whose captions say that means are drawn.
#[test]
fn figures_of_earlier_versions_are_drawn_as_those_of_this_one() {
    let plots = Path::new(env!("CARGO_MANIFEST_DIR")).join("plots");
    let old = "{\"title\":\"t\",\"caption\":\"sim run x   ·   laptop scale, 3 seeds: small dots; mean ± 95 % interval\",\
               \"arms\":[[\"a\",\"a\"]],\"panels\":[{\"name\":\"p\",\"x\":\"\",\"y\":\"kNN (%)\",\"style\":\"columns\",\"references\":[]}]}";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.csv");
    std::fs::write(&path, format!("# {old}\npanel,arm,seed,x,y\np,a,0,0.0,98.0\np,a,1,0.0,60.0\n"))
        .expect("written");
    let texts = texts(&Figure::from_csv(&path).expect("read"));
    let has = |text: &str| texts.iter().any(|t| t == text);
    assert!(has("sim run x · laptop scale") && has("79.0") && has("60.0"), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("95 %")), "{texts:?}");
    let mut drawn = 0;
    for study in std::fs::read_dir(plots).expect("listed").map(|entry| entry.expect("an entry").path()) {
        for name in ["final.csv", "sweep.csv", "rank-accuracy.csv", "trajectories.csv"] {
            let csv = study.join(name);
            if Figure::is_csv(&csv) {
                Figure::from_csv(&csv).expect("read").draw(&folder.path().join("figure")).expect("drawn");
                drawn += 1;
            }
        }
    }
    assert!(drawn > 20, "{drawn}");
}
