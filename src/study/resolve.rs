//! Layers merged into recipes: base ← data ← scale ← method ← method at scale ← study ← study at
//! scale ← arm ← arm at scale ← flags ← `--set`. Base and method are one where the method is
//! SimSiam.

use super::base::Base;
use super::closed_form;
use super::embedded;
use super::fault;
use super::file::{ArmSpec, Scale, Study, check_name, embedded_source};
use super::layer::{Entry, Node};
use super::seeds::Seeds;
use super::source::Source;
use crate::data::{PROCEDURAL, sources};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train;
use std::sync::Arc;

/// Why no key sets a seed.
pub(super) const SEEDS_SAY: &str =
    "every run has its own seed; --seeds says how many, or which, such as 3..4";

/// The way out where no single key is to blame.
const NO_KEY: &str = "their recipes must differ in a key";

/// The scale when nothing else is said.
pub const DEFAULT_SCALE: &str = "laptop";

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The scale; none: the default one.
    pub scale: Option<String>,
    /// `--data`.
    pub data: Option<String>,
    /// `--skip-bad`.
    pub skip_bad: bool,
    /// `--seeds`.
    pub seeds: Option<Seeds>,
    /// The study's own flags with their values.
    pub flags: Vec<(String, Vec<String>)>,
    /// `--set key=value`.
    pub set: Vec<String>,
    /// What `encoder.precision = "auto"` is; none as long as nothing was measured: f32.
    pub precision: Option<&'static str>,
    /// Keys that have a flag of their own.
    pub short: Vec<Short>,
}

/// A key that was set by a flag of its own, such as `--epochs 3`.
#[derive(Clone, Debug)]
pub struct Short {
    /// The flag and its value, as they were typed.
    pub typed: String,
    /// key=value.
    pub set: String,
}

/// One arm, resolved.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Name of its folder.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Every key with who set it.
    pub tree: Entry,
    /// The tree read as a recipe, whose seed each run replaces by its own.
    pub recipe: Recipe,
    /// The seeds of its runs, in the order in which they are made. Arms of a study may have
    /// different numbers of the same list.
    pub seeds: Vec<u64>,
    /// Whether `encoder.precision` is `auto`; the recipe has what the request says it is.
    pub auto_precision: bool,
}

