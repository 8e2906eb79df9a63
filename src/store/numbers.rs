//! Numbers on their way into a checkpoint and back: f32 or bf16, in memory, still in a file, or
//! still on a device.
//!
//! A bank of 1.28 M × 2048 numbers takes 10 GB, and it is never copied as a whole: it is borrowed,
//! or read from its device piece by piece, when it is saved, and read from the checkpoint piece by
//! piece into the place where it is kept.

use crate::kernel::Precision;
use crate::kernel::ranks::Number;
use std::borrow::Cow;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

/// Numbers turned into bytes, or back, at a time.
const CHUNK: usize = 1 << 15;
/// Numbers of a device moved at a time: it gives a few slowly.
pub const PIECE: usize = if cfg!(test) { 3 * CHUNK / 2 } else { 1 << 24 };

impl Precision {
    /// Every one.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// Bytes of a number that is stored.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// What safetensors calls it.
    pub fn dtype(self) -> &'static str {
        match self {
            Precision::F32 => "F32",
            Precision::Bf16 => "BF16",
        }
    }
}

/// f32, or bf16 by its bits: numbers of which every bit pattern is one.
pub trait Plain: Number + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// How they are stored.
    const PRECISION: Precision;
    /// The number's bytes, little-endian, behind those in `out`.
    fn put(self, out: &mut Vec<u8>);
    /// The number of these bytes, as many as [`Precision::bytes`] says.
    fn take(bytes: &[u8]) -> Self;
    /// The number nearest to `value`; of two that are equally near, the even one.
    fn round(value: f32) -> Self;
    /// The number as f32, which holds it exactly.
    fn widen(self) -> f32;
    /// `part` as numbers of this kind.
    fn numbers(part: Part<'_, Self>) -> Numbers<'_>;
    /// `numbers`, where they are of this kind.
    fn part<'a>(numbers: &'a Numbers<'a>) -> Option<&'a Part<'a, Self>>;
    /// The same, taken.
    fn into_part(numbers: Numbers<'static>) -> Option<Part<'static, Self>>;
}

impl Plain for f32 {
    const PRECISION: Precision = Precision::F32;
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    fn round(value: f32) -> f32 {
        value
    }
    fn widen(self) -> f32 {
        self
    }
    fn numbers(part: Part<'_, Self>) -> Numbers<'_> {
        Numbers::F32(part)
    }
    fn part<'a>(numbers: &'a Numbers<'a>) -> Option<&'a Part<'a, Self>> {
        if let Numbers::F32(part) = numbers { Some(part) } else { None }
    }
    fn into_part(numbers: Numbers<'static>) -> Option<Part<'static, f32>> {
        if let Numbers::F32(part) = numbers { Some(part) } else { None }
    }
}

impl Plain for u16 {
    const PRECISION: Precision = Precision::Bf16;
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(bytes: &[u8]) -> u16 {
        u16::from_le_bytes([bytes[0], bytes[1]])
    }
    fn round(value: f32) -> u16 {
        let bits = value.to_bits();
        if value.is_nan() {
            // Rounding up could carry into the exponent and make it infinite.
            return (bits >> 16) as u16 | 0x0040;
        }
        ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
    }
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
    fn numbers(part: Part<'_, Self>) -> Numbers<'_> {
        Numbers::Bf16(part)
    }
    fn part<'a>(numbers: &'a Numbers<'a>) -> Option<&'a Part<'a, Self>> {
        if let Numbers::Bf16(part) = numbers { Some(part) } else { None }
    }
    fn into_part(numbers: Numbers<'static>) -> Option<Part<'static, u16>> {
        if let Numbers::Bf16(part) = numbers { Some(part) } else { None }
    }
}

/// Reads the numbers of a range, as many as it has, from where they are.
pub type Reader<T> = Arc<dyn Fn(Range<usize>) -> Result<Vec<T>> + Send + Sync>;

/// Numbers of one kind, wherever they are.
#[derive(Clone)]
pub enum Part<'a, T: Plain> {
    /// In memory.
    Held(Cow<'a, [T]>),
    /// On a device; what is read is what they are by then.
    Away {
        /// What reads them.
        read: Reader<T>,
        /// How many they are.
        len: usize,
    },
    /// In a file: too many to be held beside the place they are meant for.
    Filed {
        /// The file; its name may be gone.
        file: Arc<File>,
        /// Where in it they begin, in bytes.
        at: u64,
        /// How many they are.
        len: usize,
    },
}

impl<T: Plain> std::fmt::Debug for Part<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Part::Held(values) => f.debug_list().entries(values.iter()).finish(),
            Part::Away { len, .. } => write!(f, "{len} numbers on a device"),
            Part::Filed { at, len, .. } => write!(f, "{len} numbers from byte {at} on of a file"),
        }
    }
}

