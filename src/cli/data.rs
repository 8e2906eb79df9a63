//! `sim data`: looks at images before anything is trained on them.

use super::flags::{json_flag, option, path, path_option, scale_flag, set_flag, skip_bad_flag};
use super::output::Output;
use super::signals;
use crate::augment::{self, AugmentConfig, Image, Scratch};
use crate::data::{DataConfig, Dataset, Split, objects, shards, sources};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::record::{is_stream, write_where_told};
use crate::report::{Row, Tile, contact_sheet, tile_of};
use crate::rng::{Purpose, Stream, below, stream};
use crate::study::{Request, Study, trained_scale};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Views of an image on the sheet at most: an E-step may read a whole finite set.
const MOST_VIEWS: usize = 8;
/// The study whose views are shown where none is named.
const STUDY: &str = "simsiam";

/// `sim data` and its flags.
pub fn command() -> Command {
    let data = option(
        "data",
        "DATA",
        format!("{}; images with objects: {}", sources(), objects::SOURCES.join(", ")),
    );
    let preview = Command::new("preview")
        .about("Write a contact sheet: images beside views of them, or beside their objects; a row for each class")
        .arg(
            Arg::new("study")
                .value_name("STUDY")
                .help("The study whose views are shown, those of its first arm; or a file ending in .toml")
                .default_value(STUDY),
        )
        .args([scale_flag(), data.clone(), skip_bad_flag(), set_flag()])
        .arg(path_option("out", "FILE", "Where the PNG goes").default_value("preview.png"))
        .arg(
            option("per-class", "N", "Images of each class")
                .default_value("4")
                .value_parser(value_parser!(u32).range(1..=100)),
        )
        .arg(
            option("seed", "SEED", "Seed of the augmentations")
                .default_value("0")
                .value_parser(value_parser!(u64)),
        );
    let check = Command::new("check").about("Read every image and say what there is").args([
        data.default_value("shapes"),
        skip_bad_flag(),
        set_flag(),
        json_flag(),
    ]);
    let pack = Command::new("pack")
        .about("Write images as shards, which tar:DIR reads: tar archives as WebDataset has them")
        .arg(Arg::new("data").value_name("DATA").required(true).help(sources()))
        .arg(path("out", "OUT", "A new folder for the shards"))
        .arg(
            option("shard-size", "MIB", "A shard ends with the image with which it reaches this size")
                .default_value("256")
                .value_parser(value_parser!(u64).range(1..=1 << 20)),
        )
        .args([skip_bad_flag(), json_flag()]);
    Command::new("data")
        .about("Look at images, fetch, pack and export them")
        .subcommand_required(true)
        .subcommands([super::fetch::command(), preview, check, pack, super::objects::export_command()])
}

/// Runs `sim data` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    match matches.subcommand() {
        Some(("fetch", matches)) => super::fetch::run(matches, output),
        Some(("preview", matches)) => preview(matches, output),
        Some(("check", matches)) => check(matches, output),
        Some(("pack", matches)) => pack(matches, output),
        Some(("export", matches)) => super::objects::run_export(matches, output),
        _ => Ok(2),
    }
}

/// The recipe of the first run of `study` with the flags of `matches`: the same images and views.
pub fn recipe(study: &str, matches: &ArgMatches) -> Result<Recipe> {
    let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let request = Request {
        scale: text("scale").map(|scale| trained_scale(&scale).to_string()),
        data: text("data"),
        skip_bad: matches.get_flag("skip-bad"),
        set: matches.get_many::<String>("set").into_iter().flatten().cloned().collect(),
        ..Request::default()
    };
    let arms = Study::find(study)?.resolve(&request)?;
    let first = arms.first().and_then(|arm| Some(arm.recipe.with_seed(*arm.seeds.first()?)));
    let recipe = first.ok_or_else(|| Error::Failure(format!("the study {study} has no run")))?;
    match recipe.closed_form {
        None => Ok(recipe),
        Some(_) => Err(Error::Usage(format!("{study} is computed in closed form, and sees no images"))),
    }
}

