//! Two memory banks of the same images and different draws: the difference of the two tells how
//! much of η is the luck of its augmentations, their common part how far old outputs have fallen
//! behind.

use super::{EStep, Frozen, Held, MemoryBank, Views};
use crate::error::Result;
use candle_core::Tensor;

/// A bank whose η trains, and its twin, which averages the outputs of the view that is trained and
/// only watches.
#[derive(Debug)]
pub struct Twins {
    /// Gives the targets.
    pub first: MemoryBank,
    /// Gives another draw of η, which never trains.
    pub second: MemoryBank,
}

/// What the twin's tensors are called in a checkpoint.
const TWIN: &str = "twin.";

impl EStep for Twins {
    fn reads(&self, steps: u64) -> std::ops::Range<u64> {
        self.first.reads(steps)
    }

    fn read(&mut self, frozen: Frozen, views: &Views) -> Result<()> {
        self.first.read(frozen, views)
    }

    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        // What the M-step's own pass made of the other view: a pass for the twin would move running
        // statistics.
        self.second.absorb(views, &z.get(0)?.detach())?;
        self.first.targets(views, z, frozen)
    }

    fn age(&self, views: &Views) -> f64 {
        self.first.age(views)
    }

    fn second(&self, views: &Views) -> Result<Option<Tensor>> {
        let rows: Result<Vec<Vec<f32>>> =
            views.indices.iter().map(|index| Ok(self.second.get(*index as usize)?.0)).collect();
        let rows = rows?.concat();
        let batch = views.indices.len();
        let dim = rows.len() / batch.max(1);
        Ok(Some(Tensor::from_vec(rows, (batch, dim), views.x.device())?))
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let mut held = self.first.state()?;
        held.extend(
            self.second
                .state()?
                .into_iter()
                .map(|(name, shape, data)| (format!("{TWIN}{name}"), shape, data)),
        );
        Ok(held)
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        let (twin, own): (Vec<_>, Vec<_>) = held.into_iter().partition(|(name, ..)| name.starts_with(TWIN));
        let named = |(name, shape, data): Held<'static>| (name[TWIN.len()..].to_string(), shape, data);
        self.first.restore(own)?;
        self.second.restore(twin.into_iter().map(named).collect())
    }
}
