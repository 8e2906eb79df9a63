//! The figures of a study, made from the metrics that its runs left.

use super::extra;
use super::runs::{Run, arms, caption};
use crate::error::Result;
use crate::measure::metrics::{self, CLOSED_FORM, Metric};
use crate::record::{Answer, AnswerArm, METRICS_FILE, Outcome, Table, make_folder, read_metrics};
use crate::report::{Figure, Panel, Point, Reference, Style};
use crate::study::{Results, Study};
use std::path::PathBuf;

/// The panels of the figure of curves where a study names none.
const CURVES: [&str; 4] = ["train/loss", "val/z_std", "val/knn_top1", LINEAR];
/// Drawn as a curve where it was measured more than once.
const LINEAR: &str = "val/linear_top1";
/// The panels of the figure of final values.
const FINALS: [&str; 2] = ["val/knn_top1", LINEAR];

/// The same where images have no labels.
const UNLABELLED: [&str; 2] = ["val/z_std", "val/rankme"];

/// The panels of the curves and of the final values.
fn columns(study: &Study, answer: &Answer) -> (Vec<Metric>, Vec<Metric>) {
    if is_closed_form(answer) {
        let is_shown = |metric: &&Metric| answer.metrics.iter().any(|shown| shown.name == metric.name);
        return (CLOSED_FORM.iter().filter(is_shown).copied().collect(), CLOSED_FORM[..2].to_vec());
    }
    let shown: Vec<Metric> = answer.metrics.iter().map(|shown| *metrics::of(&shown.name)).collect();
    // A detector is measured at its end alone.
    if answer.recipe.keys().any(|key| key.starts_with("transfer.")) {
        return (vec![*metrics::of(CURVES[0])], shown);
    }
    let known = |names: &[&str]| names.iter().map(|name| *metrics::of(name)).collect();
    if study.head.shows.is_empty() {
        let finals: &[&str] = if answer.is_labelled() { &FINALS } else { &UNLABELLED };
        return (known(&CURVES), known(finals));
    }
    (shown.clone(), shown)
}

fn is_closed_form(answer: &Answer) -> bool {
    answer.recipe.contains_key("closed_form.outputs")
}

/// Draws `curves`, `final` and the figures that `study` asks for below its folder; the paths of
/// what was written.
///
/// # Errors
/// [`crate::Error::Data`] when a run's files are damaged, [`crate::Error::Disk`] when a figure
/// cannot be written.
pub fn draw(study: &Study, results: &Results) -> Result<Vec<PathBuf>> {
    let answer = &results.answer;
    let (curve_columns, final_columns) = columns(study, answer);
    let folder = results.folder.join("figures");
    make_folder(&folder)?;
    let (mut curves, mut ends) = (Vec::new(), Vec::new());
    for run in Run::all(results)? {
        curves.extend(curves_of(&run, &curve_columns)?);
        ends.extend(ends_of(&run, &final_columns)?);
    }
    let cut = if is_closed_form(answer) { shorten(&mut curves, answer) } else { None };
    let figure = |title: String, panels: Vec<Panel>, points: Vec<Point>, said: Option<String>| Figure {
        title,
        caption: said.into_iter().chain([caption(answer)]).collect::<Vec<_>>().join("   ·   "),
        arms: arms(answer),
        panels,
        points,
    };
    let (title, panels) = (answer.title.clone(), curve_panels(&curve_columns, &mut curves));
    let mut paths = figure(title, panels, curves, cut).save(&folder.join("curves"))?;
    let (title, panels) = (format!("{}: at the end", answer.title), final_panels(&final_columns, answer));
    paths.extend(figure(title, panels, ends, None).save(&folder.join("final"))?);
    for extra in study.head.figures.iter().filter(|extra| answer.is_labelled() || !extra.is_of_accuracy()) {
        paths.extend(extra::draw(results, *extra, &folder)?);
    }
    Ok(paths)
}

fn panel(metric: &Metric, x: &str, style: Style) -> Panel {
    Panel { larger_is_better: metric.larger_is_better, ..Panel::new(metric.name, x, metric.axis, style) }
}

