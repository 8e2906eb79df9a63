//! What a `sim run` is going to make: studies with their arms and runs, whether they fit, how long they take.

use super::run::MOCK;
use crate::device::Place;
use crate::error::{Error, Result};
use crate::record::{check_recipe, read_outcome};
use crate::study::{Arm, DEFAULT_SCALE, Engine, Job, Request, Results, Settings, Study, firsts, jobs};
use crate::train::{memory_bytes, seconds};
use std::path::{Path, PathBuf};

/// One study of the command.
pub struct Plan<'a> {
    pub study: &'a Study,
    pub request: Request,
    arms: Vec<Arm>,
    seeds: Vec<u64>,
    folder: PathBuf,
}

impl<'a> Plan<'a> {
    /// Resolves the study and adds its runs, below `out`, to `all`.
    pub fn new(
        study: &'a Study,
        mut request: Request,
        seeds: Option<u64>,
        out: &Path,
        all: &mut Vec<Job>,
    ) -> Result<Plan<'a>> {
        if request.scale.as_deref() == Some(MOCK) {
            request.scale = Some("smoke".to_string());
        }
        let arms = study.resolve(&request)?;
        let seeds = study.seeds(&request, seeds)?;
        let folder = out.join(&study.name);
        std::fs::create_dir_all(&folder).map_err(Error::disk(&folder, "create the study's folder"))?;
        all.extend(jobs(&study.name, &arms, &seeds, &folder));
        Ok(Plan { study, request, arms, seeds, folder })
    }

    /// What its runs, made by `command`, left.
    pub fn results(&self, command: &str) -> Result<Results> {
        let scale = self.request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        Results::read(self.study, &self.arms, &self.seeds, &self.folder, scale, command)
    }
}

/// Says what will be run, and where.
pub fn announce(plans: &[Plan], jobs: &[Job], settings: &Settings) {
    let Some(first) = plans.first() else { return };
    let scale = first.request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
    let source = first.arms.first().map_or("", |arm| arm.recipe.data.source.as_str());
    let (what, runs) = match plans {
        [plan] => {
            let names: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
            let arms = super::count(plan.arms.len(), "arm");
            let seeds = super::count(plan.seeds.len(), "seed");
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
    super::note(&format!(
        "{what}\n{runs}, {scale} scale, on {source}; {} at a time with {} each\nrun directories: {}",
        settings.jobs,
        super::count(settings.threads, "thread"),
        match plans {
            [plan] => plan.folder.display(),
            _ => first.folder.parent().unwrap_or(&first.folder).display(),
        },
    ));
}

/// Refuses, before anything is trained or written, folders that hold runs of other recipes: their numbers
/// would be mixed with those of this command.
pub fn check_recipes(jobs: &[Job]) -> Result<()> {
    jobs.iter().try_for_each(|job| check_recipe(&job.path, &job.config()?))
}

/// Opens the data of the runs to be made before the first of them, so that a mistake in it is told once;
/// refuses runs that do not fit into memory; says, if asked to, how long all will take.
pub fn prepare(engine: &Engine, jobs: &[Job], settings: &Settings, tell: bool) -> Result<()> {
    let trained: Vec<&Job> = jobs.iter().filter(|job| job.recipe.closed_form.is_none()).collect();
    let same = trained.windows(2).all(|pair| pair[0].recipe.data == pair[1].recipe.data);
    let mut opened = false;
    let mut expected = 0.0;
    let mut measured: Vec<(&Job, f64)> = Vec::new();
    for (index, first) in firsts(jobs).into_iter().enumerate() {
        let job = &jobs[index];
        let closed_form = job.recipe.closed_form.is_some();
        if closed_form || index != first || (!settings.fresh && read_outcome(&job.path)?.is_some()) {
            continue;
        }
        let mut images = (0, 0);
        if same {
            let data = engine.dataset(&job.recipe.data)?;
            if !opened {
                super::data::report_left_out(&data);
                if let Some(taken) = data.taken() {
                    super::note(&format!("{}: {taken}, at {} px", data.name, job.recipe.augment.size));
                }
                opened = true;
            }
            images = (data.train.len(), data.test.len());
        }
        // What the processor's memory and a few of its steps say, they say of the processor.
        if settings.place != Place::Cpu {
            continue;
        }
        fits(job, images.0, settings.jobs)?;
        if tell && same {
            let known = measured.iter().find(|(other, _)| other.study == job.study && other.arm == job.arm);
            let time = match known {
                Some((_, time)) => *time,
                None => seconds(&job.recipe, images.0, images.1, settings.threads)?,
            };
            measured.push((job, time));
            expected += time;
        }
    }
    if tell && same && expected > 0.0 {
        let minutes = expected / settings.jobs as f64 / 60.0;
        super::note(&format!("expected to take about {minutes:.0} min, judging by a few steps of each arm"));
    }
    Ok(())
}

/// Refuses a run that would be killed for its memory.
fn fits(job: &Job, images: usize, jobs: usize) -> Result<()> {
    let needed = memory_bytes(&job.recipe, images)?;
    let Some(available) = available_memory() else { return Ok(()) };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    if needed > available {
        return Err(Error::Usage(format!(
            "{} needs about {:.1} GiB of memory and {:.1} GiB are available; a smaller schedule.batch, augment.size or encoder needs less",
            job.arm,
            gib(needed),
            gib(available)
        )));
    }
    if needed.saturating_mul(jobs as u64) > available {
        return Err(Error::Usage(format!(
            "{} needs about {:.1} GiB of memory, and {:.1} GiB are not enough for {jobs} such runs at a time; pass --jobs {}",
            job.arm,
            gib(needed),
            gib(available),
            available / needed
        )));
    }
    Ok(())
}

/// Bytes of memory that new programs may use, where the system tells.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
