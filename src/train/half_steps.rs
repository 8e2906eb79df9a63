//! The alternation watched from outside: whether L(θ, η) falls in both half-steps.
//!
//! Nothing here moves θ, η, momentum or running statistics.

use super::Model;
use super::em::{OBJECTIVE, spaced, tensor, unmoved, views_of_t};
use crate::data::Dataset;
use crate::data::loader::BatchShape;
use crate::error::{Error, Result, go_on};
use crate::eta::{BankPlace, EStep, Held, Rule, Views};
use crate::measure::em::EmConfig;
use crate::recipe::Recipe;
use candle_core::{Device, Tensor};
use std::sync::atomic::AtomicBool;

/// L(θ, η) around the half-steps of an alternation of its own: the run's rule on a few training
/// images, whose η is made whenever the run makes its own and whose θ is the run's.
///
/// Its methods fail as the rule's and the model's do, with [`Error::Stopped`] once `stop` is set,
/// and with [`Error::Failure`] for a checkpoint of another run.
pub struct HalfSteps {
    rule: Box<dyn EStep>,
    images: Vec<u32>,
    /// SGD steps of a run of M-steps.
    k: u64,
    /// Views that stand for E_T, (T, P, H, W, C).
    x: Tensor,
    eta: Option<Tensor>,
    /// SGD steps made when the last E-step was, plus one; 0 before the first.
    made: u64,
    /// L after the last E-step; not yet taken where that was interrupted.
    after_e: Option<f64>,
    /// L after the last M-steps, where it was taken already.
    after_m: Option<f64>,
    sums: Sums,
}

/// What an epoch's row is made of.
#[derive(Clone, Copy, Default)]
struct Sums {
    e_steps: u64,
    after_e: f64,
    /// E-steps that an η came before.
    with_before: u64,
    before_e: f64,
    m_runs: u64,
    after_m: f64,
    /// Largest rise of L in an E-step and in a run of M-steps; 0 where it always fell.
    e_rise: Option<f64>,
    m_rise: Option<f64>,
}

fn raise(largest: &mut Option<f64>, rise: f64) {
    *largest = Some(largest.unwrap_or(0.0).max(rise));
}

impl HalfSteps {
    /// Watches the run of `recipe`, whose epochs have `per_epoch` steps.
    pub fn new(recipe: &Recipe, em: &EmConfig, dataset: &Dataset, per_epoch: u64) -> Result<Self> {
        let images = spaced(dataset.train.len(), em.images);
        let place = BankPlace::default();
        let rule = recipe.eta.build(&recipe.rule_size(images.len(), per_epoch), &place)?;
        // A bank visits an image once in an epoch.
        let k = if matches!(recipe.eta, Rule::MemoryBank { .. }) { per_epoch } else { rule.chunk() };
        let (views, _) = views_of_t(recipe, em);
        let shape = BatchShape { listed: views, ..BatchShape::drawn(0, views) };
        let x = tensor(&dataset.train, recipe, &images, shape, OBJECTIVE)?;
        Ok(Self {
            rule,
            images,
            k,
            x,
            eta: None,
            made: 0,
            after_e: None,
            after_m: None,
            sums: Sums::default(),
        })
    }

    /// L(θ, η) of the images: the mean of D(h(F_θ(T(x))), η_x) over x and T.
    fn objective(&self, model: &Model, recipe: &Recipe, stop: &AtomicBool) -> Result<f64> {
        let Some(eta) = &self.eta else { return Ok(f64::NAN) };
        let views = self.x.dim(0)?;
        let one = |v: usize| -> Result<f64> {
            go_on(stop)?;
            let p = model.frozen_p(&model.frozen_z(&self.x.narrow(0, v, 1)?)?)?;
            let eta = &eta.to_device(p.device())?;
            Ok(f64::from(recipe.objective.loss(&p, eta, None)?.to_scalar::<f32>()?))
        };
        let sum_over_views = || (0..views).try_fold(0.0, |sum, v| Ok::<f64, Error>(sum + one(v)?));
        Ok(unmoved(model, sum_over_views)? / views as f64)
    }

    /// Before SGD step `step`: where an E-step falls due, L before it, the E-step, L after it.
    ///
    /// # Errors
    /// [`Error::Stopped`] once `stop` is set: called again for the same step, perhaps from a
    /// checkpoint, it makes what is missing.
    pub fn before(
        &mut self,
        model: &Model,
        recipe: &Recipe,
        dataset: &Dataset,
        step: u64,
        stop: &AtomicBool,
    ) -> Result<()> {
        if !step.is_multiple_of(self.k) {
            return Ok(());
        }
        if self.made != step + 1 {
            self.close_m(model, recipe, stop)?;
            self.e_step(model, recipe, dataset, step)?;
            (self.made, self.after_e) = (step + 1, None);
        }
        if self.after_e.is_none() {
            let after = self.objective(model, recipe, stop)?;
            self.after_e = Some(after);
            self.sums.e_steps += 1;
            self.sums.after_e += after;
            if let Some(before) = self.after_m.take() {
                self.sums.with_before += 1;
                self.sums.before_e += before;
                raise(&mut self.sums.e_rise, after - before);
            }
        }
        Ok(())
    }

