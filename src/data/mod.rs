//! Images and labels: where they come from, in which order, and the batches prepared ahead.

pub use batch::indices as step_indices;
pub use config::{DataConfig, HeldOut, PROCEDURAL, RunSeed, SOURCES, ShapesSeed, sources};
pub use glyphs::{GlyphsConfig, Strangers};
pub use limit::first_of_each_class;
pub use pairs::{ListedPair, PairImages, images_of_pairs, read_pairs};
pub use passes::Passes;
pub use picture::{Exif, decode};
pub use shapes::ShapesConfig;
pub use walk::{TYPES, images_in};

mod batch;
mod cifar;
mod cifar_python;
mod classes;
mod config;
mod folder;
pub mod glyphs;
mod halves;
mod jpeg;
mod layout;
mod limit;
pub mod loader;
pub mod objects;
mod pairs;
mod passes;
mod picture;
mod png;
pub mod shapes;
pub mod shards;
mod stl10;
mod tiny_imagenet;
pub mod tracks;
mod unsplit;
mod walk;
mod webp;

use crate::augment::{self, AugmentConfig, Image};
use crate::error::{Error, Result};
use crate::files::hex;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use shards::{Place, Shards};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Procedural images at most, of either kind: beyond this a run was mistyped.
const SHAPES_MOST: usize = 1 << 21;
/// How a program that reads Parquet is built.
#[cfg(not(feature = "parquet"))]
const WITH_PARQUET: &str = "cargo install --path . --locked --features parquet";

/// Images and labels of one half of a data set.
#[derive(Debug)]
pub struct Split {
    images: Images,
    labels: Vec<u32>,
    /// The file of every image, where each has one.
    paths: Vec<PathBuf>,
}

/// Decoded once and kept, or decoded when asked for.
#[derive(Debug)]
enum Images {
    Memory(Vec<Image>),
    Files(Exif),
    Shards(Arc<dyn Shards>, Vec<Place>),
    Planes(stl10::Unlabelled),
}

impl Split {
    /// The number N of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none; a data set never opens with an empty half.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of every image, (N); all 0 where images have no labels.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The class of image `index`.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// The file of image `index`, where it has one of its own.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.paths.get(index).map(PathBuf::as_path)
    }

    /// Image `index`.
    ///
    /// # Errors
    /// [`Error::Data`] when a file that is decoded on demand is damaged.
    pub fn image(&self, index: usize) -> Result<Cow<'_, Image>> {
        match &self.images {
            Images::Memory(images) => Ok(Cow::Borrowed(&images[index])),
            Images::Files(exif) => picture::decode_listed(&self.paths[index], *exif).map(Cow::Owned),
            Images::Shards(shards, places) => shards.image(places[index]).map(Cow::Owned),
            Images::Planes(file) => file.image(index).map(Cow::Owned),
        }
    }
}

/// A data set: classes, training and held-out images.
#[derive(Debug)]
pub struct Dataset {
    /// The source as it was asked for.
    pub name: String,
    /// Class names by label; none where images have no labels, which are all 0 then.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Arc<Split>,
    /// Images with labels that judge what was trained on images without; see
    /// [`Dataset::labelled`].
    pub references: Option<Arc<Split>>,
    /// Held-out images.
    pub test: Arc<Split>,
    /// sha256 over labels and pixels (over names and lengths of files that are decoded on demand).
    pub digest: String,
    /// Files that could not be decoded, each with the reason; only with `skip_bad`.
    pub skipped: Vec<(PathBuf, String)>,
    /// What else of the files was left out, or is not as one might expect: sentences for a person.
    pub notes: Vec<String>,
    /// Training and held-out images that there are, of which a limit or `skip_bad` may have left
    /// some out.
    pub there: [usize; 2],
    /// How many of the training images that there are each class has.
    pub by_class: Vec<usize>,
    /// Images that their camera asks to turn: whether they are turned says `data.exif`.
    pub turned: usize,
    /// The seed of procedural images; none of others.
    pub drawn_with: Option<u64>,
    /// Images of identities that neither half shows, where the source has such.
    pub strangers: Option<Strangers>,
}

