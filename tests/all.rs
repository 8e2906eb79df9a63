//! One integration binary, so that candle links once.

mod evaluation;
mod laws;
mod replay;
mod support;
