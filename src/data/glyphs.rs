//! `glyphs`: procedural handwriting, any size and number from a seed.
//!
//! An identity is a character, or a signature: three to six strokes (cubic Bézier curves) in the
//! style of its alphabet, as its writer's hand draws them. An image is one writing of it: the
//! hand's slant, width and pen, a little turned, scaled and moved, with control points that miss their
//! places by a little; dark on bright, with shade, tint and noise that say nothing of the identity.
//! A skilled forgery is the same character by another hand, whose control points miss by three
//! times as much.
//!
//! Training and held-out images show the same identities, so that kNN and classifiers are measured
//! as on any data set. Verification and one-shot recognition ask of identities that neither shows:
//! [`Strangers`]. Image i of a split is a function of (seed, split, i) and of what
//! [`GlyphsConfig`] says.

use super::{Images, Split};
use crate::augment::Image;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// What procedural handwriting looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlyphsConfig {
    /// Styles of strokes; identities take turns among them.
    pub alphabets: usize,
    /// Identities of the training and the held-out images.
    pub identities: usize,
    /// Identities of each alphabet that neither shows, for verification and one-shot recognition.
    pub unseen: usize,
    /// Images of each of these.
    pub writings: usize,
    /// Forgeries of each of these.
    pub forgeries: usize,
    /// Standard deviation of a control point from its place, of which the image's half side is 1.
    pub jitter: f32,
    /// Standard deviation of the noise of a channel, of which 1 is the whole range.
    pub noise: f32,
}

impl Default for GlyphsConfig {
    /// A hundred characters of ten alphabets, and two hundred others.
    fn default() -> Self {
        GlyphsConfig {
            alphabets: 10,
            identities: 100,
            unseen: 20,
            writings: 20,
            forgeries: 5,
            jitter: 0.06,
            noise: 0.04,
        }
    }
}

/// More of anything is taken for a slip of the hand.
const MOST: usize = 4096;
/// By how much a forger's control points miss more than the writer's own.
const FORGED: f32 = 3.0;
/// Straight pieces that a stroke is drawn as.
const PIECES: usize = 10;

/// What the streams of [`Purpose::Glyphs`] are for, beside the two halves.
const ALPHABETS: u64 = 2;
const IDENTITIES: u64 = 3;
const UNSEEN: u64 = 4;
const WRITINGS: u64 = 5;
const FORGERIES: u64 = 6;

impl GlyphsConfig {
    /// Refuses numbers that no image can be drawn with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let within = |key: &str, value: f32, least: f32, most: f32| {
            let message =
                || Error::Usage(format!("data.glyphs.{key}: {value} must be between {least} and {most}"));
            (least..=most).contains(&value).then_some(()).ok_or_else(message)
        };
        let most = MOST as f32;
        for (key, count, least) in [
            ("alphabets", self.alphabets, 1.0),
            ("identities", self.identities, 1.0),
            ("unseen", self.unseen, 0.0),
            ("writings", self.writings, 1.0),
            ("forgeries", self.forgeries, 0.0),
        ] {
            within(key, count as f32, least, most)?;
        }
        let images = self.alphabets * self.unseen * (self.writings + self.forgeries);
        if images > super::SHAPES_MOST {
            return Err(Error::Usage(format!(
                "data.glyphs.unseen: {images} images of unseen identities; at most {} are rendered",
                super::SHAPES_MOST
            )));
        }
        within("jitter", self.jitter, 0.0, 1.0)?;
        within("noise", self.noise, 0.0, 1.0)
    }

    /// The names of the classes by label: the alphabet, then the character within it.
    pub fn names(&self) -> Vec<String> {
        let name = |id: usize| format!("{}-{:03}", id % self.alphabets, id / self.alphabets);
        (0..self.identities).map(name).collect()
    }
}

/// The label of image `index` among `identities`, which take turns.
pub fn label(index: usize, identities: usize) -> u32 {
    (index % identities) as u32
}

