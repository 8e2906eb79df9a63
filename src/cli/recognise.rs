//! `sim eval --on`: verification and one-shot recognition by trained weights.

use super::flags::{option, path_option, place, switch};
use super::output::Output;
use super::pretrained::{data_of, dataset_for};
use super::track::{self, TRACKING};
use crate::data::{Exif, images_of_pairs, read_pairs};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::measure::estimate::Estimate;
use crate::measure::one_shot::{Classifier, OneShotConfig, Task};
use crate::measure::verification::{Verification, VerificationConfig};
use crate::train::{Answers, Gallery, Pretrained, Verified, verify_pairs};
use clap::{Arg, ArgMatches, value_parser};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const VERIFICATION: &str = "verification";
const ONE_SHOT: &str = "one-shot";
/// LFW's.
const PAIRS: VerificationConfig = VerificationConfig { pairs: 300 };
/// Lake's and Vinyals's.
const EPISODES: OneShotConfig = OneShotConfig { runs: 20, episodes: 600, queries: 15 };

/// The flags of `sim eval` that say what is asked in the place of kNN and the linear probe.
pub fn flags() -> [Arg; 7] {
    let count = |name: &'static str, help: &'static str, least: u64| {
        option(name, "N", help).value_parser(value_parser!(u64).range(least..=4096))
    };
    [
        option(
            "on",
            "TASK",
            "Instead: are two images of one identity? Of which of N classes is an image? Where is the object in the next frame?",
        )
        .value_parser([VERIFICATION, ONE_SHOT, TRACKING]),
        path_option(
            "pairs",
            "FILE",
            "Of verification: pairs as LFW's pairs.txt lists them, of the images of folder:DIR",
        ),
        count("way", "Of one-shot: classes of an episode [default: Lake's 20, and 5]", 2),
        count("shot", "Of one-shot: examples of each [default: 1, and 5]", 1),
        count("queries", "Of one-shot: questions of each [default: 1 of 20 ways, 15 of others]", 1),
        count("episodes", "Of one-shot: episodes [default: 20 of 20 ways, 600 of others]", 1),
        switch("within", "Of one-shot: the classes of an episode are of one alphabet, as Lake's 20 are"),
    ]
}

/// Whether tracking is asked for.
///
/// # Errors
/// [`Error::Usage`] for a flag of tracking without it, or another task's with it.
pub fn is_tracking(matches: &ArgMatches) -> Result<bool> {
    let belongs = |flag: &str, to: &str| Err(Error::Usage(format!("--{flag} belongs to --on {to}")));
    if matches.get_one::<String>("on").is_none_or(|on| on != TRACKING) {
        return track::given(matches).map_or(Ok(false), |flag| belongs(flag, TRACKING));
    }
    match stray(matches) {
        Some(flag) => belongs(flag, ONE_SHOT),
        None if matches.get_one::<PathBuf>("pairs").is_some() => belongs("pairs", VERIFICATION),
        None => Ok(true),
    }
}

/// The first flag of one-shot recognition that was given.
fn stray(matches: &ArgMatches) -> Option<&'static str> {
    let given = |name: &&str| matches.get_one::<u64>(name).is_some();
    let within = matches.get_flag("within").then_some("within");
    ["way", "shot", "queries", "episodes"].into_iter().find(given).or(within)
}

/// What is asked.
pub enum Asked {
    /// Verification on drawn pairs.
    Verification,
    /// Verification on the pairs that this file lists.
    Pairs(PathBuf),
    /// One-shot recognition: tasks with their titles; none: those of the measurement.
    OneShot(Option<Task>),
}

