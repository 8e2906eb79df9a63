//! `cifar10:PATH` and `cifar100:PATH`: the official binary version, as a folder or as the
//! `.tar.gz`, which is streamed and never unpacked: an entry is known by its file name alone.

use super::{DataConfig, Dataset, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// What tells one of the two data sets from the other.
pub struct Kind {
    /// The data set's name.
    title: &'static str,
    /// What stands before the path on the command line.
    source: &'static str,
    /// The official file.
    archive: &'static str,
    train_files: &'static [&'static str],
    test_file: &'static str,
    names_file: &'static str,
    /// Label bytes before the pixels; the last of them is the class.
    label_bytes: usize,
    classes: usize,
}

/// Ten classes; a record is a label and 3072 bytes.
pub const CIFAR10: Kind = Kind {
    title: "CIFAR-10",
    source: "cifar10",
    archive: "cifar-10-binary.tar.gz",
    train_files: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test_file: "test_batch.bin",
    names_file: "batches.meta.txt",
    label_bytes: 1,
    classes: 10,
};

/// A hundred; a record is a coarse label, a fine label and 3072 bytes.
pub const CIFAR100: Kind = Kind {
    title: "CIFAR-100",
    source: "cifar100",
    archive: "cifar-100-binary.tar.gz",
    train_files: &["train.bin"],
    test_file: "test.bin",
    names_file: "fine_label_names.txt",
    label_bytes: 2,
    classes: 100,
};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE * 3;
/// Both data sets are smaller, all files together (185 MB), the archive's own bytes included.
const LARGEST: u64 = 256 << 20;
/// Both.
const KINDS: [&Kind; 2] = [&CIFAR10, &CIFAR100];
/// Files of the Python versions.
const PYTHON: [&str; 6] = ["data_batch_1", "test_batch", "batches.meta", "train", "test", "meta"];

impl Kind {
    fn other(&self) -> &'static Kind {
        if self.classes == CIFAR10.classes { &CIFAR100 } else { &CIFAR10 }
    }

    fn wanted(&self) -> impl Iterator<Item = &'static str> {
        self.train_files.iter().copied().chain([self.test_file, self.names_file])
    }
}

/// The data set of `kind` in `path`, a folder of the official files or their `.tar.gz`.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged, of the Python version or of the other data
/// set.
pub fn open(path: &Path, config: &DataConfig, kind: &Kind) -> Result<Dataset> {
    let files = if path.is_dir() { read_folder(path, kind)? } else { read_archive(path)? };
    let file = |name: &str| files.bytes.get(name).ok_or_else(|| files.missing(path, name, kind));
    let names = files.bytes.get(kind.names_file).map(|text| String::from_utf8_lossy(text).into_owned());
    let named: Vec<String> = names
        .iter()
        .flat_map(|text| text.lines())
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(Into::into)
        .collect();
    let classes = match named.len() == kind.classes {
        true => named,
        false => (0..kind.classes).map(|class| class.to_string()).collect(),
    };
    let mut train = (Vec::new(), Vec::new());
    for name in kind.train_files {
        records(path, name, file(name)?, kind, &mut train)?;
    }
    let mut test = (Vec::new(), Vec::new());
    records(path, kind.test_file, file(kind.test_file)?, kind, &mut test)?;
    let limit = |(images, labels): (Vec<Image>, Vec<u32>), wanted: usize| {
        let used = first_of_each_class(&labels, kind.classes, wanted);
        let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
        let kept: Vec<Image> = used.iter().filter_map(|&i| images[i].take()).collect();
        (kept, used.iter().map(|&i| labels[i]).collect())
    };
    let there = [train.0.len(), test.0.len()];
    let halves = [limit(train, config.train_images), limit(test, config.test_images)];
    Ok(Dataset { there, ..Dataset::in_memory(config, classes, halves) })
}

/// The images of one file: channel planes in the file, (H, W, 3) in memory.
fn records(
    path: &Path,
    name: &str,
    bytes: &[u8],
    kind: &Kind,
    (images, labels): &mut (Vec<Image>, Vec<u32>),
) -> Result<()> {
    let head = kind.label_bytes;
    let record = head + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(Error::data(
            path,
            format!(
                "{name} is truncated: {} bytes are not a whole number of {record}-byte records",
                bytes.len()
            ),
        ));
    }
    for (index, bytes) in bytes.chunks_exact(record).enumerate() {
        let label = u32::from(bytes[head - 1]);
        if label as usize >= kind.classes {
            return Err(Error::data(
                path,
                format!("{name}: image {index} has label {label}; the file is damaged"),
            ));
        }
        let planes = &bytes[head..];
        let pixels = (0..PIXELS).map(|i| planes[i % 3 * SIDE * SIDE + i / 3]).collect();
        images.push(Image { height: SIDE, width: SIDE, pixels });
        labels.push(label);
    }
    Ok(())
}

