//! `encoder.precision`: `auto` is settled by measurement before anything is made, and a choice that
//! costs time is told.

use crate::device::Place;
use crate::error::{Error, Result};
use crate::files;
use crate::kernel::Precision;
use crate::recipe::Recipe;
use crate::record::CONFIG_FILE;
use crate::study::Settings;
use crate::train::{StepSeconds, seconds_by_precision};
use std::path::Path;

/// A precision that is slower by less than this is as fast: steps are timed to a few per cent.
const NOTICED: f64 = 1.03;

/// What `auto` is for all runs of a study, of which `recipe` is one, below its `folder`: what its
/// runs there have, since numbers of two precisions must not stand side by side; without any, the
/// faster one on this processor.
///
/// # Errors
/// [`Error::Usage`] for a GPU, on which nothing is measured.
pub fn settled(recipe: &Recipe, folder: &Path, settings: &Settings) -> Result<&'static str> {
    if let Some(precision) = of_runs(folder) {
        return Ok(word(precision));
    }
    if settings.place != Place::Cpu {
        return Err(Error::Usage(
            "encoder.precision = auto is measured on the processor; say f32 or bf16 for a GPU".into(),
        ));
    }
    let seconds = seconds_by_precision(recipe, settings.threads)?;
    let (precision, why) = chosen(&seconds);
    super::note(&format!("encoder.precision = auto: {why}"));
    Ok(word(precision))
}

/// As recipes name it.
fn word(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// Says that bf16 was asked for where it is slower than f32.
pub fn warn_where_slower(recipe: &Recipe, settings: &Settings) -> Result<()> {
    if recipe.encoder.precision == Precision::Bf16
        && settings.place == Place::Cpu
        && let Some(warning) = warning(&seconds_by_precision(recipe, settings.threads)?)
    {
        super::note(&warning);
    }
    Ok(())
}

/// The faster one, and in words why.
fn chosen(seconds: &StepSeconds) -> (Precision, String) {
    let ms = |seconds: f64| format!("{:.3} ms", 1000.0 * seconds);
    match *seconds {
        StepSeconds { f32, bf16: Some(bf16) } if bf16 < f32 => {
            (Precision::Bf16, format!("bf16; a step takes {} with it, {} with f32", ms(bf16), ms(f32)))
        }
        StepSeconds { f32, bf16: Some(bf16) } => {
            (Precision::F32, format!("f32; a step takes {} with it, {} with bf16", ms(f32), ms(bf16)))
        }
        StepSeconds { bf16: None, .. } => {
            (Precision::F32, "f32; this processor has no products of bf16 numbers".into())
        }
    }
}

fn warning(seconds: &StepSeconds) -> Option<String> {
    let times = seconds.bf16? / seconds.f32;
    let slower = format!(
        "encoder.precision = bf16 takes {times:.2} times as long as f32 for this network on this processor; \
         encoder.precision = auto takes the faster one"
    );
    (times > NOTICED).then_some(slower)
}

/// The precision of the runs in a study's folder, where there is one.
fn of_runs(folder: &Path) -> Option<Precision> {
    let inside = |path: &Path| {
        let mut paths: Vec<_> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let runs = inside(folder).into_iter().flat_map(|arm| inside(&arm));
    let recipes = runs.filter_map(|run| files::text(&run.join(CONFIG_FILE), files::SHORT).ok());
    let recipes = recipes.filter_map(|text| toml::from_str::<Recipe>(&text).ok());
    recipes.map(|recipe| recipe.encoder.precision).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_one_is_taken_and_a_slower_one_told() {
        let seconds = |f32, bf16| StepSeconds { f32, bf16 };
        assert_eq!(chosen(&seconds(0.02, Some(0.01))).0, Precision::Bf16);
        assert_eq!(chosen(&seconds(0.02, Some(0.02))).0, Precision::F32);
        assert_eq!(chosen(&seconds(0.02, None)).0, Precision::F32);
        assert_eq!(warning(&seconds(0.02, Some(0.0205))), None);
        assert_eq!(warning(&seconds(0.02, None)), None);
        assert!(warning(&seconds(0.02, Some(0.03))).unwrap().contains("1.50 times"));
    }
}
