//! A memory bank in a mapped file streams: visiting all images, saving a checkpoint and going on
//! from it never hold it in memory. At 1/64 of ImageNet: 20,000 × 2048.
//!
//! Each case is a process of its own, this test program again, whose private memory the system
//! limits to less than the bank (`ulimit -d`, which counts heap and stacks, not files), and which
//! reads off what it holds.

use super::support::Rows;
use candle_core::{Device, Tensor};
use simsiam_em::eta::{BankPlace, EStep, Rule, Samples, Size, Steps, Views, bank_bytes};
use simsiam_em::kernel::Precision;
use simsiam_em::record::{RunDir, SavedTensor, Snapshot};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

const IMAGES: usize = 20_000;
const DIM: usize = 2048;
const BATCH: usize = 200;
/// What the child is asked for: precision, and where the bank is kept.
const CASE: &str = "SIM_TEST_BANK";
/// Private memory that a child may have: half of the smaller bank's 82 MB.
const LIMIT_KIB: u64 = 40 << 10;

fn precision(case: &str) -> Precision {
    if case.contains("bf16") { Precision::Bf16 } else { Precision::F32 }
}

/// Bytes behind `key` in /proc/self/status.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn build(case: &str, folder: &Path) -> Box<dyn EStep> {
    let memory_limit_bytes = if case.contains("memory") { u64::MAX } else { 0 };
    let place = BankPlace { memory_limit_bytes, folder: folder.to_path_buf(), ..BankPlace::default() };
    let size = Size { images: IMAGES, dim: DIM, per_epoch: 1, steps: 1, elements: 0, ..Size::default() };
    Rule::MemoryBank { m: 0.8, precision: precision(case), k: Steps::Count(1) }.build(&size, &place).unwrap()
}

/// Views whose outputs are their images' numbers plus `shift`: exact in bf16.
fn views(indices: Vec<u32>, shift: f32) -> Views {
    let second = indices.iter().flat_map(|i| std::iter::repeat_n((i % 100) as f32 + shift, DIM));
    let x: Vec<f32> = vec![0.0; BATCH * DIM].into_iter().chain(second).collect();
    Views {
        step: 0,
        indices,
        x: Tensor::from_vec(x, (2, BATCH, 1, 1, DIM), &Device::Cpu).unwrap(),
        labels: Vec::new(),
        small: None,
    }
}

/// The targets of a batch, after `rule` has absorbed it where `absorb` says so.
fn targets(rule: &mut dyn EStep, indices: Vec<u32>, absorb: Option<f32>) -> Vec<f32> {
    let views = views(indices, absorb.unwrap_or(0.0));
    if absorb.is_some() {
        rule.refresh(&Rows, &mut std::iter::once(Ok(views.clone()))).unwrap();
    }
    let z = Tensor::zeros((1, BATCH, DIM), candle_core::DType::F32, &Device::Cpu).unwrap();
    rule.targets(&views, &z, &Rows).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A batch of images that lie far apart.
fn batch(step: usize) -> Vec<u32> {
    (0..BATCH).map(|i| (i * (IMAGES / BATCH) + (step * 37) % (IMAGES / BATCH)) as u32).collect()
}

/// The child: one step, all others, a checkpoint, going on from it.
fn child(case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let dir = RunDir::open(folder.path(), "seed = 1\n", false).unwrap();
    assert!(dir.resume().unwrap().is_none());
    let mut logs = dir.metrics(&["train/loss"]).unwrap();
    let mut rule = build(case, folder.path());
    let bank = bank_bytes(IMAGES, DIM, precision(case));
    let file_before = status("RssFile");
    targets(rule.as_mut(), batch(0), Some(0.0));
    // A file system may map up to 64 KiB around a page; a hundredth of the images is visited.
    let touched = status("RssFile").saturating_sub(file_before);
    assert!(touched < bank / 4, "one batch made {touched} bytes of the bank's {bank} resident");
    for step in 1..IMAGES / BATCH {
        targets(rule.as_mut(), batch(step), Some(0.0));
    }
    let moved = targets(rule.as_mut(), batch(3), Some(10.0));
    assert!((moved[0] - (batch(3)[0] % 100) as f32 - 2.0).abs() < 1e-5, "{}", moved[0]);
    let tensors = rule.state().unwrap().into_iter();
    let tensors = tensors.map(|(name, shape, data)| SavedTensor { name, shape, data }).collect();
    dir.save(&Snapshot { step: 1, tensors, integers: BTreeMap::new() }, &mut logs).unwrap();
    let saved = folder.path().join("checkpoints/step-0000000001/state.safetensors");
    assert!(saved.metadata().unwrap().len() > bank);
    drop(rule);
    let mut rule = build(case, folder.path());
    let snapshot = dir.resume().unwrap().unwrap();
    rule.restore(snapshot.tensors.into_iter().map(|t| (t.name, t.shape, t.data)).collect()).unwrap();
    assert!(targets(rule.as_mut(), batch(3), None) == moved);
    let last = targets(rule.as_mut(), batch(4), None);
    let expected = batch(4).into_iter().flat_map(|i| std::iter::repeat_n((i % 100) as f32, DIM));
    assert!(last.into_iter().eq(expected));
    println!("{case}: {} MB of its own for a bank of {} MB", status("RssAnon") >> 20, bank >> 20);
}

fn spawn(case: &str) -> Option<Output> {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: without /proc and Linux's ulimit -d private memory cannot be limited");
        return None;
    }
    let script = format!("ulimit -d {LIMIT_KIB} && exec \"$0\" \"$@\"");
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).env(CASE, case);
    command.args(["--exact", "bank::a_mapped_bank_is_not_held_in_memory", "--nocapture", "--test-threads=1"]);
    Some(command.output().unwrap())
}

