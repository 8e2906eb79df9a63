//! `sim export`: a trained backbone as other programs read it.

use super::flags::{device_flag, json_flag, option, path, path_option, place};
use super::output::Output;
use super::pretrained::{opened, preprocessing_flags};
use crate::error::{Error, Result};
use crate::export::{Exported, detectron2, folder, onnx, torchvision};
use crate::record::{make_folder, write_durable, write_where_told};
use clap::{ArgMatches, Command};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What a backbone is exported to.
const FORMATS: [&str; 4] = ["torchvision", "onnx", "hf", "detectron2"];

/// `sim export` and its flags.
pub fn command() -> Command {
    Command::new("export")
        .about("Write a trained backbone for torchvision, ONNX runtimes, the Hugging Face hub or detectron2")
        .arg(path("run", "RUN|FILE", "A run's folder, or a weights file as for sim embed"))
        .arg(
            option("to", "FORMAT", "torchvision: safetensors with its names; onnx: a graph (opset 17); hf: a folder with a model card; detectron2: a pickle with its names, as MoCo's converter makes")
                .value_parser(FORMATS)
                .required(true),
        )
        .arg(path_option("out", "FILE|DIR", "Where it goes: a file, or for hf a folder").required(true))
        .arg(
            option("licence", "NAME", "What the model card says of the weights' licence, such as mit or cc-by-4.0")
                .alias("license")
                .default_value("unknown"),
        )
        .args(preprocessing_flags())
        .args([device_flag(), json_flag()])
}

/// Runs `sim export` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(run), Some(out)) = (matches.get_one::<PathBuf>("run"), matches.get_one::<PathBuf>("out"))
    else {
        return Ok(2);
    };
    let word = |name: &str| matches.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let (to, licence) = (word("to"), word("licence"));
    if to != "hf" && out.is_dir() {
        return Err(Error::Usage(format!("--out {}: is a folder; --to {to} writes a file", out.display())));
    }
    if to == "hf" && out.exists() && !out.is_dir() {
        return Err(Error::Usage(format!("--out {}: is a file; --to hf writes a folder", out.display())));
    }
    let pretrained = opened(run, matches)?;
    let site = place(matches)?.open()?;
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    site.guard(|| {
        let model = pretrained.model(&site)?;
        let exported = Exported::new(&pretrained, &model)?;
        match to {
            "torchvision" => files.push((out.clone(), torchvision(&exported)?)),
            "onnx" => files.push((out.clone(), onnx(&exported)?)),
            "detectron2" => files.push((out.clone(), detectron2(&exported)?)),
            _ => {
                let written = folder(&exported, licence)?.into_iter();
                files.extend(written.map(|(name, bytes)| (out.join(name), bytes)));
            }
        }
        Ok(())
    })?;
    if to == "hf" {
        make_folder(out)?;
        files.iter().try_for_each(|(path, bytes)| write_durable(path, bytes))?;
    } else {
        files.iter().try_for_each(|(path, bytes)| write_where_told(path, bytes))?;
    }
    let paths: Vec<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
    let images = format!("images: {} ({})", pretrained.preprocessing, pretrained.source);
    if matches.get_flag("json") {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let line = json!({"to": to, "paths": paths, "preprocessing": pretrained.preprocessing,
            "preprocessing_source": pretrained.source});
        output.tell_of(out, &line.to_string())?;
        return Ok(0);
    }
    paths.iter().try_for_each(|path| output.tell_of(out, &path.display().to_string()))?;
    output.tell_of(out, &images)?;
    if to == "hf" && licence == "unknown" {
        super::note("the model card says that the licence is unknown; --licence NAME says which it is");
    }
    Ok(0)
}
