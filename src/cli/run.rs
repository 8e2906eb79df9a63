//! `sim run`: a study's arms × seeds, then the table of arms, the verdicts and the figures.

use super::answer;
use super::make::{Made, Workshop, exit_code};
use super::output::Output;
use super::plan::{self, Plan};
use super::report::REPORT;
use super::until::{self, Rounds};
use crate::device::Place;
use crate::error::{Error, Result};
use crate::study::{Job, Request, Seeds, Settings, Study, Suite};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};

/// In the place of a study: every one of them.
const ALL: &str = "all";
/// The scale that replaces training by a formula; not in the lists, for tests.
pub(super) const MOCK: &str = "mock";

/// A study as a subcommand, with the flags that its file declares.
pub fn study_command(study: &Study) -> Command {
    let heading = format!("{} ({})", study.head.title, study.name);
    let flag = |flag: &crate::study::Flag| {
        Arg::new(flag.name.clone())
            .long(flag.name.clone())
            .value_name(flag.values.clone())
            .value_delimiter(',')
            .action(ArgAction::Append)
            .allow_negative_numbers(true)
            .help(flag.help.clone())
            .help_heading(heading.clone())
    };
    Command::new(study.given.clone())
        .about(study.head.question.clone())
        .args(study.head.flag.iter().map(flag))
}

/// The values given to the study's own flags.
pub fn flags(study: &Study, matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let values = |flag: &str| matches.get_many::<String>(flag).into_iter().flatten().cloned().collect();
    study.head.flag.iter().map(|flag| (flag.name.clone(), values(&flag.name))).collect()
}

/// The command, with one subcommand per study whose flags are the study's own.
pub fn command(studies: &[Study]) -> Command {
    let global = |arg: Arg| arg.global(true);
    Command::new("run")
        .about("Run a study: train its arms with several seeds and judge its claims")
        .subcommand_value_name("STUDY")
        .subcommand_help_heading("Studies")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .subcommands(studies.iter().map(study_command))
        .subcommand(Command::new(ALL).about("Every study; a run that several of them need is made once"))
        .subcommands(Suite::ALL.map(|(_, name, about)| Command::new(name).about(about)))
        .args(layer_flags().into_iter().map(global))
        .args(until::flags().into_iter().chain(run_flags()).map(global))
        .after_help("STUDY may also be a file ending in .toml.")
}

/// Flags that change recipes.
pub fn layer_flags() -> Vec<Arg> {
    vec![
        Arg::new("scale")
            .long("scale")
            .value_name("SCALE")
            .help("smoke, laptop (default), cifar-small, cifar or imagenet"),
        Arg::new("data")
            .long("data")
            .value_name("DATA")
            .help("shapes, folder:DIR, cifar10:PATH or cifar100:PATH"),
        Arg::new("skip-bad")
            .long("skip-bad")
            .action(ArgAction::SetTrue)
            .help("Count undecodable images and go on, instead of stopping at the first"),
        Arg::new("set")
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Set a key of every arm's recipe, such as optim.base_lr=0.1 (sim show lists the keys)"),
    ]
}

/// Flags that say how runs are made.
pub fn run_flags() -> Vec<Arg> {
    vec![
        Arg::new("seeds")
            .long("seeds")
            .value_name("SEEDS")
            .value_parser(value_parser!(Seeds))
            .help("Seeds of every arm: 8, so many from the scale's first; or 10..18, the seeds 10 to 17"),
        Arg::new("jobs")
            .long("jobs")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..=1024))
            .help("Runs at the same time [default: as many as the machine has cores]"),
        Arg::new("threads")
            .long("threads")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..=1024))
            .help("Threads of each run [default: cores / jobs]; results do not depend on it"),
        Arg::new("out")
            .long("out")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .default_value("runs")
            .help("Where run directories go"),
        device_flag(),
        Arg::new("fresh")
            .long("fresh")
            .action(ArgAction::SetTrue)
            .help("Start over instead of finishing what is missing"),
        Arg::new("quiet").long("quiet").short('q').action(ArgAction::SetTrue).help("No progress on stderr"),
        super::json_flag().help("Print one JSON line per epoch and a final summary instead of the table"),
    ]
}

/// What the layer flags of `matches` ask for.
pub fn request(matches: &ArgMatches, flags: Vec<(String, Vec<String>)>) -> Request {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    Request {
        scale: text("scale"),
        data: text("data"),
        skip_bad: matches.get_flag("skip-bad"),
        seeds: None,
        flags,
        set: matches.get_many::<String>("set").into_iter().flatten().cloned().collect(),
    }
}

/// The studies that `name` stands for, where it names several.
fn suite<'a>(name: &str, studies: &'a [Study]) -> Option<Vec<&'a Study>> {
    if name == ALL {
        return Some(studies.iter().collect());
    }
    let (suite, ..) = Suite::ALL.into_iter().find(|(_, known, _)| *known == name)?;
    Some(studies.iter().filter(|study| study.head.suite == suite).collect())
}

