//! One integration binary, so that candle links once.

mod evaluation;
mod kernel;
mod laws;
mod norm;
mod oracle;
mod replay;
mod support;

// Studies and their answers, with a formula in place of training.
mod mock;
mod study;
