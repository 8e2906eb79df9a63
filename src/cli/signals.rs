//! Signals: which ask a run to stop, and which the program makes of its own troubles.

use crate::error::{Error, Result};
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The signals of a person, a terminal that closes, or a batch system that is about to end a job.
const ASKING: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// The first signal sets `stop`, which asks for checkpoints; the second quits at once with 128 and
/// its number.
///
/// # Errors
/// [`Error::Failure`] where the system refuses.
pub fn listen(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in ASKING {
        register_conditional_shutdown(signal, 128 + signal, stop.clone()).map_err(refused)?;
        register(signal, stop.clone()).map_err(refused)?;
    }
    // A limit of processor time tells again every second: that is no second wish.
    register(SIGXCPU, stop.clone()).map_err(refused)?;
    Ok(())
}

/// Makes exit codes of what would kill the program: a write beyond `ulimit -f` fails as on a full
/// disk; an allocation that fails, which Rust tells in one sentence before it aborts, ends with 1.
///
/// # Errors
/// [`Error::Failure`] where the system refuses.
pub fn make_exit_codes() -> Result<()> {
    // With any handler the write returns EFBIG; what it sets, nobody reads.
    register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(refused)?;
    register_conditional_shutdown(SIGABRT, 1, Arc::new(AtomicBool::new(true))).map(drop).map_err(refused)
}

fn refused(error: std::io::Error) -> Error {
    Error::Failure(format!("cannot listen to signals: {error}"))
}
