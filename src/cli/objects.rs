//! `sim data export`, and what `sim data check` and `sim data preview` say and show of images with
//! objects.

use super::flags::{json_flag, option, path, switch};
use super::output::Output;
use super::signals;
use crate::data::objects::export::export;
use crate::data::objects::scenes::ScenesConfig;
use crate::data::objects::{Object, ObjectSet, ObjectSplit, SOURCES};
use crate::error::Result;
use crate::record::write_where_told;
use crate::report::{Marked, Row, contact_sheet, object_tiles};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Images with objects that are looked at for a sheet; more hold every class.
const MOST_LOOKED_AT: usize = 2000;

/// `sim data export` and its flags.
pub fn export_command() -> Command {
    let number = |name, value: &'static str, help: &'static str, default: &'static str| {
        option(name, value, help).default_value(default).value_parser(value_parser!(u32).range(1..=1_000_000))
    };
    Command::new("export")
        .about("Write images with objects as COCO has them: PNG, boxes, masks; coco:DIR reads them")
        .arg(Arg::new("data").value_name("DATA").required(true).help(SOURCES.join(", ")))
        .arg(path("out", "OUT", "A new folder for images and annotations"))
        .args([
            number("train", "N", "Training images (scenes only)", "500"),
            number("test", "N", "Held-out images (scenes only)", "300"),
            number("size", "PIXELS", "Side of an image (scenes only)", "64"),
            option("seed", "SEED", "Which images are drawn (scenes only)")
                .default_value("0")
                .value_parser(value_parser!(u64)),
            switch("crowd", "Every fourth image has a crowd: copies that are one object (scenes only)"),
            json_flag(),
        ])
}

/// Runs `sim data export` as `matches` say; the exit code.
pub fn run_export(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(source), Some(out)) = (matches.get_one::<String>("data"), matches.get_one::<PathBuf>("out"))
    else {
        return Ok(2);
    };
    let number = |name: &str| matches.get_one::<u32>(name).map_or(0, |number| *number as usize);
    let scenes = ScenesConfig {
        size: number("size"),
        train: number("train"),
        test: number("test"),
        seed: matches.get_one::<u64>("seed").copied().unwrap_or(0),
        crowd: matches.get_flag("crowd"),
    };
    let set = ObjectSet::open(source, &scenes)?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::listen(&stop)?;
    let written = export(&set, out, &stop)?;
    let shown = out.display();
    if matches.get_flag("json") {
        let line = json!({"images": written.images, "objects": written.objects, "out": shown.to_string()});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    let (images, objects) = (super::count(written.images, "image"), super::count(written.objects, "object"));
    output.line(&format!("{shown}: {images} with {objects}; --data coco:{shown} reads them"))?;
    Ok(0)
}

/// Writes a sheet of training images of `source` that hold each class, `wanted` of each, plain and
/// marked.
pub fn preview(source: &str, wanted: usize, out: &Path, output: &Output) -> Result<i32> {
    let set = ObjectSet::open(source, &ScenesConfig::default())?;
    let row = |name: &String| Row { name: name.clone(), groups: Vec::new() };
    let mut rows: Vec<Row> = set.classes.iter().map(row).collect();
    for index in 0..set.train.len().min(MOST_LOOKED_AT) {
        let objects = set.train.objects(index);
        // An image stands in one row: that of the class which lacks images most.
        let classes = objects.iter().map(|object| object.class);
        let Some(class) = classes.min_by_key(|class| rows[*class].groups.len()) else { continue };
        if rows[class].groups.len() < wanted {
            let image = set.train.scene(index)?.image;
            let marked: Vec<Marked> = objects.iter().map(marked).collect();
            rows[class].groups.push(object_tiles(&image, &marked).map(Into::into).into());
        }
    }
    rows.retain(|row| !row.groups.is_empty());
    write_where_told(out, &contact_sheet(&[], &rows)?)?;
    output.tell_of(out, &out.display().to_string())?;
    Ok(0)
}

/// How an object is marked on a sheet.
pub fn marked(object: &Object) -> Marked<'_> {
    Marked {
        colour: object.class,
        bounding_box: object.bounding_box,
        mask: object.mask.as_ref(),
        dashed: object.crowd || object.difficult,
    }
}

/// What is counted of one half.
struct Counted {
    images: usize,
    /// Objects of every class, crowds apart.
    objects: Vec<usize>,
    crowds: usize,
    masks: usize,
    empty: usize,
}

impl Counted {
    /// Decodes every image of `split`.
    fn of(split: &ObjectSplit, classes: usize) -> Result<Counted> {
        let images = split.len();
        let mut counted = Counted { images, objects: vec![0; classes], crowds: 0, masks: 0, empty: 0 };
        for index in 0..images {
            let scene = split.scene(index)?;
            counted.empty += usize::from(scene.objects.is_empty());
            for object in &scene.objects {
                counted.masks += usize::from(object.mask.is_some());
                match object.crowd {
                    true => counted.crowds += 1,
                    false => counted.objects[object.class] += 1,
                }
            }
        }
        Ok(counted)
    }

    fn json(&self) -> serde_json::Value {
        json!({"images": self.images, "objects": self.objects, "crowds": self.crowds, "masks": self.masks,
            "without_objects": self.empty})
    }

    fn sentence(&self, what: &str) -> String {
        let (objects, crowds) = (self.objects.iter().sum::<usize>(), self.crowds);
        let parts = [super::count(objects, "object"), super::count(crowds, "crowd")].join(" and ");
        let masks = super::count(self.masks, "mask");
        format!("{}: {parts}, {masks}; {} without objects", super::count(self.images, what), self.empty)
    }
}

/// Reads every image of `source` and says what there is.
pub fn check(source: &str, json: bool, output: &Output) -> Result<i32> {
    let set = ObjectSet::open(source, &ScenesConfig::default())?;
    let [train, test] = [&set.train, &set.test].map(|split| Counted::of(split, set.classes.len()));
    let (train, test) = (train?, test?);
    if json {
        let line =
            json!({"data": set.name, "classes": set.classes, "train": train.json(), "test": test.json()});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&train.sentence("training image"))?;
    output.line(&test.sentence("held-out image"))?;
    let mut rows = vec![["  class", "training", "held out"].map(String::from).to_vec()];
    for (class, name) in set.classes.iter().enumerate() {
        rows.push(vec![
            format!("  {name}"),
            train.objects[class].to_string(),
            test.objects[class].to_string(),
        ]);
    }
    output.table(&rows)?;
    Ok(0)
}