/// What the flags ask for; none without `--on`.
///
/// # Errors
/// [`Error::Usage`] for a flag that says nothing of what is asked.
pub fn asked(matches: &ArgMatches) -> Result<Option<Asked>> {
    let count = |name: &str| matches.get_one::<u64>(name).map(|n| *n as usize);
    let (within, stray) = (matches.get_flag("within"), stray(matches));
    let on = matches.get_one::<String>("on").map(String::as_str);
    let pairs = matches.get_one::<PathBuf>("pairs");
    match (on, stray, pairs) {
        (None, Some(flag), _) | (Some(VERIFICATION), Some(flag), _) => {
            Err(Error::Usage(format!("--{flag} belongs to --on {ONE_SHOT}")))
        }
        (None | Some(ONE_SHOT), _, Some(_)) => {
            Err(Error::Usage(format!("--pairs belongs to --on {VERIFICATION}")))
        }
        (None, ..) => Ok(None),
        (Some(ONE_SHOT), None, None) => Ok(Some(Asked::OneShot(None))),
        (Some(ONE_SHOT), ..) => {
            let (way, shot) = (count("way").unwrap_or(20), count("shot").unwrap_or(1));
            let usual = if way == 20 && shot == 1 { EPISODES.lake() } else { EPISODES.five_way(shot) };
            let queries = count("queries").unwrap_or(usual.queries);
            let episodes = count("episodes").unwrap_or(usual.episodes);
            Ok(Some(Asked::OneShot(Some(Task {
                way,
                shot,
                queries,
                episodes,
                within: within || usual.within,
            }))))
        }
        (_, _, Some(file)) => Ok(Some(Asked::Pairs(file.clone()))),
        (_, _, None) => Ok(Some(Asked::Verification)),
    }
}

/// Answers what is `asked` of the weights `pretrained`; the exit code.
///
/// # Errors
/// As [`dataset_for`] and [`read_pairs`]; [`Error::Usage`] for images on which it cannot be asked.
pub fn run(pretrained: &Pretrained, asked: &Asked, matches: &ArgMatches, output: &Output) -> Result<i32> {
    let recipe = pretrained.recipe.as_ref();
    let seed = recipe.map_or(0, |recipe| recipe.seed);
    let measure = recipe.map(|recipe| &recipe.measure);
    let json = matches.get_flag("json");
    let place = place(matches)?;
    if let Asked::Pairs(file) = asked {
        let verified = listed(pretrained, file, matches, &place.open()?)?;
        return say_verified(pretrained, &verified, json, output);
    }
    let dataset = dataset_for(pretrained, matches)?;
    let site = place.open()?;
    let augment = pretrained.preprocessing.augment();
    // A signal ends the program here, which leaves nothing behind.
    let stop = AtomicBool::new(false);
    let gallery = site.guard(|| Gallery::of(&pretrained.model(&site)?, &dataset, &augment, &stop))?;
    let Some(gallery) = gallery else {
        let what =
            format!("the images of {} have no labels, so that nobody knows whose they are", dataset.name);
        return Err(Error::Usage(what));
    };
    if !gallery.is_finite() {
        return Err(pretrained.overflow());
    }
    let [images, identities] = gallery.counts();
    let there = format!("there are {images} images of {identities} identities in {}", dataset.name);
    if let Asked::OneShot(task) = asked {
        let config = measure.and_then(|measure| measure.one_shot).unwrap_or(EPISODES);
        let tasks =
            task.map_or(vec![config.lake(), config.five_way(1), config.five_way(5)], |task| vec![task]);
        let answered: Vec<(Task, Answers)> =
            tasks.iter().filter_map(|task| Some((*task, gallery.one_shot(task, seed)?))).collect();
        if answered.is_empty() {
            let needs: Vec<String> = tasks.iter().map(needs).collect();
            return Err(Error::Usage(format!("an episode needs {}; {there}", needs.join(", or "))));
        }
        return say_one_shot(pretrained, &answered, json, output);
    }
    let config = measure.and_then(|measure| measure.verification).unwrap_or(PAIRS);
    let verified = gallery.verification(config, seed);
    if verified.by_features.is_none() {
        return Err(Error::Usage(format!("verification needs two identities, one of two images; {there}")));
    }
    say_verified(pretrained, &verified, json, output)
}

/// What an episode of `task` needs.
fn needs(task: &Task) -> String {
    let images = task.shot.saturating_add(task.queries);
    let within = if task.within { " of one alphabet" } else { "" };
    format!("{} classes{within} with {images} images each", task.way)
}

/// Verification of the pairs that `file` lists.
fn listed(pretrained: &Pretrained, file: &Path, matches: &ArgMatches, site: &Site) -> Result<Verified> {
    let pairs = read_pairs(file)?;
    let data = data_of(pretrained, matches.get_one::<String>("data"))?;
    let Some(root) = data.folder()? else {
        let source = &data.source;
        let what = format!(
            "--pairs names image files, and {source} has none; --data folder:DIR says where they are"
        );
        return Err(Error::Usage(what));
    };
    let exif = if data.exif { Exif::Applied } else { Exif::Ignored };
    let (images, augment) = (images_of_pairs(&pairs, &root, exif)?, pretrained.preprocessing.augment());
    let verified = site.guard(|| verify_pairs(&pretrained.model(site)?, &pairs, &images, &augment))?;
    // The file has pairs of both kinds in each fold.
    if verified.by_features.is_none() { Err(pretrained.overflow()) } else { Ok(verified) }
}

