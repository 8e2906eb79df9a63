//! What a run's numbers may depend on beyond its recipe, or that a reader wants to know: env.json.

use crate::data::Dataset;
use crate::data::objects::ObjectSet;
use crate::device::Site;
use crate::error::Result;
use crate::kernel::Precision;
use crate::recipe::Recipe;
use crate::record::{DRAWN, EARLIER, IMAGES, INIT, TELLING};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How the processor convolves.
const CPU_ALGORITHM: &str =
    "Winograd F(4x4, 3x3) for 3x3 convolutions of stride 1 and 2 with at least 16 channels, direct otherwise";

/// Grows whenever the bytes of a run's weights or metrics change for the same recipe, images and
/// kernel, so that runs of two such versions are told apart.
pub const NUMBERS: u64 = 3;

/// How many ranks shared the run, where there were several; its bytes do not depend on it.
const RANKS: &str = "ranks";

/// The step up to which an earlier machine computed.
const TO_STEP: &str = "to_step";

/// What env.json of every run says of this program.
pub fn version() -> [(&'static str, Value); 2] {
    [("sim", json!(env!("CARGO_PKG_VERSION"))), ("numbers", json!(NUMBERS))]
}

/// The environment of `recipe` on `dataset` at `site`.
pub fn environment(recipe: &Recipe, dataset: &Dataset, site: &Site) -> Result<Value> {
    let mut environment = of_machine(site.kernel_name(recipe.encoder.precision)?, site);
    environment["data"] = json!(dataset.name);
    environment[IMAGES] = json!(dataset.digest);
    environment["classes"] = json!(dataset.classes.len());
    environment["train_images"] = json!(dataset.train.len());
    environment["test_images"] = json!(dataset.test.len());
    environment["skipped_files"] = json!(dataset.skipped.len());
    if site.ranks().size() > 1 {
        environment[RANKS] = json!(site.ranks().size());
    }
    if let Some(seed) = dataset.drawn_with {
        environment[DRAWN] = json!(seed);
    }
    Ok(environment)
}

/// What computes at `site`, by the kernels called `kernel`.
fn of_machine(kernel: &str, site: &Site) -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "sim": env!("CARGO_PKG_VERSION"),
        "numbers": NUMBERS,
        "kernel": kernel,
        "algorithm": site.kernels().map_or(CPU_ALGORITHM, |kernels| kernels.algorithm()),
        "threads": rayon::current_num_threads(),
        "cores": cores,
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
    })
}

/// The environment of a detector on the first `images` training images of `set`, told by `digest`;
/// `seed` names what is drawn of them.
pub fn of_detector(
    set: &ObjectSet,
    digest: &str,
    images: usize,
    seed: Option<u64>,
    site: &Site,
) -> Result<Value> {
    let mut environment = of_machine(site.kernel_name(Precision::F32)?, site);
    environment["data"] = json!(set.name);
    environment[IMAGES] = json!(digest);
    environment["classes"] = json!(set.classes.len());
    environment["train_images"] = json!(images);
    environment["test_images"] = json!(set.test.len());
    if let Some(seed) = seed {
        environment[DRAWN] = json!(seed);
    }
    Ok(environment)
}

/// `now`, in which a run goes on from `step`, with what held `before` where it was another
/// machine's.
pub fn resumed(mut now: Value, before: Option<&BTreeMap<String, Value>>, step: u64) -> Value {
    let Some(before) = before.filter(|_| step > 0) else { return now };
    let mut earlier = before.get(EARLIER).and_then(Value::as_array).cloned().unwrap_or_default();
    // Of steps that are made again, from an older checkpoint, nothing is left.
    let mut end = 0;
    earlier.retain_mut(|part| {
        let (from, to) = (end, part.get(TO_STEP).and_then(Value::as_u64).unwrap_or(0).min(step));
        part[TO_STEP] = json!(to);
        end = to;
        to > from
    });
    let reached = earlier.last().and_then(|last| last.get(TO_STEP)?.as_u64()).unwrap_or(0);
    let changed = TELLING.iter().any(|key| before.get(*key) != now.get(*key));
    if changed && step > reached {
        let kept = TELLING.iter().filter_map(|key| Some((key.to_string(), before.get(*key)?.clone())));
        earlier.push(kept.chain([(TO_STEP.to_string(), json!(step))]).collect::<Map<_, _>>().into());
    }
    if !earlier.is_empty() {
        now[EARLIER] = earlier.into();
    }
    now
}

/// What tells one machine from another, of what env.json holds: not where the run was copied from,
/// nor the weights that it began with, nor its threads and ranks, nor the steps at which it changed
/// machines, nor which procedural images it
/// drew.
pub fn machine_of(mut environment: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    if environment.remove(DRAWN).is_some() {
        environment.remove(IMAGES);
    }
    environment.retain(|key, _| !["taken_from", "threads", RANKS, INIT].contains(&key.as_str()));
    let earlier = environment.get_mut(EARLIER).and_then(Value::as_array_mut).into_iter().flatten();
    earlier.filter_map(Value::as_object_mut).for_each(|part| drop(part.remove(TO_STEP)));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(kernel: &str) -> Value {
        json!({ "sim": "1", "kernel": kernel, "algorithm": "a", "threads": 2 })
    }

    fn kept(env: &Value) -> BTreeMap<String, Value> {
        serde_json::from_value(env.clone()).unwrap()
    }

    #[test]
    fn a_run_remembers_what_computed_its_earlier_steps() {
        let first = resumed(on("cuda"), None, 0);
        assert_eq!(first, on("cuda"));
        let same = resumed(on("cuda"), Some(&kept(&first)), 8);
        assert_eq!(same, on("cuda"));
        let second = resumed(on("avx512"), Some(&kept(&same)), 16);
        let part = |kernel: &str, step: u64| json!({ "sim": "1", "kernel": kernel, "algorithm": "a", "to_step": step });
        assert_eq!(second["earlier"], json!([part("cuda", 16)]));
        // The second process made no step that was kept.
        let third = resumed(on("avx2"), Some(&kept(&second)), 16);
        assert_eq!(third["earlier"], json!([part("cuda", 16)]));
        let fourth = resumed(on("cuda"), Some(&kept(&third)), 24);
        assert_eq!(fourth["earlier"], json!([part("cuda", 16), part("avx2", 24)]));
        // From an older checkpoint.
        let back = resumed(on("avx2"), Some(&kept(&fourth)), 8);
        assert_eq!(back["earlier"], json!([part("cuda", 8)]));
        // Two runs that changed machines at different steps count as alike.
        let other = resumed(on("cuda"), Some(&kept(&back)), 40);
        let later = resumed(on("cuda"), Some(&kept(&back)), 48);
        assert!(other != later && machine_of(kept(&other)) == machine_of(kept(&later)));
        assert!(machine_of(kept(&other)) != machine_of(kept(&on("cuda"))));
        assert!(!machine_of(kept(&other)).contains_key("threads"));
        // From the beginning, after a checkpoint that could not be read.
        assert_eq!(resumed(on("avx2"), Some(&kept(&fourth)), 0), on("avx2"));
    }
}
