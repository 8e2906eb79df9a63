//! The target that SIM_FUZZ_TARGET names, for cargo-fuzz.
#![no_main]

#[allow(dead_code)]
#[path = "../../mod.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::target_of_the_environment()(bytes));
