//! Weights that runs begin with: every layout of names, what is taken, what is said of the rest,
//! and that another file is another run.

use crate::support::{golden, normal, output, relative_difference, save_tensors};
use simsiam_em::device::processor_kernel;
use simsiam_em::network::config::{Backbone, EncoderConfig, Freeze, HeadNorm, ProjectorConfig};
use simsiam_em::network::{Engine, Network, Tensors, read_weights};
use simsiam_em::recipe::Recipe;
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{Init, Model, weights};
use std::path::{Path, PathBuf};

/// A network of two channels, as those of tests/golden/checkpoints/ have it.
const NARROW: &str = "encoder.backbone.resnet8.width=2";
/// Its projector.
const HEAD: &str = "encoder.projector.dim=4";

/// SimSiam's recipe at the smoke scale with these keys, beginning with `init`.
fn recipe(init: &Path, set: &[&str]) -> simsiam_em::Result<Recipe> {
    let init = format!("encoder.init={}", init.display());
    let set = set.iter().copied().chain([init.as_str()]).map(String::from).collect();
    let request = Request { scale: Some("smoke".into()), set, ..Request::default() };
    Ok(Study::find("simsiam")?.resolve(&request)?.remove(0).recipe)
}

/// The tensors of a new model of `recipe`.
fn drawn(recipe: &Recipe) -> Tensors {
    tensors(&Model::of(recipe, &processor_kernel(recipe.encoder.precision).unwrap()).unwrap())
}

/// The tensors of a model of `recipe` after its beginning.
fn begun(recipe: &Recipe) -> Tensors {
    let model = Model::of(recipe, &processor_kernel(recipe.encoder.precision).unwrap()).unwrap();
    Init::open(recipe).unwrap().unwrap().load(&model).unwrap();
    tensors(&model)
}

fn tensors(model: &Model) -> Tensors {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, weights::to_safetensors(model, None).unwrap()).unwrap();
    read_weights(&path).unwrap()
}

/// What becomes of each part: its name, and why it is drawn.
fn shares(recipe: &Recipe) -> Vec<(&'static str, Option<String>)> {
    let init = Init::open(recipe).unwrap().unwrap();
    init.shares.into_iter().map(|share| (share.part, share.drawn_because)).collect()
}

/// The golden network under torchvision's names.
fn plain() -> Tensors {
    read_weights(&golden("checkpoints/state_dict.pth")).unwrap()
}

/// A name of torchvision's as a sequence of its modules has it.
fn in_sequence(name: &str) -> String {
    let modules = [("conv1.", "0."), ("bn1.", "1."), ("layer1.", "4."), ("layer2.", "5."), ("layer3.", "6.")];
    let (ours, theirs) = modules.into_iter().find(|(ours, _)| name.starts_with(ours)).unwrap();
    name.replacen(ours, theirs, 1)
}

#[test]
fn every_layout_of_names_begins_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let projector = |name: &str| name.strip_prefix("fc.").map(str::to_string);
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let layouts: [(&str, Rename); 7] = [
        ("torchvision, timm", &|name| name.to_string()),
        ("SimSiam", &|name| format!("module.encoder.{name}")),
        ("MoCo", &|name| format!("module.encoder_q.{name}")),
        ("solo-learn", &|name| match projector(name) {
            Some(rest) => format!("projector.{rest}"),
            None => format!("backbone.{name}"),
        }),
        ("solo-learn of old", &|name| match projector(name) {
            Some(rest) => format!("projector.{rest}"),
            None => format!("encoder.{name}"),
        }),
        ("lightly", &|name| match projector(name) {
            Some(rest) => format!("projection_head.layers.{rest}"),
            None => format!("backbone.{}", in_sequence(name)),
        }),
        ("CIFAR codes", &|name| name.replace(".downsample.", ".shortcut.")),
    ];
    for (index, (layout, rename)) in layouts.into_iter().enumerate() {
        let file = folder.path().join(format!("{index}.safetensors"));
        let renamed: Tensors = plain().into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        save_tensors(&renamed, [], &file);
        let recipe = recipe(&file, &[NARROW, HEAD]).unwrap();
        let taken = shares(&recipe);
        let expected = [("backbone", None), ("projector", None), ("predictor", Some("there is none".into()))];
        assert_eq!(taken, expected, "{layout}");
        let (begun, drawn) = (begun(&recipe), drawn(&recipe));
        for (name, tensor) in &begun {
            match name.strip_prefix("encoder.") {
                Some(name) => assert_eq!(tensor, &plain()[name], "{layout}: {name}"),
                None => assert_eq!(tensor, &drawn[name], "{layout}: {name}"),
            }
        }
    }
}