/// "83.2 ± 0.4 %" of parts of 1.
fn percent(value: f64, half_width: Option<f64>) -> String {
    match half_width.filter(|half| half.is_finite()) {
        Some(half) => format!("{:.1} ± {:.1} %", 100.0 * value, 100.0 * half),
        None => format!("{:.1} %", 100.0 * value),
    }
}

fn say_verified(pretrained: &Pretrained, verified: &Verified, json: bool, output: &Output) -> Result<i32> {
    let Verified { by_features, by_z, forged } = verified;
    if json {
        let line = json!({"on": VERIFICATION, "features": by_features, "z": by_z, "forged": forged,
            "preprocessing": pretrained.preprocessing});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&format!("images    {} ({})", pretrained.preprocessing, pretrained.source))?;
    let columns: Vec<(&str, &Verification)> =
        [("by features", by_features), ("by z", by_z), ("forgeries, by features", forged)]
            .into_iter()
            .filter_map(|(name, verification)| Some((name, verification.as_ref()?)))
            .collect();
    let row = |name: &str, cell: &dyn Fn(&Verification) -> String| -> Vec<String> {
        std::iter::once(name.to_string()).chain(columns.iter().map(|(_, v)| cell(v))).collect()
    };
    let head = std::iter::once(String::new()).chain(columns.iter().map(|(name, _)| name.to_string()));
    output.table(&[
        head.collect(),
        row("pairs of one, of two", &|v| format!("{}, {}", v.pairs[0], v.pairs[1])),
        row("ROC AUC", &|v| format!("{:.3}", v.auc)),
        row("equal error rate", &|v| percent(v.eer, None)),
        row("TAR at FAR 0.1", &|v| percent(v.tar_at_far_10, None)),
        row("TAR at FAR 0.01", &|v| percent(v.tar_at_far_1, None)),
        row("accuracy over folds ± S_E", &|v| percent(v.accuracy, Some(v.standard_error))),
    ])?;
    Ok(0)
}

fn say_one_shot(
    pretrained: &Pretrained,
    answered: &[(Task, Answers)],
    json: bool,
    output: &Output,
) -> Result<i32> {
    if json {
        let classifier = |(_, name): &(Classifier, &'static str), e: &Estimate| {
            (
                name.to_string(),
                json!({"top1": 100.0 * e.mean, "half_width": e.half_width.map(|half| 100.0 * half)}),
            )
        };
        let task = |(task, answers): &(Task, Answers)| -> Value {
            let by: serde_json::Map<_, _> =
                Classifier::ALL.iter().zip(answers).map(|(by, e)| classifier(by, e)).collect();
            json!({"way": task.way, "shot": task.shot, "queries": task.queries, "episodes": task.episodes,
                "within_alphabet": task.within, "by": by})
        };
        let tasks: Vec<Value> = answered.iter().map(task).collect();
        let line = json!({"on": ONE_SHOT, "tasks": tasks, "preprocessing": pretrained.preprocessing});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&format!("images    {} ({})", pretrained.preprocessing, pretrained.source))?;
    let head = answered.iter().map(|(task, _)| format!("{}-way {}-shot", task.way, task.shot));
    let mut rows: Vec<Vec<String>> = vec![std::iter::once("top-1".to_string()).chain(head).collect()];
    for (place, (_, name)) in Classifier::ALL.iter().enumerate() {
        let cells =
            answered.iter().map(|(_, answers)| percent(answers[place].mean, answers[place].half_width));
        rows.push(std::iter::once(name.to_string()).chain(cells).collect());
    }
    output.table(&rows)?;
    for (task, _) in answered {
        let within = if task.within { ", classes of one alphabet" } else { "" };
        let (way, shot, episodes, queries) = (task.way, task.shot, task.episodes, task.queries);
        let questions = crate::report::count(queries, "question");
        output.prose(
            &format!("{way}-way {shot}-shot: {episodes} episodes, {questions} of each class{within}"),
            2,
        )?;
    }
    output.prose(
        "± is half of the 95 % interval over episodes; sim run one-shot has the spread over seeds",
        0,
    )?;
    Ok(0)
}
