//! cuDNN's convolutions, channels last: descriptors and the fastest algorithm for each shape,
//! searched once in a process (`search.rs`).
//!
//! An algorithm that gives the same bytes every time comes before any that does not, and in f32
//! none is taken that rounds more than it was asked to.

use super::{allocated, failed};
use crate::error::{Error, Result};
use crate::kernel::device::{Pass, Span};
use crate::kernel::{Conv, Precision};
use crate::threads::lock;
use cudarc::cudnn::sys::{self, cudnnMathType_t as Math};
use cudarc::cudnn::{CudnnError, result};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// What a search is for: the GPU, the pass and its shape, how numbers are stored and whether f32 is
/// rounded to TF32.
type Key = (usize, Pass, Conv, Precision, bool);

/// What searches found; runs of one process compute alike, and none searches again.
static FOUND: Mutex<Option<HashMap<Key, Option<Choice>>>> = Mutex::new(None);

/// What a search finds.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub(super) algorithm: Algorithm,
    pub(super) math: Math,
    pub(super) workspace: usize,
}

/// An algorithm of one of the passes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// What a search ended with.
pub(super) struct Search {
    /// The algorithm; none where cuDNN has none for the shape.
    pub(super) choice: Option<Choice>,
    /// Whether memory was so short that another search may find a better one.
    pub(super) was_short: bool,
}

/// Descriptors of a convolution.
pub(super) struct Descriptors {
    pub(super) x: sys::cudnnTensorDescriptor_t,
    pub(super) w: sys::cudnnFilterDescriptor_t,
    pub(super) y: sys::cudnnTensorDescriptor_t,
    pub(super) conv: sys::cudnnConvolutionDescriptor_t,
}

/// A shape's pass, ready to run.
struct Chosen {
    descriptors: Descriptors,
    algorithm: Algorithm,
    workspace: usize,
}

/// A handle, what it has chosen, and scratch for all.
pub struct Dnn {
    pub(super) handle: sys::cudnnHandle_t,
    pub(super) stream: Arc<CudaStream>,
    chosen: HashMap<(Pass, Conv, Precision), Option<Chosen>>,
    workspace: Option<CudaSlice<u8>>,
    /// Whether algorithms are taken by cuDNN's own ranking.
    pub(super) ranked: bool,
}

// SAFETY: a handle and its descriptors may be used from any thread as long as it is one at a time,
// which `&mut self` sees to.
unsafe impl Send for Dnn {}

fn cudnn(e: CudnnError) -> Error {
    failed("cuDNN", e)
}