impl Study {
    /// The arms that `request` trains: the references, and those that the flags ask for or, without
    /// flags, all.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Config`] for a mistake in any layer.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use simsiam_em::study::{Request, Study};
    ///
    /// let request = Request { scale: Some("smoke".into()), ..Request::default() };
    /// let arms = Study::find("membank")?.resolve(&request)?;
    /// assert!(arms.iter().any(|arm| arm.name == "m=0.8" && arm.recipe.eta.keeps_bank()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn resolve(&self, request: &Request) -> Result<Vec<Arm>> {
        let scale = self.scale(request)?;
        let overs = request.overs()?;
        let mut arms: Vec<Arm> = Vec::new();
        for (spec, flag) in self.wanted(request)? {
            if arms.iter().any(|arm| arm.name == spec.name) {
                continue;
            }
            let over = flag.into_iter().chain(overs.iter().cloned()).collect();
            arms.push(self.arm(&spec, scale.as_ref(), request, over)?);
        }
        self.refuse_twins(&arms, request)?;
        Ok(arms)
    }

    /// Refuses two arms that are one run: they would have the same numbers under two names.
    fn refuse_twins(&self, arms: &[Arm], request: &Request) -> Result<()> {
        let twin = |index: usize| arms[..index].iter().find(|arm| arm.recipe == arms[index].recipe);
        let Some((a, b)) = (0..arms.len()).find_map(|index| Some((twin(index)?, &arms[index]))) else {
            return Ok(());
        };
        let all = request.assignments();
        let told_apart_without = |dropped: &dyn Fn(usize) -> bool| {
            let kept = all.iter().enumerate().filter(|(index, _)| !dropped(*index));
            let short = kept.map(|(_, one)| one.clone()).collect();
            let without = Request { set: Vec::new(), short, ..request.clone() };
            let arms = self.resolve(&without).unwrap_or_default();
            let recipe = |name: &String| arms.iter().find(|arm| arm.name == *name).map(|arm| &arm.recipe);
            recipe(&a.name) != recipe(&b.name)
        };
        let one = (0..all.len()).find(|index| told_apart_without(&|other| other == *index));
        let (by, way) = match one {
            Some(index) => {
                let Short { typed, set } = &all[index];
                let key = set.split('=').next().unwrap_or(set).trim();
                let flag = self.head.flag.iter().find(|flag| flag.sets == key);
                let way = match flag {
                    Some(flag) => format!("--{} makes an arm with a value of its own", flag.name),
                    None => format!("leave {key} to the arms, or set it in a study with one arm"),
                };
                (typed.clone(), way)
            }
            None if !all.is_empty() && told_apart_without(&|_| true) => {
                (all.iter().map(|one| one.typed.clone()).collect::<Vec<_>>().join(" "), NO_KEY.into())
            }
            None => (self.name.clone(), NO_KEY.into()),
        };
        let (a, b) = (&a.name, &b.name);
        Err(Error::Usage(format!("{by}: the arms {a} and {b} are the same run under two names; {way}")))
    }

    /// The arm of `spec`, with the layers `overs` above its own differences.
    pub(super) fn vary(&self, spec: &ArmSpec, request: &Request, overs: Vec<Entry>) -> Result<Arm> {
        let scale = self.scale(request)?;
        let over = overs.into_iter().chain(request.overs()?).collect();
        self.arm(spec, scale.as_ref(), request, over)
    }

    /// The scale of `request`; none for a complete recipe without one.
    fn scale(&self, request: &Request) -> Result<Option<Scale>> {
        match (&request.scale, &self.head.base) {
            (None, None) => Ok(None),
            (scale, _) => Scale::find(scale.as_deref().unwrap_or(DEFAULT_SCALE)).map(Some),
        }
    }

    /// The seeds of every arm: those that `request` asks for, else the study's own at its scale,
    /// else those of `scale`; a complete recipe at no scale begins with the seed that stands in it.
    fn seeds(&self, request: &Request, scale: Option<&Scale>, recipe: &Recipe) -> Vec<u64> {
        let name = request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        let own = self.scales.get(name).and_then(|scale| scale.seeds);
        let lowest = scale.map_or(Seeds::only(recipe.seed), |scale| scale.seeds.unwrap_or(Seeds::ONE));
        let below = own.map_or(lowest, |own| own.over(lowest));
        request.seeds.map_or(below, |asked| asked.over(below)).list()
    }

    /// The arms with, for those made by a flag, the layer that the flag is.
    fn wanted(&self, request: &Request) -> Result<Vec<(ArmSpec, Option<Entry>)>> {
        let asked = request.flags.iter().any(|(_, values)| !values.is_empty());
        let scale = request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        let here = |arm: &&ArmSpec| {
            let at_scale = arm.at.as_ref().is_none_or(|at| at.has(scale));
            at_scale && (arm.reference || !asked)
        };
        let mut wanted: Vec<_> = self.arms.iter().filter(here).map(|arm| (arm.clone(), None)).collect();
        for (name, values) in &request.flags {
            let Some(flag) = self.head.flag.iter().find(|flag| flag.name == *name) else {
                return Err(Error::Usage(format!("{} has no flag --{name}", self.name)));
            };
            let Some(like) = self.arms.iter().find(|arm| arm.name == flag.like) else { continue };
            for value in values {
                let typed = format!("--{name} {value}");
                let over = assignment(&typed, &flag.sets, value)?;
                let name = format!("{name}={}", shown(&over, value));
                if let Some(existing) = self.arms.iter().find(|arm| arm.name == name) {
                    wanted.push((existing.clone(), None));
                    continue;
                }
                check_name(&name).map_err(|what| Error::Usage(format!("{typed}: {what}")))?;
                let spec = ArmSpec { name, title: None, reference: false, at: None, ..like.clone() };
                wanted.push((spec, Some(over)));
            }
        }
        Ok(wanted)
    }

    fn arm(&self, spec: &ArmSpec, scale: Option<&Scale>, request: &Request, over: Vec<Entry>) -> Result<Arm> {
        let scale_name = request.scale.as_deref().unwrap_or(DEFAULT_SCALE);
        let base = spec.base.as_ref().or(self.head.base.as_ref());
        let base = base.map(|base| Base::layers(base, scale_name)).transpose()?;
        // A study without a base is a complete recipe, and stands in the base's place.
        let complete = base.is_none();
        let (mut tree, method, study) = match base {
            Some((base, method)) => (base, method, Some(self.overlay.clone())),
            None => (self.overlay.clone(), Vec::new(), None),
        };
        let upper: Vec<Entry> = scale
            .map(|scale| scale.overlay.clone())
            .into_iter()
            .chain(method)
            .chain(study)
            .chain(self.scales.get(scale_name).map(|scale| scale.overlay.clone()))
            .chain([spec.overlay.clone()])
            .chain(spec.scales.get(scale_name).map(|scale| scale.overlay.clone()))
            .chain(over.iter().cloned())
            .collect();
        // A complete recipe names its own sizes; only other data bring others.
        if !complete || request.data.is_some() {
            data_layer(&tree, &upper)?.into_iter().for_each(|layer| tree.merge(layer));
        }
        upper.into_iter().for_each(|layer| tree.merge(layer));
        if let Some(first) = self.arms.iter().find(|arm| Some(&arm.name) == spec.from.as_ref()) {
            tree.put("pretraining", self.arm(first, scale, request, over)?.tree);
        }
        let auto_precision = has_auto_precision(&tree);
        if auto_precision {
            let precision = quoted(request.precision.unwrap_or("f32"));
            tree.merge(parse_flag("encoder.precision = auto", &format!("encoder.precision = {precision}"))?);
        }
        let mut recipe: Recipe = fault::deserialize(&tree, &Study::keys())?;
        train::settle_init(&mut recipe.encoder)?;
        let modelled = |world| closed_form::course(&recipe, world).map(drop);
        let checked = recipe.check().and_then(|()| recipe.closed_form.as_ref().map_or(Ok(()), modelled));
        checked.map_err(|error| match error {
            Error::Usage(message) => fault::out_of_range(&tree, &message),
            other => other,
        })?;
        Ok(Arm {
            name: spec.name.clone(),
            title: spec.title.clone().unwrap_or_else(|| spec.name.clone()),
            tree,
            seeds: self.seeds(request, scale, &recipe),
            recipe,
            auto_precision,
        })
    }
}

