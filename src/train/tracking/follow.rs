//! An object followed from frame to frame.

use super::window::{Framed, Window};
use super::{Seen, Tracker};
use crate::data::tracks::Sequence;
use crate::error::{Result, go_on};
use crate::masks::Rectangle;
use candle_core::Tensor;
use rayon::prelude::*;
use std::f64::consts::TAU;
use std::sync::atomic::AtomicBool;

/// Search windows of a frame, and how much each is larger than the one before.
const SCALES: usize = 3;
const STEP: f64 = 1.0375;
/// What a response at another scale than before is multiplied by.
const PENALTY: f32 = 0.9745;
/// How far the object's size follows the scale that was found.
const SCALE_RATE: f64 = 0.59;
/// The part of the cosine window in the response: twice SiamFC's, because the search window holds
/// most of a small frame, the other motif of the class included.
const INFLUENCE: f32 = 0.35;
/// Places in the response in a pixel of the search window.
const FINER: usize = 2;
/// How much smaller and larger than in the first frame an object may become.
const SIZES: [f64; 2] = [0.2, 5.0];

/// The box in every frame; that of the first one is given.
pub type Track = Vec<Rectangle>;

/// Where an object is.
struct State {
    window: Window,
    /// Width and height of the object in parts of the window's side.
    parts: [f64; 2],
    /// The window's side in the first frame.
    first: f64,
    track: Track,
}

impl State {
    fn new(first: &Rectangle) -> State {
        let window = Window::around(first);
        let parts = [first[2] / window.side, first[3] / window.side];
        State { window, parts, first: window.side, track: vec![*first] }
    }

    /// The windows that are searched.
    fn searched(&self) -> [Window; SCALES] {
        std::array::from_fn(|scale| self.window.times(super::SEARCH as f64 * factor(scale)))
    }

    /// Moves by `off` pixels to a window `factor` times as large, in a frame of `size`.
    fn move_to(&mut self, off: [f64; 2], factor: f64, size: [usize; 2]) {
        let Window { centre, side } = &mut self.window;
        for axis in 0..2 {
            centre[axis] = (centre[axis] + off[axis]).clamp(0.0, size[axis] as f64);
        }
        let grown = *side * ((1.0 - SCALE_RATE) + SCALE_RATE * factor);
        *side = grown.clamp(SIZES[0] * self.first, SIZES[1] * self.first);
        let [w, h] = self.parts.map(|part| part * *side);
        self.track.push([centre[0] - 0.5 * w, centre[1] - 0.5 * h, w, h]);
    }
}

/// The size of search window `scale`; the middle one's is 1.
fn factor(scale: usize) -> f64 {
    STEP.powi(scale as i32 - (SCALES / 2) as i32)
}

impl Tracker {
    /// The track of the object of every sequence, from its box in the first frame; none where the
    /// features of its first frame are no numbers.
    ///
    /// # Errors
    /// [`crate::Error::Data`] for a frame that cannot be read, [`crate::Error::Stopped`] once
    /// `stop` is set.
    pub fn follow(&self, sequences: &[Sequence], stop: &AtomicBool) -> Result<Vec<Option<Track>>> {
        let together = (self.batch() / SCALES).clamp(1, sequences.len().max(1));
        let mut tracks = Vec::with_capacity(sequences.len());
        for sequences in sequences.chunks(together) {
            tracks.extend(self.follow_together(sequences, stop)?);
        }
        Ok(tracks)
    }

