//! A replay case: batches, initial weights and settings that another framework trained with, in one
//! file.
//!
//! It is safetensors: `encoder.*` and `predictor.*` initial weights under torchvision's names,
//! `views.1` and `views.2` (steps, n, 3, S, S), and metadata. The rule follows from the metadata:
//! `k` makes it a multi-step alternation, `m` with a tensor `ids` (steps, n) a memory bank, `tau` a
//! momentum encoder (whose τ rises to 1 unless `tau_rises` is false; a tensor `queue` (Q, d) is its
//! negatives), otherwise it is SimSiam with the metadata's `loss`, `temperature`, `symmetric`,
//! `predictor` and `stopgrad`. The learning rate is `base_lr` with `decay`, after `warmup_epochs`,
//! within `epochs`; or the constant `lr`.

use super::{Model, weights};
use crate::error::{Error, Result};
use crate::eta::{Rule, Steps, Views};
use crate::kernel::{Kernel, Precision};
use crate::network::{ShapedNumbers, Tensors, pass_floats, read_with_metadata};
use crate::objective::{ObjectiveConfig, Similarity};
use crate::optim::{Decay, OptimConfig, PredictorLr};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A case as read from its file.
pub struct Case {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: Tensors,
    /// The images of each batch, numbered without gaps, and how many there are.
    images: (Vec<u32>, usize),
}

