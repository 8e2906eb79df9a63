//! Slurm: the scripts of an array of runs and of the job that gathers them, and the programs that
//! take them.

use crate::error::{Error, Result};
use std::process::Command;

/// What a person asked of the jobs with `--slurm`, as sbatch's long options: KEY or KEY=VALUE.
#[derive(Clone, Debug, Default)]
pub struct Options(Vec<String>);

/// Options that the scripts depend on, and what decides about each instead.
const OWN: [(&str, &str); 9] = [
    ("array", "--max-parallel says how many runs are made at the same time"),
    ("cpus-per-task", "--threads says how many threads a run has"),
    ("ntasks", "--ranks says how many tasks share a run"),
    ("dependency", "the gathering job waits for the runs"),
    ("output", "logs lie beside the scripts"),
    ("open-mode", "logs are gone on with after a requeue"),
    ("job-name", "the jobs have the study's name"),
    ("requeue", "--max-restarts says how often a run that ran out of time is queued again"),
    ("no-requeue", "--max-restarts 0 queues no run again"),
];

impl Options {
    /// Reads the values of `--slurm`, each `KEY[=VALUE]` or several of them with commas between: a
    /// part without `=` behind a comma belongs to the value before it (`partition=a,b`).
    ///
    /// # Errors
    /// [`Error::Usage`] for what is no option, and for one that is not free.
    pub fn read<'a>(given: impl Iterator<Item = &'a String>) -> Result<Options> {
        let mut options: Vec<String> = Vec::new();
        for value in given {
            let mut is_first = true;
            for part in value.split(',') {
                match options.last_mut().filter(|_| !is_first && !part.contains('=')) {
                    Some(before) => {
                        before.push(',');
                        before.push_str(part);
                    }
                    None => options.push(part.trim_start_matches('-').to_string()),
                }
                is_first = false;
            }
        }
        options.iter().try_for_each(|option| check(option))?;
        Ok(Options(options))
    }

    /// Whether the option `key` is among them.
    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|option| option.split('=').next() == Some(key))
    }

    /// They as lines of a script.
    fn lines(&self) -> String {
        self.0.iter().map(|option| format!("#SBATCH --{option}\n")).collect()
    }

    /// They as `--slurm` takes them.
    pub fn given(&self) -> &[String] {
        &self.0
    }
}

fn check(option: &str) -> Result<()> {
    let key = option.split('=').next().unwrap_or_default();
    let is_name = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name || option.contains(['\n', '\r']) {
        return Err(Error::Usage(format!(
            "--slurm {option:?}: expected options of sbatch without their dashes, such as partition=gpu,time=4:00:00"
        )));
    }
    match OWN.iter().find(|(own, _)| *own == key) {
        None => Ok(()),
        Some((_, instead)) => Err(Error::Usage(format!("--slurm {option}: {instead}"))),
    }
}

/// Runs in one array at most: Slurm's own limit, where a cluster sets no other.
pub const MOST_TASKS: usize = 1000;

/// The array of a study's runs.
pub struct Array<'a> {
    /// What the jobs are called.
    pub name: &'a str,
    /// The folder of scripts, lists and logs; absolute.
    pub folder: &'a str,
    /// The folder in which the command was given; absolute.
    pub from: &'a str,
    /// Threads of each process of a run.
    pub threads: usize,
    /// Processes of a run.
    pub ranks: usize,
    /// Runs at the same time at most.
    pub parallel: usize,
    /// How often a run is queued again at most.
    pub restarts: u64,
    /// What was asked of the jobs.
    pub options: &'a Options,
}

