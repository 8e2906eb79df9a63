//! Ranks that share a run: the bytes are those of one rank, whatever is trained, also where a run
//! goes on with another number of ranks.

use crate::emulation::{emulated, emulated_that_mixes, emulated_with_library};
use crate::support::{max_difference, normal, open_run, relative_difference, results};
use candle_core::{Tensor, Var};
use simsiam_em::data::Dataset;
use simsiam_em::data::loader::{self, BatchShape};
use simsiam_em::device::ranks::{Ranks, together};
use simsiam_em::device::{Place, Site};
use simsiam_em::error::Error;
use simsiam_em::kernel::device::Device;
use simsiam_em::kernel::machine::{Accelerator, Machine};
use simsiam_em::kernel::ranks::Shards;
use simsiam_em::kernel::{Conv, Precision, all_supported, bf16, direct_sums, portable_bf16};
use simsiam_em::network::{Engine, Network};
use simsiam_em::recipe::Recipe;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{self, Ending, Progress, Resources};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The recipe of `arm` of a study at the smallest scale, its batches cut into four shards where it
/// does not cut them itself.
fn recipe(study: &str, arm: &str) -> Recipe {
    recipe_with(study, arm, &[])
}

/// [`recipe`] with these keys.
fn recipe_with(study: &str, arm: &str, set: &[String]) -> Recipe {
    let study = Study::find(study).unwrap();
    let request = Request { scale: Some("smoke".into()), set: set.to_vec(), ..Request::default() };
    let arms = study.resolve(&request).unwrap();
    let names: Vec<&String> = arms.iter().map(|arm| &arm.name).collect();
    let found = arms.iter().find(|known| known.name == arm);
    let mut recipe = found.unwrap_or_else(|| panic!("{arm} is none of {names:?}")).recipe.clone();
    if recipe.schedule.shards == 1 {
        recipe.schedule.shards = 4;
    }
    recipe
}

/// Trains in `folder` on so many ranks, until step `leave`, at which one of them, the last, is
/// asked to stop.
fn train(recipe: &Recipe, data: &Arc<Dataset>, folder: &Path, size: usize, leave: Option<u64>) -> Ending {
    let dir = open_run(folder, &toml::to_string(recipe).unwrap());
    let reached = AtomicBool::new(false);
    let endings = together(size, |ranks| {
        let (rank, stop) = (ranks.rank(), AtomicBool::new(false));
        let resources = Resources { threads: 1, place: Place::Cpu, ranks };
        if rank > 0 {
            let asked = if rank + 1 == size { &reached } else { &stop };
            return train::follow(recipe, data, folder, resources, asked);
        }
        let watch = |progress: Progress| {
            if let (Progress::Step { step, .. }, Some(leave)) = (progress, leave) {
                reached.store(step >= leave, Ordering::Relaxed);
            }
        };
        train::run(recipe, data, &dir, resources, if size == 1 { &reached } else { &stop }, &watch)
    });
    let endings: Vec<Ending> = endings.into_iter().map(Result::unwrap).collect();
    assert!(endings.iter().all(|ending| *ending == endings[0]), "{endings:?}");
    endings[0]
}

