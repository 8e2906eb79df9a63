//! The model card: what the weights are, how they are used, what they were made from, and what was
//! measured and judged.
//!
//! A card is published, and places on the machine that trained are nobody's business: of a path
//! its last name is kept.

use super::Exported;
use super::torchvision::{architecture, constructor, transforms};
use crate::error::{Error, Result};
use crate::eta::Rule;
use crate::measure::metrics::{self, Metric};
use crate::recipe::Recipe;
use crate::record::{
    Answer, AnswerClaim, Environment, INIT, METRICS_FILE, flatten, images, or_absent, read_env, read_metrics,
};
use std::path::Path;

/// Keys of a recipe that name places.
const PLACES: [&str; 2] = ["data.source", "encoder.init"];
/// Data sets that the hub has, by the kind of source.
const HUB: [(&str, &str); 2] = [("cifar10", "uoft-cs/cifar10"), ("cifar100", "uoft-cs/cifar100")];
/// Letters of a licence's name at most: one line, and no room for other keys.
const LICENCE: std::ops::RangeInclusive<usize> = 1..=60;

/// The text of README.md; `in_transformers` says whether transformers reads the folder.
///
/// # Errors
/// [`Error::Usage`] for a licence that is no name, [`Error::Data`] for a damaged record of the run
/// or its study.
pub fn card(exported: &Exported, licence: &str, in_transformers: bool) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.+_".contains(c);
    if !LICENCE.contains(&licence.len()) || !licence.chars().all(plain) {
        return Err(Error::Usage(format!(
            "--licence {licence:?}: a name as the hub has them is needed, such as mit, apache-2.0, cc-by-nc-4.0 or other"
        )));
    }
    let path = &exported.pretrained.path;
    // From inside the folder of an arm too a study's answer is found.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let run = path.parent().unwrap_or(Path::new(""));
    let recipe = exported.pretrained.recipe.as_ref();
    let environment = recipe.map(|_| read_env(run)).transpose()?.flatten();
    let mut sections = vec![
        front_matter(licence, recipe, in_transformers),
        title(exported, recipe),
        use_of_it(exported, in_transformers),
    ];
    if let Some(recipe) = recipe {
        sections.push(data(recipe, environment.as_ref()));
        sections.push(training(recipe, environment.as_ref())?);
        sections.extend(measured(run)?);
        sections.extend(claims(run)?);
    }
    Ok(sections.join("\n"))
}

fn front_matter(licence: &str, recipe: Option<&Recipe>, in_transformers: bool) -> String {
    let library = if in_transformers { "transformers" } else { "pytorch" };
    let kind = recipe.and_then(|recipe| recipe.data.source.split(':').next());
    let known = HUB.iter().find(|(name, _)| kind == Some(*name));
    let datasets = known.map_or(String::new(), |(_, name)| format!("datasets:\n- {name}\n"));
    format!(
        "---\nlicense: {licence}\nlibrary_name: {library}\npipeline_tag: image-feature-extraction\n{datasets}tags:\n\
         - self-supervised-learning\n- simsiam\n- image-feature-extraction\n---\n"
    )
}

fn title(exported: &Exported, recipe: Option<&Recipe>) -> String {
    let features = exported.model.features_dim();
    let network = architecture(&exported.backbone);
    let how = match recipe {
        Some(recipe) => format!(
            "It was trained {} by `sim`, a laboratory for SimSiam (Chen & He 2020, arXiv 2011.10566): E-step `{}`, {} epochs, \
             seed {}.",
            if recipe.eta == (Rule::Labels {}) { "on labels" } else { "without labels" },
            recipe.eta.name(),
            recipe.schedule.own_epochs(),
            recipe.seed
        ),
        None => "How it was trained is not known here.".into(),
    };
    format!(
        "# Image features: {network}\n\nThe backbone of an encoder: an image becomes {features} numbers. Projector and \
         predictor are left out. {how}\n"
    )
}

fn use_of_it(exported: &Exported, in_transformers: bool) -> String {
    let prepare = transforms(exported.preprocessing());
    let code = match (in_transformers, constructor(&exported.backbone)) {
        (true, _) => "from PIL import Image\nfrom transformers import AutoImageProcessor, AutoModel\n\n\
             processor, model = AutoImageProcessor.from_pretrained(FOLDER), AutoModel.from_pretrained(FOLDER).eval()\n\
             inputs = processor(Image.open(FILE), return_tensors=\"pt\")\n\
             features = model(**inputs).pooler_output.flatten(1)"
            .to_string(),
        (false, Some((name, cifar))) => {
            let stem = "model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)\nmodel.maxpool = torch.nn.Identity()\n";
            format!(
                "import torch, torchvision\nfrom safetensors.torch import load_file\n\n\
                 model = torchvision.models.{name}()\n{}model.fc = torch.nn.Identity()\n\
                 model.load_state_dict(load_file(FOLDER + \"/model.safetensors\"))\nmodel.eval()",
                if cifar { stem } else { "" }
            )
        }
        (false, None) => {
            return format!(
                "## Use\n\n`model.safetensors` has torchvision's names; neither torchvision nor transformers has this network. \
                 `sim export --to onnx` writes it as a graph that ONNX runtimes read. Images: `{prepare}`.\n"
            );
        }
    };
    format!("## Use\n\n```python\n{code}\n```\n\nImages are prepared by `{prepare}`.\n")
}

