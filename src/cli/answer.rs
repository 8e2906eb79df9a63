//! The answer of `sim run`: a table of arms, verdicts and paths, or one JSON line.

use super::output::Output;
use crate::error::{Error, Result};
use crate::record::Answer;
use serde_json::json;
use std::path::PathBuf;

/// Characters before a claim: its verdict and a gap.
const VERDICT: usize = 14;

/// The whole answer as one JSON line that also names the files in `paths`.
pub fn summary_line(answer: &Answer, paths: &[PathBuf]) -> Result<String> {
    let fail = |e: serde_json::Error| Error::Failure(format!("cannot write the answer: {e}"));
    let mut line = serde_json::to_value(answer).map_err(fail)?;
    line["event"] = json!("summary");
    line["files"] = json!(paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    Ok(line.to_string())
}

/// Prints the table of arms, the verdicts and `paths`.
pub fn print(answer: &Answer, paths: &[PathBuf], output: &Output) -> Result<()> {
    let paper = answer.arms.iter().any(|arm| arm.paper.is_some());
    let (header, arms) = answer.table();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(arms).collect();
    output.prose(&format!("\n{}: {}\n", answer.title, answer.question), 0)?;
    output.table(&rows)?;
    output.prose(&format!("\n{}", answer.cells()), 0)?;
    if let (true, Some(paper)) = (paper, &answer.paper) {
        output.prose(&format!("paper: {}, {}", paper.metric, paper.r#where), 0)?;
    }
    for caution in &answer.cautions {
        output.prose(&format!("\ncaution: {caution}"), 0)?;
    }
    if !answer.claims.is_empty() {
        output.line("")?;
    }
    for claim in &answer.claims {
        output.prose(&format!("{:<12}  {}", claim.verdict, claim.claim), VERDICT)?;
        output.prose(&format!("{:VERDICT$}{}", "", claim.detail()), VERDICT)?;
    }
    output.line("")?;
    for path in paths {
        output.line(&path.display().to_string())?;
    }
    Ok(())
}
