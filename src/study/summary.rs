//! `summary.csv` and `claims.csv`: a study's answer as tables.

use super::results::Results;
use crate::error::Result;
use crate::record::{Answer, Spread, csv_bytes, write_durable};
use std::path::PathBuf;

/// The columns of a spread. The mean and its interval (Student's t, cut where the metric's range
/// ends) are there for who wants them; no verdict rests on them.
const SPREAD: [&str; 10] = [
    "seeds",
    "median",
    "lower_quartile",
    "upper_quartile",
    "worst",
    "best",
    "mean",
    "half_width_95",
    "mean_low_95",
    "mean_high_95",
];

impl Results {
    /// Writes `summary.csv`, `claims.csv` and `answer.json` into the study's folder and returns
    /// their paths.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] when one cannot be written.
    pub fn write(&self) -> Result<[PathBuf; 3]> {
        let paths = ["summary.csv", "claims.csv"].map(|name| self.folder.join(name));
        write_durable(&paths[0], &csv_bytes(arms(&self.answer))?)?;
        write_durable(&paths[1], &csv_bytes(claims(&self.answer))?)?;
        let [summary, claims] = paths;
        Ok([summary, claims, self.answer.write(&self.folder)?])
    }
}

/// A row for each arm and metric.
fn arms(answer: &Answer) -> Vec<Vec<String>> {
    let mut rows = vec![[&["arm", "metric"][..], &SPREAD].concat().into_iter().map(String::from).collect()];
    for arm in &answer.arms {
        for (metric, spread) in &arm.metrics {
            rows.push([vec![arm.arm.clone(), metric.clone()], cells(spread)].concat());
        }
    }
    rows
}

/// A row for each claim; the spread is that of its effect.
fn claims(answer: &Answer) -> Vec<Vec<String>> {
    let before =
        ["claim", "metric", "arm", "asked", "verdict", "holds", "fails", "ties", "e_for", "e_against"];
    let mut rows = vec![[&before[..], &SPREAD, &["why"]].concat().into_iter().map(String::from).collect()];
    for claim in &answer.claims {
        let words = [&claim.claim, &claim.metric, &claim.arm, &claim.asked, &claim.verdict];
        let mut row: Vec<String> = words.into_iter().cloned().collect();
        match &claim.evidence {
            Some(evidence) => {
                row.extend([evidence.holds, evidence.fails, evidence.ties].map(|count| count.to_string()));
                row.extend([evidence.e_for, evidence.e_against].map(|e| e.to_string()));
            }
            None => row.extend(std::iter::repeat_n(String::new(), before.len() - row.len())),
        }
        row.extend(claim.effect.as_ref().map_or_else(|| vec![String::new(); SPREAD.len()], cells));
        row.push(claim.why.clone().unwrap_or_default());
        rows.push(row);
    }
    rows
}

/// The cells of [`SPREAD`].
fn cells(spread: &Spread) -> Vec<String> {
    let end = |index: usize, ends: Option<[f64; 2]>| ends.map(|ends| ends[index]);
    let numbers = [
        spread.median,
        end(0, spread.quartiles),
        end(1, spread.quartiles),
        spread.worst,
        spread.best,
        spread.mean,
        spread.half_width_95,
        end(0, spread.interval_95),
        end(1, spread.interval_95),
    ];
    let text = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    std::iter::once(spread.seeds.to_string()).chain(numbers.map(text)).collect()
}
