//! `sim eval`: kNN, linear probe and the singular spectrum of trained weights, on a run's own
//! images or others; or, with `--on`, what [`recognise`] or [`track`] prints.

use super::flags::{device_flag, json_flag, place};
use super::output::Output;
use super::pretrained::{dataset_for, opened, preprocessing_flags, weights_and_images};
use super::recognise;
use super::track;
use crate::error::Result;
use crate::measure::MeasureConfig;
use crate::train::{Evaluation, Pretrained, Protocol, evaluate};
use clap::{ArgMatches, Command};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// `sim eval` and its flags.
pub fn command() -> Command {
    Command::new("eval")
        .about("Measure trained weights: kNN, linear probe, std, effective rank, singular values")
        .args(weights_and_images())
        .args(recognise::flags())
        .args(track::flags())
        .args(preprocessing_flags())
        .args([device_flag(), json_flag()])
}

/// What is measured, where no recipe says it: the settings of the paper's scale.
const MEASURE: MeasureConfig = MeasureConfig {
    every: 1,
    knn_k: 200,
    knn_images: 0,
    knn_temperature: 0.1,
    probe_epochs: 90,
    probe_base_lr: 0.1,
    probe_batch: 256,
    probe_always: false,
    film: 0,
    em: None,
    verification: None,
    one_shot: None,
    spectrum: false,
    predictor: false,
    tracking: None,
};

/// Runs `sim eval` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let Some(path) = matches.get_one::<PathBuf>("run") else { return Ok(2) };
    let pretrained = opened(path, matches)?;
    if recognise::is_tracking(matches)? {
        return track::run(&pretrained, matches, output);
    }
    if let Some(asked) = recognise::asked(matches)? {
        return recognise::run(&pretrained, &asked, matches, output);
    }
    let place = place(matches)?;
    let dataset = dataset_for(&pretrained, matches)?;
    let site = place.open()?;
    let recipe = pretrained.recipe.as_ref();
    let augment = pretrained.preprocessing.augment();
    let (measure, seed) = recipe.map_or((&MEASURE, 0), |recipe| (&recipe.measure, recipe.seed));
    let mut features_only = false;
    let e = site.guard(|| {
        let model = pretrained.model(&site)?;
        features_only = !model.has_projector();
        let protocol = Protocol { config: measure, probe: true, seed };
        // A signal ends the program here, which leaves nothing behind.
        evaluate(&model, &dataset, &augment, &protocol, &AtomicBool::new(false))
    })?;
    if !e.spectrum.iter().chain([&e.z_std, &e.rankme]).all(|value| value.is_finite()) {
        return Err(pretrained.overflow());
    }
    if dataset.classes.len() == 1 {
        super::note("the images have one class, of which every guess is right: accuracies say nothing");
    }
    if matches.get_flag("json") {
        return json_line(&pretrained, &e, output);
    }
    text(&pretrained, &e, if features_only { "features" } else { "z" }, output)
}

fn json_line(pretrained: &Pretrained, e: &Evaluation, output: &Output) -> Result<i32> {
    let line = json!({"knn_top1": e.knn_top1, "z_knn_top1": e.z_knn_top1, "linear_top1": e.linear_top1,
        "z_std": e.z_std, "rankme": e.rankme, "singular_values": e.spectrum, "preprocessing": pretrained.preprocessing});
    output.line(&line.to_string())?;
    Ok(0)
}

/// Lines for a person; `z` is what the numbers of the spread are about.
fn text(pretrained: &Pretrained, e: &Evaluation, z: &str, output: &Output) -> Result<i32> {
    output.line(&format!("images               {} ({})", pretrained.preprocessing, pretrained.source))?;
    let of_z = e.z_knn_top1.filter(|_| z == "z");
    let accuracies =
        [("kNN top-1", e.knn_top1), ("kNN top-1 on z", of_z), ("linear probe top-1", e.linear_top1)];
    for (name, top1) in accuracies.into_iter().filter_map(|(name, top1)| Some((name, top1?))) {
        output.line(&format!("{name:<20} {top1:.1} %"))?;
    }
    let name = format!("std({z}/‖{z}‖)·√d");
    output.line(&format!("{name:<20} {:.3}   (held out; 1 isotropic, 0 collapsed)", e.z_std))?;
    let name = format!("effective rank of {z}");
    output.line(&format!("{name:<20} {:.1} of {}", e.rankme, e.spectrum.len()))?;
    let largest = e.spectrum.first().copied().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    let shown: Vec<String> = e.spectrum.iter().take(6).map(|s| format!("{:.3}", s / largest)).collect();
    output.line(&format!("singular values      {} …  (of the largest)", shown.join(" ")))?;
    Ok(0)
}
