//! `sim eval --on tracking`: an object followed through sequences by trained weights.

use super::flags::{option, path_option, place};
use super::output::Output;
use crate::data::tracks::{SOURCES, Sequence, open_otb};
use crate::error::{Error, Result};
use crate::measure::tracking::{Followed, PRECISION, TrackingConfig};
use crate::record::write_where_told;
use crate::report::{Marked, Row, Tile, contact_sheet, object_tiles};
use crate::train::{Pretrained, Track, Tracker, held_out_tracks, track_threshold};
use clap::{Arg, ArgMatches, value_parser};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// The value of `--on`.
pub const TRACKING: &str = "tracking";
/// What is measured, where no recipe says it: the settings of the laptop's scale.
const MEASURE: TrackingConfig = TrackingConfig { sequences: 64, exemplar: 24, tune: 0 };
/// Sequences and frames of each on a strip.
const ROWS: usize = 6;
const FRAMES: usize = 8;
/// The colours of boxes: the true one, the one that was found.
const TRUE: usize = 2;
const FOUND: usize = 5;
/// Lines of the table at most; the means are of all sequences.
const LINES: usize = 20;

/// The flags of `sim eval` that belong to tracking.
pub fn flags() -> [Arg; 4] {
    let count = |name: &'static str, help: &'static str, least: u64, most: u64| {
        option(name, "N", help).value_parser(value_parser!(u64).range(least..=most))
    };
    [
        count("tracks", "Of tracking: procedural sequences [default: the run's; else 64]", 1, 4096),
        count(
            "exemplar",
            "Of tracking: side of the exemplar in pixels [default: the run's; else 24]",
            8,
            256,
        ),
        count("tune", "Of tracking: SGD steps of fine-tuning on procedural sequences before", 1, 1 << 20),
        path_option("strip", "FILE", "Of tracking: a PNG of frames with true and found boxes"),
    ]
}

/// The first of these flags that was given.
pub fn given(matches: &ArgMatches) -> Option<&'static str> {
    let count = |name: &&str| matches.get_one::<u64>(name).is_some();
    let strip = matches.get_one::<PathBuf>("strip").map(|_| "strip");
    ["tracks", "exemplar", "tune"].into_iter().find(count).or(strip)
}

/// The sequences that `source` names: those of a run of `seed`, or an OTB folder's. And how far
/// centres may be apart.
fn sequences(
    source: Option<&str>,
    count: Option<usize>,
    usual: usize,
    seed: u64,
) -> Result<(Vec<Sequence>, f64)> {
    match source.and_then(|source| source.split_once(':')) {
        Some(("otb", path)) if !path.is_empty() => match count {
            None => Ok((open_otb(path)?, PRECISION)),
            Some(_) => {
                Err(Error::Usage("--tracks counts procedural sequences; an OTB folder has its own".into()))
            }
        },
        None if source.is_none_or(|source| source == "tracks") => {
            Ok((held_out_tracks(seed, count.unwrap_or(usual)), track_threshold()))
        }
        _ => {
            let source = source.unwrap_or_default();
            Err(Error::Usage(format!(
                "--data {source} has no sequences; tracking takes {}",
                SOURCES.join(" or ")
            )))
        }
    }
}

