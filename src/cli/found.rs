//! Sheets of held-out images beside what detectors found in them.

use super::objects::marked;
use crate::augment::Image;
use crate::data::objects::{ObjectSet, Scene};
use crate::error::{Error, Result};
use crate::measure::average_precision::Detection;
use crate::record::{Answer, AnswerArm, run_folder};
use crate::report::{Chapter, Marked, Picture, Row, contact_sheet, object_tiles};
use crate::train::{read_found, recipe_of};
use std::path::Path;

/// Rows of a sheet of one detector, and images of a row.
const ROWS: usize = 8;
const GROUPS: usize = 2;
/// Images that a page shows for every arm.
const SHOWN: usize = 6;
/// Scores that are shown.
const SURE: f64 = 0.5;

/// A sheet of held-out images, their objects, and what was found in them.
///
/// # Errors
/// As [`crate::data::objects::ObjectSplit::scene`], and where a picture cannot be drawn.
pub fn sheet(set: &ObjectSet, found: &[Detection]) -> Result<Vec<u8>> {
    let heading = format!("An image, its objects, and what was found with a score of {SURE} or more.");
    let mut rows: Vec<Row> = Vec::new();
    for image in 0..set.test.len().min(ROWS * GROUPS) {
        let scene = set.test.scene(image)?;
        let [plain, truth] = of_truth(&scene);
        if image % GROUPS == 0 {
            rows.push(Row { name: (image + 1).to_string(), groups: Vec::new() });
        }
        if let Some(row) = rows.last_mut() {
            row.groups.push([plain, truth, of_found(&scene, image, found)].map(Into::into).into());
        }
    }
    contact_sheet(&[heading], &rows)
}

/// The image alone, and with its objects.
fn of_truth(scene: &Scene) -> [Image; 2] {
    object_tiles(&scene.image, &scene.objects.iter().map(marked).collect::<Vec<_>>())
}

/// The image with what was found in it.
fn of_found(scene: &Scene, image: usize, found: &[Detection]) -> Image {
    let sure = found.iter().filter(|found| found.image == image && found.score >= SURE);
    let marks = sure.map(|found| Marked {
        colour: found.class,
        bounding_box: found.bounding_box,
        mask: found.mask.as_ref(),
        dashed: false,
    });
    let [_, seen] = object_tiles(&scene.image, &marks.collect::<Vec<_>>());
    seen
}

/// Adds to `chapter` what the detectors of its arms found, where its runs fine-tuned such: the same
/// images for all, by each arm's first run. Where they cannot be read, it is said why nothing is
/// shown.
///
/// # Errors
/// [`Error::Failure`] where a picture cannot be drawn.
pub fn add(chapter: &mut Chapter) -> Result<()> {
    match of_study(&chapter.answer, &chapter.folder) {
        Ok(picture) => chapter.pictures.extend(picture),
        Err(error @ (Error::Data { .. } | Error::Disk { .. })) => {
            super::note(&format!("what was found is not shown: {error}"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn of_study(answer: &Answer, folder: &Path) -> Result<Option<Picture>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut shown = None;
    for arm in &answer.arms {
        let Some((seed, found)) = first_found(arm, folder)? else { continue };
        let Some(config) = recipe_of(&run_folder(folder, &arm.arm, seed))?.transfer else { continue };
        // Rows stand below each other: all of them show the images of the first.
        if *shown.get_or_insert((config.data.clone(), config.size, seed))
            != (config.data.clone(), config.size, seed)
        {
            continue;
        }
        let set = config.open(seed)?;
        let scenes = (0..set.test.len().min(SHOWN)).map(|image| set.test.scene(image));
        let scenes: Vec<Scene> = scenes.collect::<Result<_>>()?;
        if rows.is_empty() {
            let group = |scene| of_truth(scene)[1..].iter().cloned().map(Into::into).collect();
            rows.push(Row { name: "what is there".into(), groups: scenes.iter().map(group).collect() });
        }
        let group = |(image, scene): (usize, &Scene)| [of_found(scene, image, &found)].map(Into::into).into();
        rows.push(Row { name: arm.title.clone(), groups: scenes.iter().enumerate().map(group).collect() });
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let heading =
        format!("Held-out images, and what the detector of each arm found with a score of {SURE} or more.");
    let title = "objects, and what was found of them".to_string();
    Ok(Some(Picture { title, png: contact_sheet(&[heading], &rows)? }))
}

/// What the detector of the first run of `arm` that has one found.
fn first_found(arm: &AnswerArm, folder: &Path) -> Result<Option<(u64, Vec<Detection>)>> {
    for run in &arm.runs {
        if let Some(found) = read_found(&run_folder(folder, &arm.arm, run.seed))? {
            return Ok(Some((run.seed, found)));
        }
    }
    Ok(None)
}
