//! Reading metrics.csv again: columns by name, empty cells as `None`; and tables of texts as CSV.

use super::durable::parent;
use super::outcome::read_result;
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeSet;
use std::path::Path;

/// Cells of a table at most: an empty one needs more room in memory than in the file.
const MOST_CELLS: usize = 1 << 24;
/// Columns at most; a run has some forty.
const MOST_COLUMNS: usize = 1000;

/// The numbers of a run, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    names: Vec<String>,
    columns: Vec<Vec<Option<f64>>>,
}

impl Table {
    /// The names of the columns in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The cells of a column, one for each row.
    pub fn column(&self, name: &str) -> Option<&[Option<f64>]> {
        let index = self.names.iter().position(|other| other == name)?;
        self.columns.get(index).map(Vec::as_slice)
    }

    /// The rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// (x, y) of all rows in which both were measured.
    pub fn points(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        let (Some(x), Some(y)) = (self.column(x), self.column(y)) else { return Vec::new() };
        x.iter().zip(y).filter_map(|(x, y)| Some(((*x)?, (*y)?))).collect()
    }

    /// The last value measured of a column.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.column(name)?.iter().rev().find_map(|cell| *cell)
    }

    /// The largest finite value of a column.
    pub fn largest(&self, name: &str) -> Option<f64> {
        self.column(name)?.iter().flatten().copied().filter(|value| value.is_finite()).reduce(f64::max)
    }
}

/// Reads a table of numbers as [`super::MetricsLog`] writes it. A last line without an end, as a
/// run that is being written or was killed leaves it, is left out: half a number reads as another
/// one.
///
/// # Errors
/// [`Error::Data`] naming file and line where a line is damaged, or where the file is missing or is
/// not the one that a finished run left.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use simsiam_em::record::read_metrics;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("metrics.csv");
/// std::fs::write(&path, "step,epoch,val/knn_top1\n0,0,25\n62,1,80.5\n")?;
/// let table = read_metrics(&path)?;
/// assert_eq!(table.points("epoch", "val/knn_top1"), [(0.0, 25.0), (1.0, 80.5)]);
/// assert_eq!(table.last("val/knn_top1"), Some(80.5));
/// # Ok(())
/// # }
/// ```
pub fn read_metrics(path: &Path) -> Result<Table> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = read_result(parent(path), &name, files::TABLE)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let damaged = |line: usize, what: String| Error::data(path, format!("line {line}: {what}"));
    let text = std::str::from_utf8(&bytes[..end]).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        damaged(line, "not a text".to_string())
    })?;
    let mut lines = text.trim_start_matches(files::MARK).lines().enumerate();
    let Some((_, header)) = lines.next() else {
        return if end < bytes.len() { Ok(Table::default()) } else { Err(damaged(1, "no header".into())) };
    };
    if header.split(',').nth(MOST_COLUMNS).is_some() {
        return Err(damaged(1, format!("more than {MOST_COLUMNS} columns")));
    }
    let names: Vec<String> = header.split(',').map(str::to_string).collect();
    let mut known = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| name.is_empty() || !known.insert(*name)) {
        return Err(damaged(1, format!("the column '{}' stands twice or has no name", name.escape_debug())));
    }
    let mut columns = vec![Vec::new(); names.len()];
    let mut cells = 0;
    for (index, line) in lines {
        if cells > MOST_CELLS {
            return Err(damaged(index + 1, format!("more than {MOST_CELLS} cells before it")));
        }
        let count = line.split(',').count();
        if count != names.len() {
            return Err(damaged(index + 1, format!("{count} cells where the header has {}", names.len())));
        }
        for ((cell, column), name) in line.split(',').zip(&mut columns).zip(&names) {
            let value = match cell {
                "" => None,
                text => Some(text.parse::<f64>().map_err(|_| {
                    damaged(index + 1, format!("'{}' in column {name} is not a number", text.escape_debug()))
                })?),
            };
            column.push(value);
            cells += 1;
        }
    }
    Ok(Table { names, columns })
}

/// Rows of texts as CSV.
///
/// # Errors
/// [`Error::Failure`] where the rows differ in length.
pub fn csv_bytes<T: AsRef<[u8]>>(rows: impl IntoIterator<Item = Vec<T>>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = rows.into_iter().try_for_each(|row| writer.write_record(row));
    let fail = |e: String| Error::Failure(format!("cannot write CSV: {e}"));
    written.map_err(|e| fail(e.to_string()))?;
    writer.into_inner().map_err(|e| fail(e.to_string()))
}
