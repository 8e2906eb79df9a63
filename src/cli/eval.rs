//! `sim eval`: kNN, linear probe and the singular spectrum of a finished run, on its own images or others.

use super::output::Output;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files;
use crate::network::read_weights;
use crate::recipe::Recipe;
use crate::train::{Model, Protocol, evaluate, weights};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// The command.
pub fn command() -> Command {
    Command::new("eval")
        .about("Measure a finished run: kNN, linear probe, std, effective rank, singular values")
        .arg(
            Arg::new("run")
                .value_name("RUN")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A run's folder, such as runs/simsiam/simsiam/seed-0"),
        )
        .arg(Arg::new("data").long("data").value_name("DATA").help("Other images than the run's own"))
        .arg(super::run::device_flag())
        .arg(super::json_flag())
}

/// Runs it.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let Some(run) = matches.get_one::<PathBuf>("run") else { return Ok(2) };
    let config = run.join("config.toml");
    let text = files::text(&config, files::SHORT)
        .map_err(|e| Error::data(&config, format!("cannot be read: {e}; expected a run's folder")))?;
    if files::nested_too_deep(&text).is_some() {
        return Err(Error::data(&config, "tables nested too deeply; expected a run's folder"));
    }
    let mut recipe: Recipe =
        toml::from_str(&text).map_err(|e| Error::data(&config, e.message().to_string()))?;
    if let Some(data) = matches.get_one::<String>("data") {
        recipe.data.source.clone_from(data);
    }
    let path = run.join("weights.safetensors");
    if !path.is_file() {
        return Err(Error::data(run, "has no weights.safetensors; the run is not finished"));
    }
    let place = super::run::place(matches)?;
    let tensors = read_weights(&path)?;
    let dataset = Dataset::open(&recipe.data)?;
    let site = place.open()?;
    let e = site.guard(|| {
        let model = Model::of(&recipe, &site.host_kernel(recipe.encoder.precision)?)?.on(&site)?;
        weights::load(&model, &|name| tensors.get(name).cloned()).map_err(|e| e.in_file(&path))?;
        let protocol = Protocol { config: &recipe.measure, probe: true, seed: recipe.seed };
        // A signal ends the program here, which leaves nothing behind.
        evaluate(&model, &dataset, &recipe.augment, &protocol, &AtomicBool::new(false))
    })?;
    if matches.get_flag("json") {
        let line = json!({"knn_top1": e.knn_top1, "linear_top1": e.linear_top1, "z_std": e.z_std,
            "rankme": e.rankme, "singular_values": e.spectrum});
        output.line(&line.to_string())?;
        return Ok(0);
    }
    output.line(&format!("kNN top-1            {:.1} %", e.knn_top1))?;
    if let Some(linear) = e.linear_top1 {
        output.line(&format!("linear probe top-1   {linear:.1} %"))?;
    }
    output.line(&format!("std(z/‖z‖)·√d        {:.3}   (held out; 1 isotropic, 0 collapsed)", e.z_std))?;
    output.line(&format!("effective rank of z  {:.1} of {}", e.rankme, e.spectrum.len()))?;
    let largest = e.spectrum.first().copied().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    let shown: Vec<String> = e.spectrum.iter().take(8).map(|s| format!("{:.3}", s / largest)).collect();
    output.line(&format!("singular values      {} …  (of the largest)", shown.join(" ")))?;
    Ok(0)
}
