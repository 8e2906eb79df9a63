//! The answer: what the runs left in their folders, as numbers per arm and verdicts per claim.

use super::facts;
use super::file::Study;
use super::head::Paper;
use super::identity;
use super::resolve::Arm;
use super::runs::{Curve, Of, Runs};
use super::spread::{slow, spread};
use super::verdict::Judged;
use crate::error::{Error, Result};
use crate::measure::evidence::clopper_pearson;
use crate::measure::metrics::{self, CLOSED_FORM, DETECTION, FIELD, Metric};
use crate::recipe::Recipe;
use crate::record::{
    Answer, AnswerArm, AnswerClaim, AnswerMetric, AnswerPaper, AnswerRun, Environment, Evidence, Keys,
    METRICS_FILE, Outcome, Share, differing, outdated, read_env, read_metrics, read_outcome, run_folder,
};
use crate::train::{self, machine_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How one run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Trained to its end.
    Finished,
    /// The loss stopped being finite at this step.
    Diverged(u64),
    /// Not at its end, or never begun.
    Unfinished,
}

impl RunEnd {
    fn words(self) -> String {
        match self {
            RunEnd::Finished => "finished".to_string(),
            RunEnd::Diverged(step) => format!("diverged at step {step}"),
            RunEnd::Unfinished => "unfinished".to_string(),
        }
    }
}

/// One run's numbers.
#[derive(Clone, Debug)]
struct RunNumbers {
    end: RunEnd,
    wall_s: Option<f64>,
    /// SGD steps made.
    steps: Option<u64>,
    curves: BTreeMap<&'static str, Curve>,
}

/// Metrics that tables show where a study names none.
const SHOWN: [&str; 4] = ["val/knn_top1", "val/linear_top1", "val/z_std", "train/loss"];

/// The metrics that the table of `study` shows, in order; no accuracy where images have no labels.
fn shown(study: &Study, arms: &[Arm], labelled: bool) -> Vec<AnswerMetric> {
    let column = |metric: &Metric| AnswerMetric {
        name: metric.name.to_string(),
        title: metric.title.to_string(),
        decimals: metric.decimals,
    };
    match &study.head.shows[..] {
        _ if arms.iter().all(|arm| arm.recipe.closed_form.is_some()) => {
            let of_field = |metric: &&Metric| FIELD.iter().any(|field| field.name == metric.name);
            let measured = arms.iter().any(|arm| arm.recipe.measure.measures_field());
            CLOSED_FORM.iter().filter(|metric| measured || !of_field(metric)).map(column).collect()
        }
        _ if arms.iter().all(|arm| arm.recipe.transfer.is_some()) => DETECTION.iter().map(column).collect(),
        shows => {
            let names: Vec<&str> = match shows {
                [] => SHOWN.to_vec(),
                shows => shows.iter().map(String::as_str).collect(),
            };
            let metrics = names.into_iter().map(metrics::of);
            metrics.filter(|metric| labelled || !metric.is_accuracy()).map(column).collect()
        }
    }
}

/// A study's answer and where its runs lie.
#[derive(Clone, Debug)]
pub struct Results {
    /// The study's folder.
    pub folder: PathBuf,
    /// What the runs say.
    pub answer: Answer,
}

/// What the runs of a study left.
struct Found<'a> {
    runs: BTreeMap<(&'a str, u64), RunNumbers>,
    machines: Vec<BTreeMap<String, serde_json::Value>>,
    environments: Vec<(String, Environment)>,
}

