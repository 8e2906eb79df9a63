//! The one error of the program, and the exit code of each kind.
//!
//! A message says what is wrong, where, and what to do next. Outcomes of a run that are not
//! mistakes (it diverged, it was asked to stop) are values: see [`crate::train::Ending`]. On its
//! way out of a long computation the wish to stop travels as [`Error::Stopped`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, one variant per exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong: a flag, a study's name, a value out of range. Exit 2.
    #[error("{0}")]
    Usage(String),
    /// A mistake inside a TOML text, shown with its file, line and caret. Exit 2.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// Images, weights or cases that cannot be read as what they claim to be. Exit 4.
    #[error("{}: {what}", path.display())]
    Data {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it and, where there is one, the way out.
        what: String,
    },
    /// The disk refuses: no space, no permission, a read-only folder. Exit 5.
    #[error("{}: cannot {action}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb phrase ("write the checkpoint").
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Another process is writing into this run directory. Exit 6.
    #[error("{}: in use by another sim process{}; wait for it, stop it, or choose another --out", path.display(), on(machine))]
    InUse {
        /// The run directory.
        path: PathBuf,
        /// The name of the machine on which that process runs; empty for this one.
        machine: String,
    },
    /// A computation was left unfinished because somebody asked to stop; what it had so far is
    /// thrown away. Exit 75.
    #[error("stopped before it was finished")]
    Stopped,
    /// Anything else. Exit 1.
    #[error("{0}")]
    Failure(String),
    /// A GPU, or a library that runs there. Exit 1.
    #[error("{0}")]
    Device(String),
    /// A tensor operation failed: a shape is wrong, which is a defect of this program. Exit 1.
    #[error("tensor operation failed: {0}")]
    Tensor(candle_core::Error),
}

fn on(machine: &str) -> String {
    if machine.is_empty() { String::new() } else { format!(" on {machine}") }
}

/// Whether to go on: long computations ask it between their pieces, at least every few seconds.
///
/// # Errors
/// [`Error::Stopped`] once `stop` is set.
pub fn go_on(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
}

/// What an error of a GPU begins with where it arises, also when candle has carried it.
const GPU_FAILED: &str = "the GPU failed";
/// What a GPU without memory says, whoever asks it.
const NO_MEMORY: [&str; 4] =
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED", GPU_HAS_NO_MEMORY];
const GPU_HAS_NO_MEMORY: &str = "the GPU has no memory left; take a smaller schedule.batch, fewer --jobs, or \
    encoder.precision=bf16";

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        let of_device = matches!(error, candle_core::Error::Cuda(_)) || text.contains(GPU_FAILED);
        if NO_MEMORY.iter().any(|sign| text.contains(sign)) {
            Error::Device(GPU_HAS_NO_MEMORY.into())
        } else if of_device {
            let text = text.find(GPU_FAILED).map_or(text.as_str(), |begin| &text[begin..]);
            // candle adds where it was, if asked to, on further lines.
            Error::device("a tensor operation", text.lines().next().unwrap_or_default())
        } else {
            Error::Tensor(error)
        }
    }
}

/// A mistake at a place in a TOML text.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong.
    pub message: String,
    /// The text's file.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// The bytes at fault.
    pub span: Range<usize>,
    /// What the caret says.
    pub label: String,
    /// What to do next, where that is known.
    pub help: Option<String>,
}

impl Error {
    /// The documented exit code of this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Usage(_) | Error::Config(_) => 2,
            Error::Data { .. } => 4,
            Error::Disk { .. } => 5,
            Error::InUse { .. } => 6,
            Error::Stopped => 75,
            Error::Failure(_) | Error::Device(_) | Error::Tensor(_) => 1,
        }
    }

    /// A [`Error::Data`] about `path`.
    pub fn data(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::Data { path: path.into(), what: what.into() }
    }

    /// A GPU failed at `what`.
    pub fn device(what: &str, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        if NO_MEMORY.iter().any(|sign| reason.contains(sign)) {
            return Error::Device(GPU_HAS_NO_MEMORY.into());
        }
        if reason.starts_with(GPU_FAILED) {
            return Error::Device(reason);
        }
        Error::Device(format!("{GPU_FAILED} ({what}): {reason}"))
    }

    /// An error of a GPU, at `what`; any other as it is.
    pub fn of_device(self, what: &str) -> Self {
        match self {
            Error::Device(why) => Error::Device(format!("{what}: {why}")),
            error => error,
        }
    }

    /// Where `path` is at fault, an error about it; an error of a GPU stays one.
    pub fn in_file(self, path: impl Into<PathBuf>) -> Self {
        match self {
            Error::Device(_) | Error::Stopped => self,
            error => Error::data(path, error.to_string()),
        }
    }

    /// Turns an I/O error on `path` into [`Error::Disk`]; one that carries an [`Error`] gives that
    /// one. For use with `map_err`.
    pub fn disk(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.downcast() {
            Ok(error) => error,
            Err(source) => Error::Disk { path, action, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_gpu_stays_one_on_its_way_through_candle() {
        let of = |error: Error| Error::from(candle_core::Error::msg(error));
        let failed =
            of(Error::device("copying a batch", "DriverError(CUDA_ERROR_LAUNCH_FAILED)")).in_file("run");
        let expected = "the GPU failed (copying a batch): DriverError(CUDA_ERROR_LAUNCH_FAILED)";
        assert!(matches!(&failed, Error::Device(text) if text == expected), "{failed:?}");
        let full =
            of(Error::device("allocating 5 MiB", "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
        assert!(matches!(&full, Error::Device(text) if text == GPU_HAS_NO_MEMORY), "{full:?}");
        assert_eq!(full.exit_code(), 1);
        let bank = full.of_device("a memory bank of 10.5 GB").to_string();
        assert!(bank.starts_with("a memory bank of 10.5 GB: the GPU has no memory left"), "{bank}");
        let shapes = Error::from(candle_core::Error::msg("shapes differ")).in_file("weights");
        assert_eq!(shapes.exit_code(), 4);
    }
}
