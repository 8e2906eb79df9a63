//! Numbers in memory or, when they are too many, in a memory-mapped file without a name.

use std::io::{self, Read};
use std::path::Path;

/// A fixed number of f32, all zero at first.
#[derive(Debug)]
pub enum Store {
    /// In memory.
    Memory(Vec<f32>),
    /// In a mapped file; the system keeps in memory what is in use.
    Mapped(memmap2::MmapMut),
}

impl Store {
    /// `len` zeros in memory.
    pub fn memory(len: usize) -> Self {
        Store::Memory(vec![0.0; len])
    }

    /// `len` zeros in an unnamed file in `folder`, which disappears with the value.
    ///
    /// # Errors
    /// The system's, when the file cannot be made, sized or mapped.
    pub fn mapped(folder: &Path, len: usize) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(folder)?;
        // Real zeros, not a hole: a full disk is an error here instead of a bus error later.
        io::copy(&mut io::repeat(0).take(len as u64 * 4), &mut file)?;
        // SAFETY: the file has no name, so no other process can open, shrink or write it; it has
        // just been given its full length, and only this map refers to it from here on.
        Ok(Store::Mapped(unsafe { memmap2::MmapMut::map_mut(&file)? }))
    }

    /// All numbers.
    pub fn as_slice(&self) -> &[f32] {
        match self {
            Store::Memory(values) => values,
            // SAFETY: a map starts at a page boundary, so it is aligned for f32; its length is a
            // multiple of 4; every bit pattern is an f32; the borrow of self keeps it alive.
            Store::Mapped(map) => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / 4) },
        }
    }

    /// All numbers, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        match self {
            Store::Memory(values) => values,
            // SAFETY: as in `as_slice`; the exclusive borrow of self makes this the only reference.
            Store::Mapped(map) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), map.len() / 4)
            },
        }
    }
}
