//! The encoder on an NVIDIA GPU: memory and kernels through the driver, convolutions through cuDNN,
//! products through cuBLAS, all on one stream; batches arrive by another (`pinned.rs`).
//!
//! The kernels are compiled from [`device::SOURCE`] when the first run begins, for the very GPU
//! (NVRTC, about two seconds); no CUDA compiler is needed for them when this crate is built. What
//! fails here fails with [`Error::Device`], in the driver's or the library's own words.

mod dnn;
mod driver;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod functions;
mod memory;
mod nccl;
mod pinned;
mod search;

pub use driver::load as load_driver;
pub use memory::{free_bytes, taken_bytes};
pub use pinned::Lanes;

use super::device::{self, Buffer, Carrier, Device, Launch, Memory, Pass, Span, as_product};
use super::ranks::Ranks;
use super::{Conv, Precision};
use crate::error::{Error, Result};
use crate::threads::lock;
use cudarc::cublas::{CudaBlas, result as blas, sys as blas_sys};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, result as raw, sys,
};
use cudarc::nvrtc::{Ptx, result as nvrtc, sys as nvrtc_sys};
use dnn::Dnn;
use memory::{allocated, pool, trim};
use nccl::Nccl;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsString};
use std::fmt::Display;
use std::sync::{Arc, Mutex, OnceLock};

/// The name of the kernels that multiply f32 numbers rounded to TF32.
pub const TF32: &str = "cuda-tf32";

/// A call of a CUDA library failed.
fn failed(what: &str, e: impl Display) -> Error {
    Error::device(what, e)
}

/// What a person may choose of how a GPU computes.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Whether f32 numbers are rounded to TF32 (10 bits) before products: eight times as fast.
    pub tf32: bool,
    /// Whether cuDNN's algorithms are taken by its own ranking, which is the same in every process,
    /// and not by their time.
    pub ranked: bool,
    /// The file of NCCL, where ranks may use it.
    pub nccl: Option<OsString>,
}

/// One stream of a GPU with its libraries.
pub struct Cuda {
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: Mutex<HashMap<String, CudaFunction>>,
    blas: Mutex<CudaBlas>,
    dnn: Mutex<Dnn>,
    tf32: bool,
    nccl: Option<OsString>,
    /// What carries numbers to other ranks' GPUs, once it was asked for.
    carrier: OnceLock<Option<Arc<Nccl>>>,
}

/// CUDA's major versions: the newest that the driver knows, and that of the libraries.
pub fn versions() -> Result<(i32, i32)> {
    let (mut driver, mut major, mut minor) = (0, 0, 0);
    // SAFETY: the results have the types that are written.
    unsafe {
        sys::cuDriverGetVersion(&mut driver).result().map_err(|e| failed("asking for its driver", e))?;
        nvrtc_sys::nvrtcVersion(&mut major, &mut minor)
            .result()
            .map_err(|e| failed("asking for NVRTC", e))?;
    }
    Ok((driver / 1000, major))
}

/// GPUs of this machine, once the driver is loaded.
pub fn count() -> Result<usize> {
    let count = CudaContext::device_count().map_err(|e| failed("counting devices", e))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Prepares the context of `stream` for runs that have one stream each: arrays carry no events, and
/// freed memory stays with the process.
///
/// Events keep several streams from meeting in one array; here everything that a run owns lies on
/// the run's one stream, but for the landing places of batches, which see to their own events; what
/// two runs share is host memory. Without a threshold the driver gives freed memory back whenever
/// anyone waits for the GPU, and the next step's temporary arrays are slow to get.
pub fn prepare(stream: &CudaStream) -> Result<()> {
    let context = stream.context();
    // SAFETY: no array meets another stream than its own without an event between them.
    unsafe { context.disable_event_tracking() };
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let Some(pool) = pool(context)? else { return Ok(()) };
    // SAFETY: the pool is the driver's, and the value has the type that it reads.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, std::ptr::from_mut(&mut threshold).cast()).result() }
        .map_err(|e| failed("setting up its memory", e))
}

/// `len` f32 numbers of `slice` from `start` on.
pub fn span<'a>(slice: &'a CudaSlice<f32>, start: usize, len: usize) -> Span<'a> {
    assert!(start + len <= slice.len(), "a span beyond its array");
    let (address, _) = slice.device_ptr(slice.stream());
    // SAFETY: the range was just checked, and the array outlives the borrow.
    unsafe { Span::new(address + 4 * start as u64, len, Precision::F32) }
}

/// An array of f32 that the caller fills before it reads it.
pub fn unset(stream: &Arc<CudaStream>, len: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: every bit pattern is an f32: one that is read too early is a wrong number, no more.
    allocated(stream, 4 * len, || unsafe { stream.alloc::<f32>(len) })
}

