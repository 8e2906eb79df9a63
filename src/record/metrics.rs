//! metrics.csv, wide and tidy, and the same numbers as TensorBoard events. Append-only.
//!
//! Invariants: a row is on disk whole or not at all, also on a full disk; `wall_s` is the only
//! column that differs between two equal runs.

use super::RunDir;
use super::digest::Digested;
use super::directory::CONFIG_FILE;
use super::events::EventsLog;
use super::keys::{Keys, flatten};
use super::log::Log;
use super::outcome::METRICS_FILE;
use crate::error::{Error, Result};
use crate::files;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const LEADING: [&str; 4] = ["step", "epoch", "samples", "wall_s"];

/// The numbers of a run while it is trained.
#[derive(Debug)]
pub struct MetricsLog {
    csv: Log,
    events: EventsLog,
    columns: Vec<String>,
}

impl MetricsLog {
    /// Appends a row: SGD steps made, epochs (fractional), images seen, seconds, and `values` by
    /// column.
    ///
    /// Columns without a value stay empty. Numbers are written so that reading gives the same bits.
    ///
    /// # Errors
    /// [`Error::Disk`]: the row is then in neither file. [`Error::Failure`] for a column that
    /// [`RunDir::metrics`] was not told of.
    pub fn row(
        &mut self,
        step: u64,
        epoch: f64,
        samples: u64,
        wall_s: f64,
        values: &[(&str, f64)],
    ) -> Result<()> {
        let known = |name: &str| self.columns.iter().any(|column| column == name);
        if let Some((name, _)) = values.iter().find(|(name, _)| !known(name)) {
            return Err(Error::Failure(format!("metrics.csv has no column '{name}'")));
        }
        let mut line = format!("{step},{},{samples},{wall_s:.3}", number(epoch));
        for column in &self.columns {
            line.push(',');
            if let Some((_, value)) = values.iter().find(|(name, _)| name == column) {
                line.push_str(&number(*value));
            }
        }
        line.push('\n');
        let before = self.csv.len_bytes();
        self.csv.append(line.as_bytes())?;
        // Both files or neither; the error of the events is the one to report.
        self.events.scalars(step, values).inspect_err(|_| drop(self.csv.cut(before)))
    }

    /// Tells the events, after `step` steps, that the run has ended, `finished` or because it
    /// diverged.
    ///
    /// # Errors
    /// [`Error::Disk`] when it cannot be written.
    pub fn ended(&mut self, step: u64, finished: bool) -> Result<()> {
        self.events.ended(step, finished)
    }

    /// Brings both logs to the disk and returns their names and digests.
    pub(super) fn sync(&self) -> Result<[(String, Digested); 2]> {
        Ok([self.csv.sync()?, self.events.sync()?])
    }
}

impl RunDir {
    /// Opens metrics.csv (`step, epoch, samples, wall_s` and `columns`) and the events for
    /// appending. Call [`RunDir::resume`] before: it cuts both back to the checkpoint.
    ///
    /// # Errors
    /// [`Error::Data`] where metrics.csv has other columns.
    pub fn metrics(&self, columns: &[&str]) -> Result<MetricsLog> {
        let path = self.path().join(METRICS_FILE);
        let mut header = LEADING.iter().chain(columns).copied().collect::<Vec<_>>().join(",");
        header.push('\n');
        let mut csv = Log::open(path.clone())?;
        if csv.len_bytes() == 0 {
            csv.append(header.as_bytes())?;
        } else if !begins_with(&path, header.as_bytes())? {
            return Err(Error::data(
                path,
                "its columns are not those of this version of sim; --fresh starts over, --out DIR keeps both",
            ));
        }
        let events = EventsLog::open(self.path(), &self.keys())?;
        Ok(MetricsLog { csv, events, columns: columns.iter().map(|name| name.to_string()).collect() })
    }

    /// The keys of the run's recipe; none of a text that is no recipe.
    fn keys(&self) -> Keys {
        let text = files::text(&self.path().join(CONFIG_FILE), files::SHORT).unwrap_or_default();
        let table =
            files::nested_too_deep(&text).is_none().then(|| text.parse::<toml::Table>().ok()).flatten();
        table.map(flatten).unwrap_or_default()
    }
}

fn begins_with(path: &Path, header: &[u8]) -> Result<bool> {
    let mut start = Vec::with_capacity(header.len());
    let file = File::open(path).map_err(Error::disk(path, "read the log"))?;
    file.take(header.len() as u64).read_to_end(&mut start).map_err(Error::disk(path, "read the log"))?;
    Ok(start == header)
}

/// The shortest decimal text with the same bits.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value}") } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_keep_their_bits_as_text() {
        for value in [0.1, -0.0, 1.0, 1e-300, 1.5e300, 68.1, f64::INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(number(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{value}");
        }
        assert!(number(f64::NAN).parse::<f64>().is_ok_and(f64::is_nan));
        assert_eq!([number(3.0), number(1e-7)], ["3", "1e-7"]);
    }
}
