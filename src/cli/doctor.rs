//! `sim doctor`: what is wrong with images, views or a recipe, and which key to change.

use super::data::{recipe, report_left_out};
use super::flags::{device_flag, json_flag, option, path_option, place, scale_flag, set_flag, skip_bad_flag};
use super::output::Output;
use super::signals;
use super::table::table;
use crate::data::{Dataset, sources};
use crate::device::Site;
use crate::doctor::diagnosis::{Bound, Diagnosis, Evidence, Severity};
use crate::doctor::trials::{MOST_STEPS, TrialFacts};
use crate::doctor::views::Distances;
use crate::doctor::weights::WeightFacts;
use crate::doctor::{Effort, Examination, Facts, examine, sampled, weights};
use crate::error::Result;
use crate::recipe::Recipe;
use crate::record::WEIGHTS_FILE;
use crate::train::{Pretrained, recipe_of};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The study whose recipe is examined where none is named.
const STUDY: &str = "simsiam";
/// Where an explanation begins on a line.
const INDENT: &str = "        ";
/// What stands before lines about images and views.
const MARGIN: &str = "         ";
/// Letters of a line of text.
const WIDTH: usize = 80;

/// `sim doctor` and its flags.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Say what is wrong with images, views or a recipe, why, and which key to change: a few minutes")
        .arg(
            Arg::new("study")
                .value_name("STUDY")
                .help("The study whose recipe is examined, that of its first arm; or a file ending in .toml")
                .default_value(STUDY),
        )
        .args([scale_flag(), option("data", "DATA", sources()), skip_bad_flag(), set_flag()])
        .arg(
            path_option("run", "RUN", "A run's folder: its recipe, its images and its weights, in the place of STUDY")
                .conflicts_with_all(["study", "scale", "set", "weights"]),
        )
        .arg(path_option("weights", "FILE", "Weights that were trained before, as for sim embed, looked at too"))
        .arg(
            option("seed", "SEED", "Seed of views and trials [default: the study's first, or the run's]")
                .value_parser(value_parser!(u64)),
        )
        .arg(
            option("steps", "N", "Steps of a trial at most; fewer where a step takes long")
                .default_value("200")
                .value_parser(value_parser!(u64).range(50..=5000)),
        )
        .args([device_flag(), json_flag().help("Print one JSON value instead of text")])
        .after_help("Exit codes: 0 whether or not anything is wrong; 2 usage or configuration, 4 unreadable images or weights, 75 stopped by a signal.")
}

/// Runs `sim doctor` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let place = place(matches)?;
    let run = matches.get_one::<PathBuf>("run");
    let recipe = asked_recipe(run.map(PathBuf::as_path), matches)?;
    let dataset = Dataset::open(&sampled(&recipe.data))?;
    report_left_out(&dataset.name, &dataset.notes, &dataset.skipped);
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let site = place.open()?;
    let mut found = None;
    site.guard(|| {
        let weights = asked_weights(run.map(PathBuf::as_path), matches, &recipe, &dataset, &site, &stop)?;
        let tell = |what: &str| super::note(what);
        let steps = matches.get_one::<u64>("steps").copied().unwrap_or(MOST_STEPS);
        let effort = Effort { site: &site, stop: &stop, tell: &tell, steps };
        found = Some(examine(&recipe, &dataset, weights, &effort)?);
        Ok(())
    })?;
    let Some(found) = found else { return Ok(1) };
    if matches.get_flag("json") {
        let of = json!({"data": dataset.name, "healthy": found.healthy, "diagnoses": found.diagnoses, "facts": found.facts});
        output.line(&of.to_string())?;
        return Ok(0);
    }
    output.lines(&text(&dataset.name, &found))?;
    Ok(0)
}

/// The recipe that is examined.
fn asked_recipe(run: Option<&Path>, matches: &ArgMatches) -> Result<Recipe> {
    let mut recipe = match run {
        None => recipe(matches.get_one::<String>("study").map_or(STUDY, String::as_str), matches)?,
        Some(run) => recipe_of(run)?,
    };
    if let (Some(_), Some(source)) = (run, matches.get_one::<String>("data")) {
        recipe.data.source = source.clone();
        recipe.data.skip_bad = matches.get_flag("skip-bad");
    }
    Ok(match matches.get_one::<u64>("seed") {
        None => recipe,
        Some(seed) => recipe.with_seed(*seed),
    })
}

