//! Microseconds per view with the whole CIFAR recipe, on one thread: `cargo bench --bench augment`.

use rand::Rng;
use simsiam_em::augment::{AugmentConfig, Image, Scratch, view};
use simsiam_em::rng::{Purpose, stream};
use std::time::Instant;

fn main() {
    let config = AugmentConfig {
        size: 32,
        crop_scale: [0.2, 1.0],
        flip: 0.5,
        jitter: 0.8,
        jitter_strength: [0.4, 0.4, 0.4, 0.1],
        grayscale: 0.2,
        blur: 0.0,
        blur_sigma: [0.1, 2.0],
        mean: [0.4914, 0.4822, 0.4465],
        std: [0.247, 0.2435, 0.2616],
        finite: None,
        multi_crop: None,
    };
    let mut rng = stream(0, Purpose::Test, 0, 0);
    let image = Image { height: 32, width: 32, pixels: (0..3072).map(|_| rng.random()).collect() };
    let (mut scratch, mut out) = (Scratch::default(), vec![0.0; 3072]);
    let mut rounds: Vec<f64> = (0..15)
        .map(|round| {
            let begun = Instant::now();
            for i in 0..2000 {
                let mut rng = stream(round, Purpose::Augment, i, 0);
                view(&config, &image, &mut rng, &mut scratch, &mut out);
            }
            begun.elapsed().as_secs_f64() / 2000.0 * 1e6
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("32×32 view, CIFAR recipe, one thread: median {:.1} µs, best {:.1} µs", rounds[7], rounds[0]);
}
