//! `sim`: a laboratory for the hypothesis that SimSiam is an EM-like alternation.

pub mod augment;
pub mod data;
pub mod error;
pub mod eta;
pub mod kernel;
pub mod measure;
pub mod network;
pub mod objective;
pub mod optim;
pub mod recipe;
pub mod record;
pub mod rng;
pub mod train;

pub use error::{Error, Result};
