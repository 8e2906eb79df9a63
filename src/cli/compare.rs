//! `sim compare`: runs of several recipes side by side.

use super::as_given::as_given;
use super::flags::{json_flag, path, path_option};
use super::output::Output;
use crate::error::Result;
use crate::figures::{Item, comparison, differences, items, shown};
use crate::record::make_folder;
use clap::{ArgMatches, Command};
use console::measure_text_width;
use serde_json::json;
use std::path::PathBuf;

/// `sim compare` and its flags.
pub fn command() -> Command {
    Command::new("compare")
        .about("Set runs side by side: last values, where their recipes differ, curves")
        .arg(
            path(
                "paths",
                "DIR",
                "Folders of a run, of an arm (its seeds' median is shown) or of a study (its arms)",
            )
            .num_args(1..),
        )
        .arg(path_option("out", "DIR", "Draw the curves there, as compare.csv, .svg and .png"))
        .arg(json_flag())
}

/// Runs `sim compare` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let paths: Vec<PathBuf> = matches.get_many("paths").into_iter().flatten().cloned().collect();
    let items = items(&paths)?;
    if matches.get_flag("json") {
        output.line(&as_json(&items)?)?;
    } else {
        print(&items, output)?;
    }
    if let Some(folder) = matches.get_one::<PathBuf>("out") {
        make_folder(folder)?;
        let figure = comparison(&items, &as_given())?;
        for path in figure.save(&folder.join("compare"))? {
            output.tell_of(&path, &path.display().to_string())?;
        }
    }
    Ok(0)
}

/// The table of last values, then that of the keys in which recipes differ.
fn print(items: &[Item], output: &Output) -> Result<()> {
    let metrics = shown(items)?;
    let mut head = vec!["runs".to_string(), "finished".into()];
    head.extend(metrics.iter().map(|metric| metric.title.to_string()));
    let mut rows = vec![head];
    for item in items {
        let mut row = vec![item.name.clone(), format!("{} of {}", item.finished(), item.runs.len())];
        for metric in &metrics {
            let decimals = metric.decimals;
            let value = item.median(metric.name)?;
            row.push(value.map_or_else(|| "-".to_string(), |value| format!("{value:.decimals$}")));
        }
        rows.push(row);
    }
    output.table(&rows)?;
    if items.iter().any(|item| item.runs.len() > 1) {
        output.line("medians over the runs of a row")?;
    }
    let differing = differences(items);
    output.line("")?;
    if differing.is_empty() {
        return output.line("the recipes are the same but for their seeds");
    }
    // One column for each item would be wider than any terminal where there are many.
    let longest = items.iter().map(|item| measure_text_width(&item.name)).max().unwrap_or(0);
    for (key, values) in differing {
        output.line(&key)?;
        for (item, value) in items.iter().zip(values) {
            let space = " ".repeat(longest - measure_text_width(&item.name));
            let value = value.unwrap_or_else(|| "-".into());
            output.prose(&format!("  {}{space}   {value}", item.name), longest + 5)?;
        }
    }
    Ok(())
}

fn as_json(items: &[Item]) -> Result<String> {
    let metrics = shown(items)?;
    let mut rows = Vec::new();
    for item in items {
        let mut values = serde_json::Map::new();
        for metric in &metrics {
            let by_seed: serde_json::Map<_, _> = item
                .last(metric.name)?
                .into_iter()
                .map(|(seed, value)| (seed.to_string(), json!(value)))
                .collect();
            values.insert(metric.name.into(), by_seed.into());
        }
        let runs: Vec<_> = item.runs.iter().map(|run| run.path.display().to_string()).collect();
        rows.push(json!({"name": item.name, "runs": runs, "finished": item.finished(), "last": values}));
    }
    let differing: serde_json::Map<_, _> =
        differences(items).into_iter().map(|(key, values)| (key, json!(values))).collect();
    Ok(json!({"items": rows, "differing": differing}).to_string())
}
