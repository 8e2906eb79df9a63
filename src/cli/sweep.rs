//! `sim sweep`: a grid of runs over one or two keys of a recipe, and the closed form on the same
//! axes.

use super::flags::{self, option, switch};
use super::make::{Made, Way, Workshop, exit_code, is_mock};
use super::output::Output;
use super::settings::{check_threads, led, settings};
use super::sweep_answer;
use super::{plan, precision};
use crate::device::Place;
use crate::error::{Error, Result};
use crate::figures::{Sweep, values};
use crate::recipe::Recipe;
use crate::record::{make_folder, read_outcome};
use crate::study::{
    Arm, Axis, Cell, DEFAULT_SCALE, Engine, Job, Request, Seeds, Settings, Study, closed_form, jobs,
    trained_scale,
};
use crate::theory::ClosedForm;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::Path;

/// Cells of the closed form at most.
const MOST_CELLS: usize = 65_536;
/// Steps of the closed form at most, all cells together: minutes.
const MOST_STEPS: u64 = 500_000_000;
/// What asks for the runs of a sweep.
const FLAGS: &str = "--over, --seeds (--theory draws the closed form alone)";

/// `sim sweep`, with one subcommand per study.
pub fn command(studies: &[Study]) -> Command {
    let about = "Run a grid over one or two keys of a study's recipe and draw it as heat maps";
    let flags = grid_flags()
        .into_iter()
        .chain(flags::layer_flags())
        .chain(flags::run_flags())
        .chain([super::ranks::flag()]);
    flags::on_studies("sweep", about, studies.iter().map(study_command), flags).after_help(
        "STUDY may also be a file ending in .toml. Examples:\n  \
         sim sweep membank --over m=0..1:5 --over k=1,2,4,8,16\n  \
         sim sweep simsiam --over optim.predictor_rate=0.1..10:5:log --over optim.weight_decay=1e-5..1e-1:5:log\n  \
         sim sweep linear-em --over predictor-rate=0.1..10:16:log --over decay=1e-4..1:16:log",
    )
}

fn study_command(study: &Study) -> Command {
    let flags: Vec<String> =
        study.head.flag.iter().map(|flag| format!("{} ({})", flag.name, flag.sets)).collect();
    let arms: Vec<&str> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
    let short = if flags.is_empty() { "none".to_string() } else { flags.join(", ") };
    Command::new(study.given.clone())
        .about(study.head.question.clone())
        .after_help(format!("Short names of keys: {short}\nArms: {}", arms.join(", ")))
}

fn grid_flags() -> Vec<Arg> {
    vec![
        option(
            "over",
            "KEY=VALUES",
            "An axis, once or twice: a key of the recipe, such as optim.weight_decay, or a flag of the study, such as m; VALUES is v1,v2,… or from..to:count, with :log behind it for equal ratios",
        )
        .action(ArgAction::Append),
        option(
            "arm",
            "ARM",
            "The arm whose other keys all runs have [default: the one that a study's flag is like, or the first]",
        ),
        switch("theory", "Train nothing: the prediction of the closed form alone"),
    ]
}

/// Runs `sim sweep` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(2) };
    led(matches, |engine| sweep(engine, (name, matches), studies, output))
}

fn sweep(
    engine: &Engine,
    (name, matches): (&str, &ArgMatches),
    studies: &[Study],
    output: &Output,
) -> Result<i32> {
    let study = flags::study(name, studies, "sweep")?;
    flags::place(matches)?;
    plan::check_folder(study)?;
    let overs: Vec<String> = matches.get_many::<String>("over").into_iter().flatten().cloned().collect();
    let axes = study.axes(&overs)?;
    let asked = matches.get_one::<String>("arm").map(String::as_str);
    let like = study.varied(asked, &axes)?;
    let mut request = request(study, matches);
    let count = axes.iter().map(|axis| axis.values.len()).fold(1, usize::saturating_mul);
    let Arm { recipe: first, seeds, auto_precision, .. } =
        study.cell(like, &axes, vec![0; axes.len()], &request)?.arm;
    let theory = matches.get_flag("theory");
    let folder = flags::out(matches).join(folder_name(study, &axes, asked, theory));
    let trains = !theory && first.closed_form.is_none();
    let settings = settings(matches, count.saturating_mul(seeds.len()))?;
    check_threads(&settings)?;
    let runs = count.saturating_mul(seeds.len());
    match trains {
        true => plan::affordable(&first, runs, FLAGS, plan::MOST_RUNS, &settings)?,
        false => countable(&first, count, seeds.len())?,
    }
    if auto_precision && trains {
        request.precision = Some(precision::settled(&first, &folder, &settings)?);
    }
    let cells = study.grid(like, &axes, &request)?;
    make_folder(&folder)?;

    let mut code = 0;
    let jobs = if trains { jobs_of(&cells, &folder) } else { Vec::new() };
    // Held until the answer is written.
    let _locks = plan::lock_to_start_over(&jobs, &settings)?;
    super::ranks::check(&jobs, settings.ranks.size())?;
    if trains {
        if !matches.get_flag("quiet") {
            let grid = format!("{} of the arm {}", extent(&axes), like.name);
            announce(study, &grid, &jobs, request.scale.as_deref(), &settings, &folder);
            if !is_mock(matches) {
                expect(&first, &jobs, &settings)?;
            }
        }
        let mut workshop = Workshop::new(matches, output, &Way::Here, engine);
        match workshop.make(&jobs, 0, &settings, None)? {
            Made::Ended(ends) => code = exit_code(&jobs, &ends, &|_| false),
            Made::Left(code) => return Ok(code),
        }
        workshop.tell_skipped(jobs.len());
    }
    let values =
        values(&cells, &seeds, trains.then_some(folder.as_path()), settings.jobs * settings.threads)?;
    let sweep =
        Sweep { study, arm: &like.name, axes: &axes, cells: &cells, values, seeds: &seeds, folder, request };
    sweep_answer::answer(&sweep, &super::as_given::as_given(), matches.get_flag("json"), output)?;
    Ok(code)
}

