//! `tar:DIR`: images in tar archives as WebDataset has them: members with the same name up to their
//! first point are one sample, an image and its class.

use super::super::picture::{self, Exif, FILE_BYTES};
use super::super::walk::EXTENSIONS;
use super::super::{DataConfig, Dataset};
use super::classes::Classes;
use super::index::{Index, Member, Part};
use super::listing::Layout;
use super::{Found, MEMORY_BYTES, Place, Shards, opened};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of classes, a line each, beside the shards.
pub const CLASSES: &str = "classes.txt";
/// How shards are named.
const LAYOUT: Layout = Layout {
    ending: "tar",
    behind: &['-'],
    val: &["val"],
    expected: "expected DIR/train-*.tar and DIR/test-*.tar, or DIR/train/*.tar and DIR/test/*.tar (or val in place of \
               test)",
};
/// Archives are made of blocks of so many bytes.
const BLOCK: u64 = 512;
/// Longest label.
const LABEL_BYTES: u64 = 1 << 16;
/// Keys of a JSON label under which a class may stand.
const KEYS: [&str; 4] = ["cls", "label", "class", "class_name"];

/// The data set of the shards in `root`.
///
/// # Errors
/// [`Error::Data`] for a layout without both halves, for a damaged or truncated shard, naming the
/// member, for a sample without a class, and for an image that cannot be decoded where `config`
/// skips none.
pub fn open(root: &Path, config: &DataConfig) -> Result<Dataset> {
    open_within(MEMORY_BYTES, root, config)
}

/// Opens `root`; decoded images are kept if they fit into `memory` bytes.
pub(super) fn open_within(memory: u64, root: &Path, config: &DataConfig) -> Result<Dataset> {
    let mut notes = Vec::new();
    let halves = LAYOUT.halves(root, config, &mut notes)?;
    let train_shards = halves[0].len();
    let paths: Vec<PathBuf> = halves.concat();
    let scan = || {
        let numbered = paths.par_iter().enumerate();
        // All, so that the first in the order of shards is told, whichever fails first.
        let parts: Vec<Result<Part>> =
            numbered.map(|(number, path)| Scan::new(number as u32, path).all()).collect();
        parts.into_iter().collect()
    };
    let index = Index::of(root, &paths, scan)?;
    if index.without_image > 0 {
        notes.push(format!("{} samples hold no image and were left out", index.without_image));
    }
    let is_training = |member: &&Member| (member.shard as usize) < train_shards;
    let (train, test): (Vec<&Member>, Vec<&Member>) = index.members.iter().partition(is_training);
    let listed = files::text(&root.join(CLASSES), files::SHORT).unwrap_or_default();
    let listed: Vec<String> =
        listed.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    let classes = Classes::of(root, &index.labels, &listed, [&train, &test])?;
    let shards = Arc::new(Archives::open(paths)?);
    opened(memory, config, Found { shards, halves: [train, test], labels: &index.labels, classes, notes })
}

/// Open archives.
#[derive(Debug)]
struct Archives(Vec<Archive>);

#[derive(Debug)]
struct Archive {
    path: PathBuf,
    file: File,
}

impl Archives {
    fn open(paths: Vec<PathBuf>) -> Result<Archives> {
        let open = |path: PathBuf| match files::open(&path) {
            Ok((file, _)) => Ok(Archive { path, file }),
            Err(error) => Err(Error::data(path, format!("cannot be read: {error}"))),
        };
        paths.into_iter().map(open).collect::<Result<_>>().map(Archives)
    }

    /// Shard and member of the image at `place`, for a person.
    fn name(&self, place: Place) -> PathBuf {
        /// A member's header, which begins with its name, and the length of the name.
        const HEADER: u64 = 512;
        const NAME: usize = 100;
        let shard = &self.0[place.shard as usize];
        let header = place.offset.saturating_sub(HEADER);
        let header = files::read_at(&shard.file, &shard.path, header, NAME).unwrap_or_default();
        let name: Vec<u8> = header.into_iter().take_while(|byte| *byte != 0).collect();
        match String::from_utf8(name) {
            Ok(name) if !name.is_empty() => shard.path.join(name),
            _ => shard.path.join(format!("member at byte {}", place.offset)),
        }
    }
}

impl Shards for Archives {
    fn image(&self, place: Place) -> Result<Image> {
        let shard = &self.0[place.shard as usize];
        let bytes = files::read_at(&shard.file, &shard.path, place.offset, place.bytes as usize);
        let bytes = bytes.map_err(|error| {
            Error::data(self.name(place), format!("cannot be read: {error}; is the shard truncated?"))
        })?;
        picture::decode_bytes(bytes, Exif::Ignored, &|| self.name(place))
    }

    fn path(&self, shard: u32) -> &Path {
        &self.0[shard as usize].path
    }
}

/// A shard on its way through.
struct Scan<'a> {
    number: u32,
    path: &'a Path,
    /// The sample that is being read: its name, image and class.
    sample: Option<(String, Option<Member>, Option<String>)>,
    found: Part,
}