/// The panels of which there is something to see in `points`, and these alone.
pub(super) fn curve_panels(columns: &[Metric], points: &mut Vec<Point>) -> Vec<Panel> {
    // A probe at the end alone is a point for each run, and no curve.
    let linear = points.windows(2).any(|pair| {
        let of_one_run = pair[0].arm == pair[1].arm && pair[0].seed == pair[1].seed;
        of_one_run && pair.iter().all(|point| point.panel == LINEAR)
    });
    if !linear {
        points.retain(|point| point.panel != LINEAR);
    }
    // A panel without a single point shows nothing.
    let drawn = |column: &&Metric| points.iter().any(|point| point.panel == column.name);
    columns.iter().filter(drawn).map(|column| panel(column, "epoch", Style::Curves)).collect()
}

fn final_panels(columns: &[Metric], answer: &Answer) -> Vec<Panel> {
    let mut panels: Vec<Panel> = columns.iter().map(|column| panel(column, "", Style::Columns)).collect();
    // The paper's values are ImageNet linear top-1: shown beside ours, in the linear panel only.
    if let Some(linear) = panels.iter_mut().find(|panel| panel.name == LINEAR) {
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
    panels
}

/// Ends curves where most arms end: one that is many times as long would press the others against
/// the axis. Says so, where an arm goes on.
fn shorten(curves: &mut Vec<Point>, answer: &Answer) -> Option<String> {
    let end = |arm: &AnswerArm| {
        curves.iter().filter(|point| point.arm == arm.arm).map(|point| point.x).fold(0.0, f64::max)
    };
    let ends: Vec<f64> = answer.arms.iter().map(end).collect();
    let mut sorted = ends.clone();
    sorted.sort_by(f64::total_cmp);
    let most = *sorted.get(sorted.len() / 2)?;
    curves.retain(|point| point.x <= most);
    let longer = answer.arms.iter().zip(&ends).filter(|(_, end)| **end > most);
    let longer: Vec<String> = longer.map(|(arm, end)| format!("{} to {end}", arm.arm)).collect();
    (!longer.is_empty()).then(|| format!("cut at epoch {most}, goes on: {}", longer.join(", ")))
}

/// One run's curves, if it has any. Those of a run that diverged end with a point that is no
/// number.
pub(super) fn curves_of(run: &Run, columns: &[Metric]) -> Result<Vec<Point>> {
    let table = table(run)?;
    let mut points = Vec::new();
    for Metric { name, .. } in columns {
        let curve = table.as_ref().map(|table| table.points("epoch", name)).unwrap_or_default();
        let mut curve: Vec<(f64, f64)> = curve.into_iter().filter(|(_, y)| y.is_finite()).collect();
        if diverged(run) {
            curve.push((curve.last().map_or(0.0, |(x, _)| *x), f64::NAN));
        }
        points.extend(curve.into_iter().map(|at| run.point(name, at)));
    }
    Ok(points)
}

/// One run's last values; a run that diverged has no numbers at its end.
fn ends_of(run: &Run, columns: &[Metric]) -> Result<Vec<Point>> {
    let point = |name: &str, y| run.point(name, (0.0, y));
    if diverged(run) {
        return Ok(columns.iter().map(|column| point(column.name, f64::NAN)).collect());
    }
    if run.outcome != Some(Outcome::Finished) {
        return Ok(Vec::new());
    }
    let Some(table) = table(run)? else { return Ok(Vec::new()) };
    let last = columns.iter().filter_map(|column| Some((column.name, table.last(column.name)?)));
    Ok(last.filter(|(_, y)| y.is_finite()).map(|(name, y)| point(name, y)).collect())
}

fn table(run: &Run) -> Result<Option<Table>> {
    let path = run.path.join(METRICS_FILE);
    path.is_file().then(|| read_metrics(&path)).transpose()
}

fn diverged(run: &Run) -> bool {
    matches!(run.outcome, Some(Outcome::Diverged { .. }))
}
