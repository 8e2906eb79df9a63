//! `sim submit`: the runs of a study as jobs of a cluster, each made by one task, and a last job
//! that judges them.
//!
//! The command does what `sim run` does, but for the runs that have not ended: these it hands over.
//! So it can be repeated: the gathering job repeats it, judges, and hands over the next round of
//! `--until-decided`.

use super::flags::{self, layer_flags, on_studies, option, run_flags, study_command, switch};
use super::make::{HandOver, Way};
use super::output::Output;
use super::run;
use super::slurm::{Array, Options, queued, quoted};
use super::until;
use crate::error::{Error, Result};
use crate::record::{make_folder, read_outcome, write_durable};
use crate::study::{Engine, Job, Study, firsts};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Below the folder of runs: scripts, lists and logs.
const FOLDER: &str = "slurm";
/// In the folder of a submission.
const RUNS: &str = "runs.txt";
const NUMBERS: &str = "jobs.txt";

/// The command, with the subcommands and flags of `sim run`.
pub fn command(studies: &[Study]) -> Command {
    let about = "Hand the runs of a study to a Slurm cluster, and judge them there";
    let count = |name, default: &'static str, help| {
        option(name, "N", help).value_parser(value_parser!(u64)).default_value(default)
    };
    let own = [
        option("slurm", "OPTIONS", "Options of sbatch, such as partition=gpu,time=4:00:00,gres=gpu:1")
            .action(ArgAction::Append),
        count("max-parallel", "32", "Runs at the same time at most"),
        count("ranks", "1", "Processes that share each run, started by srun; they divide schedule.shards"),
        count("max-restarts", "20", "How often a run that ran out of time is queued again at most"),
        switch("dry-run", "Write the scripts and the list of runs, and submit nothing"),
        switch("gather", "As the last job does: judge, and submit the next round, but no run a second time"),
    ];
    // Where runs are made on other machines these have another meaning, or none.
    let ours = |flag: Arg| match flag.get_id().as_str() {
        "jobs" | "fresh" => flag.hide(true),
        "threads" => flag.help("Threads of each run [default: 1]; results do not depend on it"),
        _ => flag,
    };
    let flags =
        layer_flags().into_iter().chain(until::flags()).chain(run_flags().into_iter().map(ours)).chain(own);
    run::with_suites(on_studies("submit", about, studies.iter().map(study_command), flags))
}

/// Runs it.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let Some((name, below)) = matches.subcommand() else { return Ok(2) };
    if below.contains_id("jobs") {
        return Err(Error::Usage(
            "--jobs: --max-parallel says how many runs a cluster makes at the same time".into(),
        ));
    }
    if below.get_flag("fresh") {
        return Err(Error::Usage(
            "--fresh: runs on a cluster are finished, not started over; choose another --out".into(),
        ));
    }
    let mut set = below.get_many::<String>("set").into_iter().flatten();
    if set.any(|set| set.replace([' ', '"'], "") == "encoder.precision=auto") {
        let message =
            "encoder.precision=auto is measured on this machine; say f32 or bf16 for those of a cluster";
        return Err(Error::Usage(message.into()));
    }
    let cluster = Cluster::new(name, below, studies)?;
    run::carry_out(&Engine::default(), (name, below), studies, output, &Way::Elsewhere(&cluster))
}

/// Where runs go that have not ended.
pub struct Cluster<'a> {
    /// The study or suite.
    name: &'a str,
    matches: &'a ArgMatches,
    /// Study → how it is given on a command line, and its own flags.
    studies: BTreeMap<&'a str, (&'a str, Vec<String>)>,
    options: Options,
    /// The program and the folder of the command.
    program: String,
    from: String,
}

impl<'a> Cluster<'a> {
    fn new(name: &'a str, matches: &'a ArgMatches, studies: &'a [Study]) -> Result<Cluster<'a>> {
        let text = |path: std::io::Result<PathBuf>, what: &str| {
            let path = path.map_err(|error| Error::Failure(format!("{what} is not known: {error}")))?;
            path.into_os_string().into_string().map_err(|path| {
                Error::Usage(format!("{}: scripts hold only paths that are text", path.display()))
            })
        };
        let own = |study: &'a Study| {
            let is_it = study.given == name;
            let given = if is_it { flags::given(study, matches) } else { Vec::new() };
            let given = given.into_iter().filter(|(_, values)| !values.is_empty());
            let words = given.map(|(flag, values)| format!("--{flag}={}", values.join(","))).collect();
            (study.name.as_str(), (study.given.as_str(), words))
        };
        Ok(Cluster {
            name,
            matches,
            studies: studies.iter().map(own).collect(),
            options: Options::read(matches.get_many::<String>("slurm").into_iter().flatten())?,
            program: text(std::env::current_exe(), "the program's path")?,
            from: text(std::env::current_dir(), "the folder of the command")?,
        })
    }

