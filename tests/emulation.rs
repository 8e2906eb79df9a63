//! A device for tests: the GPU's kernels, compiled as C++ and run on the processor, block after
//! block.
//!
//! It has no libraries: convolutions and products are the plain loops of `cu/conv.cu`, or the
//! processor's kernel in a library's place. What it shows is that kernels, their grids and
//! arguments, and the order of a pass are right; a GPU adds cuDNN, cuBLAS and speed.

use simsiam_em::Result;
use simsiam_em::device::ranks::Ranks;
use simsiam_em::kernel::device::{Arg, Buffer, Carrier, Device, Launch, Memory, Pass, SOURCE, Span};
use simsiam_em::kernel::ranks::{bytes_of, gather_numbers, numbers_of};
use simsiam_em::kernel::{Conv, Kernel, Precision, direct_sums};
use simsiam_em::store::Plain;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

// SAFETY: as the C library declares them.
unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Run = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, *mut *mut c_void) -> c_int;

/// Threads, blocks and shared memory are static in the shim: one launch at a time. Copies and the
/// library's passes hold the same lock, so that calls of several threads follow each other as on a
/// stream.
struct Emulated {
    run: Arc<Mutex<Run>>,
    library: Option<Arc<dyn Kernel>>,
    /// The side of convolutions that the library knows nothing of.
    refuses: Option<usize>,
    /// Whether the library rounds an image's values by how many pass with it, as one does that
    /// takes another algorithm for another batch.
    mixes: bool,
    refused: Mutex<Vec<(Pass, Conv)>>,
}

impl Emulated {
    /// What the library makes of `batch` images.
    fn made(&self, mut values: Vec<f32>, batch: usize) -> Vec<f32> {
        if self.mixes {
            values.iter_mut().for_each(|value| *value *= 1.0 + batch as f32 / 65536.0);
        }
        values
    }
}

/// Numbers between devices that lie in this process.
struct Here(Arc<dyn Ranks>);

impl Carrier for Here {
    fn exchange(&self, own: Span, to: Span) -> Result<()> {
        put(&numbers_of::<f32>(&self.0.exchange(bytes_of(&numbers(own)))?), to);
        Ok(())
    }

    fn gather(&self, own: Span, to: Span) -> Result<()> {
        put(&gather_numbers(self.0.as_ref(), &numbers(own))?, to);
        Ok(())
    }
}

/// 16 bytes, so that packs are aligned.
struct Host(Vec<u128>);

// SAFETY: the vector is never resized and lives as long as the buffer; launches are done when they
// return.
unsafe impl Memory for Host {
    fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }
    fn bytes(&self) -> usize {
        16 * self.0.len()
    }
}

