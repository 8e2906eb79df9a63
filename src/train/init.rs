//! Weights that a run begins with (`encoder.init`): named by their digest, compared with the
//! recipe, laid over those that were drawn.
//!
//! A backbone is taken whole or the recipe is refused; a head is taken whole or drawn.

use super::weights::Parts;
use super::{Model, Preprocessing, Pretrained};
use crate::error::{Error, Result};
use crate::files;
use crate::network::config::{Backbone, EncoderConfig, ProjectorConfig};
use crate::network::{Network, Tensors, infer_encoder, names};
use crate::recipe::Recipe;
use crate::record::{INIT, WEIGHTS_FILE, digest_file, flatten, read_env};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One part of a model, and whether its weights are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// "backbone", "projector", "predictor", "inverse" or "prototypes".
    pub part: &'static str,
    /// Tensors that it has.
    pub tensors: usize,
    /// Why they are drawn; none where they are taken.
    pub drawn_because: Option<String>,
}

/// Weights to begin with, and what of them a recipe takes.
pub struct Init {
    /// The file.
    pub file: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// The parts of the recipe's model.
    pub shares: Vec<Share>,
    /// Tensors of the file that are of none of them.
    pub left: Vec<String>,
    /// How images were prepared for these weights, and where that is from, as the end of a
    /// sentence.
    pub preprocessing: (Preprocessing, String),
    /// Epochs that they were trained, where they are a run's.
    pub epochs: Option<u64>,
    tensors: Tensors,
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::Usage(format!("encoder.init: {what}"))
}

/// The file of weights that `init`, a run's folder or a file, stands for.
fn file_of(init: &str) -> PathBuf {
    let path = Path::new(init);
    if path.is_dir() { path.join(WEIGHTS_FILE) } else { path.to_path_buf() }
}

/// Writes into `encoder` which file its weights begin as: the SHA-256 of what `encoder.init` names
/// now. Where there is no such file any more, a digest that was given stands.
///
/// # Errors
/// [`Error::Usage`] where there is no such file, or another one than the given digest says, or a
/// key says how weights begin that are drawn.
pub fn settle(encoder: &mut EncoderConfig) -> Result<()> {
    let Some(init) = &encoder.init else {
        let stray = match () {
            () if encoder.init_sha256.is_some() => "init_sha256",
            () if !encoder.init_heads => "init_heads",
            () => return Ok(()),
        };
        return Err(Error::Usage(format!("encoder.{stray}: says nothing without encoder.init")));
    };
    let file = file_of(init);
    let digest = digest_file(&file, files::WEIGHTS).map_err(wrong)?.map(|digested| digested.sha256);
    encoder.init_sha256 = match (digest, encoder.init_sha256.take()) {
        (Some(found), Some(given)) if found != given.to_lowercase() => {
            let file = file.display();
            return Err(Error::Usage(format!(
                "encoder.init_sha256: {given} is asked for, and {file} has {found}"
            )));
        }
        (Some(found), _) => Some(found),
        (None, Some(given)) => Some(given),
        (None, None) => {
            let unfinished = if Path::new(init).is_dir() { ": the run is not finished" } else { "" };
            let what = format!("{} is no file of weights that is there{unfinished}", file.display());
            return Err(wrong(format!("{what}; it takes a run's folder or a weights file")));
        }
    };
    Ok(())
}

impl Init {
    /// What `recipe` begins with; none where its weights are drawn.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that cannot be read, is another one than when the recipe was
    /// settled, or whose backbone is not the recipe's; the key to change is named.
    pub fn open(recipe: &Recipe) -> Result<Option<Init>> {
        let Some(init) = &recipe.encoder.init else { return Ok(None) };
        let mut encoder = recipe.encoder.clone();
        settle(&mut encoder)?;
        let read = Pretrained::open(Path::new(init)).map_err(wrong)?;
        let before = read.path.parent().map(read_env).transpose().ok().flatten().flatten();
        let earlier = || before.as_ref()?.get(INIT)?.get("epochs")?.as_u64();
        let epochs = read.recipe.as_ref().map(|of| of.schedule.epochs + earlier().unwrap_or(0));
        let parts = Parts::of(&read.tensors).map_err(|e| wrong(e.in_file(&read.path)))?;
        let shares = shares(recipe, &parts, &read.path)?;
        let left = left_over(&read.tensors, &parts, &shares);
        Ok(Some(Init {
            sha256: encoder.init_sha256.unwrap_or_default(),
            shares,
            left,
            epochs,
            preprocessing: (read.preprocessing, read.source),
            file: read.path,
            tensors: read.tensors,
        }))
    }

    /// The parts that are taken.
    pub fn taken(&self) -> impl Iterator<Item = &'static str> {
        self.shares.iter().filter(|share| share.drawn_because.is_none()).map(|share| share.part)
    }

    /// Lays what is taken over the weights and running statistics of `model`, which is the
    /// recipe's.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails.
    pub fn load(&self, model: &Model) -> Result<()> {
        let parts = Parts::of(&self.tensors)?;
        for part in model.parts() {
            let network = part.engine.network();
            let drawn = names::to_torch(network, &part.theta.to_vec1()?).into_iter();
            let drawn = drawn.chain(names::running_to_torch(network, &part.engine.running()?));
            let drawn: Tensors = drawn.map(|(name, shape, values)| (name, (shape, values))).collect();
            let find = |name: &str| match self.taken().any(|taken| taken == share_of(part.name, name)) {
                true => parts.find(&format!("{}.{name}", part.name)),
                false => drawn.get(name),
            };
            let theta = names::from_torch(network, &find)?;
            model.set(part.name, theta, &names::running_from_torch(network, &find)?)?;
        }
        Ok(())
    }

    /// What env.json keeps of it.
    pub fn record(&self) -> Value {
        let taken: Vec<&str> = self.taken().collect();
        let mut record =
            json!({"weights": self.file.display().to_string(), "sha256": self.sha256, "taken": taken});
        if let Some(epochs) = self.epochs {
            record["epochs"] = json!(epochs);
        }
        record
    }
}

