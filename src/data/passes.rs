//! Which of the training images an epoch shows, and in which order (Li, Efros & Pathak 2022).
//!
//! Chunks are disjoint parts of the training images in an order of their own. An epoch is as long
//! as if it showed every image once: it goes through the images that it has again and again, each
//! time in another order.

use crate::error::{Error, Result};
use crate::rng::{Purpose, below, stream};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which of the training images an epoch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Passes {
    /// All of them.
    MultiEpoch {},
    /// One chunk after the other, none of which comes back.
    SinglePass {
        /// Chunks, at most as many as the run has epochs.
        chunks: u64,
    },
    /// One chunk more after the other, all earlier ones with it.
    Cumulative {
        /// Chunks, at most as many as the run has epochs.
        chunks: u64,
    },
    /// As in a single pass up to an epoch, all images from then on.
    Hybrid {
        /// Chunks, at most as many as the run has epochs.
        chunks: u64,
        /// The first epoch that shows all images.
        until_epoch: u64,
    },
}

/// An ordinary run.
impl Default for Passes {
    fn default() -> Self {
        Passes::MultiEpoch {}
    }
}

/// The order of the images among the chunks is drawn as that of no epoch is.
const OF_CHUNKS: u64 = u64::MAX;

impl Passes {
    /// Refuses more chunks than the `epochs` of a run, and a single one.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self, epochs: u64) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("schedule.passes.{key}: {what}")));
        let (name, chunks) = match *self {
            Passes::MultiEpoch {} => return Ok(()),
            Passes::SinglePass { chunks } => ("single-pass", chunks),
            Passes::Cumulative { chunks } => ("cumulative", chunks),
            Passes::Hybrid { until_epoch, .. } if !(1..epochs).contains(&until_epoch) => {
                return fail(
                    "hybrid.until_epoch",
                    format!("{until_epoch} must be above 0 and below schedule.epochs, {epochs}"),
                );
            }
            Passes::Hybrid { chunks, .. } => ("hybrid", chunks),
        };
        match (2..=epochs).contains(&chunks) {
            true => Ok(()),
            false => fail(
                &format!("{name}.chunks"),
                format!("{chunks} must be between 2 and schedule.epochs, {epochs}"),
            ),
        }
    }

    /// Chunks that the images are cut into; 1 where an epoch shows all.
    pub fn chunks(&self) -> u64 {
        match *self {
            Passes::MultiEpoch {} => 1,
            Passes::SinglePass { chunks } | Passes::Cumulative { chunks } | Passes::Hybrid { chunks, .. } => {
                chunks
            }
        }
    }

    /// The chunks that `epoch` of `epochs` shows; none where it shows all images.
    fn shown(&self, epoch: u64, epochs: u64) -> Option<Range<u64>> {
        let chunks = self.chunks();
        let turn = u128::from(epoch) * u128::from(chunks) / u128::from(epochs.max(1));
        let turn = (turn as u64).min(chunks - 1);
        match *self {
            Passes::MultiEpoch {} => None,
            Passes::Hybrid { until_epoch, .. } if epoch >= until_epoch => None,
            Passes::SinglePass { .. } | Passes::Hybrid { .. } => Some(turn..turn + 1),
            Passes::Cumulative { .. } => Some(0..turn + 1),
        }
    }

    /// The order of `images` in `epoch` of `epochs`, as long as there are images: drawn from (seed,
    /// Order, epoch, repetition). Empty where there are fewer images than chunks.
    pub fn order(&self, images: usize, seed: u64, [epoch, epochs]: [u64; 2]) -> Vec<u32> {
        let Some(shown) = self.shown(epoch, epochs) else { return permutation(images, seed, [epoch, 0]) };
        let all = permutation(images, seed, [OF_CHUNKS, 0]);
        let place = |chunk: u64| (images as u128 * u128::from(chunk) / u128::from(self.chunks())) as usize;
        let own = &all[place(shown.start)..place(shown.end)];
        let mut order = Vec::with_capacity(images);
        for repetition in 0.. {
            let left = images - order.len();
            if left == 0 || own.is_empty() {
                break;
            }
            let again = permutation(own.len(), seed, [epoch, repetition]);
            order.extend(again.iter().take(left).map(|at| own[*at as usize]));
        }
        order
    }
}

