//! The figures that a study asks for by `figures`, made from what its runs left.

use super::runs::{Run, arms, caption, points_of};
use super::{growth, trajectories};
use crate::error::{Error, Result};
use crate::files;
use crate::measure::estimate::spearman;
use crate::measure::metrics;
use crate::record::{
    Answer, METRICS_FILE, Outcome, PRECISION_FILE, SPECTRUM_FILE, read_metrics, read_result_if_any,
};
use crate::report::{Extra, Figure, Panel, Point, Style};
use crate::study::Results;
use crate::train::recipe_of;
use std::path::{Path, PathBuf};

/// Singular values below this share of the largest are rounding noise (they come from a Gram matrix
/// in f64).
const NOISE: f64 = 1e-6;
/// The accuracy against which others are drawn.
const KNN: &str = "val/knn_top1";
/// Half-steps of the panel that shows the first of them.
const FIRST: f64 = 20.0;

/// Draws the figure `extra` of a study in `folder`; the paths of what was written.
///
/// # Errors
/// [`Error::Data`] for results that are damaged, [`Error::Disk`] when files cannot be written.
pub fn draw(results: &Results, extra: Extra, folder: &Path) -> Result<Vec<PathBuf>> {
    let answer = &results.answer;
    let mut runs = Run::all(results)?;
    runs.retain(|run| run.outcome == Some(Outcome::Finished));
    let (title, said, panels, points) = match extra {
        Extra::Spectrum => {
            let points = points_of(&runs, "spectrum", spectrum)?;
            let panel = Panel::new("spectrum", "index", "singular value / largest", Style::LogCurves);
            ("singular spectrum of z", caption(answer), vec![panel], points)
        }
        Extra::RankAccuracy
        | Extra::AreaAccuracy
        | Extra::LossAccuracy
        | Extra::CostAccuracy
        | Extra::PassesAccuracy => beside_accuracy(answer, &runs, extra)?,
        Extra::Grid => return grid(answer, &runs)?.save(&folder.join(extra.name())),
        Extra::PrecisionRecall => {
            let (panels, points) = precision_recall(&runs)?;
            ("precision by recall", caption(answer), panels, points)
        }
        Extra::HalfSteps => {
            let mut points = points_of(&runs, "all", half_steps)?;
            let early = points.iter().filter(|point| point.x <= FIRST).cloned();
            points.extend(early.map(|point| Point { panel: "first".into(), ..point }).collect::<Vec<_>>());
            let x = "half-step: E, M, E, …";
            let panels = vec![
                Panel::new("first", x, "L(θ, η), the first of them", Style::Curves),
                Panel::new("all", x, "L(θ, η)", Style::Curves),
            ];
            ("L after each half-step", caption(answer), panels, points)
        }
        Extra::Growth => growth::of(&runs, caption(answer))?,
        Extra::Trajectories => {
            let (panels, points) = trajectories::of(&runs)?;
            ("where they go", caption(answer), panels, points)
        }
    };
    let figure = Figure {
        title: format!("{}: {title}", answer.title),
        caption: said,
        arms: arms(answer),
        panels,
        points,
    };
    figure.save(&folder.join(extra.name()))
}