/// The step that the run of `recipe` begins with, of epochs of `per_epoch` steps and an E-step
/// every `chunk` steps.
///
/// # Errors
/// [`Error::Usage`] for one at which no E-step is due.
pub(super) fn first_step(recipe: &Recipe, per_epoch: u64, chunk: u64) -> Result<u64> {
    let first = per_epoch * recipe.schedule.start_epoch;
    if first.is_multiple_of(chunk) {
        return Ok(first);
    }
    Err(Error::Usage(format!(
        "schedule.start_epoch: it is step {first}, and η is made every {chunk} steps; take an epoch whose first step is one \
         of those"
    )))
}

/// The share that the tensor `name` of `part` belongs to.
fn share_of(part: &'static str, name: &str) -> &'static str {
    match part {
        "encoder" if names::is_projectors(name) => "projector",
        "encoder" => "backbone",
        head => head,
    }
}

/// What of `parts`, those of `file`, the model of `recipe` takes.
fn shares(recipe: &Recipe, parts: &Parts, file: &Path) -> Result<Vec<Share>> {
    let (encoder, heads) = recipe.networks()?;
    let projector = ProjectorConfig::none(encoder.features_dim());
    let size = recipe.augment.size;
    let bare = Network::encoder(&EncoderConfig { projector, ..recipe.encoder.clone() }, (size, size))?;
    same_backbone(recipe, parts, &bare, file)?;
    let count = |network: &Network| network.parameters().len() + network.running().len();
    let drawn = |begins: &str, fit: Result<()>| match fit {
        _ if !recipe.encoder.init_heads => Some("encoder.init_heads = false".to_string()),
        _ if !parts.has(begins) => Some("there is none".into()),
        Err(_) if begins == "encoder.fc." && parts.has("encoder.fc.weight") => {
            Some("fc.weight is a classifier".into())
        }
        fit => fit.err().map(|error| error.to_string()),
    };
    let head = |part, tensors, begins: &str, fit| Share { part, tensors, drawn_because: drawn(begins, fit) };
    let mut shares = vec![
        Share { part: "backbone", tensors: count(&bare), drawn_because: None },
        head("projector", count(&encoder) - count(&bare), "encoder.fc.", parts.fit("encoder", &encoder)),
    ];
    for (part, network) in ["predictor", "inverse"].into_iter().zip(&heads) {
        shares.push(head(part, count(network), &format!("{part}."), parts.fit(part, network)));
    }
    if let Some(prototypes) = recipe.objective.prototypes {
        let network = Network::prototypes(encoder.output_dim(), prototypes.count)?;
        let fit = parts.fit("prototypes", &network);
        shares.push(head("prototypes", count(&network), "prototypes.", fit));
    }
    Ok(shares)
}

/// Refuses a file whose backbone is not that of `recipe`, which is `bare`.
fn same_backbone(recipe: &Recipe, parts: &Parts, bare: &Network, file: &Path) -> Result<()> {
    let Err(error) = parts.fit("encoder", bare) else { return Ok(()) };
    let mut shapes = parts.shapes("encoder");
    shapes.retain(|name, _| !names::is_projectors(name));
    let theirs = infer_encoder(&shapes).map_err(|e| wrong(e.in_file(file)))?.backbone;
    let ours = &recipe.encoder.backbone;
    if theirs == *ours {
        let size = match ours {
            Backbone::Mlp { .. } => "; the first layer of an MLP is as wide as augment.size asks for",
            _ => "",
        };
        return Err(wrong(format!("{}: {error}{size}", file.display())));
    }
    let (theirs, ours) = (keys_of(&theirs), keys_of(ours));
    let set: Vec<String> = theirs.iter().map(|key| format!("--set '{key}'")).collect();
    Err(wrong(format!(
        "{} holds another backbone ({}) than the recipe has ({}); {} takes the file's",
        file.display(),
        theirs.join(", "),
        ours.join(", "),
        set.join(" ")
    )))
}

/// A backbone's keys with their values, as `--set` takes them.
fn keys_of(backbone: &Backbone) -> Vec<String> {
    let table = toml::Table::try_from(BTreeMap::from([("encoder.backbone", backbone)]));
    let keys = table.map(flatten).unwrap_or_default();
    keys.iter().map(|(key, value)| format!("{key}={}", value.trim_matches('"'))).collect()
}

/// The tensors that no share takes, but counts of batches.
fn left_over(tensors: &Tensors, parts: &Parts, shares: &[Share]) -> Vec<String> {
    let taken = |here: &str| {
        let share = match here.split_once('.') {
            Some(("encoder", name)) => share_of("encoder", name),
            Some((part, _)) => part,
            None => here,
        };
        shares.iter().any(|of| of.part == share && of.drawn_because.is_none())
    };
    let taken: Vec<&str> = parts.names().filter(|(here, _)| taken(here)).map(|(_, there)| there).collect();
    let left = tensors.keys().filter(|name| !taken.contains(&name.as_str()));
    left.filter(|name| !name.ends_with(".num_batches_tracked")).cloned().collect()
}
