//! `answer.json` in a study's folder: all that a table or a report says of the study, beside its
//! curves.

use super::digest::digest_bytes;
use super::durable::{read_if_there, write_durable};
use super::spread::{Evidence, Share, Spread};
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file's name.
pub const ANSWER_FILE: &str = "answer.json";
/// Grows when an older program could not read the file.
const SCHEMA: u32 = 1;

/// The column of runs that went wrong.
const SLOW: &str = "slow or diverged";
/// RankMe's digits behind the point.
const RANK_DECIMALS: usize = 1;

/// What stands between the answer and the SHA-256 of the bytes before it.
const CHECKSUM: &str = ",\n  \"answer_sha256\": \"";

/// A study's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The layout of the file.
    pub schema: u32,
    /// The study's name.
    pub study: String,
    /// Its title.
    pub title: String,
    /// Its question.
    pub question: String,
    /// The command that asked it.
    pub command: String,
    /// The scale.
    pub scale: String,
    /// The version of the program that answered.
    pub sim: String,
    /// The paper's place, and what its numbers measure.
    pub paper: Option<AnswerPaper>,
    /// The seeds of all arms; which of them an arm has, its runs say.
    pub seeds: Vec<u64>,
    /// The metrics that tables show, in order.
    pub metrics: Vec<AnswerMetric>,
    /// The arms in order.
    pub arms: Vec<AnswerArm>,
    /// The claims in order.
    pub claims: Vec<AnswerClaim>,
    /// The recipe of the first arm: dotted key → value as TOML, without the seed.
    pub recipe: BTreeMap<String, String>,
    /// The keys in which arms differ: one value for each arm, empty where it has none.
    pub differences: BTreeMap<String, Vec<String>>,
    /// What the runs' env.json files say, each different one once.
    pub machines: Vec<BTreeMap<String, serde_json::Value>>,
    /// What a reader of the numbers must know: that runs were computed in different ways, for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
}

/// Where the paper asks the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerPaper {
    /// Section, table or figure.
    pub r#where: String,
    /// What its numbers measure.
    pub metric: String,
}

/// A column of the table of arms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerMetric {
    /// Its column in metrics.csv.
    pub name: String,
    /// A short title with its unit.
    pub title: String,
    /// Digits behind the point.
    pub decimals: usize,
}

/// One arm over all seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerArm {
    /// The name of its folder.
    pub arm: String,
    /// Its name in tables.
    pub title: String,
    /// The paper's number.
    pub paper: Option<f64>,
    /// Metric → its spread over the runs that finished.
    pub metrics: BTreeMap<String, Spread>,
    /// The share of runs that diverged or ended more than 5 points below the arm's median kNN, of
    /// those that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<Share>,
    /// What its table says of it beside metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<AnswerFact>,
    /// Its runs, one for each seed.
    pub runs: Vec<AnswerRun>,
}

/// A cell of the table of arms that is no metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerFact {
    /// The column.
    pub title: String,
    /// The cell.
    pub value: String,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerRun {
    /// The seed.
    pub seed: u64,
    /// "finished", "unfinished" or "diverged at step 40".
    pub end: String,
    /// Seconds of training and measuring.
    pub wall_s: Option<f64>,
}

/// A claim, judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerClaim {
    /// In words.
    pub claim: String,
    /// The metric; empty for a claim about how runs end that names none.
    pub metric: String,
    /// The arm.
    pub arm: String,
    /// What was asked of it: "not worse than k=1 by more than 2".
    pub asked: String,
    /// "reproduced", "contradicted" or "undecided".
    pub verdict: String,
    /// The effect's digits behind the point.
    pub decimals: usize,
    /// Whether the effect is a difference between arms, not a value.
    pub is_difference: bool,
    /// The effect over seeds; its worst seed is the least favourable to the claim.
    pub effect: Option<Spread>,
    /// RankMe over seeds, where the claim is about collapse and the effect is the std.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rankme: Option<Spread>,
    /// In how many seeds it holds; answers of earlier versions judged by intervals of means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Why it is undecided, where that is not for want of evidence.
    pub why: Option<String>,
}

impl AnswerArm {
    /// A metric's spread, "-" where there is none.
    pub fn text(&self, metric: &AnswerMetric) -> String {
        self.metrics.get(&metric.name).map_or_else(|| "-".to_string(), |n| n.text(metric.decimals))
    }

    /// "3 finished", "2 finished, 2 diverged at step 40".
    pub fn ends(&self) -> String {
        let count = |end: &str| self.runs.iter().filter(|run| run.end == end).count();
        let mut parts = vec![format!("{} finished", count("finished"))];
        let mut others: Vec<&str> = self.runs.iter().map(|run| run.end.as_str()).collect();
        others.retain(|end| end.starts_with("diverged"));
        others.sort_unstable();
        parts.extend(others.chunk_by(|a, b| a == b).map(|same| format!("{} {}", same.len(), same[0])));
        if count("unfinished") > 0 {
            parts.push(format!("{} unfinished", count("unfinished")));
        }
        parts.join(", ")
    }
}

