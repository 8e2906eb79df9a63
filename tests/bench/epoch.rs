//! Images per second end to end: JPEG folder, augmentation and the SimSiam step of resnet8
//! together.
//!
//!     cargo bench --bench epoch -- DIR [steps] [threads]
//!
//! DIR holds train/CLASS/*.jpg and test/CLASS/*.jpg of CIFAR-10's size. The time of an epoch is the
//! median of the steps' (which wait for their batches) times their number, and the opening of the
//! data set, where all files are decoded: PyTorch decodes them in each epoch, this program once in
//! a run. `tests/bench/compare.py --epoch DIR` runs it by turns with torchvision.

mod setting;

use candle_core::{Device, Tensor};
use setting::{alternation, median, settings};
use simsiam_em::augment::AugmentConfig;
use simsiam_em::data::loader::{BatchShape, Loader, steps_per_epoch};
use simsiam_em::data::{DataConfig, Dataset};
use simsiam_em::eta::Views;
use simsiam_em::train::Rates;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Views per image.
const VIEWS: usize = 2;

fn main() {
    simsiam_em::threads::on_the_caller();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(folder) = arguments.first() else {
        println!("usage: cargo bench --bench epoch -- DIR [steps] [threads]");
        return;
    };
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (steps, threads) = (number(1, 200) as u64, number(2, 2));
    let config = DataConfig { test_images: 10, ..DataConfig::all_of(&format!("folder:{folder}")) };
    let augment = AugmentConfig {
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
    let setting = settings().into_iter().find(|s| s.name == "resnet8").expect("a network of the comparison");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let begun = Instant::now();
        let data = Dataset::open(&config).unwrap();
        let opening = begun.elapsed().as_secs_f64();
        let per_epoch = steps_per_epoch(data.train.len(), setting.batch);
        let mut alternation = alternation(&setting);
        let workers = threads.clamp(1, 2);
        let mut loader = Loader::new(
            data.train.clone(),
            augment,
            BatchShape::drawn(setting.batch, VIEWS),
            0,
            0..steps,
            workers,
        );
        let shape = (VIEWS, setting.batch, 32, 32, 3);
        let mut next = |step| {
            let batch = loader.next()?.expect("as many batches as steps");
            Ok(Views {
                step,
                indices: batch.indices,
                x: Tensor::from_vec(batch.views, shape, &Device::Cpu)?,
                labels: Vec::new(),
                small: None,
            })
        };
        let rates = Rates { encoder: 0.01, predictor: 0.01 };
        let mut seconds = Vec::new();
        for step in 0..steps {
            let begun = Instant::now();
            alternation.step(step, steps, rates, &mut next).unwrap();
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let epoch = median(seconds) * per_epoch as f64 + opening;
        println!(
            "resnet8 end to end, {steps} of {per_epoch} steps, opening {opening:.1} s: median {:.1} img/s",
            (per_epoch * setting.batch as u64) as f64 / epoch
        );
    });
}
