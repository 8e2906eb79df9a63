//! `sim list`: the studies and the scales.

use super::output::Output;
use super::table::table;
use crate::error::Result;
use crate::study::{Scale, Study, embedded};
use clap::{ArgMatches, Command};
use serde_json::json;

/// The command.
pub fn command() -> Command {
    Command::new("list").about("List the studies and the scales").arg(super::json_flag())
}

/// Runs it.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let scales: Vec<(&str, Scale)> =
        embedded::names("scale").map(|name| Ok((name, Scale::find(name)?))).collect::<Result<_>>()?;
    if matches.get_flag("json") {
        for study in studies {
            let arms: Vec<&str> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
            let line = json!({"study": study.name, "title": study.head.title,
                "question": study.head.question, "arms": arms});
            output.line(&line.to_string())?;
        }
        for (name, scale) in scales {
            output.line(&json!({"scale": name, "about": scale.about, "seeds": scale.seeds}).to_string())?;
        }
        return Ok(0);
    }
    output.line("Studies (sim run STUDY, sim show STUDY)")?;
    let rows: Vec<Vec<String>> = studies
        .iter()
        .map(|study| vec![format!("  {}  {}", pad(&study.name), study.head.question)])
        .collect();
    for line in table(&rows) {
        output.line(&line)?;
    }
    output.line("\nScales (--scale SCALE)")?;
    for (name, scale) in scales {
        output.line(&format!("  {}  {}", pad(name), scale.about.unwrap_or_default()))?;
    }
    Ok(0)
}

fn pad(name: &str) -> String {
    // As wide as the longest name of a study in the folder.
    format!("{name:<11}")
}
