//! The alternation a second and a third time, as oracles of `simsiam_em::theory`: in matrices,
//! whose Σ and S need no common coordinates, and along one common eigenvector in three numbers.

use ndarray::{Array2, Axis};
use simsiam_em::measure::collapse::rankme;
use simsiam_em::theory::{Course, Direction, Prediction, Rates, Targets};

/// What one iteration of the outer loop does. Rates are SGD's, decay is added to the gradient as in
/// PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Both half-steps exactly: η_x = E_T\[F(T(x))\], then the W that minimises L.
    Exact,
    /// The exact η, then `k` gradient steps on W. One step on a one-sample η has the same mean.
    Steps {
        /// Steps per η.
        k: usize,
        /// Learning rate.
        rate: f64,
        /// Weight decay.
        decay: f64,
    },
    /// η ← m·η + (1−m)·E_T\[F(T(x))\], then `k` gradient steps on W: the memory bank, an iteration
    /// an epoch.
    Memory {
        /// Momentum.
        m: f64,
        /// Steps per update.
        k: usize,
        /// Learning rate.
        rate: f64,
        /// Weight decay.
        decay: f64,
    },
    /// One step of gradient descent on W and A together: what stop-gradient forbids.
    Joint {
        /// Learning rate of both.
        rate: f64,
    },
    /// One step on W against η_x = F(T′(x)) through the linear predictor that is best for W now.
    BestPredictor {
        /// Learning rate.
        rate: f64,
        /// Weight decay.
        decay: f64,
    },
    /// One step on W and on the linear predictor together, as SimSiam trains them.
    LearnedPredictor {
        /// Learning rate of W.
        rate: f64,
        /// That of the predictor.
        predictor_rate: f64,
        /// Weight decay of both.
        decay: f64,
    },
}

/// Gaussian images and Gaussian augmentations.
#[derive(Clone, Debug)]
pub struct World {
    /// Σ, the covariance of images (n, n).
    signal: Array2<f64>,
    /// C = Σ + S, the covariance of views (n, n).
    views: Array2<f64>,
    /// M = Σ C⁻¹: the best linear guess of x from a view is M(x + ε).
    gain: Array2<f64>,
}

/// W (d, n), A (d, n) and the predictor P (d, d), which rules without one leave alone.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The encoder, F(x) = W x.
    pub encoder: Array2<f64>,
    /// The targets, η_x = A x.
    pub target: Array2<f64>,
    /// The predictor, h(z) = P z.
    pub predictor: Array2<f64>,
}

impl Rule {
    /// The rule as a course with its learning rates; all images belong to one batch.
    pub fn course(self) -> (Course, Rates) {
        let updated = |m: f64, k: usize| Targets::Updated { m, k: k as u64, batches: 1 };
        let (targets, prediction, decay, encoder, predictor) = match self {
            Rule::Exact => (updated(0.0, 1), Prediction::Absent, 0.0, 0.0, 0.0),
            Rule::Steps { k, rate, decay } => (updated(0.0, k), Prediction::Absent, decay, rate, 0.0),
            Rule::Memory { m, k, rate, decay } => (updated(m, k), Prediction::Absent, decay, rate, 0.0),
            Rule::Joint { rate } => (Targets::Joint, Prediction::Absent, 0.0, rate, 0.0),
            Rule::BestPredictor { rate, decay } => {
                (updated(0.0, 1), Prediction::Best { every: 1 }, decay, rate, 0.0)
            }
            Rule::LearnedPredictor { rate, predictor_rate, decay } => {
                (updated(0.0, 1), Prediction::Learned { symmetric: false }, decay, rate, predictor_rate)
            }
        };
        let exact = self == Rule::Exact;
        let course = Course { targets, prediction, exact, normalised: false, decay, predictor_decay: decay };
        (course, Rates { encoder, predictor })
    }
}

impl State {
    /// The encoder with its own exact targets, and a predictor.
    pub fn new(encoder: Array2<f64>, predictor: Array2<f64>) -> State {
        State { target: encoder.clone(), encoder, predictor }
    }
}

fn to_nalgebra(a: &Array2<f64>) -> nalgebra::DMatrix<f64> {
    nalgebra::DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]])
}

/// a⁻¹ for a symmetric positive definite a; none where it is not.
fn inverse(a: &Array2<f64>) -> Option<Array2<f64>> {
    let inverse = to_nalgebra(a).cholesky()?.inverse();
    Some(Array2::from_shape_fn(a.dim(), |(i, j)| inverse[(i, j)]))
}

impl World {
    /// Images of covariance `signal` Σ and augmentations of covariance `noise` S.
    pub fn new(signal: Array2<f64>, noise: &Array2<f64>) -> World {
        let views = &signal + noise;
        let inverse = inverse(&views).expect("Σ + S is positive definite");
        World { gain: signal.dot(&inverse), signal, views }
    }

    /// L(W, A), with P W in the place of W for rules with a predictor.
    pub fn loss(&self, encoder: &Array2<f64>, target: &Array2<f64>) -> f64 {
        let trace = |a: &Array2<f64>, middle: &Array2<f64>, b: &Array2<f64>| (&a.dot(middle) * b).sum();
        trace(encoder, &self.views, encoder) - 2.0 * trace(encoder, &self.signal, target)
            + trace(target, &self.signal, target)
    }