/// Writes all images as shards.
fn pack(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(source), Some(out), Some(&mebibytes)) = (
        matches.get_one::<String>("data"),
        matches.get_one::<PathBuf>("out"),
        matches.get_one::<u64>("shard-size"),
    ) else {
        return Ok(2);
    };
    let source = source.trim_end_matches('/');
    let config = DataConfig { skip_bad: matches.get_flag("skip-bad"), ..DataConfig::all_of(source) };
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let packed = shards::pack::pack(&config, out, mebibytes << 20, &stop)?;
    report_left_out(source, &packed.notes, &packed.skipped);
    let shown = out.display();
    if matches.get_flag("json") {
        let line = json!({"images": packed.images, "shards": packed.shards, "bytes": packed.bytes,
            "skipped": packed.skipped.len(), "notes": packed.notes, "out": shown.to_string()});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    let (images, shards) = (super::count(packed.images, "image"), super::count(packed.shards, "shard"));
    output.line(&format!("{shown}: {images} in {shards}; --data tar:{shown} reads them"))?;
    Ok(0)
}

/// All of the training images that have to be read to show `per_class` of each class.
fn preview(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(out), Some(&per_class), Some(&seed)) = (
        matches.get_one::<PathBuf>("out"),
        matches.get_one::<u32>("per-class"),
        matches.get_one::<u64>("seed"),
    ) else {
        return Ok(2);
    };
    if !is_stream(out) && !out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        let message =
            format!("--out {}: the sheet is a PNG; give it a name that ends in .png", out.display());
        return Err(Error::Usage(message));
    }
    if let Some(source) = objects_source(matches) {
        return super::objects::preview(source, per_class as usize, out, output);
    }
    let recipe = recipe(matches.get_one::<String>("study").map_or(STUDY, String::as_str), matches)?;
    let dataset = Dataset::open(&recipe.data)?;
    report_left_out(&dataset.name, &dataset.notes, &dataset.skipped);
    let row = |name: &str| Row { name: name.to_string(), groups: Vec::new() };
    let mut rows: Vec<Row> = match dataset.trains_on_labelled() {
        true => dataset.classes.iter().map(|name| row(name)).collect(),
        false => vec![row("images")],
    };
    let wanted = per_class as usize;
    for index in 0..dataset.train.len() {
        let groups = &mut rows[dataset.train.label(index) as usize].groups;
        if groups.len() < wanted {
            groups.push(group(&dataset.train, index, &recipe, seed)?);
        }
    }
    write_where_told(out, &contact_sheet(&[], &rows)?)?;
    output.tell_of(out, &out.display().to_string())?;
    Ok(0)
}

/// An image, and the views that a step of `recipe` would make of it, small crops among them.
fn group(split: &Split, index: usize, recipe: &Recipe, seed: u64) -> Result<Vec<Tile>> {
    let image = split.image(index)?;
    let config = &recipe.augment;
    let mut tiles = vec![tile_of(&image).into()];
    for view in 0..recipe.views().min(MOST_VIEWS) {
        let mut rng = stream(seed, Purpose::Augment, 0, (recipe.views() * index + view) as u64);
        tiles.push(tile(config, &image, &mut rng).into());
    }
    if let Some(crops) = &config.multi_crop {
        for crop in 0..crops.count {
            let mut rng = stream(seed, Purpose::Augment, 1, (crops.count * index + crop) as u64);
            tiles.push(tile(&config.small(crops), &image, &mut rng).into());
        }
    }
    Ok(tiles)
}

/// One view of `image`.
fn tile(config: &AugmentConfig, image: &Image, rng: &mut Stream) -> Image {
    let mut values = vec![0.0; config.size * config.size * 3];
    match &config.finite {
        Some(set) => {
            let element = below(set.len(), rng);
            augment::element(config, set, image, element, &mut Scratch::default(), &mut values);
        }
        None => augment::view(config, image, rng, &mut Scratch::default(), &mut values),
    }
    let byte = |(i, value): (usize, &f32)| {
        (255.0 * (value * config.std[i % 3] + config.mean[i % 3])).round().clamp(0.0, 255.0) as u8
    };
    let pixels = values.iter().enumerate().map(byte).collect();
    tile_of(&Image { height: config.size, width: config.size, pixels })
}

