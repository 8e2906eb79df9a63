//! `cifar10:PATH` and `cifar100:PATH`: the official binary version, as a folder or as the `.tar.gz`,
//! which is streamed and never unpacked: an entry is known by its file name alone.

use super::{DataConfig, Dataset, first_of_each_class};
use crate::augment::Image;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Which of the two.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Ten classes; a record is a label and 3072 bytes.
    Cifar10,
    /// A hundred; a record is a coarse label, a fine label and 3072 bytes.
    Cifar100,
}

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE * 3;
/// No file of either data set is longer.
const LONGEST_FILE: u64 = 160_000_000;

impl Kind {
    fn train_files(self) -> &'static [&'static str] {
        match self {
            Kind::Cifar10 => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            Kind::Cifar100 => &["train.bin"],
        }
    }

    fn test_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "test_batch.bin",
            Kind::Cifar100 => "test.bin",
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            Kind::Cifar10 => "batches.meta.txt",
            Kind::Cifar100 => "fine_label_names.txt",
        }
    }

    /// Label bytes before the pixels; the last of them is the class.
    fn label_bytes(self) -> usize {
        match self {
            Kind::Cifar10 => 1,
            Kind::Cifar100 => 2,
        }
    }

    fn classes(self) -> usize {
        match self {
            Kind::Cifar10 => 10,
            Kind::Cifar100 => 100,
        }
    }

    fn wanted(self) -> impl Iterator<Item = &'static str> {
        self.train_files().iter().copied().chain([self.test_file(), self.names_file()])
    }
}

/// Opens `path`.
pub fn open(path: &Path, config: &DataConfig, kind: Kind) -> Result<Dataset> {
    let files = if path.is_dir() { read_folder(path, kind)? } else { read_archive(path, kind)? };
    let file = |name: &str| {
        let missing = || Error::data(path, format!("has no {name}; expected the official binary version"));
        files.get(name).ok_or_else(missing)
    };
    let names = files.get(kind.names_file()).map(|text| String::from_utf8_lossy(text).into_owned());
    let named: Vec<String> = names
        .iter()
        .flat_map(|text| text.lines())
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(Into::into)
        .collect();
    let classes = match named.len() == kind.classes() {
        true => named,
        false => (0..kind.classes()).map(|class| class.to_string()).collect(),
    };
    let mut train = (Vec::new(), Vec::new());
    for name in kind.train_files() {
        records(path, name, file(name)?, kind, &mut train)?;
    }
    let mut test = (Vec::new(), Vec::new());
    records(path, kind.test_file(), file(kind.test_file())?, kind, &mut test)?;
    let limit = |(images, labels): (Vec<Image>, Vec<u32>), wanted: usize| {
        let used = first_of_each_class(&labels, kind.classes(), wanted);
        let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
        let kept: Vec<Image> = used.iter().filter_map(|&i| images[i].take()).collect();
        (kept, used.iter().map(|&i| labels[i]).collect())
    };
    let halves = [limit(train, config.train_images), limit(test, config.test_images)];
    Ok(Dataset::in_memory(config, classes, halves, Vec::new()))
}

/// The images of one file: channel planes in the file, (H, W, 3) in memory.
fn records(
    path: &Path,
    name: &str,
    bytes: &[u8],
    kind: Kind,
    (images, labels): &mut (Vec<Image>, Vec<u32>),
) -> Result<()> {
    let head = kind.label_bytes();
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
        if label as usize >= kind.classes() {
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

type Files = BTreeMap<String, Vec<u8>>;

/// Reads at most [`LONGEST_FILE`] bytes: sizes in headers are not believed.
fn read_limited(path: &Path, name: &str, from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let damaged = |what: String| Error::data(path, format!("{name} {what}"));
    from.take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| damaged(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(damaged("is longer than any file of this data set".into()));
    }
    Ok(bytes)
}

fn read_folder(path: &Path, kind: Kind) -> Result<Files> {
    let inner = ["cifar-10-batches-bin", "cifar-100-binary"].map(|name| path.join(name));
    let folder = inner.iter().find(|p| p.join(kind.test_file()).is_file()).map_or(path, |p| p.as_path());
    let mut files = Files::new();
    for name in kind.wanted() {
        let file = folder.join(name);
        if file.is_file() {
            let open =
                std::fs::File::open(&file).map_err(|e| Error::data(&file, format!("cannot be read: {e}")))?;
            files.insert(name.to_string(), read_limited(folder, name, open)?);
        }
    }
    Ok(files)
}

fn read_archive(path: &Path, kind: Kind) -> Result<Files> {
    let damaged =
        |e: std::io::Error| Error::data(path, format!("cannot be read as the data set's .tar.gz: {e}"));
    let file = std::fs::File::open(path).map_err(|e| Error::data(path, format!("cannot be read: {e}")))?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::io::BufReader::new(file)));
    let mut files = Files::new();
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.file_name().map(|n| n.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|name| kind.wanted().any(|wanted| wanted == name)) {
            let bytes = read_limited(path, &name, entry)?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}
