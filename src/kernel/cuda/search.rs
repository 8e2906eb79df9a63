//! The search for a convolution's fastest algorithm.

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
    /// Times every algorithm on the spans themselves, whose result is overwritten anyway.
    pub(super) fn search(
        &self,
        pass: Pass,
        descriptors: &Descriptors,
        spans: [Span; 3],
        asked: Math,
    ) -> Result<Search> {
        let full = asked == Math::CUDNN_FMA_MATH;
        let scratch = self.scratch(SEARCH_BYTES).or_else(|_| self.scratch(SEARCH_BYTES / 16))?;
        let available = scratch.len();
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
        let mut usable = self.reports(pass, descriptors, spans, &scratch)?;
        // A search needs much more than what it finds; a run of a small network should not keep it.
        drop(scratch);
        trim(&self.stream)?;
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

    /// What cuDNN found; nothing where it refuses the shape.
    fn reports(
        &self,
        pass: Pass,
        d: &Descriptors,
        [a, b, out]: [Span; 3],
        scratch: &CudaSlice<u8>,
    ) -> Result<Vec<Report>> {
        let (address, _) = scratch.device_ptr(&self.stream);
        let (workspace, bytes) = (address as *mut c_void, scratch.len());
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
                    let status = sys::cudnnFindConvolutionForwardAlgorithmEx(
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
                    );
                    let found = count(status, found)?;
                    reports!(Forward, entries[..found])
                }
                Pass::InputGradient => {
                    let mut entries: [sys::cudnnConvolutionBwdDataAlgoPerf_t; MOST] = std::mem::zeroed();
                    let to = entries.as_mut_ptr();
                    let status = sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
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
                    );
                    let found = count(status, found)?;
                    reports!(InputGradient, entries[..found])
                }
                Pass::WeightGradient => {
                    let mut entries: [sys::cudnnConvolutionBwdFilterAlgoPerf_t; MOST] = std::mem::zeroed();
                    let to = entries.as_mut_ptr();
                    let status = sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
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
                    );
                    let found = count(status, found)?;
                    reports!(WeightGradient, entries[..found])
                }
            }
        })
    }
}
