//! Closed forms in f64: the alternation on a linear encoder of Gaussian images, where both half-steps can be
//! written down. Derivations stand in paper-notes/theory-linear.md.
//!
//! ```text
//! x ~ N(0, Σ)    T(x) = x + ε, ε ~ N(0, S)    F_W(x) = W x    η_x = A x    C = Σ + S
//! L(W, A) = E ‖W(x + ε) − A x‖² = tr(W C Wᵀ) − 2 tr(W Σ Aᵀ) + tr(A Σ Aᵀ)
//! ```
//!
//! [`World`] is (Σ, S), [`State`] is (W, A) and, where there is one, a linear predictor P; a [`Rule`] says
//! what one iteration of the outer loop does. Where Σ and S have common eigenvectors every direction goes
//! its own way: [`Direction`] is that recursion in scalars, written down a second time on purpose.
//!
//! A [`ClosedForm`] is such a world as a recipe has it, and a [`Course`] the whole alternation in it, step by
//! step in the order of `train`: every [`Rule`] is one of its cases, and so is what lies between them.

mod closed_form;
mod course;
mod direction;
mod linear;

pub use closed_form::{ClosedForm, Optimum};
pub use course::{Course, Measured, Point, Prediction, Rates, Targets};
pub use direction::{Direction, Scalars};
pub use linear::{Rule, State, World};
