//! The `sim` program: everything is in [`simsiam_em::cli`].

/// Training makes and drops tensors of a few megabytes thousands of times; the system's allocator
/// would give their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    simsiam_em::threads::on_the_caller();
    std::process::exit(simsiam_em::cli::main(std::env::args_os().collect()));
}