impl Dataset {
    /// Opens the data set that `config` names.
    ///
    /// # Errors
    /// [`Error::Usage`] for a source that does not exist as a kind, [`Error::Data`] for files that
    /// are missing, damaged or laid out in another way.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use simsiam_em::data::{DataConfig, Dataset};
    ///
    /// let all = DataConfig::all_of("shapes");
    /// let shapes = Dataset::open(&DataConfig { train_images: 20, test_images: 10, ..all })?;
    /// let image = shapes.train.image(3)?;
    /// assert_eq!((image.height, image.width, image.pixels.len()), (24, 24, 24 * 24 * 3));
    /// assert!((shapes.train.label(3) as usize) < shapes.classes.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(config: &DataConfig) -> Result<Dataset> {
        let (kind, path) = config.source.split_once(':').unwrap_or((&config.source, ""));
        let path = &expand(path)?;
        let not_here = match kind {
            "folder" if !config.unlabelled => None,
            _ if config.exif && kind != "folder" => {
                Some("exif: only images of folder:DIR may ask to be turned")
            }
            _ if config.unlabelled && kind != "stl10" => {
                Some("unlabelled: only stl10:PATH has images without labels beside those with")
            }
            "tar" | "parquet" => None,
            _ => config.held_out.map(
                |_| "held_out: only folder:DIR, tar:DIR and parquet:DIR have test and val to choose from",
            ),
        };
        if let Some(what) = not_here {
            return Err(Error::Usage(format!("data.{what}")));
        }
        match (kind, path.as_os_str().is_empty()) {
            ("shapes" | "glyphs", true) => procedural(config),
            ("folder", false) => folder::open(path, config),
            ("tar", false) => shards::webdataset::open(path, config),
            #[cfg(feature = "parquet")]
            ("parquet", false) => shards::parquet::open(path, config),
            #[cfg(not(feature = "parquet"))]
            ("parquet", _) => Err(Error::Usage(format!(
                "data 'parquet' is not in this build; {WITH_PARQUET} makes one with it"
            ))),
            ("cifar10", false) => cifar::open(path, config, &cifar::CIFAR10),
            ("cifar100", false) => cifar::open(path, config, &cifar::CIFAR100),
            ("stl10", false) => stl10::open(path, config),
            ("tiny-imagenet", false) => tiny_imagenet::open(path, config),
            _ => Err(Error::Usage(
                match SOURCES.iter().find(|source| source.starts_with(&format!("{kind}:"))) {
                    Some(source) => format!("data '{kind}' needs a path: {source}"),
                    None => format!("data '{}' is not one of {}", config.source, sources()),
                },
            )),
        }
    }

    /// A data set from decoded images with their labels, training images first; `config` names it.
    pub fn in_memory(
        config: &DataConfig,
        classes: Vec<String>,
        halves: [(Vec<Image>, Vec<u32>); 2],
    ) -> Dataset {
        let mut hash = Sha256::new();
        for (images, labels) in &halves {
            for (image, label) in images.iter().zip(labels) {
                hash.update(label.to_le_bytes());
                hash.update((image.height as u64).to_le_bytes());
                hash.update(&image.pixels);
            }
        }
        let splits = halves.map(|(images, labels)| Split {
            images: Images::Memory(images),
            labels,
            paths: Vec::new(),
        });
        Dataset::new(config, classes, splits, hex(&hash.finalize()))
    }

    /// A data set of which nothing was left out.
    fn new(config: &DataConfig, classes: Vec<String>, splits: [Split; 2], digest: String) -> Dataset {
        let there = [splits[0].len(), splits[1].len()];
        let by_class = limit::count_classes(splits[0].labels(), classes.len());
        let [train, test] = splits.map(Arc::new);
        Dataset {
            name: config.source.clone(),
            classes,
            train,
            references: None,
            test,
            digest,
            skipped: Vec::new(),
            notes: Vec::new(),
            there,
            by_class,
            turned: 0,
            drawn_with: None,
            strangers: None,
        }
    }

    /// The images whose labels kNN and the linear probe read: the training images, but where these
    /// have none and others have.
    pub fn labelled(&self) -> &Arc<Split> {
        self.references.as_ref().unwrap_or(&self.train)
    }

    /// Whether the training images have labels.
    pub fn trains_on_labelled(&self) -> bool {
        self.is_labelled() && self.references.is_none()
    }

    /// Whether images have labels.
    pub fn is_labelled(&self) -> bool {
        !self.classes.is_empty()
    }

    /// How many of the images that there are were taken, in words: "2,000 of 50,000 training and
    /// all 10,000 held-out images". Nothing of procedural images, of which there are as many as are
    /// asked for.
    pub fn taken(&self) -> Option<String> {
        if self.drawn_with.is_some() {
            return None;
        }
        let part = |taken: usize, there: usize, what: &str| match taken == there {
            true => format!("all {} {what}", thousands(there)),
            false => format!("{} of {} {what}", thousands(taken), thousands(there)),
        };
        let [train, test] = self.there;
        let parts = [part(self.train.len(), train, "training"), part(self.test.len(), test, "held-out")];
        let skipped = match self.skipped.len() {
            0 => String::new(),
            1 => "; 1 file skipped".into(),
            n => format!("; {} files skipped", thousands(n)),
        };
        Some(format!("{} images{skipped}", parts.join(" and ")))
    }
}

