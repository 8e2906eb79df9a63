//! Whether the expected update of a run is the gradient of anything (Ponce, Hebert & Terver 2025):
//! the antisymmetric share of the Jacobian of its field, by random directions.
//!
//! Where stop-gradient is left out there is nothing to measure: the update is a gradient.
//!
//! Nothing here moves θ, η, momentum or running statistics.

use super::direct::Direct;
use super::em::{FIELD, spaced, tensor, unmoved, views_of_t};
use super::{Compared, Losses, Model, Part};
use crate::data::Dataset;
use crate::data::loader::BatchShape;
use crate::error::{Error, Result, go_on};
use crate::eta::{BankPlace, Views};
use crate::measure::em::EmConfig;
use crate::measure::field::{Product, Share, share};
use crate::recipe::Recipe;
use crate::rng::{Purpose, stream};
use candle_core::Tensor;
use rand_distr::{Distribution, StandardNormal};
use std::sync::atomic::AtomicBool;

/// How far θ is moved to either side along a direction of normal numbers, as a part of the root
/// mean square of θ, and η along its own change, likewise: η is continuous in θ, and the gradient
/// smooth in η, so that central differences of a hundredth are off by some 1e-4.
const STEP: f64 = 0.01;

/// What a batch holds still: η and, where h is set from the outputs, h.
struct Held {
    eta: Tensor,
    predictor: Option<Vec<f32>>,
}

/// The field of one step's expectation: v(θ) = −∂L/∂θ(θ, η(θ)) with η made of θ itself by the run's
/// rule and held still, the mean over a few fixed batches of the same training images under
/// different views. Its Jacobian is −(H + M): H = ∂²L/∂θ², symmetric, and M = ∂²L/∂θ∂η · ∂η/∂θ.
struct Field<'a> {
    model: &'a Model,
    recipe: &'a Recipe,
    batches: Vec<Views>,
    stop: &'a AtomicBool,
}

/// The antisymmetric share ‖J − Jᵀ‖² / (‖J − Jᵀ‖² + ‖J + Jᵀ‖²) of the field's Jacobian J in all
/// that is trained, by `em.field` random directions: 0 for a gradient, ½ for a matrix without
/// structure, 1 for a rotation. None where no direction moves it.
///
/// M w is the change of the gradient by that of η along w, at the same θ: no ReLU switches between
/// the two. H w is a difference of gradients at two θ, between which many do; it has no part in J −
/// Jᵀ, and its noise none in ‖J + Jᵀ‖² ([`share`]).
///
/// J is that of the loss alone: weight decay adds a multiple of the identity, and the learning rate
/// of h scales its rows, neither of which is measured.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set; otherwise as a step fails.
pub fn antisymmetry(
    model: &Model,
    dataset: &Dataset,
    recipe: &Recipe,
    em: &EmConfig,
    stop: &AtomicBool,
) -> Result<Option<Share>> {
    let images = spaced(dataset.train.len(), em.images);
    let shape = BatchShape { images: 0, ..recipe.batch_shape() };
    let (views, _) = views_of_t(recipe, em);
    let batch = |draw: u64| -> Result<Views> {
        let x = tensor(&dataset.train, recipe, &images, shape, FIELD - draw)?;
        let indices = (0..images.len() as u32).collect();
        Ok(Views { step: 0, indices, labels: Vec::new(), x, small: None })
    };
    // As many as show that many views of each image.
    let batches = (0..views.div_ceil(recipe.views()) as u64).map(batch).collect::<Result<_>>()?;
    let field = Field { model, recipe, batches, stop };
    let before = field.theta()?;
    let sampled = unmoved(model, || field.products(&before, em.field));
    // θ is put back whatever came of it.
    field.set(&before)?;
    Ok(share(&sampled?))
}

