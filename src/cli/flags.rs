//! Flags that several commands have.

use crate::data::sources;
use crate::device::Place;
use crate::error::{Error, Result};
use crate::study::{Flag, Request, Seeds, Settings, Study};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// A study as a subcommand, with the flags that its file declares.
pub fn study_command(study: &Study) -> Command {
    let heading = format!("{} ({})", study.head.title, study.name);
    let flag = |flag: &Flag| {
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
pub fn given(study: &Study, matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let values = |flag: &str| matches.get_many::<String>(flag).into_iter().flatten().cloned().collect();
    study.head.flag.iter().map(|flag| (flag.name.clone(), values(&flag.name))).collect()
}

/// Flags that change recipes.
pub fn layer_flags() -> Vec<Arg> {
    vec![
        Arg::new("scale")
            .long("scale")
            .value_name("SCALE")
            .help("smoke, laptop (default), cifar-small, cifar or imagenet"),
        Arg::new("data").long("data").value_name("DATA").help(sources()),
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
        json_flag().help("Print one JSON line per epoch and a final summary instead of the table"),
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

/// `--json`.
pub fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON lines instead of a table")
}