    fn submit(&self, folder: &Path, lines: &[String], output: &Output) -> Result<i32> {
        make_folder(folder)?;
        let shown = folder.display();
        let absolute = std::path::absolute(folder).map_err(Error::disk(folder, "find the folder"))?;
        let absolute = absolute.to_str().filter(|path| !path.contains(['%', '"', '\\', '\n']));
        let absolute = absolute.ok_or_else(|| {
            Error::Usage(format!("{shown}: sbatch takes no such path of a log; choose another --out"))
        })?;
        let number = |name: &str| self.matches.get_one::<u64>(name).copied().unwrap_or(1);
        let parallel = usize::try_from(number("max-parallel")).unwrap_or(usize::MAX).max(1);
        let name = format!("sim-{}", self.plain_name());
        let array = Array {
            name: &name,
            folder: absolute,
            from: &self.from,
            threads: self.threads(),
            ranks: self.ranks(),
            parallel,
            restarts: number("max-restarts"),
            options: &self.options,
        };
        let list: String = lines.iter().map(|line| format!("{line}\n")).collect();
        write_durable(&folder.join(RUNS), list.as_bytes())?;
        write_durable(&folder.join("array.sh"), array.script(lines.len()).as_bytes())?;
        write_durable(&folder.join("gather.sh"), array.gathering(&self.gathering()?).as_bytes())?;
        let runs = super::count(lines.len(), "run");
        if self.matches.get_flag("dry-run") {
            output.line(&format!(
                "{runs} in {shown}/{RUNS}, one command a line; nothing was submitted\n\
                 Slurm takes {shown}/array.sh, and after it {shown}/gather.sh\n\
                 without Slurm, in this folder: parallel --jobs 2 --joblog {shown}/joblog --resume-failed < {shown}/{RUNS}"
            ))?;
            return Ok(0);
        }
        let mut numbers = array.submit(lines.len())?;
        let note_down = |numbers: &[String]| {
            write_durable(&folder.join(NUMBERS), format!("{}\n", numbers.join("\n")).as_bytes())
        };
        // Before the gathering job, which may begin at once, and reads it.
        note_down(&numbers)?;
        let arrays = numbers.join(", ");
        let gather = array.submit_gathering(&numbers)?;
        numbers.push(gather.clone());
        note_down(&numbers)?;
        output.line(&format!(
            "{runs} submitted as Slurm's job {arrays}, at most {parallel} at a time; job {gather} judges them\n\
             logs: {shown}/run-*.log; the answer: {shown}/gather.log and {}\n\
             squeue --jobs={} shows them, scancel {} ends them; the same command submits what is missing then",
            self.out().display(),
            numbers.join(","),
            numbers.join(" "),
        ))?;
        Ok(0)
    }

    /// The command that makes one run: its study's arms with its seed alone, of which it is the one
    /// at its arm's place.
    fn line(&self, jobs: &[Job], index: usize) -> Result<String> {
        let job = &jobs[index];
        let mut arms: Vec<&str> = Vec::new();
        for other in jobs.iter().filter(|other| other.study == job.study) {
            if !arms.contains(&other.arm.as_str()) {
                arms.push(&other.arm);
            }
        }
        let place = arms.iter().position(|arm| *arm == job.arm).unwrap_or_default();
        let unknown = || Error::Failure(format!("{}: the study is not known", job.study));
        let (given, own) = self.studies.get(job.study.as_str()).ok_or_else(unknown)?;
        let mut words = vec![self.program.clone(), "run".into(), given.to_string()];
        words.extend(own.iter().cloned());
        words.extend(self.flags()?);
        words.extend([
            format!("--seeds={}..{}", job.seed, job.seed + 1),
            format!("--only={place}"),
            "--jobs=1".into(),
            format!("--threads={}", self.threads()),
            "--quiet".into(),
        ]);
        shell_line(&words)
    }

    /// This command as the last job gives it.
    fn gathering(&self) -> Result<String> {
        let mut words = vec![self.program.clone(), "submit".into(), self.name.to_string()];
        let own = self.studies.values().find(|(given, _)| *given == self.name);
        words.extend(own.into_iter().flat_map(|(_, own)| own.iter().cloned()));
        words.extend(self.flags()?);
        if let Some(seeds) = self.matches.get_one::<crate::study::Seeds>("seeds") {
            words.push(format!("--seeds={seeds}"));
        }
        words.extend(self.matches.get_flag("until-decided").then(|| "--until-decided".to_string()));
        for name in ["max-seeds", "max-parallel", "max-restarts", "threads", "ranks"] {
            words.extend(self.matches.get_one::<u64>(name).map(|n| format!("--{name}={n}")));
        }
        words.extend(self.options.given().iter().map(|option| format!("--slurm={option}")));
        words.push("--gather".into());
        shell_line(&words)
    }