    /// Sequences frame by frame side by side: a pass for all of them.
    fn follow_together(&self, sequences: &[Sequence], stop: &AtomicBool) -> Result<Vec<Option<Track>>> {
        let seen = self.side(Seen::Exemplar);
        let first = |sequence: &Sequence| -> Result<(State, Vec<f32>)> {
            let state = State::new(&sequence.boxes()[0]);
            let mut pixels = Vec::new();
            Framed::new(sequence.frame(0)?).cut(state.window, seen, &self.preprocessing, &mut pixels);
            Ok((state, pixels))
        };
        let begun: Vec<_> = sequences.par_iter().map(first).collect::<Result<_>>()?;
        let (mut states, pixels): (Vec<State>, Vec<Vec<f32>>) = begun.into_iter().unzip();
        let exemplars =
            self.features(&self.images(pixels.concat(), Seen::Exemplar)?, Seen::Exemplar, None)?;
        let finer = Finer::new(self.places()?, FINER * self.stride);
        let longest = sequences.iter().map(Sequence::len).max().unwrap_or(0);
        for number in 1..longest {
            go_on(stop)?;
            // The longest are not the last ones.
            let going: Vec<usize> = (0..sequences.len()).filter(|at| number < sequences[*at].len()).collect();
            let seen = self.side(Seen::Search);
            let frame = |at: &usize| -> Result<([usize; 2], Vec<f32>)> {
                let framed = Framed::new(sequences[*at].frame(number)?);
                let mut pixels = Vec::with_capacity(SCALES * seen * seen * 3);
                for window in states[*at].searched() {
                    framed.cut(window, seen, &self.preprocessing, &mut pixels);
                }
                Ok((framed.size(), pixels))
            };
            let (sizes, pixels): (Vec<[usize; 2]>, Vec<Vec<f32>>) =
                going.par_iter().map(frame).collect::<Result<Vec<_>>>()?.into_iter().unzip();
            let search = self.features(&self.images(pixels.concat(), Seen::Search)?, Seen::Search, None)?;
            let places: Vec<u32> = going.iter().map(|at| *at as u32).collect();
            let own = exemplars.index_select(&Tensor::new(places, exemplars.device())?, 0)?;
            let responses = self.response(&search, &own)?.flatten_all()?.to_vec1::<f32>()?;
            let each = SCALES * finer.from * finer.from;
            let found: Vec<([f64; 2], usize)> =
                responses.par_chunks(each).map(|responses| finer.find(responses)).collect();
            for ((at, size), (off, scale)) in going.iter().zip(sizes).zip(found) {
                let pixel = states[*at].searched()[scale].side / seen as f64;
                let off = off.map(|places| places / FINER as f64 * pixel);
                states[*at].move_to(off, factor(scale), size);
            }
        }
        let places = exemplars.elem_count() / sequences.len().max(1);
        let numbers = exemplars.flatten_all()?.to_vec1::<f32>()?;
        let sound = numbers.chunks(places.max(1)).map(|one| one.iter().all(|value| value.is_finite()));
        Ok(states.into_iter().zip(sound).map(|(state, sound)| sound.then_some(state.track)).collect())
    }

    /// Places along a side of a response.
    fn places(&self) -> Result<usize> {
        let [exemplar, search] = self.engines.each_ref().map(|engine| engine.network().output().height);
        Ok(search - exemplar + 1)
    }
}

/// Responses seen more finely.
struct Finer {
    /// Places along a side of a response, and of a finer one.
    from: usize,
    to: usize,
    /// (to, from): bicubic interpolation along an axis.
    weights: Vec<f32>,
    /// (to): a Hann window.
    hann: Vec<f32>,
}

impl Finer {
    /// `times` places for every one of `from`.
    fn new(from: usize, times: usize) -> Finer {
        let to = from * times;
        let mut weights = vec![0.0; to * from];
        for (place, row) in weights.chunks_mut(from).enumerate() {
            let at = (place as f64 + 0.5) / times as f64 - 0.5;
            for tap in -1..=2 {
                let on = at.floor() + f64::from(tap);
                let nearest = on.clamp(0.0, from as f64 - 1.0) as usize;
                row[nearest] += cubic(at - on) as f32;
            }
        }
        let hann = |i: usize| (0.5 - 0.5 * (TAU * i as f64 / (to.max(2) - 1) as f64).cos()) as f32;
        Finer { from, to, weights, hann: (0..to).map(hann).collect() }
    }

