//! `sim transfer`: what trained weights are worth to a detector.

use super::flags::{json_flag, option, path, path_option, switch};
use super::output::Output;
use super::{found, signals};
use crate::data::objects::SOURCES;
use crate::device::processor_kernel;
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::measure::average_precision::{Coco, NAMES};
use crate::recipe::{Beginning, TransferConfig};
use crate::record::{make_folder, write_where_told};
use crate::train::{Pretrained, Start, Transferred, results, transfer};
use clap::{ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// So often the loss is told on stderr.
const LINES: u64 = 10;
/// The numbers in the table: by COCO's areas all objects of small images are small.
const SHOWN: usize = 3;
/// What the keys of a recipe are called here.
const FLAGS: [(&str, &str); 3] =
    [("transfer.batch", "--batch-size"), ("transfer.test_images", "--test"), ("transfer.", "--")];

/// `sim transfer` and its flags.
pub fn command() -> Command {
    let run = "A run's folder, such as runs/simsiam/simsiam/seed-100, or a weights file as for sim embed";
    let count = |name, value: &'static str, help: &'static str, default: &'static str| {
        option(name, value, help)
            .default_value(default)
            .value_parser(value_parser!(u32).range(1..=10_000_000))
    };
    Command::new("transfer")
        .about(
            "Fine-tune Mask R-CNN that begins with trained weights, and measure boxes and masks by COCO's AP",
        )
        .arg(path("run", "RUN|FILE", run))
        .args([
            option("data", "DATA", SOURCES.join(", ")).default_value("scenes"),
            count("images", "N", "Training images, the first so many", "100"),
            count("test", "N", "Held-out images (scenes only)", "300"),
            count("batch-size", "N", "Images of a batch", "16"),
            count("steps", "N", "SGD steps", "200"),
            option("lr", "X", "Learning rate").default_value("0.1").value_parser(value_parser!(f64)),
            option("seed", "SEED", "Of initial heads, order and draws")
                .default_value("0")
                .value_parser(value_parser!(u64)),
            path_option("out", "DIR", "Where detections.json (COCO's format of results) and found.png go"),
            switch("scratch", "Begin with random weights of the same backbone instead, to compare with"),
            json_flag(),
        ])
}

/// Runs `sim transfer` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(path), Some(source)) = (matches.get_one::<PathBuf>("run"), matches.get_one::<String>("data"))
    else {
        return Ok(2);
    };
    let count = |name: &str| matches.get_one::<u32>(name).map_or(0, |number| *number as usize);
    let scratch = matches.get_flag("scratch");
    let config = TransferConfig {
        from: if scratch { Beginning::Init } else { Beginning::Pretraining },
        data: source.clone(),
        images: count("images"),
        test_images: count("test"),
        batch: count("batch-size"),
        steps: count("steps") as u64,
        lr: matches.get_one::<f64>("lr").copied().unwrap_or(0.0),
        ..TransferConfig::default()
    };
    config.check().map_err(by_flags)?;
    let from = Pretrained::open(path)?;
    // The seed is the fine-tuning's: scenes are the same for all.
    let set = config.open(0).map_err(by_flags)?;
    let seed = matches.get_one::<u64>("seed").copied().unwrap_or(0);
    let start = Start::of(&from, scratch, seed)?;
    // Asked before the training, which takes longer.
    matches.get_one::<PathBuf>("out").map_or(Ok(()), |out| make_folder(out))?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let every = (config.steps / LINES).max(1);
    let mut told = |step: u64, loss: f64| {
        if (step + 1).is_multiple_of(every) {
            super::note(&format!("step {} of {}: loss {loss:.3}", step + 1, config.steps));
        }
    };
    let kernel = processor_kernel(Precision::F32)?;
    let done = transfer(&config, &start, &set, &kernel, &stop, &mut told);
    if matches!(done, Err(Error::Stopped)) {
        super::note("stopped; nothing of it is kept");
    }
    let done = done?;
    let code = answer(&done, matches.get_flag("json"), output)?;
    if let (Some(judged), Some(out)) = (&done.judged, matches.get_one::<PathBuf>("out")) {
        let (detections, sheet) = (out.join("detections.json"), out.join("found.png"));
        write_where_told(&detections, &results(&judged.found)?)?;
        write_where_told(&sheet, &found::sheet(&set, &judged.found)?)?;
        [detections, sheet].iter().for_each(|path| super::note(&path.display().to_string()));
    }
    Ok(code)
}

/// A mistake in a recipe's keys, by the flags that set them here.
fn by_flags(error: Error) -> Error {
    match error {
        Error::Usage(what) => {
            Error::Usage(FLAGS.iter().fold(what, |what, (key, flag)| what.replace(key, flag)))
        }
        other => other,
    }
}

fn answer(done: &Transferred, json: bool, output: &Output) -> Result<i32> {
    let Some(judged) = &done.judged else {
        super::note(&format!("the loss is no number at step {}; a lower --lr may help", done.losses.len()));
        return Ok(3);
    };
    let kinds = [("boxes", Some(&judged.boxes)), ("masks", judged.masks.as_ref())];
    if json {
        let numbers = |coco: &Coco| -> Value {
            let named = NAMES.iter().zip(coco.numbers).map(|(name, value)| (name.to_string(), json!(value)));
            Value::Object(named.collect())
        };
        let of = |coco: Option<&Coco>| coco.map(numbers);
        let line = json!({"loss": done.losses.last(), "boxes": of(kinds[0].1), "masks": of(kinds[1].1)});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    let mut rows =
        vec![std::iter::once("%").chain(NAMES.into_iter().take(SHOWN)).map(String::from).collect()];
    for (kind, coco) in kinds.into_iter().filter_map(|(kind, coco)| Some((kind, coco?))) {
        let cell =
            |number: Option<f64>| number.map_or("-".to_string(), |number| format!("{:.1}", 100.0 * number));
        let cells = coco.numbers.into_iter().take(SHOWN).map(cell);
        rows.push(std::iter::once(kind.to_string()).chain(cells).collect());
    }
    output.table(&rows)?;
    Ok(0)
}
