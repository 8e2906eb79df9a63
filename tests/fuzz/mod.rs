//! Files that nobody wrote: mutants of good ones, given to everything that reads bytes from
//! outside.
//!
//! A parser may refuse a mutant or take it; it may not panic, abort, hold [`MOST_BYTES`] or take
//! [`LONGEST`]. `README.md` says how to try more of them, and how to go on with cargo-fuzz.

mod data;
pub mod memory;
mod mutate;
mod objects;
mod record;
mod study;
mod weights;

use mutate::mutant;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A parser that holds more has not bounded what it reads.
pub const MOST_BYTES: usize = 1 << 30;
/// A request that leads here is refused: the machine must live on.
const REFUSED_FROM: usize = 4 << 30;
/// Longest time for one mutant.
pub const LONGEST: Duration = Duration::from_secs(10);
/// After this time without an end the process is ended, as nothing else ends an endless loop.
const HANGS: Duration = Duration::from_secs(60);
/// How long a target is tried where SIM_FUZZ_RUNS does not say how often.
const BRIEFLY: Duration = Duration::from_secs(3);

/// Something that reads bytes from outside.
type Target = fn(&[u8]);

/// The targets by which cargo-fuzz finds them.
const TARGETS: [(&str, Target); 20] = [
    ("CIFAR archive, packed", data::archive),
    ("CIFAR archive, unpacked", data::archive_inside),
    ("CIFAR pickle", data::batch),
    ("shard", data::shard),
    ("index of shards", data::index_of_shards),
    // Of a build with the feature.
    ("Parquet table", data::table),
    ("JPEG and PNG", data::image),
    ("WebP, BMP, TIFF and GIF", data::other_image),
    ("COCO annotations", objects::coco),
    ("VOC annotation", objects::voc),
    ("manifest", record::manifest),
    ("state", record::state),
    ("metrics CSV", record::metrics),
    ("figure CSV", record::figure),
    ("results JSON", record::results),
    ("study TOML", study::toml),
    ("grid range", study::axis),
    ("weights and model", weights::model),
    ("pickle", weights::pickle),
    ("replay case", weights::case),
];

/// The target that SIM_FUZZ_TARGET names.
pub fn target_of_the_environment() -> Target {
    let asked = std::env::var("SIM_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let found = TARGETS.iter().find(|(name, _)| *name == asked);
    found.unwrap_or_else(|| panic!("SIM_FUZZ_TARGET='{asked}' is none of {names:?}")).1
}

/// Gives `target` mutants of the files in `corpus`: for three seconds, or SIM_FUZZ_RUNS of them;
/// SIM_FUZZ_SEED chooses others.
///
/// The files of `corpus` come first, unchanged. The mutant in the hand of `target` lies in a file,
/// so that it is there after an abort.
pub fn run(name: &str, corpus: Vec<Vec<u8>>, target: impl Fn(&[u8])) {
    assert!(!corpus.is_empty(), "{name}: mutants of nothing");
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let (runs, seed) = (number("SIM_FUZZ_RUNS"), number("SIM_FUZZ_SEED").unwrap_or(1));
    let kept = kept(name);
    let watch = Watch::begin(name, kept.clone());
    let begun = Instant::now();
    let (mut most, mut longest, mut tried) = (0, Duration::ZERO, 0);
    while runs.map_or(begun.elapsed() < BRIEFLY, |runs| tried < runs) {
        let bytes = match corpus.get(tried as usize) {
            Some(whole) => whole.clone(),
            None => mutant(seed, tried, &corpus),
        };
        std::fs::write(&kept, &bytes).expect("the mutant is kept");
        watch.beat();
        let start = Instant::now();
        let mut ended = Ok(());
        let held = memory::most_during(REFUSED_FROM, || {
            ended = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        });
        let took = start.elapsed();
        let what = match ended {
            Err(_) => Some("a panic".to_string()),
            Ok(()) if held > MOST_BYTES => Some(format!("{held} bytes")),
            Ok(()) if took > LONGEST => Some(format!("{took:.1?}")),
            Ok(()) => None,
        };
        if let Some(what) = what {
            panic!("{name}: {what} at mutant {tried} of seed {seed}, kept as {}", kept.display());
        }
        (most, longest, tried) = (most.max(held), longest.max(took), tried + 1);
    }
    let _ = std::fs::remove_file(&kept);
    let mib = most.div_ceil(1 << 20);
    println!("| {name} | {tried} | {tried} | {mib} MiB | {:.0} ms |", longest.as_secs_f64() * 1e3);
}

/// Where the mutant lies that is being tried.
fn kept(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("sim-fuzz-{}-{}", name.replace([' ', '/'], "-"), std::process::id()))
}

/// Ends the process when a mutant takes for ever.
struct Watch {
    begun: Instant,
    beat_ms: std::sync::Arc<AtomicU64>,
    _end: mpsc::Sender<()>,
}

impl Watch {
    fn begin(name: &str, kept: PathBuf) -> Watch {
        let (end, ended) = mpsc::channel::<()>();
        let (begun, beat_ms) = (Instant::now(), std::sync::Arc::new(AtomicU64::new(0)));
        let (name, last) = (name.to_string(), beat_ms.clone());
        std::thread::spawn(move || {
            // The sender never sends: an error that is no timeout is the end of the run.
            while ended.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = begun.elapsed();
                if now.saturating_sub(Duration::from_millis(last.load(Ordering::Relaxed))) > HANGS {
                    // Not eprintln, whose words a test keeps to itself.
                    let _ = writeln!(std::io::stderr(), "{name}: no end of the mutant {}", kept.display());
                    std::process::abort();
                }
            }
        });
        Watch { begun, beat_ms, _end: end }
    }

    fn beat(&self) {
        self.beat_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

#[test]
fn cargo_fuzz_has_a_name_for_each_target() {
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), TARGETS.len());
    assert!(catch_unwind(target_of_the_environment).is_err(), "no target is the default");
}

#[test]
fn a_parser_that_takes_too_much_or_panics_is_found() {
    let fails =
        |target: fn(&[u8])| catch_unwind(|| run("a defect", vec![b"seed = 1".to_vec()], target)).is_err();
    assert!(fails(|bytes| assert!(bytes.len() < 64)));
    assert!(fails(|bytes| drop(std::hint::black_box(vec![
        0u8;
        MOST_BYTES * usize::from(bytes.len() > 64) + 1
    ]))));
    std::fs::remove_file(kept("a defect")).expect("the mutant was kept");
}
