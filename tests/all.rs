//! One integration binary, so that candle links once.

mod augment;
mod average_precision;
mod bank;
mod beforehand;
mod best_linear;
mod claims;
mod cli;
mod collapse;
mod compare;
mod critics;
mod data;
mod detect;
mod detector;
mod dispute;
mod doctor;
mod em;
mod emulation;
mod evaluation;
mod evidence;
mod export;
mod faults;
mod fetch;
mod film;
mod fine_tuning;
mod folders;
mod formats;
mod fuzz;
mod gpu;
mod gpu_kernels;
mod gpu_runs;
mod growth;
mod identity;
mod init;
mod kernel;
mod keys;
mod laws;
mod layering;
mod links;
mod maps;
mod methods;
mod mpi;
mod norm;
mod numbers;
mod objects;
mod oracle;
mod outside;
mod pretrained;
mod ranks;
mod recognition;
mod record;
mod replay;
mod report;
mod resume;
mod sources;
mod spectral;
mod stop;
mod supervised;
mod support;
mod tensorboard;
mod theory;
mod tracking;
mod transfer;
mod unlabelled;
mod weights;

// Studies and their answers, with a formula in place of training.
mod mock;
mod outputs;
mod page;
mod study;
mod submit;
mod sweep;
mod until;

/// Bounds what parsers hold; see [`fuzz`].
#[global_allocator]
static ALLOCATOR: fuzz::memory::Counting = fuzz::memory::Counting;
