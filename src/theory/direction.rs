//! The same alternation along one common eigenvector of Σ and S, where it is a recursion of three
//! numbers: how fast it shrinks, and where it comes to rest.

use super::closed_form::ClosedForm;
use super::course::{Course, Prediction, Rates, Targets};

/// Variance of images and of augmentations along an eigenvector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Direction {
    /// λ, an eigenvalue of Σ.
    pub signal: f64,
    /// σ, that of S.
    pub noise: f64,
}

impl Direction {
    /// Those of `world`.
    pub fn of(world: &ClosedForm) -> Vec<Direction> {
        let pairs = world.signal.iter().zip(&world.noise);
        pairs.map(|(&signal, &noise)| Direction { signal, noise }).collect()
    }

    /// c = λ + σ, the variance of views.
    fn views(self) -> f64 {
        self.signal + self.noise
    }

    /// λ / c: how much of the variance of views is the image's.
    pub fn gain(self) -> f64 {
        self.signal / self.views()
    }

    /// By what w shrinks in the long run in an iteration of `course`, from one update of all η to
    /// the next: below 1 the direction collapses. None where (w, a) goes through no linear map:
    /// with a learned predictor ([`Direction::resting_predictor`]), or the best one for outputs of
    /// the past.
    pub fn rate(self, course: &Course, rates: Rates) -> Option<f64> {
        // The larger root of x² − trace·x + determinant, of a map of (w, a) with real eigenvalues
        // or their common modulus.
        let largest = |trace: f64, determinant: f64| {
            let under = trace * trace / 4.0 - determinant;
            if under < 0.0 { determinant.sqrt() } else { trace.abs() / 2.0 + under.sqrt() }
        };
        let curvature = 2.0 * self.views() + course.decay;
        let one = 1.0 - rates.encoder * curvature;
        match (course.prediction, course.targets) {
            (Prediction::Absent, Targets::Updated { m, k, .. }) => {
                // a′ = m a + (1−m) w, w′ = left·w + added·a′.
                let left = if course.exact { 0.0 } else { one.powi(k as i32) };
                let added =
                    if course.exact { self.gain() } else { (1.0 - left) * 2.0 * self.signal / curvature };
                Some(largest(left + added * (1.0 - m) + m, left * m))
            }
            (Prediction::Absent, Targets::Joint) => {
                let a = 1.0 - 2.0 * rates.encoder * self.signal;
                let coupling = 4.0 * rates.encoder * rates.encoder * self.signal * self.signal;
                Some(largest(one + a, one * a - coupling))
            }
            // At p = λ/c the prediction is as good as it can be, and nothing but decay pulls on w.
            (Prediction::Best { every: 1 }, Targets::Updated { m: 0.0, k: 1, .. }) => {
                Some((1.0 - rates.encoder * course.decay).abs())
            }
            _ => None,
        }
    }

    /// Where a learned predictor comes to rest with w alive: 2c p² − 2λ p + decay = 0, the larger
    /// root, at which w² = p². None where weight decay is above λ²/(2c): then the direction
    /// collapses (the condition of Tian, Chen & Ganguli 2021, with decay and noise in this
    /// program's units).
    pub fn resting_predictor(self, decay: f64) -> Option<f64> {
        let under = self.signal * self.signal - 2.0 * self.views() * decay;
        (under >= 0.0).then(|| (self.signal + under.sqrt()) / (2.0 * self.views()))
    }
}
