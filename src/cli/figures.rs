//! The figures of a study, made from the metrics that its runs left.

use crate::error::Result;
use crate::record::{Answer, Outcome, read_metrics, read_outcome};
use crate::report::{Figure, Panel, Point, Reference, Style};
use crate::study::Results;
use std::path::{Path, PathBuf};

/// The panels of the figure of curves: column of metrics.csv and axis label.
const CURVES: [(&str, &str); 4] = [
    ("train/loss", "training loss"),
    ("val/z_std", "std of z/‖z‖ · √d, held out"),
    ("val/knn_top1", "kNN top-1, held out (%)"),
    LINEAR,
];
/// Drawn as a curve where it was measured more than once.
const LINEAR: (&str, &str) = ("val/linear_top1", "linear probe top-1, held out (%)");

/// The panels of the figure of final values.
const COLUMNS: [(&str, &str); 2] = [("val/knn_top1", "kNN top-1, held out (%)"), LINEAR];

/// The same for a study in closed form: curves, and of these the final values of the first two.
const CLOSED_FORM: [(&str, &str); 3] = [
    ("val/z_std", "std of the outputs, 1 at the start"),
    ("val/rankme", "effective rank of the outputs"),
    ("train/loss", "L(θ, η)"),
];

/// Draws `curves` and `final` below the study's folder; the paths of what was written.
pub fn draw(results: &Results) -> Result<Vec<PathBuf>> {
    let answer = &results.answer;
    let folder = results.folder.join("figures");
    std::fs::create_dir_all(&folder)
        .map_err(crate::error::Error::disk(&folder, "make the folder of figures"))?;
    let arms: Vec<(String, String)> =
        answer.arms.iter().map(|arm| (arm.arm.clone(), arm.title.clone())).collect();
    let seeds = answer.seeds.len();
    let caption = |seeds_as: &str| {
        let seeds = match seeds {
            1 => "1 seed".to_string(),
            _ => format!("{seeds} seeds: {seeds_as}; mean ± 95 % interval"),
        };
        let Answer { command, scale, sim, .. } = answer;
        format!("{command}   ·   {scale} scale, {seeds}   ·   sim {sim}")
    };
    let figure = |title: String, seeds_as: &str, panels: Vec<Panel>, points: Vec<Point>| Figure {
        title,
        caption: caption(seeds_as),
        arms: arms.clone(),
        panels,
        points,
    };
    let panel = |(name, y): (&str, &str), style| Panel {
        name: name.into(),
        x: if style == Style::Curves { "epoch".into() } else { String::new() },
        y: y.into(),
        style,
        references: Vec::new(),
    };
    let closed_form = answer.recipe.contains_key("closed_form.outputs");
    let (of_curves, of_columns) =
        if closed_form { (&CLOSED_FORM[..], &CLOSED_FORM[..2]) } else { (&CURVES[..], &COLUMNS[..]) };
    let (mut curves, mut last) = (Vec::new(), Vec::new());
    for (arm, _) in &arms {
        for &seed in &answer.seeds {
            let path = results.folder.join(arm).join(format!("seed-{seed}"));
            read(&path, arm, seed, (of_curves, &mut curves), (of_columns, &mut last))?;
        }
    }
    if closed_form {
        shorten(&mut curves, &arms);
    }
    // The initial weights are measured too: two points make a curve.
    let first = curves.iter().find(|point| point.panel == LINEAR.0).map(|point| point.x);
    let linear = curves.iter().any(|point| point.panel == LINEAR.0 && Some(point.x) != first);
    if !linear {
        curves.retain(|point| point.panel != LINEAR.0);
    }
    let shown = of_curves.iter().filter(|curve| linear || **curve != LINEAR);
    let curve_panels = shown.map(|curve| panel(*curve, Style::Curves)).collect();
    let curves = figure(answer.title.clone(), "thin lines", curve_panels, curves);
    let mut column_panels: Vec<Panel> = of_columns.iter().map(|c| panel(*c, Style::Columns)).collect();
    // The paper's values are ImageNet linear top-1: shown beside ours, in the linear panel only.
    if let Some(linear) = column_panels.get_mut(1).filter(|_| !closed_form) {
        if let Some(paper) = &answer.paper {
            linear.x = format!("paper: {}", paper.metric);
        }
        for arm in &answer.arms {
            if let Some(value) = arm.paper {
                let label = format!("paper {value:.1}");
                linear.references.push(Reference { label, value, arm: Some(arm.arm.clone()) });
            }
        }
    }
    let finals = figure(format!("{}: at the end", answer.title), "small dots", column_panels, last);
    let mut paths = curves.save(&folder.join("curves"))?;
    paths.extend(finals.save(&folder.join("final"))?);
    Ok(paths)
}

/// Ends curves where most arms end: one that is many times as long would press the others against the axis.
fn shorten(curves: &mut Vec<Point>, arms: &[(String, String)]) {
    let end = |(arm, _): &(String, String)| {
        curves.iter().filter(|point| point.arm == *arm).map(|point| point.x).fold(0.0, f64::max)
    };
    let mut ends: Vec<f64> = arms.iter().map(end).collect();
    ends.sort_by(f64::total_cmp);
    if let Some(&most) = ends.get(ends.len() / 2) {
        curves.retain(|point| point.x <= most);
    }
}

/// Adds one run's points, if it has any.
fn read(
    path: &Path,
    arm: &str,
    seed: u64,
    (of_curves, curves): (&[(&str, &str)], &mut Vec<Point>),
    (of_columns, last): (&[(&str, &str)], &mut Vec<Point>),
) -> Result<()> {
    let metrics = path.join("metrics.csv");
    if !metrics.is_file() {
        return Ok(());
    }
    let table = read_metrics(&metrics)?;
    let point = |panel: &str, x, y| Point { panel: panel.into(), arm: arm.into(), seed, x, y };
    for (name, _) in of_curves {
        curves.extend(table.points("epoch", name).into_iter().map(|(x, y)| point(name, x, y)));
    }
    // A run that diverged has no end to show.
    if read_outcome(path)? != Some(Outcome::Finished) {
        return Ok(());
    }
    for (name, _) in of_columns {
        last.extend(table.last(name).map(|y| point(name, 0.0, y)));
    }
    Ok(())
}
