//! Training on given batches from given weights, to be compared with another framework step by step.
//!
//! A case is a safetensors file: `encoder.*` and `predictor.*` initial weights under torchvision's
//! names, `views.1` and `views.2` (steps, n, 3, H, W), and metadata. `k` in the metadata makes it a
//! multi-step alternation, `m` with a tensor `ids` a memory bank, otherwise it is SimSiam with the
//! metadata's loss, symmetry, predictor and stop-gradient. The learning rate is `base_lr`, cosine
//! within `epochs`, or the constant `lr`.

use super::state::beside;
use super::{Alternation, Model, Rates, weights};
use crate::error::{Error, Result};
use crate::eta::{BankPlace, Rule, Size, Steps, Views};
use crate::kernel::{Kernel, Precision};
use crate::measure::collapse;
use crate::network;
use crate::objective::{ObjectiveConfig, Similarity};
use crate::optim::{Decay, OptimConfig, PredictorLr};
use candle_core::{Device, Tensor};
use ndarray::ArrayView2;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A case as read from its file.
pub struct Case {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// One line of a trajectory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trajectory {
    /// Counted from 0.
    pub step: u64,
    /// Before the step.
    pub loss: f64,
    /// The encoder's learning rate.
    pub lr: f64,
    /// std of z/‖z‖ of the first view: the mean over dimensions of the unbiased std, not times √d.
    pub z_std: f64,
}

