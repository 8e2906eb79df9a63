//! One integration binary.
mod kernel;
