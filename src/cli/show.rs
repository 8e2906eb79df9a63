//! `sim show`: a study's question, arms and claims, and who set each key of its recipes; or every
//! key and what it means.

use super::flags::{given, json_flag, layer_flags, on_studies, request, study, study_command, switch};
use super::output::Output;
use crate::error::{Error, Result};
use crate::recipe::key::Key;
use crate::recipe::keys::KEYS;
use crate::study::{Arm, Study, keys};
use clap::{ArgMatches, Command};
use console::measure_text_width;
use serde_json::json;

/// `sim show`, with one subcommand per study whose flags are the study's own.
pub fn command(studies: &[Study]) -> Command {
    let about = "Show a study: its question, arms and claims, and who set each key of its recipes";
    let flags = layer_flags().into_iter().chain([json_flag()]);
    on_studies("show", about, studies.iter().map(study_command), flags).subcommand_required(false).arg(
        switch("keys", "List every key of study files and recipes: its meaning, values, default and source"),
    )
}

/// Runs `sim show` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, studies: &[Study], output: &Output) -> Result<i32> {
    let Some((name, matches)) = matches.subcommand() else {
        return match matches.get_flag("keys") {
            true => all_keys(matches.get_flag("json"), output),
            false => {
                Err(Error::Usage("name a study (sim list), or ask for all keys: sim show --keys".into()))
            }
        };
    };
    let study = study(name, studies, "show")?;
    let request = request(matches, given(study, matches));
    let arms = study.resolve(&request)?;
    if matches.get_flag("json") {
        for arm in &arms {
            let keys: serde_json::Map<String, serde_json::Value> = arm
                .tree
                .leaves()
                .into_iter()
                .map(|(key, entry)| {
                    (key, json!({"value": entry.value(), "set_by": entry.origin.source.name}))
                })
                .collect();
            output.line(&json!({"study": study.name, "arm": arm.name, "recipe": keys}).to_string())?;
        }
        return Ok(0);
    }
    output.prose(&format!("{}\n{}", study.head.title, study.head.question), 0)?;
    if let Some(paper) = &study.head.paper {
        let values: Vec<String> = paper.values.iter().map(|(arm, value)| format!("{arm} {value}")).collect();
        output.prose(&format!("Paper, {}: {}: {}", paper.r#where, paper.metric, values.join(", ")), 2)?;
    }
    for flag in &study.head.flag {
        output.prose(&format!("\n--{} {}\n  {}", flag.name, flag.values, flag.help), 2)?;
    }
    output.line("\nClaims")?;
    for claim in &study.head.claim {
        let asked = claim.asked(claim.than.as_deref());
        let what = match &claim.metric {
            Some(metric) => format!("{metric} of {} is {asked}", claim.arm),
            None => format!("{} {asked}", claim.arm),
        };
        output.prose(&format!("  {}\n      {what}", claim.text), 6)?;
    }
    for (index, arm) in arms.iter().enumerate() {
        let what = if index == 0 { "the whole recipe" } else { "where it differs from the first arm" };
        output.line(&format!("\nArm {}: {what}", arm.name))?;
        let rows = rows(arm, arms.first().filter(|_| index > 0));
        print(&rows, output)?;
    }
    Ok(0)
}

/// A value of more characters has a row of its own width.
const LONG_VALUE: usize = 32;

/// Prints keys, values and who set them in columns.
fn print(rows: &[[String; 3]], output: &Output) -> Result<()> {
    let width = |column: usize, most: usize| {
        let widths = rows.iter().map(|row| measure_text_width(&row[column]));
        widths.filter(|width| *width <= most).max().unwrap_or(0)
    };
    let gap = "  ";
    let (keys, origins) = (width(0, usize::MAX), width(2, usize::MAX));
    let left = output.width().saturating_sub(keys + origins + 2 * gap.len());
    // A value that is longer pushes what stands behind it in its own row only.
    let values = width(1, LONG_VALUE.min(left));
    for [key, value, origin] in rows {
        let begin = format!("{key:<keys$}{gap}{value:<values$}");
        let end = measure_text_width(&begin) + gap.len() + measure_text_width(origin);
        match end <= output.width() {
            true => output.line(&format!("{begin}{gap}{origin}"))?,
            // Without room for it below the value.
            false => output.lines(&[begin.trim_end().into(), format!("{:keys$}{gap}{origin}", "")])?,
        }
    }
    Ok(())
}

/// Key, value and layer of every key, or of those that differ from `reference`.
fn rows(arm: &Arm, reference: Option<&Arm>) -> Vec<[String; 3]> {
    let known: Vec<(String, toml::Value)> = reference
        .map(|arm| arm.tree.leaves().into_iter().map(|(key, e)| (key, e.value())).collect())
        .unwrap_or_default();
    let differs = |key: &String, value: &toml::Value| !known.iter().any(|(k, v)| k == key && v == value);
    let leaves = arm.tree.leaves().into_iter().filter(|(key, entry)| differs(key, &entry.value()));
    leaves
        .map(|(key, entry)| [format!("  {key}"), entry.value().to_string(), entry.origin.source.name.clone()])
        .collect()
}

/// Every key with its meaning.
fn all_keys(json: bool, output: &Output) -> Result<i32> {
    let defaults = keys::defaults()?;
    for (index, key) in keys::STUDY.iter().chain(KEYS).enumerate() {
        let Key { name, kind, range, source, meaning, .. } = key;
        let default = keys::default_of(key, &defaults);
        if json {
            let (kind, range) = (kind.to_string(), range.to_string());
            let line = json!({"key": name, "meaning": meaning, "value": kind, "range": range,
                "default": default, "source": source});
            output.line(&line.to_string())?;
            continue;
        }
        match index {
            0 => output.line("Keys of a study file")?,
            n if n == keys::STUDY.len() => output.line("\nKeys of a recipe")?,
            _ => {}
        }
        let default = match default.as_str() {
            "" => "required in its table".to_string(),
            default => format!("default {default}"),
        };
        let parts = [kind.to_string(), range.to_string(), default, format!("from {source}")];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        output.prose(&format!("  {name}\n      {meaning}\n      {}", parts.join("; ")), 6)?;
    }
    Ok(0)
}
