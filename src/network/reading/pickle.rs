//! The pickles that `torch.save` writes, read without running anything.
//!
//! Values lie in one list and refer to each other by their place in it. An opcode adds at most one
//! value and copies none, and nothing is visited recursively: memory is bounded by the pickle's
//! length, and a memo that is fetched a thousand times, or a tuple nested a million deep, costs no
//! more than its bytes.

use super::opcodes::Interpreter;
pub use super::opcodes::{Id, Value};
use crate::error::Result;

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    /// Its length in bytes, where others may follow.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `bytes` begin with.
    ///
    /// # Errors
    /// [`Error::Failure`] when it breaks off, is too long, or holds an opcode that `torch.save`
    /// does not write.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let (values, root, len) = Interpreter::run(bytes)?;
        Ok(Self { values, root, len })
    }

    /// The value that was pickled.
    pub fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    /// The value at `id`.
    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }

    /// The elements of a tuple or list; none of anything else.
    pub fn sequence(&self, id: Id) -> &[Id] {
        match self.get(id) {
            Value::Sequence(elements) => elements,
            _ => &[],
        }
    }

    /// A tuple of numbers that are no less than 0.
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let Value::Sequence(elements) = self.get(id) else { return None };
        elements.iter().map(|id| self.size(*id)).collect()
    }

    /// A number that is no less than 0.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::opcodes::{LONGEST, MOST_VALUES};
    use super::*;

    #[test]
    fn what_is_nested_or_fetched_often_costs_no_more_than_its_bytes() {
        let deep = [&b"\x80\x02N"[..], &vec![0x85; 1_000_000], b"."].concat();
        assert!(matches!(Pickle::read(&deep).unwrap().root(), Value::Sequence(one) if one.len() == 1));
        let lists = [&b"\x80\x02"[..], &vec![b']'; 500_000], &vec![b'a'; 499_999], b"."].concat();
        assert!(matches!(Pickle::read(&lists).unwrap().root(), Value::Sequence(one) if one.len() == 1));
        // Each line doubles what the one before holds.
        let mut doubled = b"\x80\x02Nq\x00".to_vec();
        for _ in 0..30 {
            doubled.extend(b"h\x00h\x00\x86q\x00");
        }
        doubled.push(b'.');
        assert_eq!(Pickle::read(&doubled).unwrap().values.len(), 31);
    }

    #[test]
    fn what_is_broken_or_too_long_is_a_sentence() {
        for (bytes, words) in [
            (&b""[..], "breaks off"),
            (b"\x80\x02X\xff\xff\xff\xff", "breaks off"),
            (b"\x80\x02.", "not there"),
            (b"(K\x01\x85", "breaks off"),
            (b"K\x01(\x85.", "not there"),
            (b"t.", "mark"),
            (b"h\x07.", "not kept"),
            (b"c\nos", "breaks off"),
            (b"\xff.", "0xff"),
            (b"K\x01K\x02\x93.", "no string"),
        ] {
            let error = Pickle::read(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{bytes:?}: {error}");
        }
        let many = vec![b'N'; MOST_VALUES + 1];
        assert!(Pickle::read(&many).unwrap_err().to_string().contains("values"));
        let long = [&b"T"[..], &(LONGEST as u32).to_le_bytes(), &vec![b' '; LONGEST]].concat();
        assert!(Pickle::read(&long).unwrap_err().to_string().contains("longer than 16 MiB"));
    }

    #[test]
    fn numbers_keep_their_signs() {
        fn read(bytes: &[u8]) -> Value<'_> {
            Pickle::read(bytes).unwrap().root().clone()
        }
        assert_eq!(read(b"J\xff\xff\xff\xff."), Value::Int(-1));
        assert_eq!(read(b"\x8a\x01\x80."), Value::Int(-128));
        assert_eq!(read(b"\x8a\x02\x80\x00."), Value::Int(128));
        assert_eq!(read(b"\x8a\x00."), Value::Int(0));
    }
}
