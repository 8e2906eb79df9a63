//! The runs of a study that figures are made from.

use crate::error::Result;
use crate::record::{Answer, AnswerRun, Outcome, read_outcome, run_folder};
use crate::report::Point;
use crate::study::Results;
use std::path::{Path, PathBuf};

/// A run of an arm.
pub struct Run {
    /// Its arm.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub path: PathBuf,
    /// How it ended; none where it has not.
    pub outcome: Option<Outcome>,
}

impl Run {
    /// All runs of an answer, arm by arm.
    ///
    /// # Errors
    /// [`crate::Error::Data`] when an outcome is damaged.
    pub fn all(results: &Results) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for arm in &results.answer.arms {
            for &AnswerRun { seed, .. } in &arm.runs {
                let path = run_folder(&results.folder, &arm.arm, seed);
                let outcome = read_outcome(&path)?;
                runs.push(Run { arm: arm.arm.clone(), seed, path, outcome });
            }
        }
        Ok(runs)
    }

    /// The number (x, y) of this run as a point of `panel`.
    pub fn point(&self, panel: &str, (x, y): (f64, f64)) -> Point {
        Point { panel: panel.into(), arm: self.arm.clone(), seed: self.seed, x, y }
    }
}

/// What `read` finds in each run's folder, as points of `panel`.
///
/// # Errors
/// Those of `read`.
pub fn points_of<'a>(
    runs: impl IntoIterator<Item = &'a Run>,
    panel: &str,
    read: impl Fn(&Path) -> Result<Vec<(f64, f64)>>,
) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for run in runs {
        points.extend(read(&run.path)?.into_iter().map(|at| run.point(panel, at)));
    }
    Ok(points)
}

/// Where a figure's data come from, which stands below it.
pub fn caption(answer: &Answer) -> String {
    let Answer { command, scale, sim, .. } = answer;
    format!("{command}   ·   {scale} scale   ·   sim {sim}")
}

/// Arms and what the legend calls them.
pub fn arms(answer: &Answer) -> Vec<(String, String)> {
    answer.arms.iter().map(|arm| (arm.arm.clone(), arm.title.clone())).collect()
}
