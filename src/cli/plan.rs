//! What a `sim run` is going to make: studies with their arms and runs, whether they fit, how long
//! they take.

use super::begin;
use super::hours;
use super::memory::{self, Available};
use super::precision;
use super::progress::Told;
use super::report::REPORT;
use crate::data::{DataConfig, Dataset};
use crate::device::Place;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::record::{Lock, check_recipe, make_folder, read_outcome, sweep};
use crate::study::{
    Arm, DEFAULT_SCALE, Engine, Job, Request, Results, Settings, Study, firsts, jobs, trained_scale,
};
use crate::train::{check_images, memory_bytes, seconds};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One study of the command.
pub struct Plan<'a> {
    /// The study.
    pub study: &'a Study,
    /// What the command's flags ask of it.
    pub request: Request,
    arms: Vec<Arm>,
    folder: PathBuf,
}

impl<'a> Plan<'a> {
    /// Resolves the study and adds its runs, below `out`, to `all`.
    pub fn new(
        study: &'a Study,
        mut request: Request,
        out: &Path,
        all: &mut Vec<Job>,
        settings: &Settings,
    ) -> Result<Plan<'a>> {
        request.scale = request.scale.map(|scale| trained_scale(&scale).to_string());
        check_folder(study)?;
        let folder = out.join(&study.name);
        let mut arms = study.resolve(&request)?;
        if let Some(arm) = arms.iter().find(|arm| arm.auto_precision) {
            request.precision = Some(precision::settled(&arm.recipe, &folder, settings)?);
            arms = study.resolve(&request)?;
        }
        let runs = arms.iter().map(|arm| arm.seeds.len()).sum();
        if let Some(arm) = arms.first() {
            let flags = "--seeds and the study's own flags ask for many runs";
            affordable(&arm.recipe, runs, flags, MOST_RUNS, settings)?;
        }
        make_folder(&folder)?;
        // What else was left unfinished is removed where the same file is written again.
        sweep(&out.join(REPORT));
        all.extend(jobs(&study.name, &arms, &folder));
        Ok(Plan { study, request, arms, folder })
    }

    /// The last seed of an arm that has `count` of them.
    pub fn last_seed(&self, count: usize) -> u64 {
        let first = self.arms.iter().find_map(|arm| arm.seeds.first()).copied().unwrap_or(0);
        first.saturating_add(count.saturating_sub(1) as u64)
    }

    /// How many seeds each arm has, by its name.
    pub fn seeds(&self) -> BTreeMap<String, usize> {
        self.arms.iter().map(|arm| (arm.name.clone(), arm.seeds.len())).collect()
    }

    /// The seeds that some of `arms` lack, up to the one at the place `to` of the list.
    pub fn seeds_between(&self, arms: &[String], to: usize) -> Vec<u64> {
        let read = || self.arms.iter().filter(|arm| arms.contains(&arm.name));
        let first = read().find_map(|arm| arm.seeds.first()).copied().unwrap_or(0);
        let shared = read().map(|arm| arm.seeds.len()).min().unwrap_or(0);
        (shared..to).map(|place| first + place as u64).collect()
    }

    /// Gives arms the seeds that follow theirs until they have as many as `counts` says; the runs
    /// that this adds.
    pub fn grow(&mut self, counts: &BTreeMap<String, usize>) -> Vec<Job> {
        let mut grown = Vec::new();
        for arm in &mut self.arms {
            let (Some(&count), Some(&first)) = (counts.get(&arm.name), arm.seeds.first()) else { continue };
            let new: Vec<u64> = (arm.seeds.len()..count).map(|place| first + place as u64).collect();
            arm.seeds.extend(&new);
            grown.push(Arm { seeds: new, ..arm.clone() });
        }
        jobs(&self.study.name, &grown, &self.folder)
    }

    /// Refuses a study whose runs may be more than `most` with so many `seeds` of each arm, which
    /// `flags` asked for.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn affordable(&self, seeds: usize, flags: &str, most: usize, settings: &Settings) -> Result<()> {
        let runs = self.arms.len().saturating_mul(seeds);
        self.arms.first().map_or(Ok(()), |arm| affordable(&arm.recipe, runs, flags, most, settings))
    }

    /// What the study's runs, made by `command`, left.
    pub fn results(&self, command: &str) -> Result<Results> {
        let scale = self.request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        Results::read(self.study, &self.arms, &self.folder, scale, command)
    }
}

