//! The alternation in closed form, step by step: E-step once in k steps, M-step in each, as `train`
//! has it.
//!
//! In the common eigenbasis Σ and C are diagonal, so that a product with them scales columns.

use super::closed_form::ClosedForm;
use crate::kernel::spectral::of_symmetric;
use crate::measure::collapse::rankme;
use crate::rng::{Purpose, stream};
use nalgebra::DMatrix;
use ndarray::{Array1, Array2, Axis};
use rand_distr::{Distribution, StandardNormal};
use std::borrow::Cow;

/// What becomes of η, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets {
    /// Before every `k` steps η ← m·η + (1−m)·E_T\[F(T(x))\] for the images of the next k batches,
    /// of which an epoch has `batches`; an image's first visit takes the output as it is.
    Updated {
        /// Momentum; at 0 nothing of the past is kept.
        m: f64,
        /// Steps against η made with one W.
        k: u64,
        /// Batches of an epoch.
        batches: u64,
    },
    /// η descends L together with W: what stop-gradient forbids.
    Joint,
}

/// The predictor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prediction {
    /// p = z.
    Absent,
    /// The linear predictor that is best for W, made anew every so many steps.
    Best {
        /// Steps between two of them.
        every: u64,
    },
    /// P = F^α, the power of F = W C Wᵀ, made anew in every step (DirectPred and its kin).
    Direct {
        /// α.
        alpha: f64,
        /// Whether W follows the gradient in P W, not multiplied by Pᵀ (IsoLoss).
        isotropic: bool,
    },
    /// A linear predictor that is learned with W.
    Learned {
        /// Whether it stays symmetric: each step is followed by P ← ½(P + Pᵀ).
        symmetric: bool,
    },
}

/// How the alternation goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// η.
    pub targets: Targets,
    /// h.
    pub prediction: Prediction,
    /// W jumps to the minimum of L instead of making a gradient step.
    pub exact: bool,
    /// Each output is scaled to variance 1 after every step.
    pub normalised: bool,
    /// Weight decay, added to the gradient of W as in PyTorch.
    pub decay: f64,
    /// The same of P.
    pub predictor_decay: f64,
}

/// Learning rates of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// W's, and A's where it descends.
    pub encoder: f64,
    /// P's.
    pub predictor: f64,
}

impl Course {
    /// Gradient steps, each against a sample of its own, without decay: SimSiam's, with h as
    /// `prediction` has it.
    pub fn fresh(prediction: Prediction) -> Self {
        Self {
            targets: Targets::Updated { m: 0.0, k: 1, batches: 1 },
            prediction,
            exact: false,
            normalised: false,
            decay: 0.0,
            predictor_decay: 0.0,
        }
    }

    /// Steps of an iteration of the outer loop: those against one η.
    pub fn steps(&self) -> u64 {
        match self.targets {
            Targets::Updated { k, .. } => k,
            Targets::Joint => 1,
        }
    }
}

/// What is read off a state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The mean over outputs of their standard deviation, 1 at the start.
    pub std: f64,
    /// RankMe of the outputs.
    pub rank: f64,
    /// 1 − E‖P z − E_T\[z\]‖² / E‖E_T\[z\]‖²: how well the prediction meets the expectation; none
    /// where outputs have vanished.
    pub r2: Option<f64>,
}

/// A state on its way.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use simsiam_em::theory::{ClosedForm, Course, Optimum, Point, Prediction, Rates};
///
/// let world = ClosedForm {
///     signal: vec![1.0, 0.5],
///     noise: vec![0.2, 0.2],
///     outputs: 2,
///     steps_per_epoch: 10,
///     normalised: false,
///     optimum: Optimum::None,
/// };
/// let course = Course::fresh(Prediction::Absent);
/// let mut point = Point::start(&world, 0);
/// for _ in 0..2000 {
///     point.advance(&world, &course, Rates { encoder: 0.05, predictor: 0.0 });
/// }
/// // Without a predictor outputs vanish.
/// assert!(point.measure(&world, &course).std < 1e-3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Point {
    /// W (d, n).
    pub encoder: Array2<f64>,
    /// P (d, d).
    pub predictor: Array2<f64>,
    /// A (d, n) of the images of each batch of an epoch; none before the first visit. Without
    /// memory one for all.
    targets: Vec<Option<Array2<f64>>>,
    step: u64,
}