impl<'a> Found<'a> {
    fn below(folder: &Path, arms: &'a [Arm]) -> Result<Found<'a>> {
        let mut found = Found { runs: BTreeMap::new(), machines: Vec::new(), environments: Vec::new() };
        for (arm, &seed) in arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| (arm, seed))) {
            let path = run_folder(folder, &arm.name, seed);
            found.runs.insert((arm.name.as_str(), seed), numbers(&path, &arm.recipe)?);
            let environment = read_env(&path)?.unwrap_or_default();
            found.environments.push((format!("{} seed {seed}", arm.name), environment.clone()));
            let machine = machine_of(environment);
            if !machine.is_empty() && !found.machines.contains(&machine) {
                found.machines.push(machine);
            }
        }
        identity::check_alike(arms, folder)?;
        Ok(found)
    }

    fn curve(&self, arm: &str, seed: u64, metric: &str) -> Option<Curve> {
        let run = self.runs.get(&(arm, seed)).filter(|run| run.end == RunEnd::Finished)?;
        run.curves.get(metric).cloned()
    }

    /// A number of the machines; all arms of a study see the same images.
    fn of_machines(&self, key: &str) -> Option<f64> {
        self.machines.iter().find_map(|machine| machine.get(key)?.as_f64())
    }

    /// The classes of the images, where their number is known; 0 of images without labels.
    fn classes(&self) -> Option<u64> {
        self.of_machines("classes").map(|classes| classes as u64)
    }

    /// The paper's values, which are accuracies: none beside images without labels.
    fn paper<'s>(&self, study: &'s Study) -> Option<&'s Paper> {
        study.head.paper.as_ref().filter(|_| self.classes() != Some(0))
    }

    /// The row of `arm` in the table.
    fn row(&self, study: &Study, arm: &Arm) -> Result<AnswerArm> {
        let metrics = metrics::judged().filter_map(|metric| {
            let value =
                |&seed: &u64| Some((seed, self.curve(&arm.name, seed, metric.name)?.number(Of::End)?));
            let values: Vec<(u64, f64)> = arm.seeds.iter().filter_map(value).collect();
            let spread = spread(&values, metric.larger_is_better?, metric.range)?;
            Some((metric.name.to_string(), spread))
        });
        let metrics: BTreeMap<_, _> = metrics.collect();
        let run = |&seed: &u64| {
            let run = self.runs.get(&(arm.name.as_str(), seed));
            let end = run.map_or(RunEnd::Unfinished, |run| run.end).words();
            AnswerRun { seed, end, wall_s: run.and_then(|run| run.wall_s) }
        };
        let runs: Vec<AnswerRun> = arm.seeds.iter().map(run).collect();
        let images = self.of_machines("train_images").map(|images| images as usize);
        let facts = study.head.facts.iter().map(|fact| facts::fact(*fact, arm, &runs, images));
        Ok(AnswerArm {
            facts: facts.collect::<Result<_>>()?,
            arm: arm.name.clone(),
            title: arm.title.clone(),
            paper: self.paper(study).and_then(|paper| paper.values.get(&arm.name).copied()),
            slow: slow(&runs, metrics.get("val/knn_top1")),
            metrics,
            runs,
        })
    }

    /// The verdicts on the claims of `study`.
    fn claims(&self, study: &Study, arms: &[Arm], seeds: &[u64]) -> Vec<AnswerClaim> {
        let diverged = |arm: &str, seed: u64| match self.runs.get(&(arm, seed))?.end {
            RunEnd::Finished => Some(false),
            RunEnd::Diverged(_) => Some(true),
            RunEnd::Unfinished => None,
        };
        let steps = |arm: &str| {
            let finished =
                self.runs.iter().filter(|((of, _), run)| *of == arm && run.end == RunEnd::Finished);
            finished.filter_map(|(_, run)| run.steps).min()
        };
        let dim = |name: &str| {
            let recipe = &arms.iter().find(|arm| arm.name == name)?.recipe;
            Some(recipe.closed_form.as_ref().map_or(recipe.encoder.projector.dim, |world| world.outputs))
        };
        let curve = |arm: &str, seed: u64, metric: &str| self.curve(arm, seed, metric);
        let classes = self.classes();
        let numbers = Runs { curve: &curve, diverged: &diverged, classes, steps: &steps, dim: &dim };
        let names: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
        let judged = study.head.claim.iter().flat_map(|claim| claim.judge(&names, seeds, &numbers));
        judged.map(claim).collect()
    }
}