impl<T: Plain> Part<'_, T> {
    fn len(&self) -> usize {
        match self {
            Part::Held(values) => values.len(),
            Part::Away { len, .. } | Part::Filed { len, .. } => *len,
        }
    }

    /// Refuses a place for `len` numbers where there are not as many.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`].
    pub fn check_len(&self, len: usize) -> Result<()> {
        if self.len() != len {
            let what = format!("{} numbers where {len} are kept", self.len());
            return Err(Error::new(ErrorKind::InvalidData, what));
        }
        Ok(())
    }

    /// Puts the numbers into `slot`, which has as many.
    ///
    /// # Errors
    /// The system's, and [`ErrorKind::InvalidData`] where `slot` has another length.
    pub fn fill(&self, slot: &mut [T]) -> Result<()> {
        self.check_len(slot.len())?;
        self.read(0, slot)
    }

    /// Puts those from the `start`th on into `slot`.
    ///
    /// # Errors
    /// The system's and the device's, and [`ErrorKind::InvalidData`] where there are fewer.
    pub fn read(&self, start: usize, slot: &mut [T]) -> Result<()> {
        let end = start + slot.len();
        if end > self.len() {
            return Err(Error::new(ErrorKind::InvalidData, format!("{} numbers and no {end}th", self.len())));
        }
        match self {
            Part::Held(values) => slot.copy_from_slice(&values[start..end]),
            Part::Away { read, .. } => slot.copy_from_slice(&read(start..end)?),
            Part::Filed { file, at, .. } => {
                let mut file = file.as_ref();
                file.seek(SeekFrom::Start(at + (start * T::PRECISION.bytes()) as u64))?;
                let mut bytes = vec![0; T::PRECISION.bytes() * CHUNK];
                for slot in slot.chunks_mut(CHUNK) {
                    let bytes = &mut bytes[..T::PRECISION.bytes() * slot.len()];
                    file.read_exact(bytes)?;
                    let numbers = bytes.chunks_exact(T::PRECISION.bytes()).map(T::take);
                    slot.iter_mut().zip(numbers).for_each(|(slot, number)| *slot = number);
                }
            }
        }
        Ok(())
    }

    fn into_vec(self) -> Result<Vec<T>> {
        if let Part::Held(values) = self {
            return Ok(values.into_owned());
        }
        let mut values = vec![T::default(); self.len()];
        self.fill(&mut values)?;
        Ok(values)
    }

    /// Hands the little-endian bytes of all numbers to `write`.
    fn write(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::with_capacity(T::PRECISION.bytes() * CHUNK);
        let mut put = |values: &[T]| {
            values.chunks(CHUNK).try_for_each(|numbers| {
                bytes.clear();
                numbers.iter().for_each(|number| number.put(&mut bytes));
                write(&bytes)
            })
        };
        if let Part::Held(values) = self {
            return put(values);
        }
        let mut piece = Vec::new();
        for start in (0..self.len()).step_by(PIECE) {
            piece.resize(PIECE.min(self.len() - start), T::default());
            self.read(start, &mut piece)?;
            put(&piece)?;
        }
        Ok(())
    }
}

impl<T: Plain> PartialEq for Part<'_, T> {
    /// Numbers that are not in memory equal nothing: comparing would read them.
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Part::Held(a), Part::Held(b)) if a == b)
    }
}

