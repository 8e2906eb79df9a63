//! The choice of a convolution's algorithm: by time, or by cuDNN's own ranking.

use super::dnn::{Algorithm, Choice, Descriptors, Dnn, Search, read, write};
use super::{failed, trim};
use crate::error::Result;
use crate::kernel::device::{Pass, Span};
use cudarc::cudnn::result;
use cudarc::cudnn::sys::{self, cudnnMathType_t as Math, cudnnStatus_t as Status};
use cudarc::driver::{CudaSlice, DevicePtr};
use std::ffi::c_void;

/// Scratch that a search may use at most.
const SEARCH_BYTES: usize = 1 << 30;
/// Algorithms that a search reports at most; each pass has fewer.
const MOST: usize = 16;

/// What is the same in the reports on the three passes.
struct Report {
    algorithm: Algorithm,
    status: Status,
    memory: usize,
    determinism: sys::cudnnDeterminism_t,
    math: Math,
}

/// What a status means for a shape. The codes are those of cuDNN 8 and 9.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Works,
    /// It needs more scratch than it got.
    Short,
    /// cuDNN has no such algorithm for the shape, or could not time it.
    Refused,
    /// The library, the driver or the GPU: plain loops would hide that something is wrong.
    Failed,
}

fn meaning(status: Status) -> Meaning {
    match status as u32 {
        0 => Meaning::Works,
        2 | 2006 | 4003 | 4004 => Meaning::Short,
        3 | 4 | 5 | 9 | 2000..=2999 | 3000..=3004 | 3010..=4999 => Meaning::Refused,
        _ => Meaning::Failed,
    }
}

impl Report {
    /// Whether the algorithm works and rounds no more than it may: `full` stands for all of f32.
    fn is_usable(&self, full: bool) -> bool {
        let rounds = match self.math {
            // Would round f32 to half precision.
            Math::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION => true,
            Math::CUDNN_TENSOR_OP_MATH => full,
            _ => false,
        };
        meaning(self.status) == Meaning::Works && !rounds
    }
}

/// How many of the `found` reports there are behind a call that ended with `status`; none where
/// cuDNN refuses the shape.
fn count(status: Status, found: i32) -> Result<usize> {
    match meaning(status) {
        Meaning::Works => Ok(usize::try_from(found).unwrap_or(0)),
        Meaning::Refused => Ok(0),
        Meaning::Short | Meaning::Failed => {
            Err(failed("cuDNN's search for an algorithm", format!("{status:?}")))
        }
    }
}

impl Dnn {
    /// Times every algorithm on the spans themselves, whose result is overwritten anyway; or asks
    /// cuDNN which it would take.
    pub(super) fn search(
        &self,
        pass: Pass,
        descriptors: &Descriptors,
        spans: [Span; 3],
        asked: Math,
    ) -> Result<Search> {
        let full = asked == Math::CUDNN_FMA_MATH;
        let attempt = |bytes: usize| -> Result<Vec<Report>> {
            let scratch = if self.ranked { None } else { Some(self.scratch(bytes)?) };
            let reports = self.reports(pass, descriptors, spans, scratch.as_ref())?;
            // A search needs much more than what it finds; a run of a small network should not keep
            // it.
            if scratch.is_some() {
                drop(scratch);
                trim(&self.stream)?;
            }
            Ok(reports)
        };
        let usable = |report: &Report| report.is_usable(full);
        let (mut reports, mut was_short) = match attempt(SEARCH_BYTES) {
            Ok(reports) => (reports, false),
            Err(_) => (attempt(SEARCH_BYTES / 16)?, true),
        };
        if !reports.iter().any(usable) {
            let short = reports.iter().filter(|report| meaning(report.status) == Meaning::Short);
            if let Some(needed) = short.map(|report| report.memory).filter(|bytes| *bytes > 0).min() {
                reports = attempt(needed)?;
                was_short = true;
            }
        }
        // Reports come fastest first; those that give the same bytes every time come before the
        // others.
        let repeats = |report: &&Report| report.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC;
        let candidates = || reports.iter().filter(|report| usable(report));
        let ordered = candidates().filter(repeats).chain(candidates().filter(|report| !repeats(report)));
        let choices = ordered.map(|report| Choice {
            algorithm: report.algorithm,
            math: if full { asked } else { report.math },
            workspace: report.memory,
        });
        for choice in choices {
            if !self.ranked || self.tries(descriptors, choice, spans)? {
                return Ok(Search { choice: Some(choice), was_short });
            }
        }
        let fails = |report: &Report| matches!(meaning(report.status), Meaning::Short | Meaning::Failed);
        if reports.iter().any(fails) {
            let told =
                reports.iter().map(|r| format!("{:?}: {:?}, {} bytes", r.algorithm, r.status, r.memory));
            let told: Vec<String> = told.collect();
            return Err(failed("cuDNN's search for an algorithm", told.join("; ")));
        }
        Ok(Search { choice: None, was_short })
    }

