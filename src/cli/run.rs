//! `sim run`: a study's arms × seeds, then the table of arms, the verdicts and the figures.

use super::answer;
use super::flags::{self, given, layer_flags, on_studies, option, place, request, run_flags, study_command};
use super::make::{Made, Way, Workshop, exit_code};
use super::output::Output;
use super::plan::{self, Plan};
use super::report::REPORT;
use super::settings::{check_threads, led, settings};
use super::until::{self, Rounds};
use crate::error::{Error, Result};
use crate::study::{Engine, Job, Request, Seeds, Study, Suite};
use clap::{ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};

/// In the place of a study: every one of them.
const ALL: &str = "all";

/// `sim run`, with one subcommand per study whose flags are the study's own.
pub fn command(studies: &[Study]) -> Command {
    let about = "Run a study: train its arms with several seeds and judge its claims";
    let flags = layer_flags().into_iter().chain(until::flags()).chain(run_flags());
    let only =
        option("only", "I", "Make one run, the one at this place of arms × seeds from 0 on; judge nothing")
            .value_parser(value_parser!(u64));
    let own = [only, super::ranks::flag()];
    let run = on_studies("run", about, studies.iter().map(study_command), flags.chain(own));
    with_suites(run)
}

/// A command on studies that takes several of them together too.
pub fn with_suites(command: Command) -> Command {
    command
        .subcommand(Command::new(ALL).about("Every study; a run that several of them need is made once"))
        .subcommands(Suite::ALL.map(|(_, name, about)| Command::new(name).about(about)))
}

/// The studies that `name` stands for, where it names several.
fn suite<'a>(name: &str, studies: &'a [Study]) -> Option<Vec<&'a Study>> {
    if name == ALL {
        return Some(studies.iter().collect());
    }
    let (suite, ..) = Suite::ALL.into_iter().find(|(_, known, _)| *known == name)?;
    Some(studies.iter().filter(|study| study.head.suite == suite).collect())
}

/// Runs `sim run` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(2) };
    let way = match matches.get_one::<u64>("only") {
        None => Way::Here,
        Some(_) if matches.get_flag("until-decided") => {
            let message = "--only: makes one run and judges nothing, --until-decided makes runs as verdicts ask for them";
            return Err(Error::Usage(message.into()));
        }
        Some(place) => Way::Only(usize::try_from(*place).unwrap_or(usize::MAX)),
    };
    led(matches, |engine| carry_out(engine, (name, matches), studies, output, &way))
}

/// Runs the study or suite `name` with `engine`, the `way` it is asked for, and answers where all
/// its runs have ended.
pub fn carry_out(
    engine: &Engine,
    (name, matches): (&str, &ArgMatches),
    studies: &[Study],
    output: &Output,
    way: &Way,
) -> Result<i32> {
    place(matches)?;
    let (most, out) = (until::most_seeds(matches)?, flags::out(matches));
    let (mut plans, mut jobs) = plans(name, matches, studies, &out)?;
    for (plan, most) in plans.iter().filter_map(|plan| Some((plan, most?))) {
        until::check(plan, most, matches)?;
    }
    if let Way::Only(place) = way {
        jobs = vec![the_only(jobs, *place)?];
    }
    let settings = settings(matches, jobs.len())?;
    check_threads(&settings)?;
    super::ranks::check(&jobs, settings.ranks.size())?;
    let quiet = matches.get_flag("quiet");
    if !quiet && matches!(way, Way::Here) {
        plan::announce(&plans, &jobs, most, &settings);
    }
    // Held until the answer is written.
    let _locks = plan::lock_to_start_over(&jobs, &settings)?;
    let mut workshop = Workshop::new(matches, output, way, engine);
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
    if !matches!(way, Way::Only(_)) {
        answer(&plans, &out, matches.get_flag("json"), output)?;
    }
    let expected = |job: &Job| {
        plans.iter().any(|plan| plan.study.name == job.study && plan.study.expects_divergence(&job.arm))
    };
    Ok(exit_code(&jobs, &ends, &expected))
}

/// The studies that `name` stands for, with their arms, and all their runs below `out`.
fn plans<'a>(
    name: &str,
    matches: &ArgMatches,
    studies: &'a [Study],
    out: &Path,
) -> Result<(Vec<Plan<'a>>, Vec<Job>)> {
    let one = studies.iter().find(|study| study.given == name);
    let chosen = match (one, suite(name, studies)) {
        (Some(study), _) => vec![study],
        (None, Some(several)) => several,
        (None, None) => vec![flags::study(name, studies, "run")?],
    };
    let seeds = matches.get_one::<Seeds>("seeds").copied();
    let (mut jobs, mut plans) = (Vec::new(), Vec::new());
    for study in chosen {
        let flags = if one.is_none() { Vec::new() } else { given(study, matches) };
        let request = Request { seeds, ..request(matches, flags) };
        plans.push(Plan::new(study, request, out, &mut jobs, &settings(matches, usize::MAX)?)?);
    }
    Ok((plans, jobs))
}

/// The one of `jobs` at `place`.
fn the_only(mut jobs: Vec<Job>, place: usize) -> Result<Job> {
    if place >= jobs.len() {
        let runs = super::count(jobs.len(), "run");
        return Err(Error::Usage(format!("--only {place}: there are {runs}, and the first is 0")));
    }
    Ok(jobs.swap_remove(place))
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
