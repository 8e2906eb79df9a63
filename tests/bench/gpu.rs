//! Images per second of the SimSiam step on a GPU, with images that are already there, and the
//! memory it takes: arrays and libraries, without what an idle process has. Of several settings in
//! one process only the first one's memory is right: what one has freed stays with the process.
//!
//! `cargo bench --features cuda --bench gpu -- [resnet18|resnet50|all] [f32|tf32|bf16|all]
//! [repetitions] [device] [kernels]`; the median over repetitions of ten steps, of which the last
//! is waited for. `tests/bench/gpu.sh` runs it beside PyTorch. With `kernels`, a step's time by
//! kernel and shape.

use candle_core::Tensor;
use rand::Rng;
use simsiam_em::device::{Place, Site};
use simsiam_em::eta::{BankPlace, Rule, Size, Views};
use simsiam_em::kernel::device::{Buffer, Device, Launch, Pass, Span};
use simsiam_em::kernel::{Conv, Precision};
use simsiam_em::network::config::*;
use simsiam_em::objective::ObjectiveConfig;
use simsiam_em::optim::{Decay, OptimConfig};
use simsiam_em::recipe::Predictor;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::train::{Alternation, Model, Rates};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
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

/// A device that waits for each of its calls and adds up how long they take, by what they are.
struct Timed {
    inner: Arc<dyn Device>,
    one: Mutex<Buffer>,
    /// Calls of a kind, and their seconds.
    spent: Mutex<HashMap<String, (u32, f64)>>,
}

/// How often a call is repeated for its time: what a kernel costs, not what a launch and a wait do.
/// Results are then wrong where a call adds to what is there.
const REPEATED: u32 = 10;

impl Timed {
    fn new(inner: Arc<dyn Device>) -> simsiam_em::Result<Self> {
        Ok(Self { one: Mutex::new(inner.allocate(4)?), inner, spent: Mutex::default() })
    }

    fn wait(&self) -> simsiam_em::Result<()> {
        let one = self.one.lock().unwrap();
        self.inner.download(one.span(Precision::F32, 0, 1), &mut [0; 4])
    }

    fn timed<T>(&self, name: String, call: impl Fn() -> simsiam_em::Result<T>) -> simsiam_em::Result<T> {
        let result = call()?;
        self.wait()?;
        let begun = Instant::now();
        for _ in 0..REPEATED {
            call()?;
        }
        self.wait()?;
        let mut spent = self.spent.lock().unwrap();
        let entry = spent.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1 + begun.elapsed().as_secs_f64() / f64::from(REPEATED));
        Ok(result)
    }

    /// The kinds of calls by their share of a step, of which `steps` were made.
    fn print(&self, steps: u64) {
        let spent = std::mem::take(&mut *self.spent.lock().unwrap());
        let total: f64 = spent.values().map(|(_, seconds)| seconds).sum();
        let mut rows: Vec<_> = spent.into_iter().collect();
        rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        println!("  {:.2} ms in kernels", total * 1e3 / steps as f64);
        for (name, (calls, seconds)) in rows {
            let (ms, share) = (seconds * 1e3 / steps as f64, 100.0 * seconds / total);
            println!("  {ms:8.3} ms {share:5.1} % {:4} × {name}", u64::from(calls) / steps);
        }
    }
}

