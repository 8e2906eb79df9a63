//! Weights that were trained before: whether their outputs have collapsed, and since when.

use super::trials::JUDGED;
use crate::data::{Dataset, first_of_each_class};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::measure::collapse::{is_collapsed, rankme, singular_values, std};
use crate::record::{METRICS_FILE, Outcome, read_metrics, read_outcome};
use crate::train::{Pretrained, embed_some};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Products of numbers in the convolutions that a look at weights may take: ten seconds of two
/// cores.
const PRODUCTS: u64 = 300_000_000_000;
/// Held-out images that are passed however large the network is.
const FEWEST: usize = 64;

/// Numbers of weights that were trained before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WeightFacts {
    /// The run's folder or the file.
    pub name: String,
    /// std of z/‖z‖ times √d over held-out images; none where there are no weights.
    pub z_std: Option<f64>,
    /// RankMe of z of held-out images.
    pub rankme: Option<f64>,
    /// Held-out images that were passed.
    pub images: usize,
    /// Whether the outputs have collapsed.
    pub collapsed: bool,
    /// The first step after which the run's own measurements say so, and go on to.
    pub collapsed_since: Option<u64>,
    /// The last loss of the run's metrics.csv.
    pub loss: Option<f64>,
    /// The step at which the run's loss was no finite number.
    pub diverged_at: Option<u64>,
}

/// The numbers of `pretrained` on held-out images of `dataset`.
///
/// # Errors
/// [`Error::Data`] for weights that give no numbers, and for images that cannot be decoded.
pub fn facts(
    pretrained: &Pretrained,
    dataset: &Dataset,
    site: &Site,
    stop: &AtomicBool,
) -> Result<WeightFacts> {
    let split = &dataset.test;
    let model = pretrained.model(site)?;
    let products = model.parts().next().map_or(1, |part| part.engine.network().products());
    let most = ((PRODUCTS / products.max(1)) as usize).clamp(FEWEST, split.len().max(FEWEST));
    let rows = first_of_each_class(split.labels(), dataset.classes.len(), most);
    let (_, z) = embed_some(&model, split, &rows, &pretrained.preprocessing.augment(), stop)?;
    if !z.iter().all(|value| value.is_finite()) {
        return Err(pretrained.overflow());
    }
    let spread = std(z.view()) * (z.ncols() as f64).sqrt();
    let rank = rankme(&singular_values(z.view()));
    Ok(WeightFacts {
        name: pretrained.path.display().to_string(),
        z_std: (rows.len() >= JUDGED).then_some(spread),
        rankme: (rows.len() >= JUDGED).then_some(rank),
        images: rows.len(),
        collapsed: rows.len() >= JUDGED && is_collapsed(spread, rank, z.ncols()),
        ..WeightFacts::default()
    })
}

impl WeightFacts {
    /// With what the files of the run in the folder `run` say, whose outputs have `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that cannot be read.
    pub fn of_run(mut self, run: &Path, dim: usize) -> Result<WeightFacts> {
        self.name = run.display().to_string();
        if let Some(Outcome::Diverged { step }) = read_outcome(run)? {
            self.diverged_at = Some(step);
        }
        let path = run.join(METRICS_FILE);
        if !path.is_file() {
            return Err(Error::data(run, format!("has no {METRICS_FILE}; nothing was measured there yet")));
        }
        let table = read_metrics(&path)?;
        self.loss = table.last("train/loss");
        let stds = table.points("step", "val/z_std");
        let ranks = table.points("step", "val/rankme");
        let measured = stds.iter().zip(&ranks).filter(|((step, _), _)| *step > 0.0);
        let is_down = |((_, z_std), (_, rank)): &(&(f64, f64), &(f64, f64))| is_collapsed(*z_std, *rank, dim);
        let down: Vec<u64> = measured.rev().take_while(is_down).map(|((step, _), _)| *step as u64).collect();
        self.collapsed_since = down.last().copied();
        if self.z_std.is_none() {
            self.collapsed = self.collapsed_since.is_some();
            self.z_std = stds.last().map(|(_, value)| *value);
            self.rankme = ranks.last().map(|(_, value)| *value);
        }
        Ok(self)
    }
}
