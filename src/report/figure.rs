//! What a figure shows, and its CSV.

use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// How a panel shows its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Style {
    /// Against x: seeds as thin lines, their median as a thick one.
    Curves,
    /// One strip for each arm: seeds as dots, their median as a line, the worst seed in a ring.
    Columns,
    /// As curves, on a logarithmic axis of y.
    LogCurves,
    /// y against x: a marker for each run.
    Scatter,
    /// y against x: a line for each run, from its first point to its last.
    Path,
    /// A cell for each arm, which is a row, and each x, which counts columns from 0: the median
    /// over seeds as a colour. The panel's y says what is measured.
    Heat {
        /// Labels of the columns.
        columns: Vec<String>,
        /// Label of the rows' axis.
        rows: String,
    },
}

impl Style {
    /// The labels of a heat map's columns and of its rows' axis.
    pub fn heat(&self) -> Option<(&[String], &str)> {
        match self {
            Style::Heat { columns, rows } => Some((columns, rows)),
            _ => None,
        }
    }
}

/// A value to compare with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// What it is.
    pub label: String,
    /// Where it lies.
    pub value: f64,
    /// The arm's column it belongs to; all of them where there is none.
    pub arm: Option<String>,
}

/// One pair of axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// The name by which points refer to it.
    pub name: String,
    /// Label of the x axis; with columns, a remark on the paper's values, or what the arms are.
    pub x: String,
    /// Label of the y axis, with its unit.
    pub y: String,
    /// How data is shown.
    pub style: Style,
    /// Values to compare with.
    pub references: Vec<Reference>,
    /// Whether the worst seed is the lowest, or the highest; unknown in figures of earlier
    /// versions, where it is the lowest of percentages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larger_is_better: Option<bool>,
}

impl Panel {
    /// A panel without values to compare with.
    pub fn new(name: &str, x: &str, y: &str, style: Style) -> Panel {
        let (name, x, y) = (name.into(), x.into(), y.into());
        Panel { name, x, y, style, references: Vec::new(), larger_is_better: None }
    }
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The panel's name.
    pub panel: String,
    /// The arm's name.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// x; 0 in columns.
    pub x: f64,
    /// y; not a number in the last row of a run that diverged, whose x is that of the row before.
    pub y: f64,
}

/// A figure: panels that share their arms.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use simsiam_em::report::{Figure, Panel, Point, Style};
///
/// let at = |x: f64| Point { panel: "loss".into(), arm: "k=1".into(), seed: 0, x, y: -0.2 * x };
/// let figure = Figure {
///     title: "Loss".into(),
///     caption: "made by hand".into(),
///     arms: vec![("k=1".into(), "one step".into())],
///     panels: vec![Panel::new("loss", "epoch", "loss", Style::Curves)],
///     points: [0.0, 1.0, 2.0].map(at).to_vec(),
/// };
/// let folder = tempfile::tempdir()?;
/// figure.save(&folder.path().join("loss"))?; // loss.csv, loss.svg, loss.png
/// assert_eq!(Figure::from_csv(&folder.path().join("loss.csv"))?.points, figure.points);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Its title.
    pub title: String,
    /// The command that made the data, and where it ran.
    pub caption: String,
    /// Arms in order: name and what the legend calls them.
    pub arms: Vec<(String, String)>,
    /// Panels in order. One in which nothing differs is not drawn.
    pub panels: Vec<Panel>,
    /// All data: the rows of the CSV, whose comment line holds the rest.
    #[serde(skip)]
    pub points: Vec<Point>,
}

/// Points of a figure at most: each needs more room in memory than in the file.
const MOST_POINTS: usize = 2_000_000;
const NOT_OURS: &str = "does not describe a figure; the file was not written by sim";

impl Figure {
    pub(super) fn to_csv(&self) -> Result<String> {
        let fail = |e: &dyn std::fmt::Display| Error::Failure(format!("cannot write a figure's data: {e}"));
        let head = serde_json::to_string(self).map_err(|e| fail(&e))?;
        let mut writer = csv::Writer::from_writer(format!("# {head}\n").into_bytes());
        for point in &self.points {
            writer.serialize(point).map_err(|e| fail(&e))?;
        }
        let bytes = writer.into_inner().map_err(|e| fail(&e))?;
        String::from_utf8(bytes).map_err(|e| fail(&e))
    }

    /// Whether the file at `path` begins as a figure's CSV does.
    pub fn is_csv(path: &Path) -> bool {
        let mut start = Vec::new();
        let read = files::open(path).and_then(|(file, _)| file.take(8).read_to_end(&mut start));
        read.is_ok() && String::from_utf8_lossy(&start).trim_start_matches(files::MARK).starts_with("# {")
    }

    /// The CSV files of figures in a study's folder or its folder of figures, or `run` itself where
    /// it is a file.
    ///
    /// # Errors
    /// [`Error::Data`] when there are none.
    pub fn files(run: &Path) -> Result<Vec<PathBuf>> {
        if run.is_file() {
            return Ok(vec![run.to_path_buf()]);
        }
        let inner = run.join("figures");
        let folder = if inner.is_dir() { inner } else { run.to_path_buf() };
        let unreadable = |e: std::io::Error| Error::data(&folder, format!("cannot be listed: {e}"));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            // summary.csv and claims.csv may lie beside the figures.
            if path.extension().is_some_and(|extension| extension == "csv") && Figure::is_csv(&path) {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(Error::data(&folder, "has no figure's CSV; run the study first"));
        }
        Ok(files)
    }

    /// Reads a figure back.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and the line that is wrong.
    pub fn from_csv(path: &Path) -> Result<Figure> {
        let text =
            files::text(path, files::TABLE).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
        let damaged = |line: u64, what: String| Error::data(path, format!("line {line}: {what}"));
        let (head, data) = text.split_once('\n').unwrap_or((&text, ""));
        let json = head.strip_prefix("# ").ok_or_else(|| damaged(1, NOT_OURS.into()))?;
        let mut figure: Figure =
            serde_json::from_str(json).map_err(|e| damaged(1, format!("{NOT_OURS} ({e})")))?;
        if !text.ends_with('\n') {
            let what =
                "it has no end, as if the file were cut short; if it is whole, end it with a line feed";
            return Err(damaged(text.lines().count() as u64, what.into()));
        }
        let mut rows = csv::Reader::from_reader(data.as_bytes());
        let header = rows.headers().map_err(|e| damaged(2, e.to_string()))?.clone();
        for row in rows.records() {
            let row =
                row.map_err(|e| damaged(1 + e.position().map_or(1, csv::Position::line), e.to_string()))?;
            // The comment line stands before what the reader sees.
            let line = 1 + row.position().map_or(1, csv::Position::line);
            let point: Point = row.deserialize(Some(&header)).map_err(|e| damaged(line, e.to_string()))?;
            if !figure.panels.iter().any(|panel| panel.name == point.panel) {
                return Err(damaged(line, format!("line 1 names no panel '{}'", point.panel)));
            }
            if !figure.arms.iter().any(|(arm, _)| *arm == point.arm) {
                return Err(damaged(line, format!("line 1 names no arm '{}'", point.arm)));
            }
            figure.points.push(point);
            if figure.points.len() > MOST_POINTS {
                return Err(damaged(line, format!("a figure has at most {MOST_POINTS} points")));
            }
        }
        Ok(figure)
    }
}
