//! What the memory bank adds to a step: absorbing a batch of 256 × 2048 and handing out its
//! targets.
//!
//! `cargo bench --bench bank -- [images] [folder] [memory|mapped]` visits every image of a bank of
//! so many three times, in random order, in memory and in a mapped file in `folder`, as f32 and as
//! bf16, and prints milliseconds per step. The first visits of a mapped bank begin "cold", with all
//! of the file written back and dropped from the page cache, where the system lets it
//! (`/proc/sys/vm/drop_caches`, as root).

use candle_core::{Device, Tensor};
use rand::Rng;
use rand::seq::SliceRandom;
use simsiam_em::eta::{BankPlace, EStep, FrozenEncoder, Rule, Size, Steps, Views};
use simsiam_em::kernel::Precision;
use simsiam_em::rng::{Purpose, stream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 256;
const DIM: usize = 2048;

/// An encoder that costs nothing: an image is its own output.
struct Rows;

impl FrozenEncoder for Rows {
    fn z(&self, x: &Tensor) -> simsiam_em::Result<Tensor> {
        Ok(x.reshape((1, BATCH, DIM))?)
    }

    fn theta(&self) -> simsiam_em::Result<Tensor> {
        Ok(Tensor::new(&[0f32], &Device::Cpu)?)
    }

    fn z_by(&self, _: &Tensor, x: &Tensor) -> simsiam_em::Result<Tensor> {
        self.z(x)
    }

    fn scores(&self, z: &Tensor) -> simsiam_em::Result<Tensor> {
        Ok(z.clone())
    }
}

/// Writes back what is dirty and drops the page cache; whether the system let it.
fn drop_page_cache() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

/// Milliseconds of every step of a pass over all images in a random order.
fn pass(rule: &mut dyn EStep, images: usize, x: &Tensor, pass: u64) -> Vec<f64> {
    let mut order: Vec<u32> = (0..images as u32).collect();
    order.shuffle(&mut stream(0, Purpose::Test, pass, 0));
    let z = x.narrow(0, 0, 1).unwrap().reshape((1, BATCH, DIM)).unwrap();
    let step = |(step, indices): (usize, &[u32])| {
        let views = Views {
            step: step as u64,
            indices: indices.to_vec(),
            labels: Vec::new(),
            x: x.clone(),
            small: None,
        };
        let begun = Instant::now();
        rule.refresh(&Rows, &mut std::iter::once(Ok(views.clone()))).unwrap();
        rule.targets(&views, &z, &Rows).unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    };
    order.chunks_exact(BATCH).enumerate().map(step).collect()
}

fn print(bank: &str, what: &str, mut steps: Vec<f64>) {
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    steps.sort_by(f64::total_cmp);
    let at = |share: f64| steps[((steps.len() - 1) as f64 * share) as usize];
    println!("{bank:24} {what:28} mean {mean:8.2} ms, median {:8.2}, 95 % below {:8.2}", at(0.5), at(0.95));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let images = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(160_000);
    let folder = arguments.get(1).map_or_else(std::env::temp_dir, |folder| Path::new(folder).to_path_buf());
    let mut rng = stream(0, Purpose::Test, 0, 0);
    let x: Vec<f32> = (0..2 * BATCH * DIM).map(|_| rng.random::<f32>() - 0.5).collect();
    let x = Tensor::from_vec(x, (2, BATCH, 1, 1, DIM), &Device::Cpu).unwrap();
    println!(
        "{images} images × {DIM}, batch {BATCH}, {} steps a pass, in {}",
        images / BATCH,
        folder.display()
    );
    for precision in Precision::ALL {
        let rule = Rule::MemoryBank { m: 0.8, precision, k: Steps::Count(1) };
        for (name, limit) in [("memory", u64::MAX), ("mapped", 0)] {
            if arguments.get(2).is_some_and(|wanted| wanted != name) {
                continue;
            }
            let place =
                BankPlace { memory_limit_bytes: limit, folder: folder.clone(), ..BankPlace::default() };
            let begun = Instant::now();
            let size = Size { images, dim: DIM, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
            let mut bank = rule.build(&size, &place).unwrap();
            let name = format!("{name}, {}", precision.dtype().to_lowercase());
            println!("{name:24} made in {:.1} s", begun.elapsed().as_secs_f64());
            let cold = limit == 0 && drop_page_cache();
            let first = pass(bank.as_mut(), images, &x, 1);
            print(&name, if cold { "first visits, cold" } else { "first visits" }, first);
            print(&name, "second visits", pass(bank.as_mut(), images, &x, 2));
            print(&name, "third visits", pass(bank.as_mut(), images, &x, 3));
        }
    }
}
