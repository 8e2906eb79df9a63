//! Where the flow of one input direction ends (Ponce, Hebert & Terver 2025, Sec. 4).
//!
//! An encoder a (d) and a predictor B (d, d) of a scalar image follow, with r = c B a − λ ξ,
//!
//! ```text
//! ȧ = −2 Bᵀ r − μ a    Ḃ = −2 r aᵀ − μ B    ξ = a, or with a momentum encoder ξ̇ = κ (a − ξ)
//! ```
//!
//! which is [`Direction`]'s recursion in continuous time. It rests at 0 and, where λ² ≥ 2cμ, with
//! ‖a‖ one of the two roots of 2c r² − 2|λ| r + μ = 0: the outer one is stable, the inner one is
//! not.

use super::Direction;
use crate::rng::{Purpose, Stream, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Error of a step of the integration at most, for numbers of size 1.
const TOLERANCE: f64 = 1e-7;
/// The flow ends where it moves by less than this per unit of time. A momentum encoder's slow rates
/// make much of little: at 2e-5 one course in ten is not yet where it rests.
const AT_REST: f64 = 1e-6;
/// How near ‖a‖ is to a resting place that it is said to have reached.
const NEAR: f64 = 1e-3;
/// Steps of the integration at most.
const MOST_STEPS: usize = 200_000;
/// Draws of a direction until one has an equilibrium beside 0: half of them have.
const MOST_DRAWS: u64 = 64;

/// Where a course ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basin {
    /// At the outer equilibrium.
    Outer,
    /// At the inner one.
    Inner,
    /// At 0: collapse.
    Zero,
    /// Nowhere within the steps that are made.
    Unresolved,
}

/// One direction with a weight decay μ, and the momentum encoder's rate κ where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// λ, of either sign, and σ = c − λ.
    pub direction: Direction,
    /// μ.
    pub decay: f64,
    /// κ.
    pub momentum_encoder: Option<f64>,
}

impl Flow {
    /// ‖a‖ at the inner and the outer equilibrium; none where 0 is the only one.
    pub fn radii(&self) -> Option<[f64; 2]> {
        let (c, lambda) = (self.direction.signal + self.direction.noise, self.direction.signal.abs());
        let under = lambda * lambda - 2.0 * c * self.decay;
        let root = |sign: f64| (lambda + sign * under.sqrt()) / (2.0 * c);
        (under >= 0.0).then(|| [root(-1.0), root(1.0)])
    }

    /// The derivative of `state`, which is a (d), B (d, d) row by row and, with a momentum encoder,
    /// ξ (d).
    pub fn velocity(&self, d: usize, state: &[f64]) -> Vec<f64> {
        let mut v = vec![0.0; state.len()];
        self.put_velocity(d, state, &mut v);
        v
    }

    /// [`Flow::velocity`] into `v`, without memory of its own: a course asks for it thousands of
    /// times.
    fn put_velocity(&self, d: usize, state: &[f64], v: &mut [f64]) {
        let (a, rest) = state.split_at(d);
        let (b, xi) = rest.split_at(d * d);
        let target = if xi.is_empty() { a } else { xi };
        let c = self.direction.signal + self.direction.noise;
        for (v, a) in v.iter_mut().zip(a) {
            *v = -self.decay * a;
        }
        for (i, row) in b.chunks_exact(d).enumerate() {
            let predicted: f64 = row.iter().zip(a).map(|(b, a)| b * a).sum();
            let r = c * predicted - self.direction.signal * target[i];
            for j in 0..d {
                v[j] -= 2.0 * row[j] * r;
                v[d + i * d + j] = -2.0 * r * a[j] - self.decay * row[j];
            }
        }
        if let Some(rate) = self.momentum_encoder {
            for i in 0..d {
                v[d + d * d + i] = rate * (a[i] - target[i]);
            }
        }
    }

