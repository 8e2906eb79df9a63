//! NVIDIA's driver, loaded when a GPU is asked for.
//!
//! candle has cudarc link `libcuda.so.1`, which comes with the driver and not with the toolkit: a
//! program that needs it does not even start where there is no GPU, and cannot say why. So the
//! driver's functions are defined here, each a jump through a table; the linker then has no reason
//! to ask for the library, and [`load`] fills the table from it. Where a function is missing from
//! the list, the program links as before and needs the driver to start.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod table {
    use super::super::functions::driver_functions;
    use std::arch::global_asm;
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicPtr, Ordering};

    macro_rules! jumps {
        ($($name:ident)*) => {
            /// The functions in the order of the table.
            const NAMES: &[&str] = &[$(concat!(stringify!($name), "\0")),*];

            global_asm!(
                ".pushsection .text",
                // What a function does before the driver is loaded, or without it in the driver:
                // 500, CUDA_ERROR_NOT_FOUND.
                "sim_driver_absent: mov eax, 500",
                "ret",
                ".set sim_driver_index, 0",
                ".macro sim_driver_jump name",
                ".globl \\name",
                // For this program only: the driver's own libraries shall not meet them.
                ".hidden \\name",
                ".type \\name, @function",
                "\\name: jmp qword ptr [rip + sim_driver_table + 8 * sim_driver_index]",
                ".set sim_driver_index, sim_driver_index + 1",
                ".endm",
                $(concat!("sim_driver_jump ", stringify!($name)),)*
                ".popsection",
                ".pushsection .data.rel.sim_driver, \"aw\", @progbits",
                ".balign 8",
                ".globl sim_driver_table",
                "sim_driver_table:",
                ".rept sim_driver_index",
                ".quad sim_driver_absent",
                ".endr",
                ".popsection",
            );
        };
    }
    driver_functions!(jumps);

    // SAFETY: the first is the table above, whose entries are addresses; the others are the C
    // library's.
    unsafe extern "C" {
        static sim_driver_table: [AtomicPtr<c_void>; NAMES.len()];
        fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
        fn dlerror() -> *const c_char;
    }

    const RTLD_NOW: c_int = 2;

    fn fill() -> Result<(), String> {
        // SAFETY: the names end with a zero byte; the library is never closed, so that its
        // addresses stay good.
        unsafe {
            let library = dlopen(c"libcuda.so.1".as_ptr(), RTLD_NOW);
            if library.is_null() {
                let why = dlerror();
                let why = if why.is_null() { c"libcuda.so.1 is missing" } else { CStr::from_ptr(why) };
                return Err(why.to_string_lossy().into_owned());
            }
            for (name, slot) in NAMES.iter().zip(&sim_driver_table) {
                let function = dlsym(library, name.as_ptr().cast());
                if !function.is_null() {
                    slot.store(function, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    /// Loads the driver, once.
    pub fn load() -> Result<(), String> {
        static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
        LOADED.get_or_init(fill).clone()
    }
}

/// Loads the driver; otherwise why it cannot be.
///
/// # Errors
/// What the system says of `libcuda.so.1`.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn load() -> Result<(), String> {
    table::load()
}

/// On other systems the program does not start without the driver.
///
/// # Errors
/// None.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn load() -> Result<(), String> {
    Ok(())
}
