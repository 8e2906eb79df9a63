//! Flags that several commands have.

use crate::data::sources;
use crate::device::Place;
use crate::error::{Error, Result};
use crate::study::{Flag, Request, Seeds, Short, Study, embedded};
use clap::builder::{
    PossibleValue, StringValueParser, StyledStr, TypedValueParser, UnknownArgumentValueParser,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsStr;
use std::path::PathBuf;

/// `--NAME VALUE`.
pub fn option(name: &'static str, value: &'static str, help: impl Into<StyledStr>) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// `--NAME PATH`.
pub fn path_option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).value_parser(value_parser!(PathBuf))
}

/// A path that must be given, by its place.
pub fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).value_parser(value_parser!(PathBuf)).help(help)
}

/// `--NAME`, which is given or not.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// A command on a study, each of which is a subcommand, with `flags` that stand anywhere behind it.
pub fn on_studies(
    name: &'static str,
    about: &'static str,
    studies: impl Iterator<Item = Command>,
    flags: impl IntoIterator<Item = Arg>,
) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_value_name("STUDY")
        .subcommand_help_heading("Studies")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true)
        .subcommands(studies)
        .args(flags.into_iter().map(|flag| flag.global(true)))
        .after_help("STUDY may also be a file ending in .toml.")
}

/// The one of `studies` that is `given` to `command`.
///
/// # Errors
/// [`Error::Usage`] for a word that names no study, or a file that stands too far behind the
/// command to be opened.
pub fn study<'a>(given: &str, studies: &'a [Study], command: &str) -> Result<&'a Study> {
    if let Some(study) = studies.iter().find(|study| study.given == given) {
        return Ok(study);
    }
    Study::find(given)?;
    Err(Error::Usage(format!("put {given} directly after `{command}`")))
}

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

/// Flags that change recipes: scale, data, `--set` and the like.
pub fn layer_flags() -> Vec<Arg> {
    vec![scale_flag(), option("data", "DATA", sources()), skip_bad_flag(), set_flag()]
        .into_iter()
        // A negative number is refused by the key's own range, in its words.
        .chain(
            KEYS.into_iter()
                .map(|(name, value, _, help)| option(name, value, help).allow_negative_numbers(true)),
        )
        .chain(OTHER_NAMES.map(|(name, meant)| {
            let suggest = UnknownArgumentValueParser::suggest_arg(meant);
            option(name, "VALUE", "").hide(true).value_parser(suggest)
        }))
        .collect()
}

/// Keys that have a flag of their own: its name, its value, the key and the help.
pub const KEYS: [(&str, &str, &str, &str); 4] = [
    ("epochs", "N", "schedule.epochs", "Epochs of every run: --set schedule.epochs=N"),
    (
        "lr",
        "X",
        "optim.base_lr",
        "Base learning rate, which is multiplied by batch / 256: --set optim.base_lr=X",
    ),
    ("batch-size", "N", "schedule.batch", "Images of a batch: --set schedule.batch=N"),
    (
        "init",
        "RUN|FILE",
        "encoder.init",
        "Weights to begin with: a run's folder, a PyTorch checkpoint or safetensors: --set encoder.init=…",
    ),
];
/// What people call these flags too, and what they mean.
const OTHER_NAMES: [(&str, &str); 2] = [("learning-rate", "--lr"), ("bs", "--batch-size")];

/// `--scale`.
pub fn scale_flag() -> Arg {
    option("scale", "SCALE", "smoke, laptop (default), cifar-small, cifar or imagenet")
        .value_parser(Completed(scales))
        .hide_possible_values(true)
}

/// `--set`.
pub fn set_flag() -> Arg {
    let help = "Set a key of every arm's recipe, such as optim.base_lr=0.1 (sim show lists the keys)";
    option("set", "KEY=VALUE", help).action(ArgAction::Append)
}

/// Words that a shell completes. They are no rule: who takes the word refuses what it does not
/// know, and says more about it.
#[derive(Clone)]
struct Completed(fn() -> Vec<PossibleValue>);

impl TypedValueParser for Completed {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> clap::error::Result<String> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter()))
    }
}

fn scales() -> Vec<PossibleValue> {
    embedded::names("scale").map(PossibleValue::new).collect()
}

/// `--skip-bad`.
pub fn skip_bad_flag() -> Arg {
    switch("skip-bad", "Count undecodable images and go on, instead of stopping at the first")
}

/// The folder of runs where `--out` names none.
const OUT: &str = "runs";

/// Flags that say how runs are made.
pub fn run_flags() -> Vec<Arg> {
    let count = |name, help| option(name, "N", help).value_parser(value_parser!(u64).range(1..=1024));
    let seeds = "Seeds of every arm: 8, so many from the scale's first; or 10..18, the seeds 10 to 17";
    vec![
        option("seeds", "SEEDS", seeds).value_parser(value_parser!(Seeds)),
        count("jobs", "Runs at the same time [default: as many as the machine has cores]"),
        count("threads", "Threads of each run [default: cores / jobs]; results do not depend on it"),
        path_option("out", "DIR", "Where run directories go").default_value(OUT),
        device_flag(),
        switch("fresh", "Start over instead of finishing what is missing"),
        switch("quiet", "No progress on stderr").short('q'),
        json_flag().help("Print one JSON line per epoch and a final summary instead of the table"),
    ]
}

/// The folder of runs that `--out` of [`run_flags`] names.
pub fn out(matches: &ArgMatches) -> PathBuf {
    matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| PathBuf::from(OUT))
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
        precision: None,
        short: KEYS
            .into_iter()
            .filter_map(|(flag, _, key, _)| {
                let value = text(flag)?;
                Some(Short { typed: format!("--{flag} {value}"), set: format!("{key}={value}") })
            })
            .collect(),
    }
}

/// Where `--device` puts the networks. Who hands runs over to a cluster needs no GPU for it.
///
/// # Errors
/// As [`Place::find`].
pub fn place(matches: &ArgMatches) -> Result<Place> {
    // A flag that `sim submit` alone has, and always has a value of.
    if matches!(matches.try_get_one::<u64>("max-parallel"), Ok(Some(_))) {
        return Ok(Place::Cpu);
    }
    Place::find(matches.get_one::<String>("device").map_or("cpu", String::as_str))
}

/// `--device`.
pub fn device_flag() -> Arg {
    option("device", "DEVICE", "cpu, cuda:N, or cuda:auto: a GPU for each rank").default_value("cpu")
}

/// `--json`.
pub fn json_flag() -> Arg {
    switch("json", "Print JSON lines instead of a table")
}
