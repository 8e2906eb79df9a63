//! An allocator that counts what each thread holds, so that a parser's memory can be bounded by a
//! test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static REFUSED_FROM: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// The system's allocator, counted for each thread.
pub struct Counting;

impl Counting {
    /// Whether `bytes` more may be taken; counts them.
    fn take(bytes: usize) -> bool {
        // A thread that is ending has no counters left; what it takes then is not counted.
        let fits = HELD.try_with(|held| {
            let now = held.get().saturating_add_unsigned(bytes);
            // One request of everything is kept in the count although it is refused: it is what a
            // test looks for.
            let _ = MOST.try_with(|most| most.set(most.get().max(now)));
            let fits = REFUSED_FROM.try_with(|from| now < from.get()).unwrap_or(true);
            if fits {
                held.set(now);
            }
            fits
        });
        fits.unwrap_or(true)
    }

    fn give(bytes: usize) {
        let _ = HELD.try_with(|held| held.set(held.get().saturating_sub_unsigned(bytes)));
    }
}

// SAFETY: every request goes to the system's allocator unchanged, or is refused with null; the
// counters are plain numbers of the thread and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if Self::take(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if Self::take(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::give(layout.size());
        if !Self::take(size) {
            Self::take(layout.size());
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes that this thread held at once during `work`, beyond what it held before. A
/// request that would lead to `refused_from` bytes or more gets none.
pub fn most_during(refused_from: usize, work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    REFUSED_FROM.set(before.saturating_add_unsigned(refused_from));
    work();
    REFUSED_FROM.set(isize::MAX);
    usize::try_from(MOST.get() - before).unwrap_or(0)
}