/// Refuses a study file of one's own whose runs and answer would lie in the folder of a built-in
/// study.
///
/// # Errors
/// [`Error::Usage`] naming the file.
pub fn check_folder(study: &Study) -> Result<()> {
    let own = study.given != study.name;
    match own && Study::find(&study.name).is_ok() {
        false => Ok(()),
        true => Err(Error::Usage(format!(
            "{}: a study called `{}` is built in, and both would write into the same folder; give the file another name",
            study.given, study.name
        ))),
    }
}

/// Says what will be run, and where; an arm may come to have as many seeds as `most` says.
pub fn announce(plans: &[Plan], jobs: &[Job], most: Option<usize>, settings: &Settings) {
    let Some(first) = plans.first() else { return };
    let scale = first.request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
    let source = first.arms.first().map_or("", |arm| arm.recipe.data.source.as_str());
    let (what, runs) = match plans {
        [plan] => {
            let names: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
            let arms = super::count(plan.arms.len(), "arm");
            let seeds = super::count(plan.arms.first().map_or(0, |arm| arm.seeds.len()), "seed");
            let title = format!("{}: {}", plan.study.name, plan.study.head.question);
            (title, format!("{arms} ({}) × {seeds}", names.join(", ")))
        }
        plans => {
            let names: Vec<&str> = plans.iter().map(|plan| plan.study.name.as_str()).collect();
            let different = firsts(jobs).iter().enumerate().filter(|(index, first)| index == *first).count();
            let title = format!("{}: {}", super::count(plans.len(), "study"), names.join(", "));
            (title, format!("{}, {different} of them different", super::count(jobs.len(), "run")))
        }
    };
    let runs = match most {
        None => runs,
        Some(most) => format!("{runs} to begin with, at most {most} seeds of each arm"),
    };
    let folder = match plans {
        [plan] => &plan.folder,
        _ => first.folder.parent().unwrap_or(&first.folder),
    };
    super::note(&format!("{what}\n{runs}, {scale} scale, on {source}; {}", way(settings, folder)));
}

/// How runs are made below `folder`: the end of what is announced.
pub fn way(settings: &Settings, folder: &Path) -> String {
    let (jobs, threads) = (settings.jobs, super::count(settings.threads, "thread"));
    format!("{jobs} at a time with {threads} each\nrun directories: {}", folder.display())
}

/// Locks the folders of the studies of `jobs` where they are to start over: of two commands that
/// do, only one may remove what is there. Nothing is locked otherwise, since commands that go on
/// share their runs.
///
/// # Errors
/// [`Error::InUse`] naming the first folder that another such command holds.
pub fn lock_to_start_over(jobs: &[Job], settings: &Settings) -> Result<Vec<Lock>> {
    let studies = jobs.iter().filter(|_| settings.fresh).filter_map(|job| job.path.ancestors().nth(2));
    // All commands take them in the same order, so that one of them gets through.
    studies.collect::<BTreeSet<_>>().into_iter().map(Lock::take).collect()
}

/// Refuses, before anything is trained or written, folders that hold runs of other recipes: their
/// numbers would be mixed with those of this command.
///
/// # Errors
/// As [`check_recipe`].
pub fn check_recipes(jobs: &[Job]) -> Result<()> {
    jobs.iter().try_for_each(|job| check_recipe(&job.path, &job.config()?))
}