#[test]
fn checkpoints_of_pytorch_are_begun_with_and_heads_are_whole_or_drawn() {
    let file = golden("checkpoints/before_1.6.pth");
    let wide = recipe(&file, &[NARROW, "encoder.projector.dim=8"]).unwrap();
    let said = shares(&wide);
    let why = said[1].1.clone().unwrap();
    assert!(said[0].1.is_none() && why.contains("fc.0.weight") && why.contains("[4, 8]"), "{said:?}");
    let (begun_wide, drawn_wide, file_tensors) = (begun(&wide), drawn(&wide), plain());
    for (name, tensor) in &begun_wide {
        let backbone = name.strip_prefix("encoder.").filter(|name| !name.starts_with("fc."));
        let expected = backbone.map_or(&drawn_wide[name], |name| &file_tensors[name]);
        assert_eq!(tensor, expected, "{name}");
    }
    let apart = recipe(&file, &[NARROW, HEAD, "encoder.init_heads=false"]).unwrap();
    assert_eq!(shares(&apart)[1].1.as_deref(), Some("encoder.init_heads = false"));
    assert_eq!(begun(&apart)["encoder.fc.0.weight"], drawn(&apart)["encoder.fc.0.weight"]);
    // Torchvision's classifier is no projector, and is told.
    let classifier = recipe(&golden("checkpoints/classifier.safetensors"), &[NARROW, HEAD]).unwrap();
    assert_eq!(shares(&classifier)[1].1.as_deref(), Some("fc.weight is a classifier"));
    let left = Init::open(&classifier).unwrap().unwrap().left;
    assert_eq!(left, ["model.fc.bias", "model.fc.weight"]);
}

/// Runs `sim run simsiam` at the smoke scale in `folder`: the exit code and stderr.
fn run(folder: &Path, args: &[&str]) -> (i32, String) {
    let fixed = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "--out", "runs"];
    let output = output(folder, &[&fixed, args].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

/// A copy of the golden network in `folder`.
fn copy(folder: &Path, name: &str) -> PathBuf {
    let to = folder.join(name);
    std::fs::copy(golden("checkpoints/state_dict.pth"), &to).unwrap();
    to
}

#[test]
fn what_does_not_fit_is_refused_with_the_key_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy(here, "weights.pth");
    std::fs::write(here.join("bad.pth"), b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")
        .unwrap();
    std::fs::write(here.join("page.pth"), "<html>Sign in").unwrap();
    std::fs::create_dir(here.join("empty")).unwrap();
    let mut strange = plain();
    strange.insert("layer1.0.se.fc1.weight".into(), (vec![1], vec![0.5]));
    save_tensors(&strange, [], &here.join("squeezed.safetensors"));
    for (args, words) in [
        (
            &["--init", "weights.pth"][..],
            &[
                "encoder.backbone.resnet8.width=2) than the recipe has (encoder.backbone.resnet8.width=4)",
                "--set",
            ][..],
        ),
        (&["--init", "nowhere.pth"], &["encoder.init: nowhere.pth is no file of weights"]),
        (&["--init", "empty"], &["empty/weights.safetensors", "the run is not finished"]),
        (&["--init", "bad.pth"], &["encoder.init: bad.pth", "breaks off"]),
        (&["--init", "page.pth"], &["HTML page"]),
        (&["--init", "squeezed.safetensors", "--set", NARROW], &["layer1.0.se.fc1.weight", "no layer"]),
        (&["--set", "encoder.init_heads=false"], &["encoder.init_heads: says nothing without encoder.init"]),
        (
            &["--init", "weights.pth", "--set", NARROW, "--set", "encoder.init_sha256=00ff"],
            &["encoder.init_sha256: 00ff is asked for, and weights.pth has "],
        ),
    ] {
        let (code, said) = run(here, args);
        assert_eq!(code, 2, "{args:?}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{args:?} does not say {word}: {said}"));
        assert!(!here.join("runs/simsiam/simsiam").exists(), "{args:?}");
    }
}

