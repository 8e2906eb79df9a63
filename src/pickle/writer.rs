//! Pickles of named arrays, as NumPy's own have them, in protocol 3: Python's `pickle` reads them
//! with NumPy beside it.

use crate::error::{Error, Result};

/// Opcodes of protocol 3.
const PROTOCOL: [u8; 2] = [0x80, 3];
const EMPTY_DICT: u8 = b'}';
const MARK: u8 = b'(';
const SET_ITEMS: u8 = b'u';
const TEXT: u8 = b'X';
const BYTES: u8 = b'B';
const GLOBAL: u8 = b'c';
const REDUCE: u8 = b'R';
const BUILD: u8 = b'b';
const TUPLE: u8 = b't';
const BYTE: u8 = b'K';
const INT: u8 = b'J';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const STOP: u8 = b'.';

/// A dict that is being pickled: its entries follow each other.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Default for Writer {
    /// An empty dict.
    fn default() -> Self {
        Self { bytes: [&PROTOCOL[..], &[EMPTY_DICT, MARK]].concat() }
    }
}

impl Writer {
    /// Its next key, whose value has to follow.
    ///
    /// # Errors
    /// [`Error::Failure`] for text of 4 GiB, as all that follow for what is as long.
    pub fn key(&mut self, key: &str) -> Result<()> {
        self.text(key)
    }

    /// A text as a value.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.counted(TEXT, text.as_bytes())
    }

    /// `true` as a value.
    pub fn yes(&mut self) {
        self.bytes.push(TRUE);
    }

    /// A dict as a value; its entries are what `fill` writes.
    pub fn dict(&mut self, fill: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.bytes.extend([EMPTY_DICT, MARK]);
        fill(self)?;
        self.bytes.push(SET_ITEMS);
        Ok(())
    }

    /// A NumPy array of f32 of this `shape` as a value, rows one after another.
    pub fn array(&mut self, shape: &[usize], values: &[f32]) -> Result<()> {
        // numpy.core.multiarray._reconstruct(ndarray, (0,), b"b"), then its state.
        self.global("numpy.core.multiarray", "_reconstruct");
        self.bytes.push(MARK);
        self.global("numpy", "ndarray");
        self.bytes.extend([MARK, BYTE, 0, TUPLE]);
        self.counted(BYTES, b"b")?;
        self.bytes.extend([TUPLE, REDUCE, MARK, BYTE, 1, MARK]);
        for length in shape {
            let length = i32::try_from(*length).map_err(|_| too_long())?;
            self.bytes.push(INT);
            self.bytes.extend(length.to_le_bytes());
        }
        self.bytes.push(TUPLE);
        // dtype("f4"), little-endian: state (3, "<", None, None, None, -1, -1, 0).
        self.global("numpy", "dtype");
        self.bytes.push(MARK);
        self.text("f4")?;
        self.bytes.extend([FALSE, TRUE, TUPLE, REDUCE, MARK, BYTE, 3]);
        self.text("<")?;
        self.bytes.extend([NONE; 3]);
        for number in [-1i32, -1, 0] {
            self.bytes.push(INT);
            self.bytes.extend(number.to_le_bytes());
        }
        // C order, not Fortran's.
        self.bytes.extend([TUPLE, BUILD, FALSE]);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.counted(BYTES, &bytes)?;
        self.bytes.extend([TUPLE, BUILD]);
        Ok(())
    }

    /// The pickle.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([SET_ITEMS, STOP]);
        self.bytes
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.push(GLOBAL);
        self.bytes.extend(format!("{module}\n{name}\n").as_bytes());
    }

    fn counted(&mut self, opcode: u8, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
        self.bytes.push(opcode);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(bytes);
        Ok(())
    }
}

fn too_long() -> Error {
    Error::Failure("a pickle of this kind holds less than 4 GiB in one piece".into())
}

#[cfg(test)]
mod tests {
    use super::super::Pickle;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.key("model").unwrap();
        writer
            .dict(|model| {
                model.key("a.weight")?;
                model.array(&[2, 1], &[1.5, -2.0])
            })
            .unwrap();
        writer.key("name").unwrap();
        writer.text("sim").unwrap();
        writer.key("flag").unwrap();
        writer.yes();
        let bytes = writer.finish();
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.len, bytes.len());
        let root = pickle.root_id();
        let model = pickle.item(root, "model").unwrap();
        assert!(pickle.item(model, "a.weight").is_some());
        assert_eq!(pickle.bytes(pickle.item(root, "name").unwrap()), Some(&b"sim"[..]));
        let numbers = [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat();
        assert!(
            pickle.values().any(|value| matches!(value, super::super::Value::Bytes(b) if **b == numbers))
        );
    }
}