/// The files of the data set that were found, and what else says which data set this is.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<String, Vec<u8>>,
    /// Names that the Python version has.
    python: bool,
}

impl Files {
    /// Why `name` is not among them.
    fn missing(&self, path: &Path, name: &str, kind: &Kind) -> Error {
        let title = kind.title;
        let other = kind.other();
        let what = if self.python {
            format!(
                "is the Python version of {title}; sim reads the binary version, which the same page has as {}",
                kind.archive
            )
        } else if other.train_files.iter().any(|name| self.bytes.contains_key(*name)) {
            format!("is {}, not {title}; write {}:PATH", other.title, other.source)
        } else {
            format!("has no {name}; expected the official binary version ({})", kind.archive)
        };
        Error::data(path, what)
    }

    /// Keeps `from` where `name` is that of a file that is wanted, or of one that says what this
    /// is.
    fn offer(&mut self, path: &Path, name: &str, from: impl Read) -> Result<()> {
        self.python |= PYTHON.contains(&name);
        if !KINDS.iter().any(|kind| kind.wanted().any(|wanted| wanted == name)) {
            return Ok(());
        }
        let held: usize = self.bytes.values().map(Vec::len).sum();
        let left = LARGEST.saturating_sub(held as u64);
        let mut bytes = Vec::new();
        let damaged = |what: String| Error::data(path, format!("{name} {what}"));
        // Sizes in headers are not believed.
        from.take(left + 1).read_to_end(&mut bytes).map_err(|e| damaged(format!("cannot be read: {e}")))?;
        if bytes.len() as u64 > left {
            return Err(damaged(format!(
                "is too long: the whole data set has less than {} MiB",
                LARGEST >> 20
            )));
        }
        self.bytes.insert(name.to_string(), bytes);
        Ok(())
    }
}

fn read_folder(path: &Path, kind: &Kind) -> Result<Files> {
    let mut found = Files::default();
    let inner = ["cifar-10-batches-bin", "cifar-100-binary", "cifar-10-batches-py", "cifar-100-python"];
    let folders: Vec<PathBuf> =
        inner.iter().map(|name| path.join(name)).chain([path.to_path_buf()]).collect();
    let names = |folder: &Path, kind: &Kind| kind.wanted().map(|name| folder.join(name)).collect::<Vec<_>>();
    let folder =
        folders.iter().find(|folder| folder.join(kind.test_file).exists()).map_or(path, PathBuf::as_path);
    for file in names(folder, kind) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match files::open(&file) {
            Ok((open, _)) => found.offer(folder, &name, open)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::data(&file, format!("cannot be read: {e}"))),
        }
    }
    // What else lies there says what to take instead; it is not read.
    for folder in &folders {
        found.python |= PYTHON.iter().any(|name| folder.join(name).is_file());
        for file in names(folder, kind.other()).into_iter().filter(|file| file.is_file()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.bytes.entry(name).or_default();
        }
    }
    Ok(found)
}

fn read_archive(path: &Path) -> Result<Files> {
    let unreadable = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"));
    let damaged =
        |e: std::io::Error| Error::data(path, format!("cannot be read as the data set's .tar.gz: {e}"));
    let (file, _) = files::open(path).map_err(unreadable)?;
    let unpacked = Unpacked { from: flate2::read::GzDecoder::new(BufReader::new(file)), left: LARGEST };
    let mut archive = tar::Archive::new(unpacked);
    let mut found = Files::default();
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.file_name().map(|n| n.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|_| entry.header().entry_type().is_file()) {
            found.offer(path, &name, entry)?;
        }
    }
    Ok(found)
}

/// What comes out of an archive, up to a bound: a few megabytes unpack to as many gigabytes, and
/// names of entries may be as long.
struct Unpacked<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let what =
                    format!("it unpacks to more than {} MiB, which the data set does not", LARGEST >> 20);
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
            }
        }
        Ok(read)
    }
}