impl DataConfig {
    /// The folder of `folder:DIR`; none of another source.
    ///
    /// # Errors
    /// [`Error::Data`] for a `~` that stands for no folder.
    pub fn folder(&self) -> Result<Option<PathBuf>> {
        let path = self.source.strip_prefix("folder:").filter(|path| !path.is_empty());
        path.map(expand).transpose()
    }
}

/// A path in which `~` at the beginning is the person's own folder, as in a shell: behind `folder:`
/// the shell leaves it alone. A folder that is really called `~` is taken first.
fn expand(path: &str) -> Result<PathBuf> {
    let plain = PathBuf::from(path);
    if !path.starts_with('~') || plain.exists() {
        return Ok(plain);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => Ok(home.into()),
        (Some(rest), Some(home)) if rest.starts_with('/') => Ok(Path::new(&home).join(&rest[1..])),
        _ => Err(Error::data(plain, "`~` stands for no folder here; write the whole path")),
    }
}

/// "12,345".
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// The procedural images of `config`, whose source is one of [`config::PROCEDURAL`].
fn procedural(config: &DataConfig) -> Result<Dataset> {
    let size = config.shapes_size;
    if !(4..=1024).contains(&size) {
        return Err(Error::Usage(format!(
            "data.shapes_size: {size} pixels; procedural images are between 4 and 1024"
        )));
    }
    config.shapes.check()?;
    config.glyphs.check()?;
    let ShapesSeed::Fixed(seed) = config.shapes_seed else {
        return Err(Error::Usage(
            "data.shapes_seed: \"run\" has no images without a run; a number names them".into(),
        ));
    };
    let [train, test] = config.rendered()?;
    let (shapes, glyphs) = (&config.shapes, &config.glyphs);
    let half = |n: usize, image: &(dyn Fn(usize) -> Image + Sync), label: &dyn Fn(usize) -> u32| {
        ((0..n).into_par_iter().map(image).collect(), (0..n).map(label).collect())
    };
    let (classes, halves, strangers) = if config.source == "shapes" {
        let half = |split: u64, n: usize| {
            half(n, &|i| shapes::render(shapes, seed, split, i, size), &|i| shapes::label(i, shapes.classes))
        };
        (shapes.names(), [half(0, train), half(1, test)], None)
    } else {
        let half = |split: u64, n: usize| {
            let label = |i| glyphs::label(i, glyphs.identities);
            half(n, &|i| glyphs::render(glyphs, seed, split, i, size), &label)
        };
        (glyphs.names(), [half(0, train), half(1, test)], Strangers::new(glyphs, seed, size))
    };
    let dataset = Dataset::in_memory(config, classes, halves);
    Ok(Dataset { drawn_with: Some(seed), strangers, ..dataset })
}

/// Unaugmented images `indices`, resized with antialiasing so that the shorter side is
/// `config.size`, cropped at the centre and normalised: (B, size, size, 3).
///
/// # Errors
/// [`Error::Data`] where an image cannot be decoded.
pub fn plain(split: &Split, indices: &[usize], config: &AugmentConfig) -> Result<Vec<f32>> {
    let len = config.size * config.size * 3;
    let mut out = vec![0.0; indices.len() * len];
    out.par_chunks_mut(len).zip(indices).try_for_each(|(out, index)| {
        let planes = augment::resize_and_centre_crop(&*split.image(*index)?, config.size);
        augment::normalise(&planes, config.mean, config.std, out);
        Ok::<_, Error>(())
    })?;
    Ok(out)
}
