//! `tracks`: procedural sequences from a seed. A motif moves across a still background, with a
//! speed that is an autoregression of second order, grows and shrinks, meets another motif of its
//! class, and is hidden for some frames by a bar that passes.
//!
//! Frame t of sequence i of a split is a function of (seed, split, i, t).

use crate::augment::Image;
use crate::data::shapes::{EQUAL_AREA, Ground, MOTIFS, coverage, motif};
use crate::masks::Rectangle;
use crate::rng::{Purpose, Stream, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::f32::consts::TAU;

/// Frames of a sequence.
pub const FRAMES: usize = 40;
/// Side of a frame in pixels.
pub const SIDE: usize = 64;

/// Classes: those of procedural scenes, which stay distinct under the tilts below.
const CLASSES: usize = 10;
/// Radius in the first frame in pixels, lowest and highest; its logarithm is uniform.
const RADIUS: [f32; 2] = [4.5, 7.0];
const TILT: f32 = 0.25;
/// Luminance by which a motif is brighter than the background.
const CONTRAST: [f32; 2] = [0.10, 0.28];
const LUMINANCE: f32 = 0.03;
const TINT: f32 = 0.02;
const STROKES: [u32; 2] = [2, 6];
/// Standard deviation of the noise of a channel, of which 1 is the whole range.
const NOISE: f32 = 0.06;
/// Speed vₜ = 1.4 vₜ₋₁ − 0.48 vₜ₋₂ + σ ε along either axis, whose standard deviation is 3.5 σ.
const SPEED: [f32; 2] = [1.4, -0.48];
const PUSH: f32 = 0.34;
const FIRST_SPEED: f32 = 1.2;
/// The nearest that a centre comes to an edge, in pixels.
const MARGIN: f32 = 12.0;
/// A step of log r, and the farthest from its beginning.
const GROWTH: f32 = 0.025;
const MOST_GROWTH: f32 = 0.3;
/// How far the other motif of the class begins from the one that is followed, at least, and its
/// radius as a part of that one's.
const APART: f32 = 20.0;
const ALIKE: [f32; 2] = [0.9, 1.1];
/// The frames in which the bar may be right before the object; half its sides in radii of the
/// object; its own speed; its luminance beyond the background's, of either sign.
const HIDDEN: [usize; 2] = [12, 30];
const BAR_WIDTH: [f32; 2] = [0.8, 1.2];
const BAR_LENGTH: [f32; 2] = [2.0, 4.0];
const BAR_SPEED: [f32; 2] = [1.5, 3.0];
const BAR_LIGHT: [f32; 2] = [0.1, 0.25];
/// Cells along a side of the grid in which a motif's extent is looked for.
const GRID: usize = 160;
/// No motif of radius 1 reaches farther.
const REACH: f32 = 1.4;

/// A motif on its way.
#[derive(Clone, Debug)]
struct Moving {
    class: usize,
    tilt: f32,
    colour: [f32; 3],
    /// Centre and radius, frame by frame.
    places: Vec<([f32; 2], f32)>,
}

impl Moving {
    /// The part of a pixel that it covers in a frame.
    fn cover(&self, frame: usize, x: f32, y: f32) -> f32 {
        let ([cx, cy], radius) = self.places[frame];
        let (dx, dy) = (x - cx, y - cy);
        if dx.abs().max(dy.abs()) > REACH * radius + 1.0 {
            return 0.0;
        }
        let (sin, cos) = self.tilt.sin_cos();
        let (u, v) = (dx / radius, dy / radius);
        coverage(motif(self.class, u * cos + v * sin, v * cos - u * sin) * radius)
    }
}

/// A bar that passes before everything.
#[derive(Clone, Debug)]
struct Bar {
    /// The frame in which its centre is the object's, and where that is.
    at: (usize, [f32; 2]),
    /// Its direction; it moves across.
    along: [f32; 2],
    half: [f32; 2],
    speed: f32,
    colour: [f32; 3],
}

impl Bar {
    fn cover(&self, frame: usize, x: f32, y: f32) -> f32 {
        let (when, [cx, cy]) = self.at;
        let [ux, uy] = self.along;
        let passed = self.speed * (frame as f32 - when as f32);
        let (dx, dy) = (x - cx + passed * uy, y - cy - passed * ux);
        let (along, across) = (dx * ux + dy * uy, dy * ux - dx * uy);
        coverage((along.abs() - self.half[0]).max(across.abs() - self.half[1]))
    }
}

/// Everything about a sequence but its noise.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Names the noise: seed, split, sequence.
    named: (u64, u64, u64),
    followed: Moving,
    other: Moving,
    bar: Bar,
    background: [f32; 3],
    ground: Ground,
}

