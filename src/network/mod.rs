//! F_θ and h.

pub mod config;
