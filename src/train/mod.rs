//! One run.

/// How a run ended. A value, not an error: a study goes on with its other arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs were trained.
    Finished,
    /// The loss stopped being a finite number at this step. Exit 3.
    Diverged {
        /// The step, counted from 0.
        step: u64,
    },
    /// A signal asked for it; a checkpoint was saved. Exit 75.
    Stopped,
}
