//! Closed forms in f64: the alternation on a linear encoder of Gaussian images, where both
//! half-steps can be written down. Derivations stand in paper-notes/theory-linear.md.
//!
//! ```text
//! x ~ N(0, Σ)    T(x) = x + ε, ε ~ N(0, S)    F_W(x) = W x    η_x = A x    C = Σ + S
//! L(W, A) = E ‖W(x + ε) − A x‖² = tr(W C Wᵀ) − 2 tr(W Σ Aᵀ) + tr(A Σ Aᵀ)
//! ```
//!
//! A [`ClosedForm`] is (Σ, S) as a recipe has it, a [`Point`] is (W, A) and a linear predictor P on
//! their way, and a [`Course`] says how they go, step by step in the order of `train`. Where Σ and
//! S have common eigenvectors every direction goes its own way, at a rate that [`Direction`]
//! predicts. Whether what a step follows is a gradient at all [`antisymmetry`] says; where it ends
//! from random starts, a [`Flow`]; how fast eigenvalues grow where h is set from them, a [`Law`].

mod basins;
mod closed_form;
mod course;
mod direction;
mod field;
mod growth;

pub use basins::{Basin, Flow, Trial};
pub use closed_form::{ClosedForm, Optimum};
pub use course::{Course, Measured, Point, Prediction, Rates, Targets};
pub use direction::Direction;
pub use field::antisymmetry;
pub use growth::{Law, cosine_rates};