#[test]
fn a_run_keeps_the_digest_of_its_beginning_and_another_file_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let file = copy(here, "weights.pth");
    let set = ["--set", NARROW, "--set", HEAD];
    let (code, said) = run(here, &[&["--init", "weights.pth"][..], &set].concat());
    assert_eq!(code, 0, "{said}");
    for line in
        ["backbone    taken   ", "projector   taken", "predictor   drawn   there is none", "augment.mean"]
    {
        assert!(said.contains(line), "no {line}: {said}");
    }
    let run_folder = here.join("runs/simsiam/simsiam/seed-0");
    let config = std::fs::read_to_string(run_folder.join("config.toml")).unwrap();
    let digest = config.lines().find_map(|line| line.strip_prefix("init_sha256 = ")).unwrap().to_string();
    let env: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run_folder.join("env.json")).unwrap()).unwrap();
    assert_eq!(format!("\"{}\"", env["init"]["sha256"].as_str().unwrap()), digest);
    assert_eq!(env["init"]["taken"], serde_json::json!(["backbone", "projector"]));

    // The same bytes elsewhere are the same run.
    std::fs::rename(&file, here.join("moved.pth")).unwrap();
    let (code, said) = run(here, &[&["--init", "moved.pth"][..], &set].concat());
    assert!(code == 0 && said.contains("nothing to compute"), "{code}: {said}");
    // Without the file its answer is given all the same, by whoever knows the digest.
    let pinned = format!("encoder.init_sha256={digest}");
    let gone = [&["--init", "gone.pth", "--set", &pinned][..], &set].concat();
    let (code, said) = run(here, &gone);
    assert!(code == 0 && said.contains("nothing to compute"), "{code}: {said}");
    let (code, said) = run(here, &[&gone[..], &["--fresh"]].concat());
    assert!(code == 2 && said.contains("gone.pth"), "{code}: {said}");

    let mut other = plain();
    other.get_mut("conv1.weight").unwrap().1[0] += 1.0;
    save_tensors(&other, [], &file);
    let (code, said) = run(here, &[&["--init", "weights.pth"][..], &set].concat());
    assert!(code == 2 && said.contains("encoder.init_sha256:"), "{code}: {said}");
    let (code, said) = run(here, &set);
    assert!(
        code == 2 && said.contains("encoder.init_sha256:") && said.contains("absent asked for"),
        "{said}"
    );
}

#[test]
fn a_run_that_was_stopped_goes_on_without_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy(here, "weights.pth");
    let args = ["--init", "weights.pth", "--set", NARROW, "--set", "schedule.checkpoint_every=1"];
    assert_eq!(run(here, &args).0, 0);
    let run_folder = here.join("runs/simsiam/simsiam/seed-0");
    let read = |name: &str| std::fs::read(run_folder.join(name)).unwrap();
    let (weights, env) = (read("weights.safetensors"), read("env.json"));
    // The last epoch's checkpoint and the outcome are gone, as where a process was killed.
    let mut checkpoints: Vec<_> = std::fs::read_dir(run_folder.join("checkpoints")).unwrap().collect();
    checkpoints.sort_by_key(|entry| entry.as_ref().unwrap().path());
    std::fs::remove_dir_all(checkpoints.pop().unwrap().unwrap().path()).unwrap();
    std::fs::remove_file(run_folder.join("outcome.json")).unwrap();
    std::fs::remove_file(run_folder.join("weights.safetensors")).unwrap();
    let (code, said) = run(here, &args);
    assert_eq!(code, 0, "{said}");
    assert_eq!(read("weights.safetensors"), weights);
    let of = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["init"].clone();
    assert!(of(&env).is_object() && of(&env) == of(&read("env.json")));
}