/// What the flags ask of every cell.
fn request(study: &Study, matches: &ArgMatches) -> Request {
    let mut request = flags::request(matches, Vec::new());
    request.scale = request.scale.map(|scale| trained_scale(&scale).to_string());
    // A picture of a plane is made of many runs, one of each; verdicts are what studies are for. A
    // sweep is where recipes are tuned, which the seeds that judge must not see.
    let own = if study.head.base.is_some() { Seeds::only(0) } else { Seeds::ONE };
    request.seeds = Some(matches.get_one::<Seeds>("seeds").copied().unwrap_or(own));
    request
}

/// A stable name: the same study over the same keys goes on where it was.
fn folder_name(study: &Study, axes: &[Axis], arm: Option<&str>, theory: bool) -> String {
    let keys: Vec<&str> = axes.iter().map(|axis| axis.key.as_str()).collect();
    let arm = arm.map_or_else(String::new, |arm| format!("-of-{arm}"));
    let theory = if theory { "-theory" } else { "" };
    format!("{}-sweep-{}{arm}{theory}", study.name, keys.join("-"))
}

fn jobs_of(cells: &[Cell], folder: &Path) -> Vec<Job> {
    let arms: Vec<_> = cells.iter().map(|cell| cell.arm.clone()).collect();
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    jobs(&name, &arms, folder)
}

/// How many values of what.
fn extent(axes: &[Axis]) -> String {
    let axis = |axis: &Axis| format!("{} of {}", super::count(axis.values.len(), "value"), axis.key);
    axes.iter().map(axis).collect::<Vec<_>>().join(" × ")
}

fn announce(
    study: &Study,
    grid: &str,
    jobs: &[Job],
    scale: Option<&str>,
    settings: &Settings,
    folder: &Path,
) {
    super::note(&format!(
        "{}: {}\n{grid}, {}, {} scale; {}",
        study.name,
        study.head.question,
        super::count(jobs.len(), "run"),
        scale.unwrap_or(DEFAULT_SCALE),
        plan::way(settings, folder),
    ));
}

/// Says how long the runs that are missing will take, if all are like the first.
fn expect(first: &Recipe, jobs: &[Job], settings: &Settings) -> Result<()> {
    let mut missing = 0;
    for job in jobs {
        missing += usize::from(settings.fresh || read_outcome(&job.path)?.is_none());
    }
    if missing > 0
        && settings.place == Place::Cpu
        && let Some((seconds, _)) =
            plan::cost(first, settings.threads).filter(|(seconds, _)| seconds.is_finite())
    {
        let hours = seconds * missing as f64 / settings.jobs as f64 / 3600.0;
        let runs = super::count(missing, "run");
        super::note(&format!(
            "{runs} to make, about {}, judging by a few steps of the first",
            plan::spell(hours)
        ));
    }
    Ok(())
}

/// Refuses a grid of the closed form that would take minutes, or that it does not model.
fn countable(recipe: &Recipe, cells: usize, seeds: usize) -> Result<()> {
    if recipe.closed_form.is_none() {
        closed_form::course(recipe, &ClosedForm::beside_runs(1, false))?;
    }
    let per_epoch = recipe
        .closed_form
        .as_ref()
        .map_or_else(|| closed_form::steps_per_epoch(recipe), |world| world.steps_per_epoch);
    let steps = (cells as u64)
        .saturating_mul(seeds as u64)
        .saturating_mul(recipe.schedule.epochs)
        .saturating_mul(per_epoch);
    if cells > MOST_CELLS || steps > MOST_STEPS {
        return Err(Error::Usage(format!(
            "--over: {cells} cells of the closed form, {steps} steps in all; at most {MOST_CELLS} and {MOST_STEPS}: fewer values, --seeds or schedule.epochs"
        )));
    }
    Ok(())
}