    /// The flags that change recipes and places.
    fn flags(&self) -> Result<Vec<String>> {
        let mut words = Vec::new();
        let keys = flags::KEYS.map(|(name, ..)| name);
        for name in ["scale", "data", "set", "device"].into_iter().chain(keys) {
            let values = self.matches.get_many::<String>(name).into_iter().flatten();
            let values = values.filter(|value| name != "device" || *value != "cpu");
            words.extend(values.map(|value| format!("--{name}={value}")));
        }
        words.extend(self.matches.get_flag("skip-bad").then(|| "--skip-bad".to_string()));
        let out = self.out();
        let out = out.to_str().ok_or_else(|| {
            Error::Usage(format!("{}: scripts hold only paths that are text", out.display()))
        })?;
        words.push(format!("--out={out}"));
        Ok(words)
    }

    fn out(&self) -> PathBuf {
        flags::out(self.matches)
    }

    /// Threads of a run: one, unless more are asked for.
    fn threads(&self) -> usize {
        self.matches.get_one::<u64>("threads").map_or(1, |threads| *threads as usize)
    }

    /// Processes that share a run.
    fn ranks(&self) -> usize {
        self.matches.get_one::<u64>("ranks").map_or(1, |ranks| *ranks as usize)
    }

    /// The study's name, for one in a file that of the file.
    fn plain_name(&self) -> String {
        let of_file = self.studies.iter().find(|(_, (given, _))| *given == self.name);
        of_file.map_or(self.name, |(name, _)| name).to_string()
    }

    /// Runs that were handed over and have not ended are told, not handed over again: what ended
    /// them would end them again.
    fn refuse_a_second_time(&self, earlier: &Path, lines: &[String]) -> Result<()> {
        let before = std::fs::read_to_string(earlier.join(RUNS)).unwrap_or_default();
        let places: Vec<String> = before
            .lines()
            .enumerate()
            .filter(|(_, line)| lines.iter().any(|other| other == line))
            .map(|(place, _)| (place + 1).to_string())
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let (folder, some) = (earlier.display(), places[..places.len().min(8)].join(", "));
        let more = if places.len() > 8 { ", …" } else { "" };
        Err(Error::Failure(format!(
            "{} of {} did not end: lines {some}{more} of {folder}/{RUNS}; {folder}/run-*.log say why, and the same command \
             without --gather submits them again",
            places.len(),
            super::count(before.lines().count(), "run"),
        )))
    }
}

impl HandOver for Cluster<'_> {
    fn hand_over(&self, jobs: &[Job], ended: usize, output: &Output) -> Result<Option<i32>> {
        super::ranks::check(jobs, self.ranks())?;
        let mut missing = Vec::new();
        for (index, first) in firsts(jobs).into_iter().enumerate().skip(ended) {
            if index == first && read_outcome(&jobs[index].path)?.is_none() {
                missing.push(index);
            }
        }
        if missing.is_empty() {
            return Ok(None);
        }
        let lines = missing.iter().map(|index| self.line(jobs, *index)).collect::<Result<Vec<_>>>()?;
        let all = self.out().join(FOLDER).join(self.plain_name());
        let last = submissions(&all).last().copied().unwrap_or(0);
        let earlier = all.join(last.to_string());
        if self.matches.get_flag("gather") {
            self.refuse_a_second_time(&earlier, &lines)?;
        } else {
            refuse_while_queued(&earlier)?;
        }
        self.submit(&all.join((last + 1).to_string()), &lines, output).map(Some)
    }
}

/// The numbers of the submissions in a folder, in order; one that was only written down counts
/// not, and the next is written over it.
fn submissions(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let submitted = entries.filter(|entry| entry.path().join(NUMBERS).is_file());
    let mut numbers: Vec<u64> =
        submitted.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Refuses to hand runs over while the jobs of an earlier command may still make them.
fn refuse_while_queued(earlier: &Path) -> Result<()> {
    let numbers = std::fs::read_to_string(earlier.join(NUMBERS)).unwrap_or_default();
    let numbers: Vec<String> = numbers.lines().map(str::to_string).collect();
    let queued = if numbers.is_empty() { Vec::new() } else { queued(&numbers) };
    if queued.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "job {} of the last submission ({}) is still in the queue; wait for it, or end it with scancel {}",
        queued.join(", "),
        earlier.display(),
        numbers.join(" ")
    )))
}

/// Words as one line that a shell reads back.
fn shell_line(words: &[String]) -> Result<String> {
    if let Some(word) = words.iter().find(|word| word.contains(['\n', '\r', '\0'])) {
        return Err(Error::Usage(format!("{word:?}: a list of commands holds no line breaks")));
    }
    Ok(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}
