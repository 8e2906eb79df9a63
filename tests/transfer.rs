//! Fine-tuning a detector that begins with trained weights.

use crate::support::output;
use simsiam_em::data::objects::ObjectSet;
use simsiam_em::data::objects::scenes::ScenesConfig;
use simsiam_em::kernel::direct_sums;
use simsiam_em::recipe::TransferConfig;
use simsiam_em::train::{Pretrained, Start, Transferred, transfer};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn sim(root: &Path, args: &str) -> (Option<i32>, String, String) {
    let out = output(root, &args.split(' ').collect::<Vec<_>>());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// A run of the smallest scale, and its folder.
fn trained(root: &Path) -> String {
    assert_eq!(sim(root, "run simsiam --scale smoke --seeds 1").0, Some(0));
    "runs/simsiam/simsiam/seed-0".into()
}

#[test]
fn a_detector_learns_and_its_bytes_do_not_depend_on_threads() {
    let root = tempfile::tempdir().unwrap();
    let from = Pretrained::open(&root.path().join(trained(root.path()))).unwrap();
    let scenes = ScenesConfig { size: 48, train: 12, test: 4, ..ScenesConfig::default() };
    let set = ObjectSet::open("scenes", &scenes).unwrap();
    let run_from = |config: &TransferConfig, (scratch, seed), threads: usize| -> Transferred {
        let start = Start::of(&from, scratch, seed).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (kernel, stop) = (direct_sums().unwrap(), AtomicBool::new(false));
        pool.install(|| transfer(config, &start, &set, &kernel, &stop, &mut |_, _| ())).unwrap()
    };
    let run = |config: &TransferConfig, threads| run_from(config, (false, 0), threads);
    let config = TransferConfig {
        images: 12,
        batch: 4,
        steps: 60,
        lr: 0.05,
        warm_up: 5,
        precise_batches: 3,
        ..TransferConfig::default()
    };
    let done = run(&config, 1);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&done.losses[..10]), mean(&done.losses[50..]));
    assert!(done.losses.len() == 60 && last < 0.8 * first, "{first} to {last}");
    let short = TransferConfig { steps: 3, ..config.clone() };
    let (one, three) = (run(&short, 1), run(&short, 3));
    assert_eq!(one.losses, three.losses);
    let numbers = |done: &Transferred| done.judged.as_ref().unwrap().boxes.numbers;
    assert_eq!(numbers(&one), numbers(&three));
    let masks = one.judged.as_ref().unwrap().masks.as_ref();
    assert!(masks.is_some_and(|masks| masks.numbers[0].is_some()), "scenes have masks");
    for other in [(true, 0), (false, 1)] {
        assert_ne!(run_from(&short, other, 2).losses, one.losses);
    }
    let diverged = run(&TransferConfig { lr: 1e30, warm_up: 0, ..short }, 2);
    assert!(diverged.judged.is_none() && diverged.losses.len() < 4, "{:?}", diverged.losses);
}

#[test]
fn transfer_prints_a_table_or_a_line_and_refuses_what_it_cannot_train_on() {
    let root = tempfile::tempdir().unwrap();
    let run = trained(root.path());
    let few = "--images 4 --batch-size 2 --steps 2 --test 2";
    let (code, said, told) = sim(root.path(), &format!("transfer {run} {few}"));
    assert_eq!(code, Some(0), "{told}");
    assert!(said.contains("AP50") && said.contains("boxes") && said.contains("masks"), "{said}");
    assert!(told.contains("step 2 of 2: loss"), "{told}");
    let (_, said, told) = sim(root.path(), &format!("transfer {run} {few} --json --out found/of-it"));
    assert!(told.contains("found/of-it/found.png"), "{told}");
    let text = std::fs::read_to_string(root.path().join("found/of-it/detections.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    for found in found.as_array().unwrap() {
        let (image, class) = (found["image_id"].as_u64().unwrap(), found["category_id"].as_u64().unwrap());
        assert!((1..=2).contains(&image) && (1..=10).contains(&class), "{found}");
        assert!(found["segmentation"]["counts"].is_string() && found["bbox"][3].is_f64(), "{found}");
    }
    assert!(image::open(root.path().join("found/of-it/found.png")).unwrap().width() > 6 * 64);
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(
        line["boxes"]["AP"].is_f64() && line["masks"]["AP75"].is_f64() && line["loss"].is_f64(),
        "{line}"
    );
    // The same images, read from files.
    assert_eq!(sim(root.path(), "data export scenes ex --train 4 --test 2").0, Some(0));
    let (code, again, told) = sim(root.path(), &format!("transfer {run} {few} --data coco:ex/ --json"));
    assert_eq!((code, &again), (Some(0), &said), "{told}");

    let (code, _, told) = sim(root.path(), &format!("transfer {run} {few} --lr 1e30"));
    assert!(code == Some(3) && told.contains("a lower --lr may help"), "{told}");
    for (args, why) in [
        (format!("transfer {run} --images 4 --data coco:ex --batch-size 5"), "at least --batch-size, 5"),
        (format!("transfer {run} --images 5 --data coco:ex --batch-size 5"), "there are 4"),
        (format!("transfer {run} {few} --lr 0"), "must be above 0"),
        (format!("transfer {run} --images 1000000"), "are 45 GiB; at most 4 are held"),
        (format!("transfer {run} {few} --data shapes"), "is not one of scenes, coco:DIR, voc:DIR"),
    ] {
        let (code, _, told) = sim(root.path(), &args);
        assert!(code == Some(2) && told.contains(why), "{args}: {told}");
    }
    let picture = root.path().join("ex/train/000000000002.png");
    image::open(&picture).unwrap().crop_imm(0, 0, 60, 64).save(&picture).unwrap();
    let (code, _, told) = sim(root.path(), &format!("transfer {run} {few} --data coco:ex"));
    assert!(code == Some(4) && told.contains("has 64×60 pixels where its annotations say 64×64"), "{told}");
    let annotations = root.path().join("ex/annotations/instances_train.json");
    let text = std::fs::read_to_string(&annotations).unwrap();
    let (before, after) = text.split_once(r#"2.png","height":64,"width":64"#).unwrap();
    let without = after.replace(r#""segmentation":{"size":[64,64]"#, r#""none":{"size":[64,64]"#);
    std::fs::write(&annotations, format!(r#"{before}2.png","height":64,"width":60{without}"#)).unwrap();
    let (code, _, told) = sim(root.path(), &format!("transfer {run} {few} --data coco:ex"));
    assert!(code == Some(2) && told.contains("trained on images of one size"), "{told}");
    let (code, _, told) = sim(root.path(), "transfer nowhere");
    assert!(code == Some(4), "{told}");
}
