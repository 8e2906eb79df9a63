//! Pickles of tensors and arrays, as `torch.save` and NumPy write them, read without running
//! anything.
//!
//! Values lie in one list and refer to each other by their place in it. An opcode adds at most one
//! value and copies none, and nothing is visited recursively: memory is bounded by the pickle's
//! length, and a memo that is fetched a thousand times, or a tuple nested a million deep, costs no
//! more than its bytes.

mod opcodes;
mod writer;

use crate::error::Result;
use opcodes::{Executed, Interpreter};
pub use opcodes::{Id, Value};
pub use writer::Writer;

/// A longer pickle of weights is refused: that of a large network with its optimiser has some
/// hundred kB.
const LONGEST: usize = 16 << 20;

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'a> {
    executed: Executed<'a>,
    /// Its length in bytes, where others may follow.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `bytes` begin with.
    ///
    /// # Errors
    /// [`crate::Error::Failure`] when it breaks off, is too long, or holds an opcode that neither
    /// `torch.save` nor NumPy writes.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        Self::read_within(bytes, LONGEST)
    }

    /// Reads the pickle that `bytes` begin with, of `longest` bytes at most.
    ///
    /// # Errors
    /// As [`Pickle::read`].
    pub fn read_within(bytes: &'a [u8], longest: usize) -> Result<Self> {
        let executed = Interpreter::run(bytes, longest)?;
        Ok(Self { len: executed.len, executed })
    }

    /// The value that was pickled.
    pub fn root(&self) -> &Value<'a> {
        self.get(self.executed.root)
    }

    /// The value at `id`.
    pub fn get(&self, id: Id) -> &Value<'a> {
        self.executed.values.get(id as usize).unwrap_or(&Value::Other)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.executed.values.iter()
    }

    /// The place of the state that the object at `id` was given beside its items.
    pub fn state(&self, id: Id) -> Option<Id> {
        self.executed.states.get(&id).copied()
    }

    /// Bytes, or the bytes of a string.
    pub fn bytes(&self, id: Id) -> Option<&'a [u8]> {
        match self.get(id) {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The place of the last value that the dict at `id` has for `key`.
    pub fn item(&self, id: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(id) else { return None };
        let found = entries.iter().rev().find(|(name, _)| self.bytes(*name) == Some(key.as_bytes()));
        found.map(|(_, value)| *value)
    }

    /// The place of the value that was pickled.
    pub fn root_id(&self) -> Id {
        self.executed.root
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
    use super::opcodes::MOST_VALUES;
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
        assert_eq!(Pickle::read(&doubled).unwrap().values().count(), 31);
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
    fn bytes_and_states_are_kept() {
        let pickle = Pickle::read(b"\x80\x02}U\x01aT\x02\x00\x00\x00\xff\x00sK\x07b.").unwrap();
        let value = pickle.item(pickle.root_id(), "a").unwrap();
        assert_eq!(
            (pickle.get(value), pickle.bytes(value)),
            (&Value::Bytes(b"\xff\x00"), Some(&b"\xff\x00"[..]))
        );
        assert_eq!(pickle.state(pickle.root_id()).map(|id| pickle.get(id)), Some(&Value::Int(7)));
        assert_eq!(pickle.item(pickle.root_id(), "b"), None);
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