/// A place without the folders that it lies in.
fn without_folders(place: &str) -> String {
    let (kind, path) = place.split_once(':').map_or(("", place), |(kind, path)| (kind, path));
    let last = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
    if kind.is_empty() { last.into_owned() } else { format!("{kind}:{last}") }
}

fn data(recipe: &Recipe, environment: Option<&Environment>) -> String {
    let count = |key: &str| environment?.get(key)?.as_u64();
    let mut text = format!("## Data\n\n`{}`", without_folders(&recipe.data.source));
    if let (Some(train), Some(test)) = (count("train_images"), count("test_images")) {
        text += &format!(": {train} training and {test} held-out images");
    }
    if let Some(classes) = count("classes") {
        text += &match classes {
            0 => ", without labels".to_string(),
            classes => format!(" of {classes} classes"),
        };
    }
    if let Some(digest) = environment.and_then(images) {
        text += &format!("; SHA-256 of all of them {digest}");
    }
    text + ".\n"
}

fn training(recipe: &Recipe, environment: Option<&Environment>) -> Result<String> {
    let mut text = String::from("## Training\n\n");
    if let Some(init) = environment.and_then(|environment| environment.get(INIT)) {
        let word = |key: &str| init.get(key).and_then(|value| value.as_str()).unwrap_or_default();
        let trained = init.get("epochs").and_then(|epochs| epochs.as_u64());
        let trained = trained.map_or(String::new(), |epochs| format!(", trained for {epochs} epochs before"));
        text += &format!(
            "The run began with the weights of `{}` (SHA-256 {}{trained}).\n\n",
            without_folders(word("weights")),
            word("sha256")
        );
    }
    // By way of the text, whose numbers of 32 bits have no more digits than they need.
    let wrong = |e: String| Error::Failure(format!("the recipe as TOML: {e}"));
    let written = toml::to_string(recipe).map_err(|e| wrong(e.to_string()))?;
    let table: toml::Table = written.parse().map_err(|e: toml::de::Error| wrong(e.message().into()))?;
    text += "| key | value |\n|---|---|\n";
    for (key, value) in flatten(table) {
        let value = match PLACES.contains(&key.as_str()) {
            true => without_folders(value.trim_matches('"')),
            false => value,
        };
        text += &format!("| `{key}` | `{}` |\n", cell(&value));
    }
    if let Some(environment) = environment {
        let word =
            |key: &str| environment.get(key).map(|value| value.to_string().trim_matches('"').to_string());
        let [sim, kernel] = ["sim", "kernel"].map(word);
        text += &format!("\nsim {}, kernel {}.\n", or_absent(&sim), or_absent(&kernel));
    }
    Ok(text)
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The last numbers of the run, where it has any.
fn measured(run: &Path) -> Result<Option<String>> {
    let path = run.join(METRICS_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let table = read_metrics(&path)?;
    let row = |metric: &Metric| {
        let value = table.last(metric.name).filter(|_| metric.is_judged())?;
        Some(format!("| {} | `{}` | {value:.*} |\n", cell(metric.title), metric.name, metric.decimals))
    };
    let rows: String = metrics::all().filter_map(row).collect();
    let said = "Of held-out images at the end of the run; kNN and the linear probe read labels, training does not unless its \
                method is supervised.";
    Ok(Some(format!("## Measured\n\n{said}\n\n| what | column | value |\n|---|---|---|\n{rows}")))
}

/// What the run's study claims, and how it was judged, where the study has an answer.
fn claims(run: &Path) -> Result<Option<String>> {
    let Some(answer) = run.ancestors().nth(2).map(Answer::read).transpose()?.flatten() else {
        return Ok(None);
    };
    let arm = run.parent().and_then(Path::file_name);
    if !answer.arms.iter().any(|of| arm.is_some_and(|name| *name == *of.arm)) {
        return Ok(None);
    }
    let row = |claim: &AnswerClaim| {
        format!("| {} | {} | {} |\n", claim.verdict, cell(&claim.claim), cell(&claim.detail()))
    };
    let rows: String = answer.claims.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!(
        "## Claims and verdicts\n\nOf the study `{}`, at the scale `{}`, over all of its runs: {}\n\n\
         | verdict | claim | what was found |\n|---|---|---|\n{rows}",
        cell(&answer.study),
        cell(&answer.scale),
        answer.question
    )))
}