/// What the title adds to the study's, the caption, panels and points.
type Drawn = (&'static str, String, Vec<Panel>, Vec<Point>);

/// Arms as cells: columns for what their names have before the first comma, rows for what they have
/// behind it, both in the order in which they are met.
fn grid(answer: &Answer, runs: &[Run]) -> Result<Figure> {
    let parts = |arm: &str| {
        let (column, row) = arm.split_once(',').unwrap_or((arm, ""));
        (row.replace(',', ", "), column.to_string())
    };
    let (mut rows, mut columns): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (row, column) in answer.arms.iter().map(|arm| parts(&arm.arm)) {
        for (all, one) in [(&mut rows, row), (&mut columns, column)] {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    let (mut panels, mut points) = (Vec::new(), Vec::new());
    for metric in [KNN, "val/rankme", "val/z_std"].map(metrics::of) {
        let heat = Style::Heat { columns: columns.clone(), rows: String::new() };
        let panel = Panel::new(metric.name, "", metric.axis, heat);
        panels.push(Panel { larger_is_better: metric.larger_is_better, ..panel });
        for run in runs {
            let (row, column) = parts(&run.arm);
            let x = columns.iter().position(|one| *one == column).unwrap_or_default() as f64;
            let last = read_metrics(&run.path.join(METRICS_FILE))?.last(metric.name);
            points.extend(last.map(|y| Point { arm: row.clone(), ..run.point(metric.name, (x, y)) }));
        }
    }
    let title = format!("{}: all arms", answer.title);
    let arms = rows.into_iter().map(|row| (row.clone(), row)).collect();
    Ok(Figure { title, caption: caption(answer), arms, panels, points })
}

/// (views of each training image that passed with gradient, last kNN) of a run.
fn passes(run: &Path) -> Result<Vec<(f64, f64)>> {
    let recipe = recipe_of(run)?;
    let views = recipe.objective.trained_views() as u64 * recipe.schedule.own_epochs();
    let last = read_metrics(&run.join(METRICS_FILE))?.last(KNN);
    Ok(last.map(|knn| (views as f64, knn)).into_iter().collect())
}

/// The last values of two columns of each run's metrics, as points of `panel`.
fn last_pairs(runs: &[Run], panel: &str, x: &str, y: &str) -> Result<Vec<Point>> {
    points_of(runs, panel, |run| {
        let table = read_metrics(&run.join(METRICS_FILE))?;
        Ok(table.last(x).zip(table.last(y)).into_iter().collect())
    })
}

/// kNN beside another number of each run, as a scatter: any figure that [`Extra::is_of_accuracy`].
fn beside_accuracy(answer: &Answer, runs: &[Run], extra: Extra) -> Result<Drawn> {
    Ok(match extra {
        Extra::RankAccuracy => {
            let axes = ["val/rankme", "RankMe of z, held out"];
            correlated(answer, runs, extra, axes, "RankMe and kNN")?
        }
        Extra::AreaAccuracy => {
            let axes = ["spectrum/auc", metrics::of("spectrum/auc").axis];
            correlated(answer, runs, extra, axes, "the spectrum and kNN")?
        }
        Extra::LossAccuracy => {
            let axes = ["train/loss", "loss, mean of the last epoch"];
            correlated(answer, runs, extra, axes, "what the loss tells of kNN")?
        }
        Extra::CostAccuracy => {
            let points = last_pairs(runs, "cost-accuracy", "train/e_passes", KNN)?;
            let x = "forward passes of the E-step per image";
            let panel = Panel::new("cost-accuracy", x, metrics::of(KNN).axis, Style::Scatter);
            ("cost and accuracy", caption(answer), vec![panel], points)
        }
        _ => {
            let points = points_of(runs, "passes-accuracy", passes)?;
            let x = "views of a training image that passed with gradient, over the run";
            let panel = Panel::new("passes-accuracy", x, metrics::of(KNN).axis, Style::Scatter);
            ("passes and accuracy", caption(answer), vec![panel], points)
        }
    })
}

/// kNN against the column `x`, which its axis calls `says`, with the rank correlation over runs in
/// the caption.
fn correlated(
    answer: &Answer,
    runs: &[Run],
    extra: Extra,
    [x, says]: [&str; 2],
    title: &'static str,
) -> Result<Drawn> {
    let panel = Panel::new(extra.name(), says, metrics::of(KNN).axis, Style::Scatter);
    let points = last_pairs(runs, &panel.name, x, KNN)?;
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.x, point.y)).collect();
    let correlation = spearman(&pairs).map_or_else(String::new, |correlation| {
        let correlation = format!("{correlation:.2}").replace('-', "−");
        format!("Spearman's rank correlation over {} runs: {correlation}   ·   ", pairs.len())
    });
    let said = format!("{correlation}{}", caption(answer));
    Ok((title, said, vec![panel], points))
}

/// The curves of detectors: columns of precision.csv and what an axis says of them.
const PRECISIONS: [(&str, &str); 4] = [
    ("box50", "precision of boxes, IoU 0.5"),
    ("box75", "precision of boxes, IoU 0.75"),
    ("mask50", "precision of masks, IoU 0.5"),
    ("mask75", "precision of masks, IoU 0.75"),
];
/// One of so many recalls is drawn.
const RECALLS: usize = 2;

/// Precision by recall, a panel for each kind of overlap that was judged.
fn precision_recall(runs: &[Run]) -> Result<(Vec<Panel>, Vec<Point>)> {
    let mut points = Vec::new();
    for run in runs {
        let Some(bytes) = read_result_if_any(&run.path, PRECISION_FILE, files::TABLE)? else { continue };
        let path = run.path.join(PRECISION_FILE);
        let wrong = |e: csv::Error| Error::data(&path, format!("not precision by recall: {e}"));
        let mut rows = csv::Reader::from_reader(bytes.as_slice());
        let columns: Vec<String> = rows.headers().map_err(wrong)?.iter().map(String::from).collect();
        for row in rows.deserialize::<Vec<f64>>().step_by(RECALLS) {
            let row = row.map_err(wrong)?;
            let of = |(name, precision): (&String, &f64)| run.point(name, (row[0], *precision));
            points.extend(columns.iter().zip(&row).skip(1).map(of));
        }
    }
    let drawn = |(name, _): &(&str, &str)| points.iter().any(|point: &Point| point.panel == *name);
    let panel = |(name, axis): (&str, &str)| Panel::new(name, "recall", axis, Style::Curves);
    Ok((PRECISIONS.into_iter().filter(drawn).map(panel).collect(), points))
}

/// (index, share of the largest) of the singular values in a run's spectrum.csv.
fn spectrum(run: &Path) -> Result<Vec<(f64, f64)>> {
    let Some(bytes) = read_result_if_any(run, SPECTRUM_FILE, files::TABLE)? else { return Ok(Vec::new()) };
    let path = run.join(SPECTRUM_FILE);
    let wrong = |e: csv::Error| Error::data(&path, format!("not a spectrum: {e}"));
    let mut rows = csv::Reader::from_reader(bytes.as_slice());
    let all = rows.deserialize().collect::<std::result::Result<Vec<(f64, f64)>, _>>().map_err(wrong)?;
    let largest = all.iter().fold(0.0, |largest: f64, (_, value)| largest.max(*value));
    let share = all.into_iter().map(|(index, value)| (index, value / largest));
    Ok(share.filter(|(_, share)| *share >= NOISE).collect())
}

/// L after each half-step of an epoch, counted from 1: odd ones are E-steps. An epoch of several
/// alternations has their means.
fn half_steps(run: &Path) -> Result<Vec<(f64, f64)>> {
    let table = read_metrics(&run.join(METRICS_FILE))?;
    let e = table.points("epoch", "em/loss_after_e").into_iter().map(|(epoch, l)| (2.0 * epoch - 1.0, l));
    let m = table.points("epoch", "em/loss_after_m").into_iter().map(|(epoch, l)| (2.0 * epoch, l));
    let mut all: Vec<(f64, f64)> = e.chain(m).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(all)
}