impl Point {
    /// W of normal numbers drawn for `seed`, each output at variance 1, and the identity as
    /// predictor.
    pub fn start(world: &ClosedForm, seed: u64) -> Point {
        let mut rng = stream(seed, Purpose::Init, 0, 0);
        let shape = (world.outputs, world.signal.len());
        let encoder = Array2::from_shape_simple_fn(shape, || StandardNormal.sample(&mut rng));
        let mut point =
            Point { encoder, predictor: Array2::eye(world.outputs), targets: Vec::new(), step: 0 };
        point.normalise(world);
        point
    }

    /// Scales each output to variance 1, as a batch norm without affine parameters does. A silent
    /// output stays silent.
    pub fn normalise(&mut self, world: &ClosedForm) {
        let views = views(world);
        for mut row in self.encoder.axis_iter_mut(Axis(0)) {
            let variance = (&row * &row * &views).sum();
            if variance > 0.0 {
                row /= variance.sqrt();
            }
        }
    }

    /// The steps made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Makes one step of `course` and returns L(P W, A) before it.
    pub fn advance(&mut self, world: &ClosedForm, course: &Course, rates: Rates) -> f64 {
        let signal = Array1::from(world.signal.clone());
        let views = views(world);
        let place = self.e_step(course);
        let Some(target) = self.targets.get(place).and_then(Option::as_ref) else { return f64::NAN };

        // M-step: one step on L(W, P) = tr(P W C Wᵀ Pᵀ) − 2 tr(P W Σ Aᵀ) + tr(A Σ Aᵀ), A being a
        // constant.
        if let Prediction::Best { every } = course.prediction
            && self.step.is_multiple_of(every)
            && let Some(best) = best_predictor(&signal, &views, &self.encoder)
        {
            self.predictor = best;
        }
        if let Prediction::Direct { alpha, .. } = course.prediction {
            self.predictor = power(&self.covariance(world), alpha);
        }
        let (w, p) = (&self.encoder, &self.predictor);
        let predicted =
            if course.prediction == Prediction::Absent { Cow::Borrowed(w) } else { Cow::Owned(p.dot(w)) };
        let (seen, meant) = (&*predicted * &views, target * &signal);
        let loss = (&seen * &*predicted).sum() - 2.0 * (&meant * &*predicted).sum() + (&meant * target).sum();
        let outer = 2.0 * (&seen - &meant);
        let joint = (course.targets == Targets::Joint)
            .then(|| target - &(2.0 * rates.encoder * (target - &*predicted) * &signal));
        let encoder = match course.prediction {
            _ if course.exact => &meant / &views,
            Prediction::Absent | Prediction::Direct { isotropic: true, .. } => {
                w - &(rates.encoder * (&outer + &(course.decay * w)))
            }
            _ => w - &(rates.encoder * (p.t().dot(&outer) + course.decay * w)),
        };
        if let Prediction::Learned { symmetric } = course.prediction {
            let next = p - &(rates.predictor * (outer.dot(&w.t()) + course.predictor_decay * p));
            self.predictor = if symmetric { 0.5 * (&next + &next.t()) } else { next };
        }
        self.encoder = encoder;
        if let Some(target) = joint {
            self.targets = vec![Some(target)];
        }
        if course.normalised {
            self.normalise(world);
        }
        self.step += 1;
        loss
    }

