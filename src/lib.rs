//! `sim`: a laboratory for the hypothesis that SimSiam is an EM-like alternation.

pub mod augment;
pub mod data;
pub mod error;
pub mod kernel;
pub mod network {
    //! F_θ and h.
    pub mod config;
}
pub mod rng;

pub use error::{Error, Result};