    /// The covariance of outputs, W C Wᵀ (d, d).
    pub fn outputs(&self, encoder: &Array2<f64>) -> Array2<f64> {
        encoder.dot(&self.views).dot(&encoder.t())
    }

    /// ∂L/∂W = 2 (W C − A Σ).
    fn gradient(&self, encoder: &Array2<f64>, target: &Array2<f64>) -> Array2<f64> {
        2.0 * (encoder.dot(&self.views) - target.dot(&self.signal))
    }

    /// The predictor that is best for W: P = W Σ Wᵀ (W C Wᵀ)⁻¹; none where outputs have collapsed
    /// onto a subspace.
    pub fn best_predictor(&self, encoder: &Array2<f64>) -> Option<Array2<f64>> {
        let signal = encoder.dot(&self.signal).dot(&encoder.t());
        Some(signal.dot(&inverse(&self.outputs(encoder))?))
    }

    /// One iteration of `rule`.
    pub fn step(&self, rule: Rule, state: &mut State) {
        match rule {
            Rule::Exact => {
                // E_ε[W(x + ε)] = W x; then W = argmin E‖W(x + ε) − A x‖² = A Σ C⁻¹.
                state.target = state.encoder.clone();
                state.encoder = state.target.dot(&self.gain);
            }
            Rule::Steps { k, rate, decay } => {
                state.target = state.encoder.clone();
                self.descend(state, k, rate, decay);
            }
            Rule::Memory { m, k, rate, decay } => {
                state.target = m * &state.target + (1.0 - m) * &state.encoder;
                self.descend(state, k, rate, decay);
            }
            Rule::Joint { rate } => {
                let target = 2.0 * (&state.target - &state.encoder).dot(&self.signal);
                state.encoder = &state.encoder - rate * self.gradient(&state.encoder, &state.target);
                state.target = &state.target - rate * target;
            }
            Rule::BestPredictor { rate, decay } => {
                if let Some(predictor) = self.best_predictor(&state.encoder) {
                    state.predictor = predictor;
                }
                self.through_predictor(state, rate, 0.0, decay);
            }
            Rule::LearnedPredictor { rate, predictor_rate, decay } => {
                self.through_predictor(state, rate, predictor_rate, decay);
            }
        }
    }

    fn descend(&self, state: &mut State, k: usize, rate: f64, decay: f64) {
        for _ in 0..k {
            let gradient = self.gradient(&state.encoder, &state.target) + decay * &state.encoder;
            state.encoder = &state.encoder - rate * gradient;
        }
    }

    /// One step of L(P W, sg W): with G = 2 (P W C − W Σ), ∂W = Pᵀ G and ∂P = G Wᵀ.
    fn through_predictor(&self, state: &mut State, rate: f64, predictor_rate: f64, decay: f64) {
        let (w, p) = (&state.encoder, &state.predictor);
        let outer = self.gradient(&p.dot(w), w);
        let encoder = w - rate * (p.t().dot(&outer) + decay * w);
        let predictor = p - predictor_rate * (outer.dot(&w.t()) + decay * p);
        state.target = w.clone();
        (state.encoder, state.predictor) = (encoder, predictor);
    }

    /// Scales each output to variance 1, as a batch norm without affine parameters does. A silent
    /// output stays silent.
    pub fn normalise(&self, encoder: &mut Array2<f64>) {
        let variances = self.outputs(encoder).diag().to_owned();
        for (mut row, variance) in encoder.axis_iter_mut(Axis(0)).zip(variances) {
            if variance > 0.0 {
                row /= variance.sqrt();
            }
        }
    }

    /// RankMe of the outputs.
    pub fn effective_rank(&self, encoder: &Array2<f64>) -> f64 {
        let variances = to_nalgebra(&self.outputs(encoder)).symmetric_eigenvalues();
        rankme(&variances.iter().map(|variance| variance.max(0.0).sqrt()).collect::<Vec<_>>())
    }
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

/// One iteration of `rule` along `direction`.
pub fn step(direction: Direction, rule: Rule, s: Scalars) -> Scalars {
    let (signal, views) = (direction.signal, direction.signal + direction.noise);
    // What k gradient steps against a fixed target leave of w, and what they add of a.
    let descent = |k: usize, rate: f64, decay: f64| {
        let curvature = 2.0 * views + decay;
        let left = (1.0 - rate * curvature).powi(k as i32);
        (left, (1.0 - left) * 2.0 * signal / curvature)
    };
    match rule {
        Rule::Exact => Scalars { encoder: direction.gain() * s.encoder, target: s.encoder, ..s },
        Rule::Steps { k, rate, decay } => {
            let (left, added) = descent(k, rate, decay);
            Scalars { encoder: (left + added) * s.encoder, target: s.encoder, ..s }
        }
        Rule::Memory { m, k, rate, decay } => {
            let target = m * s.target + (1.0 - m) * s.encoder;
            let (left, added) = descent(k, rate, decay);
            Scalars { encoder: left * s.encoder + added * target, target, ..s }
        }
        Rule::Joint { rate } => Scalars {
            encoder: s.encoder - 2.0 * rate * (views * s.encoder - signal * s.target),
            target: s.target - 2.0 * rate * signal * (s.target - s.encoder),
            ..s
        },
        Rule::BestPredictor { rate, decay } => {
            // At p = λ/c the prediction is as good as it can be, and nothing pulls on w.
            Scalars {
                encoder: (1.0 - rate * decay) * s.encoder,
                target: s.encoder,
                predictor: direction.gain(),
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