impl Descriptors {
    fn new(s: &Conv, precision: Precision, math: Math) -> Result<Self, CudnnError> {
        let kind = match precision {
            Precision::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            Precision::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let sizes = |sizes: [usize; 4]| sizes.map(|size| size as i32);
        let (padding, stride) = (s.padding as i32, s.stride as i32);
        let descriptors = Self {
            x: result::create_tensor_descriptor()?,
            w: result::create_filter_descriptor()?,
            y: result::create_tensor_descriptor()?,
            conv: result::create_convolution_descriptor()?,
        };
        let x = sizes([s.batch, s.in_channels, s.height, s.width]);
        let w = sizes([s.out_channels, s.in_channels, s.kernel, s.kernel]);
        let y = sizes([s.batch, s.out_channels, s.out_height(), s.out_width()]);
        // SAFETY: the descriptors were just created and none is freed before `drop`.
        unsafe {
            result::set_tensor4d_descriptor(descriptors.x, last, kind, x)?;
            result::set_filter4d_descriptor(descriptors.w, kind, last, w)?;
            result::set_tensor4d_descriptor(descriptors.y, last, kind, y)?;
            let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
            result::set_convolution2d_descriptor(
                descriptors.conv,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                mode,
                sums,
            )?;
            result::set_convolution_math_type(descriptors.conv, math)?;
        }
        Ok(descriptors)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: each was created once and is destroyed once. A failure leaves a few bytes behind,
        // no more.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_filter_descriptor(self.w);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_convolution_descriptor(self.conv);
        }
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        self.chosen.clear();
        // SAFETY: created once in `new`, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

pub(super) fn read(span: Span) -> *const c_void {
    span.address() as *const c_void
}

pub(super) fn write(span: Span) -> *mut c_void {
    span.address() as *mut c_void
}

impl Dnn {
    /// Works on `stream`; `ranked` takes algorithms by cuDNN's own ranking, not by their time.
    pub fn new(stream: &Arc<CudaStream>, ranked: bool) -> Result<Self> {
        stream.context().bind_to_thread().map_err(|e| failed("choosing the device", e))?;
        let handle = result::create_handle().map_err(cudnn)?;
        let dnn = Self { handle, stream: stream.clone(), chosen: HashMap::new(), workspace: None, ranked };
        // SAFETY: the handle was just created; the stream lives as long as it does.
        unsafe { result::set_stream(handle, stream.cu_stream() as *mut _) }.map_err(cudnn)?;
        Ok(dnn)
    }

    /// One pass over `[a, b, out]`; false where cuDNN has no algorithm for it.
    pub fn convolve(&mut self, pass: Pass, s: &Conv, spans: [Span; 3], tf32: bool) -> Result<bool> {
        let precision = spans[0].precision();
        let key = (pass, *s, precision);
        if !self.chosen.contains_key(&key) {
            let chosen = self.choose(pass, s, spans, tf32)?;
            self.chosen.insert(key, chosen);
        }
        let Some(Some(chosen)) = self.chosen.get(&key) else { return Ok(false) };
        let bytes = chosen.workspace;
        if self.workspace.as_ref().map_or(0, CudaSlice::len) < bytes {
            self.workspace = None;
            self.workspace = Some(self.scratch(bytes)?);
        }
        let workspace = self.workspace.as_ref().map_or(0, |slice| slice.device_ptr(&self.stream).0);
        let workspace = (workspace as *mut c_void, bytes);
        self.execute(&chosen.descriptors, chosen.algorithm, workspace, spans)
            .map_err(|e| failed(&format!("the {pass} of {s}"), e))?;
        Ok(true)
    }

    /// What cuDNN had no algorithm for.
    pub fn refused(&self) -> Vec<(Pass, Conv)> {
        let without = self.chosen.iter().filter(|(_, chosen)| chosen.is_none());
        without.map(|((pass, shape, _), _)| (*pass, *shape)).collect()
    }

    /// One pass by `algorithm` with scratch of so many bytes, enough for it.
    pub(super) fn execute(
        &self,
        d: &Descriptors,
        algorithm: Algorithm,
        (workspace, bytes): (*mut c_void, usize),
        [a, b, out]: [Span; 3],
    ) -> Result<(), CudnnError> {
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = (std::ptr::from_ref(&one).cast(), std::ptr::from_ref(&zero).cast());
        let handle = self.handle;
        // The calls of a pass differ in the order of what they are given.
        macro_rules! pass {
            ($call:ident, $algorithm:ident, $x:ident: $a:ident, $y:ident: $b:ident, $to:ident) => {
                result::$call(
                    handle,
                    one,
                    d.$x,
                    read($a),
                    d.$y,
                    read($b),
                    d.conv,
                    $algorithm,
                    workspace,
                    bytes,
                    zero,
                    d.$to,
                    write(out),
                )
            };
        }
        // SAFETY: the caller has checked the spans' lengths against the shape that the descriptors
        // were made of, and the workspace has the bytes that the algorithm asked for.
        unsafe {
            match algorithm {
                Algorithm::Forward(found) => pass!(convolution_forward, found, x: a, w: b, y),
                Algorithm::InputGradient(found) => pass!(convolution_backward_data, found, w: b, y: a, x),
                Algorithm::WeightGradient(found) => pass!(convolution_backward_filter, found, x: a, y: b, w),
            }
        }
    }

    pub(super) fn scratch(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: scratch has no meaning before it is written.
        allocated(&self.stream, bytes, || unsafe { self.stream.alloc::<u8>(bytes) })
    }

    /// The algorithm for a pass with its descriptors; none where cuDNN has no algorithm.
    fn choose(&self, pass: Pass, s: &Conv, spans: [Span; 3], tf32: bool) -> Result<Option<Chosen>> {
        let precision = spans[0].precision();
        let asked = match (precision, tf32) {
            (Precision::F32, false) => Math::CUDNN_FMA_MATH,
            (Precision::F32, true) => Math::CUDNN_DEFAULT_MATH,
            (Precision::Bf16, _) => Math::CUDNN_TENSOR_OP_MATH,
        };
        let descriptors = Descriptors::new(s, precision, asked).map_err(cudnn)?;
        let key = (self.stream.context().ordinal(), pass, *s, precision, tf32);
        // Held over a search: two at a time would time each other.
        let mut found = lock(&FOUND);
        let found = found.get_or_insert_default();
        let choice = match found.get(&key) {
            Some(choice) => *choice,
            None => {
                let Search { choice, was_short } = self.search(pass, &descriptors, spans, asked)?;
                if !was_short {
                    found.insert(key, choice);
                }
                choice
            }
        };
        let Some(Choice { algorithm, math, workspace }) = choice else { return Ok(None) };
        // SAFETY: the descriptor is alive.
        unsafe { result::set_convolution_math_type(descriptors.conv, math) }.map_err(cudnn)?;
        Ok(Some(Chosen { descriptors, algorithm, workspace }))
    }
}
