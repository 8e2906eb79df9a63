//! Images per second of the SimSiam step on a GPU, with images that are already there, and the memory it takes.
//!
//! `cargo bench --features cuda --bench gpu -- [resnet18|resnet50|all] [f32|tf32|bf16|all] [repetitions] [device]`; the median over
//! repetitions of ten steps, of which the last is waited for. `tests/bench/gpu.sh` runs it beside PyTorch.

use candle_core::Tensor;
use rand::Rng;
use simsiam_em::device::{Place, host_kernel, memory_bytes};
use simsiam_em::eta::{BankPlace, Rule, Size, Views};
use simsiam_em::kernel::Precision;
use simsiam_em::network::config::*;
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::Predictor;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::train::{Alternation, Model, Rates};
use std::time::Instant;

/// Steps that are timed together.
const STEPS: u64 = 10;
/// Steps before: convolutions choose their algorithms, memory is taken.
const WARM_UP: u64 = 5;

/// A network of the comparison with PyTorch; `pytorch_gpu.py` has the same.
struct Setting {
    name: &'static str,
    backbone: Backbone,
    /// Linear layers of the projector.
    layers: usize,
    batch: usize,
    /// Side of the images in pixels.
    size: usize,
}

/// d, and the predictor's hidden width.
const DIM: usize = 2048;
const HIDDEN: usize = 512;

/// The paper's Appendix D and Sec. 4.
fn settings() -> [Setting; 2] {
    let (cifar, imagenet) = (Stem::Cifar, Stem::Imagenet);
    let resnet18 = Backbone::Resnet18 { stem: cifar };
    let resnet50 = Backbone::Resnet50 { stem: imagenet };
    [
        Setting { name: "resnet18", backbone: resnet18, layers: 2, batch: 512, size: 32 },
        Setting { name: "resnet50", backbone: resnet50, layers: 3, batch: 256, size: 224 },
    ]
}

/// SGD as PyTorch is given it.
fn optim() -> OptimConfig {
    OptimConfig { base_lr: 0.01, decay: Decay::Constant, ..OptimConfig::default() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(s: &Setting, kind: &str, repetitions: usize, place: Place) -> simsiam_em::Result<()> {
    let device = place.open()?;
    let precision = if kind == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let projector = ProjectorConfig { layers: s.layers, hidden: None, dim: DIM, norm: HeadNorm::All };
    let encoder =
        EncoderConfig { backbone: s.backbone.clone(), zero_init_residual: false, projector, precision };
    let head = PredictorConfig { hidden: HIDDEN, norm: HeadNorm::Hidden, inverse: false };
    let kernel = host_kernel(&device, precision)?;
    let model = Model::new(&encoder, &Predictor::Mlp(head), s.size, 0, &kernel)?.on(&device)?;

    let rule = Rule::OneStep {};
    let folder = BankPlace { memory_limit_bytes: u64::MAX, folder: std::env::temp_dir() };
    let size = Size { images: s.batch, dim: DIM, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
    let mut alternation =
        Alternation::new(model, &rule, rule.build(&size, &folder)?, ObjectiveConfig::default(), optim());

    let mut rng = stream(0, Purpose::Test, 0, 0);
    let x: Vec<f32> = (0..2 * s.batch * s.size * s.size * 3).map(|_| rng.random::<f32>() - 0.5).collect();
    let x = Tensor::from_vec(x, (2, s.batch, s.size, s.size, 3), &device)?;
    let mut batch =
        |step| Ok(Views { step, indices: (0..s.batch as u32).collect(), x: x.clone(), small: None });
    let rates = Rates { encoder: 0.01, predictor: 0.01 };
    let mut steps = |first: u64, count: u64| -> simsiam_em::Result<f64> {
        let mut last = f64::NAN;
        for step in first..first + count {
            let made = alternation.step(step, u64::MAX, rates, &mut batch)?;
            if step + 1 == first + count {
                last = made.loss_now()?;
            }
        }
        Ok(last)
    };
    let first = steps(0, WARM_UP)?;
    let mut seconds = Vec::new();
    let mut last = first;
    for repetition in 0..repetitions as u64 {
        let begun = Instant::now();
        last = steps(WARM_UP + repetition * STEPS, STEPS)?;
        seconds.push(begun.elapsed().as_secs_f64() / STEPS as f64);
    }
    let step = median(seconds);
    println!(
        "sim {} {kind} batch {}: {:.1} img/s ({:.2} ms), {} MiB, loss {first:.4} to {last:.4}",
        s.name,
        s.batch,
        s.batch as f64 / step,
        step * 1e3,
        memory_bytes(&device)? >> 20
    );
    Ok(())
}

fn main() -> simsiam_em::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let word = |i: usize, default: &'static str| arguments.get(i).map_or(default, String::as_str);
    let (wanted, kinds) = (word(0, "all"), word(1, "all"));
    let repetitions = word(2, "5").parse().unwrap_or(5);
    let place = match Place::find(word(3, "cuda:0")) {
        Ok(place) => place,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    for s in settings() {
        for kind in ["f32", "tf32", "bf16"] {
            let asked = (wanted == s.name || wanted == "all") && (kinds == kind || kinds == "all");
            // The GPU's products are chosen when it is opened, by a variable: a process measures one of the two.
            let set = std::env::var("SIM_KERNEL").is_ok_and(|name| name == "cuda-tf32");
            if asked && (kind == "tf32") == set {
                measure(&s, kind, repetitions, place)?;
            }
        }
    }
    Ok(())
}
