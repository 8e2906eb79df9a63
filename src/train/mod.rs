//! x
mod alternation;
mod model;
mod replay;
pub mod weights;
pub use alternation::{Alternation, Rates};
pub use model::{Model, Part};
pub use replay::{Case, Replayed, Trajectory, replay};