impl Drawn {
    /// Sequence `index` of `split`.
    pub fn new(seed: u64, split: u64, index: usize) -> Drawn {
        let rng = &mut stream(seed, Purpose::Tracks, split, index as u64);
        let luminance = 0.5 - 0.5 * CONTRAST[1] + rng.random_range(-LUMINANCE..LUMINANCE);
        let background = [(); 3].map(|()| luminance + rng.random_range(-TINT..TINT));
        let strokes = rng.random_range(STROKES[0]..=STROKES[1]);
        let ground = Ground::draw(SIDE, strokes, rng);
        let class = rng.random_range(0..CLASSES);
        let radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]).powf(rng.random_range(0.0f32..1.0));
        let start = [(); 2].map(|()| rng.random_range(MARGIN..SIDE as f32 - MARGIN));
        let followed = moving(class, start, radius, background, rng);
        // Somewhere in the frame there is always such a place: its diagonal is 56 pixels.
        let apart = loop {
            let place = [(); 2].map(|()| rng.random_range(MARGIN..SIDE as f32 - MARGIN));
            if (place[0] - start[0]).hypot(place[1] - start[1]) >= APART {
                break place;
            }
        };
        let alike = radius * rng.random_range(ALIKE[0]..ALIKE[1]);
        let other = moving(class, apart, alike, background, rng);
        let bar = bar(&followed, background, rng);
        Drawn { named: (seed, split, index as u64), followed, other, bar, background, ground }
    }

    /// The name of the motif that is followed.
    pub fn motif(&self) -> &'static str {
        MOTIFS[self.followed.class]
    }

    /// The box around the whole motif in every frame, hidden or not.
    pub fn boxes(&self) -> Vec<Rectangle> {
        let [left, upper, right, lower] = extent(self.followed.class, self.followed.tilt);
        let place = |([x, y], radius): &([f32; 2], f32)| {
            let scaled = |edge: f32, centre: f32| f64::from(centre + radius * edge);
            let (x0, y0) = (scaled(left, *x), scaled(upper, *y));
            [x0, y0, scaled(right, *x) - x0, scaled(lower, *y) - y0]
        };
        self.followed.places.iter().map(place).collect()
    }

    /// Frame `number`, (64, 64, 3).
    pub fn frame(&self, number: usize) -> Image {
        let (seed, split, index) = self.named;
        // A split is a small number; frames count above it.
        let mut rng = stream(seed, Purpose::Tracks, split + ((number as u64 + 1) << 16), index);
        let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
        for place in 0..SIDE * SIDE {
            let (x, y) = ((place % SIDE) as f32 + 0.5, (place / SIDE) as f32 + 0.5);
            let layers = [
                (self.other.cover(number, x, y), self.other.colour),
                (self.followed.cover(number, x, y), self.followed.colour),
                (self.bar.cover(number, x, y), self.bar.colour),
            ];
            let light = self.ground.light(x, y);
            for channel in 0..3 {
                let below = |ground: f32, (inside, colour): &(f32, [f32; 3])| {
                    ground + (colour[channel] - ground) * inside
                };
                let value = layers.iter().fold(self.background[channel], below) + light;
                let noise: f32 = StandardNormal.sample(&mut rng);
                pixels.push((255.0 * (value + NOISE * noise)).round().clamp(0.0, 255.0) as u8);
            }
        }
        Image { height: SIDE, width: SIDE, pixels }
    }
}

