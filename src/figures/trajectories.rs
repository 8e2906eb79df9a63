//! The figure of trajectories: where runs from one start go, in the plane of their parameters and
//! in that of alignment and spread.

use super::runs::{Run, points_of};
use crate::error::{Error, Result};
use crate::measure::metrics;
use crate::measure::plane::principal_plane;
use crate::record::{METRICS_FILE, TRAJECTORY, read_metrics};
use crate::report::{Panel, Point, Style};
use crate::train::read_trajectory;
use ndarray::Array2;

/// How far outputs are spread.
const Z_STD: &str = "val/z_std";

/// The figure's panels and points: the first seed's runs, because other seeds start elsewhere.
///
/// # Errors
/// [`Error::Data`] for results that are damaged.
pub fn of(runs: &[Run]) -> Result<(Vec<Panel>, Vec<Point>)> {
    let first = runs.iter().map(|run| run.seed).min();
    let of_first = || runs.iter().filter(|run| Some(run.seed) == first);
    let (mut points, shares) = plane(of_first())?;
    points.extend(points_of(of_first(), "spread", |run| {
        let table = read_metrics(&run.join(METRICS_FILE))?;
        let (alignment, spread) = (table.points("epoch", "em/alignment"), table.points("epoch", Z_STD));
        Ok(alignment.into_iter().zip(spread).map(|(a, s)| (a.1, s.1)).collect())
    })?);
    let percent = |share: f64| format!("{:.0} % of the variance", 100.0 * share);
    let (x, y) = (
        format!("θ along the first axis ({})", percent(shares[0])),
        format!("θ along the second axis ({})", percent(shares[1])),
    );
    let panels = vec![
        Panel::new("plane", &x, &y, Style::Path),
        Panel::new(
            "spread",
            "alignment, held out: 0 where views agree",
            metrics::of(Z_STD).axis,
            Style::Path,
        ),
    ];
    Ok((panels, points))
}

/// The places of each run's θ in the principal plane of all, and the shares of variance along its
/// axes.
fn plane<'a>(runs: impl Iterator<Item = &'a Run>) -> Result<(Vec<Point>, [f64; 2])> {
    let (mut names, mut rows) = (Vec::new(), Vec::new());
    let mut len = 0;
    for run in runs {
        for theta in read_trajectory(&run.path)? {
            if len > 0 && theta.len() != len {
                let what = "θ of another size than in the other arms; the plane needs one architecture";
                return Err(Error::data(run.path.join(TRAJECTORY), what));
            }
            len = theta.len();
            names.push((run.arm.clone(), run.seed));
            rows.extend(theta);
        }
    }
    let wrong = |e: ndarray::ShapeError| Error::Failure(format!("trajectories: {e}"));
    let all = Array2::from_shape_vec((names.len(), len), rows).map_err(wrong)?;
    let Some(plane) = principal_plane(&all) else { return Ok((Vec::new(), [0.0; 2])) };
    let point = |(row, (arm, seed)): (usize, (String, u64))| Point {
        panel: "plane".into(),
        arm,
        seed,
        x: plane.places[[row, 0]],
        y: plane.places[[row, 1]],
    };
    Ok((names.into_iter().enumerate().map(point).collect(), plane.shares))
}
