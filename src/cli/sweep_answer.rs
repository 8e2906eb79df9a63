//! What `sim sweep` prints: grids of numbers, or a line for each cell, and where the files are.

use super::output::Output;
use crate::error::Result;
use crate::figures::Sweep;
use crate::measure::metrics;
use crate::record::{cautions, make_folder, outdated, read_env, run_folder, write_durable};
use crate::train::version;
use serde_json::json;

/// Prints grids, or with `json` a line for each cell, and writes `sweep.csv` and the figure.
pub fn answer(sweep: &Sweep, command: &str, json: bool, output: &Output) -> Result<()> {
    // The tables come first: a full disk must not take the answer along.
    if json {
        lines(sweep, output)?;
    } else {
        print(sweep, output)?;
    }
    let csv = sweep.folder.join("sweep.csv");
    write_durable(&csv, &sweep.csv()?)?;
    let figures = sweep.folder.join("figures");
    make_folder(&figures)?;
    let mut paths = vec![csv];
    paths.extend(sweep.figure(command).save(&figures.join("sweep"))?);
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if json {
        let keys: Vec<&str> = sweep.axes.iter().map(|axis| axis.sets.as_str()).collect();
        let line = json!({"event": "summary", "study": sweep.study.name, "arm": sweep.arm, "over": keys,
            "cells": sweep.cells.len(), "seeds": sweep.seeds, "files": paths, "cautions": cautions_of(sweep)?});
        return output.line(&line.to_string());
    }
    for caution in cautions_of(sweep)? {
        output.prose(&format!("\ncaution: {caution}"), 0)?;
    }
    output.line("")?;
    output.lines(&paths)
}

fn print(sweep: &Sweep, output: &Output) -> Result<()> {
    let [first, rest @ ..] = sweep.axes else { return Ok(()) };
    output.line(&format!(
        "\n{}: {}, like the arm {}\n",
        sweep.study.head.title,
        sweep.keys(" × "),
        sweep.arm
    ))?;
    for (panel, title) in sweep.panels() {
        let digits = metrics::of(panel).decimals;
        output.line(title)?;
        let corner = rest.first().map_or_else(String::new, |second| format!("{} \\ ", second.key));
        let mut rows = vec![vec![format!("  {corner}{}", first.key)]];
        rows[0].extend(first.values.iter().cloned());
        for (index, label) in sweep.rows().iter().enumerate() {
            let mut row = vec![format!("  {label}")];
            let cells = sweep.values.chunks(first.values.len()).nth(index).unwrap_or_default();
            // What rounds to nothing has no sign.
            let zero = 0.5 * 10f64.powi(-(digits as i32));
            let text = |[_, median, _]: [f64; 3]| match median.abs() < zero {
                true => format!("{:.digits$}", 0.0),
                false => format!("{median:.digits$}"),
            };
            row.extend(cells.iter().map(|v| v.quartiles(panel).map_or_else(|| "-".to_string(), text)));
            rows.push(row);
        }
        output.table(&rows)?;
        output.line("")?;
    }
    let seeds = super::count(sweep.seeds.len(), "seed");
    let medians = if sweep.seeds.len() > 1 { ", medians" } else { "" };
    output.prose(&format!("{seeds}{medians}; {}", sweep.world()), 0)
}

fn lines(sweep: &Sweep, output: &Output) -> Result<()> {
    for (cell, values) in sweep.cells.iter().zip(&sweep.values) {
        let mut line = json!({"event": "cell", "study": sweep.study.name, "arm": cell.arm.name});
        for (axis, &at) in sweep.axes.iter().zip(&cell.place) {
            line[&axis.sets] = json!(axis.values[at]);
        }
        for (panel, _) in sweep.panels() {
            line[panel] = json!(values.quartiles(panel).map(|[_, median, _]| median));
        }
        output.line(&line.to_string())?;
    }
    Ok(())
}

/// What a reader of the grids must know of the runs in their cells.
fn cautions_of(sweep: &Sweep) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    for (cell, seed) in sweep.cells.iter().flat_map(|cell| sweep.seeds.iter().map(move |seed| (cell, seed))) {
        let path = run_folder(&sweep.folder, &cell.arm.name, *seed);
        let named = |environment| (format!("{} seed {seed}", cell.arm.name), environment);
        runs.extend(read_env(&path)?.map(named));
    }
    Ok(cautions(&runs).into_iter().chain(outdated(&runs, &version())).collect())
}