/// Image `index` of `split` (0 training, 1 held out), `size` × `size` pixels.
pub fn render(config: &GlyphsConfig, seed: u64, split: u64, index: usize, size: usize) -> Image {
    let id = index % config.identities;
    let glyph = Glyph::of(config, seed, IDENTITIES, id);
    glyph.write(&mut stream(seed, Purpose::Glyphs, split, index as u64), config, false, size)
}

/// Images of identities that no training image shows.
#[derive(Debug)]
pub struct Strangers {
    config: GlyphsConfig,
    seed: u64,
    size: usize,
    drawn: OnceLock<[Arc<Split>; 2]>,
}

impl Strangers {
    /// Those of the data set of `config` and `seed`, `size` × `size` pixels; none where it has
    /// none.
    pub fn new(config: &GlyphsConfig, seed: u64, size: usize) -> Option<Strangers> {
        (config.unseen > 0).then(|| Strangers { config: config.clone(), seed, size, drawn: OnceLock::new() })
    }

    fn identities(&self) -> usize {
        self.config.alphabets * self.config.unseen
    }

    /// The alphabet of each identity.
    pub fn alphabets(&self) -> Vec<u32> {
        (0..self.identities()).map(|id| (id % self.config.alphabets) as u32).collect()
    }

    /// Their images, and forgeries of them, labelled by the identity; drawn at the first call.
    pub fn images(&self) -> &[Arc<Split>; 2] {
        let of = |each: usize, purpose: u64| {
            let draw = |index: usize| {
                let glyph = Glyph::of(&self.config, self.seed, UNSEEN, index % self.identities());
                let mut rng = stream(self.seed, Purpose::Glyphs, purpose, index as u64);
                glyph.write(&mut rng, &self.config, purpose == FORGERIES, self.size)
            };
            let count = each * self.identities();
            let images = Images::Memory((0..count).into_par_iter().map(draw).collect());
            let labels = (0..count).map(|index| label(index, self.identities())).collect();
            Arc::new(Split { images, labels, paths: Vec::new() })
        };
        self.drawn.get_or_init(|| [of(self.config.writings, WRITINGS), of(self.config.forgeries, FORGERIES)])
    }
}

type Point = [f32; 2];

/// How a hand draws: what it makes of every point, and its pen.
#[derive(Clone, Copy)]
struct Hand {
    /// The map of points, row by row.
    map: [f32; 4],
    /// Half the width of its strokes, of which the image's half side is 1.
    pen: f32,
}

/// A normal number of standard deviation `scale`.
fn normal(rng: &mut Stream, scale: f32) -> f32 {
    let number: f32 = StandardNormal.sample(rng);
    scale * number
}

impl Hand {
    /// A hand whose slant, turn and proportions vary by `scale`.
    fn draw(rng: &mut Stream, scale: f32) -> Hand {
        let (turn, slant) = (normal(rng, scale), normal(rng, scale));
        let (wide, high) = (normal(rng, scale).exp(), normal(rng, scale).exp());
        let (sin, cos) = turn.sin_cos();
        // First slant and proportions, then the turn.
        let map = [cos * wide, cos * slant * high - sin * high, sin * wide, sin * slant * high + cos * high];
        Hand { map, pen: 0.075 * normal(rng, 1.5 * scale).exp() }
    }

    fn of(&self, [x, y]: Point) -> Point {
        let [a, b, c, d] = self.map;
        [a * x + b * y, c * x + d * y]
    }
}

/// What the strokes of an alphabet have in common.
struct Style {
    /// How far strokes bend, of their length.
    bend: f32,
    /// Places along a side where strokes begin and end.
    places: u32,
    /// How often a stroke begins where the last one ended.
    joined: f32,
    /// Strokes at least; two more at most.
    strokes: usize,
}

