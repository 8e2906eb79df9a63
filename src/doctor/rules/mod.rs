//! From numbers to diagnoses: pure functions of [`Facts`]. Every bound is a constant with its
//! reason beside it.

mod images;
mod method;
mod trials;
mod views;

pub use trials::as_given;

use super::Facts;
use super::diagnosis::Diagnosis;

/// What is wrong, the worst first.
pub fn diagnose(facts: &Facts) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    images::diagnose(facts, &mut found);
    views::diagnose(facts, &mut found);
    method::diagnose(facts, &mut found);
    trials::diagnose(facts, &mut found);
    found.sort_by_key(|diagnosis| diagnosis.severity);
    found
}

/// A learning rate that learns at every scale of this program.
const USUAL_RATE: f64 = 0.1;

/// The `optim.base_lr` that gives it.
fn usual_base_lr(facts: &Facts) -> f64 {
    USUAL_RATE * 256.0 / facts.method.batch as f64
}

/// A rate with two digits that count.
fn short(rate: f64) -> String {
    let digits = (1.0 - rate.abs().max(1e-12).log10().floor()).clamp(0.0, 12.0) as usize;
    if rate >= 1e6 {
        return format!("{rate:.1e}");
    }
    let text = format!("{rate:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_rate_is_written_with_what_counts() {
        assert_eq!(super::short(0.8), "0.8");
        assert_eq!(super::short(0.0125), "0.013");
        assert_eq!(super::short(64.0), "64");
        assert_eq!(super::short(6.25), "6.2");
        assert_eq!(super::short(1.25e30), "1.2e30");
    }
}
