//! The answer of `sim sweep`: grids of numbers, `sweep.csv`, heat maps.

use super::output::Output;
use super::table::table;
use crate::error::{Error, Result};
use crate::measure::evidence::quartiles;
use crate::record::{
    METRICS_FILE, Outcome, cautions, make_folder, outdated, read_env, read_metrics, read_outcome,
    write_durable,
};
use crate::report::{Figure, Panel, Point, Style};
use crate::study::{Axis, Cell, DEFAULT_SCALE, METRICS, Request, Study};
use crate::theory::{ClosedForm, Measured};
use crate::train::version;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What is drawn of runs: column of metrics.csv and what it measures.
const RUNS: [(&str, &str); 3] = [
    ("val/knn_top1", "kNN top-1, held out (%)"),
    ("val/z_std", "std of z/‖z‖ · √d, held out"),
    ("em/r2", "R² of h(z) against E_T[z]"),
];
/// What is drawn of the closed form: column of sweep.csv and what it measures.
const THEORY: [(&str, &str); 3] = [
    ("theory/std", "closed form: std of the outputs, 1 at the start"),
    ("theory/rank", "closed form: effective rank"),
    ("theory/r2", "closed form: R² of P z against E_T[z]"),
];

/// The numbers of a cell, seed by seed.
pub struct Values {
    /// Those of [`RUNS`] of each run; none where it did not finish or has none.
    pub runs: Vec<[Option<f64>; RUNS.len()]>,
    /// The closed form's; none where it diverges or models no such recipe.
    pub theory: Vec<Option<Measured>>,
}

impl Values {
    /// The numbers that the runs of an arm's folder left.
    pub fn read(arm: &Path, seeds: &[u64]) -> Result<Vec<[Option<f64>; RUNS.len()]>> {
        let of_seed = |seed: &u64| {
            let path = arm.join(format!("seed-{seed}"));
            if read_outcome(&path)? != Some(Outcome::Finished) {
                return Ok([None; RUNS.len()]);
            }
            let metrics = read_metrics(&path.join(METRICS_FILE))?;
            Ok(RUNS.map(|(column, _)| metrics.last(column).filter(|value| value.is_finite())))
        };
        seeds.iter().map(of_seed).collect()
    }

    /// The numbers of a panel with the places of their seeds.
    fn of(&self, panel: &str) -> Vec<(usize, f64)> {
        let runs = RUNS.iter().position(|(column, _)| *column == panel);
        let number = |measured: &Measured| match panel {
            "theory/std" => Some(measured.std),
            "theory/rank" => Some(measured.rank),
            "theory/r2" => measured.r2,
            _ => None,
        };
        let all: Vec<Option<f64>> = match runs {
            Some(index) => self.runs.iter().map(|run| run[index]).collect(),
            None => self.theory.iter().map(|end| end.as_ref().and_then(number)).collect(),
        };
        let finite = |(seed, value): (usize, Option<f64>)| Some((seed, value.filter(|v| v.is_finite())?));
        all.into_iter().enumerate().filter_map(finite).collect()
    }

    /// Lower quartile, median and upper quartile over the seeds that have a number.
    fn quartiles(&self, panel: &str) -> Option<[f64; 3]> {
        let values: Vec<f64> = self.of(panel).into_iter().map(|(_, value)| value).collect();
        quartiles(&values)
    }
}

/// A sweep that has ended.
pub struct Sweep<'a> {
    pub study: &'a Study,
    pub arm: &'a str,
    pub axes: &'a [Axis],
    pub cells: &'a [Cell],
    pub values: Vec<Values>,
    pub seeds: &'a [u64],
    pub folder: PathBuf,
    pub request: Request,
}