// SAFETY: kernels run in this process, on the addresses they are given.
unsafe impl Device for Emulated {
    fn name(&self, _: Precision) -> &'static str {
        "emulated"
    }

    fn algorithm(&self) -> &'static str {
        match self.library {
            Some(_) => "the processor's kernel",
            None => "plain loops",
        }
    }

    fn gpu(&self) -> Option<usize> {
        None
    }

    fn carrier(&self, ranks: &Arc<dyn Ranks>) -> Result<Option<Arc<dyn Carrier>>> {
        // Those that mix hand numbers on through the processor's memory.
        Ok((!self.mixes).then(|| Arc::new(Here(ranks.clone())) as Arc<dyn Carrier>))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        // Not zeros: a number that is read before it is written shall not look right.
        Ok(Buffer::new(Box::new(Host(vec![0x7fc0_0001_7fc0_0001_7fc0_0001_7fc0_0001; bytes.div_ceil(16)]))))
    }

    fn upload(&self, values: &[u8], to: Span) -> Result<()> {
        assert_eq!(values.len(), to.len() * to.precision().bytes());
        let _one_at_a_time = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: `to` is as long, and lies in this process's memory.
        unsafe { std::ptr::copy(values.as_ptr(), to.address() as *mut u8, values.len()) };
        Ok(())
    }

    fn download(&self, from: Span, values: &mut [u8]) -> Result<()> {
        assert_eq!(values.len(), from.len() * from.precision().bytes());
        let _one_at_a_time = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: `from` is as long, and lies in this process's memory.
        unsafe { std::ptr::copy(from.address() as *const u8, values.as_mut_ptr(), values.len()) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let name = CString::new(launch.kernel.clone()).unwrap();
        let (grid, block) = (launch.grid.map(|n| n as c_uint), launch.block.map(|n| n as c_uint));
        let mut params: Vec<*mut c_void> = launch.args.iter().map(Arg::pointer).collect();
        let run = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the caller answers for the arguments; the shim calls the kernel of that name with
        // them.
        let code = unsafe { run(name.as_ptr(), grid.as_ptr(), block.as_ptr(), params.as_mut_ptr()) };
        match code {
            0 => Ok(()),
            1 => panic!("no kernel is called {}", launch.kernel),
            _ => panic!("{}: not every thread of a block reaches its barrier", launch.kernel),
        }
    }

    fn conv(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> Result<bool> {
        let Some(library) = &self.library else { return Ok(false) };
        let _one_at_a_time = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.refuses == Some(s.kernel) {
            self.refused.lock().unwrap().push((pass, *s));
            return Ok(false);
        }
        let rows = s.kernel * s.kernel * s.in_channels;
        match pass {
            Pass::WeightGradient => {
                let dw = pass_of(library.as_ref(), pass, s, &numbers(a), &numbers(b));
                put(&self.made(transposed(&dw, rows, s.out_channels), s.batch), out);
            }
            _ => {
                let w = transposed(&numbers(b), s.out_channels, rows);
                put(&self.made(pass_of(library.as_ref(), pass, s, &numbers(a), &w), s.batch), out);
            }
        }
        Ok(true)
    }

    fn refused(&self) -> Vec<(Pass, Conv)> {
        self.refused.lock().unwrap().clone()
    }

    fn product(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> Result<bool> {
        let Some(library) = &self.library else { return Ok(false) };
        let _one_at_a_time = self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        put(&self.made(pass_of(library.as_ref(), pass, s, &numbers(a), &numbers(b)), s.batch), out);
        Ok(true)
    }
}

/// Numbers of this process as f32.
fn numbers(span: Span) -> Vec<f32> {
    // SAFETY: spans of this device lie in this process, and nobody writes to them meanwhile.
    unsafe {
        match span.precision() {
            Precision::F32 => std::slice::from_raw_parts(span.address() as *const f32, span.len()).to_vec(),
            Precision::Bf16 => std::slice::from_raw_parts(span.address() as *const u16, span.len())
                .iter()
                .map(|value| value.widen())
                .collect(),
        }
    }
}

/// Writes `values` to `span`, rounded to how it is stored.
fn put(values: &[f32], span: Span) {
    assert_eq!(values.len(), span.len());
    // SAFETY: as above, and nobody reads them.
    unsafe {
        match span.precision() {
            Precision::F32 => {
                std::slice::from_raw_parts_mut(span.address() as *mut f32, span.len()).copy_from_slice(values)
            }
            Precision::Bf16 => std::slice::from_raw_parts_mut(span.address() as *mut u16, span.len())
                .iter_mut()
                .zip(values)
                .for_each(|(to, value)| *to = Plain::round(*value)),
        }
    }
}

fn pass_of(library: &dyn Kernel, pass: Pass, s: &Conv, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut scratch = vec![0.0; library.conv_scratch(s)];
    let mut out = vec![0.0; pass.lengths(s)[2]];
    match pass {
        Pass::Forward => library.conv_forward(s, a, b, &mut out, &mut scratch),
        Pass::InputGradient => library.conv_input_gradient(s, a, b, &mut out, &mut scratch),
        Pass::WeightGradient => library.conv_weight_gradient(s, a, b, &mut out, &mut scratch),
    }
    out
}

/// Weights (rows, columns) as (columns, rows).
pub fn transposed(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| w[i % rows * columns + i / rows]).collect()
}

const SHIM: &str = include_str!("emulation/shim.h");

/// The names of all kernels in preprocessed C++.
fn kernels(text: &str) -> Vec<&str> {
    let declared = text.split("extern \"C\" void").skip(1);
    declared.filter_map(|rest| rest.split_once('(').map(|(name, _)| name.trim())).collect()
}

fn compile(folder: &Path) -> std::io::Result<Run> {
    let source = format!("{SHIM}\n{SOURCE}");
    let (plain, whole, library) =
        (folder.join("plain.cpp"), folder.join("kernels.cpp"), folder.join("kernels.so"));
    std::fs::write(&plain, &source)?;
    let expanded = Command::new("g++").args(["-std=c++17", "-E", "-P"]).arg(&plain).output()?;
    let expanded = String::from_utf8_lossy(&expanded.stdout).into_owned();
    let entries: String =
        kernels(&expanded).iter().map(|name| format!("{{\"{name}\", call<&{name}>}},\n")).collect();
    let table = format!(
        "static const Entry entries[] = {{\n{entries}}};\n\
         extern \"C\" int run(const char* name, const unsigned* grid, const unsigned* block, void** params) {{\n\
         return run_kernel(entries, sizeof(entries) / sizeof(Entry), name, grid, block, params);\n}}\n"
    );
    std::fs::write(&whole, format!("{source}\n{table}"))?;
    let made = Command::new("g++")
        .args([
            "-std=c++17",
            "-O2",
            "-march=native",
            "-ffp-contract=off",
            "-U_FORTIFY_SOURCE",
            "-shared",
            "-fPIC",
            "-w",
            "-o",
        ])
        .args([&library, &whole])
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let name = CString::new(library.to_string_lossy().as_bytes()).unwrap();
    // SAFETY: the library was just made and is never closed; `run` has the type that the table
    // above gives it.
    unsafe {
        let opened = dlopen(name.as_ptr(), 2);
        assert!(!opened.is_null(), "{} cannot be loaded", library.display());
        let run = dlsym(opened, CStr::as_ptr(c"run"));
        assert!(!run.is_null());
        Ok(std::mem::transmute::<*mut c_void, Run>(run))
    }
}

/// The device, or none, said once, where there is no C++ compiler; none with SIM_EMULATION=off.
pub fn emulated() -> Option<Arc<dyn Device>> {
    device(None, None, false)
}

/// The same with the processor's kernel in place of a GPU's libraries, fast enough for whole runs,
/// but for kernels of the side that it `refuses`.
pub fn emulated_with_library(refuses: Option<usize>) -> Option<Arc<dyn Device>> {
    device(Some(direct_sums().unwrap()), refuses, false)
}

/// The same, with a library whose values of an image depend on how many images pass with it.
pub fn emulated_that_mixes() -> Option<Arc<dyn Device>> {
    device(Some(direct_sums().unwrap()), None, true)
}

fn device(library: Option<Arc<dyn Kernel>>, refuses: Option<usize>, mixes: bool) -> Option<Arc<dyn Device>> {
    let (run, refused) = (kernels_of_the_device()?, Mutex::default());
    Some(Arc::new(Emulated { run, library, refuses, mixes, refused }))
}

fn kernels_of_the_device() -> Option<Arc<Mutex<Run>>> {
    static MADE: OnceLock<Option<Arc<Mutex<Run>>>> = OnceLock::new();
    let make = || {
        if std::env::var_os("SIM_EMULATION").is_some_and(|word| word == "off") {
            return None;
        }
        if Command::new("g++").arg("--version").output().is_err() {
            println!("skipped: no g++ on this machine to compile the GPU's kernels with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Some(Arc::new(Mutex::new(compile(folder.path()).unwrap())))
    };
    MADE.get_or_init(make).clone()
}
