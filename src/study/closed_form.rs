//! A recipe in closed form: what its keys mean for a linear encoder of Gaussian images, and the run
//! that the closed form makes in the place of training.

use super::drive::{Substitute, Values, drive};
use crate::data::loader;
use crate::error::{Error, Result};
use crate::eta::{self, Steps};
use crate::objective::{Comparison, Similarity};
use crate::recipe::{Predictor, Recipe};
use crate::record::RunDir;
use crate::theory::{ClosedForm, Course, Measured, Optimum, Point, Prediction, Rates, Targets, antisymmetry};
use crate::train::{Ending, Progress};
use std::sync::atomic::{AtomicBool, Ordering};

/// The columns of metrics.csv of a run in closed form. `val/z_std` is the std of the outputs, 1 at
/// the start; `train/loss` the mean of L over the epoch.
const COLUMNS: [&str; 6] = ["train/loss", "train/lr", "train/z_std", "val/z_std", "val/rankme", "em/r2"];
/// The same of a run that measures the field of its update, here exactly.
const WITH_FIELD: [&str; 7] =
    ["train/loss", "train/lr", "train/z_std", "val/z_std", "val/rankme", "em/r2", "em/antisymmetry"];
/// Steps after which a run looks whether it is asked to stop.
const STEPS_BETWEEN_LOOKS: u64 = 4096;
/// Steps of an epoch beside runs whose number of images is not in the recipe.
const STEPS_PER_EPOCH: u64 = 100;

/// What the eta rule, k, m, the predictor and the weight decay of `recipe` mean in `world`. The
/// cosine stands for the mean squared error of normalised outputs, of which the closed form keeps
/// the error and, where the world says so, the normalisation; samples of T have the mean of their
/// expectation.
///
/// # Errors
/// [`Error::Usage`] for what the closed form does not model, naming the key.
pub fn course(recipe: &Recipe, world: &ClosedForm) -> Result<Course> {
    if !matches!(recipe.objective.similarity, Similarity::Cosine | Similarity::Mse) {
        return unmodelled(&format!("objective.similarity: {}", recipe.objective.similarity.name()));
    }
    let per_epoch = world.steps_per_epoch;
    let updated = |m: f64, k: Steps| Targets::Updated { m, k: k.count(per_epoch), batches: per_epoch };
    let targets = match recipe.eta {
        eta::Rule::OneStep {} => updated(0.0, Steps::Count(1)),
        eta::Rule::Expectation { m, k, .. } => updated(m, k),
        eta::Rule::KStep { k } => updated(0.0, k),
        eta::Rule::MemoryBank { m, k, .. } => updated(m, k),
        // Without stop-gradient an encoder's targets are its own outputs; only in the closed form's
        // own world is η an unknown of its own that descends.
        eta::Rule::None {} if recipe.closed_form.is_none() => {
            return unmodelled("eta.none: a gradient into targets that are outputs");
        }
        eta::Rule::None {} => Targets::Joint,
        ref other => return unmodelled(&format!("eta.{}: this rule", other.name())),
    };
    if recipe.objective.comparison != Comparison::Simsiam {
        return unmodelled("objective.comparison: another one than SimSiam's");
    }
    let prediction = prediction(&recipe.predictor, world.optimum)?;
    if targets == Targets::Joint && (prediction != Prediction::Absent || world.optimum != Optimum::None) {
        return unmodelled("eta.none: joint descent with a predictor or with an exact half-step");
    }
    let exact = world.optimum == Optimum::Encoder;
    let (normalised, decay) = (world.normalised, recipe.optim.weight_decay);
    let predictor_decay = recipe.optim.of_predictor().weight_decay;
    Ok(Course { targets, prediction, exact, normalised, decay, predictor_decay })
}

/// What h is in the closed form.
fn prediction(predictor: &Predictor, optimum: Optimum) -> Result<Prediction> {
    let of_optimum = |what: &str| unmodelled(&format!("closed_form.optimum: the best {what}"));
    match (predictor, optimum) {
        (Predictor::None {}, Optimum::Predictor) => of_optimum("predictor of a recipe with predictor.none"),
        (Predictor::None {}, _) => Ok(Prediction::Absent),
        (_, Optimum::Encoder) => of_optimum("encoder of a recipe with a predictor"),
        (Predictor::LeastSquares(config), _) if !config.rank_one => {
            Ok(Prediction::Best { every: config.every })
        }
        (Predictor::Mlp(_), Optimum::Predictor) => Ok(Prediction::Best { every: 1 }),
        (Predictor::Mlp(_), Optimum::None) => Ok(Prediction::Learned { symmetric: false }),
        (Predictor::Linear(config), Optimum::None) if !config.unit_diagonal => {
            Ok(Prediction::Learned { symmetric: config.symmetric })
        }
        _ => unmodelled("predictor: one that is neither a trained linear map nor the regression"),
    }
}