/// Compiled kernels by GPU: runs share them.
static MODULES: Mutex<Option<HashMap<usize, Arc<CudaModule>>>> = Mutex::new(None);

impl Cuda {
    /// The kernels of one run, whose arrays are used on `stream` alone.
    pub fn new(stream: Arc<CudaStream>, choices: Choices) -> Result<Self> {
        let context = stream.context().clone();
        let module = {
            let mut modules = lock(&MODULES);
            let modules = modules.get_or_insert_default();
            match modules.get(&context.ordinal()) {
                Some(module) => module.clone(),
                None => {
                    let module = compile(&context)?;
                    modules.insert(context.ordinal(), module.clone());
                    module
                }
            }
        };
        let blas = CudaBlas::new(stream.clone()).map_err(|e| failed("starting cuBLAS", e))?;
        // Otherwise a long sum that cuBLAS cuts in pieces may be rounded to bf16 piece by piece.
        let mode = blas_sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle was just created.
        unsafe { blas_sys::cublasSetMathMode(*blas.handle(), mode).result() }
            .map_err(|e| failed("setting up cuBLAS", e))?;
        let dnn = Dnn::new(&stream, choices.ranked)?;
        Ok(Self {
            stream,
            module,
            functions: Mutex::default(),
            blas: Mutex::new(blas),
            dnn: Mutex::new(dnn),
            tf32: choices.tf32,
            nccl: choices.nccl,
            carrier: OnceLock::new(),
        })
    }

    fn function(&self, name: &str) -> Result<CudaFunction> {
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(name) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(name).map_err(|e| failed(name, e))?;
        functions.insert(name.to_string(), function.clone());
        Ok(function)
    }

    /// Makes the context that of the calling thread.
    fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|e| failed("choosing the device", e))
    }
}

/// The kernels as machine code of this GPU: a driver refuses PTX of a newer compiler.
fn compile(context: &Arc<CudaContext>) -> Result<Arc<CudaModule>> {
    let (major, minor) = context.compute_capability().map_err(|e| failed("reading the device's kind", e))?;
    let what = "compiling the kernels";
    let source = CString::new(device::SOURCE).map_err(|e| failed(what, e))?;
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".to_string()];
    let program = nvrtc::create_program(&source, Some(c"kernels.cu")).map_err(|e| failed(what, e))?;
    // SAFETY: the program was just created, outlives the calls, and is destroyed once; sizes are
    // what NVRTC says.
    let code = unsafe {
        let compiled = nvrtc::compile_program(program, &options).map_err(|e| {
            let log = nvrtc::get_program_log(program).unwrap_or_default();
            let log = if log.is_empty() { c"" } else { CStr::from_ptr(log.as_ptr()) };
            failed(what, format!("{e}: {}", log.to_string_lossy()))
        });
        let code = compiled.and_then(|()| {
            let mut size = 0;
            nvrtc_sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(|e| failed(what, e))?;
            let mut code = vec![0u8; size];
            let to = code.as_mut_ptr().cast();
            nvrtc_sys::nvrtcGetCUBIN(program, to).result().map_err(|e| failed(what, e))?;
            Ok(code)
        });
        nvrtc::destroy_program(program).map_err(|e| failed(what, e))?;
        code?
    };
    context.load_module(Ptx::from_binary(code)).map_err(|e| failed("loading the kernels", e))
}

/// A buffer's array.
struct Owned {
    address: u64,
    slice: CudaSlice<u8>,
}

// SAFETY: the array is freed in the order of its stream when it is dropped, behind the work given
// before.
unsafe impl Memory for Owned {
    fn address(&self) -> u64 {
        self.address
    }
    fn bytes(&self) -> usize {
        self.slice.len()
    }
}

