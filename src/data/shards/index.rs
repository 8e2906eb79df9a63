//! Where the images of shards lie. Shards are read through once for it; what was found is kept
//! beside them, or in the person's cache where nothing can be written there, and believed as long
//! as the shards' lengths and times are the same.

use super::super::picture::{self, FILE_BYTES};
use super::Place;
use crate::error::{Error, Result};
use crate::files::{self, hex};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The index beside the shards.
const FILE: &str = ".sim-index";
/// Its first line; another number is another form.
const FORM: &str = "sim-index 2";
/// Longest index, in bytes: some thirty million images.
const LONGEST: u64 = 2 << 30;

/// An image in a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The number of the shard.
    pub shard: u32,
    /// Where it lies there, as in [`Place`].
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
    /// An image of the shard number `shard`, whose name for a person is `path`, of which the first
    /// bytes are `content` and which has `bytes` of them. One that cannot be used is refused when
    /// it is read, or skipped.
    pub fn of(shard: u32, path: &Path, (offset, bytes): (u64, u64), content: &[u8]) -> Member {
        let header = picture::header_of(path, bytes, &mut Cursor::new(content));
        let (decoded_bytes, turned) =
            header.map_or((0, false), |header| (header.decoded_bytes, header.turned));
        let bytes = u32::try_from(bytes.min(FILE_BYTES)).unwrap_or(u32::MAX);
        Member { shard, offset, bytes, label: 0, decoded_bytes, turned }
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        Place { shard: self.shard, offset: self.offset, bytes: self.bytes }
    }
}

/// What was found in a shard, or in a part of one.
#[derive(Default)]
pub struct Part {
    /// Images in their order, each with what it says of its class.
    pub images: Vec<(Member, String)>,
    /// Samples that hold no image.
    pub without_image: usize,
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
    /// The index of `shards`, which lie in `root`: the one that is kept, or a new one of the parts
    /// that `scan` finds, which is kept then.
    ///
    /// # Errors
    /// [`Error::Data`] naming a shard that cannot be read, and those of `scan`.
    pub fn of(root: &Path, shards: &[PathBuf], scan: impl FnOnce() -> Result<Vec<Part>>) -> Result<Index> {
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
        let index = Index::made(scan()?);
        let text = index.text(&stamps);
        // Where it can be kept nowhere, the next command makes it again.
        let _ = kept.iter().flatten().any(|path| keep(path, &text).is_ok());
        Ok(index)
    }

    /// All parts, in their order.
    fn made(parts: Vec<Part>) -> Index {
        let mut index = Index::default();
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        for part in parts {
            index.without_image += part.without_image;
            for (mut member, label) in part.images {
                let next = numbers.len() as u32;
                member.label = *numbers.entry(label.clone()).or_insert_with(|| {
                    index.labels.push(label);
                    next
                });
                index.members.push(member);
            }
        }
        index
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