    /// Whether an algorithm that was not timed runs: a ranking executes nothing.
    fn tries(&self, descriptors: &Descriptors, choice: Choice, spans: [Span; 3]) -> Result<bool> {
        let scratch = self.scratch(choice.workspace.max(1))?;
        let workspace = (scratch.device_ptr(&self.stream).0 as *mut c_void, choice.workspace);
        // SAFETY: the descriptor is alive.
        unsafe { result::set_convolution_math_type(descriptors.conv, choice.math) }
            .map_err(|e| failed("cuDNN", e))?;
        Ok(self.execute(descriptors, choice.algorithm, workspace, spans).is_ok())
    }

    /// What cuDNN found with `scratch`, or how it ranks algorithms without; nothing where it
    /// refuses the shape.
    fn reports(
        &self,
        pass: Pass,
        d: &Descriptors,
        [a, b, out]: [Span; 3],
        scratch: Option<&CudaSlice<u8>>,
    ) -> Result<Vec<Report>> {
        let workspace =
            scratch.map(|scratch| (scratch.device_ptr(&self.stream).0 as *mut c_void, scratch.len()));
        let (handle, most) = (self.handle, MOST as i32);
        let mut found = 0;
        let (a, b, out) = (read(a), read(b), write(out));
        // The calls of a pass differ in their types and in the order of what they are given.
        macro_rules! reports {
            ($pass:ident, $entry:ident, $find:ident($($found:expr),*), $get:ident($($ranked:expr),*)) => {{
                let mut entries: [sys::$entry; MOST] = std::mem::zeroed();
                let to = entries.as_mut_ptr();
                let status = match workspace {
                    Some((workspace, bytes)) => {
                        sys::$find(handle, $($found),*, most, &mut found, to, workspace, bytes)
                    }
                    None => sys::$get(handle, $($ranked),*, most, &mut found, to),
                };
                let report = |entry: &sys::$entry| Report {
                    algorithm: Algorithm::$pass(entry.algo),
                    status: entry.status,
                    memory: entry.memory,
                    determinism: entry.determinism,
                    math: entry.mathType,
                };
                entries[..count(status, found)?].iter().map(report).collect()
            }};
        }
        // SAFETY: the descriptors are alive and the spans as long as they say; an entry is plain
        // numbers, of which zeros are valid, and cuDNN writes at most the `most` entries that there
        // are.
        Ok(unsafe {
            match pass {
                Pass::Forward => reports!(
                    Forward,
                    cudnnConvolutionFwdAlgoPerf_t,
                    cudnnFindConvolutionForwardAlgorithmEx(d.x, a, d.w, b, d.conv, d.y, out),
                    cudnnGetConvolutionForwardAlgorithm_v7(d.x, d.w, d.conv, d.y)
                ),
                Pass::InputGradient => reports!(
                    InputGradient,
                    cudnnConvolutionBwdDataAlgoPerf_t,
                    cudnnFindConvolutionBackwardDataAlgorithmEx(d.w, b, d.y, a, d.conv, d.x, out),
                    cudnnGetConvolutionBackwardDataAlgorithm_v7(d.w, d.y, d.conv, d.x)
                ),
                Pass::WeightGradient => reports!(
                    WeightGradient,
                    cudnnConvolutionBwdFilterAlgoPerf_t,
                    cudnnFindConvolutionBackwardFilterAlgorithmEx(d.x, a, d.y, b, d.conv, d.w, out),
                    cudnnGetConvolutionBackwardFilterAlgorithm_v7(d.x, d.y, d.conv, d.w)
                ),
            }
        })
    }
}
