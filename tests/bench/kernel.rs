//! The three passes at every layer shape of resnet8 and ResNet-18 (CIFAR stem), two views of 64
//! images, and of the laptop scale's network, two views of 32.
//!
//!     cargo bench --bench kernel [-- PART OF A LAYER'S NAME]      (SIM_KERNEL=avx2 for another set)
//!
//! Prints direct-equivalent GFLOP/s: operations of the direct algorithm over the least time of many
//! repetitions, so Winograd's passes can exceed the multiply-add peak that stands in the first
//! line. The last columns are the multiply-adds that the layer's own algorithm makes, over the same
//! time, as a share of that peak: what is missing to 100 is transforms, memory, and register blocks
//! left half empty.

use std::time::{Duration, Instant};

use simsiam_em::device::processor_kernel;
use simsiam_em::kernel::{Conv, Precision, multiply_adds};

/// Least seconds of a call, over at least five calls and a third of a second.
fn seconds(mut call: impl FnMut()) -> f64 {
    let (start, mut best, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 5 || start.elapsed() < Duration::from_millis(300) {
        let call_start = Instant::now();
        call();
        best = best.min(call_start.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

/// (name, batch, side, in channels, out channels, kernel, stride)
const LAYERS: [(&str, usize, usize, usize, usize, usize, usize); 29] = [
    ("resnet8 stem", 128, 32, 3, 32, 3, 1),
    ("resnet8 block 1", 128, 32, 32, 32, 3, 1),
    ("resnet8 block 2 a", 128, 32, 32, 64, 3, 2),
    ("resnet8 block 2 b", 128, 16, 64, 64, 3, 1),
    ("resnet8 block 2 skip", 128, 32, 32, 64, 1, 2),
    ("resnet8 block 3 a", 128, 16, 64, 128, 3, 2),
    ("resnet8 block 3 b", 128, 8, 128, 128, 3, 1),
    ("resnet8 block 3 skip", 128, 16, 64, 128, 1, 2),
    ("resnet18 stem", 128, 32, 3, 64, 3, 1),
    ("resnet18 layer 1", 128, 32, 64, 64, 3, 1),
    ("resnet18 layer 2 a", 128, 32, 64, 128, 3, 2),
    ("resnet18 layer 2 b", 128, 16, 128, 128, 3, 1),
    ("resnet18 layer 3 a", 128, 16, 128, 256, 3, 2),
    ("resnet18 layer 3 b", 128, 8, 256, 256, 3, 1),
    ("resnet18 layer 4 a", 128, 8, 256, 512, 3, 2),
    ("resnet18 layer 4 b", 128, 4, 512, 512, 3, 1),
    ("linear 512 to 2048", 128, 1, 512, 2048, 1, 1),
    ("linear 2048 to 2048", 128, 1, 2048, 2048, 1, 1),
    ("linear 128 to 128", 64, 1, 128, 128, 1, 1),
    ("laptop stem", 64, 16, 3, 16, 3, 1),
    ("laptop block 1", 64, 16, 16, 16, 3, 1),
    ("laptop block 2 a", 64, 16, 16, 32, 3, 2),
    ("laptop block 2 b", 64, 8, 32, 32, 3, 1),
    ("laptop block 2 skip", 64, 16, 16, 32, 1, 2),
    ("laptop block 3 a", 64, 8, 32, 64, 3, 2),
    ("laptop block 3 b", 64, 4, 64, 64, 3, 1),
    ("laptop block 3 skip", 64, 8, 32, 64, 1, 2),
    ("laptop linear 64 to 256", 64, 1, 64, 256, 1, 1),
    ("laptop linear 256 to 256", 64, 1, 256, 256, 1, 1),
];

fn main() -> Result<(), simsiam_em::Error> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let bf16 = std::env::var("SIM_PRECISION").is_ok_and(|precision| precision == "bf16");
    let kernel = processor_kernel(if bf16 { Precision::Bf16 } else { Precision::F32 })?;
    let name = kernel.name();
    let rounds = 1_000_000;
    let mut operations = 0.0;
    let peak_seconds = seconds(|| operations = multiply_adds(name, rounds));
    let peak = operations / peak_seconds / 1e9;
    println!("{name}, {} threads, multiply-add peak {peak:.0} GFLOP/s", rayon::current_num_threads());
    println!(
        "{:24} {:>9} {:>9} {:>9}  GFLOP/s; µs; share of the peak, %",
        "", "forward", "d input", "d weight"
    );
    for (name, batch, side, in_channels, out_channels, kernel_side, stride) in LAYERS {
        if !name.contains(&filter) {
            continue;
        }
        let s = Conv {
            batch,
            height: side,
            width: side,
            in_channels,
            out_channels,
            kernel: kernel_side,
            stride,
            padding: kernel_side / 2,
        };
        let numbers = |len: usize| (0..len).map(|i| (i * 7919 % 1000) as f32 / 1000.0 - 0.5).collect();
        let (x, w, dy): (Vec<f32>, Vec<f32>, Vec<f32>) =
            (numbers(s.input_len()), numbers(s.weight_len()), numbers(s.output_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let mut scratch = vec![0.0; kernel.conv_scratch(&s)];
        let times = [
            seconds(|| kernel.conv_forward(&s, &x, &w, &mut y, &mut scratch)),
            seconds(|| kernel.conv_input_gradient(&s, &dy, &w, &mut dx, &mut scratch)),
            seconds(|| kernel.conv_weight_gradient(&s, &x, &dy, &mut dw, &mut scratch)),
        ];
        let [a, b, c] = times.map(|t| s.flops() / t / 1e9);
        let [ta, tb, tc] = times.map(|t| t * 1e6);
        let [pa, pb, pc] = times.map(|t| 100.0 * kernel.operations(&s) / t / 1e9 / peak);
        println!("{name:24} {a:9.0} {b:9.0} {c:9.0}  {ta:8.0} {tb:8.0} {tc:8.0}  {pa:5.0} {pb:5.0} {pc:5.0}");
    }
    Ok(())
}
