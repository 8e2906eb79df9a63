//! Numbers in memory or, when they are too many, in a memory-mapped file without a name.

use super::Plain;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;

/// A fixed number of f32 or bf16, all zero at first.
#[derive(Debug)]
pub enum Store<T> {
    /// In memory.
    Memory(Vec<T>),
    /// In a mapped file; the system keeps in memory what is in use, and takes it away where memory
    /// is short.
    Mapped(memmap2::MmapMut, PhantomData<T>),
}

impl<T: Plain> Store<T> {
    /// `len` zeros in memory.
    pub fn memory(len: usize) -> Self {
        Store::Memory(vec![T::default(); len])
    }

    /// `len` zeros in an unnamed file in `folder`, which disappears with the value.
    ///
    /// # Errors
    /// The system's, when the file cannot be made, sized or mapped.
    pub fn mapped(folder: &Path, len: usize) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(folder)?;
        // Real zeros, not a hole: a full disk is an error here instead of a bus error later.
        io::copy(&mut io::repeat(0).take((len * size_of::<T>()) as u64), &mut file)?;
        // SAFETY: the file has no name, so no other process can open, shrink or write it; it has
        // just been given its full length, and only this map refers to it from here on.
        Ok(Store::Mapped(unsafe { memmap2::MmapMut::map_mut(&file)? }, PhantomData))
    }

    /// Says that the numbers in `ranges` are used next and nothing around them: the system fetches
    /// them side by side. Without this it reads megabytes around each of them, and throws out what
    /// is needed next.
    pub fn fetch(&self, ranges: impl Iterator<Item = Range<usize>>) {
        #[cfg(unix)]
        if let Store::Mapped(map, _) = self {
            let size = size_of::<T>();
            // Advice changes no results: where the system does not take it, reading is only slower.
            let _ = map.advise(memmap2::Advice::Random);
            for range in ranges {
                let _ = map.advise_range(
                    memmap2::Advice::WillNeed,
                    range.start * size,
                    (range.end - range.start) * size,
                );
            }
        }
        #[cfg(not(unix))]
        drop(ranges);
    }

    /// Says that all numbers are used next, in their order.
    pub fn fetch_in_order(&self) {
        #[cfg(unix)]
        if let Store::Mapped(map, _) = self {
            // As in `fetch`.
            let _ = map.advise(memmap2::Advice::Sequential);
        }
    }

    /// All numbers.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Store::Memory(values) => values,
            // SAFETY: a map starts at a page boundary, so it is aligned for T, which is f32 or u16
            // (Plain is sealed); every bit pattern is one; the borrow of self keeps the map alive.
            Store::Mapped(map, _) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / size_of::<T>())
            },
        }
    }

    /// All numbers, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Store::Memory(values) => values,
            // SAFETY: as in `as_slice`; the exclusive borrow of self makes this the only reference.
            Store::Mapped(map, _) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), map.len() / size_of::<T>())
            },
        }
    }
}
