//! A grid of runs and of the closed form on the same axes: its numbers, `sweep.csv` and heat maps.

use crate::error::{Error, Result};
use crate::measure::evidence::quartiles;
use crate::measure::metrics;
use crate::recipe::Recipe;
use crate::record::{METRICS_FILE, Outcome, csv_bytes, read_metrics, read_outcome, run_folder};
use crate::report::{Figure, Panel, Point, Style};
use crate::study::{Axis, Cell, DEFAULT_SCALE, Request, Study, closed_form};
use crate::theory::{ClosedForm, Measured};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// What is drawn of runs: columns of metrics.csv. A detector's are its own.
const RUNS: [&str; 5] = ["val/knn_top1", "val/z_std", R2, "det/ap", "seg/ap"];
/// Its panel is called like that of the closed form beside it.
const R2: &str = "em/r2";
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
    /// The numbers that the runs of `arm` below `folder` left.
    fn read(folder: &Path, arm: &str, seeds: &[u64]) -> Result<Vec<[Option<f64>; RUNS.len()]>> {
        let of_seed = |seed: &u64| {
            let path = run_folder(folder, arm, *seed);
            if read_outcome(&path)? != Some(Outcome::Finished) {
                return Ok([None; RUNS.len()]);
            }
            let metrics = read_metrics(&path.join(METRICS_FILE))?;
            Ok(RUNS.map(|column| metrics.last(column).filter(|value| value.is_finite())))
        };
        seeds.iter().map(of_seed).collect()
    }

    /// The numbers of a panel with the places of their seeds.
    fn of(&self, panel: &str) -> Vec<(usize, f64)> {
        let runs = RUNS.iter().position(|column| *column == panel);
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
    pub fn quartiles(&self, panel: &str) -> Option<[f64; 3]> {
        let values: Vec<f64> = self.of(panel).into_iter().map(|(_, value)| value).collect();
        quartiles(&values)
    }
}

/// What the runs below `folder` came to, where there are any, and what the closed form of each cell
/// does.
///
/// # Errors
/// [`Error::Data`] when a run's files are damaged; [`Error::Failure`] when `threads` cannot be
/// started.
pub fn values(cells: &[Cell], seeds: &[u64], folder: Option<&Path>, threads: usize) -> Result<Vec<Values>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::Failure(format!("cannot start {threads} threads: {e}")))?;
    pool.install(|| {
        let of_cell = |cell: &Cell| -> Result<Values> {
            let of_seed = |&seed: &u64| predict(&cell.arm.recipe.with_seed(seed));
            let theory = seeds.iter().map(of_seed).collect::<Result<_>>()?;
            let runs = match folder {
                Some(folder) => Values::read(folder, &cell.arm.name, seeds)?,
                None => Vec::new(),
            };
            Ok(Values { runs, theory })
        };
        cells.par_iter().map(of_cell).collect()
    })
}

/// The end of a recipe's closed form: its own world's, or, beside runs on images, size and
/// prediction without normalisation and the rank with it. None where it diverges or does not model
/// the recipe.
fn predict(recipe: &Recipe) -> Result<Option<Measured>> {
    if let Some(world) = &recipe.closed_form {
        return closed_form::end(recipe, world);
    }
    let world = |normalised| ClosedForm::beside_runs(closed_form::steps_per_epoch(recipe), normalised);
    // What it does not model has no prediction, and runs all the same.
    if recipe.transfer.is_some() || closed_form::course(recipe, &world(false)).is_err() {
        return Ok(None);
    }
    let (free, kept) = (closed_form::end(recipe, &world(false))?, closed_form::end(recipe, &world(true))?);
    Ok(free.zip(kept).map(|(free, kept)| Measured { rank: kept.rank, ..free }))
}

/// A sweep that has ended.
pub struct Sweep<'a> {
    /// The study.
    pub study: &'a Study,
    /// The arm whose other keys all runs have.
    pub arm: &'a str,
    /// One axis or two.
    pub axes: &'a [Axis],
    /// The cells, row by row.
    pub cells: &'a [Cell],
    /// The numbers of each cell.
    pub values: Vec<Values>,
    /// The seeds of every cell.
    pub seeds: &'a [u64],
    /// Where the runs and the answer lie.
    pub folder: PathBuf,
    /// What was asked for.
    pub request: Request,
}

impl Sweep<'_> {
    /// The panels that have a value somewhere.
    pub fn panels(&self) -> Vec<(&'static str, &'static str)> {
        let any = |panel: &(&str, &str)| self.values.iter().any(|values| !values.of(panel.0).is_empty());
        let label =
            |column| if column == R2 { "R² of h(z) against E_T[z]" } else { metrics::of(column).axis };
        let runs: Vec<_> = RUNS.map(|column| (column, label(column))).into_iter().filter(any).collect();
        // Beside runs the closed form has the panels that they have.
        let count = if runs.is_empty() { THEORY.len() } else { runs.len().min(THEORY.len()) };
        runs.into_iter().chain(THEORY[..count].iter().copied().filter(any)).collect()
    }

    /// Labels of the second axis, or one empty one.
    pub fn rows(&self) -> &[String] {
        const NO_ROWS: &[String] = &[String::new()];
        self.axes.get(1).map_or(NO_ROWS, |axis| axis.values.as_slice())
    }

    /// "m and k".
    pub fn keys(&self, between: &str) -> String {
        self.axes.iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(between)
    }

    /// Which world the closed form is about, where it has anything to say.
    pub fn world(&self) -> String {
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

    /// A row for each cell: its values, and of each panel the median, the quartiles and the seeds
    /// that have a number.
    ///
    /// # Errors
    /// [`Error::Failure`] when the numbers cannot be written down.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let panels = self.panels();
        let mut header: Vec<String> = self.axes.iter().map(|axis| axis.sets.clone()).collect();
        header.extend(panels.iter().flat_map(|(name, _)| {
            ["", " lower_quartile", " upper_quartile", " seeds"].map(|of| format!("{name}{of}"))
        }));
        let row = |(cell, values): (&Cell, &Values)| {
            let mut row: Vec<String> =
                self.axes.iter().zip(&cell.place).map(|(axis, &at)| axis.values[at].clone()).collect();
            for (panel, _) in &panels {
                let found = values.quartiles(panel);
                let of = |index: usize| found.map_or_else(String::new, |found| found[index].to_string());
                row.extend([of(1), of(0), of(2), values.of(panel).len().to_string()]);
            }
            row
        };
        csv_bytes(std::iter::once(header).chain(self.cells.iter().zip(&self.values).map(row)))
    }

    /// Heat maps of two axes, strips of one.
    pub fn figure(&self, command: &str) -> Figure {
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
            larger_is_better: metrics::of(name).larger_is_better,
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
