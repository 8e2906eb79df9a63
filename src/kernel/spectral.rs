//! Functions of a symmetric matrix by its eigenvalues, and the filters of outputs that are such
//! functions (Zhuo et al. 2023).

use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

/// √ of the rows of a batch in whose units the logarithms take singular values.
const UNIT: f64 = 16.0;

/// What becomes of the singular value s of a batch of outputs along one of its axes.
///
/// The root mean square of the outputs along the axis is r = s/√n for n rows. A power's unit is no
/// matter to a loss of directions. The logarithms take s as a batch of 256 rows has it, s = 16 r,
/// whatever the batch is: where it is 256, as in the source, that is s itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// r to a power.
    #[default]
    Power,
    /// log s, which turns axes round where s is below 1.
    Log,
    /// log(s + 1).
    LogPlusOne,
    /// log(s² + 1).
    LogSquarePlusOne,
}

impl Filter {
    /// Every filter, in reading order.
    pub const ALL: [Filter; 4] = [Filter::Power, Filter::Log, Filter::LogPlusOne, Filter::LogSquarePlusOne];

    /// Its name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Power => "power",
            Filter::Log => "log",
            Filter::LogPlusOne => "log-plus-one",
            Filter::LogSquarePlusOne => "log-square-plus-one",
        }
    }

    /// What becomes of a root mean square `r`; only a power has an `exponent`. The logarithm of 0,
    /// where there is nothing that it could be multiplied with, is that of the least number.
    pub fn of(self, r: f64, exponent: f64) -> f64 {
        let s = UNIT * r;
        match self {
            Filter::Power => r.powf(exponent),
            Filter::Log => s.max(f64::MIN_POSITIVE).ln(),
            Filter::LogPlusOne => s.ln_1p(),
            Filter::LogSquarePlusOne => (s * s).ln_1p(),
        }
    }
}

/// V diag(g(λ)) Vᵀ (d, d) of a symmetric matrix V diag(λ) Vᵀ (d, d) of finite numbers; `g` is given
/// an eigenvalue and the largest of all, and what is 0 but for rounding as 0 or more.
pub fn of_symmetric(matrix: DMatrix<f64>, g: impl Fn(f64, f64) -> f64) -> DMatrix<f64> {
    let d = matrix.nrows();
    let SymmetricEigen { eigenvectors: v, eigenvalues } = matrix.symmetric_eigen();
    let largest = eigenvalues.max();
    let mut scaled = v.clone();
    for (mut column, eigenvalue) in scaled.column_iter_mut().zip(&eigenvalues) {
        column *= g(eigenvalue.max(0.0), largest);
    }
    let w = scaled * v.transpose();
    DMatrix::from_fn(d, d, |i, j| 0.5 * (w[(i, j)] + w[(j, i)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_times_itself_is_the_matrix() {
        let matrix = DMatrix::from_row_slice(3, 3, &[2.5, 1.5, 0.0, 1.5, 2.5, 0.2, 0.0, 0.2, 0.4]);
        let root = of_symmetric(matrix.clone(), |eigenvalue, _| eigenvalue.sqrt());
        assert!((&root * &root - matrix).amax() < 1e-12);
    }

    #[test]
    fn logarithms_are_those_of_the_singular_value_of_256_rows() {
        let r = 0.25;
        let expected = [r * r, 4f64.ln(), 5f64.ln(), 17f64.ln()];
        for (filter, expected) in Filter::ALL.into_iter().zip(expected) {
            assert!((filter.of(r, 2.0) - expected).abs() < 1e-12, "{filter:?}");
        }
    }
}