// SAFETY: every call stays within its spans, which hold addresses of this GPU.
unsafe impl Device for Cuda {
    fn name(&self, precision: Precision) -> &'static str {
        match (precision, self.tf32) {
            (Precision::Bf16, _) => "cuda-bf16",
            (Precision::F32, false) => "cuda",
            (Precision::F32, true) => TF32,
        }
    }

    fn algorithm(&self) -> &'static str {
        match lock(&self.dnn).ranked {
            true => "cuDNN and cuBLAS, the first of cuDNN's ranking that gives the same bytes every time",
            false => {
                "cuDNN and cuBLAS, the fastest algorithm, of those that give the same bytes every time where there are such"
            }
        }
    }

    fn gpu(&self) -> Option<usize> {
        Some(self.stream.context().ordinal())
    }

    fn kind(&self) -> Result<String> {
        let name = self.stream.context().name().map_err(|e| failed("asking for its name", e))?;
        let ((driver, libraries), dnn) = (versions()?, cudarc::cudnn::result::get_version());
        Ok(format!("{name}, driver for CUDA {driver}, CUDA {libraries}, cuDNN {dnn}"))
    }

    fn carrier(&self, ranks: &Arc<dyn Ranks>) -> Result<Option<Arc<dyn Carrier>>> {
        let joined = match self.carrier.get() {
            Some(joined) => joined,
            None => {
                let gpu = self.stream.context().uuid().map_err(|e| failed("asking for its number", e))?;
                let gpu = format!("{:?}", gpu.bytes);
                let library = self.nccl.as_deref();
                let joined = Nccl::join(library, ranks.as_ref(), &gpu, &self.stream)?.map(Arc::new);
                self.carrier.get_or_init(|| joined)
            }
        };
        Ok(joined.clone().map(|joined| joined as Arc<dyn Carrier>))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        // cuMemAlloc refuses a length of 0.
        let slice = allocated(&self.stream, bytes, || self.stream.alloc_zeros::<u8>(bytes.max(1)))?;
        let (address, _) = slice.device_ptr(&self.stream);
        Ok(Buffer::new(Box::new(Owned { address, slice })))
    }

    fn upload(&self, values: &[u8], to: Span) -> Result<()> {
        assert_eq!(values.len(), to.len() * to.precision().bytes());
        if values.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: `to` is as long as `values`, which outlives the wait that follows.
        let copied = unsafe { raw::memcpy_htod_async(to.address(), values, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(|e| failed("copying to the device", e))
    }

    fn download(&self, from: Span, values: &mut [u8]) -> Result<()> {
        assert_eq!(values.len(), from.len() * from.precision().bytes());
        if values.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: `values` is as long as `from` and outlives the wait that follows.
        let copied = unsafe { raw::memcpy_dtoh_async(values, from.address(), self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(|e| failed("copying from the device", e))
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let function = self.function(&launch.kernel)?;
        let mut params: Vec<_> = launch.args.iter().map(device::Arg::pointer).collect();
        let [x, y, z] = launch.grid.map(|n| n as u32);
        let [width, height] = launch.block.map(|n| n as u32);
        self.bind()?;
        let stream = self.stream.cu_stream();
        // SAFETY: the caller answers for the arguments, which live until the call has copied them.
        let launched = unsafe {
            raw::launch_kernel(function.cu_function(), (x, y, z), (width, height, 1), 0, stream, &mut params)
        };
        launched.map_err(|e| failed(&launch.kernel, e))
    }

    fn conv(&self, pass: Pass, shape: &Conv, a: Span, b: Span, out: Span) -> Result<bool> {
        self.bind()?;
        lock(&self.dnn).convolve(pass, shape, [a, b, out], self.tf32)
    }

    fn refused(&self) -> Vec<(Pass, Conv)> {
        lock(&self.dnn).refused()
    }

    fn product(&self, pass: Pass, shape: &Conv, a: Span, b: Span, out: Span) -> Result<bool> {
        let Some(rows) = as_product(shape) else { return Ok(false) };
        let (inputs, outputs) = (shape.in_channels, shape.out_channels);
        let (plain, turned) =
            (blas_sys::cublasOperation_t::CUBLAS_OP_N, blas_sys::cublasOperation_t::CUBLAS_OP_T);
        // cuBLAS counts by columns: row-major A·B is column-major Bᵀ·Aᵀ without moving a number.
        // Two factors, each with how it is taken and its leading dimension; then m, n, k.
        let (first, second, [m, n, k]) = match pass {
            Pass::Forward => ((b, plain, outputs), (a, plain, inputs), [outputs, rows, inputs]),
            Pass::InputGradient => ((b, turned, outputs), (a, plain, outputs), [inputs, rows, outputs]),
            Pass::WeightGradient => ((b, plain, outputs), (a, turned, inputs), [outputs, inputs, rows]),
        };
        let kind = |span: Span| match span.precision() {
            Precision::F32 => blas_sys::cudaDataType_t::CUDA_R_32F,
            Precision::Bf16 => blas_sys::cudaDataType_t::CUDA_R_16BF,
        };
        let compute = match self.tf32 && a.precision() == Precision::F32 {
            true => blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            false => blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let (one, zero) = (1f32, 0f32);
        self.bind()?;
        let handle = lock(&self.blas);
        // SAFETY: the lengths were checked against the shape by the caller, from which all sizes
        // here are taken; the two factors are host numbers, as the handle's default says.
        let made = unsafe {
            blas::gemm_ex(
                *handle.handle(),
                first.1,
                second.1,
                m as i32,
                n as i32,
                k as i32,
                std::ptr::from_ref(&one).cast(),
                first.0.address() as *const _,
                kind(first.0),
                first.2 as i32,
                second.0.address() as *const _,
                kind(second.0),
                second.2 as i32,
                std::ptr::from_ref(&zero).cast(),
                out.address() as *mut _,
                kind(out),
                m as i32,
                compute,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        made.map_err(|e| failed(&format!("the product for the {pass} of {shape}"), e))?;
        Ok(true)
    }
}
