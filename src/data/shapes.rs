//! `shapes`: procedural images, any size and number from a seed.
//!
//! An image is a lattice of copies of one motif (its class) on a shaded background with a few
//! strokes that belong to no class, and noise. Position, size, tilt, colours and contrast vary from
//! image to image and say nothing about the class; the motif survives every augmentation of the
//! recipe. Edges are anti-aliased by the signed distance. Image i of a split is a function of
//! (seed, split, i) and of what [`ShapesConfig`] says: how many classes, how large, scattered and
//! tilted the motifs are.
//!
//! What is easy and hard about them is measured by `cargo bench --bench shapes` (raw pixels, random
//! weights, supervised training) and `sim run simsiam`; paper-notes/instrument.md has the numbers.

use crate::augment::Image;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use std::f32::consts::{PI, TAU};

/// The motifs, in the order of their labels; a data set takes the first so many.
pub const MOTIFS: [&str; 20] = [
    "disc", "ring", "square", "triangle", "plus", "saltire", "rows", "columns", "diamond", "crescent",
    "wedge", "frame", "lozenge", "dome", "bowl", "tee", "aitch", "eye", "chevron", "dots",
];

/// What procedural images look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapesConfig {
    /// Classes: the first so many of [`MOTIFS`].
    pub classes: usize,
    /// Distance between neighbouring motifs, lowest and highest, in 24ths of the image's side.
    pub spacing: [f32; 2],
    /// Largest displacement of a motif from its lattice point, as a part of the spacing.
    pub scatter: f32,
    /// Largest tilt of the lattice's motifs, in radians.
    pub tilt: f32,
    /// Standard deviation of the noise of a channel, of which 1 is the whole range.
    pub noise: f32,
}

impl Default for ShapesConfig {
    /// Ten classes of small scattered motifs.
    fn default() -> Self {
        ShapesConfig { classes: 10, spacing: [9.0, 12.0], scatter: 0.2, tilt: 0.25, noise: 0.04 }
    }
}

impl ShapesConfig {
    /// The names of the classes by label.
    pub fn names(&self) -> Vec<String> {
        MOTIFS[..self.classes].iter().map(|name| name.to_string()).collect()
    }

    /// Refuses numbers that no image can be drawn with.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let within = |key: &str, value: f32, least: f32, most: f32| {
            let message =
                || Error::Usage(format!("data.shapes.{key}: {value} must be between {least} and {most}"));
            (least..=most).contains(&value).then_some(()).ok_or_else(message)
        };
        within("classes", self.classes as f32, 1.0, MOTIFS.len() as f32)?;
        let [low, high] = self.spacing;
        within("spacing", low, 4.0, 48.0)?;
        within("spacing", high, low, 48.0)?;
        within("scatter", self.scatter, 0.0, 0.5)?;
        within("tilt", self.tilt, 0.0, PI)?;
        within("noise", self.noise, 0.0, 1.0)
    }
}

/// What each class's motif is enlarged by, so that all cover the same area on average: the mean
/// brightness of an image must not tell its class.
pub(super) const EQUAL_AREA: [f32; 20] = [
    0.871, 0.909, 0.841, 1.151, 1.004, 1.004, 1.006, 1.006, 0.964, 1.03, //
    1.151, 0.841, 0.947, 1.102, 1.102, 1.036, 0.894, 0.894, 1.138, 0.974,
];

/// A motif's radius as a part of the spacing: lowest and highest.
const RADIUS: [f32; 2] = [0.36, 0.46];
/// Luminance by which motifs are brighter than the background: lowest and highest. The sign is
/// fixed: a free one is an easier thing for two views to agree on than the class, and is then all
/// they learn.
const CONTRAST: [f32; 2] = [0.35, 0.5];
/// Highest difference of the mean luminance from one half. It is small, and [`TINT`] too: what
/// survives colour jitter unchanged is learned instead of the class.
const LUMINANCE: f32 = 0.03;
/// Saturation of the two colours: the highest difference of a channel from the luminance.
const TINT: f32 = 0.02;
/// Strokes that belong to no class: the highest number.
const STROKES: u32 = 2;

/// The label of image `index` among `classes` classes, which take turns.
pub fn label(index: usize, classes: usize) -> u32 {
    (index % classes) as u32
}