impl Style {
    fn of(seed: u64, alphabet: usize) -> Style {
        let rng = &mut stream(seed, Purpose::Glyphs, ALPHABETS, alphabet as u64);
        Style {
            bend: rng.random_range(0.0..0.6),
            places: rng.random_range(3..=5),
            joined: rng.random_range(0.2..0.9),
            strokes: rng.random_range(3..=4),
        }
    }
}

/// An identity: its strokes, each four control points, and its writer's hand.
struct Glyph {
    strokes: Vec<[Point; 4]>,
    hand: Hand,
}

impl Glyph {
    fn of(config: &GlyphsConfig, seed: u64, kind: u64, id: usize) -> Glyph {
        let style = Style::of(seed, id % config.alphabets);
        let rng = &mut stream(seed, Purpose::Glyphs, kind, id as u64);
        let place = |rng: &mut Stream| -> Point {
            let step = 1.3 / (style.places - 1) as f32;
            [(); 2].map(|()| step * rng.random_range(0..style.places) as f32 - 0.65)
        };
        let (mut strokes, mut last) = (Vec::new(), place(rng));
        for _ in 0..style.strokes + rng.random_range(0..=2usize) {
            let start = if rng.random_range(0.0..1.0) < style.joined { last } else { place(rng) };
            let mut end = place(rng);
            while end == start {
                end = place(rng);
            }
            let (dx, dy) = (end[0] - start[0], end[1] - start[1]);
            let bends = [(); 2].map(|()| style.bend * rng.random_range(-1.0f32..1.0));
            let inner = [(1.0 / 3.0, bends[0]), (2.0 / 3.0, bends[1])]
                .map(|(along, bend)| [start[0] + along * dx - bend * dy, start[1] + along * dy + bend * dx]);
            strokes.push([start, inner[0], inner[1], end]);
            last = end;
        }
        Glyph { strokes, hand: Hand::draw(rng, 0.12) }
    }

    /// One writing of it, `forged` or by its own hand.
    fn write(&self, rng: &mut Stream, config: &GlyphsConfig, forged: bool, size: usize) -> Image {
        let (hand, jitter) = match forged {
            false => (self.hand, config.jitter),
            true => (Hand::draw(rng, 0.12), FORGED * config.jitter),
        };
        // What varies from one writing to the next.
        let own = Hand::draw(rng, 0.06);
        let shift = [(); 2].map(|()| normal(rng, 0.05));
        let mut pieces = Vec::with_capacity(self.strokes.len() * PIECES);
        for stroke in &self.strokes {
            let points = stroke.map(|[x, y]| {
                let moved = [x + normal(rng, jitter), y + normal(rng, jitter)];
                let [x, y] = own.of(hand.of(moved));
                [x + shift[0], y + shift[1]]
            });
            let along = |piece: usize| bezier(&points, piece as f32 / PIECES as f32);
            pieces.extend((0..PIECES).map(|piece| [along(piece), along(piece + 1)]));
        }
        paint(rng, &pieces, hand.pen * own.pen / 0.075, config.noise, size)
    }
}

/// The point of a cubic Bézier curve at `t`.
fn bezier(points: &[Point; 4], t: f32) -> Point {
    let s = 1.0 - t;
    let weights = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
    [0, 1].map(|axis| points.iter().zip(weights).map(|(point, weight)| weight * point[axis]).sum())
}

/// The distance of (x, y) from the straight piece between two points.
fn distance([x, y]: Point, [from, to]: &[Point; 2]) -> f32 {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let along = ((x - from[0]) * dx + (y - from[1]) * dy) / (dx * dx + dy * dy).max(1e-12);
    let along = along.clamp(0.0, 1.0);
    (x - from[0] - along * dx).hypot(y - from[1] - along * dy)
}

