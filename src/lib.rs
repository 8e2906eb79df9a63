//! `sim`: a laboratory for the hypothesis that SimSiam is an EM-like alternation.
//!
//! Chen & He (2020, Sec. 5) suspect that SimSiam minimises, by alternation,
//!
//! ```text
//! L(θ, η) = E_{x,T} ‖ F_θ(T(x)) − η_x ‖²
//! ```
//!
//! over two unknowns: **θ**, the weights of one encoder, one flat vector of P numbers, and **η**,
//! one target vector for each image, N × d numbers. This crate takes that literally. Every run is
//! the loop
//!
//! ```text
//! for each chunk of k batches:
//!     E-step   η ← rule(θ, chunk)      no gradient ever reaches η: this is stop-gradient
//!     M-step   k times: θ ← SGD step on the objective against η
//! ```
//!
//! and a method is a value on it: an E-step rule, an objective, a predictor or none.
//!
//! # The rooms, from the top
//!
//! - `cli` — one file for each command; the only room that prints.
//! - [`figures`] — what of a study, of a sweep and of the closed form is drawn.
//! - [`doctor`] — what is wrong with images, views or a recipe: numbers of them and of short
//!   trials, and the rules by which a diagnosis follows.
//! - [`export`] — a trained backbone as other programs read it: torchvision's names, ONNX, the
//!   Hugging Face hub, detectron2.
//! - [`study`] — a question, its arms and its answer: layers of TOML merged into recipes, arms ×
//!   seeds into runs, runs into verdicts.
//! - [`report`] — figures, pages and tables from the files of finished runs, from nothing else.
//! - [`theory`] — the same alternation in closed form, for a linear F_θ and Gaussian images; a
//!   recipe may ask for it in the place of training.
//! - [`recipe`] — one run, completely described.
//! - [`train`] — one run, trained: θᵗ ← argmin_θ L(θ, ηᵗ⁻¹), ηᵗ ← argmin_η L(θᵗ, η); or a detector
//!   that begins with its weights.
//! - [`eta`] — E-step rules: η_x ← F_θ(T′(x)), kept for k steps, averaged with momentum m, or
//!   E_T[F_θ(T(x))] itself; the output of an average of θ (BYOL, MoCo), a balanced code (SwAV), or
//!   the image's class (supervised).
//! - [`measure`] — what is read off a state: kNN, linear probe, verification, std of z/‖z‖ · √d, R²
//!   of h; and what numbers over seeds are evidence of.
//! - [`data`] — images and labels, the order of batches, batches prepared ahead.
//! - [`fetch`] — published data sets from the network.
//! - [`record`] — the run directory: metrics, events, checkpoints, durable files.
//! - [`objective`] — D(p, η) = −cos(p, η) and its relatives, InfoNCE among them: tensors in, scalar
//!   out.
//! - [`detect`] — two-stage detection: anchors, matching, proposals, losses and masks.
//! - [`network`] — z = F_θ(x) and p = h(z), each one differentiable node over a static plan.
//! - [`augment`] — T, the random views, or a finite set of them.
//! - [`device`] — the processor or a GPU: where a run computes, and by which of the kernels.
//! - [`optim`] — SGD with momentum over flat θ, LARS, learning-rate curves.
//! - [`store`] — numbers where they are kept: in memory, in a mapped file, in a checkpoint, on a
//!   device.
//! - [`kernel`] — arithmetic on slices and shapes; knows no candle, no study and no files.
//! - [`masks`] — which pixels are an object's: run lengths as COCO writes them, and polygons.
//! - Open to all: [`rng`] — streams named by (seed, purpose, counters). [`files`] — reading regular
//!   files of a bounded length. [`pickle`] — Python's pickles: read without running them, arrays in
//!   them, written. [`defaults`] — what recipes leave out. [`threads`] — locks, and the threads of
//!   candle's operations. [`error`] — one error, its exit codes.
//!
//! A room imports only from rooms below it, and no two files need each other but a module's and
//! those within it: `tests/layering.rs` holds the table. Every large room has a README.md in its
//! folder: what each file holds, how one adds to it, what must stay true.
//!
//! # Glossary
//!
//! | symbol | meaning |
//! |---|---|
//! | x, T, T′ | an image; random augmentations |
//! | θ, F_θ | weights; encoder = backbone + projection MLP |
//! | z = F_θ(T(x)) | the encoder's output, (B, d) |
//! | h, p = h(z) | the prediction MLP; its output |
//! | η_x | the target of image x |
//! | D | the dissimilarity of p and η |
//! | k, m, τ | SGD steps per update of η; momentum of the memory bank; of the momentum encoder (or a temperature) |
//! | (V, B, H, W, C) | views, batch, height, width, channels |
//!
//! # Invariants
//!
//! - Bytes of metrics and weights depend on recipe and data alone: not on threads, kills or
//!   restarts.
//! - Randomness comes from [`rng::stream`] only; a batch is a function of (seed, step).
//! - `unsafe` stands in [`kernel`], in the mapped file of [`store`] and in [`threads`] only, each
//!   block with its argument.

pub mod augment;
pub mod cli;
pub mod data;
pub mod defaults;
pub mod detect;
pub mod device;
pub mod doctor;
pub mod error;
pub mod eta;
pub mod export;
pub mod fetch;
pub mod figures;
pub mod files;
pub mod kernel;
pub mod masks;
pub mod measure;
pub mod network;
pub mod objective;
pub mod optim;
pub mod pickle;
pub mod recipe;
pub mod record;
pub mod report;
pub mod rng;
pub mod store;
pub mod study;
pub mod theory;
pub mod threads;
pub mod train;

pub use error::{Error, Result};