impl Results {
    /// Reads the runs of `arms`, each with its own seeds, below `folder`, which `command` made at
    /// `scale`.
    ///
    /// # Errors
    /// [`Error::Data`] for a damaged metrics file; a run that is not there counts as unfinished.
    pub fn read(study: &Study, arms: &[Arm], folder: &Path, scale: &str, command: &str) -> Result<Results> {
        let found = Found::below(folder, arms)?;
        let seeds: BTreeSet<u64> = arms.iter().flat_map(|arm| arm.seeds.iter().copied()).collect();
        let seeds: Vec<u64> = seeds.into_iter().collect();
        let labelled = found.classes() != Some(0);
        let paper = found.paper(study);
        let (recipe, differences) = recipes(arms);
        let answer = Answer {
            schema: Answer::SCHEMA,
            study: study.name.clone(),
            title: study.head.title.clone(),
            question: study.head.question.clone(),
            command: command.to_string(),
            scale: scale.to_string(),
            sim: env!("CARGO_PKG_VERSION").to_string(),
            paper: paper
                .map(|paper| AnswerPaper { r#where: paper.r#where.clone(), metric: paper.metric.clone() }),
            metrics: shown(study, arms, labelled),
            arms: arms.iter().map(|arm| found.row(study, arm)).collect::<Result<_>>()?,
            claims: found.claims(study, arms, &seeds),
            seeds,
            recipe,
            differences,
            cautions: cautions(&found.environments, found.classes()),
            machines: found.machines,
        };
        Ok(Results { folder: folder.to_path_buf(), answer })
    }
}

fn claim(judged: Judged) -> AnswerClaim {
    let Judged { signs, .. } = judged;
    let all = signs.holds + signs.fails;
    let (low, high) = clopper_pearson(signs.fails, all);
    AnswerClaim {
        // Of a claim about collapse the effect is the std.
        decimals: metrics::of(&judged.metric).decimals,
        claim: judged.text,
        metric: judged.metric,
        arm: judged.arm,
        asked: judged.asked,
        verdict: judged.verdict.word().to_string(),
        is_difference: judged.is_difference,
        effect: judged.effect,
        rankme: judged.rankme,
        evidence: Some(Evidence {
            seeds: judged.seeds,
            arms: judged.arms,
            holds: signs.holds,
            fails: signs.fails,
            ties: signs.ties,
            e_for: signs.e_for(),
            e_against: signs.e_against(),
            needed: signs.needed(),
            every: judged.every,
            failing: Share { count: signs.fails, all, interval_95: [low, high] },
            open: judged.open,
        }),
        why: judged.why,
    }
}

/// What a reader must know of runs in these environments, on images of so many classes.
fn cautions(environments: &[(String, Environment)], classes: Option<u64>) -> Vec<String> {
    let one_class = "the images have one class, of which every guess is right: accuracies say nothing";
    let mut cautions = crate::record::cautions(environments);
    cautions.extend(outdated(environments, &train::version()));
    cautions.extend(classes.filter(|classes| *classes == 1).map(|_| one_class.to_string()));
    cautions
}

/// The first arm's recipe, and the keys in which arms differ.
fn recipes(arms: &[Arm]) -> (Keys, BTreeMap<String, Vec<String>>) {
    let flat = |arm: &Arm| -> Keys {
        let leaves = arm.tree.leaves().into_iter().filter(|(key, _)| key != "seed");
        leaves.map(|(key, entry)| (key, entry.value().to_string())).collect()
    };
    let all: Vec<_> = arms.iter().map(flat).collect();
    let words = |values: Vec<Option<String>>| values.into_iter().map(Option::unwrap_or_default).collect();
    let rows = differing(&all.iter().collect::<Vec<_>>()).into_iter();
    let differences = rows.map(|(key, values)| (key, words(values))).collect();
    (all.into_iter().next().unwrap_or_default(), differences)
}

/// The first and the last value of every metric of the run in `path`, which has `epochs` epochs.
fn numbers(path: &Path, recipe: &Recipe) -> Result<RunNumbers> {
    let epochs = recipe.last_epoch();
    let end = match read_outcome(path)? {
        Some(Outcome::Finished) => RunEnd::Finished,
        Some(Outcome::Diverged { step }) => RunEnd::Diverged(step),
        None => RunEnd::Unfinished,
    };
    let mut numbers = RunNumbers { end, wall_s: None, steps: None, curves: BTreeMap::new() };
    let file = path.join(METRICS_FILE);
    if end == RunEnd::Unfinished {
        return Ok(numbers);
    }
    let damaged = |what: String| {
        Error::data(&file, format!("{what}, though the run has ended; remove its folder and run again"))
    };
    if !file.exists() {
        return Err(damaged("is missing".into()));
    }
    let table = read_metrics(&file)?;
    let last = table.last("epoch");
    if end == RunEnd::Finished && last != Some(epochs) {
        return Err(damaged(format!("does not reach epoch {epochs}")));
    }
    numbers.wall_s = table.last("wall_s");
    numbers.steps = table.last("step").map(|step| step as u64);
    for Metric { name, .. } in metrics::judged() {
        let Some(column) = table.column(name) else { continue };
        // The initial weights have the first row to themselves.
        let Some((start, later)) = column.split_first() else { continue };
        // Weights of others are no random ones.
        let start = start.filter(|_| recipe.encoder.init.is_none());
        let values = later.iter().flatten().copied().collect();
        numbers.curves.insert(name, Curve { start, values });
    }
    Ok(numbers)
}
