//! What a run leaves on disk, and how it survives being killed at any moment.
//!
//! ```text
//! runs/<study>/<arm>/seed-<s>/
//!     config.toml                     the complete recipe
//!     env.json                        machine, command, versions
//!     metrics.csv                     one row per epoch, append-only
//!     events.out.tfevents.<time>.sim  the same numbers for TensorBoard, append-only
//!     checkpoints/step-XXXXXXXXXX/    state.safetensors, manifest.json; the newest two
//!     weights.safetensors             θ and running statistics at the end
//!     detector.safetensors, detections.json, precision.csv
//!                                     in its place, of a run that fine-tunes a detector
//!     film/step-XXXXXXXX.safetensors  z of a few images after every epoch, where it is asked for
//!     outcome.json                    there once the run has ended; seals its results
//! runs/<study>/answer.json            arms, claims and provenance, written when the command ends
//! runs/<study>/.lock                  held by a command that starts the study over
//! .owner                              beside a lock that is held: the machine and the process
//! .tmp-<name>-<process>-<count>       a file while it is written; see durable
//! ```
//!
//! A checkpoint at the end of an epoch is saved before the epoch is measured: its row follows, also
//! from another process.
//!
//! Invariants: a file under its final name is whole (it was written under a temporary name, synced
//! and renamed); the two logs are cut back to the lengths in the checkpoint from which a run goes
//! on, so that an interrupted run ends with the bytes of an uninterrupted one; of all this only
//! wall-clock columns, event times and the lengths of the logs in a manifest differ between two
//! equal runs.

mod answer;
mod checkpoint;
mod digest;
mod directory;
mod durable;
mod events;
mod generations;
mod hparams;
mod keys;
mod lock;
mod log;
mod metrics;
mod outcome;
mod protobuf;
mod provenance;
mod results;
mod spread;
mod state_file;
mod table;

pub use answer::{
    ANSWER_FILE, Answer, AnswerArm, AnswerClaim, AnswerFact, AnswerMetric, AnswerPaper, AnswerRun,
};
pub use digest::{Digested, digest_file};
pub use directory::{CONFIG_FILE, RunDir, check_recipe, find_twin, has_begun, run_folder};
pub use durable::{is_stream, make_folder, sweep, write_durable, write_where_told};
pub use events::EVENTS_PREFIX;
pub use keys::{Keys, differing, flatten, or_absent};
pub use lock::Lock;
pub use metrics::MetricsLog;
pub use outcome::{
    DETECTIONS_FILE, DETECTOR_FILE, EIGENVALUES, FILM, METRICS_FILE, Outcome, PRECISION_FILE, SPECTRUM_FILE,
    TRAJECTORY, WEIGHTS_FILE, check_result, is_whole, read_env, read_outcome, read_result,
    read_result_if_any,
};
pub use provenance::{
    DRAWN, EARLIER, Environment, IMAGES, INIT, TELLING, UNKNOWN_IMAGES, cautions, images, images_of,
    outdated, some,
};
pub use spread::{Evidence, Share, Spread};
pub use state_file::{SavedTensor, Snapshot};
pub use table::{Table, csv_bytes, read_metrics};
