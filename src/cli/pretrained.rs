//! What commands on trained weights share: the weights, how images are prepared for them, and the
//! images.

use super::flags::{option, path};
use crate::data::{DataConfig, Dataset, sources};
use crate::error::{Error, Result};
use crate::record::images_of;
use crate::train::{Preprocessing, Pretrained};
use clap::{Arg, ArgMatches, value_parser};
use std::path::Path;

/// The weights, and the images on which they are looked at.
pub fn weights_and_images() -> [Arg; 2] {
    let run = "A run's folder, such as runs/simsiam/simsiam/seed-100, or a weights file as for sim embed";
    [path("run", "RUN|FILE", run), option("data", "DATA", format!("{} [default: the run's own]", sources()))]
}

/// The images that [`weights_and_images`] name.
///
/// # Errors
/// [`Error::Usage`] where neither a flag nor a recipe says which, [`Error::Data`] for images that
/// cannot be read, or are others than those of the run.
pub fn dataset_for(pretrained: &Pretrained, matches: &ArgMatches) -> Result<Dataset> {
    dataset_of(pretrained, matches.get_one::<String>("data"))
}

/// The images that `named` says, or those of the weights' run.
///
/// # Errors
/// As [`dataset_for`].
pub fn dataset_of(pretrained: &Pretrained, named: Option<&String>) -> Result<Dataset> {
    let dataset = Dataset::open(&data_of(pretrained, named)?)?;
    super::data::report_left_out(&dataset.name, &dataset.notes, &dataset.skipped);
    check_images(pretrained, &dataset, named.is_some())?;
    Ok(dataset)
}

/// The images of `source`, or of the run that the weights are of.
///
/// # Errors
/// [`Error::Usage`] where neither says which.
pub fn data_of(pretrained: &Pretrained, source: Option<&String>) -> Result<DataConfig> {
    let of_run = pretrained.recipe.as_ref().map(|recipe| recipe.data.clone());
    match (of_run, source) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(source)) => {
            let kinds = ["folder:", "tar:", "parquet:"];
            let held_out = own.held_out.filter(|_| kinds.iter().any(|kind| source.starts_with(kind)));
            let exif = own.exif && source.starts_with("folder:");
            let unlabelled = own.unlabelled && source.starts_with("stl10:");
            Ok(DataConfig { source: source.clone(), held_out, exif, unlabelled, ..own })
        }
        (None, Some(source)) => Ok(DataConfig::all_of(source)),
        (None, None) => Err(Error::Usage(format!(
            "{} is a weights file of no run that is known here; say on which images it is measured, with --data",
            pretrained.path.display()
        ))),
    }
}

/// Refuses other images under the name of those that the run was made from; who names them means
/// them.
fn check_images(pretrained: &Pretrained, dataset: &Dataset, named: bool) -> Result<()> {
    let run = pretrained.path.parent().unwrap_or(Path::new(""));
    if named || pretrained.recipe.is_none() || images_of(run)?.is_none_or(|seen| seen == dataset.digest) {
        return Ok(());
    }
    let source = &dataset.name;
    let what =
        format!("was made from other images than {source} holds now; --data {source} measures it on these");
    Err(Error::data(run, what))
}

/// Flags that take the place of what the weights' run says.
pub fn preprocessing_flags() -> [Arg; 3] {
    let channels = |name: &'static str, help: &'static str| {
        option(name, "R,G,B", help).allow_hyphen_values(true).value_parser(three_numbers)
    };
    [
        option(
            "size",
            "PIXELS",
            "Side to which images are resized and cropped [default: the run's; else 224 for a 7×7 stem, 32 for others]",
        )
        .value_parser(value_parser!(u64)),
        channels("mean", "What is subtracted from channels of values in [0, 1] [default: the run's; else ImageNet's]"),
        channels("std", "What they are divided by [default: the run's; else ImageNet's]"),
    ]
}

fn three_numbers(text: &str) -> Result<[f32; 3], String> {
    let numbers: Vec<f32> = text.split(',').map_while(|number| number.trim().parse().ok()).collect();
    let three = <[f32; 3]>::try_from(numbers).ok().filter(|_| text.split(',').count() == 3);
    three.ok_or_else(|| "three numbers with commas between them are needed, such as 0.485,0.456,0.406".into())
}

/// The weights at `path`, a run's folder or a file, with how images are prepared for them: what
/// the flags say, in place of what the weights' run says.
pub fn opened(path: &Path, matches: &ArgMatches) -> Result<Pretrained> {
    let mut pretrained = Pretrained::open(path)?;
    let Preprocessing { size, mean, std } = &mut pretrained.preprocessing;
    let mut given = Vec::new();
    if let Some(flag) = matches.get_one::<u64>("size") {
        *size = usize::try_from(*flag).unwrap_or(usize::MAX);
        given.push("--size");
    }
    for (name, values) in [("mean", mean), ("std", std)] {
        if let Some(flag) = matches.get_one::<[f32; 3]>(name) {
            *values = *flag;
            given.push(if name == "mean" { "--mean" } else { "--std" });
        }
    }
    pretrained.preprocessing.check()?;
    if !given.is_empty() {
        pretrained.source = match given.len() {
            3 => format!("of {}", given.join(", ")),
            _ => format!("of {}; else {}", given.join(", "), pretrained.source),
        };
    }
    Ok(pretrained)
}