/// Says what of a person's files was left out, and which of them `--skip-bad` skipped.
pub fn report_left_out(source: &str, notes: &[String], skipped: &[(PathBuf, String)]) {
    for said in notes {
        super::note(&format!("{source}: {said}"));
    }
    if !skipped.is_empty() {
        super::note(&format!("skipped {}:", super::count(skipped.len(), "file")));
        for (path, why) in skipped {
            super::note(&format!("  {}: {why}", path.display()));
        }
    }
}

/// The least and the largest width, and height, of all images.
fn extent(dataset: &Dataset) -> Result<[(usize, usize); 2]> {
    let mut extent = [(usize::MAX, 0); 2];
    for split in [&dataset.train, &dataset.test] {
        for index in 0..split.len() {
            let image = split.image(index)?;
            for ((least, largest), side) in extent.iter_mut().zip([image.width, image.height]) {
                (*least, *largest) = (side.min(*least), side.max(*largest));
            }
        }
    }
    Ok(extent)
}

/// The source that `--data` names where it has objects in its images.
fn objects_source(matches: &ArgMatches) -> Option<&str> {
    let source = matches.get_one::<String>("data")?.trim_end_matches('/');
    objects::is_source(source).then_some(source)
}

fn check(matches: &ArgMatches, output: &Output) -> Result<i32> {
    if let Some(source) = objects_source(matches) {
        return super::objects::check(source, matches.get_flag("json"), output);
    }
    let recipe = recipe(STUDY, matches)?;
    let mut config = recipe.data;
    if !config.is_procedural() {
        (config.train_images, config.test_images) = (0, 0);
    }
    let dataset = Dataset::open(&config)?;
    report_left_out(&dataset.name, &dataset.notes, &dataset.skipped);
    if dataset.turned > 0 {
        let asked = match dataset.turned {
            1 => "1 image asks".to_string(),
            n => format!("{n} images ask"),
        };
        let done = match config.exif {
            true => "they are turned, as data.exif says",
            false => "all are read as they are stored, as torchvision reads them",
        };
        super::note(&format!("{asked} to be turned (EXIF orientation); {done}"));
    }
    let counts = |split: &Split| {
        let mut counts = vec![0usize; dataset.classes.len()];
        for &label in split.labels() {
            // Images without labels are of no class.
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    };
    let (train, test) = (counts(dataset.labelled()), counts(&dataset.test));
    let [(w0, w1), (h0, h1)] = extent(&dataset)?;
    if matches.get_flag("json") {
        let line = json!({"data": dataset.name, "train": dataset.train.len(), "test": dataset.test.len(),
            "classes": dataset.classes, "train_by_class": train, "test_by_class": test,
            "width": [w0, w1], "height": [h0, h1], "skipped": dataset.skipped.len(),
            "turned": dataset.turned, "notes": dataset.notes, "sha256": dataset.digest});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&format!(
        "{}: {} training and {} held-out images",
        dataset.name,
        dataset.train.len(),
        dataset.test.len()
    ))?;
    output.line(&format!(
        "width {w0} to {w1}, height {h0} to {h1} pixels; {} skipped",
        super::count(dataset.skipped.len(), "file")
    ))?;
    if dataset.is_labelled() {
        output.table(&by_class(&dataset, &train, &test))?;
    }
    output.line(&format!("sha256 {}", dataset.digest))?;
    Ok(0)
}

/// The table of classes with so many images each.
fn by_class(dataset: &Dataset, train: &[usize], test: &[usize]) -> Vec<Vec<String>> {
    let training = if dataset.trains_on_labelled() { "training" } else { "judging" };
    let mut rows = vec![["  class", training, "held out"].map(String::from).to_vec()];
    let row = |((name, train), test): ((&String, &usize), &usize)| {
        vec![format!("  {name}"), train.to_string(), test.to_string()]
    };
    rows.extend(dataset.classes.iter().zip(train).zip(test).map(row));
    rows
}