impl Sweep<'_> {
    /// Prints grids, or with `json` a line for each cell, and writes `sweep.csv` and the figure.
    pub fn answer(&self, command: &str, json: bool, output: &Output) -> Result<()> {
        // The tables come first: a full disk must not take the answer along.
        if json {
            self.lines(output)?;
        } else {
            self.print(output)?;
        }
        let csv = self.folder.join("sweep.csv");
        write_durable(&csv, &self.csv()?)?;
        let figures = self.folder.join("figures");
        make_folder(&figures)?;
        let mut paths = vec![csv];
        paths.extend(self.figure(command).save(&figures.join("sweep"))?);
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        if json {
            let keys: Vec<&str> = self.axes.iter().map(|axis| axis.sets.as_str()).collect();
            let line = json!({"event": "summary", "study": self.study.name, "arm": self.arm, "over": keys,
                "cells": self.cells.len(), "seeds": self.seeds, "files": paths, "cautions": self.cautions()?});
            return output.line(&line.to_string());
        }
        for caution in self.cautions()? {
            output.line(&format!("\ncaution: {caution}"))?;
        }
        output.line("")?;
        paths.iter().try_for_each(|path| output.line(path))
    }

    /// The panels that have a value somewhere.
    fn panels(&self) -> Vec<(&'static str, &'static str)> {
        let any = |panel: &&(&str, &str)| self.values.iter().any(|values| !values.of(panel.0).is_empty());
        let runs: Vec<_> = RUNS.iter().filter(any).copied().collect();
        // Beside runs the closed form has the panels that they have.
        let count = if runs.is_empty() { THEORY.len() } else { runs.len().min(THEORY.len()) };
        runs.into_iter().chain(THEORY[..count].iter().filter(any).copied()).collect()
    }

    /// Labels of the second axis, or one empty one.
    fn rows(&self) -> &[String] {
        const NO_ROWS: &[String] = &[String::new()];
        self.axes.get(1).map_or(NO_ROWS, |axis| axis.values.as_slice())
    }

    /// What a reader of the grids must know of the runs in their cells.
    fn cautions(&self) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for (cell, seed) in self.cells.iter().flat_map(|cell| self.seeds.iter().map(move |seed| (cell, seed)))
        {
            let path = self.folder.join(&cell.arm.name).join(format!("seed-{seed}"));
            let named = |environment| (format!("{} seed {seed}", cell.arm.name), environment);
            runs.extend(read_env(&path)?.map(named));
        }
        Ok(cautions(&runs).into_iter().chain(outdated(&runs, &version())).collect())
    }

    fn print(&self, output: &Output) -> Result<()> {
        let [first, rest @ ..] = self.axes else { return Ok(()) };
        output.line(&format!(
            "\n{}: {}, like the arm {}\n",
            self.study.head.title,
            self.keys(" × "),
            self.arm
        ))?;
        for (panel, title) in self.panels() {
            let digits = if title.contains('%') { 1 } else { 3 };
            output.line(title)?;
            let corner = rest.first().map_or_else(String::new, |second| format!("{} \\ ", second.key));
            let mut rows = vec![vec![format!("  {corner}{}", first.key)]];
            rows[0].extend(first.values.iter().cloned());
            for (index, label) in self.rows().iter().enumerate() {
                let mut row = vec![format!("  {label}")];
                let cells = self.values.chunks(first.values.len()).nth(index).unwrap_or_default();
                // What rounds to nothing has no sign.
                let zero = 0.5 * 10f64.powi(-(digits as i32));
                let text = |[_, median, _]: [f64; 3]| match median.abs() < zero {
                    true => format!("{:.digits$}", 0.0),
                    false => format!("{median:.digits$}"),
                };
                row.extend(cells.iter().map(|v| v.quartiles(panel).map_or_else(|| "-".to_string(), text)));
                rows.push(row);
            }
            for line in table(&rows) {
                output.line(&line)?;
            }
            output.line("")?;
        }
        let seeds = super::count(self.seeds.len(), "seed");
        let medians = if self.seeds.len() > 1 { ", medians" } else { "" };
        output.line(&format!("{seeds}{medians}; {}", self.world()))
    }

    /// "m and k".
    fn keys(&self, between: &str) -> String {
        self.axes.iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(between)
    }

    /// Which world the closed form is about, where it has anything to say.
    fn world(&self) -> String {
        if !self.panels().iter().any(|panel| THEORY.contains(panel)) {
            return "such recipes have no closed form".to_string();
        }
        let own = self.cells.first().and_then(|cell| cell.arm.recipe.closed_form.clone());
        let beside = own.is_none();
        let world = own.unwrap_or_else(|| ClosedForm::beside_runs(1, false));
        let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        let rank = if beside { ", rank with normalised outputs" } else { "" };
        format!(
            "closed form: linear encoder of {} outputs, Gaussian images of variance {}, augmentations of {}{rank}; – where it diverges",
            world.outputs,
            list(&world.signal),
            list(&world.noise)
        )
    }

    fn lines(&self, output: &Output) -> Result<()> {
        for (cell, values) in self.cells.iter().zip(&self.values) {
            let mut line = json!({"event": "cell", "study": self.study.name, "arm": cell.arm.name});
            for (axis, &at) in self.axes.iter().zip(&cell.place) {
                line[&axis.sets] = json!(axis.values[at]);
            }
            for (panel, _) in self.panels() {
                line[panel] = json!(values.quartiles(panel).map(|[_, median, _]| median));
            }
            output.line(&line.to_string())?;
        }
        Ok(())
    }

    /// A row for each cell: its values, and of each panel the median, the quartiles and the seeds
    /// that have a number.
    fn csv(&self) -> Result<Vec<u8>> {
        let fail = |e: &dyn std::fmt::Display| Error::Failure(format!("cannot write CSV: {e}"));
        let mut writer = csv::Writer::from_writer(Vec::new());
        let panels = self.panels();
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.sets.clone()).collect();
        header.extend(panels.iter().flat_map(|(name, _)| {
            ["", " lower_quartile", " upper_quartile", " seeds"].map(|of| format!("{name}{of}"))
        }));
        writer.write_record(&header).map_err(|e| fail(&e))?;
        for (cell, values) in self.cells.iter().zip(&self.values) {
            let mut row: Vec<String> =
                self.axes.iter().zip(&cell.place).map(|(axis, &at)| axis.values[at].clone()).collect();
            for (panel, _) in &panels {
                let found = values.quartiles(panel);
                let of = |index: usize| found.map_or_else(String::new, |found| found[index].to_string());
                row.extend([of(1), of(0), of(2), values.of(panel).len().to_string()]);
            }
            writer.write_record(&row).map_err(|e| fail(&e))?;
        }
        writer.into_inner().map_err(|e| fail(&e))
    }

    /// Heat maps of two axes, strips of one.
    fn figure(&self, command: &str) -> Figure {
        let heat = self.axes.len() == 2;
        let label = |axis: &Axis| axis.key.clone();
        let columns = self.axes.first().map_or(&[][..], |axis| axis.values.as_slice());
        let style = match heat {
            true => Style::Heat {
                columns: columns.to_vec(),
                rows: self.axes.get(1).map(label).unwrap_or_default(),
            },
            false => Style::Columns,
        };
        let x = self.axes.first().map(label).unwrap_or_default();
        let panel = |(name, y): (&str, &str)| Panel {
            larger_is_better: METRICS.iter().find(|(metric, ..)| *metric == name).map(|metric| metric.1),
            ..Panel::new(name, &x, y, style.clone())
        };
        let arms = if heat { self.rows() } else { columns };
        let mut points = Vec::new();
        for (name, _) in self.panels() {
            for (cell, values) in self.cells.iter().zip(&self.values) {
                let column = cell.place.first().copied().unwrap_or_default();
                let (arm, x) = match cell.place.get(1) {
                    Some(&row) => (&arms[row], column as f64),
                    None => (&arms[column], 0.0),
                };
                points.extend(values.of(name).into_iter().map(|(seed, y)| Point {
                    panel: name.into(),
                    arm: arm.clone(),
                    seed: self.seeds[seed],
                    x,
                    y,
                }));
            }
        }
        let scale = self.request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        Figure {
            title: format!("{}: {}, like the arm {}", self.study.head.title, self.keys(" × "), self.arm),
            caption: format!(
                "{command}   ·   {scale} scale   ·   {}   ·   sim {}",
                self.world(),
                env!("CARGO_PKG_VERSION")
            ),
            arms: arms.iter().map(|arm| (arm.clone(), arm.clone())).collect(),
            panels: self.panels().into_iter().map(panel).collect(),
            points,
        }
    }
}