// SAFETY: every call is handed on.
unsafe impl Device for Timed {
    fn name(&self, precision: Precision) -> &'static str {
        self.inner.name(precision)
    }

    fn algorithm(&self) -> &'static str {
        self.inner.algorithm()
    }

    fn gpu(&self) -> Option<usize> {
        self.inner.gpu()
    }

    fn allocate(&self, bytes: usize) -> simsiam_em::Result<Buffer> {
        self.inner.allocate(bytes)
    }

    fn upload(&self, values: &[u8], to: Span) -> simsiam_em::Result<()> {
        self.inner.upload(values, to)
    }

    fn download(&self, from: Span, values: &mut [u8]) -> simsiam_em::Result<()> {
        self.inner.download(from, values)
    }

    unsafe fn launch(&self, launch: &Launch) -> simsiam_em::Result<()> {
        let sizes: Vec<String> =
            launch.args.iter().filter_map(|arg| arg.int()).map(|n| n.to_string()).collect();
        let name = format!("{} {:?} {}", launch.kernel, launch.grid, sizes.join(" "));
        // SAFETY: handed on.
        self.timed(name, || unsafe { self.inner.launch(launch) })
    }

    fn conv(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> simsiam_em::Result<bool> {
        self.timed(format!("conv {pass:?} {}", shape(s)), || self.inner.conv(pass, s, a, b, out))
    }

    fn refused(&self) -> Vec<(Pass, Conv)> {
        self.inner.refused()
    }

    fn product(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> simsiam_em::Result<bool> {
        self.timed(format!("product {pass:?} {}", shape(s)), || self.inner.product(pass, s, a, b, out))
    }
}

/// With the work in Gflop.
fn shape(s: &Conv) -> String {
    let pixels = s.batch * s.out_height() * s.out_width();
    let work = 2.0 * (pixels * s.kernel * s.kernel * s.in_channels * s.out_channels) as f64 / 1e9;
    format!("{s}, {work:.1} Gflop")
}

fn measure(
    s: &Setting,
    kind: &str,
    repetitions: usize,
    place: Place,
    kernels: bool,
) -> simsiam_em::Result<()> {
    let taken = place.memory_bytes()?;
    let opened = place.open()?;
    let precision = if kind == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let projector = ProjectorConfig { layers: s.layers, hidden: None, dim: DIM, norm: HeadNorm::All };
    let encoder = EncoderConfig { precision, ..EncoderConfig::new(s.backbone.clone(), projector) };
    let head = PredictorConfig { hidden: HIDDEN, norm: HeadNorm::Hidden, inverse: false };
    let timed = match opened.kernels() {
        Some(inner) if kernels => Some(Arc::new(Timed::new(inner.clone())?)),
        _ => None,
    };
    let site = match &timed {
        Some(timed) => Site::new(opened.tensors().clone(), timed.clone())?,
        None => opened,
    };
    let kernel = site.host_kernel(precision)?;
    let model = Model::new(&encoder, &Predictor::Mlp(head), s.size, 0, &kernel)?.on(&site)?;

    let rule = Rule::OneStep {};
    let folder = BankPlace::default();
    let size = Size { images: s.batch, dim: DIM, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
    let (e_step, objective) = (rule.build(&size, &folder)?, ObjectiveConfig::default());
    let mut alternation = Alternation::new(model, &rule, e_step, objective, optim(), 0)?;

    let mut rng = stream(0, Purpose::Test, 0, 0);
    let x: Vec<f32> = (0..2 * s.batch * s.size * s.size * 3).map(|_| rng.random::<f32>() - 0.5).collect();
    let x = Tensor::from_vec(x, (2, s.batch, s.size, s.size, 3), site.tensors())?;
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
    let mut steps = |first: u64, count: u64| -> simsiam_em::Result<f64> {
        let mut last = f64::NAN;
        for step in first..first + count {
            let made = alternation.step(step, u64::MAX, rates, &mut batch)?;
            if step + 1 == first + count {
                last = made.loss.wait()?;
            }
        }
        Ok(last)
    };
    let first = steps(0, WARM_UP)?;
    if let Some(timed) = &timed {
        timed.spent.lock().unwrap().clear();
        steps(WARM_UP, 2)?;
        println!("sim {} {kind} batch {}:", s.name, s.batch);
        timed.print(2);
        return Ok(());
    }
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
        place.memory_bytes()?.saturating_sub(taken) >> 20
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
            // The GPU's products are chosen when it is opened, by a variable: a process measures
            // one of the two.
            let set = std::env::var("SIM_KERNEL").is_ok_and(|name| name == "cuda-tf32");
            if asked && (kind == "tf32") == set {
                measure(&s, kind, repetitions, place, word(4, "") == "kernels")?;
            }
        }
    }
    Ok(())
}