/// What a replay leaves behind.
pub struct Replayed {
    /// One line per step.
    pub trajectory: Vec<Trajectory>,
    /// θ, η and running statistics at the end.
    pub alternation: Alternation,
    /// The flat gradient of each part at step 0.
    pub first_gradients: Vec<(&'static str, Vec<f32>)>,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// [`Error::Data`] when the file is not safetensors, or lacks what a case needs.
    pub fn read(path: &Path) -> Result<Self> {
        let (tensors, metadata) = network::read_with_metadata(path)?;
        let case = Self { path: path.to_path_buf(), metadata, tensors };
        let (one, two) = (case.tensor("views.1")?, case.tensor("views.2")?);
        if one.0.len() != 5 || one.0 != two.0 || one.0[2] != 3 || one.0[3] != one.0[4] || one.0.contains(&0) {
            return Err(case.wrong("views.1 and views.2 must both be (steps, n, 3, S, S)"));
        }
        Ok(case)
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::data(&self.path, what)
    }

    /// A tensor of the case: shape and values.
    pub fn tensor(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>)> {
        self.tensors
            .get(name)
            .ok_or_else(|| self.wrong(format!("has no tensor '{name}'; it is not a replay case")))
    }

    /// A number of the metadata, or `default` where it is absent.
    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.metadata.get(key) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| self.wrong(format!("metadata {key} = '{text}' is not a number")))
            }
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.metadata.get(key).map(|text| text.to_ascii_lowercase()) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| self.wrong(format!("metadata {key} = '{text}' is not true or false"))),
        }
    }

    fn rule(&self) -> Result<Rule> {
        let rule = if self.metadata.contains_key("k") {
            Rule::KStep { k: Steps::Count(self.number("k", 1.0)? as u64) }
        } else if self.metadata.contains_key("m") {
            Rule::MemoryBank { m: self.number("m", 0.0)?, precision: Precision::F32, k: Steps::Count(1) }
        } else if self.flag("stopgrad", true)? {
            Rule::OneStep {}
        } else {
            Rule::None {}
        };
        rule.check().map_err(|e| self.wrong(e.to_string()))?;
        Ok(rule)
    }

    fn objective(&self, rule: &Rule) -> Result<ObjectiveConfig> {
        let similarity = match self.metadata.get("loss").map(String::as_str) {
            None | Some("cosine") => Similarity::Cosine,
            Some("ce" | "cross-entropy") => Similarity::CrossEntropy,
            Some("mse") => Similarity::Mse,
            Some(other) => {
                return Err(self.wrong(format!("metadata loss = '{other}' is not cosine, ce or mse")));
            }
        };
        let symmetric = self.flag("symmetric", !matches!(rule, Rule::MemoryBank { .. }))?;
        Ok(ObjectiveConfig { similarity, symmetric, ..ObjectiveConfig::default() })
    }

    fn optim(&self) -> Result<OptimConfig> {
        let constant = self.metadata.contains_key("lr");
        let config = OptimConfig {
            base_lr: if constant { self.number("lr", 0.0)? } else { self.number("base_lr", 0.05)? },
            momentum: self.number("momentum", 0.9)?,
            weight_decay: self.number("weight_decay", 1e-4)?,
            decay: if constant { Decay::Constant } else { Decay::CosineEpoch },
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
    fn model(&self, kernel: &Arc<dyn Kernel>) -> Result<Model> {
        let size = self.tensor("views.1")?.0[3];
        weights::model_of(&self.tensors, size, kernel).map_err(|e| self.wrong(e.to_string()))
    }

    /// Both views of a step, (2, n, H, W, 3), and the images they show.
    fn views(&self, step: u64) -> Result<Views> {
        let (shape, one) = self.tensor("views.1")?;
        let (_, two) = self.tensor("views.2")?;
        let (n, size) = (shape[1], shape[3]);
        let len = n * 3 * size * size;
        let slice =
            |values: &[f32]| values.get(step as usize * len..(step as usize + 1) * len).map(<[f32]>::to_vec);
        let (Some(one), Some(two)) = (slice(one), slice(two)) else {
            return Err(self.wrong(format!("has no views for step {step}")));
        };
        let x = Tensor::from_vec([one, two].concat(), (2, n, 3, size, size), &Device::Cpu)?;
        let x = x.permute((0, 1, 3, 4, 2))?.contiguous()?;
        let indices = match self.tensors.get("ids") {
            None => (0..n as u32).collect(),
            Some((_, ids)) => {
                let ids = ids.get(step as usize * n..(step as usize + 1) * n);
                ids.ok_or_else(|| self.wrong("ids must be (steps, n)"))?.iter().map(|id| *id as u32).collect()
            }
        };
        Ok(Views { step, indices, x, small: None })
    }
}

/// Trains on the case's batches with `kernel` ([`crate::kernel::direct_sums`] for a comparison); `line` is given each step as it is made.
///
/// Stops early, without error, at a loss that is not finite: the last line shows it.
pub fn replay(
    case: &Case,
    kernel: &Arc<dyn Kernel>,
    line: &mut dyn FnMut(&Trajectory) -> Result<()>,
) -> Result<Replayed> {
    replay_with(case, kernel, &Ok, line)
}

/// The same with a model that `place` has put where it is to be trained.
pub fn replay_with(
    case: &Case,
    kernel: &Arc<dyn Kernel>,
    place: &dyn Fn(Model) -> Result<Model>,
    line: &mut dyn FnMut(&Trajectory) -> Result<()>,
) -> Result<Replayed> {
    let (rule, model, optim) = (case.rule()?, place(case.model(kernel)?)?, case.optim()?);
    let device = model.device().clone();
    let objective = case.objective(&rule)?;
    let given = case.tensor("views.1")?.0[0] as u64;
    let whole = case.number("steps", given as f64)? as u64;
    let epochs = (case.number("epochs", 1.0)? as u64).max(1);
    let images = match case.tensors.get("ids") {
        Some((_, ids)) => ids.iter().fold(0, |most, id| (*id as usize + 1).max(most)),
        None => case.tensor("views.1")?.0[1],
    };
    let dim = model.output_dim();
    let place = BankPlace { beside: beside(&rule, model.site(), u64::MAX)?, ..BankPlace::default() };
    let size = Size { images, dim, per_epoch: given, steps: given, elements: 0, ..Size::default() };
    let e_step = rule.build(&size, &place)?;
    let mut alternation = Alternation::new(model, &rule, e_step, objective, optim.clone());
    let (mut trajectory, mut first_gradients) = (Vec::new(), Vec::new());
    for step in 0..given {
        // The case's learning rate is not scaled by its batch.
        let lr = optim.lr(256, step, whole.max(given), epochs);
        let predictor = if optim.predictor_lr == PredictorLr::Constant { optim.base_lr } else { lr };
        let rates = Rates { encoder: lr, predictor };
        let views = |step| case.views(step).and_then(|v| Ok(Views { x: v.x.to_device(&device)?, ..v }));
        let made = alternation.step(step, given, rates, &mut { views })?;
        let (n, dim) = made.z.dims2()?;
        let z = made.z.flatten_all()?.to_vec1::<f32>()?;
        let z = ArrayView2::from_shape((n, dim), &z).map_err(|e| Error::Failure(e.to_string()))?;
        let row = Trajectory { step, loss: made.loss_now()?, lr, z_std: collapse::std(z) };
        line(&row)?;
        trajectory.push(row);
        let Some(gradients) = made.gradients else { break };
        if step == 0 {
            for part in alternation.model.parts() {
                if let Some(gradient) = gradients.get(part.theta) {
                    first_gradients.push((part.name, gradient.to_vec1()?));
                }
            }
        }
    }
    Ok(Replayed { trajectory, alternation, first_gradients })
}
