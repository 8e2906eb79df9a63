//! Means over seeds with 95 % intervals (Student's t).

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean over seeds with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seeds.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Half the width of the interval; none with one seed.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// The estimate from one value per seed; none without values.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let half_width = (n > 1).then(|| {
            let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
            let standard_error = (squares / (n - 1) as f64 / n as f64).sqrt();
            quantile(n - 1) * standard_error
        });
        Some(Estimate { n, mean, half_width })
    }
}

/// The 97.5 % quantile of Student's t.
fn quantile(degrees: usize) -> f64 {
    StudentsT::new(0.0, 1.0, degrees as f64).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975))
}
