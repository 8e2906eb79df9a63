//! The figures that a study asks for by `figures`, made from what its runs left.

use super::figures::caption;
use super::trajectories;
use crate::error::{Error, Result};
use crate::files;
use crate::measure::estimate::spearman;
use crate::record::{
    Answer, AnswerRun, Outcome, SPECTRUM_FILE, read_metrics, read_outcome, read_result_if_any,
};
use crate::report::{Figure, Panel, Point, Style};
use crate::study::{Extra, Results};
use std::path::{Path, PathBuf};

/// Singular values below this share of the largest are rounding noise (they come from a Gram matrix in f64).
const NOISE: f64 = 1e-6;
/// Half-steps of the panel that shows the first of them.
const FIRST: f64 = 20.0;

/// Draws one of them in `folder`; the paths of what was written.
pub fn draw(results: &Results, extra: Extra, folder: &Path) -> Result<Vec<PathBuf>> {
    let answer = &results.answer;
    let runs = finished(results)?;
    let (title, said, panels, points) = match extra {
        Extra::Spectrum => {
            let points = of_runs(&runs, "spectrum", spectrum)?;
            let panel = Panel::new("spectrum", "index", "singular value / largest", Style::LogCurves);
            ("singular spectrum of z", caption(answer), vec![panel], points)
        }
        Extra::RankAccuracy => rank_accuracy(answer, &runs)?,
        Extra::CostAccuracy => {
            let points = last_pairs(&runs, "cost-accuracy", "train/e_passes", "val/knn_top1")?;
            let x = "forward passes of the E-step per image";
            let panel = Panel::new("cost-accuracy", x, "kNN top-1, held out (%)", Style::Scatter);
            ("cost and accuracy", caption(answer), vec![panel], points)
        }
        Extra::HalfSteps => {
            let mut points = of_runs(&runs, "all", half_steps)?;
            let early = points.iter().filter(|point| point.x <= FIRST).cloned();
            points.extend(early.map(|point| Point { panel: "first".into(), ..point }).collect::<Vec<_>>());
            let x = "half-step: E, M, E, …";
            let panels = vec![
                Panel::new("first", x, "L(θ, η), the first of them", Style::Curves),
                Panel::new("all", x, "L(θ, η)", Style::Curves),
            ];
            ("L after each half-step", caption(answer), panels, points)
        }
        Extra::Trajectories => trajectories::of(answer, &runs)?,
    };
    let figure = Figure {
        title: format!("{}: {title}", answer.title),
        caption: said,
        arms: answer.arms.iter().map(|arm| (arm.arm.clone(), arm.title.clone())).collect(),
        panels,
        points,
    };
    figure.save(&folder.join(name(extra)))
}

/// What the title adds to the study's, the caption, panels and points.
pub type Drawn = (&'static str, String, Vec<Panel>, Vec<Point>);

/// A run that has come to its end.
pub struct Run {
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub path: PathBuf,
}

fn finished(results: &Results) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for arm in &results.answer.arms {
        for &AnswerRun { seed, .. } in &arm.runs {
            let path = results.folder.join(&arm.arm).join(format!("seed-{seed}"));
            if read_outcome(&path)? == Some(Outcome::Finished) {
                runs.push(Run { arm: arm.arm.clone(), seed, path });
            }
        }
    }
    Ok(runs)
}

/// What `read` finds in each run's folder, as points of `panel`.
pub fn of_runs<'a>(
    runs: impl IntoIterator<Item = &'a Run>,
    panel: &str,
    read: impl Fn(&Path) -> Result<Vec<(f64, f64)>>,
) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for Run { arm, seed, path } in runs {
        let point = |(x, y)| Point { panel: panel.into(), arm: arm.clone(), seed: *seed, x, y };
        points.extend(read(path)?.into_iter().map(point));
    }
    Ok(points)
}

/// The figure's file.
fn name(extra: Extra) -> &'static str {
    match extra {
        Extra::Spectrum => "spectrum",
        Extra::RankAccuracy => "rank-accuracy",
        Extra::CostAccuracy => "cost-accuracy",
        Extra::HalfSteps => "half-steps",
        Extra::Trajectories => "trajectories",
    }
}

/// The last values of two columns of each run's metrics, as points of `panel`.
fn last_pairs(runs: &[Run], panel: &str, x: &str, y: &str) -> Result<Vec<Point>> {
    of_runs(runs, panel, |run| {
        let table = read_metrics(&run.join("metrics.csv"))?;
        Ok(table.last(x).zip(table.last(y)).into_iter().collect())
    })
}

fn rank_accuracy(answer: &Answer, runs: &[Run]) -> Result<Drawn> {
    let points = last_pairs(runs, "rank-accuracy", "val/rankme", "val/knn_top1")?;
    let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.x, point.y)).collect();
    let correlation = spearman(&pairs).map_or_else(String::new, |correlation| {
        let correlation = format!("{correlation:.2}").replace('-', "−");
        format!("Spearman's rank correlation over {} runs: {correlation}   ·   ", pairs.len())
    });
    let said = format!("{correlation}{}", caption(answer));
    let panel =
        Panel::new("rank-accuracy", "RankMe of z, held out", "kNN top-1, held out (%)", Style::Scatter);
    Ok(("RankMe and kNN", said, vec![panel], points))
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

/// L after each half-step of an epoch, counted from 1: odd ones are E-steps. An epoch of several alternations has
/// their means.
fn half_steps(run: &Path) -> Result<Vec<(f64, f64)>> {
    let table = read_metrics(&run.join("metrics.csv"))?;
    let e = table.points("epoch", "em/loss_after_e").into_iter().map(|(epoch, l)| (2.0 * epoch - 1.0, l));
    let m = table.points("epoch", "em/loss_after_m").into_iter().map(|(epoch, l)| (2.0 * epoch, l));
    let mut all: Vec<(f64, f64)> = e.chain(m).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(all)
}