/// Image `index` of `split` (0 training, 1 held out), `size` × `size` pixels.
pub fn render(config: &ShapesConfig, seed: u64, split: u64, index: usize, size: usize) -> Image {
    let mut rng = stream(seed, Purpose::Shapes, split, index as u64);
    let scene = Scene::draw(config, label(index, config.classes) as usize, size, &mut rng);
    let mut pixels = Vec::with_capacity(size * size * 3);
    for y in 0..size {
        for x in 0..size {
            let colour = scene.colour(x as f32 + 0.5, y as f32 + 0.5);
            for channel in colour {
                let noise: f32 = StandardNormal.sample(&mut rng);
                pixels.push((255.0 * (channel + config.noise * noise)).round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    Image { height: size, width: size, pixels }
}

/// What image `index` of `split` was drawn from beside its class, as numbers by name: lengths in
/// pixels, angles in radians, luminances of which 1 is the whole range. Where the lattice lies is
/// told by the cosine and sine of its phase in either direction, because it repeats itself.
pub fn factors(
    config: &ShapesConfig,
    seed: u64,
    split: u64,
    index: usize,
    size: usize,
) -> Vec<(&'static str, f32)> {
    let mut rng = stream(seed, Purpose::Shapes, split, index as u64);
    let scene = Scene::draw(config, label(index, config.classes) as usize, size, &mut rng);
    let luminance = |colour: [f32; 3]| colour.iter().sum::<f32>() / 3.0;
    let (foreground, background) = (luminance(scene.foreground), luminance(scene.background));
    let mut named = vec![
        ("spacing", scene.spacing),
        ("size", scene.radius / scene.spacing),
        ("tilt", scene.tilt),
        ("contrast", foreground - background),
        ("luminance", (foreground + background) / 2.0),
        ("strokes", scene.ground.strokes.len() as f32),
    ];
    named.extend(scene.ground.shade.map(|shade| ("shade", shade)));
    for at in scene.origin {
        let (sin, cos) = (TAU * at / scene.spacing).sin_cos();
        named.extend([("position", cos), ("position", sin)]);
    }
    for (colour, mean) in [(scene.foreground, foreground), (scene.background, background)] {
        named.extend([0, 1].map(|channel| ("tint", colour[channel] - mean)));
    }
    named
}

/// Everything about an image but its noise.
struct Scene {
    class: usize,
    spacing: f32,
    radius: f32,
    origin: [f32; 2],
    tilt: f32,
    /// Displacements of the motifs, by lattice point modulo 4.
    scatter: [[f32; 2]; 16],
    foreground: [f32; 3],
    background: [f32; 3],
    ground: Ground,
}

/// What lies across an image and belongs to no class: shade and strokes.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// Luminance added across the image: its gradient, 0 at the middle.
    shade: [f32; 2],
    /// Strokes: a point, a direction, half a width, a half length, and luminance.
    strokes: Vec<[f32; 7]>,
    middle: f32,
}

impl Ground {
    /// Shade and `strokes` strokes across an image of `size` pixels.
    pub(super) fn draw(size: usize, strokes: u32, rng: &mut Stream) -> Self {
        let strokes = (0..strokes).map(|_| stroke(size, rng)).collect();
        Self { strokes, shade: shade(size, rng), middle: size as f32 / 2.0 }
    }

    /// The luminance that it adds at a place.
    pub(super) fn light(&self, x: f32, y: f32) -> f32 {
        let mut light = self.shade[0] * (x - self.middle) + self.shade[1] * (y - self.middle);
        for [px, py, dx, dy, width, length, luminance] in &self.strokes {
            let (along, across) = ((x - px) * dx + (y - py) * dy, (y - py) * dx - (x - px) * dy);
            light += luminance * coverage((along.abs() - length).max(across.abs() - width));
        }
        light
    }
}

fn stroke(size: usize, rng: &mut Stream) -> [f32; 7] {
    let (unit, side) = (size as f32 / 24.0, size as f32);
    let angle: f32 = rng.random_range(0.0..PI);
    [
        rng.random_range(0.0..side),
        rng.random_range(0.0..side),
        angle.cos(),
        angle.sin(),
        unit * rng.random_range(0.4..0.9),
        unit * rng.random_range(3.0..8.0),
        rng.random_range(-0.3..0.3),
    ]
}

fn shade(size: usize, rng: &mut Stream) -> [f32; 2] {
    [(); 2].map(|()| rng.random_range(-0.15..0.15) / size as f32)
}

impl Scene {
    fn draw(config: &ShapesConfig, class: usize, size: usize, rng: &mut Stream) -> Self {
        let unit = size as f32 / 24.0;
        let [low, high] = config.spacing;
        let spacing = unit * (low + (high - low) * rng.random_range(0.0f32..1.0));
        let contrast = rng.random_range(CONTRAST[0]..CONTRAST[1]);
        let luminance = 0.5 + rng.random_range(-LUMINANCE..LUMINANCE);
        let mut colour = |luminance: f32| [(); 3].map(|()| luminance + rng.random_range(-TINT..TINT));
        let (foreground, background) =
            (colour(luminance + 0.5 * contrast), colour(luminance - 0.5 * contrast));
        let strokes: Vec<_> = (0..rng.random_range(0..=STROKES)).map(|_| stroke(size, rng)).collect();
        Self {
            class,
            spacing,
            radius: spacing * rng.random_range(RADIUS[0]..RADIUS[1]),
            origin: [rng.random_range(0.0..spacing), rng.random_range(0.0..spacing)],
            tilt: config.tilt * rng.random_range(-1.0f32..1.0),
            scatter: [(); 16]
                .map(|()| [(); 2].map(|()| spacing * config.scatter * rng.random_range(-1.0f32..1.0))),
            foreground,
            background,
            ground: Ground { shade: shade(size, rng), strokes, middle: size as f32 / 2.0 },
        }
    }

    fn colour(&self, x: f32, y: f32) -> [f32; 3] {
        let light = self.ground.light(x, y);
        let inside = coverage(self.distance(x, y));
        [0, 1, 2].map(|c| self.background[c] + (self.foreground[c] - self.background[c]) * inside + light)
    }

    /// Signed distance in pixels to the nearest motif: every other row of the lattice is moved by
    /// half.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let row = ((y - self.origin[1]) / self.spacing).floor() as i32;
        let mut nearest = f32::INFINITY;
        for j in row - 1..=row + 1 {
            let shift = if j.rem_euclid(2) == 0 { 0.0 } else { 0.5 };
            let column = ((x - self.origin[0]) / self.spacing - shift).floor() as i32;
            for i in column - 1..=column + 1 {
                let [sx, sy] = self.scatter[(j.rem_euclid(4) * 4 + i.rem_euclid(4)) as usize];
                let cx = self.origin[0] + (i as f32 + 0.5 + shift) * self.spacing + sx;
                let cy = self.origin[1] + (j as f32 + 0.5) * self.spacing + sy;
                let (sin, cos) = self.tilt.sin_cos();
                let radius = self.radius * EQUAL_AREA[self.class];
                let (u, v) = ((x - cx) / radius, (y - cy) / radius);
                let d = motif(self.class, u * cos + v * sin, v * cos - u * sin);
                nearest = nearest.min(d * radius);
            }
        }
        nearest
    }
}

/// The part of a pixel that is inside, from the signed distance of its middle.
pub(super) fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

/// The signed distance of (x, y) to motif `class` of radius 1; below 0 inside. Bounds where exact
/// distances are costly: edges stay where they are.
pub(super) fn motif(class: usize, x: f32, y: f32) -> f32 {
    let bar = |u: f32, v: f32, length: f32, width: f32| (u.abs() - length).max(v.abs() - width);
    let r = x.hypot(y);
    let s = std::f32::consts::FRAC_1_SQRT_2;
    match MOTIFS[class] {
        "disc" => r - 0.85,
        "ring" => (r - 0.72).abs() - 0.23,
        "square" => bar(x, y, 0.78, 0.78),
        "triangle" => {
            let side = |angle: f32| x * angle.sin() + y * angle.cos();
            side(0.0).max(side(TAU / 3.0)).max(side(-TAU / 3.0)) - 0.5
        }
        "plus" => bar(x, y, 0.95, 0.26).min(bar(y, x, 0.95, 0.26)),
        "saltire" => {
            let (u, v) = (s * (x + y), s * (x - y));
            bar(u, v, 0.95, 0.26).min(bar(v, u, 0.95, 0.26))
        }
        "rows" => bar(x, y - 0.5, 0.85, 0.25).min(bar(x, y + 0.5, 0.85, 0.25)),
        "columns" => bar(y, x - 0.5, 0.85, 0.25).min(bar(y, x + 0.5, 0.85, 0.25)),
        "diamond" => bar(s * (x + y), s * (x - y), 0.68, 0.68),
        "crescent" => (r - 0.95).max(0.68 - x.hypot(y - 0.5)),
        "wedge" => {
            let side = |angle: f32| x * angle.sin() - y * angle.cos();
            side(0.0).max(side(TAU / 3.0)).max(side(-TAU / 3.0)) - 0.5
        }
        "frame" => bar(x, y, 0.9, 0.9).max(-bar(x, y, 0.45, 0.45)),
        "lozenge" => {
            let (u, v) = (s * (x + y), s * (x - y));
            bar(u, v, 0.8, 0.8).max(-bar(u, v, 0.4, 0.4))
        }
        "dome" => (x.hypot(y + 0.4) - 0.95).max(-(y + 0.4)),
        "bowl" => (x.hypot(y - 0.4) - 0.95).max(y - 0.4),
        "tee" => bar(x, y - 0.65, 0.9, 0.25).min(bar(x, y + 0.15, 0.27, 0.75)),
        "aitch" => {
            let posts = bar(x - 0.6, y, 0.25, 0.9).min(bar(x + 0.6, y, 0.25, 0.9));
            posts.min(bar(x, y, 0.6, 0.25))
        }
        "eye" => {
            let beams = bar(x, y - 0.6, 0.9, 0.25).min(bar(x, y + 0.6, 0.9, 0.25));
            beams.min(bar(x, y, 0.25, 0.6))
        }
        "chevron" => {
            let (u, v) = (s * (x + y), s * (x - y));
            bar(u - 0.2, v - 0.55, 0.75, 0.27).min(bar(u - 0.55, v - 0.2, 0.27, 0.75))
        }
        _ => {
            let dot = |u: f32, v: f32| (x - u).hypot(y - v) - 0.38;
            dot(-0.5, -0.5).min(dot(-0.5, 0.5)).min(dot(0.5, -0.5)).min(dot(0.5, 0.5))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a grid of 520 × 520 the area of a motif is known to about its edge's length times a cell:
    /// half a per cent.
    #[test]
    fn all_motifs_cover_the_same_area() {
        const SIDE: usize = 520;
        let at = |i: usize| (i as f32 + 0.5) / SIDE as f32 * 2.6 - 1.3;
        for (class, enlarged) in EQUAL_AREA.iter().enumerate() {
            let inside = (0..SIDE * SIDE).filter(|i| motif(class, at(i % SIDE), at(i / SIDE)) < 0.0).count();
            let area = inside as f32 * (2.6 / SIDE as f32).powi(2) * enlarged * enlarged;
            assert!((area / 1.72 - 1.0).abs() < 0.01, "{}: {area}", MOTIFS[class]);
        }
    }

    /// Noise off, strokes none: an image is as dark as its background and as bright as its motifs,
    /// but for the shade across it, a channel's tint and the rounding of a byte.
    #[test]
    fn factors_say_what_was_drawn() {
        const SIZE: usize = 96;
        let config = ShapesConfig { noise: 0.0, ..ShapesConfig::default() };
        let mut seen = 0;
        for index in 0..40 {
            let named = factors(&config, 3, 1, index, SIZE);
            let all = |name| -> Vec<f32> {
                named.iter().filter(|factor| factor.0 == name).map(|factor| factor.1).collect()
            };
            if all("strokes")[0] > 0.0 {
                continue;
            }
            seen += 1;
            let image = render(&config, 3, 1, index, SIZE);
            let values = image.pixels.iter().map(|byte| f32::from(*byte) / 255.0);
            let (dark, bright) = values.fold((1.0f32, 0.0f32), |(low, high), v| (low.min(v), high.max(v)));
            let shade: f32 = all("shade").iter().map(|shade| shade.abs() * SIZE as f32).sum();
            let contrast = all("contrast")[0];
            let slack = shade + 4.0 * TINT + 2.0 / 255.0;
            assert!((bright - dark - contrast).abs() <= slack, "{index}: {dark} to {bright}, not {contrast}");
        }
        assert!(seen > 5);
    }
}
