//! The keys `data.*`: where images come from, and which of them are used.

use super::{GlyphsConfig, SHAPES_MOST, ShapesConfig};
use crate::augment::Image;
use crate::defaults::is_default;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Procedural images when their number is left open: training and held out.
const SHAPES_DEFAULT: [usize; 2] = [2000, 1000];

/// The sources of images as they are written, in the order in which they are listed for a person.
pub const SOURCES: [&str; 9] = [
    "shapes",
    "glyphs",
    "folder:DIR",
    "tar:DIR",
    "parquet:DIR",
    "cifar10:PATH",
    "cifar100:PATH",
    "stl10:PATH",
    "tiny-imagenet:DIR",
];

/// Those of them that are drawn, not read.
pub const PROCEDURAL: [&str; 2] = ["shapes", "glyphs"];

/// [`SOURCES`] as a sentence has them: "a, b or c".
pub fn sources() -> String {
    let [first @ .., last] = SOURCES;
    format!("{} or {last}", first.join(", "))
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// One of [`SOURCES`].
    pub source: String,
    /// Training images used, the first so many of each class in equal parts; 0 means all.
    pub train_images: usize,
    /// Held-out images used, the first so many of each class in equal parts; 0 means all.
    pub test_images: usize,
    /// Side in pixels of the procedural images.
    pub shapes_size: usize,
    /// Which procedural images are drawn.
    pub shapes_seed: ShapesSeed,
    /// What `shapes` look like.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shapes: ShapesConfig,
    /// What `glyphs` look like.
    #[serde(default, skip_serializing_if = "is_default")]
    pub glyphs: GlyphsConfig,
    /// Counts undecodable files and goes on, instead of stopping at the first.
    pub skip_bad: bool,
    /// Which folder is held out where there are two (`folder:` only): `test` unless this says
    /// `val`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// Turns images as their EXIF orientation asks (`folder:` only), instead of reading them as
    /// they are stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exif: bool,
    /// Trains on the images without labels (`stl10:` only), in place of those with labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unlabelled: bool,
}

impl DataConfig {
    /// All images of `source`, none of which may be undecodable; procedural ones have 24 × 24
    /// pixels and are those of seed 0.
    pub fn all_of(source: &str) -> Self {
        Self {
            source: source.into(),
            train_images: 0,
            test_images: 0,
            shapes_size: 24,
            shapes_seed: ShapesSeed::Fixed(0),
            shapes: ShapesConfig::default(),
            glyphs: GlyphsConfig::default(),
            skip_bad: false,
            held_out: None,
            exif: false,
            unlabelled: false,
        }
    }
}

impl DataConfig {
    /// Whether the images are drawn, not read.
    pub fn is_procedural(&self) -> bool {
        PROCEDURAL.contains(&self.source.as_str())
    }

    /// How many procedural images are drawn, to train on and held out; none of other sources.
    ///
    /// # Errors
    /// [`Error::Usage`] for more than anybody means.
    pub fn rendered(&self) -> Result<[usize; 2]> {
        if !self.is_procedural() {
            return Ok([0, 0]);
        }
        let count = |key: &str, asked: usize, default: usize| match if asked == 0 { default } else { asked } {
            n if n <= SHAPES_MOST => Ok(n),
            n => Err(Error::Usage(format!(
                "data.{key}: {n} procedural images; at most {SHAPES_MOST} are rendered"
            ))),
        };
        let [train, test] = SHAPES_DEFAULT;
        Ok([count("train_images", self.train_images, train)?, count("test_images", self.test_images, test)?])
    }

    /// Bytes of the procedural images; 0 for other sources.
    ///
    /// # Errors
    /// As [`DataConfig::rendered`].
    pub fn rendered_bytes(&self) -> Result<u64> {
        let halves: u64 = self.rendered()?.iter().map(|count| *count as u64).sum();
        let GlyphsConfig { alphabets, unseen, writings, forgeries, .. } = self.glyphs;
        let unseen = if self.source == "glyphs" { alphabets * unseen * (writings + forgeries) } else { 0 };
        let images = halves.saturating_add(unseen as u64);
        let pixels = (self.shapes_size as u64).saturating_pow(2).saturating_mul(3);
        // An image has its size and its place beside its pixels, and a label.
        Ok(images.saturating_mul(pixels.saturating_add(size_of::<Image>() as u64 + 4)))
    }
}

/// Which procedural images are drawn: a number in a recipe, or the word `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a whole number, not negative, or \"run\"")]
pub enum ShapesSeed {
    /// Always the same ones.
    Fixed(u64),
    /// Those of the run's own seed: what holds over runs holds over data sets too.
    Of(RunSeed),
}

/// The word `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunSeed {
    /// The seed of the run.
    Run,
}

/// The folder of the held-out images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldOut {
    /// `test/`.
    Test,
    /// `val/`.
    Val,
}

impl HeldOut {
    /// Both, in the order in which they are looked for.
    pub const ALL: [HeldOut; 2] = [HeldOut::Test, HeldOut::Val];

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            HeldOut::Test => "test",
            HeldOut::Val => "val",
        }
    }
}
