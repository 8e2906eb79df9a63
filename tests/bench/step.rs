//! Images per second of the SimSiam step: two views, forward, backward, SGD; and where the time
//! goes.
//!
//! `cargo bench --bench step -- [resnet8|resnet18|resnet50|laptop|all] [repetitions] [threads]
//! [parts|e-step]` prints one line for each network, the median over the repetitions; with `parts`,
//! the median time of each part of a step below it; with `e-step`, images per second of an exact
//! E-step over 16 views, by turns with a plain forward pass. `tests/bench/compare.py` runs it by
//! turns with PyTorch.

mod setting;

use candle_core::{DType, Device, Tensor, Var};
use rand::Rng;
use setting::{Setting, alternation, median, model, optim, precision, settings};
use simsiam_em::device::processor_kernel;
use simsiam_em::eta::{EStep, Expectation, Views};
use simsiam_em::kernel::{Conv, Kernel};
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::optim::Sgd;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::train::{Model, Rates};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As in the program: without it the system's allocator gives back large tensors' pages at each
/// step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A kernel that adds up the time of its calls: forward, input gradient, weight gradient, each of
/// convolutions and of linear layers.
struct Clocked {
    kernel: Arc<dyn Kernel>,
    nanoseconds: [AtomicU64; 6],
}

impl Clocked {
    fn clock(&self, pass: usize, shape: &Conv, run: impl FnOnce(&dyn Kernel)) {
        let begun = Instant::now();
        run(self.kernel.as_ref());
        let linear = usize::from(shape.height == 1 && shape.width == 1);
        self.nanoseconds[2 * pass + linear].fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    /// The times since the last call.
    fn take(&self) -> [Duration; 6] {
        std::array::from_fn(|i| Duration::from_nanos(self.nanoseconds[i].swap(0, Ordering::Relaxed)))
    }
}

impl Kernel for Clocked {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }
    fn conv_scratch(&self, s: &Conv) -> usize {
        self.kernel.conv_scratch(s)
    }
    fn conv_forward(&self, s: &Conv, x: &[f32], w: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        self.clock(0, s, |kernel| kernel.conv_forward(s, x, w, y, scratch));
    }
    fn conv_input_gradient(&self, s: &Conv, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        self.clock(1, s, |kernel| kernel.conv_input_gradient(s, dy, w, dx, scratch));
    }
    fn conv_weight_gradient(&self, s: &Conv, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        self.clock(2, s, |kernel| kernel.conv_weight_gradient(s, x, dy, dw, scratch));
    }
}

/// The parts of a step, in the order of `parts`' rows.
const PARTS: [&str; 10] = [
    "convolutions, forward",
    "convolutions, input gradient",
    "convolutions, weight gradient",
    "linear layers, forward",
    "linear layers, input gradient",
    "linear layers, weight gradient",
    "norms, ReLU, pooling, forward",
    "the same backward, and candle's sums",
    "objective, both ways",
    "SGD",
];

/// Milliseconds of each part of one step.
fn parts(clocked: &Clocked, model: &Model, momentum: &[Sgd], x: &Tensor) -> [f64; PARTS.len()] {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let cosine = ObjectiveConfig::default();
    clocked.take();
    let begun = Instant::now();
    let z = model.z(x).unwrap();
    let p = model.p(&z).unwrap();
    let forward = begun.elapsed();
    let forward_products = clocked.take();
    // The objective alone, on copies; then within the step, of which its time is taken away.
    let (begun, alone) = (Instant::now(), Var::from_tensor(&p.detach()).unwrap());
    cosine.loss(&alone, &z.detach(), None).unwrap().backward().unwrap();
    let objective = begun.elapsed();
    let begun = Instant::now();
    let loss = cosine.loss(&p, &z.detach(), None).unwrap();
    let gradients = loss.backward().unwrap();
    let backward = begun.elapsed();
    let backward_products = clocked.take();
    let begun = Instant::now();
    for (part, sgd) in model.parts().zip(momentum) {
        sgd.step(part.theta, gradients.get(part.theta).unwrap(), 0.01, &optim()).unwrap();
    }
    let sgd = begun.elapsed();
    let all = |products: &[Duration; 6]| products.iter().sum::<Duration>();
    [
        ms(forward_products[0]),
        ms(backward_products[2]),
        ms(backward_products[4]),
        ms(forward_products[1]),
        ms(backward_products[3]),
        ms(backward_products[5]),
        ms(forward.saturating_sub(all(&forward_products))),
        ms(backward.saturating_sub(all(&backward_products)).saturating_sub(objective)),
        ms(objective),
        ms(sgd),
    ]
}

