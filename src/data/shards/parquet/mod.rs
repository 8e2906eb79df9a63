//! `parquet:DIR`: images in tables as Hugging Face's data sets have them, a row each: a column of
//! the bytes of image files, and a column of classes.

mod columns;
mod pages;
mod table;

use super::super::unsplit::{ONE_OF, hash};
use super::super::{DataConfig, Dataset};
use super::classes::Classes;
use super::index::{Index, Member, Part};
use super::listing::Layout;
use super::{Found, MEMORY_BYTES, Place, Shards, opened};
use crate::augment::Image;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use table::Table;

/// How tables are named.
const LAYOUT: Layout = Layout {
    ending: "parquet",
    behind: &['-', '.', '_'],
    val: &["validation", "valid", "val", "dev"],
    expected: "expected train-*.parquet and test-*.parquet (or validation in place of test) in DIR or in DIR/data, or \
               DIR/train/*.parquet and DIR/test/*.parquet",
};
/// The folder in which data sets are put on Hugging Face's hub.
const DATA: &str = "data";
/// Folders named in a message at most.
const NAMED: usize = 3;
/// Rows of a data set at most: more were claimed, not written.
const MOST_ROWS: u64 = 1 << 26;

/// The data set of the tables in `root`.
///
/// # Errors
/// [`Error::Data`] for a layout without training images, for a damaged or truncated table, for one
/// without images, for an image without a class where others have one, and for an image that cannot
/// be decoded where `config` skips none.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    open_within(MEMORY_BYTES, root, config)
}

/// Opens `root`; decoded images are kept if they fit into `memory` bytes.
fn open_within(memory: u64, root: &Path, config: &DataConfig) -> Result<Dataset> {
    let mut notes = Vec::new();
    let root = &place(root, &mut notes)?;
    let [train, test] = halves(root, config, &mut notes)?;
    let is_split = !test.is_empty();
    let train_tables = train.len();
    let paths: Vec<PathBuf> = [train, test].concat();
    let tables = Arc::new(Tables::open(root, paths.clone())?);
    let index = Index::of(root, &paths, || tables.scan())?;
    if index.without_image > 0 {
        notes.push(format!("{} rows hold no image and were left out", index.without_image));
    }
    notes.extend(tables.notes());
    let is_labelled = tables.is_labelled();
    let mut members: Vec<&Member> = index.members.iter().collect();
    let at = |member: &Member| hash(root, &tables.name(member.place()));
    if !is_labelled {
        // The first of them are a sample of all, wherever they lie.
        members.sort_by_cached_key(|member| at(member));
    }
    let is_training = |member: &&Member| match is_split {
        true => (member.shard as usize) < train_tables,
        false => !at(member).is_multiple_of(ONE_OF),
    };
    let (train, test): (Vec<&Member>, Vec<&Member>) = members.into_iter().partition(is_training);
    if train.is_empty() || test.is_empty() {
        let half = if train.is_empty() { "train on" } else { "hold out" };
        return Err(Error::data(
            root,
            format!("has no image to {half} among its {} rows", index.members.len()),
        ));
    }
    let classes = match is_labelled {
        true => Classes::of(root, &index.labels, tables.classes(), [&train, &test])?,
        false => Classes::none(),
    };
    opened(
        memory,
        config,
        Found { shards: tables, halves: [train, test], labels: &index.labels, classes, notes },
    )
}

/// The folder in `root` in which the tables lie: itself, its `data`, or the only other one that
/// holds some, of which `notes` are told.
fn place(root: &Path, notes: &mut Vec<String>) -> Result<PathBuf> {
    if !root.is_dir() {
        return Err(Error::data(root, "is not a folder"));
    }
    let holds = |folder: &Path| -> Result<bool> {
        let halves = [&["train", "test"][..], LAYOUT.val].concat();
        Ok(!LAYOUT.files(folder)?.is_empty() || !LAYOUT.shards_of(folder, &halves)?.is_empty())
    };
    for folder in [root.to_path_buf(), root.join(DATA)] {
        if folder.is_dir() && holds(&folder)? {
            return Ok(folder);
        }
    }
    let unlisted = |error: std::io::Error| Error::data(root, format!("cannot be listed: {error}"));
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(root).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        if path.is_dir() && holds(&path)? {
            inside.push(path);
        }
    }
    inside.sort();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().display().to_string();
    match &inside[..] {
        [] => Err(LAYOUT.missing(root)),
        [one] => {
            notes.push(format!("the tables are those in {}", name(one)));
            Ok(one.clone())
        }
        several => {
            let mut names: Vec<String> = several.iter().take(NAMED).map(name).collect();
            if several.len() > NAMED {
                names.push("…".into());
            }
            Err(Error::data(
                root,
                format!("holds several data sets; name the folder of one: {}", names.join(", ")),
            ))
        }
    }
}