    /// L after the run of M-steps that has just ended, where there was one and it is not known.
    fn close_m(&mut self, model: &Model, recipe: &Recipe, stop: &AtomicBool) -> Result<()> {
        let Some(after_e) = self.after_e.filter(|_| self.after_m.is_none()) else { return Ok(()) };
        let after = self.objective(model, recipe, stop)?;
        self.sums.m_runs += 1;
        self.sums.after_m += after;
        raise(&mut self.sums.m_rise, after - after_e);
        self.after_m = Some(after);
        Ok(())
    }

    fn e_step(&mut self, model: &Model, recipe: &Recipe, dataset: &Dataset, step: u64) -> Result<()> {
        let shape = BatchShape { images: 0, ..recipe.batch_shape() };
        let x = tensor(&dataset.train, recipe, &self.images, shape, step)?;
        let labels = self.images.iter().map(|image| dataset.train.label(*image as usize)).collect();
        let indices = (0..self.images.len() as u32).collect();
        let views = Views { step, indices, labels, x, small: None };
        let with_gradient =
            recipe.eta.views_with_gradient(recipe.objective.views(), recipe.objective.trained_views());
        let eta = unmoved(model, || {
            self.rule.refresh(model, &mut std::iter::once(Ok(views.clone())))?;
            let z = model.frozen_z(&views.x.narrow(0, 0, with_gradient)?)?;
            Ok(self.rule.targets(&views, &z, model)?.narrow(0, 0, 1)?.detach())
        })?;
        self.eta = Some(eta);
        Ok(())
    }

    /// The columns of an epoch's row, after `step` steps.
    ///
    /// # Errors
    /// [`Error::Stopped`] once `stop` is set; called again it gives what it would have given.
    pub fn row(
        &mut self,
        model: &Model,
        recipe: &Recipe,
        step: u64,
        stop: &AtomicBool,
    ) -> Result<Vec<(&'static str, f64)>> {
        if step.is_multiple_of(self.k) {
            self.close_m(model, recipe, stop)?;
        }
        let sums = std::mem::take(&mut self.sums);
        let mean = |name, sum: f64, n: u64| (n > 0).then(|| (name, sum / n as f64));
        let all = [
            mean("em/loss_before_e", sums.before_e, sums.with_before),
            mean("em/loss_after_e", sums.after_e, sums.e_steps),
            mean("em/loss_after_m", sums.after_m, sums.m_runs),
            sums.e_rise.map(|rise| ("em/e_rise", rise)),
            sums.m_rise.map(|rise| ("em/m_rise", rise)),
        ];
        Ok(all.into_iter().flatten().collect())
    }

    /// The tensors that a checkpoint keeps.
    pub fn tensors(&self) -> Result<Vec<Held<'_>>> {
        let mut held = self.rule.state()?;
        if let Some(eta) = &self.eta {
            held.push((ETA.into(), eta.dims().to_vec(), eta.flatten_all()?.to_vec1::<f32>()?.into()));
        }
        Ok(held)
    }

    /// The numbers that a checkpoint keeps, by name.
    pub fn numbers(&self) -> [(&'static str, u64); 11] {
        let s = &self.sums;
        // A number that is not there is saved as NaN.
        let bits = |value: Option<f64>| value.unwrap_or(f64::NAN).to_bits();
        [
            ("e_steps", s.e_steps),
            ("with_before", s.with_before),
            ("m_runs", s.m_runs),
            ("sum_after_e", s.after_e.to_bits()),
            ("sum_before_e", s.before_e.to_bits()),
            ("sum_after_m", s.after_m.to_bits()),
            ("e_rise", bits(s.e_rise)),
            ("m_rise", bits(s.m_rise)),
            ("after_e", bits(self.after_e)),
            ("after_m", bits(self.after_m)),
            ("made", self.made),
        ]
    }

    /// Takes back what [`HalfSteps::tensors`] and [`HalfSteps::numbers`] gave; `number` gives a
    /// number by its name.
    pub fn restore(&mut self, held: Vec<Held<'static>>, number: &dyn Fn(&str) -> Result<u64>) -> Result<()> {
        let (eta, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|(name, ..)| name == ETA);
        self.rule.restore(held)?;
        self.eta = match eta.into_iter().next() {
            None => None,
            Some((_, shape, values)) => {
                let unread = |e| Error::Failure(format!("the checkpoint's η cannot be read: {e}"));
                Some(Tensor::from_vec(values.into_f32().map_err(unread)?, shape, &Device::Cpu)?)
            }
        };
        let float = |name: &str| Ok::<f64, Error>(f64::from_bits(number(name)?));
        let there = |name: &str| Ok::<_, Error>(Some(float(name)?).filter(|value| !value.is_nan()));
        self.sums = Sums {
            e_steps: number("e_steps")?,
            with_before: number("with_before")?,
            m_runs: number("m_runs")?,
            after_e: float("sum_after_e")?,
            before_e: float("sum_before_e")?,
            after_m: float("sum_after_m")?,
            e_rise: there("e_rise")?,
            m_rise: there("m_rise")?,
        };
        (self.after_e, self.after_m) = (there("after_e")?, there("after_m")?);
        // Older checkpoints were never made in the middle of a step.
        self.made = number("made").unwrap_or(0);
        Ok(())
    }
}

/// What the images' η is called in a checkpoint.
const ETA: &str = "half_steps";