/// The numbers of the weights that are to be looked at too.
fn asked_weights(
    run: Option<&Path>,
    matches: &ArgMatches,
    recipe: &Recipe,
    dataset: &Dataset,
    site: &Site,
    stop: &AtomicBool,
) -> Result<Option<WeightFacts>> {
    let of = |path: &Path| weights::facts(&Pretrained::open(path)?, dataset, site, stop);
    match (run, matches.get_one::<PathBuf>("weights")) {
        (None, None) => Ok(None),
        (None, Some(file)) => of(file).map(Some),
        (Some(run), _) => {
            // A run that diverged, or is not finished, has none.
            let own = if run.join(WEIGHTS_FILE).is_file() { of(run)? } else { WeightFacts::default() };
            own.of_run(run, recipe.encoder.projector.dim).map(Some)
        }
    }
}

/// Lines for a person.
fn text(data: &str, found: &Examination) -> Vec<String> {
    let facts = &found.facts;
    let mut lines = wrapped("", &looked_at(data, facts));
    lines.extend(of_images(facts));
    lines.extend(of_views(facts));
    lines.extend(facts.weights.as_ref().map(of_weights).iter().flat_map(|said| wrapped("", said)));
    lines.push(String::new());
    lines.extend(table(&trial_rows(&facts.trials), WIDTH));
    if let Some(said) = &facts.stand_in {
        lines.extend(wrapped("", said));
    }
    lines.push(String::new());
    lines.push(verdict(found));
    for diagnosis in &found.diagnoses {
        lines.push(String::new());
        lines.extend(shown(diagnosis));
    }
    lines
}

fn looked_at(data: &str, facts: &Facts) -> String {
    let ([train, test], [all, held_out]) = (facts.images.looked_at, facts.images.there);
    format!("{data}: looked at {train} of {all} training and {test} of {held_out} held-out images")
}

