//! Locks, and the threads of candle's elementwise operations, which stay on the thread that asks
//! for them.
//!
//! candle 0.11 spreads elementwise operations over one pool for the whole process, whose callers
//! and workers wait for each other in busy loops. Here those operations are short (objectives, sums
//! of gradients), while runs side by side and the threads that prepare batches want the same cores:
//! on two busy cores a step of resnet8 took 12 % longer, because a waiting caller burned the time
//! that the worker it waited for needed. The pool's size is an environment variable, read at its
//! first use.

use std::sync::{Mutex, MutexGuard};

/// What `mutex` guards. A thread that panicked while it held the lock does not keep the others out:
/// nothing that is guarded here is left half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// candle's variable for the size of its pool, the caller included.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Gives candle's pool no workers, unless the user has chosen a number. To be called before any
/// thread is started; later, or where the threads cannot be counted, it changes nothing.
pub fn on_the_caller() {
    if std::env::var_os(VARIABLE).is_none() && is_the_only_thread() {
        // SAFETY: changing the environment is a race only with other threads that read it, and this
        // is the only thread of the process.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}

/// Whether the system says so.
fn is_the_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn among_other_threads_the_environment_is_left_alone() {
        let before = std::env::var_os(super::VARIABLE);
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        super::on_the_caller();
        assert_eq!(std::env::var_os(super::VARIABLE), before);
        drop(send);
        assert!(other.join().is_ok());
    }
}