#[test]
fn a_mapped_bank_is_not_held_in_memory() {
    if let Ok(case) = std::env::var(CASE) {
        return child(&case);
    }
    for case in ["f32 mapped", "bf16 mapped"] {
        let Some(output) = spawn(case) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{case}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let said = text.lines().find_map(|line| line.split_once("mapped: ")).expect("the child ran").1;
        println!("{case}: {said}");
        let own: u64 = said.split(' ').next().unwrap().parse().unwrap();
        assert!(own < LIMIT_KIB >> 10, "{said}");
    }
    // The limit is one: a bank in memory does not fit.
    let Some(output) = spawn("f32 memory") else { return };
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A chunk of more than an epoch comes back to images: each moves once, also beside one that is
/// new.
#[test]
fn an_expectation_moves_the_target_of_an_image_once_in_a_chunk() {
    let rule = Rule::Expectation { n: Samples::Count(1), normalised: false, k: Steps::Count(3), m: 0.5 };
    let size = Size { images: 3, dim: 1, per_epoch: 1, steps: 6, elements: 0, ..Size::default() };
    let mut rule = rule.build(&size, &BankPlace::default()).unwrap();
    let batch = |step: u64, indices: [u32; 2], values: [f32; 2]| Views {
        step,
        indices: indices.to_vec(),
        x: Tensor::from_slice(&values, (1, 2, 1, 1, 1), &Device::Cpu).unwrap(),
        labels: Vec::new(),
        small: None,
    };
    let eta = |rule: &mut Box<dyn EStep>| {
        let z = Tensor::zeros((1, 3, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let all = Views { indices: vec![0, 1, 2], ..batch(0, [0, 1], [0.0; 2]) };
        rule.targets(&all, &z, &Rows).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let first = [batch(0, [0, 1], [8.0, 4.0]), batch(1, [2, 0], [2.0, 6.0]), batch(2, [1, 0], [3.0, 3.0])];
    rule.refresh(&Rows, &mut first.into_iter().map(Ok)).unwrap();
    assert_eq!(eta(&mut rule), [8.0, 4.0, 2.0]);
    let second = [batch(3, [0, 1], [0.0, 0.0]), batch(4, [1, 2], [9.0, 0.0]), batch(5, [0, 1], [7.0, 7.0])];
    rule.refresh(&Rows, &mut second.into_iter().map(Ok)).unwrap();
    assert_eq!(eta(&mut rule), [4.0, 2.0, 1.0]);
}