/// A motif that begins at `start` with `radius`.
fn moving(class: usize, start: [f32; 2], radius: f32, ground: [f32; 3], rng: &mut Stream) -> Moving {
    let contrast = rng.random_range(CONTRAST[0]..CONTRAST[1]);
    let colour = ground.map(|channel| channel + contrast + rng.random_range(-TINT..TINT));
    let tilt = TILT * rng.random_range(-1.0f32..1.0);
    let mut normal = |std: f32| {
        let draw: f32 = StandardNormal.sample(rng);
        std * draw
    };
    let mut at = start;
    let mut speeds = [(); 2].map(|()| [normal(FIRST_SPEED); 2]);
    let mut growth = 0.0f32;
    let mut places = Vec::with_capacity(FRAMES);
    for _ in 0..FRAMES {
        places.push((at, radius * EQUAL_AREA[class] * growth.exp()));
        for (place, [now, before]) in at.iter_mut().zip(&mut speeds) {
            let next = SPEED[0] * *now + SPEED[1] * *before + normal(PUSH);
            (*before, *now) = (*now, next);
            *place += next;
            // What would leave comes back.
            let inside = place.clamp(MARGIN, SIDE as f32 - MARGIN);
            if *place != inside {
                *place = (2.0 * inside - *place).clamp(MARGIN, SIDE as f32 - MARGIN);
                (*now, *before) = (-*now, -*before);
            }
        }
        growth = (growth + normal(GROWTH)).clamp(-MOST_GROWTH, MOST_GROWTH);
    }
    Moving { class, tilt, colour, places }
}

/// A bar that hides `followed` in one frame.
fn bar(followed: &Moving, ground: [f32; 3], rng: &mut Stream) -> Bar {
    let when = rng.random_range(HIDDEN[0]..=HIDDEN[1]);
    let (centre, radius) = followed.places[when];
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    let light = rng.random_range(BAR_LIGHT[0]..BAR_LIGHT[1]) * if rng.random::<bool>() { 1.0 } else { -1.0 };
    let within = |[low, high]: [f32; 2], rng: &mut Stream| rng.random_range(low..high);
    Bar {
        at: (when, centre),
        along: [cos, sin],
        half: [radius * within(BAR_LENGTH, rng), radius * within(BAR_WIDTH, rng)],
        speed: within(BAR_SPEED, rng),
        colour: ground.map(|channel| channel + light + rng.random_range(-TINT..TINT)),
    }
}

/// Left, upper, right and lower end of motif `class` of radius 1 under a tilt, to a cell of the
/// grid: a tenth of a pixel.
fn extent(class: usize, tilt: f32) -> [f32; 4] {
    let (sin, cos) = tilt.sin_cos();
    let cell = 2.0 * REACH / GRID as f32;
    let mut ends = [REACH, REACH, -REACH, -REACH];
    for place in 0..GRID * GRID {
        let [u, v] = [place % GRID, place / GRID].map(|i| (i as f32 + 0.5) * cell - REACH);
        if motif(class, u * cos + v * sin, v * cos - u * sin) < 0.0 {
            let half = 0.5 * cell;
            ends =
                [ends[0].min(u - half), ends[1].min(v - half), ends[2].max(u + half), ends[3].max(v + half)];
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_stays_in_its_frame_and_is_its_own() {
        for index in 0..30 {
            let drawn = Drawn::new(3, 1, index);
            for [x, y, w, h] in drawn.boxes() {
                assert!(x >= 0.0 && y >= 0.0 && x + w <= SIDE as f64 && y + h <= SIDE as f64, "{index}");
                assert!(w > 4.0 && h > 4.0 && w < 26.0 && h < 26.0, "{index}: {w} {h}");
            }
        }
        let frame = |seed, split, index, number| Drawn::new(seed, split, index).frame(number).pixels;
        let base = frame(3, 1, 0, 5);
        for other in [frame(4, 1, 0, 5), frame(3, 0, 0, 5), frame(3, 1, 1, 5), frame(3, 1, 0, 6)] {
            assert_ne!(base, other);
        }
    }

    /// The mean of an object's pixels is brighter than the ground by its contrast where nothing
    /// hides it, and in the frame of the bar the object cannot be seen at its middle.
    #[test]
    fn the_box_is_around_the_motif_and_the_bar_hides_it() {
        let (mut hidden, mut inside, mut all) = (0.0, 0.0, 0.0);
        for index in 0..20 {
            let drawn = Drawn::new(0, 1, index);
            let (when, [x, y]) = drawn.bar.at;
            hidden += drawn.bar.cover(when, x, y);
            let [left, upper, width, height] = drawn.boxes()[0].map(|edge| edge as f32);
            for place in 0..SIDE * SIDE {
                let (x, y) = ((place % SIDE) as f32 + 0.5, (place / SIDE) as f32 + 0.5);
                let covered = drawn.followed.cover(0, x, y);
                all += covered;
                if x > left - 0.5 && x < left + width + 0.5 && y > upper - 0.5 && y < upper + height + 0.5 {
                    inside += covered;
                }
            }
        }
        assert_eq!(hidden, 20.0);
        assert!((inside - all).abs() < 1e-3 * all, "{inside} of {all}");
    }
}