/// The numbers below `len` in an order drawn from (seed, Order, `counters`).
fn permutation(len: usize, seed: u64, [a, b]: [u64; 2]) -> Vec<u32> {
    let mut rng = stream(seed, Purpose::Order, a, b);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for last in (1..len).rev() {
        order.swap(last, below(last + 1, &mut rng));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const EPOCHS: u64 = 6;

    fn shown(passes: Passes, epoch: u64) -> BTreeSet<u32> {
        let order = passes.order(20, 7, [epoch, EPOCHS]);
        assert_eq!(order.len(), 20);
        order.into_iter().collect()
    }

    #[test]
    fn a_single_pass_shows_each_chunk_in_its_epochs_and_never_again() {
        let passes = Passes::SinglePass { chunks: 3 };
        let of_epochs: Vec<_> = (0..EPOCHS).map(|epoch| shown(passes, epoch)).collect();
        assert!(of_epochs.chunks(2).all(|two| two[0] == two[1]));
        assert!(of_epochs.iter().all(|images| [6, 7].contains(&images.len())));
        let together: BTreeSet<u32> = of_epochs.iter().flatten().copied().collect();
        assert_eq!(together.len(), 20);
        let sizes: usize = of_epochs.iter().step_by(2).map(BTreeSet::len).sum();
        assert_eq!(sizes, 20, "chunks are disjoint");
    }

    #[test]
    fn an_image_comes_as_often_as_any_other_of_its_chunk_or_once_less() {
        let order = Passes::SinglePass { chunks: 3 }.order(20, 7, [0, EPOCHS]);
        let counts: Vec<usize> = shown(Passes::SinglePass { chunks: 3 }, 0)
            .iter()
            .map(|i| order.iter().filter(|j| *j == i).count())
            .collect();
        assert!(counts.iter().all(|n| [3, 4].contains(n)), "{counts:?}");
        let (first, second) = order.split_at(counts.len());
        assert_ne!(first, &second[..counts.len()], "another order each time");
    }

    #[test]
    fn cumulative_passes_add_chunks_and_hybrid_ones_end_with_all_images() {
        let cumulative = Passes::Cumulative { chunks: 3 };
        for epoch in 1..EPOCHS {
            assert!(shown(cumulative, epoch - 1).is_subset(&shown(cumulative, epoch)));
        }
        assert_eq!(shown(cumulative, EPOCHS - 1).len(), 20);
        let (hybrid, single) =
            (Passes::Hybrid { chunks: 3, until_epoch: 4 }, Passes::SinglePass { chunks: 3 });
        for epoch in 0..4 {
            assert_eq!(hybrid.order(20, 7, [epoch, EPOCHS]), single.order(20, 7, [epoch, EPOCHS]));
        }
        // From then on byte for byte what an ordinary run shows.
        let ordinary = Passes::default();
        for epoch in [4, 5] {
            assert_eq!(hybrid.order(20, 7, [epoch, EPOCHS]), ordinary.order(20, 7, [epoch, EPOCHS]));
        }
    }

    #[test]
    fn chunks_that_no_epoch_shows_are_refused() {
        for (passes, fits) in [
            (Passes::SinglePass { chunks: 6 }, true),
            (Passes::SinglePass { chunks: 7 }, false),
            (Passes::Cumulative { chunks: 1 }, false),
            (Passes::Hybrid { chunks: 2, until_epoch: 5 }, true),
            (Passes::Hybrid { chunks: 7, until_epoch: 2 }, false),
            (Passes::Hybrid { chunks: 2, until_epoch: 0 }, false),
            (Passes::Hybrid { chunks: 2, until_epoch: 6 }, false),
        ] {
            assert_eq!(passes.check(EPOCHS).is_ok(), fits, "{passes:?}");
        }
        assert!(Passes::SinglePass { chunks: 6 }.order(3, 7, [0, EPOCHS]).is_empty());
    }
}
