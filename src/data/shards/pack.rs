//! `sim data pack`: writes a data set as shards.

use super::super::classes::Half;
use super::super::layout;
use super::super::picture::{self, Exif};
use super::super::{DataConfig, Dataset, Split};
use crate::error::{Error, Result, go_on};
use crate::files;
use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What was written.
#[derive(Debug, Default, PartialEq)]
pub struct Packed {
    /// Images.
    pub images: usize,
    /// Shards.
    pub shards: usize,
    /// Bytes of all shards.
    pub bytes: u64,
    /// Images that cannot be decoded, each with the reason; only with `skip_bad`.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else was left out.
    pub notes: Vec<String>,
}

/// Writes all images of `config` into the folder `out`, which is made or empty, as shards that end
/// with the image with which they reach `shard_bytes`.
///
/// Files of a folder keep their bytes; other images are written as PNG. The order is that of the
/// data set, so that a run on the shards makes the same bytes. A shard has its name when it is
/// whole.
///
/// # Errors
/// [`Error::Usage`] where `out` holds something, [`Error::Data`] for images that cannot be decoded
/// where `config` skips none, [`Error::Disk`] where nothing can be written, [`Error::Stopped`] once
/// `stop` is set.
pub fn pack(config: &DataConfig, out: &Path, shard_bytes: u64, stop: &AtomicBool) -> Result<Packed> {
    let mut packed = Packed::default();
    make_empty(out, "the shards")?;
    let (classes, halves): (Vec<String>, [Box<dyn Samples>; 2]) = match config.source.strip_prefix("folder:")
    {
        Some(root) => {
            let root = super::super::expand(root)?;
            let (classes, halves) = layout::list(&root, config, &mut packed.notes)?;
            check_labels(&root, &classes)?;
            (classes, halves.map(|half| Box::new(half) as Box<dyn Samples>))
        }
        None => {
            let data = Dataset::open(config)?;
            packed.skipped = data.skipped;
            packed.notes = data.notes;
            (data.classes, [data.train, data.test].map(|split| Box::new(split) as Box<dyn Samples>))
        }
    };
    for (half, samples) in ["train", "test"].into_iter().zip(&halves) {
        let mut shard: Option<Shard> = None;
        let mut number = 0;
        for index in 0..samples.count() {
            go_on(stop)?;
            let (label, name) = (samples.label(index), samples.name(index));
            let (bytes, extension) = match samples.bytes(index) {
                Ok(read) => read,
                Err(Error::Data { path, what }) if config.skip_bad => {
                    packed.skipped.push((path, what));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let open = match &mut shard {
                Some(open) => open,
                None => {
                    let path = out.join(format!("{half}-{number:06}.tar"));
                    number += 1;
                    packed.shards += 1;
                    shard.insert(Shard::create(path)?)
                }
            };
            let about = serde_json::json!({ "class_name": classes[label as usize], "file": name });
            open.add(&format!("{index:08}.{extension}"), &bytes)?;
            open.add(&format!("{index:08}.cls"), format!("{label}\n").as_bytes())?;
            open.add(&format!("{index:08}.json"), format!("{about}\n").as_bytes())?;
            packed.images += 1;
            if open.bytes >= shard_bytes
                && let Some(full) = shard.take()
            {
                packed.bytes += full.end()?;
            }
        }
        packed.bytes += shard.map_or(Ok(0), Shard::end)?;
    }
    let names = out.join(super::webdataset::CLASSES);
    let text: String = classes.iter().map(|class| format!("{class}\n")).collect();
    std::fs::write(&names, text).map_err(Error::disk(&names, "write the names of classes"))?;
    Ok(packed)
}

/// Refuses images without labels.
fn check_labels(root: &Path, classes: &[String]) -> Result<()> {
    let what = "its images have no labels, and shards say the class of each; put them into class folders";
    if classes.is_empty() { Err(Error::data(root, what)) } else { Ok(()) }
}

/// Makes the folder `out`, or finds it empty, for what is called `what`.
///
/// # Errors
/// [`Error::Usage`] where something lies in it, [`Error::Disk`] where it cannot be made or read.
pub fn make_empty(out: &Path, what: &str) -> Result<()> {
    std::fs::create_dir_all(out).map_err(Error::disk(out, "create the folder"))?;
    let mut inside = std::fs::read_dir(out).map_err(Error::disk(out, "list the folder"))?;
    match inside.next() {
        None => Ok(()),
        Some(_) => {
            Err(Error::Usage(format!("{}: is not empty; name a new folder for {what}", out.display())))
        }
    }
}

/// Images that are packed.
trait Samples {
    fn count(&self) -> usize;
    fn label(&self, index: usize) -> u32;
    /// Where the image came from, for a person.
    fn name(&self, index: usize) -> String;
    /// The bytes of its file, which decodes, and the ending that they should have.
    fn bytes(&self, index: usize) -> Result<(Vec<u8>, &'static str)>;
}

impl Samples for Half {
    fn count(&self) -> usize {
        self.paths.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        let path = &self.paths[index];
        path.strip_prefix(&self.folder).unwrap_or(path).display().to_string()
    }

    fn bytes(&self, index: usize) -> Result<(Vec<u8>, &'static str)> {
        let path = &self.paths[index];
        picture::header(path)?;
        picture::decode_listed(path, Exif::Ignored)?;
        let bytes = files::read(path, picture::FILE_BYTES)
            .map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
        let extension = picture::extension(&bytes);
        Ok((bytes, extension))
    }
}

impl Samples for std::sync::Arc<Split> {
    fn count(&self) -> usize {
        self.len()
    }

    fn label(&self, index: usize) -> u32 {
        Split::label(self, index)
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn bytes(&self, index: usize) -> Result<(Vec<u8>, &'static str)> {
        let image = self.image(index)?;
        let (width, height) = (image.width as u32, image.height as u32);
        let no_png = || Error::Failure(format!("image {index} cannot be written as PNG"));
        let picture = image::RgbImage::from_raw(width, height, image.pixels.clone()).ok_or_else(no_png)?;
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(|_| no_png())?;
        Ok((bytes.into_inner(), "png"))
    }
}

/// A shard that is being written, under a name of its own until it is whole.
struct Shard {
    path: PathBuf,
    beside: PathBuf,
    archive: tar::Builder<BufWriter<File>>,
    bytes: u64,
}

impl Shard {
    fn create(path: PathBuf) -> Result<Shard> {
        let beside = path.with_extension("tar.part");
        let file = File::create(&beside).map_err(Error::disk(&beside, "create the shard"))?;
        Ok(Shard { path, beside, archive: tar::Builder::new(BufWriter::new(file)), bytes: 0 })
    }

    /// Adds a member; who packed it and when is not told.
    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.bytes += content.len() as u64;
        let added = self.archive.append_data(&mut header, name, content);
        added.map_err(Error::disk(&self.path, "write the shard"))
    }

    /// Ends it; its length.
    fn end(self) -> Result<u64> {
        let Shard { path, beside, archive, .. } = self;
        let whole = archive.into_inner().and_then(|mut file| {
            file.flush()?;
            file.get_ref().sync_all()?;
            std::fs::rename(&beside, &path)?;
            Ok(file.get_ref().metadata()?.len())
        });
        whole.map_err(Error::disk(&path, "write the shard"))
    }
}
