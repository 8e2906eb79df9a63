//! Pages of columns out of a file that many threads read at once, bounded before memory is taken
//! for them: what a page's head says of its size is believed by the crate that reads it.

use crate::files;
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use std::fs::File;
use std::io::{BufReader, Error, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read ahead where the head of a page stands.
const AHEAD: usize = 1 << 9;
/// Bytes of an unpacked page at most: an image is not larger.
const MOST: u64 = 512 << 20;
/// How many times as long as its packed bytes a page can be: what DEFLATE reaches.
const DENSEST: u64 = 1032;
/// Bytes that a value takes in a dictionary at least.
const SHORTEST: usize = 4;

/// An open file.
#[derive(Debug)]
pub struct Source {
    file: Arc<Open>,
    /// Whether what is read in order, and not at once, are heads of pages.
    of_pages: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Source {
    /// The open `file` of `len` bytes, which lies at `path`.
    pub fn of(file: File, path: &Path, len: u64) -> Source {
        Source { file: Arc::new(Open { file, path: path.to_path_buf(), len }), of_pages: false }
    }

    /// The same file, out of which pages are read.
    pub fn of_pages(&self) -> Source {
        Source { file: self.file.clone(), of_pages: true }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.file.len
    }
}

impl ChunkReader for Source {
    type T = BufReader<Head>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::with_capacity(
            AHEAD,
            Head { file: self.file.clone(), next: start, is_seen: !self.of_pages },
        ))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let Open { path, file, len } = &*self.file;
        if start.checked_add(length as u64).is_none_or(|end| end > *len) {
            return Err(ParquetError::EOF(format!("{length} bytes are expected behind byte {start}")));
        }
        Ok(files::read_at(file, path, start, length)?.into())
    }
}

/// The head of a page, from a place in a file that is nobody else's.
pub struct Head {
    file: Arc<Open>,
    next: u64,
    /// Whether its beginning was looked at.
    is_seen: bool,
}

impl Read for Head {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let Open { path, file, len } = &*self.file;
        let count = into.len().min(usize::try_from(len.saturating_sub(self.next)).unwrap_or(usize::MAX));
        let bytes = files::read_at(file, path, self.next, count)?;
        if !std::mem::replace(&mut self.is_seen, true) && !is_plausible(&bytes) {
            return Err(Error::other("a page claims to be longer than it can be"));
        }
        into[..count].copy_from_slice(&bytes);
        self.next += count as u64;
        Ok(count)
    }
}

/// Whether the head of a page is one of its kind, with a length that its packed bytes can have when
/// they are unpacked.
///
/// A head is a structure in Thrift's compact form, whose writers put fields in the order of their
/// numbers. Its first three are the kind and the lengths unpacked and packed, then a checksum may
/// follow, all of type i32, and then a structure for the kind, whose number is 5 more than the
/// kind's. Before a field stands a byte of two halves: by how much its number is higher than that
/// of the field before, and its type.
fn is_plausible(head: &[u8]) -> bool {
    const I32: u8 = 5;
    const STRUCTURE: u8 = 12;
    let mut bytes = head.iter().copied().peekable();
    let mut numbers = Vec::new();
    while bytes.next_if_eq(&(1 << 4 | I32)).is_some() {
        numbers.push(number(&mut bytes));
    }
    let ([Some(kind), Some(unpacked), Some(packed)] | [Some(kind), Some(unpacked), Some(packed), _]) =
        numbers[..]
    else {
        return false;
    };
    let before = numbers.len() as u64;
    let is_of_its_kind =
        bytes.next().is_some_and(|byte| byte & 0xf == STRUCTURE && before + u64::from(byte >> 4) == kind + 5);
    is_of_its_kind && unpacked <= MOST && unpacked <= packed.saturating_mul(DENSEST).saturating_add(DENSEST)
}

/// A number as Thrift's compact form has it: sevens of bits, the lowest first, and the sign in the
/// lowest bit. Nothing for one below zero: what stands in a checksum does not matter.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    /// Bytes of a number of 32 bits at most.
    const LONGEST: u32 = 5;
    let mut number = 0;
    for place in 0..LONGEST {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return number.is_multiple_of(2).then_some(number / 2);
        }
    }
    None
}

/// The pages of a column in a group of rows.
pub struct Pages {
    pages: SerializedPageReader<Source>,
    has_dictionary: bool,
    /// Bytes that a page of the first version has at least: the length of its levels.
    shortest: usize,
}

impl Pages {
    /// Those of `column`, in a group of so many rows.
    pub fn of(source: Arc<Source>, column: &ColumnChunkMetaData, rows: usize) -> Result<Pages> {
        let pages = SerializedPageReader::new(source, column, rows, None)?;
        let shortest = if column.column_descr().max_def_level() > 0 { size_of::<u32>() } else { 0 };
        Ok(Pages { pages, has_dictionary: false, shortest })
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        let fault = match &page {
            Some(Page::DictionaryPage { buf, num_values, .. }) => {
                self.has_dictionary = true;
                // Memory is taken for all of them before one is looked at.
                (*num_values as usize > buf.len() / SHORTEST)
                    .then_some("a dictionary claims more values than it has bytes for")
            }
            Some(Page::DataPage { buf, .. }) if buf.len() < self.shortest => {
                Some("a page is shorter than what it begins with")
            }
            Some(page) => match page.encoding() {
                Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY if !self.has_dictionary => {
                    Some("a page needs a dictionary that is not there")
                }
                _ => None,
            },
            None => None,
        };
        fault.map_or(Ok(page), |what| Err(ParquetError::General(what.into())))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
