//! What seeds say for and against a claim: e-values of signs, and what stands beside them.
//!
//! In every seed a claim holds, fails, or ties. The estimand is whether it holds in more than half
//! of all seeds without a tie, p > ½. Under p ≤ ½ the likelihood ratio of any p > ½ to ½ has a mean
//! of at most 1 after every seed, and so has its average over p (a beta-binomial mixture, uniform
//! on (½, 1)):
//!
//! ```text
//! E = 2^(n+1) ∫_½^1 p^h (1−p)^f dp,   h seeds hold, f fail, n = h + f
//! ```
//!
//! By Ville's inequality such an E reaches [`DECIDED`] at any time with probability 1/40 at most:
//! 2.5 % a side, whoever looks after however many seeds and goes on where nothing is decided
//! (Robbins 1970; Ramdas et al. 2023).

use statrs::distribution::{Beta, ContinuousCDF};

/// The evidence that decides: 8 of 8 seeds, 9 of 9, 11 of 12, 14 of 16, 17 of 20.
pub const DECIDED: f64 = 40.0;

/// More evidence than this is shown as this, which a file can hold.
const MOST: f64 = f64::MAX;

/// In how many seeds a claim holds.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use simsiam_em::measure::evidence::{DECIDED, Signs};
///
/// // Eight seeds of eight decide a claim, seven of eight do not.
/// assert!(Signs { holds: 8, fails: 0, ties: 0 }.e_for() >= DECIDED);
/// assert!(Signs { holds: 7, fails: 1, ties: 0 }.e_for() < DECIDED);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Seeds in which the claim holds.
    pub holds: u64,
    /// Seeds in which the claim fails.
    pub fails: u64,
    /// Seeds that say neither: no evidence.
    pub ties: u64,
}

impl Signs {
    /// All seeds, ties among them.
    pub fn seeds(&self) -> u64 {
        self.holds + self.fails + self.ties
    }

    /// The evidence that the claim holds in more than half of all seeds; finite.
    pub fn e_for(&self) -> f64 {
        ln_e(self.holds, self.fails).exp().min(MOST)
    }

    /// The evidence that the claim fails in more than half of all seeds; finite.
    pub fn e_against(&self) -> f64 {
        ln_e(self.fails, self.holds).exp().min(MOST)
    }

    /// How many further seeds, all of them with the majority, would decide; 0 where it is decided.
    pub fn needed(&self) -> u64 {
        let (more, fewer) = (self.holds.max(self.fails), self.holds.min(self.fails));
        // E grows with every seed that agrees, by a factor that goes to 2.
        (0..).find(|further| ln_e(more + further, fewer) >= DECIDED.ln()).unwrap_or(u64::MAX)
    }
}

/// ln E for a side with which `agree` seeds agree and `differ` do not.
///
/// The integral is an incomplete beta function of whole numbers, 2^(n+1) B(a+1, d+1) I_½(d+1, a+1)
/// for a and d seeds, which is a finite sum of positive terms: 1/(d+1) · Σ_{i ≤ a} Π_{l < i}
/// (a−l) / (d+2+l).
fn ln_e(agree: u64, differ: u64) -> f64 {
    const LARGE: f64 = 1e200;
    let (a, d) = (agree as f64, differ as f64);
    let (mut term, mut sum, mut scale) = (1.0, 1.0, 0.0);
    for l in 0..agree {
        let l = l as f64;
        term *= (a - l) / (d + 2.0 + l);
        sum += term;
        if sum > LARGE {
            term /= LARGE;
            sum /= LARGE;
            scale += LARGE.ln();
        }
    }
    sum.ln() + scale - (d + 1.0).ln()
}

/// The 95 % interval of Clopper and Pearson (1934) for a share of which `count` of `all` were seen:
/// its ends, between 0 and 1. Everything is possible where nothing was seen.
pub fn clopper_pearson(count: u64, all: u64) -> (f64, f64) {
    let quantile =
        |a: u64, b: u64, at: f64| Beta::new(a as f64, b as f64).map_or(f64::NAN, |beta| beta.inverse_cdf(at));
    let low = if count == 0 { 0.0 } else { quantile(count, all - count + 1, 0.025) };
    let high = if count >= all { 1.0 } else { quantile(count + 1, all - count, 0.975) };
    (low, high)
}

/// Which of the hypotheses with these e-values are rejected so that at most `rate` of all
/// rejections are false in the mean, however the e-values depend on each other (e-BH, Wang & Ramdas
/// 2022): the k largest for the largest k of which all are at least K / (rate · k).
pub fn e_benjamini_hochberg(e: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted = e.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let bound = |rejected: usize| e.len() as f64 / (rate * rejected as f64);
    let rejected = (1..=e.len()).rev().find(|k| sorted[k - 1] >= bound(*k));
    e.iter().map(|e| rejected.is_some_and(|k| *e >= bound(k))).collect()
}

/// Lower quartile, median and upper quartile of finite values, by linear interpolation between
/// ranks (type 7 of Hyndman & Fan 1996); none without values.
pub fn quartiles(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = |part: f64| {
        let place = part * last as f64;
        let below = place.floor() as usize;
        let above = (below + 1).min(last);
        // Equal neighbours stay what they are.
        sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
    };
    Some([0.25, 0.5, 0.75].map(at))
}
