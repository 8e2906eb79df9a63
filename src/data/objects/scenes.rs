//! `scenes`: procedural images of several objects that hide each other, any number from a seed.
//!
//! One to five of the ten motifs of `shapes` lie on a shaded background with strokes and noise,
//! each with a place, a size, a tilt and a brightness of its own, the later ones before the earlier
//! ones. Image i of a split is a function of (seed, split, i). The objects are small, faint and
//! disturbed on purpose: where they are not, a detector learns them from nothing as well, and there
//! is nothing that pre-training could help with.

use super::{Object, Scene};
use crate::augment::Image;
use crate::data::shapes::{EQUAL_AREA, Ground, MOTIFS, coverage, motif};
use crate::error::{Error, Result};
use crate::masks::Rle;
use crate::rng::{Purpose, Stream, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::TAU;

/// Classes: the first so many motifs, all of which stay distinct under the tilts below.
const CLASSES: usize = 10;
/// Objects of an image: fewest and most, of which those are left out that would hide another.
const OBJECTS: [usize; 2] = [1, 5];
/// Radius of a motif in pixels, lowest and highest; its logarithm is uniform.
const RADIUS: [f32; 2] = [4.0, 12.0];
/// Luminance by which an object is brighter than the background.
const CONTRAST: [f32; 2] = [0.10, 0.28];
const TILT: f32 = 0.25;
const STROKES: [u32; 2] = [2, 6];
/// Standard deviation of the noise of a channel, of which 1 is the whole range.
const NOISE: f32 = 0.06;
const LUMINANCE: f32 = 0.03;
const TINT: f32 = 0.02;
/// Fewer visible pixels are no object.
const FEWEST_PIXELS: u64 = 12;
/// A part of an object that has to stay visible.
const VISIBLE: f32 = 0.5;
/// Copies in a crowd, fewest and most, their radius, and how many images have one.
const CROWD: [usize; 2] = [4, 6];
const CROWD_RADIUS: [f32; 2] = [4.0, 6.0];
const CROWDED: f32 = 0.25;

/// Which scenes are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenesConfig {
    /// Side in pixels.
    pub size: usize,
    /// Training images.
    pub train: usize,
    /// Held-out images.
    pub test: usize,
    /// Names the images.
    pub seed: u64,
    /// Whether every fourth image, in the mean, has a crowd: copies of a motif that lie across each
    /// other and are one object together.
    pub crowd: bool,
}

impl Default for ScenesConfig {
    /// 500 training and 300 held-out images of 64 pixels without crowds.
    fn default() -> Self {
        Self { size: 64, train: 500, test: 300, seed: 0, crowd: false }
    }
}

impl ScenesConfig {
    /// Refuses numbers that nothing can be drawn with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the number.
    pub fn check(&self) -> Result<()> {
        if !(32..=512).contains(&self.size) {
            return Err(Error::Usage(format!(
                "scenes of {} pixels; they have between 32 and 512",
                self.size
            )));
        }
        match self.train.min(self.test) {
            0 => Err(Error::Usage("scenes: either half needs at least one image".into())),
            _ => Ok(()),
        }
    }
}

/// The names of the classes.
pub fn classes() -> Vec<String> {
    MOTIFS[..CLASSES].iter().map(|name| name.to_string()).collect()
}

/// One motif, painted.
struct Painted {
    class: usize,
    centre: [f32; 2],
    radius: f32,
    tilt: f32,
    colour: [f32; 3],
}

impl Painted {
    fn draw(class: usize, centre: [f32; 2], radius: f32, ground: [f32; 3], rng: &mut Stream) -> Painted {
        let contrast = rng.random_range(CONTRAST[0]..CONTRAST[1]);
        let colour = ground.map(|channel| channel + contrast + rng.random_range(-TINT..TINT));
        Painted { class, centre, radius, tilt: TILT * rng.random_range(-1.0f32..1.0), colour }
    }

    /// Signed distance in pixels.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let radius = self.radius * EQUAL_AREA[self.class];
        let (u, v) = ((x - self.centre[0]) / radius, (y - self.centre[1]) / radius);
        let (sin, cos) = self.tilt.sin_cos();
        motif(self.class, u * cos + v * sin, v * cos - u * sin) * radius
    }
}

/// An object being laid out: its motifs and the pixels that it would have were nothing before it.
struct Laid {
    motifs: Vec<Painted>,
    whole: Vec<bool>,
    /// What is left of `whole`.
    visible: Vec<bool>,
    crowd: bool,
}

