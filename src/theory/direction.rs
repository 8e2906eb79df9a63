//! The same alternation along one common eigenvector of Σ and S: a recursion of three numbers.

use super::linear::Rule;

/// Variance of images and of augmentations along an eigenvector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Direction {
    /// λ, an eigenvalue of Σ.
    pub signal: f64,
    /// σ, that of S.
    pub noise: f64,
}

/// Encoder, target and predictor along a direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalars {
    /// w.
    pub encoder: f64,
    /// a.
    pub target: f64,
    /// p.
    pub predictor: f64,
}

impl Direction {
    /// c = λ + σ, the variance of views.
    fn views(self) -> f64 {
        self.signal + self.noise
    }

    /// λ / c: how much of the variance of views is the image's.
    pub fn gain(self) -> f64 {
        self.signal / self.views()
    }

    /// What k gradient steps against a fixed target leave of w − (λ/c) a: the factor, and what they add of a.
    fn descent(self, k: usize, rate: f64, decay: f64) -> (f64, f64) {
        let curvature = 2.0 * self.views() + decay;
        let left = (1.0 - rate * curvature).powi(k as i32);
        (left, (1.0 - left) * 2.0 * self.signal / curvature)
    }

    /// One iteration of `rule`.
    pub fn step(self, rule: Rule, s: Scalars) -> Scalars {
        let (signal, views) = (self.signal, self.views());
        match rule {
            Rule::Exact => Scalars { encoder: self.gain() * s.encoder, target: s.encoder, ..s },
            Rule::Steps { k, rate, decay } => {
                let (left, added) = self.descent(k, rate, decay);
                Scalars { encoder: (left + added) * s.encoder, target: s.encoder, ..s }
            }
            Rule::Memory { m, k, rate, decay } => {
                let target = m * s.target + (1.0 - m) * s.encoder;
                let (left, added) = self.descent(k, rate, decay);
                Scalars { encoder: left * s.encoder + added * target, target, ..s }
            }
            Rule::Joint { rate, target_rate } => Scalars {
                encoder: s.encoder - 2.0 * rate * (views * s.encoder - signal * s.target),
                target: s.target - 2.0 * target_rate * signal * (s.target - s.encoder),
                ..s
            },
            Rule::BestPredictor { rate, decay } => {
                // At p = λ/c the prediction is as good as it can be, and nothing pulls on w.
                Scalars {
                    encoder: (1.0 - rate * decay) * s.encoder,
                    target: s.encoder,
                    predictor: self.gain(),
                }
            }
            Rule::LearnedPredictor { rate, predictor_rate, decay } => {
                let (w, p) = (s.encoder, s.predictor);
                let outer = 2.0 * w * (p * views - signal);
                Scalars {
                    encoder: w - rate * (p * outer + decay * w),
                    target: w,
                    predictor: p - predictor_rate * (w * outer + decay * p),
                }
            }
        }
    }

    /// By what w shrinks in an iteration of `rule` in the long run: below 1 the direction collapses. None
    /// for [`Rule::LearnedPredictor`], which is not linear ([`Direction::resting_predictor`]).
    pub fn rate(self, rule: Rule) -> Option<f64> {
        // The larger root of x² − trace·x + determinant, of a map of (w, a) with real eigenvalues or their
        // common modulus.
        let largest = |trace: f64, determinant: f64| {
            let under = trace * trace / 4.0 - determinant;
            if under < 0.0 { determinant.sqrt() } else { trace.abs() / 2.0 + under.sqrt() }
        };
        match rule {
            Rule::Exact => Some(self.gain()),
            Rule::Steps { k, rate, decay } => {
                let (left, added) = self.descent(k, rate, decay);
                Some((left + added).abs())
            }
            Rule::Memory { m, k, rate, decay } => {
                // a′ = m a + (1−m) w, w′ = left·w + added·a′.
                let (left, added) = self.descent(k, rate, decay);
                Some(largest(left + added * (1.0 - m) + m, left * m))
            }
            Rule::Joint { rate, target_rate } => {
                let (w, a) = (1.0 - 2.0 * rate * self.views(), 1.0 - 2.0 * target_rate * self.signal);
                let coupling = 4.0 * rate * target_rate * self.signal * self.signal;
                Some(largest(w + a, w * a - coupling))
            }
            Rule::BestPredictor { rate, decay } => Some((1.0 - rate * decay).abs()),
            Rule::LearnedPredictor { .. } => None,
        }
    }

    /// Where a learned predictor comes to rest with w alive: 2c p² − 2λ p + decay = 0, the larger root, at
    /// which w² = p². None where weight decay is above λ²/(2c): then the direction collapses (the condition
    /// of Tian, Chen & Ganguli 2021, with decay and noise in this program's units).
    pub fn resting_predictor(self, decay: f64) -> Option<f64> {
        let under = self.signal * self.signal - 2.0 * self.views() * decay;
        (under >= 0.0).then(|| (self.signal + under.sqrt()) / (2.0 * self.views()))
    }
}
