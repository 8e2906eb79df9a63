//! Which runs are the same run: made from the same recipe and the same images.

use super::job::Job;
use super::resolve::Arm;
use super::trainer::Trainer;
use crate::data::DataConfig;
use crate::error::{Error, Result};
use crate::record::{
    INIT, UNKNOWN_IMAGES, has_begun, images_of, is_whole, read_env, read_outcome, run_folder, some,
};
use std::path::{Path, PathBuf};

/// Refuses, before anything is trained or averaged, runs of `jobs` that were made from other images
/// than `trainer` has now.
///
/// Gives a note where all runs have ended and the images cannot be opened any more, so that nothing
/// can be compared.
///
/// # Errors
/// [`Error::Data`] naming the runs and both ways out.
pub fn check_images(jobs: &[Job], trainer: &dyn Trainer) -> Result<Option<String>> {
    let (mut others, mut gone) = (Vec::new(), None);
    for job in jobs.iter().filter(|job| has_begun(&job.path)) {
        match sees_others(job, trainer)? {
            Some(true) => others.push(job),
            Some(false) => {}
            None => gone = Some(job),
        }
    }
    refuse(&others)?;
    Ok(gone.map(|job| {
        let source = &job.recipe.data.source;
        format!("the images of {source} cannot be opened, so that they cannot be compared with those of the finished runs")
    }))
}

/// Refuses a run that was made from other images.
///
/// # Errors
/// As [`check_images`].
pub fn check_run(job: &Job, trainer: &dyn Trainer) -> Result<()> {
    match sees_others(job, trainer)? {
        Some(true) => refuse(&[job]),
        // Images that cannot be opened are told of beforehand, and refused by whoever needs them.
        Some(false) | None => Ok(()),
    }
}

/// Which images a run asks for: its own and, of a detector, those with objects, their size and
/// seed.
type Asked = (DataConfig, Option<(String, usize, u64)>);

/// Refuses to read runs side by side that were made from different images where their recipes ask
/// for the same.
///
/// # Errors
/// [`Error::Data`] naming two such runs and both ways out.
pub fn check_alike(arms: &[Arm], folder: &Path) -> Result<()> {
    let mut seen: Vec<(Asked, String, PathBuf)> = Vec::new();
    for arm in arms {
        for seed in &arm.seeds {
            let recipe = arm.recipe.with_seed(*seed);
            let data = (recipe.data, recipe.transfer.map(|config| (config.data, config.size, *seed)));
            let path = run_folder(folder, &arm.name, *seed);
            let Some(images) = images_of(&path)? else { continue };
            match seen.iter().find(|(other, ..)| *other == data) {
                Some((_, other, first)) if *other != images => {
                    let what = format!(
                        "was made from other images of {} than {}; --fresh makes all runs again, --out DIR keeps both",
                        data.1.as_ref().map_or(&data.0.source, |(objects, ..)| objects),
                        first.display()
                    );
                    return Err(Error::data(path, what));
                }
                Some(_) => {}
                None => seen.push((data, images, path)),
            }
        }
    }
    Ok(())
}

/// Whether the finished run in the folder `run` can stand for `job`, whose recipe it has.
pub fn is_twin(run: &Path, job: &Job, trainer: &dyn Trainer) -> bool {
    let same = || Ok::<_, Error>(is_whole(run)? && images_of(run)? == trainer.images(job)?);
    same().unwrap_or(false)
}

/// Whether the run of `job` was made from other images than there are now; none where those cannot
/// be opened.
///
/// # Errors
/// [`Error::Data`] where the run has ended and nobody knows its images.
fn sees_others(job: &Job, trainer: &dyn Trainer) -> Result<Option<bool>> {
    let seen = images_of(&job.path)?;
    let now = match trainer.images(job) {
        Ok(now) => now,
        Err(Error::Data { .. } | Error::Usage(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(first) = of_first(job, trainer)? {
        return Ok(Some(first || seen != now));
    }
    match (seen, now) {
        (Some(seen), Some(now)) => Ok(Some(seen != now)),
        // Of a run that has not ended its checkpoint knows them too.
        (None, Some(_)) if read_outcome(&job.path)?.is_some() => Err(Error::data(&job.path, UNKNOWN_IMAGES)),
        _ => Ok(Some(false)),
    }
}

/// Whether the run whose weights that of `job` began with saw other images than there are now; none
/// where there is no such run, or it has gone.
fn of_first(job: &Job, trainer: &dyn Trainer) -> Result<Option<bool>> {
    let Some(recipe) = job.recipe.first().filter(|_| job.recipe.transfer.is_some()) else { return Ok(None) };
    let env = read_env(&job.path)?;
    let weights = env.as_ref().and_then(|env| env.get(INIT)?.get("weights")?.as_str());
    let Some(folder) = weights.and_then(|weights| Path::new(weights).parent()) else { return Ok(None) };
    let Some(seen) = images_of(folder)? else { return Ok(None) };
    let now = match trainer.images(&Job { recipe, ..job.clone() }) {
        Err(Error::Data { .. } | Error::Usage(_)) => None,
        now => now?,
    };
    Ok(now.map(|now| now != seen))
}

fn refuse(others: &[&Job]) -> Result<()> {
    let Some(first) = others.first() else { return Ok(()) };
    let rest: Vec<String> =
        others[1..].iter().map(|job| format!("{}/{} seed {}", job.study, job.arm, job.seed)).collect();
    let (which, were) = match rest.is_empty() {
        true => ("this run".to_string(), "was"),
        false => (format!("this run and {} more ({})", rest.len(), some(&rest)), "were"),
    };
    Err(Error::data(
        &first.path,
        format!(
            "{which} {were} made from other images than {} holds now; --fresh makes all of them again from these \
             images, --out DIR keeps both",
            first.recipe.data.source
        ),
    ))
}