impl Array<'_> {
    /// The script of the array of `runs` runs, of which each task makes the one in the line of
    /// runs.txt that has its number (and the script's argument, where there is one, more).
    ///
    /// Slurm sends TERM a minute before a run's time is over; the run saves and ends with 75, and
    /// is queued again. The shell does not trap TERM: after scancel it ends with its step, so that
    /// nothing is queued again.
    pub fn script(&self, runs: usize) -> String {
        let Array { name, folder, from, threads, ranks, restarts, options, .. } = self;
        // MPICH from PyPI speaks PMI-2; a cluster's own MPI may want another word.
        let (kind, kill) = match ranks {
            1 => ("", ""),
            _ => ("export SLURM_MPI_TYPE=${SLURM_MPI_TYPE:-pmi2}\n", " --kill-on-bad-exit=1"),
        };
        let signal = if options.has("signal") { "" } else { "#SBATCH --signal=TERM@60\n" };
        let (tasks, output) = (self.tasks(runs, 0), quoted_option(&self.log(0)));
        let (from, list) = (quoted(from), quoted(&format!("{folder}/runs.txt")));
        format!(
            "#!/bin/bash\n\
             # Makes one run of runs.txt; written by sim submit.\n\
             #SBATCH --job-name={name}\n\
             #SBATCH --array={tasks}\n\
             #SBATCH --ntasks={ranks}\n\
             #SBATCH --cpus-per-task={threads}\n\
             {signal}\
             #SBATCH --requeue\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --output={output}\n\
             {}\
             cd {from} || exit 1\n\
             run=$(sed -n \"$((SLURM_ARRAY_TASK_ID + ${{1:-0}}))p\" {list})\n\
             # No trap: after scancel this shell ends with its step, and nothing is queued again.\n\
             {kind}\
             eval \"srun --ntasks={ranks} --cpus-per-task={threads}{kill} $run\"\n\
             code=$?\n\
             if [ \"$code\" = 75 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {restarts} ]; then\n\
             \x20 scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"\n\
             fi\n\
             exit \"$code\"\n",
            options.lines()
        )
    }

    /// The script of the job that judges what the runs left, by `command`.
    pub fn gathering(&self, command: &str) -> String {
        let Array { name, folder, from, options, .. } = self;
        let output = quoted_option(&format!("{folder}/gather.log"));
        format!(
            "#!/bin/bash\n\
             # Judges what the runs left, and submits the next round where one is wanted.\n\
             #SBATCH --job-name={name}-gather\n\
             #SBATCH --ntasks=1\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --output={output}\n\
             {}\
             cd {} || exit 1\n\
             {command}\n",
            options.lines(),
            quoted(from)
        )
    }

    /// Submits the script of the runs, which lies in the folder, as often as an array's size asks
    /// for; the numbers of the jobs.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no Slurm, [`Error::Failure`] with sbatch's own words where
    /// it refuses.
    pub fn submit(&self, runs: usize) -> Result<Vec<String>> {
        let mut numbers = Vec::new();
        for before in (0..runs).step_by(MOST_TASKS) {
            let tasks = format!("--array={}", self.tasks(runs, before));
            let output = format!("--output={}", self.log(before));
            let (script, offset) = (format!("{}/array.sh", self.folder), before.to_string());
            let number = sbatch(&[&tasks, &output, &script, &offset]);
            numbers.push(number.map_err(|error| left_behind(error, &numbers))?);
        }
        Ok(numbers)
    }

    /// Submits the gathering job, which waits for the jobs `numbers`; its number.
    ///
    /// # Errors
    /// As [`Array::submit`].
    pub fn submit_gathering(&self, numbers: &[String]) -> Result<String> {
        let after = format!("--dependency=afterany:{}", numbers.join(":"));
        let number = sbatch(&[&after, &format!("{}/gather.sh", self.folder)]);
        number.map_err(|error| left_behind(error, numbers))
    }

    /// The tasks of the array behind the first `before` runs: `1-48%32`.
    fn tasks(&self, runs: usize, before: usize) -> String {
        let parallel = (self.parallel / runs.div_ceil(MOST_TASKS).max(1)).max(1);
        format!("1-{}%{parallel}", (runs - before).min(MOST_TASKS))
    }

    /// Where the tasks behind the first `before` write.
    fn log(&self, before: usize) -> String {
        let behind = if before == 0 { String::new() } else { format!("+{before}") };
        format!("{}/run-%a{behind}.log", self.folder)
    }
}

fn left_behind(error: Error, numbers: &[String]) -> Error {
    match numbers {
        [] => error,
        numbers => Error::Failure(format!("{error}; scancel {} ends what was submitted", numbers.join(" "))),
    }
}

/// Submits a script; the number of its job.
fn sbatch(arguments: &[&str]) -> Result<String> {
    let no_slurm = |error: std::io::Error| {
        Error::Usage(format!(
            "sbatch cannot be started ({error}): sim submit needs Slurm; with --dry-run it only writes the scripts and \
             runs.txt, which other programs can work off"
        ))
    };
    let done = Command::new("sbatch").arg("--parsable").args(arguments).output().map_err(no_slurm)?;
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    // NUMBER, or NUMBER;CLUSTER.
    let number = said.trim().split(';').next().unwrap_or_default();
    if done.status.success() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(number.to_string());
    }
    Err(Error::Failure(format!("sbatch refused: {}", complained.trim())))
}

/// Those of the jobs `numbers` that are still queued or running, as far as Slurm says.
pub fn queued(numbers: &[String]) -> Vec<String> {
    let asked = Command::new("squeue")
        .args(["--noheader", "--format=%F", &format!("--jobs={}", numbers.join(","))])
        .output();
    let said = asked.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let mut queued: Vec<String> = said.lines().map(|line| line.trim().to_string()).collect();
    queued.retain(|number| numbers.contains(number));
    queued.sort();
    queued.dedup();
    queued
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A value as sbatch reads it in a script.
fn quoted_option(value: &str) -> String {
    if value.contains(char::is_whitespace) { format!("\"{value}\"") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> Result<Vec<String>> {
        let given: Vec<String> = given.iter().map(|text| text.to_string()).collect();
        Options::read(given.iter()).map(|options| options.0)
    }

    #[test]
    fn options_are_told_apart_at_commas_that_begin_a_key() {
        assert_eq!(read(&["partition=a,b,time=4:00:00"]).unwrap(), ["partition=a,b", "time=4:00:00"]);
        assert_eq!(read(&["exclusive", "--gres=gpu:1"]).unwrap(), ["exclusive", "gres=gpu:1"]);
        for (given, word) in [
            ("array=1-3", "--max-parallel"),
            ("partition=a,output=x", "logs lie"),
            ("", "without their dashes"),
            ("a b=c", "without their dashes"),
            ("time=1\n#SBATCH --x", "without their dashes"),
        ] {
            let refused = read(&[given]).unwrap_err().to_string();
            assert!(refused.contains(word), "{given}: {refused}");
        }
    }

    #[test]
    fn a_shell_reads_words_back() {
        for word in ["plain", "", "with blank", "it's", "$HOME `x` \"y\" \\", "a;b", "*"] {
            let echoed = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
            assert_eq!(String::from_utf8(echoed.unwrap().stdout).unwrap(), word);
        }
    }
}
