//! Training on given batches from given weights, to be compared with another framework step by
//! step.

use super::evaluate::rows;
use super::state::beside;
use super::{Alternation, Case, Model, Rates};
use crate::error::Result;
use crate::eta::{BankPlace, EStep, Rule, Size, Views};
use crate::kernel::Kernel;
use crate::measure::collapse;
use crate::optim::PredictorLr;
use std::sync::Arc;

/// One line of a trajectory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trajectory {
    /// The step, counted from 0.
    pub step: u64,
    /// The loss before the step.
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

/// What a checkpoint calls the negatives.
const QUEUE_ROWS: &str = "queue.rows";

/// Trains on the case's batches with `kernel` ([`crate::kernel::direct_sums`] for a comparison);
/// `line` is given each step as it is made.
///
/// Stops early, without error, at a loss that is not finite: the last line shows it.
///
/// # Errors
/// [`crate::Error::Data`] for a case that cannot be trained on; those of `line`.
pub fn replay(
    case: &Case,
    kernel: &Arc<dyn Kernel>,
    line: &mut dyn FnMut(&Trajectory) -> Result<()>,
) -> Result<Replayed> {
    replay_with(case, kernel, &Ok, line)
}

/// As [`replay`], with a model that `place` has put where it is to be trained.
///
/// # Errors
/// As [`replay`]; those of `place`.
pub fn replay_with(
    case: &Case,
    kernel: &Arc<dyn Kernel>,
    place: &dyn Fn(Model) -> Result<Model>,
    line: &mut dyn FnMut(&Trajectory) -> Result<()>,
) -> Result<Replayed> {
    let (rule, model, optim) = (case.rule()?, place(case.model(kernel)?)?, case.optim()?);
    let device = model.device().clone();
    let objective = case.objective(&rule)?;
    let given = case.shape().0 as u64;
    let whole = case.whole("steps", 1, given)?.max(given);
    let epochs = case.whole("epochs", 1, 1)?;
    let e_step = e_step(case, &rule, &model, whole)?;
    let mut alternation = Alternation::new(model, &rule, e_step, objective, optim.clone(), 0)?;
    let (mut trajectory, mut first_gradients) = (Vec::new(), Vec::new());
    for step in 0..given {
        // The case's learning rate is not scaled by its batch.
        let lr = optim.lr(256, step, whole, epochs);
        let predictor = if optim.predictor_lr == PredictorLr::Constant { optim.base_lr } else { lr };
        let rates = Rates { encoder: lr, predictor };
        let views = |step| case.views(step).and_then(|v| Ok(Views { x: v.x.to_device(&device)?, ..v }));
        let made = alternation.step(step, given, rates, &mut { views })?;
        let z_std = collapse::std(rows(&made.z)?.view());
        let row = Trajectory { step, loss: made.loss.wait()?, lr, z_std };
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

/// The case's E-step, which begins with the case's queue where it has one.
fn e_step(case: &Case, rule: &Rule, model: &Model, steps: u64) -> Result<Box<dyn EStep>> {
    let (given, dim) = (case.shape().0 as u64, model.output_dim());
    let place = BankPlace { beside: beside(rule, model.site(), u64::MAX)?, ..BankPlace::default() };
    let size = Size { images: case.images(), dim, per_epoch: given, steps, elements: 0, ..Size::default() };
    let mut e_step = rule.build(&size, &place)?;
    if let (true, Some((shape, rows))) = (rule.negatives() > 0, case.queue()?) {
        if shape[1] != dim {
            return Err(case.wrong(format!("queue has shape {shape:?}, and outputs have {dim} numbers")));
        }
        e_step.restore(vec![(QUEUE_ROWS.into(), shape.clone(), rows.clone().into())])?;
    }
    Ok(e_step)
}