#[test]
fn frozen_stages_stay_to_the_byte_and_the_others_move() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    copy(here, "weights.pth");
    for (freeze, stays) in [
        ("stem", &["conv1.", "bn1."][..]),
        ("stage1", &["conv1.", "bn1.", "layer1."]),
        ("stage3", &["conv1.", "bn1.", "layer"]),
        ("backbone", &["conv1.", "bn1.", "layer"]),
    ] {
        let freeze = format!("encoder.freeze={freeze}");
        // The penalty alone would move what has no gradient.
        let set = ["--set", NARROW, "--set", HEAD, "--set", &freeze, "--set", "optim.weight_decay=0.1"];
        let (code, said) = run(here, &[&["--init", "weights.pth", "--fresh"][..], &set].concat());
        assert_eq!(code, 0, "{said}");
        let trained = read_weights(&here.join("runs/simsiam/simsiam/seed-0/weights.safetensors")).unwrap();
        for (name, tensor) in plain().iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
            let is_frozen = stays.iter().any(|begins| name.starts_with(begins));
            assert_eq!(trained[&format!("encoder.{name}")] == *tensor, is_frozen, "{freeze}: {name}");
        }
    }
    for (set, words) in [
        (
            "encoder.freeze=stage4",
            "encoder.freeze=stage4: stage4 is asked for, and the backbone has 3 stages",
        ),
        ("encoder.freeze=head", "encoder.freeze"),
    ] {
        let (code, said) = run(here, &["--set", set, "--fresh"]);
        assert!(code == 2 && said.contains(words), "{said}");
    }
    let mlp = ["--set", "encoder.backbone.mlp.widths=[8]", "--set", "encoder.freeze=stem", "--fresh"];
    let (code, said) = run(here, &mlp);
    assert!(code == 2 && said.contains("an MLP has no stages"), "{said}");
}

/// Normalised by the statistics of the batch, which are made the running ones here, a frozen stem
/// gives what a trained one gives, and what follows has the same gradient.
#[test]
fn gradients_behind_frozen_layers_are_those_of_the_whole_network() {
    use candle_core::{Device, Tensor, Var};
    let projector = ProjectorConfig { layers: 1, hidden: None, dim: 5, norm: HeadNorm::All };
    let config = EncoderConfig::new(Backbone::Resnet8 { width: 4 }, projector);
    let frozen = EncoderConfig { freeze: Some(Freeze::Stem), ..config.clone() };
    let engine = |config: &EncoderConfig| {
        let network = Network::encoder(config, (8, 8)).unwrap();
        Engine::new(network, simsiam_em::kernel::direct_sums().unwrap()).unwrap()
    };
    let (whole, frozen) = (engine(&config), engine(&frozen));
    let theta =
        Tensor::from_vec(whole.network().init(1, 0), whole.network().theta_len(), &Device::Cpu).unwrap();
    let x = normal(1, (1, 6, 8, 8, 3));
    let gradient = |engine: &Engine| -> (Vec<f32>, Vec<f32>) {
        let theta = Var::from_tensor(&theta).unwrap();
        let z = engine.train(&x, &theta).unwrap();
        let loss = (&z * normal(2, z.shape()).abs().unwrap()).unwrap().sqr().unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let of_theta = gradients.get(&theta).unwrap().to_vec1().unwrap();
        (z.flatten_all().unwrap().to_vec1().unwrap(), of_theta)
    };
    let (z, all) = gradient(&whole);
    // A tenth of the way from mean 0 and variance 1; the variance that normalises is the biased
    // one.
    let (moved, n) = (whole.running().unwrap(), 6.0 * 64.0);
    let mut running = frozen.running().unwrap();
    for channel in 0..4 {
        running[channel] = moved[channel] / 0.1;
        running[4 + channel] = (moved[4 + channel] - 0.9) / 0.1 * (n - 1.0) / n;
    }
    frozen.set_running(&running).unwrap();
    let (same_z, behind) = gradient(&frozen);
    assert!(relative_difference(&same_z, &z) < 1e-4);
    let len = frozen.network().frozen_len();
    assert_eq!(len, 3 * 9 * 4 + 2 * 4, "the stem's weights and its normalisation");
    let error = relative_difference(&behind[len..], &all[len..]);
    assert!(error < 1e-3, "{error:.1e}");
    assert_eq!(frozen.running().unwrap()[..8], running[..8], "its statistics stay");
    assert!(frozen.running().unwrap()[8..] != running[8..], "the others move");
}

/// A column of a run's metrics.csv.
fn column(run: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().to_string()).collect()
}

