//! A question, its arms and its answer.
//!
//! Layers of TOML, each remembering who set a key, merge into one recipe per arm
//! ([`Study::resolve`]); arms × seeds become runs on a few workers ([`schedule`]); what the runs
//! left in their folders becomes a table and a verdict on every claim ([`Results`]). Results are
//! read from files alone, so a study that was run in pieces has the same answer as one run at once.

mod base;
mod claim;
pub mod closed_form;
pub mod decide;
mod drive;
pub mod embedded;
mod facts;
mod fault;
mod file;
mod formula;
mod grid;
mod head;
mod identity;
mod job;
mod judge;
pub mod keys;
pub mod layer;
mod nearest;
pub mod pretraining;
mod resolve;
mod results;
mod runs;
mod schedule;
mod seeds;
mod source;
mod spread;
mod summary;
mod trainer;
mod unlike;
mod verdict;

pub use base::Base;
pub use claim::{CHANCE, Claim, Relation, START};
pub use file::{ArmSpec, Scale, Study};
pub use formula::{Formula, MOCK, trained_scale};
pub use grid::{Axis, Cell};
pub use head::{Fact, Flag, Head, Paper, Suite};
pub use identity::check_images;
pub use job::{Job, firsts, jobs};
pub use nearest::{hint, nearest};
pub use resolve::{Arm, DEFAULT_SCALE, Request, Short};
pub use results::Results;
pub use runs::{Curve, FEW_STEPS, Of, Runs};
pub use schedule::{Event, Settings, schedule};
pub use seeds::{LARGEST_SEED, Seeds};
pub use trainer::{Engine, Order, Trainer};
pub use unlike::unlike_simsiam;
pub use verdict::{Judged, Verdict};