/// What is said of runs before they are made. That files could not be read is always told.
pub struct Say<'a> {
    /// Whether what was taken of the data is not told.
    pub quiet: bool,
    /// The words before how long all runs will take; none where nobody asks for the time.
    pub expected: Option<&'a str>,
    /// What was told before, which is not told again.
    pub told: &'a Told,
}

/// Opens the data of the runs to be made, those behind the first `ended`, before the first of them,
/// so that a mistake in it is told once; refuses runs that do not fit into memory. Says what there
/// is to `say`.
pub fn prepare(engine: &Engine, jobs: &[Job], ended: usize, settings: &Settings, say: &Say) -> Result<()> {
    let mut to_make: Vec<&Job> = Vec::new();
    for (index, first) in firsts(jobs).into_iter().enumerate().skip(ended) {
        let job = &jobs[index];
        let ended = !settings.fresh && read_outcome(&job.path)?.is_some();
        if job.recipe.closed_form.is_none() && index == first && !ended {
            to_make.push(job);
        }
    }
    let data = open_all(engine, &to_make, say)?;
    for (job, data) in to_make.iter().zip(&data) {
        check_images(&job.recipe, data)?;
        if let Some(config) = &job.recipe.transfer {
            engine.objects(config, job.seed)?;
        }
    }
    for table in begin::tables(&to_make)? {
        if !say.quiet && say.told.is_news(&table) {
            super::note(&table);
        }
    }
    // What the processor's memory and a few of its steps say, they say of the processor.
    if settings.place != Place::Cpu {
        return Ok(());
    }
    if let Some(job) = to_make.first().filter(|_| !say.quiet && say.told.is_news("precision")) {
        precision::warn_where_slower(&job.recipe, settings)?;
    }
    for (job, data) in to_make.iter().zip(&data) {
        fits(job, data.train.len(), settings.jobs)?;
    }
    if let Some(expected) = say.expected.filter(|_| !to_make.is_empty()) {
        let hours = hours::expected(engine, &to_make, &data, settings)?;
        super::note(&format!("{expected} about {}, judging by a few steps of each arm", spell(hours)));
    }
    Ok(())
}

/// The data set of each job; each one is opened once, and what was left out of it is told once.
fn open_all(engine: &Engine, jobs: &[&Job], say: &Say) -> Result<Vec<Arc<Dataset>>> {
    let open = |job: &&Job| {
        let config = &job.recipe.data;
        if !say.told.is_news(&format!("data {config:?}")) {
            return engine.dataset(config);
        }
        images_fit(config)?;
        let data = engine.dataset(config)?;
        super::data::report_left_out(&data.name, &data.notes, &data.skipped);
        if let Some(taken) = data.taken().filter(|_| !say.quiet) {
            super::note(&format!("{}: {taken}, at {} px", data.name, job.recipe.augment.size));
        }
        Ok(data)
    };
    jobs.iter().map(open).collect()
}

