//! Where the images of shards begin. Shards are read through once for it; what was found is kept
//! beside them, or in the person's cache where nothing can be written there, and believed as long
//! as the shards' lengths and times are the same.

use super::super::picture::{self, FILE_BYTES};
use super::super::walk::EXTENSIONS;
use super::Place;
use crate::error::{Error, Result};
use crate::files::{self, hex};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The index beside the shards.
const FILE: &str = ".sim-index";
/// Its first line; another number is another form.
const FORM: &str = "sim-index 2";
/// Longest index, in bytes: some thirty million images.
const LONGEST: u64 = 2 << 30;
/// Archives are made of blocks of so many bytes.
const BLOCK: u64 = 512;
/// Longest label.
const LABEL_BYTES: u64 = 1 << 16;
/// Keys of a JSON label under which a class may stand.
const KEYS: [&str; 4] = ["cls", "label", "class", "class_name"];

/// An image in a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The number of the shard.
    pub shard: u32,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u32,
    /// The number of what it says of its class, in [`Index::labels`].
    pub label: u32,
    /// Bytes of the image as RGB.
    pub decoded_bytes: u64,
    /// Whether its camera asks to turn it.
    pub turned: bool,
}

impl Member {
    pub fn place(&self) -> Place {
        Place { shard: self.shard, offset: self.offset, bytes: self.bytes }
    }
}

/// All images of some shards, in the order of the shards and of their members.
#[derive(Debug, Default, PartialEq)]
pub struct Index {
    pub members: Vec<Member>,
    /// What members say of their classes, each once.
    pub labels: Vec<String>,
    /// Samples that hold no image.
    pub without_image: usize,
}

impl Index {
    /// The index of `shards`, which lie in `root`: the one that is kept, or a new one, which is
    /// kept then.
    ///
    /// # Errors
    /// [`Error::Data`] naming shard and member for what is damaged, truncated, or has no class.
    pub fn of(root: &Path, shards: &[PathBuf]) -> Result<Index> {
        let mut stamps = String::new();
        for shard in shards {
            let known = std::fs::metadata(shard).and_then(|file| Ok((file.len(), file.modified()?)));
            let (len, time) =
                known.map_err(|error| Error::data(shard, format!("cannot be read: {error}")))?;
            let time = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let name = shard.strip_prefix(root).unwrap_or(shard).display().to_string();
            let _ = writeln!(stamps, "shard {len} {time} {name:?}");
        }
        let kept = [Some(root.join(FILE)), cached(root)];
        let read = |path: &PathBuf| Index::parse(&files::text(path, LONGEST).ok()?, &stamps);
        if let Some(index) = kept.iter().flatten().find_map(read) {
            return Ok(index);
        }
        let index = Index::made(shards)?;
        let text = index.text(&stamps);
        // Where it can be kept nowhere, the next command makes it again.
        let _ = kept.iter().flatten().any(|path| keep(path, &text).is_ok());
        Ok(index)
    }

    /// Reads the shards through.
    fn made(shards: &[PathBuf]) -> Result<Index> {
        let numbered = shards.par_iter().enumerate();
        let scans: Vec<Result<Scan>> =
            numbered.map(|(number, path)| Scan::new(number as u32, path).all()).collect();
        let mut index = Index::default();
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        for scan in scans {
            let scan = scan?;
            index.without_image += scan.without_image;
            for (mut member, label) in scan.found {
                let next = numbers.len() as u32;
                member.label = *numbers.entry(label.clone()).or_insert_with(|| {
                    index.labels.push(label);
                    next
                });
                index.members.push(member);
            }
        }
        Ok(index)
    }

    fn text(&self, stamps: &str) -> String {
        let mut text =
            format!("{FORM}\n{stamps}images {} without {}\n", self.members.len(), self.without_image);
        for label in &self.labels {
            let _ = writeln!(text, "label {}", serde_json::Value::from(label.as_str()));
        }
        for Member { shard, offset, bytes, label, decoded_bytes, turned } in &self.members {
            let _ = writeln!(text, "{shard} {offset} {bytes} {label} {decoded_bytes} {}", u8::from(*turned));
        }
        text
    }

