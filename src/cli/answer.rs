//! A study's answer for people and for programs: table of arms, verdicts, paths.

use super::output::Output;
use super::table::table;
use crate::error::Result;
use crate::study::{METRICS, Results, RunEnd, Study, Verdict};
use serde_json::json;
use std::path::PathBuf;

/// The whole answer as one JSON line.
pub fn summary_line(study: &Study, results: &Results, paths: &[PathBuf]) -> String {
    let arms = results.arms.iter().map(|arm| {
        let metrics: serde_json::Map<_, _> = arm
            .metrics
            .iter()
            .map(|(name, e)| {
                (name.to_string(), json!({"mean": e.mean, "half_width_95": e.half_width, "seeds": e.n}))
            })
            .collect();
        json!({"arm": arm.name, "metrics": metrics, "paper": arm.paper, "runs": ends(arm.ends.as_slice())})
    });
    let arms: Vec<_> = arms.collect();
    let claims: Vec<_> = results
        .claims
        .iter()
        .map(|claim| {
            json!({
                "claim": claim.text, "metric": claim.metric, "arm": claim.arm, "asked": claim.asked,
                "verdict": claim.verdict.word(), "effect": claim.effect.map(|e| e.mean),
                "half_width_95": claim.effect.and_then(|e| e.half_width), "why": claim.why,
            })
        })
        .collect();
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    json!({"event": "summary", "study": study.name, "seeds": results.seeds, "arms": arms, "claims": claims,
        "files": paths})
    .to_string()
}

/// "3 finished", "2 finished, 1 diverged at step 40".
fn ends(ends: &[RunEnd]) -> String {
    let count = |end| ends.iter().filter(|other| **other == end).count();
    let mut parts = vec![format!("{} finished", count(RunEnd::Finished))];
    parts.extend(ends.iter().filter_map(|end| match end {
        RunEnd::Diverged(step) => Some(format!("1 diverged at step {step}")),
        _ => None,
    }));
    if count(RunEnd::Unfinished) > 0 {
        parts.push(format!("{} unfinished", count(RunEnd::Unfinished)));
    }
    parts.join(", ")
}

/// Table, verdicts and paths.
pub fn print(study: &Study, results: &Results, paths: &[PathBuf], output: &Output) -> Result<()> {
    let shown = &METRICS[..4];
    let troubled = results.arms.iter().any(|arm| arm.ends.iter().any(|end| *end != RunEnd::Finished));
    let paper = results.arms.iter().any(|arm| arm.paper.is_some());
    let mut header = vec!["arm".to_string()];
    header.extend(shown.iter().map(|(.., title)| title.to_string()));
    header.extend(paper.then(|| "paper".to_string()));
    header.extend(troubled.then(|| "runs".to_string()));
    let mut rows = vec![header];
    for arm in &results.arms {
        let mut row = vec![arm.title.clone()];
        row.extend(shown.iter().map(|(metric, ..)| {
            let decimals = if metric.ends_with("top1") { 1 } else { 3 };
            arm.metrics
                .get(metric)
                .map_or_else(|| "-".to_string(), |e| with_interval(e.mean, e.half_width, decimals))
        }));
        row.extend(paper.then(|| arm.paper.map_or_else(|| "-".to_string(), |value| format!("{value:.1}"))));
        row.extend(troubled.then(|| ends(&arm.ends)));
        rows.push(row);
    }
    output.line(&format!("\n{}: {}\n", study.head.title, study.head.question))?;
    for line in table(&rows) {
        output.line(&line)?;
    }
    let seeds = results.seeds.len();
    let interval = if seeds > 1 { ", mean ± 95 % interval" } else { "" };
    output.line(&format!("\n{seeds} {}{interval}", if seeds == 1 { "seed" } else { "seeds" }))?;
    if let (true, Some(paper)) = (paper, &results.paper) {
        output.line(&format!("paper: {}, {}", paper.metric, paper.r#where))?;
    }
    if !results.claims.is_empty() {
        output.line("")?;
    }
    for claim in &results.claims {
        let decimals = if claim.metric.ends_with("top1") { 1 } else { 3 };
        let effect = claim.effect.map_or_else(String::new, |e| {
            let what = if claim.is_difference { "difference " } else { "" };
            format!(": {what}{}", with_interval(e.mean, e.half_width, decimals))
        });
        let why = claim.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        output.line(&format!("{:<12}  {}", claim.verdict.word(), claim.text))?;
        output
            .line(&format!("              {} of {} {}{effect}{why}", claim.metric, claim.arm, claim.asked))?;
    }
    output.line("")?;
    for path in paths {
        output.line(&path.display().to_string())?;
    }
    Ok(())
}

fn with_interval(mean: f64, half_width: Option<f64>, decimals: usize) -> String {
    match half_width {
        Some(half) => format!("{mean:.decimals$} ± {half:.decimals$}"),
        None => format!("{mean:.decimals$}"),
    }
}

/// "23 claims of 7 studies: 15 reproduced, 3 contradicted, 5 undecided".
pub fn tally(verdicts: &[Verdict], studies: usize) -> String {
    let count = |verdict| verdicts.iter().filter(|other| **other == verdict).count();
    let all = [Verdict::Reproduced, Verdict::Contradicted, Verdict::Undecided];
    let parts: Vec<String> =
        all.into_iter().map(|verdict| format!("{} {}", count(verdict), verdict.word())).collect();
    format!(
        "\n{} of {}: {}",
        super::count(verdicts.len(), "claim"),
        super::count(studies, "study"),
        parts.join(", ")
    )
}