/// Says that `what` is not in the closed form.
fn unmodelled<T>(what: &str) -> Result<T> {
    Err(Error::Usage(format!("{what} has no closed form for a linear encoder")))
}

/// The closed form of a recipe, step by step.
struct Walk<'a> {
    recipe: &'a Recipe,
    world: &'a ClosedForm,
    course: Course,
    steps: u64,
    point: Point,
}

impl<'a> Walk<'a> {
    fn new(recipe: &'a Recipe, world: &'a ClosedForm) -> Result<Walk<'a>> {
        let course = course(recipe, world)?;
        let steps = world.steps_per_epoch * recipe.schedule.epochs;
        Ok(Walk { recipe, world, course, steps, point: Point::start(world, recipe.seed) })
    }

    /// The learning rates of the next step. SGD's momentum μ moves by 1/(1 − μ) times its rate.
    fn rates(&self) -> Rates {
        let Recipe { optim, schedule, .. } = self.recipe;
        let long = 1.0 / (1.0 - optim.momentum);
        let (step, steps) = (self.point.step(), self.steps);
        Rates {
            encoder: long * optim.lr(schedule.batch, step, steps, schedule.epochs),
            predictor: long * optim.predictor_lr(schedule.batch, step, steps, schedule.epochs),
        }
    }

    /// Makes a step; its loss L.
    fn advance(&mut self) -> f64 {
        let rates = self.rates();
        self.point.advance(self.world, &self.course, rates)
    }

    fn read(&self) -> Measured {
        self.point.measure(self.world, &self.course)
    }
}

/// What the closed form of `recipe` comes to at the end of the run; none where it diverges.
///
/// # Errors
/// As for [`course`].
pub fn end(recipe: &Recipe, world: &ClosedForm) -> Result<Option<Measured>> {
    let mut walk = Walk::new(recipe, world)?;
    for _ in 0..walk.steps {
        if !walk.advance().is_finite() {
            return Ok(None);
        }
    }
    Ok(Some(walk.read()).filter(|measured| measured.std.is_finite()))
}

/// Steps of an epoch of `recipe` as far as the recipe alone says.
pub fn steps_per_epoch(recipe: &Recipe) -> u64 {
    match recipe.data.train_images {
        0 => STEPS_PER_EPOCH,
        images => loader::steps_per_epoch(images, recipe.schedule.batch),
    }
}

impl Substitute for Walk<'_> {
    fn columns(&self) -> Vec<&'static str> {
        if self.recipe.measure.measures_field() { WITH_FIELD.to_vec() } else { COLUMNS.to_vec() }
    }

    fn steps_per_epoch(&self) -> u64 {
        self.world.steps_per_epoch
    }

    fn made_by(&self) -> Option<&'static str> {
        Some("the closed form of a linear encoder of Gaussian images")
    }

    fn measure(&mut self, epoch: u64, stop: &AtomicBool) -> Result<Values, Ending> {
        let mut values = Vec::new();
        if epoch > 0 {
            let lr = self.rates().encoder;
            let mut sum = 0.0;
            for step in 0..self.world.steps_per_epoch {
                if step.is_multiple_of(STEPS_BETWEEN_LOOKS) && stop.load(Ordering::Relaxed) {
                    return Err(Ending::Stopped);
                }
                sum += self.advance();
            }
            let loss = sum / self.world.steps_per_epoch as f64;
            if !loss.is_finite() {
                return Err(Ending::Diverged { step: self.point.step() - 1 });
            }
            values.extend([("train/loss", loss), ("train/lr", lr)]);
        }
        let Measured { std, rank, r2 } = self.read();
        let Point { encoder, predictor, .. } = &self.point;
        let share = match self.recipe.measure.measures_field() {
            true => antisymmetry(self.world, &self.course, encoder, predictor),
            false => None,
        };
        if epoch > 0 {
            values.push(("train/z_std", std));
        }
        values.extend([("val/z_std", std), ("val/rankme", rank)]);
        values.extend(r2.map(|r2| ("em/r2", r2)));
        values.extend(share.map(|share| ("em/antisymmetry", share)));
        Ok(values)
    }
}

/// Makes the run of `recipe` in `world`. It takes milliseconds.
///
/// # Errors
/// As for [`course`], and where the folder cannot be written.
pub fn run(
    recipe: &Recipe,
    world: &ClosedForm,
    dir: &RunDir,
    stop: &AtomicBool,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Ending> {
    drive(&mut Walk::new(recipe, world)?, recipe, dir, stop, watch)
}