/// Follows the objects of the sequences that the flags name, by the weights `pretrained`; the exit
/// code.
///
/// # Errors
/// [`Error::Usage`] for a source without sequences or a backbone without feature maps,
/// [`Error::Data`] for frames and boxes that cannot be read.
pub fn run(pretrained: &Pretrained, matches: &ArgMatches, output: &Output) -> Result<i32> {
    let count = |name: &str| matches.get_one::<u64>(name).map(|n| *n as usize);
    let recipe = pretrained.recipe.as_ref();
    let seed = recipe.map_or(0, |recipe| recipe.seed);
    let config = recipe.and_then(|recipe| recipe.measure.tracking).unwrap_or(MEASURE);
    let source = matches.get_one::<String>("data").map(String::as_str);
    let (sequences, threshold) = sequences(source, count("tracks"), config.sequences, seed)?;
    let exemplar = count("exemplar").unwrap_or(config.exemplar);
    let backbone = pretrained.backbone()?;
    let site = place(matches)?.open()?;
    // A signal ends the program here, which leaves nothing behind.
    let stop = AtomicBool::new(false);
    let mut tracker = site
        .guard(|| Tracker::of(&pretrained.model(&site)?, &backbone, &pretrained.preprocessing, exemplar))?;
    if let Some(steps) = count("tune") {
        let losses = tracker.tune(seed, steps, &stop)?;
        if losses.len() < steps {
            return Err(pretrained.overflow());
        }
    }
    let tracks: Option<Vec<Track>> = tracker.follow(&sequences, &stop)?.into_iter().collect();
    let tracks = tracks.ok_or_else(|| pretrained.overflow())?;
    let of = |(sequence, track): (&Sequence, &Track)| Followed::of(sequence.boxes(), track, threshold);
    let all: Vec<Followed> = sequences.iter().zip(&tracks).filter_map(of).collect();
    let Some(mean) = Followed::mean(&all) else { return Err(pretrained.overflow()) };
    if let Some(file) = matches.get_one::<PathBuf>("strip") {
        write_where_told(file, &strip(&sequences, &tracks, &all)?)?;
        super::note(&file.display().to_string());
    }
    if matches.get_flag("json") {
        let one = |(sequence, (track, followed)): (&Sequence, (&Track, &Followed))| -> Value {
            json!({"name": sequence.name, "frames": sequence.len(), "boxes": track, "followed": followed})
        };
        let each: Vec<Value> = sequences.iter().zip(tracks.iter().zip(&all)).map(one).collect();
        let line = json!({"on": TRACKING, "mean": mean, "threshold": threshold, "sequences": each,
            "preprocessing": pretrained.preprocessing});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&format!("images    {} ({})", pretrained.preprocessing, pretrained.source))?;
    table(&sequences, &all, (&mean, threshold), output)
}

fn table(
    sequences: &[Sequence],
    all: &[Followed],
    (mean, threshold): (&Followed, f64),
    output: &Output,
) -> Result<i32> {
    let row = |name: &str, frames: usize, one: &Followed| -> Vec<String> {
        let percent = |part: f64| format!("{:.1} %", 100.0 * part);
        let auc = format!("{:.3}", one.auc);
        vec![
            name.into(),
            frames.to_string(),
            auc,
            percent(one.success_50),
            percent(one.precision),
            percent(one.near),
        ]
    };
    let pixels = |most: f64| format!("centre ≤ {most} px");
    let head = ["sequence".into(), "frames".into(), "success AUC".into(), "overlap > ½".into()];
    let mut rows = vec![[&head[..], &[pixels(threshold), pixels(threshold / 5.0)]].concat()];
    let lines = if sequences.len() > LINES { 0 } else { sequences.len() };
    let each = sequences.iter().zip(all).take(lines);
    rows.extend(each.map(|(sequence, one)| row(&sequence.name, sequence.len(), one)));
    let frames = sequences.iter().map(Sequence::len).sum();
    rows.push(row(&format!("mean of {}", sequences.len()), frames, mean));
    output.table(&rows)?;
    Ok(0)
}

/// Frames of some sequences from the first to the last, with the true box and, dashed, the one that
/// was found.
fn strip(sequences: &[Sequence], tracks: &[Track], all: &[Followed]) -> Result<Vec<u8>> {
    let heading =
        ["Green: the true box. Orange, dashed: the box that was found. The first one is given.".into()];
    let marked = |bounding_box: [f64; 4], colour: usize| Marked {
        colour,
        bounding_box,
        mask: None,
        dashed: colour == FOUND,
    };
    let mut rows = Vec::new();
    for ((sequence, track), followed) in sequences.iter().zip(tracks).zip(all).take(ROWS) {
        let shown = FRAMES.min(sequence.len());
        let frame = |place: usize| -> Result<Tile> {
            let number = place * (sequence.len() - 1) / (shown.max(2) - 1);
            let boxes = [marked(sequence.boxes()[number], TRUE), marked(track[number], FOUND)];
            let [_, image] = object_tiles(&sequence.frame(number)?, &boxes);
            Ok(Tile { image, note: format!("frame {}", number + 1), right: None })
        };
        let tiles = (0..shown).map(frame).collect::<Result<_>>()?;
        rows.push(Row { name: format!("{} {:.2}", sequence.name, followed.auc), groups: vec![tiles] });
    }
    contact_sheet(&heading, &rows)
}
