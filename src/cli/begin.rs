//! The weights that runs begin with, compared with their recipes before the first of them is made,
//! and a table of what is taken.

use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::study::Job;
use crate::train::{Init, Preprocessing, Share};
use std::path::Path;

/// Names that are shown of what is left over.
const SHOWN: usize = 4;
/// Digits of a digest that tell files apart for a person.
const DIGITS: usize = 12;

/// Opens what each of `jobs` begins with, where it does not draw its weights, and gives what a
/// person should know of it, once for all jobs that take the same.
///
/// # Errors
/// As [`Init::open`].
pub fn tables(jobs: &[&Job]) -> Result<Vec<String>> {
    let mut seen: Vec<&Recipe> = Vec::new();
    let mut told: Vec<String> = Vec::new();
    for recipe in jobs.iter().map(|job| &job.recipe) {
        let same = |other: &&Recipe| {
            let heads = other.predictor == recipe.predictor
                && other.objective.prototypes == recipe.objective.prototypes;
            heads && other.encoder == recipe.encoder && other.augment == recipe.augment
        };
        if seen.iter().any(same) {
            continue;
        }
        seen.push(recipe);
        if let Some(init) = Init::open(recipe)? {
            check_place(jobs, &init)?;
            let text = text(&init, recipe);
            if !told.contains(&text) {
                told.push(text);
            }
        }
    }
    Ok(told)
}

/// Refuses to make a run in the folder that its weights, or those of another one, begin in:
/// starting over would remove them.
fn check_place(jobs: &[&Job], init: &Init) -> Result<()> {
    let place = |path: &Path| path.canonicalize().ok();
    let from = init.file.parent().and_then(place);
    match jobs.iter().find(|job| from.is_some() && place(&job.path) == from) {
        None => Ok(()),
        Some(job) => Err(Error::Usage(format!(
            "encoder.init: {} is the folder of a run that is to be made, whose weights would be gone; --out DIR makes it \
             elsewhere",
            job.path.display()
        ))),
    }
}

/// What is taken of `init`, what is not and why, and that its images were prepared differently.
fn text(init: &Init, recipe: &Recipe) -> String {
    let digest = init.sha256.get(..DIGITS).unwrap_or_default();
    let trained = init.epochs.map_or(String::new(), |epochs| format!(", trained for {epochs} epochs"));
    let mut lines = vec![format!("encoder.init: {} (sha256 {digest}…{trained})", init.file.display())];
    let width = init.shares.iter().map(|share| share.part.len()).max().unwrap_or(0);
    lines.extend(init.shares.iter().map(|Share { part, tensors, drawn_because }| {
        let (state, why) = match drawn_because {
            None => ("taken", super::count(*tensors, "tensor")),
            Some(why) => ("drawn", why.clone()),
        };
        format!("  {part:<width$}   {state}   {why}")
    }));
    if !init.left.is_empty() {
        let shown: Vec<&str> = init.left.iter().take(SHOWN).map(String::as_str).collect();
        let more = if init.left.len() > SHOWN { ", …" } else { "" };
        let tensors = super::count(init.left.len(), "tensor");
        lines.push(format!("  left in the file: {tensors} ({}{more})", shown.join(", ")));
    }
    let (theirs, source) = &init.preprocessing;
    let ours = Preprocessing::of(&recipe.augment);
    if (theirs.mean, theirs.std) != (ours.mean, ours.std) {
        let numbers = |values: [f32; 3]| values.map(|value| value.to_string()).join(",");
        lines.push(format!(
            "  its images were normalised by mean {}, std {} ({source}), and this recipe's are by {}, {}; --set \
             'augment.mean=[{}]' --set 'augment.std=[{}]' takes the file's",
            numbers(theirs.mean),
            numbers(theirs.std),
            numbers(ours.mean),
            numbers(ours.std),
            numbers(theirs.mean),
            numbers(theirs.std)
        ));
    }
    lines.join("\n")
}