/// Larger whole numbers of the metadata are refused: nothing that is replayed takes so many steps.
const MOST: u64 = 1 << 31;
/// From here on an f32, as which tensors are read, does not count every number.
const EXACT: f32 = (1u32 << 24) as f32;
/// A training pass that holds more is refused.
const MOST_PASS_BYTES: usize = 8 << 30;

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is not safetensors, lacks what a case needs, or holds what is
    /// no number.
    pub fn read(path: &Path) -> Result<Self> {
        let (tensors, metadata) = read_with_metadata(path)?;
        let mut case = Self { path: path.to_path_buf(), metadata, tensors, images: (Vec::new(), 0) };
        let (one, two) = (case.tensor("views.1")?, case.tensor("views.2")?);
        if one.0.len() != 5 || one.0 != two.0 || one.0[2] != 3 || one.0[3] != one.0[4] || one.0.contains(&0) {
            return Err(case.wrong("views.1 and views.2 must both be (steps, n, 3, S, S)"));
        }
        for (name, (_, values)) in &case.tensors {
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(case.wrong(format!("tensor '{name}' holds {value}; a case holds finite numbers")));
            }
        }
        case.images = case.numbered()?;
        Ok(case)
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> Error {
        Error::data(&self.path, what)
    }

    /// A tensor of the case: shape and values.
    ///
    /// # Errors
    /// [`Error::Data`] where the case has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<&ShapedNumbers> {
        self.tensors
            .get(name)
            .ok_or_else(|| self.wrong(format!("has no tensor '{name}'; it is not a replay case")))
    }

    /// Steps that it has batches for, images of a batch, and their side in pixels.
    pub fn shape(&self) -> (usize, usize, usize) {
        match self.tensors.get("views.1").map(|(shape, _)| &shape[..]) {
            Some(&[steps, n, _, side, _]) => (steps, n, side),
            _ => (0, 0, 0),
        }
    }

    /// Images that its batches show.
    pub(super) fn images(&self) -> usize {
        self.images.1
    }

    /// The images of the batches, (steps · n), renumbered from 0 in the order of their ids, and how
    /// many there are.
    fn numbered(&self) -> Result<(Vec<u32>, usize)> {
        let (steps, n, _) = self.shape();
        let Some((shape, ids)) = self.tensors.get("ids") else {
            return Ok(((0..steps).flat_map(|_| 0..n as u32).collect(), n));
        };
        if *shape != [steps, n] {
            return Err(self.wrong(format!("ids has shape {shape:?} where the views need {:?}", [steps, n])));
        }
        if let Some(id) = ids.iter().find(|id| !(**id >= 0.0 && **id < EXACT && id.fract() == 0.0)) {
            return Err(
                self.wrong(format!("ids holds {id}; an id is a whole number from 0 to {}", EXACT - 1.0))
            );
        }
        let mut numbers: BTreeMap<u32, u32> = ids.iter().map(|id| (*id as u32, 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, next)| *number = next);
        Ok((ids.iter().map(|id| numbers[&(*id as u32)]).collect(), numbers.len()))
    }

    /// A finite number of the metadata, or `default` where it is absent.
    fn number(&self, key: &str, default: f64) -> Result<f64> {
        let Some(text) = self.metadata.get(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.wrong(format!("metadata {key} = '{text}' is not a finite number")))
    }

    /// A whole number of the metadata, at least `least`, or `default` where it is absent.
    pub(super) fn whole(&self, key: &str, least: u64, default: u64) -> Result<u64> {
        let Some(text) = self.metadata.get(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (least..=MOST).contains(number));
        number.ok_or_else(|| {
            self.wrong(format!("metadata {key} = '{text}' is not a whole number from {least} to {MOST}"))
        })
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.metadata.get(key).map(|text| text.to_ascii_lowercase()) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| self.wrong(format!("metadata {key} = '{text}' is not true or false"))),
        }
    }

    pub(super) fn rule(&self) -> Result<Rule> {
        let given: Vec<&str> =
            ["k", "m", "tau"].into_iter().filter(|key| self.metadata.contains_key(*key)).collect();
        let rule = match given[..] {
            ["k"] => Rule::KStep { k: Steps::Count(self.whole("k", 1, 1)?) },
            ["m"] if !self.tensors.contains_key("ids") => {
                return Err(
                    self.wrong("metadata m makes it a memory bank, which needs a tensor 'ids' (steps, n)")
                );
            }
            ["m"] => {
                Rule::MemoryBank { m: self.number("m", 0.0)?, precision: Precision::F32, k: Steps::Count(1) }
            }
            ["tau"] => Rule::MomentumEncoder {
                tau: self.number("tau", 0.0)?,
                rises: self.flag("tau_rises", true)?,
                queue: self.queue()?.map_or(0, |(shape, _)| shape[0]),
            },
            [] if self.flag("stopgrad", true)? => Rule::OneStep {},
            [] => Rule::None {},
            _ => {
                return Err(
                    self.wrong(format!("metadata has {}, of which a case has one", given.join(" and ")))
                );
            }
        };
        rule.check().map_err(|e| self.wrong(e.to_string()))?;
        Ok(rule)
    }

    /// The negatives that a momentum encoder begins with, (Q, d), Q above 0.
    pub(super) fn queue(&self) -> Result<Option<&ShapedNumbers>> {
        match self.tensors.get("queue") {
            Some((shape, _)) if shape.len() != 2 || shape.contains(&0) => {
                Err(self.wrong(format!("queue has shape {shape:?}; expected (Q, d)")))
            }
            queue => Ok(queue),
        }
    }

    pub(super) fn objective(&self, rule: &Rule) -> Result<ObjectiveConfig> {
        let similarity = match self.metadata.get("loss").map(String::as_str) {
            None | Some("cosine") => Similarity::Cosine,
            Some("ce" | "cross-entropy") => Similarity::CrossEntropy,
            Some("mse") => Similarity::Mse,
            Some("info-nce") => Similarity::InfoNce,
            Some(other) => {
                return Err(
                    self.wrong(format!("metadata loss = '{other}' is not cosine, ce, mse or info-nce"))
                );
            }
        };
        if rule.negatives() > 0 && similarity != Similarity::InfoNce {
            return Err(
                self.wrong("has a queue of negatives, which only metadata loss = 'info-nce' compares with")
            );
        }
        let symmetric = self.flag("symmetric", !matches!(rule, Rule::MemoryBank { .. }))?;
        let temperature = self.number("temperature", 1.0)?;
        let objective = ObjectiveConfig { similarity, symmetric, temperature, ..ObjectiveConfig::default() };
        objective.check().map_err(|e| self.wrong(e.to_string()))?;
        Ok(objective)
    }

    pub(super) fn optim(&self) -> Result<OptimConfig> {
        let constant = self.metadata.contains_key("lr");
        let decay = match (self.metadata.get("decay").map(String::as_str), constant) {
            (Some("constant"), _) | (None, true) => Decay::Constant,
            (Some("cosine-epoch"), false) | (None, false) => Decay::CosineEpoch,
            (Some("cosine-step"), false) => Decay::CosineStep,
            (Some(other), false) => {
                let known = "constant, cosine-epoch or cosine-step";
                return Err(self.wrong(format!("metadata decay = '{other}' is not {known}")));
            }
            (Some(other), true) => {
                return Err(
                    self.wrong(format!("metadata lr is a constant rate; decay = '{other}' needs base_lr"))
                );
            }
        };
        let config = OptimConfig {
            base_lr: if constant { self.number("lr", 0.0)? } else { self.number("base_lr", 0.05)? },
            momentum: self.number("momentum", 0.9)?,
            weight_decay: self.number("weight_decay", 1e-4)?,
            decay,
            warmup_epochs: self.whole("warmup_epochs", 0, 0)?,
            predictor_lr: if self.flag("fix_pred_lr", false)? {
                PredictorLr::Constant
            } else {
                PredictorLr::Decayed
            },
            ..OptimConfig::default()
        };
        config.check().map_err(|e| self.wrong(e.to_string()))?;
        Ok(config)
    }

    /// A model of the architecture that the tensors' names and shapes describe, with their values.
    pub(super) fn model(&self, kernel: &Arc<dyn Kernel>) -> Result<Model> {
        let (_, n, side) = self.shape();
        let model = weights::model_of(&self.tensors, side, kernel).map_err(|e| e.in_file(&self.path))?;
        let pass = model.parts().map(|part| pass_floats(part.engine.network(), kernel, 2, n));
        let bytes = pass.sum::<usize>().saturating_mul(size_of::<f32>());
        if bytes > MOST_PASS_BYTES {
            let what = format!("a step on {n} images would take {} GiB in this network", bytes >> 30);
            return Err(self.wrong(what));
        }
        Ok(model)
    }

    /// Both views of a step, (2, n, H, W, 3), and the images they show.
    pub(super) fn views(&self, step: u64) -> Result<Views> {
        let (_, n, size) = self.shape();
        let part = |len: usize| step as usize * len..(step as usize + 1) * len;
        let view = |name: &str| self.tensors.get(name)?.1.get(part(n * 3 * size * size));
        let (Some(one), Some(two)) = (view("views.1"), view("views.2")) else {
            return Err(self.wrong(format!("has no views for step {step}")));
        };
        let x = Tensor::from_vec([one, two].concat(), (2, n, 3, size, size), &Device::Cpu)?;
        let x = x.permute((0, 1, 3, 4, 2))?.contiguous()?;
        let indices = self.images.0.get(part(n)).unwrap_or_default().to_vec();
        Ok(Views { step, indices, labels: Vec::new(), x, small: None })
    }
}
