//! The film of a study: outputs of the same images through training, arm beside arm.

use super::runs::caption;
use crate::error::Result;
use crate::measure::collapse::std;
use crate::measure::knn::unit_rows;
use crate::measure::plane::principal_plane;
use crate::record::{Answer, METRICS_FILE, read_metrics, run_folder};
use crate::report::{Film, FilmArm, Frame};
use crate::train::{FilmFrame, read_film};
use nalgebra::Matrix2;
use ndarray::Array2;
use std::path::Path;

/// Arms that stand beside each other on a page at most.
const MOST_ARMS: usize = 6;

/// The film of the study in `folder` with this `answer`: of each arm the first run that kept its
/// outputs. None where no run did.
///
/// # Errors
/// [`crate::Error::Data`] for a frame or a metrics.csv that cannot be read.
pub fn film(answer: &Answer, folder: &Path) -> Result<Option<Film>> {
    let mut shown = Vec::new();
    for arm in &answer.arms {
        for run in &arm.runs {
            let path = run_folder(folder, &arm.arm, run.seed);
            let frames = read_film(&path)?;
            if frames.is_empty() {
                continue;
            }
            let epochs = epochs(&path)?;
            shown.push(FilmArm {
                title: arm.title.clone(),
                seed: run.seed,
                labels: frames[0].labels.clone(),
                frames: in_planes(&frames, &epochs),
            });
            break;
        }
    }
    let left_out = shown.len().saturating_sub(MOST_ARMS);
    shown.truncate(MOST_ARMS);
    let title = format!("{}: outputs of the same held-out images through training", answer.title);
    Ok((!shown.is_empty()).then(|| Film { title, arms: shown, left_out, origin: caption(answer) }))
}

/// (step, epoch) of all rows of a run's metrics.csv.
fn epochs(run: &Path) -> Result<Vec<(u64, f64)>> {
    let points = read_metrics(&run.join(METRICS_FILE))?.points("step", "epoch");
    Ok(points.into_iter().map(|(step, epoch)| (step as u64, epoch)).collect())
}

/// Each frame in the plane of its own first two principal directions, turned to the frame before:
/// which way an axis points means nothing, and would make points jump.
fn in_planes(frames: &[FilmFrame], epochs: &[(u64, f64)]) -> Vec<Frame> {
    let mut before: Option<Array2<f64>> = None;
    let mut shown = Vec::with_capacity(frames.len());
    for frame in frames {
        let unit = unit_rows(frame.z.view());
        // Outputs that are equal lie in one point.
        let plane = principal_plane(&unit).map(|plane| plane.places);
        let places = plane.unwrap_or_else(|| Array2::zeros((unit.nrows(), 2)));
        let places = match &before {
            Some(before) => turned(&places, before),
            None => places,
        };
        let epoch = epochs.iter().find(|(step, _)| *step == frame.step).map(|(_, epoch)| *epoch);
        shown.push(Frame {
            step: frame.step,
            epoch,
            z_std: std(frame.z.view()) * (frame.z.ncols() as f64).sqrt(),
            places: places.rows().into_iter().map(|row| (row[0], row[1])).collect(),
        });
        before = Some(places);
    }
    shown
}

/// `places` (n, 2) turned, and mirrored where that brings them nearer, onto those of `before`
/// (n, 2): the orthogonal Procrustes problem.
fn turned(places: &Array2<f64>, before: &Array2<f64>) -> Array2<f64> {
    let product = places.t().dot(before);
    let svd = Matrix2::from_fn(|i, j| product[[i, j]]).svd(true, true);
    let (Some(u), Some(v)) = (svd.u, svd.v_t) else { return places.clone() };
    let turn = u * v;
    places.dot(&Array2::from_shape_fn((2, 2), |(i, j)| turn[(i, j)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_frame_that_was_turned_and_mirrored_lies_as_the_one_before() {
        let before = array![[1.0, 0.0], [0.0, 0.5], [-1.0, -0.5]];
        let turn = array![[0.6, 0.8], [0.8, -0.6]];
        let back = turned(&before.dot(&turn), &before);
        assert!((&back - &before).iter().all(|v| v.abs() < 1e-12), "{back:?}");
        let nothing = Array2::zeros((3, 2));
        assert_eq!(turned(&nothing, &before), nothing);
    }
}