impl<'a> Scan<'a> {
    fn new(number: u32, path: &'a Path) -> Scan<'a> {
        Scan { number, path, sample: None, found: Part::default() }
    }

    fn damaged(&self, member: &str, what: impl std::fmt::Display) -> Error {
        let path = if member.is_empty() { self.path.to_path_buf() } else { self.path.join(member) };
        Error::data(path, what.to_string())
    }

    /// Reads all members.
    fn all(mut self) -> Result<Part> {
        let (file, metadata) =
            files::open(self.path).map_err(|error| self.damaged("", format!("cannot be read: {error}")))?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
        let broken = |error: std::io::Error| format!("is no tar archive, or is damaged: {error}");
        let entries = archive.entries_with_seek().map_err(|error| self.damaged("", broken(error)))?;
        let (mut last, mut end) = (String::new(), 0);
        for entry in entries {
            let behind = if last.is_empty() { String::new() } else { format!(" behind the member {last}") };
            let mut entry = entry
                .map_err(|error| self.damaged("", format!("is damaged or truncated{behind}: {error}")))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (offset, bytes) = (entry.raw_file_position(), entry.size());
            end = offset.saturating_add(bytes);
            if end > metadata.len() {
                return Err(self.damaged(&name, "is truncated: the shard ends within it"));
            }
            if !entry.header().entry_type().is_file() {
                continue;
            }
            self.member(&name, offset, bytes, &mut entry)?;
            last = name;
        }
        // An archive ends with blocks of zeros, which a cut between two members takes away.
        if end.next_multiple_of(BLOCK) + BLOCK > metadata.len() {
            let what =
                if last.is_empty() { "is empty" } else { "is the last member before the shard is cut off" };
            return Err(self.damaged(&last, what));
        }
        self.close()?;
        Ok(self.found)
    }

    /// Takes a member of a sample: an image, or what says its class.
    fn member(&mut self, name: &str, offset: u64, bytes: u64, from: &mut impl Read) -> Result<()> {
        let base = name.rfind('/').map_or(0, |slash| slash + 1);
        // Names that begin with a point, and what macOS adds.
        let Some(point) = name[base..].find('.').filter(|point| *point > 0) else { return Ok(()) };
        let (key, extension) = (&name[..base + point], name[base + point + 1..].to_lowercase());
        if self.sample.as_ref().is_none_or(|(open, ..)| open != key) {
            self.close()?;
            self.sample = Some((key.to_string(), None, None));
        }
        let (image, class) = match extension.as_str() {
            known if EXTENSIONS.contains(&known) => (Some(self.image(name, offset, bytes, from)?), None),
            "cls" | "txt" | "json" => (None, self.class(name, &extension, from)?),
            _ => (None, None),
        };
        if let Some((_, known_image, known_class)) = &mut self.sample {
            if image.is_some() && known_image.is_some() {
                return Err(self.damaged(name, "is the second image of its sample"));
            }
            *known_image = known_image.take().or(image);
            // A number in .cls goes before words in other members.
            match extension.as_str() {
                "cls" => *known_class = class,
                _ => *known_class = known_class.take().or(class),
            }
        }
        Ok(())
    }

    /// What is known of an image from its first bytes.
    fn image(&self, name: &str, offset: u64, bytes: u64, from: &mut impl Read) -> Result<Member> {
        let mut content = Vec::new();
        let whole = from.take(FILE_BYTES).read_to_end(&mut content);
        whole.map_err(|error| self.damaged(name, format!("cannot be read: {error}")))?;
        Ok(Member::of(self.number, &self.path.join(name), (offset, bytes), &content))
    }

    /// What a member says of its sample's class; none where a JSON member speaks of other things.
    fn class(&self, name: &str, extension: &str, from: &mut impl Read) -> Result<Option<String>> {
        let mut text = String::new();
        let read = from.take(LABEL_BYTES).read_to_string(&mut text);
        read.map_err(|error| self.damaged(name, format!("is no label: {error}")))?;
        let text = text.trim();
        match extension {
            "json" => {
                let value: serde_json::Value = serde_json::from_str(text)
                    .map_err(|error| self.damaged(name, format!("is no JSON: {error}")))?;
                Ok(match KEYS.iter().find_map(|key| value.get(key)).unwrap_or(&value) {
                    serde_json::Value::String(word) => Some(word.clone()),
                    serde_json::Value::Number(number) if number.is_u64() => Some(number.to_string()),
                    _ => None,
                })
            }
            "cls" if text.parse::<u64>().is_err() => {
                Err(self.damaged(name, format!("says {text:?}, which is no number of a class")))
            }
            _ => Ok(Some(text.to_string()).filter(|text| !text.is_empty())),
        }
    }

    /// Ends the sample that is being read.
    fn close(&mut self) -> Result<()> {
        match self.sample.take() {
            None => {}
            Some((_, None, _)) => self.found.without_image += 1,
            Some((_, Some(member), Some(class))) => self.found.images.push((member, class)),
            Some((key, Some(_), None)) => {
                let what = "is an image without a class, which a member of the same name that ends in .cls, .json or .txt \
                            says";
                return Err(self.damaged(&key, what));
            }
        }
        Ok(())
    }
}