/// `sim run simsiam` at the smoke scale below `out`, which must succeed; the run's folder.
fn made(folder: &Path, out: &str, args: &[&str]) -> PathBuf {
    let fixed = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "-q", "--out", out];
    let output = output(folder, &[&fixed, args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    folder.join(out).join("simsiam/simsiam/seed-0")
}

#[test]
fn more_epochs_of_a_finished_run_are_a_new_run_that_says_where_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let env = |run: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(run.join("env.json")).unwrap()).unwrap()
    };
    let first = made(here, "runs", &[]);
    let (code, said) = run(here, &["--epochs", "5"]);
    assert!(code == 2 && said.contains("--init runs/simsiam/simsiam/seed-0 --out DIR"), "{said}");
    // A schedule of its own.
    let begin = first.display().to_string();
    let second = made(here, "second", &["--init", &begin, "--epochs", "2"]);
    for name in ["val/knn_top1", "val/z_std", "val/rankme"] {
        assert_eq!(column(&second, name).first(), column(&first, name).last(), "{name}");
    }
    let init = &env(&second)["init"];
    assert_eq!(init["taken"], serde_json::json!(["backbone", "projector", "predictor"]));
    assert_eq!(init["epochs"], 3);
    let begin_again = second.display().to_string();
    let third = made(here, "third", &["--init", &begin_again, "--epochs", "1"]);
    assert_eq!(env(&third)["init"]["epochs"], 5);
    let claims = std::fs::read_to_string(here.join("second/simsiam/answer.json")).unwrap();
    assert!(claims.contains("\"undecided\"") && !claims.contains("\"reproduced\""), "{claims}");

    // The schedule of a run of five epochs, from its fourth on.
    let args = ["--epochs", "5", "--set", "schedule.checkpoint_every=1"];
    let whole = made(here, "whole", &args);
    let later = [&args[..], &["--init", &begin, "--set", "schedule.start_epoch=3"]].concat();
    let rest = made(here, "rest", &later);
    assert_eq!(column(&rest, "epoch"), ["3", "4", "5"]);
    for name in ["step", "samples", "train/lr"] {
        assert_eq!(column(&rest, name)[1..], column(&whole, name)[4..], "{name}");
    }
    assert_eq!(column(&rest, "val/knn_top1").first(), column(&first, "val/knn_top1").last());
    let passes: Vec<f64> = column(&rest, "train/e_passes")[1..].iter().map(|n| n.parse().unwrap()).collect();
    let expected: Vec<f64> =
        column(&whole, "train/e_passes")[1..3].iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!(passes, expected);
    // It goes on from its checkpoint to the same bytes.
    let weights = std::fs::read(rest.join("weights.safetensors")).unwrap();
    std::fs::remove_file(rest.join("outcome.json")).unwrap();
    std::fs::remove_file(rest.join("weights.safetensors")).unwrap();
    let mut checkpoints: Vec<PathBuf> =
        std::fs::read_dir(rest.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    std::fs::remove_dir_all(checkpoints.pop().unwrap()).unwrap();
    made(here, "rest", &later);
    assert_eq!(std::fs::read(rest.join("weights.safetensors")).unwrap(), weights);

    for (set, words) in [
        (&["--set", "schedule.start_epoch=3"][..], "below schedule.epochs"),
        (&["--epochs", "5", "--set", "schedule.start_epoch=3"], "made by nobody without encoder.init"),
    ] {
        let (code, said) = run(here, &[&["--fresh"], set].concat());
        assert!(code == 2 && said.contains(words), "{said}");
    }
    // Starting over in its folder would remove what it begins with.
    let (code, said) = run(here, &["--fresh", "--init", &begin]);
    assert!(code == 2 && said.contains("whose weights would be gone"), "{said}");
    assert!(first.join("weights.safetensors").is_file());
    let uneven = ["run", "simsiam", "--scale", "smoke", "--seeds", "1", "--out", "uneven", "--epochs", "5"];
    let set = ["--init", &begin, "--set", "schedule.start_epoch=3", "--set", "eta.k-step.k=7"];
    let uneven = output(here, &[&uneven[..], &set].concat());
    let said = String::from_utf8_lossy(&uneven.stderr);
    assert!(uneven.status.code() == Some(2) && said.contains("η is made every 7 steps"), "{said}");
}