/// The numbers of the newest checkpoint, without what stands before them: the seconds.
fn checkpoint(run: &Path) -> Vec<u8> {
    let folder = run.join("checkpoints");
    let newest = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let bytes = std::fs::read(newest.join("state.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn same_on_all(study: &str, arm: &str, sizes: &[usize]) {
    let recipe = recipe(study, arm);
    if recipe.closed_form.is_some() {
        return;
    }
    let data = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let run = |size: usize| folder.path().join(size.to_string());
    let ending = train(&recipe, &data, &run(1), 1, None);
    for size in sizes {
        assert_eq!(train(&recipe, &data, &run(*size), *size, None), ending, "{study}/{arm}");
        assert!(results(&run(*size)) == results(&run(1)), "{study}/{arm} on {size} ranks");
        assert!(checkpoint(&run(*size)) == checkpoint(&run(1)), "{study}/{arm}: checkpoint of {size} ranks");
    }
}

#[test]
fn the_bytes_of_a_run_do_not_depend_on_the_number_of_ranks() {
    // Every kind of E-step, objective, comparison and predictor, with and without what is watched
    // beside them.
    for study in Study::all().unwrap() {
        let request = Request { scale: Some("smoke".into()), ..Request::default() };
        for arm in study.resolve(&request).unwrap() {
            let sizes: &[usize] = if study.name == "membank" { &[2, 4] } else { &[2] };
            same_on_all(&study.name, &arm.name, sizes);
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    for (study, arm) in [("multistep", "k=10"), ("membank", "m=0.8"), ("methods", "moco")] {
        let recipe = recipe(study, arm);
        let data = Arc::new(Dataset::open(&recipe.data).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        assert_eq!(train(&recipe, &data, &whole, 1, None), Ending::Finished);
        assert_eq!(train(&recipe, &data, &parts, 2, Some(3)), Ending::Stopped);
        assert_eq!(train(&recipe, &data, &parts, 4, Some(8)), Ending::Stopped);
        assert_eq!(train(&recipe, &data, &parts, 1, Some(11)), Ending::Stopped);
        assert_eq!(train(&recipe, &data, &parts, 2, None), Ending::Finished);
        assert!(results(&parts) == results(&whole), "{study}/{arm}");
    }
}

#[test]
fn ranks_begin_with_weights_and_keep_what_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let begin = folder.path().join("begin");
    let first = recipe("simsiam", "simsiam");
    let data = Arc::new(Dataset::open(&first.data).unwrap());
    assert_eq!(train(&first, &data, &begin, 2, None), Ending::Finished);
    let init = format!("encoder.init={}", begin.display());
    for (name, set) in [
        ("init", &[][..]),
        ("frozen", &["encoder.freeze=stage1"]),
        ("all", &["encoder.freeze=backbone", "encoder.init_heads=false"]),
        ("later", &["schedule.epochs=6", "schedule.start_epoch=3", "encoder.freeze=stem"]),
    ] {
        let set: Vec<String> = set.iter().copied().chain([init.as_str()]).map(String::from).collect();
        let recipe = recipe_with("simsiam", "simsiam", &set);
        let run = |what: &str| folder.path().join(format!("{name}-{what}"));
        assert_eq!(train(&recipe, &data, &run("1"), 1, None), Ending::Finished);
        for size in [2, 4] {
            let out = run(&size.to_string());
            assert_eq!(train(&recipe, &data, &out, size, None), Ending::Finished);
            assert!(results(&out) == results(&run("1")), "{name} on {size} ranks");
            assert!(checkpoint(&out) == checkpoint(&run("1")), "{name}: checkpoint of {size} ranks");
        }
        let parts = run("parts");
        assert_eq!(train(&recipe, &data, &parts, 2, Some(3)), Ending::Stopped);
        assert_eq!(train(&recipe, &data, &parts, 4, Some(5)), Ending::Stopped);
        assert_eq!(train(&recipe, &data, &parts, 1, None), Ending::Finished);
        assert!(results(&parts) == results(&run("1")), "{name}, in parts");
    }
}

#[test]
fn a_rank_that_fails_leaves_nobody_waiting() {
    let recipe = recipe("simsiam", "simsiam");
    let data = Arc::new(Dataset::open(&recipe.data).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let dir = open_run(folder.path(), &toml::to_string(&recipe).unwrap());
    let ends = together(2, |ranks| {
        let (rank, stop) = (ranks.rank(), AtomicBool::new(false));
        if rank > 0 {
            return Err(Error::Failure("this rank has an empty disk".into()));
        }
        let resources = Resources { threads: 1, place: Place::Cpu, ranks };
        train::run(&recipe, &data, &dir, resources, &stop, &|_| {})
    });
    assert!(ends[0].is_err() && ends[1].is_err());
}

/// z, the gradient of a weighted sum of it, and the running statistics of an encoder on two views
/// of a batch of 8.
fn pass(engine: &Engine, batch: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let network = engine.network();
    let theta = network.init(3, 0);
    let theta = Var::from_vec(theta, network.theta_len(), &candle_core::Device::Cpu).unwrap();
    let x = normal(0, (2, batch, 16, 16, 3));
    let z = engine.train(&x, &theta).unwrap();
    let weights = normal(1, z.dims());
    let gradients = (&z * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (flat(&z), flat(gradients.get(&theta).unwrap()), engine.running().unwrap())
}

fn engine() -> Engine {
    let recipe = recipe("simsiam", "simsiam");
    Engine::new(Network::encoder(&recipe.encoder, (16, 16)).unwrap(), direct_sums().unwrap()).unwrap()
}

#[test]
fn shards_change_a_pass_by_rounding_only() {
    let whole = pass(&engine(), 8);
    let cut = |ranks: Arc<dyn Ranks>, shards, merges| {
        let shards = Arc::new(Shards::new(shards, ranks, merges)?);
        Ok(pass(&engine().cut_by(&shards), 8))
    };
    for shards in [2, 4, 8] {
        let alone = together(1, |ranks| cut(ranks, shards, true)).remove(0).unwrap();
        // Sums of at most 2·8·16² terms in another order, through seven normalisations.
        assert!(relative_difference(&alone.0, &whole.0) < 1e-5, "z of {shards} shards");
        assert!(relative_difference(&alone.1, &whole.1) < 1e-5, "the gradient of {shards} shards");
        assert!(max_difference(&alone.2, &whole.2) < 1e-6, "running statistics of {shards} shards");
        for of_rank in together(2, |ranks| cut(ranks, shards, true)) {
            assert!(of_rank.unwrap() == alone, "{shards} shards on two ranks");
        }
    }
    // Statistics of each shard alone are something else.
    let alone = together(1, |ranks| cut(ranks, 4, false)).remove(0).unwrap();
    assert!(relative_difference(&alone.0, &whole.0) > 1e-2);
    for of_rank in together(4, |ranks| cut(ranks, 4, false)) {
        assert!(of_rank.unwrap() == alone);
    }
}

#[test]
fn statistics_of_each_shard_are_those_of_a_batch_of_its_images() {
    let shards = |merges| {
        let engine = engine();
        let one = together(1, |ranks| Shards::new(2, ranks, merges)).remove(0).unwrap();
        engine.cut_by(&Arc::new(one))
    };
    let (z, ..) = pass(&shards(false), 8);
    let network = engine();
    let theta = network.network().init(3, 0);
    let theta = Tensor::from_vec(theta, network.network().theta_len(), &candle_core::Device::Cpu).unwrap();
    let x = normal(0, (2, 8, 16, 16, 3));
    let parts = [0, 4].map(|start| {
        let x = x.narrow(1, start, 4).unwrap().contiguous().unwrap();
        network.target(&x, &theta).unwrap()
    });
    let expected = Tensor::cat(&parts, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(z, expected);
}

/// An engine as [`engine`] makes it, on a device.
fn engine_on(device: &Arc<dyn Device>, precision: Precision) -> Engine {
    let recipe = recipe("simsiam", "simsiam");
    let network = Network::encoder(&recipe.encoder, (16, 16)).unwrap();
    let machine: Arc<dyn Machine> = Arc::new(Accelerator::new(device.clone()));
    Engine::with_precision(network, direct_sums().unwrap(), precision).unwrap().on(&machine).unwrap()
}

#[test]
fn shards_on_a_device_have_the_same_bytes_on_any_number_of_ranks() {
    let devices = [emulated(), emulated_with_library(None), emulated_that_mixes()];
    for (which, device) in devices.iter().enumerate() {
        let Some(device) = device else { return };
        for (precision, merges) in [(Precision::F32, true), (Precision::F32, false), (Precision::Bf16, true)]
        {
            let cut = |ranks: Arc<dyn Ranks>| {
                let shards = Arc::new(Shards::new(4, ranks, merges)?);
                Ok(pass(&engine_on(device, precision).cut_by(&shards), 8))
            };
            let what = format!("device {which}, {precision:?}, merged {merges}");
            let alone = together(1, cut).remove(0).unwrap();
            for ranks in [2, 4] {
                for of_rank in together(ranks, cut) {
                    assert!(of_rank.unwrap() == alone, "{what}, {ranks} ranks");
                }
            }
            if which == 2 || precision == Precision::Bf16 {
                continue;
            }
            let here = together(1, |ranks| {
                let shards = Arc::new(Shards::new(4, ranks, merges)?);
                Ok(pass(&engine().cut_by(&shards), 8))
            });
            let here = here.into_iter().next().unwrap().unwrap();
            // Sums of at most 2·8·16² terms in another order, and moments rounded to f32 before
            // they are merged, through seven normalisations. A shard's own statistics in the
            // projector are those of two rows: of their distance d comes d/2√(d²/4 + ε), which takes
            // an error up to 1/2√ε = 158 times as large where d is small.
            for (name, got, expected) in [("z", &alone.0, &here.0), ("gradient", &alone.1, &here.1)] {
                let error = relative_difference(got, expected);
                println!("{what}: {name} off by {error:.1e}");
                assert!(error < if merges { 1e-5 } else { 2e-4 }, "{what}: {name} off by {error:.1e}");
            }
            assert!(max_difference(&alone.2, &here.2) < 1e-6, "running statistics, {what}");
        }
    }
}

/// Where a rank computes.
type Open<'a> = &'a (dyn Fn(Arc<dyn Ranks>) -> simsiam_em::Result<Site> + Sync);

/// Trains in `folder` with so many ranks, each at its own place.
fn train_at(open: Open, recipe: &Recipe, data: &Arc<Dataset>, folder: &Path, size: usize) {
    let dir = open_run(folder, &toml::to_string(recipe).unwrap());
    let endings = together(size, |ranks| {
        let (rank, stop) = (ranks.rank(), AtomicBool::new(false));
        let site = open(ranks)?;
        match rank {
            0 => train::run_at(&site, recipe, data, &dir, &stop, &|_| {}),
            _ => train::follow_at(&site, recipe, data, folder, &stop),
        }
    });
    assert!(endings.into_iter().all(|ending| ending.unwrap() == Ending::Finished));
}

/// Whether runs of two ranks have the bytes of one; a kind of η each.
fn two_ranks_leave_the_bytes_of_one(open: Open) {
    for (study, arm) in [("multistep", "k=10"), ("membank", "m=0.8"), ("methods", "moco")] {
        let recipe = recipe(study, arm);
        let data = Arc::new(Dataset::open(&recipe.data).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let run = |size: usize| folder.path().join(size.to_string());
        for size in [1, 2] {
            train_at(open, &recipe, &data, &run(size), size);
        }
        assert!(results(&run(2)) == results(&run(1)), "{study}/{arm}");
        assert!(checkpoint(&run(2)) == checkpoint(&run(1)), "{study}/{arm}: checkpoint");
    }
}

#[test]
fn ranks_on_devices_leave_the_bytes_of_one() {
    let Some(device) = emulated_that_mixes() else { return };
    two_ranks_leave_the_bytes_of_one(&|ranks| {
        Ok(Site::new(candle_core::Device::Cpu, device.clone())?.among(ranks))
    });
}

/// Both on one GPU, and on two where there are two: then by NCCL, if it is there.
#[test]
fn ranks_on_gpus_leave_the_bytes_of_one() {
    let first = match Place::find("cuda:0") {
        Ok(first) => first,
        Err(why) => return println!("skipped: {why}"),
    };
    two_ranks_leave_the_bytes_of_one(&|ranks| first.open_for(&ranks, 4));
    if let Ok(second) = Place::find("cuda:1") {
        two_ranks_leave_the_bytes_of_one(&|ranks| [first, second][ranks.rank()].open_for(&ranks, 4));
    }
}

#[test]
fn pixels_do_not_depend_on_the_other_images_of_a_batch() {
    let shape = |in_channels, out_channels, side, kernel, stride| Conv {
        batch: 8,
        height: side,
        width: side,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding: kernel / 2,
    };
    // Direct, Winograd of both strides, a skip, a linear layer cut by columns.
    let shapes = [
        shape(3, 16, 16, 3, 1),
        shape(16, 16, 16, 3, 1),
        shape(16, 32, 16, 3, 2),
        shape(16, 32, 16, 1, 2),
        shape(300, 260, 1, 1, 1),
    ];
    let kernels = all_supported().into_iter().chain(bf16()).chain([portable_bf16()]);
    for (kernel, whole) in kernels.flat_map(|kernel| shapes.map(|shape| (kernel.clone(), shape))) {
        let numbers = |draw, len: usize| normal(draw, len).to_vec1::<f32>().unwrap();
        let (x, w) = (numbers(0, whole.input_len()), numbers(1, whole.weight_len()));
        let g = numbers(2, whole.output_len());
        let passes = |s: &Conv, x: &[f32], g: &[f32]| {
            let mut scratch = vec![0.0; kernel.conv_scratch(s)];
            let (mut y, mut dx) = (vec![0.0; s.output_len()], vec![0.0; s.input_len()]);
            kernel.conv_forward(s, x, &w, &mut y, &mut scratch);
            kernel.conv_input_gradient(s, g, &w, &mut dx, &mut scratch);
            (y, dx)
        };
        let (y, dx) = passes(&whole, &x, &g);
        for parts in [2, 8] {
            let part = Conv { batch: 8 / parts, ..whole };
            let of = |i: usize| {
                let x = &x[i * part.input_len()..][..part.input_len()];
                passes(&part, x, &g[i * part.output_len()..][..part.output_len()])
            };
            let (ys, dxs): (Vec<_>, Vec<_>) = (0..parts).map(of).unzip();
            assert!(ys.concat() == y && dxs.concat() == dx, "{} of {whole} in {parts} parts", kernel.name());
        }
    }
}

#[test]
fn a_rank_prepares_its_own_images_only() {
    let recipe = recipe("simsiam", "simsiam");
    let data = Dataset::open(&recipe.data).unwrap();
    let shape = recipe.batch_shape();
    let prepare = |part| {
        let shape = BatchShape { part, ..shape };
        loader::prepare(&data.train, &recipe.augment, shape, 7, 3).unwrap()
    };
    let (whole, half) = (prepare([0, 1]), prepare([1, 2]));
    assert_eq!((&half.indices, &half.labels), (&whole.indices, &whole.labels));
    let image = whole.views.len() / (shape.views * shape.images);
    for (place, (half, whole)) in half.views.chunks(image).zip(whole.views.chunks(image)).enumerate() {
        let own = place % shape.images >= shape.images / 2;
        assert!(if own { half == whole } else { half.iter().all(|pixel| *pixel == 0.0) }, "{place}");
    }
}