impl AnswerClaim {
    /// "val/knn_top1 of k=10 not worse than k=1 by more than 2: 8 of 8 seeds, E = 57; difference
    /// median +0.4, quartiles -0.9 to 1.3, worst -1.8".
    pub fn detail(&self) -> String {
        let AnswerClaim { metric, arm, asked, decimals, is_difference, .. } = self;
        let of = if metric.is_empty() { String::new() } else { format!("{metric} of ") };
        let evidence = self.evidence.as_ref().filter(|evidence| !evidence.seeds.is_empty());
        let what = match (is_difference, &self.rankme) {
            (true, _) => "difference",
            (false, Some(_)) => "std",
            (false, None) => "",
        };
        let effect = self.effect.as_ref().map(|effect| effect.sentence(what, *decimals, *is_difference));
        let rank = self.rankme.as_ref().map(|rank| rank.sentence("RankMe", RANK_DECIMALS, false));
        // Median and worst are of the others, and must not be read as of all.
        let lacking = evidence.zip(self.effect.as_ref()).and_then(|(evidence, effect)| {
            let all = evidence.seeds.len();
            let lacking = all.checked_sub(effect.seeds).filter(|lacking| *lacking > 0)?;
            Some(format!("no finite number of {lacking} of {all} seeds"))
        });
        let found = evidence.map(|evidence| evidence.text(&self.verdict));
        let found = found.into_iter().chain(effect).chain(rank).chain(lacking);
        let found = match found.collect::<Vec<_>>().join("; ") {
            nothing if nothing.is_empty() => nothing,
            found => format!(": {found}"),
        };
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        format!("{of}{arm} {asked}{found}{why}")
    }
}

impl Answer {
    /// Whether the images that the runs saw have labels, as far as their machines tell.
    pub fn is_labelled(&self) -> bool {
        let classes = |machine: &BTreeMap<String, serde_json::Value>| machine.get("classes")?.as_u64();
        self.machines.iter().find_map(classes) != Some(0)
    }

    /// The table of arms: its header, then a row for each arm.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let troubled = self.arms.iter().any(|arm| arm.runs.iter().any(|run| run.end != "finished"));
        let slow = self.arms.iter().any(|arm| arm.slow.is_some_and(|share| share.count > 0));
        let paper = self.arms.iter().any(|arm| arm.paper.is_some());
        let mut header = vec!["arm".to_string()];
        header.extend(self.metrics.iter().map(|metric| metric.title.clone()));
        header.extend(paper.then(|| "paper".to_string()));
        header
            .extend(self.arms.first().into_iter().flat_map(|arm| &arm.facts).map(|fact| fact.title.clone()));
        header.extend(slow.then(|| SLOW.to_string()));
        header.extend(troubled.then(|| "runs".to_string()));
        let row = |arm: &AnswerArm| {
            let mut row = vec![arm.title.clone()];
            row.extend(self.metrics.iter().map(|metric| arm.text(metric)));
            row.extend(
                paper.then(|| arm.paper.map_or_else(|| "-".to_string(), |value| format!("{value:.1}"))),
            );
            row.extend(arm.facts.iter().map(|fact| fact.value.clone()));
            row.extend(slow.then(|| arm.slow.map_or_else(|| "-".to_string(), |share| share.text())));
            row.extend(troubled.then(|| arm.ends()));
            row
        };
        (header, self.arms.iter().map(row).collect())
    }

    /// "1 seed", "8 seeds" or, where arms have different numbers of them, "8 to 20 seeds".
    pub fn counted_seeds(&self) -> String {
        let of_arms = || self.arms.iter().map(|arm| arm.runs.len());
        let (least, most) = (of_arms().min().unwrap_or(0), of_arms().max().unwrap_or(0));
        let s = if most == 1 { "" } else { "s" };
        if least == most { format!("{most} seed{s}") } else { format!("{least} to {most} seed{s}") }
    }

    /// What the cells of the table of arms are: "8 seeds, median [worst, best]", and what the
    /// column of slow runs counts where there is one.
    pub fn cells(&self) -> String {
        let seeds = self.counted_seeds();
        if self.seeds.len() <= 1 {
            return seeds;
        }
        let is_of_medians = self.arms.iter().flat_map(|arm| arm.metrics.values()).any(|s| s.median.is_some());
        if !is_of_medians {
            return format!("{seeds}, mean ± 95 % interval of the mean (Student's t)");
        }
        match self.arms.iter().any(|arm| arm.slow.is_some_and(|share| share.count > 0)) {
            true => format!(
                "{seeds}, median [worst, best]; slow: more than 5 points of kNN below the arm's median, with the share's 95 % \
                 interval (Clopper-Pearson)"
            ),
            false => format!("{seeds}, median [worst, best]"),
        }
    }

    /// The schema that this program writes.
    pub const SCHEMA: u32 = SCHEMA;

    /// Writes it into the study's folder; its path.
    ///
    /// # Errors
    /// [`Error::Disk`] when it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(ANSWER_FILE);
        let fail = |e: serde_json::Error| Error::Failure(format!("{}: {e}", path.display()));
        let mut text = serde_json::to_string_pretty(self).map_err(fail)?;
        text.truncate(text.len().saturating_sub("\n}".len()));
        let sum = digest_bytes(text.as_bytes()).sha256;
        text.push_str(&format!("{CHECKSUM}{sum}\"\n}}\n"));
        write_durable(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Reads the answer in a study's folder; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Data`] when it is damaged, or of a newer program.
    pub fn read(folder: &Path) -> Result<Option<Answer>> {
        let path = folder.join(ANSWER_FILE);
        let Some(bytes) = read_if_there(&path, files::TABLE)? else { return Ok(None) };
        let damaged = |e: serde_json::Error| {
            Error::data(&path, format!("damaged ({e}); the command that made it writes it again"))
        };
        // What stands before the checksum, where there is one: earlier versions wrote none.
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Some((before, sum)) = text.rsplit_once(CHECKSUM)
            && sum.split('"').next() != Some(&digest_bytes(before.as_bytes()).sha256)
        {
            let what = "damaged (it does not match its checksum); the command that made it writes it again";
            return Err(Error::data(&path, what));
        }
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        if let Some(schema) = value["schema"].as_u64().filter(|schema| *schema > u64::from(SCHEMA)) {
            return Err(Error::data(&path, format!("of schema {schema}, which a newer sim reads")));
        }
        serde_json::from_value(value).map(Some).map_err(damaged)
    }
}