    /// Where the course from a = `encoder` (d) and B = `predictor` (d, d) ends; ξ begins as a.
    ///
    /// Bogacki and Shampine's method of third order, whose steps grow and shrink with its error.
    pub fn end(&self, encoder: &[f64], predictor: &[f64]) -> Basin {
        let d = encoder.len();
        let mut state = [encoder, predictor].concat();
        if self.momentum_encoder.is_some() {
            state.extend(encoder);
        }
        let n = state.len();
        let [mut k1, mut k2, mut k3, mut k4, mut between, mut next] = [(); 6].map(|()| vec![0.0; n]);
        let mut h = 1e-3;
        self.put_velocity(d, &state, &mut k1);
        for _ in 0..MOST_STEPS {
            if k1.iter().all(|v| v.abs() < AT_REST) {
                break;
            }
            if self.only_decays(d, &state) {
                return Basin::Zero;
            }
            (0..n).for_each(|i| between[i] = state[i] + h / 2.0 * k1[i]);
            self.put_velocity(d, &between, &mut k2);
            (0..n).for_each(|i| between[i] = state[i] + 0.75 * h * k2[i]);
            self.put_velocity(d, &between, &mut k3);
            let to = |i: usize| state[i] + h * (2.0 / 9.0 * k1[i] + k2[i] / 3.0 + 4.0 / 9.0 * k3[i]);
            (0..n).for_each(|i| next[i] = to(i));
            self.put_velocity(d, &next, &mut k4);
            let error = (0..n)
                .map(|i| (h * (-5.0 / 72.0 * k1[i] + k2[i] / 12.0 + k3[i] / 9.0 - k4[i] / 8.0)).abs())
                .fold(0.0, f64::max);
            if error <= TOLERANCE {
                std::mem::swap(&mut state, &mut next);
                std::mem::swap(&mut k1, &mut k4);
            }
            let factor = 0.9 * (TOLERANCE / error.max(1e-300)).cbrt();
            h *= factor.clamp(0.2, 5.0);
        }
        self.nearest(&state[..d])
    }

    /// Whether all shrinks from here on: with M the largest norm of a, B and ξ, none grows by more
    /// than 2|λ| M² per unit of time and a and B decay by μM, while the terms in c pull towards 0.
    fn only_decays(&self, d: usize, state: &[f64]) -> bool {
        let largest = state.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        2.0 * self.direction.signal.abs() * d as f64 * largest < self.decay / 2.0
    }

    fn nearest(&self, encoder: &[f64]) -> Basin {
        let radius = encoder.iter().map(|a| a * a).sum::<f64>().sqrt();
        let at = |place: f64| (radius - place).abs() < NEAR;
        match self.radii() {
            Some([_, outer]) if at(outer) => Basin::Outer,
            _ if at(0.0) => Basin::Zero,
            Some([inner, _]) if at(inner) => Basin::Inner,
            _ => Basin::Unresolved,
        }
    }
}

/// A trial: a direction with an equilibrium beside 0, and a start.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The flow without a momentum encoder.
    pub flow: Flow,
    /// a (d).
    pub encoder: Vec<f64>,
    /// B (d, d).
    pub predictor: Vec<f64>,
}

impl Trial {
    /// Trial `index` with `d` outputs: c, λ and ½μ uniform on [0, 3], [−1, 1] and [0.01, 0.1] as in
    /// the source, drawn again until λ² ≥ 2cμ; a and B of normal numbers, which the source does not
    /// say.
    pub fn draw(seed: u64, index: u64, d: usize) -> Trial {
        let mut rng = stream(seed, Purpose::Probes, index, d as u64);
        let mut flow = drawn(&mut rng);
        for _ in 0..MOST_DRAWS {
            if flow.radii().is_some() {
                break;
            }
            flow = drawn(&mut rng);
        }
        let mut normal = |n: usize| (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
        Trial { flow, encoder: normal(d), predictor: normal(d * d) }
    }
}

fn drawn(rng: &mut Stream) -> Flow {
    let mut uniform = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
    let (views, signal, half_decay) = (uniform(0.0, 3.0), uniform(-1.0, 1.0), uniform(0.01, 0.1));
    let direction = Direction { signal, noise: views - signal };
    Flow { direction, decay: 2.0 * half_decay, momentum_encoder: None }
}
