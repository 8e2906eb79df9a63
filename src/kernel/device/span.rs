//! Memory where a machine computes, and ranges of it.

use super::super::Precision;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

/// Memory that a device gave.
///
/// # Safety
/// `bytes` bytes from `address` on belong to the value until it is dropped, and work that was given
/// to the device before is done before they are used for anything else.
pub unsafe trait Memory: Send {
    /// Where it begins, in the device's own addresses.
    fn address(&self) -> u64;
    /// How many bytes it has.
    fn bytes(&self) -> usize;
    /// Whether its addresses are this process's own, and aligned for f32.
    fn is_host(&self) -> bool {
        false
    }
}

/// Memory of this process.
struct Host {
    start: *mut f32,
    len: usize,
}

// SAFETY: it owns its numbers.
unsafe impl Send for Host {}

// SAFETY: the numbers live where they are until they are dropped here.
unsafe impl Memory for Host {
    fn address(&self) -> u64 {
        self.start as u64
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }

    fn is_host(&self) -> bool {
        true
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: the pointer and the length are those of the box that `Buffer::of_host` took
        // apart.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start, self.len)) });
    }
}

/// Owned memory. Whoever has a reference to it may write to it, as to a [`Cell`]; like that it is
/// never shared between threads.
pub struct Buffer {
    memory: Box<dyn Memory>,
    shared_by_no_threads: PhantomData<Cell<()>>,
}

impl Buffer {
    /// The buffer that owns `memory`.
    pub fn new(memory: Box<dyn Memory>) -> Self {
        Self { memory, shared_by_no_threads: PhantomData }
    }

    /// `len` numbers of f32 of this process, all zero.
    pub fn of_host(len: usize) -> Self {
        let start = Box::into_raw(vec![0f32; len].into_boxed_slice()).cast::<f32>();
        Self::new(Box::new(Host { start, len }))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// `len` numbers of `precision` from the `start`th on.
    pub fn span(&self, precision: Precision, start: usize, len: usize) -> Span<'_> {
        let size = precision.bytes();
        // Checked without wrapping: a range beyond the largest number is beyond the buffer too.
        let end = start.checked_add(len).and_then(|end| end.checked_mul(size));
        assert!(end.is_some_and(|end| end <= self.memory.bytes()), "a span beyond its buffer");
        // SAFETY: the range was just checked, and the buffer outlives the borrow.
        let span = unsafe { Span::new(self.memory.address() + (start * size) as u64, len, precision) };
        let access = if self.memory.is_host() { Access::Write } else { Access::Device };
        Span { access, ..span }
    }
}

/// What this process may do with the numbers of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing: they are a device's.
    Device,
    /// Read them.
    Read,
    /// Read and write them.
    Write,
}

/// Numbers where a machine computes. Spans may overlap, as references to cells may be equal: what
/// they hold is decided by the order of the operations. They stay on one thread for that reason.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    address: u64,
    len: usize,
    precision: Precision,
    access: Access,
    memory: PhantomData<(&'a (), *const ())>,
}

impl<'a> Span<'a> {
    /// `len` numbers at `address`.
    ///
    /// # Safety
    /// They lie in memory of the device that the span will be used with, and it lives for `'a`.
    pub unsafe fn new(address: u64, len: usize, precision: Precision) -> Self {
        Self { address, len, precision, access: Access::Device, memory: PhantomData }
    }

    /// Numbers of this process, to be read.
    pub fn of(values: &'a [f32]) -> Self {
        let address = values.as_ptr() as u64;
        let memory = PhantomData;
        Self { address, len: values.len(), precision: Precision::F32, access: Access::Read, memory }
    }

    /// Numbers of this process that nobody else sees meanwhile, to be written.
    pub fn of_mut(values: &'a mut [f32]) -> Self {
        let address = values.as_mut_ptr() as u64;
        let memory = PhantomData;
        Self { address, len: values.len(), precision: Precision::F32, access: Access::Write, memory }
    }

    /// Whether they are numbers of this process.
    pub fn is_host(&self) -> bool {
        self.access != Access::Device
    }

    /// Whether they are numbers of this process that may be written.
    pub fn is_writable(&self) -> bool {
        self.access == Access::Write
    }

    /// Whether some byte belongs to both.
    pub fn overlaps(&self, other: &Span) -> bool {
        let end = |span: &Span| span.address + (span.len * span.precision.bytes()) as u64;
        !self.is_empty() && !other.is_empty() && self.address < end(other) && other.address < end(self)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How they are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where they begin.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The numbers in `range`.
    pub fn part(&self, range: Range<usize>) -> Span<'a> {
        assert!(range.start <= range.end && range.end <= self.len, "a part beyond its span");
        let address = self.address + (range.start * self.precision.bytes()) as u64;
        Span { address, len: range.len(), ..*self }
    }

    /// The suffix of kernels for numbers like these.
    pub(super) fn suffix(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Whether packs of 16 bytes may be read from its beginning.
    pub(super) fn is_aligned(&self) -> bool {
        self.address.is_multiple_of(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_overlap_where_they_share_a_number() {
        let buffer = Buffer::of_host(16);
        let span = |start, len| buffer.span(Precision::F32, start, len);
        assert!(span(0, 8).overlaps(&span(7, 1)) && span(7, 1).overlaps(&span(0, 8)));
        assert!(!span(0, 8).overlaps(&span(8, 8)) && !span(8, 8).overlaps(&span(0, 8)));
        assert!(!span(0, 8).overlaps(&span(4, 0)) && !span(4, 0).overlaps(&span(0, 8)));
        assert!(span(0, 8).is_writable() && !Span::of(&[1.0]).is_writable());
    }

    #[test]
    fn a_span_beyond_its_buffer_is_refused_also_where_its_end_would_wrap() {
        let buffer = Buffer::of_host(16);
        assert_eq!(buffer.span(Precision::F32, 4, 12).len(), 12);
        for (start, len) in [(5, 12), (17, 0), (usize::MAX, 1), (1, usize::MAX), (usize::MAX / 4 + 1, 0)] {
            let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                buffer.span(Precision::F32, start, len).len()
            }));
            assert!(beyond.is_err(), "{start} {len}");
        }
    }
}