fn of_images(facts: &Facts) -> Vec<String> {
    let images = &facts.images;
    let range = |[least, most]: [usize; 2]| match least == most {
        true => least.to_string(),
        false => format!("{least} to {most}"),
    };
    let classes = match images.class_sizes {
        None => "no labels".to_string(),
        Some([least, most]) => {
            let classes =
                if images.classes == 1 { "1 class".into() } else { format!("{} classes", images.classes) };
            format!("{classes} of {} training images", range([least, most]))
        }
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let shared =
        images.shared.map_or(String::new(), |shared| format!(", {} the same in all", percent(shared)));
    let mut lines = wrapped(
        MARGIN,
        &format!("width {}, height {} pixels; {classes}", range(images.width), range(images.height)),
    );
    // The first line has the word for them in the place of its margin.
    if let Some(first) = lines.first_mut() {
        first.replace_range(..MARGIN.len(), "images   ");
    }
    lines.extend(wrapped(
        MARGIN,
        &format!(
            "{} nearly of one colour, {} copies, {} of held-out ones copies of training images",
            percent(images.flat),
            percent(images.copies),
            percent(images.leaked)
        ),
    ));
    lines.extend(wrapped(MARGIN, &format!("border {} of an image's area{shared}", percent(images.border))));
    lines
}

fn of_views(facts: &Facts) -> Vec<String> {
    let views = &facts.views;
    let ratio = |of: Distances| of.ratio.map_or("-".to_string(), |ratio| format!("{ratio:.2}"));
    let found = |of: Distances| format!("{:.0} %", 100.0 * of.found);
    let row = |what: &str, of: Distances| vec![what.to_string(), ratio(of), found(of)];
    let head = vec!["views    of an image, by".to_string(), "distance".into(), "found".into()];
    let rows = [
        head,
        row("         pixels", views.pixels),
        row("         features of random weights", views.features),
        row("         colours alone", views.colours),
    ];
    let mut lines = table(&rows, WIDTH);
    lines.extend(wrapped(
        MARGIN,
        &format!(
            "distance: 0 where both views of an image are the same, 1 where they are as far apart as views of two images; found: how \
             often the nearest of {} second views is the own one ({:.1} % by chance)",
            views.images,
            100.0 * views.chance
        ),
    ));
    lines.extend(wrapped(
        MARGIN,
        &format!(
            "two crops share {:.0} % of the smaller one and miss each other in {:.1} % of cases; {:.1} % of views are empty",
            100.0 * views.overlap,
            100.0 * views.apart,
            100.0 * views.empty
        ),
    ));
    lines
}

fn of_weights(weights: &WeightFacts) -> String {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    let images =
        if weights.images > 0 { format!(" over {} held-out images", weights.images) } else { String::new() };
    let loss = weights.loss.map_or(String::new(), |loss| format!(", loss {loss:.3}"));
    format!(
        "weights  {}: std·√d {}, RankMe {}{images}{loss}",
        weights.name,
        number(weights.z_std, 3),
        number(weights.rankme, 1)
    )
}

/// The trials as a table.
fn trial_rows(trials: &[TrialFacts]) -> Vec<Vec<String>> {
    let head = ["trial", "steps", "rate", "batch", "loss", "std·√d", "RankMe", "kNN on z", ""];
    let fixed =
        |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
    let row = |trial: &TrialFacts| {
        let ended = match (trial.diverged, trial.has_collapsed()) {
            (true, _) => "diverged",
            (false, true) => "collapsed",
            _ => "",
        };
        vec![
            trial.name.to_string(),
            trial.steps.to_string(),
            if trial.steps == 0 { "-".into() } else { number(trial.rate) },
            trial.batch.to_string(),
            fixed(trial.loss, 3),
            fixed(trial.z_std, 3),
            trial.rankme.map_or("-".into(), |rank| format!("{rank:.1} of {}", trial.dim)),
            trial.z_knn_top1.map_or("-".into(), |top1| format!("{top1:.1} %")),
            ended.to_string(),
        ]
    };
    std::iter::once(head.map(String::from).to_vec()).chain(trials.iter().map(row)).collect()
}

fn verdict(found: &Examination) -> String {
    let counted = |severity: Severity| match found.count(severity) {
        0 => None,
        count => Some(super::count(count, severity.name())),
    };
    let parts: Vec<String> =
        [Severity::Fault, Severity::Warning, Severity::Note].into_iter().filter_map(counted).collect();
    match (found.healthy, parts.is_empty()) {
        (true, true) => "healthy: nothing is wrong that is looked for here".into(),
        (true, false) => format!("healthy: nothing is wrong that is looked for here; {}", parts.join(", ")),
        _ => parts.join(", "),
    }
}

/// A diagnosis as lines.
fn shown(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines =
        wrapped("", &format!("{} {}: {}", diagnosis.severity.name(), diagnosis.id, diagnosis.what));
    lines.extend(wrapped(INDENT, &diagnosis.why));
    // A line that is to be copied is not broken.
    match diagnosis.remedy.starts_with("--") {
        true => lines.push(format!("{INDENT}do: {}", diagnosis.remedy)),
        false => lines.extend(wrapped(INDENT, &format!("do: {}", diagnosis.remedy))),
    }
    for evidence in &diagnosis.evidence {
        lines.extend(wrapped(INDENT, &evidenced(evidence)));
    }
    if !diagnosis.files.is_empty() {
        lines.push(format!("{INDENT}such as"));
        lines.extend(diagnosis.files.iter().map(|file| format!("{INDENT}  {file}")));
    }
    lines
}

fn evidenced(evidence: &Evidence) -> String {
    let (bound, limit) = match evidence.bound {
        Bound::AtMost(most) => ("at most", most),
        Bound::AtLeast(least) => ("at least", least),
    };
    let what = &evidence.what;
    format!("{what}: {} (in order: {bound} {}; {})", number(evidence.value), number(limit), evidence.reason)
}

/// A number with three digits that count.
fn number(value: f64) -> String {
    if value == 0.0 || value.fract() == 0.0 && value.abs() < 1e6 {
        return format!("{value}");
    }
    match value.abs() {
        size if !(1e-3..1e6).contains(&size) => format!("{value:.1e}"),
        size => {
            let digits = (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
            let text = format!("{value:.digits$}");
            if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
        }
    }
}

/// `text` in lines of [`WIDTH`] letters, each behind `indent`.
fn wrapped(indent: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let shown = [0.0, 32.0, 0.03125, 1.5, 0.0001, 12.34, 1234.5].map(number);
        assert_eq!(shown, ["0", "32", "0.0312", "1.5", "1.0e-4", "12.3", "1234"]);
    }

    #[test]
    fn lines_are_broken_between_words() {
        let lines = wrapped("  ", &"seven ".repeat(40));
        assert!(
            lines.iter().all(|line| line.starts_with("  ") && line.chars().count() <= WIDTH),
            "{lines:?}"
        );
    }
}