/// Runs it.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(2) };
    let one = studies.iter().find(|study| study.given == name);
    let chosen = match (one, suite(name, studies)) {
        (Some(study), _) => vec![study],
        (None, Some(several)) => several,
        (None, None) => {
            Study::find(name)?;
            return Err(Error::Usage(format!("put {name} directly after `run`")));
        }
    };
    place(matches)?;
    let most = until::most_seeds(matches)?;
    let out = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| PathBuf::from("runs"));
    let seeds = matches.get_one::<Seeds>("seeds").copied();
    let mut jobs = Vec::new();
    let mut plans = Vec::new();
    for study in chosen {
        let flags = if one.is_none() { Vec::new() } else { flags(study, matches) };
        let request = Request { seeds, ..request(matches, flags) };
        plans.push(Plan::new(study, request, &out, &mut jobs, &settings(matches, usize::MAX)?)?);
    }
    for (plan, most) in plans.iter().filter_map(|plan| Some((plan, most?))) {
        until::check(plan, most, matches)?;
    }
    let settings = settings(matches, jobs.len())?;
    check_threads(&settings)?;
    let quiet = matches.get_flag("quiet");
    if !quiet {
        plan::announce(&plans, &jobs, most, &settings);
    }
    // Held until the answer is written.
    let _locks = plan::lock_to_start_over(&jobs, &settings)?;
    let mut workshop = Workshop::new(matches, output);
    let (jobs, ends) = match most {
        None => {
            let expected = (plans.len() > 1 && !quiet).then_some("expected to take");
            match workshop.make(&jobs, 0, &settings, expected)? {
                Made::Ended(ends) => (jobs, ends),
                Made::Left(code) => return Ok(code),
            }
        }
        Some(most) => {
            let mut rounds = Rounds::new(jobs, most, matches, output);
            if let Some(code) = rounds.make(&mut plans, &mut workshop)? {
                return Ok(code);
            }
            (rounds.jobs, rounds.ends)
        }
    };
    workshop.tell_skipped(jobs.len());
    answer(&plans, &out, matches.get_flag("json"), output)?;
    let expected = |job: &Job| {
        plans.iter().any(|plan| plan.study.name == job.study && plan.study.expects_divergence(&job.arm))
    };
    Ok(exit_code(&jobs, &ends, &expected))
}

/// Tables, verdicts, figures and reports of the studies, from what their runs left.
fn answer(plans: &[Plan], out: &Path, json: bool, output: &Output) -> Result<()> {
    let command = super::as_given::as_given();
    let (mut answers, mut folders) = (Vec::new(), Vec::new());
    for plan in plans {
        let results = plan.results(&command)?;
        // The table comes first: a full disk must not take the answer along.
        let mut paths = Vec::new();
        let written = results.write().and_then(|tables| {
            paths.extend(tables);
            paths.extend(crate::figures::draw(plan.study, &results)?);
            paths.push(super::report::write(&[&results.folder], &results.folder.join(REPORT))?);
            Ok(())
        });
        if json {
            output.line(&answer::summary_line(&results.answer, &paths)?)?;
        } else {
            answer::print(&results.answer, &paths, output)?;
        }
        written?;
        answers.push(results.answer);
        folders.push(results.folder);
    }
    if plans.len() > 1 {
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let path = super::report::write(&folders, &out.join(REPORT))?;
        if !json {
            output.line(&format!("\n{}\n{}", path.display(), crate::report::tally(&answers)))?;
        }
    }
    Ok(())
}

/// Threads of all runs together at most, on a machine of few cores.
const MOST_THREADS: usize = 256;

/// Where `--device` puts the networks.
pub fn place(matches: &ArgMatches) -> Result<Place> {
    Place::find(matches.get_one::<String>("device").map_or("cpu", String::as_str))
}

/// `--device`.
pub fn device_flag() -> Arg {
    Arg::new("device").long("device").value_name("DEVICE").default_value("cpu").help("cpu or cuda:N")
}

/// Refuses more threads than help anywhere.
///
/// # Errors
/// [`Error::Usage`] naming the flags.
pub fn check_threads(settings: &Settings) -> Result<()> {
    let Settings { jobs, threads, .. } = settings;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (all, most) = (jobs * threads, MOST_THREADS.max(4 * cores));
    if all <= most {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--jobs, --threads: {jobs} at a time with {threads} each are {all} threads, and this machine has {cores} cores; at \
         most {most} are started"
    )))
}

/// Runs at the same time and threads of each.
pub fn settings(matches: &ArgMatches, runs: usize) -> Result<Settings> {
    let place = place(matches)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = |name: &str| matches.get_one::<u64>(name).map(|n| *n as usize);
    // Runs that share a GPU only wait for each other.
    let most = if place == Place::Cpu { cores } else { 1 };
    let jobs = count("jobs").unwrap_or(most).min(runs.max(1));
    let threads = count("threads").unwrap_or((cores / jobs).max(1));
    Ok(Settings { jobs, threads, fresh: matches.get_flag("fresh"), place })
}