impl Laid {
    fn new(motifs: Vec<Painted>, size: usize, crowd: bool) -> Laid {
        let inside = |p: usize| {
            let (x, y) = ((p % size) as f32 + 0.5, (p / size) as f32 + 0.5);
            motifs.iter().any(|motif| motif.distance(x, y) < 0.0)
        };
        let whole: Vec<bool> = (0..size * size).map(inside).collect();
        Laid { visible: whole.clone(), motifs, whole, crowd }
    }

    /// Whether enough of it is left behind `other`.
    fn stays_behind(&self, other: &Laid) -> bool {
        let count = |pixels: &mut dyn Iterator<Item = bool>| pixels.filter(|inside| *inside).count() as f32;
        let left = count(&mut self.visible.iter().zip(&other.whole).map(|(own, before)| *own && !before));
        left >= VISIBLE * count(&mut self.whole.iter().copied())
    }
}

/// Image `index` of `split` (0 training, 1 held out, 2 for choosing) with its objects.
pub fn scene(config: &ScenesConfig, split: u64, index: usize) -> Scene {
    let size = config.size;
    let mut rng = stream(config.seed, Purpose::Scenes, split, index as u64);
    let luminance = 0.5 - 0.5 * CONTRAST[1] + rng.random_range(-LUMINANCE..LUMINANCE);
    let background = [(); 3].map(|()| luminance + rng.random_range(-TINT..TINT));
    let strokes = rng.random_range(STROKES[0]..=STROKES[1]);
    let ground = Ground::draw(size, strokes, &mut rng);
    let laid = lay_out(config, background, &mut rng);
    let mut pixels = Vec::with_capacity(size * size * 3);
    for y in 0..size {
        for x in 0..size {
            let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
            let mut colour = background;
            for painted in laid.iter().flat_map(|laid| &laid.motifs) {
                let inside = coverage(painted.distance(x, y));
                for (channel, own) in colour.iter_mut().zip(painted.colour) {
                    *channel += (own - *channel) * inside;
                }
            }
            let light = ground.light(x, y);
            for channel in colour {
                let noise: f32 = StandardNormal.sample(&mut rng);
                pixels.push((255.0 * (channel + light + NOISE * noise)).round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    let objects = laid.iter().filter_map(|laid| object(laid, size)).collect();
    Scene { image: Image { height: size, width: size, pixels }, objects }
}

/// The objects of an image, the ones behind first.
fn lay_out(config: &ScenesConfig, ground: [f32; 3], rng: &mut Stream) -> Vec<Laid> {
    let size = config.size;
    let mut laid: Vec<Laid> = Vec::new();
    if config.crowd && rng.random_range(0.0f32..1.0) < CROWDED {
        laid.push(Laid::new(crowd(size, ground, rng), size, true));
    }
    for _ in 0..rng.random_range(OBJECTS[0]..=OBJECTS[1]) {
        let class = rng.random_range(0..CLASSES);
        let radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]).powf(rng.random_range(0.0f32..1.0));
        let centre = [(); 2].map(|()| rng.random_range(0.5 * radius..size as f32 - 0.5 * radius));
        let motifs = vec![Painted::draw(class, centre, radius, ground, rng)];
        let next = Laid::new(motifs, size, false);
        if laid.iter().all(|behind| behind.stays_behind(&next)) {
            for behind in &mut laid {
                behind.visible.iter_mut().zip(&next.whole).for_each(|(own, before)| *own &= !before);
            }
            laid.push(next);
        }
    }
    laid
}

/// Copies of a motif around a place, each of which lies across others.
fn crowd(size: usize, ground: [f32; 3], rng: &mut Stream) -> Vec<Painted> {
    let class = rng.random_range(0..CLASSES);
    let radius = rng.random_range(CROWD_RADIUS[0]..CROWD_RADIUS[1]);
    let middle = [(); 2].map(|()| rng.random_range(2.0 * radius..size as f32 - 2.0 * radius));
    let count = rng.random_range(CROWD[0]..=CROWD[1]);
    let phase = rng.random_range(0.0..TAU);
    let copy = |number: usize| {
        let (sin, cos) = (phase + TAU * number as f32 / count as f32).sin_cos();
        let centre = [middle[0] + 1.2 * radius * cos, middle[1] + 1.2 * radius * sin];
        Painted::draw(class, centre, radius, ground, rng)
    };
    (0..count).map(copy).collect()
}

/// What is told of an object; nothing where too little of it is seen.
fn object(laid: &Laid, size: usize) -> Option<Object> {
    let mask = Rle::from_pixels(size, size, &laid.visible).ok()?;
    let class = laid.motifs.first()?.class;
    (mask.area() >= FEWEST_PIXELS).then(|| Object {
        class,
        bounding_box: mask.bounding_box(),
        area: mask.area() as f64,
        mask: Some(mask),
        crowd: laid.crowd,
        difficult: false,
    })
}
