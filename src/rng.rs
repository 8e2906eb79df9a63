//! Randomness as a function: a stream is named by what it is for, not by when it is drawn.
//!
//! Every random number comes from a stream keyed by (seed, purpose, two counters). The state of a
//! run therefore holds no generator: batch 517 has the same images and the same augmentations
//! whether the run reached it in one go, was killed in between, or prepares batches on another
//! thread. candle's own generator is never used (it cannot be seeded on the CPU).

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator behind every stream; `rand` and `rand_distr` draw from it.
pub type Stream = ChaCha8Rng;

/// What a stream is for. The numbers are part of the format: changing one changes every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; counters: (network, parameter).
    Init = 1,
    /// The order of images in an epoch; counters: (epoch, 0).
    Order = 2,
    /// Augmentation draws; counters: (step, position of the view in the batch).
    Augment = 3,
    /// Procedural images; counters: (split, image).
    Shapes = 4,
    /// The linear probe's order and initial weights; counters: (epoch, 0).
    Probe = 5,
    /// Which images a measurement reads; counters: (measurement, 0).
    Measure = 6,
    /// Draws inside tests; counters are theirs.
    Test = 7,
    /// What a queue holds before the first batch; counters: (queue, 0).
    Queue = 8,
    /// Procedural scenes of several objects; counters: (split, image).
    Scenes = 9,
    /// Which anchors and proposals a detector learns from; counters: (step, image of the batch).
    Detect = 10,
    /// Random directions and starts of what is measured of a field; counters: (measurement, draw).
    Probes = 12,
    /// Directions that SIGReg projects on; counters: (step, 0).
    Slices = 13,
    /// Procedural handwriting; counters: (alphabets, identities or one kind of images, number).
    Glyphs = 20,
    /// Procedural sequences; counters: (split and frame, sequence).
    Tracks = 21,
    /// What a fine-tuned tracker sees; counters: (step, pair of the batch).
    Pairs = 22,
}

/// The stream for `purpose` at counters `(a, b)` under `seed`.
///
/// The four numbers are the generator's 256-bit key, so distinct keys give independent streams.
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> Stream {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// An integer below `bound`, by multiplication, so that the draw does not depend on a library's
/// version.
pub fn below(bound: usize, rng: &mut Stream) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn each_counter_names_another_stream() {
        let draw = |s, p, a, b| stream(s, p, a, b).random::<u64>();
        let base = draw(1, Purpose::Order, 2, 3);
        assert_eq!(base, draw(1, Purpose::Order, 2, 3));
        for other in [
            draw(2, Purpose::Order, 2, 3),
            draw(1, Purpose::Init, 2, 3),
            draw(1, Purpose::Order, 3, 3),
            draw(1, Purpose::Order, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }
}