impl Field<'_> {
    /// Whether a gradient moves the part.
    fn moves(&self, part: &Part) -> bool {
        let h_moves = self.recipe.predictor.is_trained() && !self.recipe.optim.holds_predictor();
        part.name != "predictor" || h_moves
    }

    /// θ, part by part.
    fn theta(&self) -> Result<Vec<Vec<f32>>> {
        self.model.parts().map(|part| Ok(part.theta.to_vec1()?)).collect()
    }

    fn set(&self, theta: &[Vec<f32>]) -> Result<()> {
        for (part, values) in self.model.parts().zip(theta) {
            part.theta.set(&Tensor::from_slice(values, part.theta.dims(), self.model.device())?)?;
        }
        Ok(())
    }

    /// `count` directions w with M w and H w, each flat over what is trained.
    fn products(&self, theta: &[Vec<f32>], count: usize) -> Result<Vec<Product>> {
        let moves: Vec<bool> = self.model.parts().map(|part| self.moves(&part)).collect();
        let of_moved: Vec<f32> = theta
            .iter()
            .zip(&moves)
            .filter(|(_, moves)| **moves)
            .flat_map(|(part, _)| part.clone())
            .collect();
        let step = (STEP * rms(&of_moved)) as f32;
        let held = self.held()?;
        let mut products = Vec::new();
        for draw in 0..count {
            let mut rng = stream(self.recipe.seed, Purpose::Probes, 0, draw as u64);
            let direction: Vec<f32> = of_moved.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
            let at = |sign: f32| {
                let mut next = direction.iter();
                let moved = |(part, moves): (&Vec<f32>, &bool)| match moves {
                    true => part.iter().zip(next.by_ref()).map(|(t, w)| t + sign * step * w).collect(),
                    false => part.clone(),
                };
                self.set(&theta.iter().zip(&moves).map(moved).collect::<Vec<Vec<f32>>>())?;
                Ok::<_, Error>((self.held()?, self.gradient(&held)?))
            };
            let ((held_ahead, ahead), (held_behind, behind)) = (at(1.0)?, at(-1.0)?);
            self.set(theta)?;
            let by_theta = difference(&ahead, &behind, step);
            let by_eta = self.by_eta(&held, (&held_ahead, &held_behind), step)?;
            products.push(Product { direction, by_eta, by_theta });
        }
        Ok(products)
    }

    /// η of each batch at the present θ, and h where it is set.
    fn held(&self) -> Result<Vec<Held>> {
        let (model, recipe) = (self.model, self.recipe);
        let (all, trained) = (recipe.objective.views(), recipe.objective.trained_views());
        let of_batch = |views: &Views| -> Result<Held> {
            go_on(self.stop)?;
            let size = recipe.rule_size(views.indices.len(), 1);
            let mut rule = recipe.eta.of_every_step().build(&size, &BankPlace::default())?;
            let z = model.frozen_z(&views.x.narrow(0, 0, recipe.eta.views_with_gradient(all, trained))?)?;
            let eta = rule.targets(views, &z, model)?.narrow(0, 0, trained)?.detach();
            let predictor = match Direct::of(model.predictor(), model.output_dim()) {
                None => None,
                Some(mut direct) => Some(direct.of_batch(&z.narrow(0, 0, trained)?, &eta)?),
            };
            Ok(Held { eta, predictor })
        };
        self.batches.iter().map(of_batch).collect()
    }

    /// ∂L/∂θ at the present θ with what is `held`, flat over what is trained.
    fn gradient(&self, held: &[Held]) -> Result<Vec<f32>> {
        let model = self.model;
        let objective = &self.recipe.objective;
        let mut sum: Vec<f32> = Vec::new();
        for (views, Held { eta, predictor }) in self.batches.iter().zip(held) {
            go_on(self.stop)?;
            if let Some(predictor) = predictor {
                model.set("predictor", predictor.clone(), &[])?;
            }
            let z = model.z(&views.x.narrow(0, 0, objective.trained_views())?)?;
            // One draw of directions for all, so that θ alone moves.
            let directions = objective.directions(self.recipe.seed, 0, &z)?;
            let directions = directions.as_ref();
            let compared = Compared { z: &z, eta, small: None, negatives: None, directions };
            let gradients = Losses::new(model, objective, &compared)?.descended.backward()?;
            let mut flat = Vec::new();
            for part in model.parts().filter(|part| self.moves(part)) {
                match gradients.get(part.theta) {
                    Some(gradient) => flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
                    None => flat.resize(flat.len() + part.theta.elem_count(), 0.0),
                }
            }
            sum.resize(flat.len(), 0.0);
            sum.iter_mut().zip(&flat).for_each(|(sum, value)| *sum += value);
        }
        match sum.iter().all(|value| value.is_finite()) {
            true => Ok(sum),
            false => Err(Error::Failure("the gradient beside θ is not a finite number".into())),
        }
    }

    /// The change of ∂L/∂θ at the present θ by that of what is held, per unit of a direction along
    /// which it comes to `ahead` and `behind` in a step each.
    fn by_eta(&self, held: &[Held], (ahead, behind): (&[Held], &[Held]), step: f32) -> Result<Vec<f32>> {
        let values = |held: &[Held]| -> Result<Vec<Vec<f32>>> {
            let of = |held: &Held| {
                let mut all = held.eta.flatten_all()?.to_vec1::<f32>()?;
                all.extend(held.predictor.iter().flatten());
                Ok(all)
            };
            held.iter().map(of).collect()
        };
        let (now, ahead, behind) = (values(held)?, values(ahead)?, values(behind)?);
        let changes: Vec<Vec<f32>> = ahead.iter().zip(&behind).map(|(a, b)| difference(a, b, step)).collect();
        let change = rms(&changes.concat());
        if change == 0.0 {
            return Ok(vec![0.0; self.gradient(held)?.len()]);
        }
        let along = (STEP * rms(&now.concat()) / change) as f32;
        let at = |sign: f32| -> Result<Vec<f32>> {
            let moved = |((held, now), change): ((&Held, &Vec<f32>), &Vec<f32>)| -> Result<Held> {
                let mut all: Vec<f32> = now.iter().zip(change).map(|(x, by)| x + sign * along * by).collect();
                let predictor = all.split_off(held.eta.elem_count());
                let eta = Tensor::from_vec(all, held.eta.shape(), held.eta.device())?;
                Ok(Held { eta, predictor: held.predictor.is_some().then_some(predictor) })
            };
            let moved = held.iter().zip(&now).zip(&changes).map(moved).collect::<Result<Vec<_>>>()?;
            self.gradient(&moved)
        };
        Ok(difference(&at(1.0)?, &at(-1.0)?, along))
    }
}

/// (ahead − behind) / 2·step.
fn difference(ahead: &[f32], behind: &[f32], step: f32) -> Vec<f32> {
    ahead.iter().zip(behind).map(|(a, b)| (a - b) / (2.0 * step)).collect()
}

/// The root mean square.
fn rms(values: &[f32]) -> f64 {
    let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}