fn print_parts(s: &Setting, x: &Tensor, repetitions: usize) {
    let clocked =
        Arc::new(Clocked { kernel: processor_kernel(precision()).unwrap(), nanoseconds: Default::default() });
    let kernel: Arc<dyn Kernel> = clocked.clone();
    let model = model(s, &kernel);
    let momentum: Vec<Sgd> =
        model.parts().map(|p| Sgd::new(p.parameters(), p.engine.machine()).unwrap()).collect();
    let runs: Vec<_> = (0..repetitions + 2).map(|_| parts(&clocked, &model, &momentum, x)).collect();
    let medians = std::array::from_fn::<f64, { PARTS.len() }, _>(|part| {
        median(runs[2..].iter().map(|run| run[part]).collect())
    });
    let whole: f64 = medians.iter().sum();
    for (name, time) in PARTS.iter().zip(medians) {
        println!("    {name:38} {time:8.2} ms {:5.1} %", 100.0 * time / whole);
    }
}

/// Elements of T.
const ELEMENTS: usize = 16;

/// η = E_T[F_θ(T(x))] by enumeration against the encoder in evaluation mode on as many images.
fn print_e_step(s: &Setting, repetitions: usize) {
    let model = model(s, &processor_kernel(precision()).unwrap());
    let mut rng = stream(0, Purpose::Test, 1, 0);
    let len = (ELEMENTS + 1) * s.batch * s.size * s.size * 3;
    let x: Vec<f32> = (0..len).map(|_| rng.random::<f32>() - 0.5).collect();
    let x = Tensor::from_vec(x, (ELEMENTS + 1, s.batch, s.size, s.size, 3), &Device::Cpu).unwrap();
    let views = Views { step: 0, indices: (0..s.batch as u32).collect(), labels: Vec::new(), x, small: None };
    let mut rule = Expectation { n: ELEMENTS, normalised: true, k: 1, kept: None, made: Default::default() };
    let z = Tensor::zeros((1, s.batch, s.dim), DType::F32, &Device::Cpu).unwrap();
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..repetitions + 1 {
        let begun = Instant::now();
        rule.targets(&views, &z, &model).unwrap();
        seconds[0].push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        (1..=ELEMENTS).for_each(|view| drop(model.evaluate(&views.x.get(view).unwrap()).unwrap()));
        seconds[1].push(begun.elapsed().as_secs_f64());
    }
    let rate = |seconds: &Vec<f64>| (ELEMENTS * s.batch) as f64 / median(seconds[1..].to_vec());
    let [exact, forward] = [&seconds[0], &seconds[1]].map(rate);
    println!("    exact E-step {exact:.0} img/s, forward pass {forward:.0} img/s: {:.2}", exact / forward);
}

fn main() {
    simsiam_em::threads::on_the_caller();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (repetitions, threads) = (number(1, 7), number(2, 2));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    println!("kernel {}, {threads} threads", processor_kernel(precision()).unwrap().name());
    for s in settings() {
        if arguments.first().is_some_and(|wanted| wanted != s.name && wanted != "all") {
            continue;
        }
        let mut alternation = alternation(&s);
        let mut rng = stream(0, Purpose::Test, 0, 0);
        let x: Vec<f32> = (0..2 * s.batch * s.size * s.size * 3).map(|_| rng.random::<f32>() - 0.5).collect();
        let x = Tensor::from_vec(x, (2, s.batch, s.size, s.size, 3), &Device::Cpu).unwrap();
        let mut batch = |step| {
            Ok(Views {
                step,
                indices: (0..s.batch as u32).collect(),
                labels: Vec::new(),
                x: x.clone(),
                small: None,
            })
        };
        let rates = Rates { encoder: 0.01, predictor: 0.01 };
        let mut seconds = Vec::new();
        for step in 0..repetitions as u64 + 2 {
            let begun = Instant::now();
            pool.install(|| alternation.step(step, u64::MAX, rates, &mut batch)).unwrap();
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let median = median(seconds.split_off(2));
        println!(
            "{} batch {} median {:.1} img/s ({:.1} ms)",
            s.name,
            s.batch,
            s.batch as f64 / median,
            median * 1e3
        );
        match arguments.get(3).map(String::as_str) {
            Some("parts") => pool.install(|| print_parts(&s, &x, repetitions)),
            Some("e-step") => pool.install(|| print_e_step(&s, repetitions)),
            _ => {}
        }
    }
}