/// Hours as a person says them.
pub fn spell(hours: f64) -> String {
    match hours {
        ..1.0 => format!("{:.0} min", (hours * 60.0).max(1.0)),
        ..100.0 => format!("{hours:.1} h"),
        _ => format!("{hours:.0} h"),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Refuses procedural images that would not fit into memory, before they are rendered.
fn images_fit(config: &DataConfig) -> Result<()> {
    let (needed, available) = (config.rendered_bytes()?, memory::available());
    match available.filter(|available| needed > available.bytes) {
        None => Ok(()),
        Some(Available { bytes, by }) => Err(Error::Usage(format!(
            "data.train_images, data.test_images: procedural images of data.shapes_size={} take {:.1} GiB of memory and \
             {:.1} GiB are available{by}; fewer or smaller ones take less",
            config.shapes_size,
            gib(needed),
            gib(bytes)
        ))),
    }
}

/// Refuses a run that would be killed for its memory.
fn fits(job: &Job, images: usize, jobs: usize) -> Result<()> {
    let needed = memory_bytes(&job.recipe, images)?;
    let Some(Available { bytes: available, by }) = memory::available() else { return Ok(()) };
    if needed > available {
        return Err(Error::Usage(format!(
            "{} needs about {:.1} GiB of memory and {:.1} GiB are available{by}; a smaller schedule.batch, augment.size, \
             data.train_images or encoder needs less",
            job.arm,
            gib(needed),
            gib(available)
        )));
    }
    if needed.saturating_mul(jobs as u64) > available {
        return Err(Error::Usage(format!(
            "{} needs about {:.1} GiB of memory, and the {:.1} GiB available{by} are not enough for {jobs} such runs at a \
             time; pass --jobs {}",
            job.arm,
            gib(needed),
            gib(available),
            available / needed
        )));
    }
    Ok(())
}

/// Runs of one study at most: as many as a grid of 20 × 20.
pub const MOST_RUNS: usize = 400;
/// The batch with which the time of refused runs is estimated: a large one takes its time for a
/// step.
const TIMED_BATCH: usize = 16;

/// Refuses more `runs` of a study than `most`, which are more than anyone means, all like `recipe`,
/// saying what they would cost; `flags` asked for them.
///
/// # Errors
/// [`Error::Usage`].
pub fn affordable(recipe: &Recipe, runs: usize, flags: &str, most: usize, settings: &Settings) -> Result<()> {
    if runs <= most {
        return Ok(());
    }
    let Settings { jobs, threads, .. } = *settings;
    let (time, memory) = cost(recipe, threads).map_or((String::new(), String::new()), |(seconds, bytes)| {
        let hours = seconds * runs as f64 / jobs as f64 / 3600.0;
        let time = if hours.is_finite() { format!(", about {} here", spell(hours)) } else { String::new() };
        (time, format!(" and {} of memory for {jobs} at a time", spell_memory(bytes, jobs)))
    });
    Err(Error::Usage(format!("{flags}: {runs} runs{time}{memory}; at most {most} are made")))
}

/// The memory of `jobs` runs of `bytes` each as a person says it.
fn spell_memory(bytes: u64, jobs: usize) -> String {
    let all = bytes.saturating_mul(jobs as u64);
    let mib = all as f64 / f64::from(1 << 20);
    if mib < 1000.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", gib(all)) }
}

/// Seconds and bytes of one run; none where they cannot be told, as without its images, and in
/// closed form, which trains nothing.
pub fn cost(recipe: &Recipe, threads: usize) -> Option<(f64, u64)> {
    if recipe.closed_form.is_some() {
        return None;
    }
    let recipe = &recipe.with_seed(recipe.seed);
    let (train, test) = match (recipe.data.train_images, recipe.data.test_images) {
        (0, _) | (_, 0) => {
            images_fit(&recipe.data).ok()?;
            let data = Engine::default().dataset(&recipe.data).ok()?;
            (data.train.len(), data.test.len())
        }
        both => both,
    };
    let bytes = memory_bytes(recipe, train).ok()?;
    let mut timed = recipe.clone();
    timed.schedule.batch = timed.schedule.batch.min(TIMED_BATCH);
    let fits = memory::available()
        .is_none_or(|available| memory_bytes(&timed, train).is_ok_and(|bytes| bytes < available.bytes));
    let seconds = if fits { seconds(&timed, train, test, threads).ok()? } else { f64::NAN };
    Some((seconds, bytes))
}

#[cfg(test)]
mod tests {
    use super::spell_memory;

    #[test]
    fn memory_beyond_all_numbers_is_not_told_as_little() {
        assert_eq!(spell_memory(3 << 20, 2), "6 MiB");
        assert_eq!(spell_memory(3 << 30, 2), "6.0 GiB");
        assert_eq!(spell_memory(1 << 60, 1024), "17179869184.0 GiB");
    }
}
