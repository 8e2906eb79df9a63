//! How work is spread: tasks fixed by the shape, buffers that stay with their thread.

use std::cell::RefCell;

use rayon::prelude::*;

/// Runs `task(0)`, …, `task(count − 1)` in the current pool. Tasks must write to disjoint places.
pub(super) fn for_each(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// Cuts `len` into `parts` pieces whose sizes differ by at most one; the range of piece `part`.
pub(super) fn piece(len: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    len * part / parts..len * (part + 1) / parts
}

/// A pointer to numbers that tasks write without overlap.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: only a pointer; each dereference argues for itself that no two tasks touch one number.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(slice: &mut [f32]) -> Self {
        Shared(slice.as_mut_ptr())
    }
    /// Shares what starts at `pointer`, usually a part of something shared.
    pub(super) fn new_at(pointer: *mut f32) -> Self {
        Shared(pointer)
    }
    /// The pointer `offset` numbers on.
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// One cache line, so that buffers of these start at one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Buffers of one thread, grown to the largest need and kept.
#[derive(Default)]
pub(super) struct Workspace {
    lines: Vec<Line>,
    /// Offsets of pixels, contents left from before.
    pub rows: Vec<usize>,
    /// Offsets of pixels, contents left from before.
    pub outs: Vec<usize>,
}

impl Workspace {
    /// At least `len` numbers from the start of a cache line, contents left from before.
    pub(super) fn floats(lines: &mut Self, len: usize) -> *mut f32 {
        let count = len.div_ceil(16);
        if lines.lines.len() < count {
            lines.lines.resize(count, Line([0.0; 16]));
        }
        lines.lines.as_mut_ptr().cast()
    }
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Lends the thread's buffers to `work`, which must not start parallel work.
pub(super) fn with_workspace(work: impl FnOnce(&mut Workspace)) {
    WORKSPACE.with_borrow_mut(work);
}

/// The part of `scratch` from its first cache line on; one line of numbers is reserved for this.
pub(super) fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(64).min(scratch.len());
    &mut scratch[skip..]
}

/// Numbers lost to [`aligned`] at most.
pub(super) const ALIGNMENT: usize = 16;
