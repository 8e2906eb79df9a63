//! Images per second of the SimSiam step: two views, forward, backward, SGD; and where the time goes.
//!
//! `cargo bench --bench step -- [resnet8|resnet18|resnet50|laptop] [repetitions] [threads]` prints one line
//! for each repetition's network and the median, so that a script can interleave it with another
//! framework's.

use candle_core::{Device, Tensor};
use rand::Rng;
use simsiam_em::eta::{BankPlace, Rule, Views};
use simsiam_em::kernel;
use simsiam_em::network::config::*;
use simsiam_em::objective::{ObjectiveConfig, Similarity};
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::Predictor;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::train::{Alternation, Model, Rates};
use std::time::Instant;

struct Setting {
    name: &'static str,
    backbone: Backbone,
    dim: usize,
    hidden: usize,
    batch: usize,
    size: usize,
}

fn settings() -> Vec<Setting> {
    let stem = Stem::Cifar;
    let setting =
        |name, backbone, dim, hidden, batch, size| Setting { name, backbone, dim, hidden, batch, size };
    vec![
        setting("resnet8", Backbone::Resnet8 { width: 32 }, 512, 128, 64, 32),
        setting("resnet18", Backbone::Resnet18 { stem }, 2048, 512, 64, 32),
        setting("resnet50", Backbone::Resnet50 { stem: Stem::Imagenet }, 2048, 512, 16, 64),
        setting("laptop", Backbone::Resnet8 { width: 16 }, 256, 64, 64, 24),
    ]
}

fn alternation(s: &Setting) -> Alternation {
    let encoder = EncoderConfig {
        backbone: s.backbone.clone(),
        zero_init_residual: false,
        projector: ProjectorConfig { layers: 2, hidden: None, dim: s.dim, norm: HeadNorm::All },
    };
    let predictor = Predictor::Mlp(PredictorConfig { hidden: s.hidden, norm: HeadNorm::Hidden });
    let model = Model::new(&encoder, &predictor, s.size, 0, &kernel::select().unwrap()).unwrap();
    let optim = OptimConfig {
        base_lr: 0.01,
        momentum: 0.9,
        weight_decay: 1e-4,
        decay: Decay::Constant,
        warmup_epochs: 0,
        constant_predictor_lr: false,
    };
    let place = BankPlace { memory_limit_bytes: u64::MAX, folder: std::env::temp_dir() };
    let rule = Rule::OneStep {};
    let e_step = rule.build(s.batch, s.dim, 1, &place).unwrap();
    Alternation::new(
        model,
        &rule,
        e_step,
        ObjectiveConfig { similarity: Similarity::Cosine, symmetric: true },
        optim,
    )
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (repetitions, threads) = (number(1, 7), number(2, 2));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    println!("kernel {}, {threads} threads", kernel::select().unwrap().name());
    for s in settings() {
        if arguments.first().is_some_and(|wanted| wanted != s.name && wanted != "all") {
            continue;
        }
        let mut alternation = alternation(&s);
        let mut rng = stream(0, Purpose::Test, 0, 0);
        let x: Vec<f32> = (0..2 * s.batch * s.size * s.size * 3).map(|_| rng.random::<f32>() - 0.5).collect();
        let x = Tensor::from_vec(x, (2, s.batch, s.size, s.size, 3), &Device::Cpu).unwrap();
        let mut batch = |step| Ok(Views { step, indices: (0..s.batch as u32).collect(), x: x.clone() });
        let rates = Rates { encoder: 0.01, predictor: 0.01 };
        let mut seconds = Vec::new();
        for step in 0..repetitions as u64 + 2 {
            let begun = Instant::now();
            pool.install(|| alternation.step(step, u64::MAX, rates, &mut batch)).unwrap();
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let mut timed = seconds.split_off(2);
        timed.sort_by(f64::total_cmp);
        let median = timed[timed.len() / 2];
        println!(
            "{} batch {} median {:.1} img/s ({:.1} ms)",
            s.name,
            s.batch,
            s.batch as f64 / median,
            median * 1e3
        );
    }
}
