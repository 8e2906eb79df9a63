//! The choice of a convolution's algorithm: by time, or by cuDNN's own ranking.

use super::dnn::{Algorithm, Choice, Descriptors, Dnn, read, write};
use super::{failed, trim};
use crate::error::Result;
use crate::kernel::device::{Pass, Span};
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

macro_rules! reports {
    ($pass:ident, $entries:expr) => {
        $entries
            .iter()
            .map(|entry| Report {
                algorithm: Algorithm::$pass(entry.algo),
                status: entry.status,
                memory: entry.memory,
                determinism: entry.determinism,
                math: entry.mathType,
            })
            .collect()
    };
}

/// What a search ended with.
pub(super) struct Search {
    /// The algorithm; none where cuDNN has none for the shape.
    pub(super) choice: Option<Choice>,
    /// Whether memory was so short that another search may find a better one.
    pub(super) was_short: bool,
}

/// Whether cuDNN refuses a shape, by the codes of version 8 and 9; any other failure is one of the library, the driver or
/// the memory, after which plain loops would hide that something is wrong.
fn refuses(status: Status) -> bool {
    matches!(status as u32, 3 | 5 | 9 | 2000..=2999 | 3000..=3004 | 3010..=3999)
}

impl Dnn {
    /// Times every algorithm on the spans themselves, whose result is overwritten anyway; or asks cuDNN which it would take.
    pub(super) fn search(
        &self,
        pass: Pass,
        descriptors: &Descriptors,
        spans: [Span; 3],
        asked: Math,
    ) -> Result<Search> {
        let full = asked == Math::CUDNN_FMA_MATH;
        let mut scratch = match self.ranked {
            true => None,
            false => Some(self.scratch(SEARCH_BYTES).or_else(|_| self.scratch(SEARCH_BYTES / 16))?),
        };
        let available = scratch.as_ref().map_or(SEARCH_BYTES, CudaSlice::len);
        let was_short = available < SEARCH_BYTES;
        let allowed = |report: &Report| match report.math {
            // Would round f32 to half precision.
            Math::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION => false,
            Math::CUDNN_TENSOR_OP_MATH => !full,
            _ => true,
        };
        let works =
            |report: &Report| report.status == Status::CUDNN_STATUS_SUCCESS && report.memory <= available;
        let repeats = |report: &Report| report.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC;
        // Reports come fastest first.
        let mut usable = self.reports(pass, descriptors, spans, scratch.as_ref())?;
        // A search needs much more than what it finds; a run of a small network should not keep it.
        if scratch.take().is_some() {
            trim(&self.stream)?;
        }
        let failure = usable
            .iter()
            .map(|report| report.status)
            .find(|status| *status != Status::CUDNN_STATUS_SUCCESS && !refuses(*status));
        usable.retain(|report| works(report) && allowed(report));
        let best = usable.iter().find(|report| repeats(report)).or(usable.first());
        if let (None, Some(status)) = (best, failure) {
            return Err(failed("cuDNN's search for an algorithm", format!("{status:?}")));
        }
        let choice = best.map(|best| Choice {
            algorithm: best.algorithm,
            math: if full { asked } else { best.math },
            workspace: best.memory,
        });
        Ok(Search { choice, was_short })
    }

    /// What cuDNN found with `scratch`, or how it ranks algorithms without; nothing where it refuses the shape.
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
        let count = |status: Status, found: i32| match status {
            Status::CUDNN_STATUS_SUCCESS => Ok(usize::try_from(found).unwrap_or(0)),
            status if refuses(status) => Ok(0),
            status => Err(failed("cuDNN's search for an algorithm", format!("{status:?}"))),
        };
        // SAFETY: the descriptors are alive and the spans as long as they say; an entry is plain numbers, of which zeros are
        // valid, and cuDNN writes at most the `most` entries that there are.
        Ok(unsafe {
            match pass {
                Pass::Forward => {
                    let mut entries: [sys::cudnnConvolutionFwdAlgoPerf_t; MOST] = std::mem::zeroed();
                    let to = entries.as_mut_ptr();
                    let status = match workspace {
                        Some((workspace, bytes)) => sys::cudnnFindConvolutionForwardAlgorithmEx(
                            handle,
                            d.x,
                            read(a),
                            d.w,
                            read(b),
                            d.conv,
                            d.y,
                            write(out),
                            most,
                            &mut found,
                            to,
                            workspace,
                            bytes,
                        ),
                        None => sys::cudnnGetConvolutionForwardAlgorithm_v7(
                            handle, d.x, d.w, d.conv, d.y, most, &mut found, to,
                        ),
                    };
                    let found = count(status, found)?;
                    reports!(Forward, entries[..found])
                }
                Pass::InputGradient => {
                    let mut entries: [sys::cudnnConvolutionBwdDataAlgoPerf_t; MOST] = std::mem::zeroed();
                    let to = entries.as_mut_ptr();
                    let status = match workspace {
                        Some((workspace, bytes)) => sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                            handle,
                            d.w,
                            read(b),
                            d.y,
                            read(a),
                            d.conv,
                            d.x,
                            write(out),
                            most,
                            &mut found,
                            to,
                            workspace,
                            bytes,
                        ),
                        None => sys::cudnnGetConvolutionBackwardDataAlgorithm_v7(
                            handle, d.w, d.y, d.conv, d.x, most, &mut found, to,
                        ),
                    };
                    let found = count(status, found)?;
                    reports!(InputGradient, entries[..found])
                }
                Pass::WeightGradient => {
                    let mut entries: [sys::cudnnConvolutionBwdFilterAlgoPerf_t; MOST] = std::mem::zeroed();
                    let to = entries.as_mut_ptr();
                    let status = match workspace {
                        Some((workspace, bytes)) => sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                            handle,
                            d.x,
                            read(a),
                            d.y,
                            read(b),
                            d.conv,
                            d.w,
                            write(out),
                            most,
                            &mut found,
                            to,
                            workspace,
                            bytes,
                        ),
                        None => sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7(
                            handle, d.x, d.y, d.conv, d.w, most, &mut found, to,
                        ),
                    };
                    let found = count(status, found)?;
                    reports!(WeightGradient, entries[..found])
                }
            }
        })
    }
}