    /// The finer response (to, to) of one (from, from).
    fn of(&self, response: &[f32]) -> Vec<f32> {
        let (from, to) = (self.from, self.to);
        let dot = |weights: &[f32], values: &mut dyn Iterator<Item = f32>| -> f32 {
            weights.iter().zip(values).map(|(weight, value)| weight * value).sum()
        };
        let rows = || self.weights.chunks(from);
        let mut down = Vec::with_capacity(to * from);
        for weights in rows() {
            down.extend((0..from).map(|x| dot(weights, &mut (0..from).map(|y| response[y * from + x]))));
        }
        down.chunks(from)
            .flat_map(|row| rows().map(move |weights| dot(weights, &mut row.iter().copied())))
            .collect()
    }

    /// How far the object is from the middle (x, y), in finer places of the search window, and at
    /// which scale, by the responses of all scales.
    fn find(&self, responses: &[f32]) -> ([f64; 2], usize) {
        let maps: Vec<Vec<f32>> =
            responses.chunks(self.from * self.from).map(|response| self.of(response)).collect();
        let highest = |map: &[f32]| map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let peak = |scale: usize| highest(&maps[scale]) * if scale == SCALES / 2 { 1.0 } else { PENALTY };
        let scale =
            (0..SCALES).fold(SCALES / 2, |best, next| if peak(next) > peak(best) { next } else { best });
        let map = &maps[scale];
        let least = map.iter().copied().fold(f32::INFINITY, f32::min);
        let sum: f32 = map.iter().map(|value| value - least).sum::<f32>() + 1e-16;
        let whole: f32 = self.hann.iter().sum::<f32>().powi(2).max(1e-16);
        let (mut best, mut at) = (f32::NEG_INFINITY, 0);
        for (place, value) in map.iter().enumerate() {
            let window = self.hann[place / self.to] * self.hann[place % self.to] / whole;
            let value = (1.0 - INFLUENCE) * (value - least) / sum + INFLUENCE * window;
            if value > best {
                (best, at) = (value, place);
            }
        }
        let middle = (self.to as f64 - 1.0) / 2.0;
        ([(at % self.to) as f64 - middle, (at / self.to) as f64 - middle], scale)
    }
}

/// Bicubic interpolation's weight of a value `off` places away (Keys 1981, a = −0.75 as OpenCV has
/// it).
fn cubic(off: f64) -> f64 {
    const A: f64 = -0.75;
    let x = off.abs();
    match x {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finer_response_keeps_constants_and_its_peak() {
        let finer = Finer::new(5, 4);
        assert!(finer.of(&[3.0; 25]).iter().all(|value| (value - 3.0).abs() < 1e-5));
        // The middle scale, one place right of and one above the middle.
        let mut responses = vec![0.0; 3 * 25];
        responses[25 + 5 + 3] = 1.0;
        let ([x, y], scale) = finer.find(&responses);
        assert_eq!(scale, 1);
        // Four finer places each; the window draws them a little towards the middle.
        assert!((x - 4.0).abs() <= 1.0 && (y + 4.0).abs() <= 1.0, "{x} {y}");
        // Another scale must be so much higher.
        responses[50 + 12] = 1.02;
        assert_eq!(finer.find(&responses).1, 1);
        responses[50 + 12] = 1.03;
        assert_eq!(finer.find(&responses).1, 2);
    }

    #[test]
    fn no_object_leaves_its_frame_or_grows_without_bound() {
        let mut state = State::new(&[10.0, 10.0, 8.0, 4.0]);
        for _ in 0..1000 {
            state.move_to([50.0, -50.0], STEP, [64, 48]);
        }
        let [x, y, w, h] = *state.track.last().unwrap();
        assert_eq!((x + 0.5 * w, y + 0.5 * h), (64.0, 0.0));
        assert!((w - 40.0).abs() < 1e-9 && (h - 20.0).abs() < 1e-9, "{w} {h}");
        assert_eq!(state.track.len(), 1001);
    }
}
