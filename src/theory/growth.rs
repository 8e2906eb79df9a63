//! How fast the eigenvalues of E\[z zᵀ\] grow where h is set from them (Halvagal, Laborieux & Zenke
//! 2023), beside what else may be in its place.
//!
//! Along a common eigenvector of Σ and S let f = c w² be the eigenvalue of F = W C Wᵀ, so that h =
//! F^α has p = f^α there. L = E ‖h(z) − η‖² descends by
//!
//! ```text
//! h and stop-gradient      ḟ = 4 f p (λ − c p)
//! the same, isotropic      ḟ = 4 f (λ − c p)
//! no h                     ḟ = −4 f σ
//! h, no stop-gradient      ḟ = −4 f (c p² − 2 λ p + c)
//! ```
//!
//! per unit of the learning rate. The first factor p of the first row is what makes large
//! eigenvalues fast and small ones slow; the isotropic comparison leaves it out. At rest p = λ/c in
//! either.

use super::closed_form::ClosedForm;
use super::course::{Course, Point, Prediction, Rates};
use super::direction::Direction;
use ndarray::Array2;

/// Steps of an integration between two of its points.
const SUBSTEPS: usize = 64;

/// What W follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// The gradient of D(h(z), η) in z, η and h being constants.
    Gradient,
    /// That in h(z), in its place: IsoLoss.
    Isotropic,
    /// The gradient of D(z, η), without h.
    NoPredictor,
    /// The gradient of D(h(z), η) in z and in η.
    NoStopGradient,
}

impl Law {
    /// Every law, in reading order.
    pub const ALL: [Law; 4] = [Law::Gradient, Law::Isotropic, Law::NoPredictor, Law::NoStopGradient];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Law::Gradient => "gradient",
            Law::Isotropic => "isotropic",
            Law::NoPredictor => "no-h",
            Law::NoStopGradient => "no-stop-gradient",
        }
    }

    /// ḟ/f along `direction` at the eigenvalue `f` with h = F^`alpha`: the growth of log f per unit
    /// of the learning rate.
    pub fn rate(self, direction: Direction, alpha: f64, f: f64) -> f64 {
        let (lambda, c, p) = (direction.signal, direction.signal + direction.noise, f.powf(alpha));
        4.0 * match self {
            Law::Gradient => p * (lambda - c * p),
            Law::Isotropic => lambda - c * p,
            Law::NoPredictor => -direction.noise,
            Law::NoStopGradient => -(c * p * p - 2.0 * lambda * p + c),
        }
    }

    /// The eigenvalue that `f` has come to after a learning rate of `time` in all, by Runge and
    /// Kutta's method in log f.
    pub fn after(self, direction: Direction, alpha: f64, f: f64, time: f64) -> f64 {
        let (h, mut log) = (time / SUBSTEPS as f64, f.ln());
        let rate = |log: f64| self.rate(direction, alpha, log.exp());
        for _ in 0..SUBSTEPS {
            let k1 = rate(log);
            let k2 = rate(log + h / 2.0 * k1);
            let k3 = rate(log + h / 2.0 * k2);
            let k4 = rate(log + h * k3);
            log += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        }
        log.exp()
    }

    /// h as the recursion has it where it follows this law; none for a law that it does not have.
    pub fn prediction(self, alpha: f64) -> Option<Prediction> {
        match self {
            Law::Gradient => Some(Prediction::Direct { alpha, isotropic: false }),
            Law::Isotropic => Some(Prediction::Direct { alpha, isotropic: true }),
            Law::NoPredictor => Some(Prediction::Absent),
            Law::NoStopGradient => None,
        }
    }

    /// By how much, as a part, an eigenvalue differs at most from this law after `steps` of the
    /// recursion with the learning rate `rate`, in as many outputs as `world` has directions, W
    /// being diagonal and all eigenvalues beginning at `start`; none for a law that it does not
    /// have.
    pub fn departure(
        self,
        world: &ClosedForm,
        alpha: f64,
        start: f64,
        (steps, rate): (u64, f64),
    ) -> Option<f64> {
        let course = Course::fresh(self.prediction(alpha)?);
        let directions = Direction::of(world);
        let n = directions.len();
        let square = ClosedForm { outputs: n, ..world.clone() };
        let mut point = Point::start(&square, 0);
        let size = |i: usize| (start / (directions[i].signal + directions[i].noise)).sqrt();
        point.encoder = Array2::from_shape_fn((n, n), |(i, j)| if i == j { size(i) } else { 0.0 });
        for _ in 0..steps {
            point.advance(&square, &course, Rates { encoder: rate, predictor: 0.0 });
        }
        let f = point.covariance(&square);
        let off = |i: usize| {
            let expected = self.after(directions[i], alpha, start, steps as f64 * rate);
            (f[[i, i]] / expected - 1.0).abs()
        };
        Some((0..n).map(off).fold(0.0, f64::max))
    }
}

/// The growth of log f of each eigenvalue `f` of E\[z zᵀ\] (d) under the cosine, where h has the
/// eigenvalues `p` (d) along the same axes and views agree (σ → 0): with z_m² = f_m,
///
/// ```text
/// d log f_m / dt = 2 p_m Σ_k p_k (p_k − p_m) f_k / (‖h(z)‖³ ‖z‖)
/// ```
///
/// without the first p_m where the comparison is `isotropic`. t is the learning rate of z itself:
/// how far a step of θ moves z is in no such law, so that only the eigenvalues' order and
/// proportions are told. 0 without h, p being 1.
pub fn cosine_rates(f: &[f64], p: &[f64], isotropic: bool) -> Vec<f64> {
    let both = || f.iter().zip(p);
    let of_h: f64 = both().map(|(f, p)| p * p * f).sum();
    let of_z: f64 = f.iter().sum();
    let lengths = of_h.powf(1.5) * of_z.sqrt();
    if lengths <= 0.0 {
        return vec![0.0; f.len()];
    }
    let rate = |p_m: &f64| {
        let pull: f64 = both().map(|(f, p)| p * (p - p_m) * f).sum();
        2.0 * if isotropic { pull } else { p_m * pull } / lengths
    };
    p.iter().map(rate).collect()
}
