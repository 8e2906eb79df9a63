//! What a report shows of a study's weights: maps and nearest neighbours.

use super::pretrained::dataset_of;
use super::{map, neighbours};
use crate::device::Place;
use crate::error::{Error, Result};
use crate::record::{Answer, AnswerArm, WEIGHTS_FILE, run_folder};
use crate::report::{Chapter, Picture};
use crate::train::Pretrained;
use std::path::{Path, PathBuf};

/// Images of a map, queries, and neighbours of each: a page is to stay small.
const IMAGES: usize = 500;
const QUERIES: usize = 8;
const NEAREST: usize = 8;
/// Which arms are shown: the best and the worst of this.
const BY: &str = "val/knn_top1";

/// Adds to `chapter` what the weights of two arms show. Of an arm whose weights or images cannot be
/// read, or give all images the same features, it is said why nothing is shown.
///
/// # Errors
/// As [`Place::open`], and [`Error::Failure`] where a picture cannot be drawn.
pub fn add(chapter: &mut Chapter) -> Result<()> {
    for (title, run) in two_arms(&chapter.answer, &chapter.folder) {
        match pictures(&title, &run, &chapter.answer.command) {
            Ok(pictures) => chapter.pictures.extend(pictures),
            Err(error @ Error::Data { .. }) => super::note(&format!("{title} is not shown: {error}")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The map and the neighbours by the weights in the folder `run`.
fn pictures(title: &str, run: &Path, command: &str) -> Result<[Picture; 2]> {
    let pretrained = Pretrained::open(run)?;
    let dataset = dataset_of(&pretrained, None)?;
    let site = Place::Cpu.open()?;
    let asked = map::Asked { images: IMAGES, projection: false, command: command.into() };
    let map = map::map(&pretrained, &dataset, &site, &asked)?;
    let asked = neighbours::Asked { queries: QUERIES, nearest: NEAREST, projection: false };
    let near = neighbours::neighbours(&pretrained, &dataset, &site, &asked)?;
    let name = map::shown(&pretrained.path);
    let picture = |what: String, png| Picture { title: format!("{title}: {what}"), png };
    Ok([
        picture(format!("held-out images as {name} sees them"), map.png()?),
        picture(
            "held-out images and their nearest training images".into(),
            near.sheet(&pretrained, &dataset)?,
        ),
    ])
}

/// Titles and first runs with weights of the arms with the best and the worst kNN.
fn two_arms(answer: &Answer, folder: &Path) -> Vec<(String, PathBuf)> {
    let run_of = |arm: &AnswerArm| {
        let folders = arm.runs.iter().map(|run| run_folder(folder, &arm.arm, run.seed));
        folders.into_iter().find(|run| run.join(WEIGHTS_FILE).is_file())
    };
    let mut arms: Vec<(f64, &AnswerArm, PathBuf)> = Vec::new();
    for arm in &answer.arms {
        let median = arm.metrics.get(BY).and_then(|spread| spread.median);
        if let (Some(run), Some(median)) = (run_of(arm), median) {
            arms.push((median, arm, run));
        }
    }
    arms.sort_by(|a, b| b.0.total_cmp(&a.0));
    let worst = if arms.len() > 1 { arms.pop() } else { None };
    arms.into_iter().take(1).chain(worst).map(|(_, arm, run)| (arm.title.clone(), run)).collect()
}
