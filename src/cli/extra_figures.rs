//! The figures that a study asks for by `figures`, made from what its runs left.

use super::figures::caption;
use crate::error::{Error, Result};
use crate::measure::estimate::spearman;
use crate::record::{Outcome, read_metrics, read_outcome};
use crate::report::{Figure, Panel, Point, Style};
use crate::study::{Extra, Results};
use std::path::{Path, PathBuf};

/// Singular values below this share of the largest are rounding noise (they come from a Gram matrix in f64).
const NOISE: f64 = 1e-6;

/// Draws one of them in `folder`; the paths of what was written.
pub fn draw(results: &Results, extra: Extra, folder: &Path) -> Result<Vec<PathBuf>> {
    let answer = &results.answer;
    let mut points = Vec::new();
    for arm in &answer.arms {
        for &seed in &answer.seeds {
            let run = results.folder.join(&arm.arm).join(format!("seed-{seed}"));
            // Neither is there before a run has come to its end.
            if read_outcome(&run)? != Some(Outcome::Finished) {
                continue;
            }
            let found = match extra {
                Extra::Spectrum => spectrum(&run)?,
                Extra::RankAccuracy => rank_and_accuracy(&run)?,
            };
            let panel = name(extra).to_string();
            points.extend(found.into_iter().map(|(x, y)| Point {
                panel: panel.clone(),
                arm: arm.arm.clone(),
                seed,
                x,
                y,
            }));
        }
    }
    let (title, x, y, style, said) = match extra {
        Extra::Spectrum => (
            "singular spectrum of z",
            "index",
            "singular value / largest",
            Style::LogCurves,
            caption(answer, "geometric mean"),
        ),
        Extra::RankAccuracy => {
            let pairs: Vec<(f64, f64)> = points.iter().map(|point| (point.x, point.y)).collect();
            let correlation = spearman(&pairs).map_or_else(String::new, |correlation| {
                let correlation = format!("{correlation:.2}").replace('-', "−");
                format!("Spearman's rank correlation over {} runs: {correlation}   ·   ", pairs.len())
            });
            let said = format!("{correlation}{}", caption(answer, "a marker for each run"));
            ("RankMe and kNN", "RankMe of z, held out", "kNN top-1, held out (%)", Style::Scatter, said)
        }
    };
    let panel = Panel { name: name(extra).into(), x: x.into(), y: y.into(), style, references: Vec::new() };
    let figure = Figure {
        title: format!("{}: {title}", answer.title),
        caption: said,
        arms: answer.arms.iter().map(|arm| (arm.arm.clone(), arm.title.clone())).collect(),
        panels: vec![panel],
        points,
    };
    figure.save(&folder.join(name(extra)))
}

/// The figure's file, and its panel.
fn name(extra: Extra) -> &'static str {
    match extra {
        Extra::Spectrum => "spectrum",
        Extra::RankAccuracy => "rank-accuracy",
    }
}

/// (index, share of the largest) of the singular values in a run's spectrum.csv.
fn spectrum(run: &Path) -> Result<Vec<(f64, f64)>> {
    let path = run.join("spectrum.csv");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let wrong = |e: csv::Error| Error::data(&path, format!("not a spectrum: {e}"));
    let mut rows = csv::Reader::from_path(&path).map_err(wrong)?;
    let all = rows.deserialize().collect::<std::result::Result<Vec<(f64, f64)>, _>>().map_err(wrong)?;
    let largest = all.iter().fold(0.0, |largest: f64, (_, value)| largest.max(*value));
    let share = all.into_iter().map(|(index, value)| (index, value / largest));
    Ok(share.filter(|(_, share)| *share >= NOISE).collect())
}

/// (RankMe, kNN accuracy) at a run's end.
fn rank_and_accuracy(run: &Path) -> Result<Vec<(f64, f64)>> {
    let table = read_metrics(&run.join("metrics.csv"))?;
    Ok(table.last("val/rankme").zip(table.last("val/knn_top1")).into_iter().collect())
}
