//! One table: what its end says of it, and the images in its rows.

use super::super::super::picture::{self, Exif};
use super::super::index::{Member, Part};
use super::columns::Columns;
use super::pages::{Pages, Source};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that are read at a time.
const ROWS: usize = 64;

/// An open table.
#[derive(Debug)]
pub struct Table {
    pub path: PathBuf,
    pub columns: Columns,
    metadata: ParquetMetaData,
    /// The first row of each group of rows, and the number of all.
    first: Vec<u64>,
    source: Arc<Source>,
}

impl Table {
    /// Opens the table at `path` and reads its end, which says where its columns lie.
    ///
    /// # Errors
    /// [`Error::Data`] for what is no such table, is truncated, or holds no images.
    pub fn open(path: PathBuf) -> Result<Table> {
        let unread = |error: std::io::Error| Error::data(&path, format!("cannot be read: {error}"));
        let (file, about) = files::open(&path).map_err(unread)?;
        let (len, source) = (about.len(), Source::of(file, &path, about.len()));
        let metadata =
            ParquetMetaDataReader::new().parse_and_finish(&source).map_err(|error| damaged(&path, &error))?;
        let columns = Columns::of(metadata.file_metadata()).map_err(|what| Error::data(&path, what))?;
        let mut first = vec![0];
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).ok();
            let next = rows.and_then(|rows| first.last().copied().unwrap_or(0u64).checked_add(rows));
            let next = next.ok_or_else(|| Error::data(&path, "is damaged: a group has less than no rows"))?;
            first.push(next);
            for leaf in [Some(columns.image), columns.label].into_iter().flatten() {
                let chunk = group.columns().get(leaf);
                let chunk = chunk.ok_or_else(|| Error::data(&path, "is damaged: a group lacks a column"))?;
                let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                let end =
                    begin.checked_add(chunk.compressed_size()).filter(|end| begin >= 0 && *end >= begin);
                if end.and_then(|end| u64::try_from(end).ok()).is_none_or(|end| end > len) {
                    let what =
                        format!("is truncated or damaged: group {number} of its rows lies beyond its end");
                    return Err(Error::data(&path, what));
                }
                readable(&path, chunk.compression())?;
            }
        }
        Ok(Table { path, columns, metadata, first, source: Arc::new(source.of_pages()) })
    }

    /// How many rows it claims.
    pub fn rows(&self) -> u64 {
        self.first.last().copied().unwrap_or(0)
    }

    /// How many groups of rows it has.
    pub fn groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    /// The group in which `row` is.
    pub fn group_of(&self, row: u64) -> usize {
        self.first.partition_point(|first| *first <= row).saturating_sub(1)
    }

    /// Table and row, for a person.
    pub fn name(&self, row: u64) -> PathBuf {
        self.path.join(format!("row {row}"))
    }

    /// What is known of the images of `group`, where this is table number `number` of a data set.
    ///
    /// # Errors
    /// [`Error::Data`] for what is damaged, and for an image without a class where rows have one.
    pub fn scan(&self, number: u32, group: usize) -> Result<Part> {
        let mut images = self.column(group, self.columns.image)?;
        let mut labels = self.columns.label.map(|leaf| self.column(group, leaf)).transpose()?;
        let mut part = Part::default();
        let (mut row, end) = (self.first[group], self.first[group + 1]);
        while row < end {
            let rows = (end - row).min(ROWS as u64) as usize;
            let read = self.bytes(&mut images, rows, row)?;
            let classes = match &mut labels {
                Some(labels) => self.classes(labels, rows, row)?,
                None => vec![Some(String::new()); rows],
            };
            for (bytes, class) in read.into_iter().zip(classes) {
                match (bytes, class) {
                    (None, _) => part.without_image += 1,
                    (Some(bytes), Some(class)) => {
                        let place = (row, bytes.len() as u64);
                        part.images.push((Member::of(number, &self.name(row), place, bytes.data()), class));
                    }
                    (Some(_), None) => {
                        let what = "has an image and no class; where a test half is published without classes, \
                                    data.held_out = \"val\" takes the validation half";
                        return Err(Error::data(self.name(row), what));
                    }
                }
                row += 1;
            }
        }
        Ok(part)
    }

    /// The image of `row`, decoded.
    ///
    /// # Errors
    /// [`Error::Data`] naming the row where it cannot be read or decoded.
    pub fn image(&self, row: u64) -> Result<Image> {
        let only = self.images(self.group_of(row), &[(row, 0)]).pop();
        only.map_or_else(|| Err(self.short(row)), |(_, image)| image)
    }

    /// The images of rows of `group` in rising order, each with the number that stands beside it.
    pub fn images(&self, group: usize, rows: &[(u64, usize)]) -> Vec<(usize, Result<Image>)> {
        // The column, and the row behind the last that was read. One whose reading has failed is
        // opened again: what is behind may be whole.
        let mut open: Option<(ColumnReader, u64)> = None;
        let mut bytes = |row: u64| {
            if group >= self.groups() || row < self.first[group] {
                return Err(self.short(row));
            }
            let (mut column, at) = match open.take().filter(|(_, at)| *at <= row) {
                Some(open) => open,
                None => (self.column(group, self.columns.image)?, self.first[group]),
            };
            let bytes = self.bytes_of(&mut column, at, row)?;
            open = Some((column, row + 1));
            Ok(bytes)
        };
        let decoded = |row, bytes: Vec<u8>| picture::decode_bytes(bytes, Exif::Ignored, &|| self.name(row));
        rows.iter()
            .map(|(row, number)| (*number, bytes(*row).and_then(|bytes| decoded(*row, bytes))))
            .collect()
    }

    /// The bytes in `row` of a column that was read up to the row `at`.
    fn bytes_of(&self, column: &mut ColumnReader, at: u64, row: u64) -> Result<Vec<u8>> {
        let ColumnReader::ByteArrayColumnReader(reader) = column else { return Err(self.no_bytes()) };
        let skipped = self.guarded(row, || reader.skip_records((row - at) as usize))?;
        if skipped as u64 != row - at {
            return Err(self.short(row));
        }
        let bytes = self.bytes(column, 1, row)?.pop().flatten();
        bytes.map(|bytes| bytes.data().to_vec()).ok_or_else(|| self.short(row))
    }

    /// A reader of a column of `group`.
    fn column(&self, group: usize, leaf: usize) -> Result<ColumnReader> {
        let about = self.metadata.row_group(group);
        let rows = (self.first[group + 1] - self.first[group]) as usize;
        let pages = Pages::of(self.source.clone(), about.column(leaf), rows);
        let pages = pages.map_err(|error| damaged(&self.path, &error))?;
        let column = self.metadata.file_metadata().schema_descr().column(leaf);
        Ok(get_column_reader(column, Box::new(pages)))
    }

    /// The bytes in the next `rows` rows of a column, of which `row` is the first.
    fn bytes(&self, column: &mut ColumnReader, rows: usize, row: u64) -> Result<Vec<Option<ByteArray>>> {
        let ColumnReader::ByteArrayColumnReader(reader) = column else { return Err(self.no_bytes()) };
        let highest = self.highest(self.columns.image);
        self.read(rows, row, highest, |levels, values| reader.read_records(rows, Some(levels), None, values))
    }

    /// What the next `rows` rows of a column say of their classes, of which `row` is the first.
    fn classes(&self, column: &mut ColumnReader, rows: usize, row: u64) -> Result<Vec<Option<String>>> {
        let highest = self.highest(self.columns.label.unwrap_or_default());
        // Below 0 stands for an image whose class is not told.
        let number = |number: Option<i64>| number.filter(|n| *n >= 0).map(|n| n.to_string());
        match column {
            ColumnReader::Int32ColumnReader(reader) => {
                let read = |levels: &mut Vec<i16>, values: &mut Vec<i32>| {
                    reader.read_records(rows, Some(levels), None, values)
                };
                Ok(self
                    .read(rows, row, highest, read)?
                    .into_iter()
                    .map(|n| number(n.map(i64::from)))
                    .collect())
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let read = |levels: &mut Vec<i16>, values: &mut Vec<i64>| {
                    reader.read_records(rows, Some(levels), None, values)
                };
                Ok(self.read(rows, row, highest, read)?.into_iter().map(number).collect())
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let read = |levels: &mut Vec<i16>, values: &mut Vec<ByteArray>| {
                    reader.read_records(rows, Some(levels), None, values)
                };
                let text = |(index, bytes): (usize, Option<ByteArray>)| match bytes {
                    Some(bytes) => match std::str::from_utf8(bytes.data()) {
                        Ok(text) => Ok(Some(text.to_string())),
                        Err(_) => Err(Error::data(
                            self.name(row + index as u64),
                            "has a class that is not UTF-8 text",
                        )),
                    },
                    None => Ok(None),
                };
                self.read(rows, row, highest, read)?.into_iter().enumerate().map(text).collect()
            }
            _ => Err(self.no_bytes()),
        }
    }

    /// How deep the values of a column lie in what may be missing.
    fn highest(&self, leaf: usize) -> i16 {
        self.metadata.file_metadata().schema_descr().column(leaf).max_def_level()
    }

    /// `rows` values by `read`, which gives levels and the values that are there: of those with a
    /// level below `highest`, something is missing.
    fn read<T>(
        &self,
        rows: usize,
        row: u64,
        highest: i16,
        read: impl FnOnce(&mut Vec<i16>, &mut Vec<T>) -> Result<(usize, usize, usize), ParquetError>,
    ) -> Result<Vec<Option<T>>> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, ..) = self.guarded(row, || read(&mut levels, &mut values))?;
        let all_there = highest == 0;
        let there = levels.iter().filter(|level| **level == highest).count();
        if records != rows || values.len() != if all_there { rows } else { there } {
            return Err(self.short(row));
        }
        let mut values = values.into_iter();
        match all_there {
            true => Ok(values.map(Some).collect()),
            false => {
                Ok(levels.iter().map(|level| if *level == highest { values.next() } else { None }).collect())
            }
        }
    }

    fn no_bytes(&self) -> Error {
        Error::data(&self.path, "is damaged: a column has another type than its schema says")
    }

    fn short(&self, row: u64) -> Error {
        Error::data(self.name(row), "is not there: the table is truncated or damaged")
    }

    /// What `read` gives from `row` on. The crate that reads tables holds some damage to be
    /// impossible and panics.
    fn guarded<T>(&self, row: u64, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
        let read = catch_unwind(AssertUnwindSafe(read));
        let read =
            read.unwrap_or_else(|_| Err(ParquetError::General("its pages contradict each other".into())));
        read.map_err(|error| damaged(&self.name(row), &error))
    }
}

fn damaged(path: &Path, error: &ParquetError) -> Error {
    let what = error.to_string();
    let what = what.split_once(": ").map_or(what.as_str(), |(_, reason)| reason);
    Error::data(path, format!("is no Parquet table, or is truncated or damaged: {}", what.trim_end()))
}

/// Refuses what is packed in another way than this program unpacks.
pub fn readable(path: &Path, compression: Compression) -> Result<()> {
    match compression {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) => Ok(()),
        other => {
            let name = format!("{other:?}");
            let name = name.split('(').next().unwrap_or_default();
            let what =
                format!("is compressed with {name}; write it with SNAPPY, with GZIP, or without compression");
            Err(Error::data(path, what))
        }
    }
}