/// Strokes of half a width `pen` on paper, both of which the image's half side is 1. Ink is always
/// darker: a free sign would be an easier thing for two views to agree on than the character.
fn paint(rng: &mut Stream, pieces: &[[Point; 2]], pen: f32, noise: f32, size: usize) -> Image {
    let contrast = rng.random_range(0.45f32..0.65);
    let paper = rng.random_range(0.78f32..0.84);
    let tint = [(); 6].map(|()| rng.random_range(-0.02f32..0.02));
    let shade = [(); 2].map(|()| rng.random_range(-0.08f32..0.08));
    let half = size as f32 / 2.0;
    let mut pixels = Vec::with_capacity(size * size * 3);
    for row in 0..size {
        for column in 0..size {
            let at = [(column as f32 + 0.5) / half - 1.0, (row as f32 + 0.5) / half - 1.0];
            let nearest = pieces.iter().map(|piece| distance(at, piece)).fold(f32::INFINITY, f32::min);
            // The part of the pixel that is inked, from the distance of its middle in pixels.
            let ink = (0.5 - (nearest - pen) * half).clamp(0.0, 1.0);
            let light = paper + shade[0] * at[0] + shade[1] * at[1] - contrast * ink;
            for channel in 0..3 {
                let value = light + tint[channel] + ink * (tint[3 + channel] - tint[channel]);
                pixels.push((255.0 * (value + normal(rng, noise))).round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    Image { height: size, width: size, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance_of(a: &Image, b: &Image) -> f64 {
        let squares = a.pixels.iter().zip(&b.pixels).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        squares.sum::<f64>().sqrt()
    }

    #[test]
    fn an_image_depends_on_seed_split_and_index_alone() {
        let config = GlyphsConfig::default();
        let image = render(&config, 3, 0, 17, 24);
        assert_eq!(image.pixels, render(&config, 3, 0, 17, 24).pixels);
        for other in [(4, 0, 17), (3, 1, 17), (3, 0, 18), (3, 0, 117)] {
            assert_ne!(image.pixels, render(&config, other.0, other.1, other.2, 24).pixels, "{other:?}");
        }
        assert_eq!(config.names()[..2], ["0-000", "1-000"]);
        assert_eq!(config.names()[13], "3-001");
    }

    /// On the mean over many: no single pair need be so.
    #[test]
    fn writings_are_alike_forgeries_less_and_other_identities_least() {
        let config = GlyphsConfig { alphabets: 2, noise: 0.0, ..GlyphsConfig::default() };
        let strangers = Strangers::new(&config, 5, 24).unwrap();
        let [images, forgeries] = strangers.images();
        assert_eq!([images.len(), forgeries.len()], [40 * 20, 40 * 5]);
        assert_eq!(strangers.alphabets().len(), 40);
        let mean = |other: &dyn Fn(usize) -> Image| -> f64 {
            let distance = |index: usize| distance_of(&images.image(index).unwrap(), &other(index));
            (0..200).map(distance).sum::<f64>() / 200.0
        };
        let own = mean(&|index| images.image(index + 40).unwrap().into_owned());
        let forged = mean(&|index| forgeries.image(index).unwrap().into_owned());
        let another = mean(&|index| images.image(index + 41).unwrap().into_owned());
        assert!((0..200).all(|index| images.label(index) == forgeries.label(index)));
        assert!(own < 0.97 * forged && forged < 0.97 * another, "{own}, {forged}, {another}");
    }

    #[test]
    fn wrong_numbers_are_refused_by_key() {
        let with = |change: fn(&mut GlyphsConfig)| {
            let mut config = GlyphsConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(with(|config| config.alphabets = 0).contains("data.glyphs.alphabets"));
        assert!(with(|config| config.jitter = f32::NAN).contains("data.glyphs.jitter"));
        assert!(with(|config| (config.unseen, config.writings) = (4096, 4096)).contains("at most"));
        assert!(GlyphsConfig::default().check().is_ok());
        assert!(Strangers::new(&GlyphsConfig { unseen: 0, ..GlyphsConfig::default() }, 0, 24).is_none());
    }
}
