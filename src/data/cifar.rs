//! `cifar10:PATH` and `cifar100:PATH`: the official binary or Python version, as a folder or as the
//! `.tar.gz`, which is streamed and never unpacked: an entry is known by its file name alone.

use super::cifar_python;
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
    binary: Version,
    python: Version,
    /// Label bytes before the pixels of the binary version; the last of them is the class.
    label_bytes: usize,
    classes: usize,
    /// Where the pickles of the Python version have labels, and names of classes.
    keys: cifar_python::Keys,
}

/// The files of a data set in one of its versions.
struct Version {
    /// The official file.
    archive: &'static str,
    /// The folder in it.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
}

impl Version {
    fn files(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().copied().chain([self.test, self.names])
    }
}

/// Ten classes; a record is a label and 3072 bytes.
pub const CIFAR10: Kind = Kind {
    title: "CIFAR-10",
    source: "cifar10",
    binary: Version {
        archive: "cifar-10-binary.tar.gz",
        folder: "cifar-10-batches-bin",
        train: &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        test: "test_batch.bin",
        names: "batches.meta.txt",
    },
    python: Version {
        archive: "cifar-10-python.tar.gz",
        folder: "cifar-10-batches-py",
        train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: "test_batch",
        names: "batches.meta",
    },
    label_bytes: 1,
    classes: 10,
    keys: cifar_python::Keys { labels: "labels", names: "label_names" },
};

/// A hundred; a record is a coarse label, a fine label and 3072 bytes.
pub const CIFAR100: Kind = Kind {
    title: "CIFAR-100",
    source: "cifar100",
    binary: Version {
        archive: "cifar-100-binary.tar.gz",
        folder: "cifar-100-binary",
        train: &["train.bin"],
        test: "test.bin",
        names: "fine_label_names.txt",
    },
    python: Version {
        archive: "cifar-100-python.tar.gz",
        folder: "cifar-100-python",
        train: &["train"],
        test: "test",
        names: "meta",
    },
    label_bytes: 2,
    classes: 100,
    keys: cifar_python::Keys { labels: "fine_labels", names: "fine_label_names" },
};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE * 3;
/// Both data sets are smaller, all files together (185 MB), the archive's own bytes included.
const LARGEST: u64 = 256 << 20;
/// Both.
const KINDS: [&Kind; 2] = [&CIFAR10, &CIFAR100];

impl Kind {
    fn other(&self) -> &'static Kind {
        if self.classes == CIFAR10.classes { &CIFAR100 } else { &CIFAR10 }
    }

    fn versions(&self) -> [&Version; 2] {
        [&self.binary, &self.python]
    }

    fn wanted(&self) -> impl Iterator<Item = &'static str> {
        self.versions().into_iter().flat_map(Version::files)
    }
}

/// The data set of `kind` in `path`, a folder of the official files or their `.tar.gz`.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or of the other data set.
pub fn open(path: &Path, config: &DataConfig, kind: &'static Kind) -> Result<Dataset> {
    let files = if path.is_dir() { read_folder(path, kind)? } else { read_archive(path)? };
    let has = |version: &&Version| version.files().any(|name| files.bytes.contains_key(name));
    let version = kind.versions().into_iter().find(has).unwrap_or(&kind.binary);
    let is_python = version.archive == kind.python.archive;
    let half = |names: &[&str]| -> Result<(Vec<Image>, Vec<u32>)> {
        let mut half = (Vec::new(), Vec::new());
        for name in names {
            let bytes = files.bytes.get(*name).ok_or_else(|| files.missing(path, name, kind))?;
            match is_python {
                true => pickled(path, name, bytes, kind, &mut half)?,
                false => records(path, name, bytes, kind, &mut half)?,
            }
        }
        Ok(half)
    };
    let (train, test) = (half(version.train)?, half(&[version.test])?);
    let named = files.bytes.get(version.names).map(|bytes| match is_python {
        true => cifar_python::names(bytes, kind.keys.names),
        false => lines(bytes),
    });
    let named = named.filter(|names| names.len() == kind.classes);
    let note = named.is_none().then(|| {
        format!("its classes have numbers for names: it has no {} that names all of them", version.names)
    });
    let classes = named.unwrap_or_else(|| (0..kind.classes).map(|class| class.to_string()).collect());
    let limit = |(images, labels): (Vec<Image>, Vec<u32>), wanted: usize| {
        let used = first_of_each_class(&labels, kind.classes, wanted);
        let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
        let kept: Vec<Image> = used.iter().filter_map(|&i| images[i].take()).collect();
        (kept, used.iter().map(|&i| labels[i]).collect())
    };
    let there = [train.0.len(), test.0.len()];
    let halves = [limit(train, config.train_images), limit(test, config.test_images)];
    let notes = note.into_iter().collect();
    Ok(Dataset { there, notes, ..Dataset::in_memory(config, classes, halves) })
}