    /// An index that was kept for shards with these `stamps`.
    fn parse(text: &str, stamps: &str) -> Option<Index> {
        let rest = text.strip_prefix(FORM)?.strip_prefix('\n')?.strip_prefix(stamps)?;
        let (counts, rest) = rest.strip_prefix("images ")?.split_once('\n')?;
        let (images, without) = counts.split_once(" without ")?;
        let mut index = Index { without_image: without.parse().ok()?, ..Index::default() };
        let shards = stamps.lines().count() as u64;
        for line in rest.lines() {
            if let Some(label) = line.strip_prefix("label ") {
                index.labels.push(serde_json::from_str(label).ok()?);
                continue;
            }
            let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().ok()).collect::<Option<_>>()?;
            let [shard, offset, bytes, label, decoded_bytes, turned] = numbers.try_into().ok()?;
            if shard >= shards || bytes > FILE_BYTES || label >= index.labels.len() as u64 {
                return None;
            }
            let (shard, bytes, label) = (shard as u32, bytes as u32, label as u32);
            index.members.push(Member { shard, offset, bytes, label, decoded_bytes, turned: turned == 1 });
        }
        // One that was cut between two lines lacks some.
        (images.parse() == Ok(index.members.len())).then_some(index)
    }
}

/// Where the index of `root` is kept if nothing can be written there.
fn cached(root: &Path) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    let root = root.canonicalize().ok()?;
    let name = hex(&Sha256::digest(root.as_os_str().as_encoded_bytes())[..8]);
    Some(caches.join("sim").join(format!("index-{name}")))
}

/// Writes beside and renames, so that what is read is whole.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if path.file_name().is_some_and(|name| name != FILE) {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = &mut tempfile::Builder::new();
    #[cfg(unix)]
    {
        // Readable to whom the umask lets read it: others share the shards.
        use std::os::unix::fs::PermissionsExt;
        beside = beside.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut beside = beside.prefix(".tmp-index-").tempfile_in(folder)?;
    std::io::Write::write_all(&mut beside, text.as_bytes())?;
    beside.persist(path).map(drop).map_err(|error| error.error)
}

/// A shard on its way through.
struct Scan<'a> {
    number: u32,
    path: &'a Path,
    /// The sample that is being read: its name, image and class.
    sample: Option<(String, Option<Member>, Option<String>)>,
    found: Vec<(Member, String)>,
    without_image: usize,
}

impl<'a> Scan<'a> {
    fn new(number: u32, path: &'a Path) -> Scan<'a> {
        Scan { number, path, sample: None, found: Vec::new(), without_image: 0 }
    }

    fn damaged(&self, member: &str, what: impl std::fmt::Display) -> Error {
        let path = if member.is_empty() { self.path.to_path_buf() } else { self.path.join(member) };
        Error::data(path, what.to_string())
    }

    /// Reads all members.
    fn all(mut self) -> Result<Scan<'a>> {
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
        Ok(self)
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

    /// What is known of an image from its first bytes. One that cannot be used is refused when it
    /// is read, or skipped.
    fn image(&self, name: &str, offset: u64, bytes: u64, from: &mut impl Read) -> Result<Member> {
        let mut content = Vec::new();
        let whole = from.take(FILE_BYTES).read_to_end(&mut content);
        whole.map_err(|error| self.damaged(name, format!("cannot be read: {error}")))?;
        let path = self.path.join(name);
        let header = picture::header_of(&path, bytes, &mut Cursor::new(content));
        let (decoded_bytes, turned) =
            header.map_or((0, false), |header| (header.decoded_bytes, header.turned));
        let bytes = u32::try_from(bytes.min(FILE_BYTES)).unwrap_or(u32::MAX);
        Ok(Member { shard: self.number, offset, bytes, label: 0, decoded_bytes, turned })
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
            Some((_, None, _)) => self.without_image += 1,
            Some((_, Some(member), Some(class))) => self.found.push((member, class)),
            Some((key, Some(_), None)) => {
                let what = "is an image without a class, which a member of the same name that ends in .cls, .json or .txt \
                            says";
                return Err(self.damaged(&key, what));
            }
        }
        Ok(())
    }
}
