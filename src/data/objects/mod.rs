//! Images with objects in them: where each one is, pixel by pixel, and of which class.
//!
//! `scenes` are drawn, `coco:DIR` and `voc:DIR` are read. Boxes are left and upper edge, width and
//! height in pixels, ends exclusive, the first pixel from 0 to 1: PASCAL VOC's pixels, counted from
//! 1 and with the last one inside, are made so by its reader.

mod coco;
pub mod export;
pub mod scenes;
mod voc;

use super::picture::{self, Exif};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::masks::{Rectangle, Rle};
use scenes::ScenesConfig;
use sha2::{Digest, Sha256};
use std::path::{Component, Path, PathBuf};

/// The sources of images with objects.
pub const SOURCES: [&str; 3] = ["scenes", "coco:DIR", "voc:DIR"];

/// An object in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its class, an index into the set's classes.
    pub class: usize,
    /// Its box.
    pub bounding_box: Rectangle,
    /// Its visible pixels, where they are known.
    pub mask: Option<Rle>,
    /// Its area in pixels: that of its polygons where a data set says so.
    pub area: f64,
    /// Whether it stands for many objects that nobody told apart.
    pub crowd: bool,
    /// Whether finding it counts neither way (PASCAL VOC).
    pub difficult: bool,
}

/// An image and what is in it.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The image, (H, W, 3).
    pub image: Image,
    /// Its objects, the ones behind first where that is known.
    pub objects: Vec<Object>,
}

/// An image file and its size as the data set says it.
#[derive(Clone, Debug)]
struct Picture {
    path: PathBuf,
    /// [H, W].
    size: [usize; 2],
    objects: Vec<Object>,
}

/// One half of a data set of objects.
#[derive(Clone, Debug)]
pub struct ObjectSplit {
    scenes: Scenes,
}

#[derive(Clone, Debug)]
enum Scenes {
    /// Images of this split, drawn when they are asked for.
    Drawn { config: ScenesConfig, split: u64, count: usize },
    /// Files, decoded when they are asked for.
    Files(Vec<Picture>),
}

impl ObjectSplit {
    /// The number of images.
    pub fn len(&self) -> usize {
        match &self.scenes {
            Scenes::Drawn { count, .. } => *count,
            Scenes::Files(pictures) => pictures.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image `index` and its objects.
    ///
    /// # Errors
    /// [`Error::Data`] where a file cannot be decoded, or has another size than the data set says.
    pub fn scene(&self, index: usize) -> Result<Scene> {
        match &self.scenes {
            Scenes::Drawn { config, split, .. } => Ok(scenes::scene(config, *split, index)),
            Scenes::Files(pictures) => {
                let Picture { path, size, objects } = &pictures[index];
                let image = picture::decode(path, Exif::Ignored)?;
                if [image.height, image.width] != *size {
                    let ([h, w], [ih, iw]) = (*size, [image.height, image.width]);
                    let what = format!("has {ih}×{iw} pixels where its annotations say {h}×{w}");
                    return Err(Error::data(path, what));
                }
                Ok(Scene { image, objects: objects.clone() })
            }
        }
    }

    /// The objects of image `index`, without the image where it is a file.
    pub fn objects(&self, index: usize) -> Vec<Object> {
        match &self.scenes {
            Scenes::Drawn { config, split, .. } => scenes::scene(config, *split, index).objects,
            Scenes::Files(pictures) => pictures[index].objects.clone(),
        }
    }
}

/// A data set of objects: training and held-out images.
#[derive(Clone, Debug)]
pub struct ObjectSet {
    /// The source as it was asked for.
    pub name: String,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Training images.
    pub train: ObjectSplit,
    /// Held-out images.
    pub test: ObjectSplit,
    /// What was left out: sentences for a person.
    pub notes: Vec<String>,
}

/// Whether `source` names images with objects.
pub fn is_source(source: &str) -> bool {
    SOURCES.iter().any(|known| known.split(':').next() == source.split(':').next())
}

impl ObjectSet {
    /// Opens the data set that `source` names; `config` says what scenes look like.
    ///
    /// # Errors
    /// [`Error::Usage`] for a source that does not exist as a kind and for scenes that cannot be
    /// drawn, [`Error::Data`] for files that are missing, damaged or laid out in another way.
    ///
    /// ```
    /// # fn main() -> simsiam_em::Result<()> {
    /// use simsiam_em::data::objects::{ObjectSet, scenes::ScenesConfig};
    ///
    /// let set = ObjectSet::open("scenes", &ScenesConfig::default())?;
    /// let scene = set.train.scene(0)?;
    /// assert_eq!((scene.image.height, scene.image.width), (64, 64));
    /// assert!(scene.objects.iter().all(|object| object.area >= 12.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(source: &str, config: &ScenesConfig) -> Result<ObjectSet> {
        let (kind, path) = source.split_once(':').unwrap_or((source, ""));
        let path = &super::expand(path)?;
        match (kind, path.as_os_str().is_empty()) {
            ("scenes", true) => {
                config.check()?;
                let half = |split: u64, count: usize| ObjectSplit {
                    scenes: Scenes::Drawn { config: config.clone(), split, count },
                };
                let [train, test] = [half(0, config.train), half(1, config.test)];
                let classes = scenes::classes();
                Ok(ObjectSet { name: source.into(), classes, train, test, notes: Vec::new() })
            }
            ("coco", false) => coco::open(source, path),
            ("voc", false) => voc::open(source, path),
            _ => {
                Err(Error::Usage(match SOURCES.iter().find(|known| known.starts_with(&format!("{kind}:"))) {
                    Some(known) => format!("data '{kind}' needs a path: {known}"),
                    None => format!("data '{source}' is not one of {}", SOURCES.join(", ")),
                }))
            }
        }
    }
}

impl ObjectSet {
    /// What tells its images from others': the SHA-256 of what scenes are drawn with, however many
    /// are, or of names, lengths and objects of files.
    ///
    /// # Errors
    /// [`Error::Disk`] where a file is gone.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", self.classes));
        for split in [&self.train, &self.test] {
            match &split.scenes {
                Scenes::Drawn { config: ScenesConfig { size, test, seed, crowd, .. }, split, .. } => {
                    hash.update(format!("{size} {test} {seed} {crowd} {split}"));
                }
                Scenes::Files(pictures) => {
                    for Picture { path, size, objects } in pictures {
                        let length =
                            std::fs::metadata(path).map_err(Error::disk(path, "read the image"))?.len();
                        hash.update(format!("{:?} {length} {size:?} {objects:?}", path.file_name()));
                    }
                }
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Whether `name`, which a file says, leads to no place outside of its folder.
fn stays_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}