/// Numbers of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers<'a> {
    /// f32.
    F32(Part<'a, f32>),
    /// bf16, by their bits.
    Bf16(Part<'a, u16>),
}

impl Numbers<'_> {
    /// How many they are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::F32(part) => part.len(),
            Numbers::Bf16(part) => part.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How they are stored.
    pub fn precision(&self) -> Precision {
        match self {
            Numbers::F32(_) => Precision::F32,
            Numbers::Bf16(_) => Precision::Bf16,
        }
    }

    /// Hands their bytes, little-endian, to `write`, some at a time.
    ///
    /// # Errors
    /// Those of `write`; the system's and the device's, where the numbers are not in memory.
    pub fn write(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Numbers::F32(part) => part.write(write),
            Numbers::Bf16(part) => part.write(write),
        }
    }

    /// All numbers in memory, widened where they are bf16.
    ///
    /// # Errors
    /// As [`Numbers::write`].
    pub fn into_f32(self) -> Result<Vec<f32>> {
        match self {
            Numbers::F32(part) => part.into_vec(),
            Numbers::Bf16(part) => Ok(part.into_vec()?.into_iter().map(Plain::widen).collect()),
        }
    }

    /// These numbers without a borrow; those on a device stay there, and change with it.
    pub fn into_owned(self) -> Numbers<'static> {
        fn owned<T: Plain>(part: Part<T>) -> Part<'static, T> {
            match part {
                Part::Held(values) => Part::Held(Cow::Owned(values.into_owned())),
                Part::Away { read, len } => Part::Away { read, len },
                Part::Filed { file, at, len } => Part::Filed { file, at, len },
            }
        }
        match self {
            Numbers::F32(part) => Numbers::F32(owned(part)),
            Numbers::Bf16(part) => Numbers::Bf16(owned(part)),
        }
    }
}

impl<'a, T: Plain> From<&'a [T]> for Numbers<'a> {
    fn from(values: &'a [T]) -> Self {
        T::numbers(Part::Held(Cow::Borrowed(values)))
    }
}

impl From<Vec<f32>> for Numbers<'_> {
    fn from(values: Vec<f32>) -> Self {
        Numbers::F32(Part::Held(Cow::Owned(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_the_nearest_and_of_two_to_the_even_one() {
        // 1 + n/256 lies half-way between two bf16 numbers for odd n.
        let cases = [
            (1.0f32, 0x3F80),
            (1.0 + 1.0 / 256.0, 0x3F80),
            (1.0 + 3.0 / 256.0, 0x3F82),
            (1.0 + 1.01 / 256.0, 0x3F81),
            (-1.0 - 3.0 / 256.0, 0xBF82),
            (0.0, 0),
            (f32::MAX, 0x7F80),
            (f32::INFINITY, 0x7F80),
            (f32::NEG_INFINITY, 0xFF80),
        ];
        for (value, bits) in cases {
            assert_eq!(u16::round(value), bits, "{value}");
        }
        assert!(u16::round(f32::from_bits(0x7F80_0001)).widen().is_nan());
        for bits in 0..=u16::MAX {
            let value = bits.widen();
            assert!(value.is_nan() || u16::round(value) == bits, "{bits:#x}");
        }
    }

    fn written<T: Plain>(part: Part<T>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        part.write(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    #[test]
    fn numbers_in_a_file_are_those_that_were_written() {
        let values: Vec<u16> = (0..3 * CHUNK as u32 + 7).map(|i| (i * 77) as u16).collect();
        let bytes = [vec![9; 5], written(Part::Held(Cow::Borrowed(&values))).unwrap()].concat();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let part: Part<u16> = Part::Filed { file: Arc::new(file), at: 5, len: values.len() };
        let mut read = vec![0; values.len()];
        part.fill(&mut read).unwrap();
        assert!(read == values);
        assert_eq!(part.fill(&mut read[1..]).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(written(part).unwrap() == bytes[5..]);
    }

    #[test]
    fn numbers_on_a_device_are_written_piece_by_piece() {
        let values: Vec<f32> = (0..3 * PIECE + 5).map(|i| i as f32).collect();
        let kept = values.clone();
        let read: Reader<f32> = Arc::new(move |range| {
            assert!(range.len() <= PIECE);
            Ok(kept[range].to_vec())
        });
        let away = written(Part::Away { read, len: values.len() }).unwrap();
        assert_eq!(away, written(Part::Held(values.into())).unwrap());
        let fails: Reader<f32> = Arc::new(|_| Err(Error::other("gone")));
        assert!(written(Part::Away { read: fails, len: 1 }).is_err());
    }
}