impl Request {
    /// What `--set` and the flags of keys set, in this order.
    fn assignments(&self) -> Vec<Short> {
        let set = self.set.iter().map(|set| Short { typed: format!("--set {set}"), set: set.clone() });
        set.chain(self.short.iter().cloned()).collect()
    }

    /// The layers of `--data`, `--skip-bad`, `--set` and the flags of keys.
    fn overs(&self) -> Result<Vec<Entry>> {
        let mut overs = Vec::new();
        if let Some(data) = &self.data {
            // folder:DIR/ is folder:DIR, also to a run begun with the other.
            let data = match data.trim_end_matches('/') {
                place if place.is_empty() || place.ends_with(':') => data,
                place => place,
            };
            overs.push(parse_flag(&format!("--data {data}"), &format!("data.source = {}", quoted(data)))?);
        }
        if self.skip_bad {
            overs.push(parse_flag("--skip-bad", "data.skip_bad = true")?);
        }
        let mut known: Vec<(String, String)> = Vec::new();
        for Short { typed, set } in self.assignments() {
            let Some((key, value)) = set.split_once('=') else {
                return Err(Error::Usage(format!("{typed}: expected key=value, such as optim.base_lr=0.1")));
            };
            let (key, value) = (key.trim(), value.trim());
            if key == "seed" {
                return Err(Error::Usage(format!("{typed}: {SEEDS_SAY}")));
            }
            let over = assignment(&typed, key, value)?;
            if !typed.starts_with("--set ")
                && let Some((other, _)) = known.iter().find(|(_, known)| known == key)
            {
                return Err(Error::Usage(format!("{typed}: {other} sets {key} too; give one of them")));
            }
            known.extend(over.leaves().into_iter().map(|(key, _)| (typed.clone(), key)));
            overs.push(over);
        }
        Ok(overs)
    }
}

/// Whether the layers leave the encoder's precision to a measurement.
fn has_auto_precision(tree: &Entry) -> bool {
    let set = tree.get("encoder").and_then(|encoder| encoder.get("precision"));
    matches!(set.map(|entry| &entry.node), Some(Node::Scalar(toml::Value::String(word))) if word == "auto")
}

/// `key = value` as a layer; a value that is not TOML is taken as a string.
pub(super) fn assignment(typed: &str, key: &str, value: &str) -> Result<Entry> {
    let as_it_is = parse_flag(typed, &format!("{key} = {value}"));
    match as_it_is {
        Ok(tree) if !value.contains('\n') => Ok(tree),
        _ => parse_flag(typed, &format!("{key} = {}", quoted(value))),
    }
}

fn parse_flag(typed: &str, text: &str) -> Result<Entry> {
    Entry::parse(&Arc::new(Source { name: typed.to_string(), text: text.to_string(), flag: true }))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// The one value that the assignment `tree` sets, as it stands in an arm's name; it was `typed`.
pub(super) fn shown(tree: &Entry, typed: &str) -> String {
    match tree.leaves().first().map(|(_, entry)| &entry.node) {
        Some(Node::Scalar(value)) => plain(value),
        _ => typed.to_string(),
    }
}

/// A value as it stands in an arm's name.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(float) => format!("{float}"),
        other => other.to_string(),
    }
}

/// What fits the kind of data that the layers end up with.
fn data_layer(bottom: &Entry, upper: &[Entry]) -> Result<Option<Entry>> {
    let mut layers = upper.iter().rev().chain([bottom]);
    let source = layers.find_map(|layer| layer.get("data")?.get("source"));
    let Some(Entry { origin, node: Node::Scalar(toml::Value::String(source)) }) = source else {
        return Ok(None);
    };
    let kinds = || embedded::names("data");
    let (kind, path) = source.split_once(':').unwrap_or((source, ""));
    let Some(file) = embedded::find("data", kind) else {
        let message = format!("unknown kind of data `{kind}`");
        let help = match super::nearest::nearest(kind, kinds()) {
            Some(kind) => format!("did you mean `{kind}`?"),
            None => sources(),
        };
        return Err(origin.at_value(message, Some(help)));
    };
    if path.is_empty() && !PROCEDURAL.contains(&kind) {
        return Err(Error::Usage(format!(
            "{kind} data needs a place: --data {kind}:{} (set by {})",
            if ["folder", "tar"].contains(&kind) { "DIR" } else { "PATH" },
            origin.source.name
        )));
    }
    Ok(Some(Entry::parse(&embedded_source(file))?))
}
