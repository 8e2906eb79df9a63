//! What `sim embed` and `sim eval` share: trained weights, and flags for how images are prepared
//! for them.

use super::flags::option;
use crate::error::Result;
use crate::train::{Preprocessing, Pretrained};
use clap::{Arg, ArgMatches, value_parser};
use std::path::Path;

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
