//! Time of a view, and of decoding what it is taken from, on one thread: `cargo bench --bench
//! augment`.
//!
//! The CIFAR recipe on an image in memory; the ImageNet recipe, and decoding, on a picture of
//! ImageNet's usual size.

use image::codecs::jpeg::JpegEncoder;
use rand::Rng;
use simsiam_em::augment::{AugmentConfig, Image, Scratch, view};
use simsiam_em::data::{Exif, decode};
use simsiam_em::rng::{Purpose, stream};
use std::time::Instant;

/// Median and best of the microseconds that one of `calls` takes, over 15 rounds.
fn time(calls: u64, mut call: impl FnMut(u64, u64)) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..15)
        .map(|round| {
            let begun = Instant::now();
            (0..calls).for_each(|i| call(round, i));
            begun.elapsed().as_secs_f64() / calls as f64 * 1e6
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    (rounds[7], rounds[0])
}

fn time_view(what: &str, config: &AugmentConfig, image: &Image, calls: u64) {
    let (mut scratch, mut out) = (Scratch::default(), vec![0.0; 3 * config.size * config.size]);
    let (median, best) = time(calls, |round, i| {
        let mut rng = stream(round, Purpose::Augment, i, 0);
        view(config, image, &mut rng, &mut scratch, &mut out);
    });
    println!("{what}, one thread: median {median:.1} µs, best {best:.1} µs");
}

/// A picture with details of every size, the smaller the fainter, as photographs have them.
fn picture(height: usize, width: usize) -> Image {
    let mut rng = stream(0, Purpose::Test, 0, 0);
    let mut sum = vec![0f32; 3 * height * width];
    for side in [64, 32, 16, 8, 4, 2, 1] {
        let columns = width / side + 2;
        let grid: Vec<f32> =
            (0..3 * columns * (height / side + 2)).map(|_| rng.random::<f32>() - 0.5).collect();
        for (i, sum) in sum.iter_mut().enumerate() {
            let (channel, x, y) = (i % 3, i / 3 % width, i / 3 / width);
            let at = |x: usize, y: usize| grid[3 * (y * columns + x) + channel];
            let [fx, fy] = [x, y].map(|place| (place % side) as f32 / side as f32);
            let [x, y] = [x / side, y / side];
            let row = |y: usize| at(x, y) * (1.0 - fx) + at(x + 1, y) * fx;
            *sum += (side as f32).powf(0.3) * (row(y) * (1.0 - fy) + row(y + 1) * fy);
        }
    }
    let pixels = sum.iter().map(|value| (128.0 + 20.0 * value).clamp(0.0, 255.0) as u8).collect();
    Image { height, width, pixels }
}

fn main() {
    let cifar = AugmentConfig {
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
    time_view("32×32 view, CIFAR recipe", &cifar, &image, 2000);

    let imagenet = AugmentConfig { size: 224, blur: 0.5, ..cifar };
    let image = picture(375, 500);
    time_view("224×224 view, ImageNet recipe, of 500×375", &imagenet, &image, 40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 92)
        .encode(&image.pixels, 500, 375, image::ExtendedColorType::Rgb8)
        .unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let (median, best) = time(40, |_, _| assert_eq!(decode(&path, Exif::Ignored).unwrap().width, 500));
    let kib = bytes.len() / 1024;
    println!("decoding that as JPEG of {kib} KiB, one thread: median {median:.1} µs, best {best:.1} µs");
}