    /// E-step, once in k steps; where η of the present batch lies.
    fn e_step(&mut self, course: &Course) -> usize {
        let Targets::Updated { m, k, batches } = course.targets else {
            self.targets.resize_with(1, || Some(self.encoder.clone()));
            return 0;
        };
        // Without memory all images have the same A, the W at the beginning of the chunk.
        let groups = if m == 0.0 { 1 } else { batches.max(1) };
        self.targets.resize(groups as usize, None);
        if self.step.is_multiple_of(k) {
            for batch in self.step..self.step + if groups == 1 { 1 } else { k } {
                let slot = &mut self.targets[(batch % groups) as usize];
                *slot = Some(match slot.take() {
                    Some(kept) => m * kept + (1.0 - m) * &self.encoder,
                    None => self.encoder.clone(),
                });
            }
        }
        (self.step % groups) as usize
    }

    /// F = W C Wᵀ, (d, d): E\[z zᵀ\] of views.
    pub fn covariance(&self, world: &ClosedForm) -> Array2<f64> {
        (&self.encoder * &views(world)).dot(&self.encoder.t())
    }

    /// What is read off it.
    pub fn measure(&self, world: &ClosedForm, course: &Course) -> Measured {
        let (signal, views) = (Array1::from(world.signal.clone()), views(world));
        let w = &self.encoder;
        let variances = (w * w * &views).sum_axis(Axis(1));
        let predicted = match course.prediction {
            Prediction::Absent => w.clone(),
            Prediction::Best { every: 1 } => {
                best_predictor(&signal, &views, w).unwrap_or_else(|| self.predictor.clone()).dot(w)
            }
            _ => self.predictor.dot(w),
        };
        let expected = w * &signal;
        let whole = (&expected * w).sum();
        let missed = (&predicted * &predicted * &views).sum() - 2.0 * (&predicted * &expected).sum() + whole;
        Measured {
            std: variances.mapv(|variance| variance.max(0.0).sqrt()).mean().unwrap_or(0.0),
            rank: rank(&self.covariance(world)),
            r2: (whole > f64::MIN_POSITIVE).then(|| 1.0 - missed / whole),
        }
    }
}

/// RankMe of outputs of this covariance (d, d): the exponential of the entropy of their standard
/// deviations along their axes.
fn rank(outputs: &Array2<f64>) -> f64 {
    if !outputs.iter().all(|value| value.is_finite()) {
        return f64::NAN;
    }
    let variances = to_nalgebra(outputs).symmetric_eigenvalues();
    let deviations: Vec<f64> = variances.iter().map(|variance| variance.max(0.0).sqrt()).collect();
    rankme(&deviations)
}

/// A symmetric matrix to a power above 0.
fn power(matrix: &Array2<f64>, alpha: f64) -> Array2<f64> {
    if !matrix.iter().all(|value| value.is_finite()) {
        return Array2::from_elem(matrix.dim(), f64::NAN);
    }
    let power = of_symmetric(to_nalgebra(matrix), |eigenvalue, _| eigenvalue.powf(alpha));
    Array2::from_shape_fn(matrix.dim(), |(i, j)| power[(i, j)])
}

fn to_nalgebra(a: &Array2<f64>) -> DMatrix<f64> {
    DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]])
}

/// C's diagonal.
pub(super) fn views(world: &ClosedForm) -> Array1<f64> {
    world.signal.iter().zip(&world.noise).map(|(signal, noise)| signal + noise).collect()
}

/// The predictor that is best for W: P = W Σ Wᵀ (W C Wᵀ)⁻¹, with the diagonals of Σ and C; none
/// where outputs have collapsed onto a subspace.
pub(super) fn best_predictor(
    signal: &Array1<f64>,
    views: &Array1<f64>,
    encoder: &Array2<f64>,
) -> Option<Array2<f64>> {
    let inverse = inverse(&(encoder * views).dot(&encoder.t()))?;
    Some((encoder * signal).dot(&encoder.t()).dot(&inverse))
}

/// The inverse of a positive definite matrix; none of another.
pub(super) fn inverse(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let inverse = to_nalgebra(matrix).cholesky()?.inverse();
    Some(Array2::from_shape_fn(matrix.dim(), |(i, j)| inverse[(i, j)]))
}