/// The lines of a text that are not empty.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect()
}

/// Images and their labels.
type Half = (Vec<Image>, Vec<u32>);

/// Adds an image of a file to a half: channel planes there, (H, W, 3) here.
fn add(
    path: &Path,
    (name, index): (&str, usize),
    (label, planes): (u32, &[u8]),
    kind: &Kind,
    (images, labels): &mut Half,
) -> Result<()> {
    if label as usize >= kind.classes {
        let what = format!("{name}: image {index} has label {label}; the file is damaged");
        return Err(Error::data(path, what));
    }
    let pixels = (0..PIXELS).map(|i| planes[i % 3 * SIDE * SIDE + i / 3]).collect();
    images.push(Image { height: SIDE, width: SIDE, pixels });
    labels.push(label);
    Ok(())
}

/// The images of one file of the binary version.
fn records(path: &Path, name: &str, bytes: &[u8], kind: &Kind, half: &mut Half) -> Result<()> {
    let head = kind.label_bytes;
    let record = head + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let what = format!(
            "{name} is truncated: {} bytes are not a whole number of {record}-byte records",
            bytes.len()
        );
        return Err(Error::data(path, what));
    }
    for (index, bytes) in bytes.chunks_exact(record).enumerate() {
        add(path, (name, index), (u32::from(bytes[head - 1]), &bytes[head..]), kind, half)?;
    }
    Ok(())
}

/// The images of one file of the Python version.
fn pickled(path: &Path, name: &str, bytes: &[u8], kind: &Kind, half: &mut Half) -> Result<()> {
    let damaged = |error: Error| Error::data(path, format!("{name} cannot be read: {error}"));
    let batch = cifar_python::Batch::read(bytes, kind.keys.labels, PIXELS).map_err(damaged)?;
    for (index, (label, planes)) in
        batch.labels.into_iter().zip(batch.pixels.chunks_exact(PIXELS)).enumerate()
    {
        add(path, (name, index), (label, planes), kind, half)?;
    }
    Ok(())
}

/// The files of the data set that were found, and what else says which data set this is.
#[derive(Default)]
struct Files {
    bytes: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Why `name` is not among them.
    fn missing(&self, path: &Path, name: &str, kind: &Kind) -> Error {
        let (title, other) = (kind.title, kind.other());
        let has_any = |kind: &Kind| kind.wanted().any(|name| self.bytes.contains_key(name));
        let what = if !has_any(kind) && has_any(other) {
            format!("is {}, not {title}; write {}:PATH", other.title, other.source)
        } else {
            let [binary, python] = kind.versions().map(|version| version.archive);
            format!("has no {name}; expected the official binary or Python version ({binary}, {python})")
        };
        Error::data(path, what)
    }

    /// Keeps `from` where `name` is that of a file that is wanted, or of one that says what this
    /// is.
    fn offer(&mut self, path: &Path, name: &str, from: impl Read) -> Result<()> {
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

fn read_folder(path: &Path, kind: &'static Kind) -> Result<Files> {
    let mut found = Files::default();
    let official = KINDS.iter().flat_map(|kind| kind.versions()).map(|version| path.join(version.folder));
    let folders: Vec<PathBuf> = official.chain([path.to_path_buf()]).collect();
    let is_there = |file: &Path| file.exists() && !file.is_dir();
    let place = |version: &'static Version| {
        let holds = |folder: &&PathBuf| is_there(&folder.join(version.test));
        folders.iter().find(holds).map(|folder| (folder, version))
    };
    let read = kind.versions().into_iter().find_map(place);
    for (folder, name) in read.iter().flat_map(|(folder, version)| version.files().map(move |n| (folder, n)))
    {
        let file = folder.join(name);
        match files::open(&file) {
            Ok((open, _)) => found.offer(folder, name, open)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::data(&file, format!("cannot be read: {e}"))),
        }
    }
    // What else lies there says what to take instead; it is not read.
    for name in kind.other().wanted() {
        if folders.iter().any(|folder| folder.join(name).is_file()) {
            found.bytes.entry(name.to_string()).or_default();
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
