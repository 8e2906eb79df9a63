//! Whether the update is the gradient of anything (Ponce, Hebert & Terver 2025).
//!
//! With a fresh target and a predictor a step follows the field
//!
//! ```text
//! v_W = −2 Pᵀ(P W C − W Σ)    v_P = −2 (P W C − W Σ) Wᵀ
//! ```
//!
//! A field is a gradient if and only if its Jacobian J is symmetric. How far it is from that is the
//! antisymmetric share ‖J − Jᵀ‖² / (‖J − Jᵀ‖² + ‖J + Jᵀ‖²): 0 for a gradient, ½ for a matrix
//! without structure, 1 for a rotation.
//!
//! Weight decay adds a multiple of the identity to J, the gradient of ½μ‖θ‖², and is left out; so
//! are learning rates: where that of P is another, P is measured in other units.

use super::closed_form::ClosedForm;
use super::course::{Course, Prediction, Targets, best_predictor, inverse, views};
use ndarray::{Array1, Array2};

/// Numbers of W and P at most of which a Jacobian is made.
const MOST: usize = 1024;

/// The antisymmetric share of the Jacobian of the field that a step of `course` follows at W =
/// `encoder` (d, n) and P = `predictor` (d, d), exactly: all of J is made.
///
/// None where a step follows no field in θ alone, which it does with a target of its own step, one
/// step against each, gradient steps and outputs that are not normalised; and where W and P have
/// more than a thousand numbers.
pub fn antisymmetry(
    world: &ClosedForm,
    course: &Course,
    encoder: &Array2<f64>,
    predictor: &Array2<f64>,
) -> Option<f64> {
    let fresh = matches!(course.targets, Targets::Updated { m: 0.0, k: 1, .. });
    let trains = matches!(course.prediction, Prediction::Learned { .. });
    let numbers = encoder.len() + if trains { predictor.len() } else { 0 };
    let whole = matches!(
        course.prediction,
        Prediction::Absent | Prediction::Best { every: 1 } | Prediction::Learned { .. }
    );
    if !fresh || !whole || course.exact || course.normalised || numbers > MOST {
        return None;
    }
    let field = Field { signal: Array1::from(world.signal.clone()), views: views(world), encoder, predictor };
    let columns: Vec<Array1<f64>> =
        (0..numbers).map(|at| field.along(course.prediction, at)).collect::<Option<_>>()?;
    share_of(&columns)
}

/// The antisymmetric share of the matrix with these columns; none where it is 0.
fn share_of(columns: &[Array1<f64>]) -> Option<f64> {
    let (mut odd, mut even) = (0.0, 0.0);
    for (j, column) in columns.iter().enumerate() {
        for (i, other) in columns.iter().enumerate() {
            odd += (column[i] - other[j]).powi(2);
            even += (column[i] + other[j]).powi(2);
        }
    }
    (odd + even > 0.0).then(|| odd / (odd + even))
}

/// The field around a point.
struct Field<'a> {
    /// Σ's diagonal.
    signal: Array1<f64>,
    /// C's diagonal.
    views: Array1<f64>,
    encoder: &'a Array2<f64>,
    predictor: &'a Array2<f64>,
}

impl Field<'_> {
    /// J's column of number `at` of (W, P), each row by row.
    fn along(&self, prediction: Prediction, at: usize) -> Option<Array1<f64>> {
        let (mut dw, mut dp) = (Array2::zeros(self.encoder.dim()), Array2::zeros(self.predictor.dim()));
        let of_w = self.encoder.len();
        let place = if at < of_w { dw.iter_mut().nth(at) } else { dp.iter_mut().nth(at - of_w) };
        *place? = 1.0;
        let flat = |a: Array2<f64>| a.into_iter();
        Some(match prediction {
            // v_W = −2 W S, S = C − Σ.
            Prediction::Absent => flat(-2.0 * (&dw * &(&self.views - &self.signal))).collect(),
            // The derivative of a power of F is not written down here.
            Prediction::Direct { .. } => return None,
            Prediction::Best { .. } => {
                let (p, dp) = self.best(&dw)?;
                let (vw, _) = self.derivative(&p, (&dw, &dp));
                flat(vw).collect()
            }
            Prediction::Learned { symmetric } => {
                let even = |p: Array2<f64>| if symmetric { 0.5 * (&p + &p.t()) } else { p };
                let (vw, vp) = self.derivative(self.predictor, (&dw, &even(dp)));
                flat(vw).chain(flat(even(vp))).collect()
            }
        })
    }

    /// The derivative of (v_W, v_P) at P = `p` along (dW, dP).
    fn derivative(
        &self,
        p: &Array2<f64>,
        (dw, dp): (&Array2<f64>, &Array2<f64>),
    ) -> (Array2<f64>, Array2<f64>) {
        let w = self.encoder;
        let missed = p.dot(w) * &self.views - w * &self.signal;
        let moved = (dp.dot(w) + p.dot(dw)) * &self.views - dw * &self.signal;
        let vw = -2.0 * (dp.t().dot(&missed) + p.t().dot(&moved));
        let vp = -2.0 * (moved.dot(&w.t()) + missed.dot(&dw.t()));
        (vw, vp)
    }

    /// The best predictor P = W Σ Wᵀ G, G = (W C Wᵀ)⁻¹, and its derivative along dW.
    fn best(&self, dw: &Array2<f64>) -> Option<(Array2<f64>, Array2<f64>)> {
        let w = self.encoder;
        let product = |a: &Array2<f64>, by: &Array1<f64>, b: &Array2<f64>| (a * by).dot(&b.t());
        let both = |by: &Array1<f64>| product(dw, by, w) + product(w, by, dw);
        let g = inverse(&product(w, &self.views, w))?;
        let first = product(w, &self.signal, w);
        let dg = -g.dot(&both(&self.views)).dot(&g);
        Some((best_predictor(&self.signal, &self.views, w)?, both(&self.signal).dot(&g) + first.dot(&dg)))
    }
}