/// The tables of both halves; none in the second where training images are all that there is, of
/// which one in ten is held out then.
fn halves(root: &Path, config: &DataConfig, notes: &mut Vec<String>) -> Result<[Vec<PathBuf>; 2]> {
    let train = LAYOUT.shards_of(root, &["train"])?;
    let held_out = LAYOUT.shards_of(root, &[&["test"][..], LAYOUT.val].concat())?;
    if !held_out.is_empty() || config.held_out.is_some() {
        return LAYOUT.halves(root, config, notes);
    }
    let all = match train.is_empty() {
        true => LAYOUT.files(root)?.into_iter().map(|(_, path)| path).collect(),
        false => train,
    };
    let mut all: Vec<PathBuf> = all;
    all.sort();
    notes.push(
        "there is no test and no validation: one image in ten is held out, by a hash of its table and row"
            .into(),
    );
    Ok([all, Vec::new()])
}

/// The open tables of a data set.
#[derive(Debug)]
struct Tables(Vec<Table>);

impl Tables {
    /// Opens the tables at `paths`, which lie in `root`.
    fn open(root: &Path, paths: Vec<PathBuf>) -> Result<Tables> {
        let tables: Vec<Result<Table>> = paths.into_par_iter().map(Table::open).collect();
        let tables = tables.into_iter().collect::<Result<Vec<Table>>>()?;
        let rows = tables.iter().fold(0u64, |rows, table| rows.saturating_add(table.rows()));
        if rows > MOST_ROWS {
            return Err(Error::data(root, format!("claims {rows} rows; at most {MOST_ROWS} are read")));
        }
        if let Some(first) = tables.first() {
            let other = tables.iter().find(|table| !table.columns.agree_with(&first.columns));
            if let Some(other) = other {
                let what = format!("has other columns or other classes than {}", first.path.display());
                return Err(Error::data(&other.path, what));
            }
        }
        Ok(Tables(tables))
    }

    /// Reads all tables through, a group of rows at a time.
    fn scan(&self) -> Result<Vec<Part>> {
        let groups = |table: usize| (0..self.0[table].groups()).map(move |group| (table, group));
        let groups: Vec<(usize, usize)> = (0..self.0.len()).flat_map(groups).collect();
        let scanned = groups.into_par_iter().map(|(table, group)| self.0[table].scan(table as u32, group));
        // All, so that the first in the order of rows is told, whichever fails first.
        let parts: Vec<Result<Part>> = scanned.collect();
        parts.into_iter().collect()
    }

    /// Names of classes that are numbers, where the tables have them.
    fn classes(&self) -> &[String] {
        self.0.first().map_or(&[], |table| &table.columns.classes)
    }

    fn is_labelled(&self) -> bool {
        self.0.first().is_some_and(|table| table.columns.label.is_some())
    }

    /// What is said of the columns.
    fn notes(&self) -> Vec<String> {
        self.0.first().map_or(Vec::new(), |table| table.columns.notes.clone())
    }

    /// Table and row of the image at `place`.
    fn name(&self, place: Place) -> PathBuf {
        self.0[place.shard as usize].name(place.offset)
    }
}

impl Shards for Tables {
    fn image(&self, place: Place) -> Result<Image> {
        self.0[place.shard as usize].image(place.offset)
    }

    /// Rows that stand together are read together: a page of a column holds many images, and is
    /// unpacked as a whole.
    fn images(&self, places: &[Place]) -> Vec<Result<Image>> {
        /// Rows that one thread reads at most, one after the other.
        const TOGETHER: u64 = 512;
        let mut together: BTreeMap<(u32, usize, u64), Vec<(u64, usize)>> = BTreeMap::new();
        for (index, place) in places.iter().enumerate() {
            let group = self.0[place.shard as usize].group_of(place.offset);
            let rows = together.entry((place.shard, group, place.offset / TOGETHER)).or_default();
            rows.push((place.offset, index));
        }
        let read = |((table, group, _), mut rows): ((u32, usize, u64), Vec<(u64, usize)>)| {
            rows.sort_unstable();
            self.0[table as usize].images(group, &rows)
        };
        let read: Vec<Vec<(usize, Result<Image>)>> = together.into_par_iter().map(read).collect();
        let mut read: Vec<(usize, Result<Image>)> = read.into_iter().flatten().collect();
        read.sort_unstable_by_key(|(index, _)| *index);
        read.into_iter().map(|(_, image)| image).collect()
    }

    fn path(&self, shard: u32) -> &Path {
        &self.0[shard as usize].path
    }
}

#[cfg(test)]
mod tests;
