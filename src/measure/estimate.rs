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

/// Spearman's rank correlation of pairs: Pearson's of their ranks, equal numbers sharing the mean
/// of theirs. None for fewer than two pairs, or where all x or all y are equal.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let ranks = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
        let values: Vec<f64> = pairs.iter().map(of).collect();
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| *other < value).count() as f64;
            let equal = values.iter().filter(|other| *other == value).count() as f64;
            below + (equal + 1.0) / 2.0
        };
        values.iter().map(rank).collect()
    };
    let (x, y) = (ranks(|pair| pair.0), ranks(|pair| pair.1));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum() };
    let norm = (product(&x, &x) * product(&y, &y)).sqrt();
    (norm > 0.0).then(|| product(&x, &y) / norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.x: `stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).statistic`.
    #[test]
    fn the_rank_correlation_is_scipys() {
        let pairs = [(1.0, 5.0), (2.0, 6.0), (3.0, 7.0), (4.0, 8.0), (5.0, 7.0)];
        assert!((spearman(&pairs).unwrap() - 0.820_782_681_668_123_3).abs() < 1e-12);
        assert_eq!(spearman(&[(1.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        assert_eq!(spearman(&[(1.0, 2.0), (1.0, 1.0)]), None);
        assert_eq!(spearman(&[]), None);
    }
}
