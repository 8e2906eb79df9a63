//! The kernel of the processor that networks get: the one that a person names, or the fastest.

use crate::error::{Error, Result};
use crate::kernel::{Kernel, Precision, all_supported, bf16};
use std::sync::Arc;

/// The environment variable that names a kernel: `portable`, `avx2`, `avx512` or `avx512-bf16` of
/// the processor, `cuda-tf32` of a GPU.
const VARIABLE: &str = "SIM_KERNEL";

/// The word in SIM_KERNEL, if there is one.
pub(super) fn word() -> Option<String> {
    std::env::var_os(VARIABLE).map(|word| word.to_string_lossy().into_owned())
}

/// The name of the processor's kernel in SIM_KERNEL. A choice among the GPU's kernels leaves the
/// processor's alone.
pub fn forced_kernel() -> Option<String> {
    word().filter(|name| !name.starts_with("cuda"))
}

/// The kernel that SIM_KERNEL names, or the fastest, for values of `precision`.
///
/// # Errors
/// As [`kernel_named`].
pub fn processor_kernel(precision: Precision) -> Result<Arc<dyn Kernel>> {
    kernel_named(forced_kernel().as_deref(), precision)
}

/// The kernel called `name`, or the fastest, for values of `precision`.
///
/// # Errors
/// [`Error::Usage`] where this machine has none of that name or precision.
pub fn kernel_named(name: Option<&str>, precision: Precision) -> Result<Arc<dyn Kernel>> {
    let kernels = match precision {
        Precision::F32 => all_supported(),
        Precision::Bf16 => bf16().into_iter().collect(),
    };
    let choices: Vec<&str> = kernels.iter().map(|kernel| kernel.name()).collect();
    let message = match precision {
        Precision::F32 => format!(
            "{VARIABLE}={}: no such kernel on this machine; choose one of {}, or unset it for the fastest",
            name.unwrap_or_default(),
            choices.join(", ")
        ),
        Precision::Bf16 => format!(
            "precision bf16 needs a processor with AVX512-BF16, and {VARIABLE} unset; f32 runs everywhere"
        ),
    };
    let kernel = kernels.into_iter().find(|kernel| name.is_none_or(|name| name == kernel.name()));
    kernel.ok_or(Error::Usage(message))
}
