//! Spans of this process's memory as slices.

use crate::kernel::Precision;
use crate::kernel::device::Span;

/// The f32 numbers of a span that an operation reads.
pub(super) fn slice<'a>(span: Span<'a>) -> &'a [f32] {
    assert!(span.is_host() && span.precision() == Precision::F32, "numbers of a device, or no f32");
    // SAFETY: they lie in this process and live for 'a. Only operations write to them, one at a
    // time: spans stay on one thread, and an operation ends before the next begins. Within this one
    // `slice_mut` has checked that nothing it writes is read.
    unsafe { std::slice::from_raw_parts(span.address() as *const f32, span.len()) }
}

/// The f32 numbers of a span that an operation writes while it reads or writes those of `others`.
#[allow(clippy::mut_from_ref)]
pub(super) fn slice_mut<'a>(span: Span<'a>, others: &[Span]) -> &'a mut [f32] {
    assert!(span.is_writable() && span.precision() == Precision::F32, "numbers that are only read");
    assert!(others.iter().all(|other| !span.overlaps(other)), "an operation would write what it reads");
    // SAFETY: as in `slice`; that nobody else has borrowed them is what `is_writable` says.
    unsafe { std::slice::from_raw_parts_mut(span.address() as *mut f32, span.len()) }
}

/// Writes f64 sums as f32.
pub(super) fn put(sums: &[f64], to: Span) {
    slice_mut(to, &[]).iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum as f32);
}
