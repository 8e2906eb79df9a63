//! Which pixels are an object's: run lengths as COCO writes them, and polygons.
//!
//! A mask of (H, W) pixels is an [`Rle`]: the lengths of its runs in the order of columns, from the
//! left upper corner down, beginning with a run of pixels outside. Overlaps, areas and boxes are
//! computed from the runs, without a pixel being touched. Everything gives what pycocotools 2.0.11
//! gives for the same mask.

mod polygon;
mod text;

use crate::error::{Error, Result};

/// A longer side is taken for a damaged or hostile file.
pub const LONGEST_SIDE: usize = 16_384;

/// A box: left and upper edge, width and height, in pixels; ends are exclusive.
pub type Rectangle = [f64; 4];

/// A mask as run lengths, (H, W) pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle {
    height: usize,
    width: usize,
    /// Outside, inside, outside, …, by columns; together H · W.
    runs: Vec<u32>,
}

impl Rle {
    /// The mask of these runs, the first of which is outside and may be 0.
    ///
    /// # Errors
    /// [`Error::Usage`] where sides are too long or runs are not as many pixels as there are.
    ///
    /// ```
    /// # fn main() -> simsiam_em::Result<()> {
    /// use simsiam_em::masks::Rle;
    ///
    /// let mask = Rle::from_runs(2, 3, vec![1, 3, 2])?;
    /// assert_eq!(mask.to_pixels(), [false, true, false, true, true, false]);
    /// assert_eq!((mask.area(), mask.bounding_box()), (3, [0.0, 0.0, 2.0, 2.0]));
    /// assert_eq!(Rle::from_text(2, 3, &mask.to_text())?, mask);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_runs(height: usize, width: usize, runs: Vec<u32>) -> Result<Rle> {
        let pixels = pixels(height, width)? as u64;
        let sum: u64 = runs.iter().map(|run| u64::from(*run)).sum();
        if sum != pixels {
            return Err(Error::Usage(format!(
                "its runs are {sum} pixels where {height}×{width} are {pixels}"
            )));
        }
        Ok(Rle { height, width, runs })
    }

    /// The mask of `inside`, (H, W) row by row.
    ///
    /// # Errors
    /// [`Error::Usage`] where sides are too long or `inside` has another length.
    pub fn from_pixels(height: usize, width: usize, inside: &[bool]) -> Result<Rle> {
        if pixels(height, width)? != inside.len() {
            return Err(Error::Usage(format!(
                "{} pixels where {height}×{width} are asked for",
                inside.len()
            )));
        }
        let mut runs = Runs::default();
        for x in 0..width {
            (0..height).for_each(|y| runs.push(inside[y * width + x], 1));
        }
        Ok(Rle { height, width, runs: runs.done() })
    }

    /// [H, W].
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The runs, of which the first is outside.
    pub fn runs(&self) -> &[u32] {
        &self.runs
    }

    /// Every run with its first pixel, by columns, and whether it is inside.
    fn placed(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        let mut at = 0;
        self.runs.iter().enumerate().map(move |(index, run)| {
            let first = at;
            at += *run as usize;
            (first, *run as usize, index % 2 == 1)
        })
    }

    /// Whether each pixel is inside, (H, W) row by row.
    pub fn to_pixels(&self) -> Vec<bool> {
        let mut inside = vec![false; self.height * self.width];
        for (first, len, _) in self.placed().filter(|run| run.2) {
            (first..first + len).for_each(|p| inside[p % self.height * self.width + p / self.height] = true);
        }
        inside
    }

    /// Pixels inside.
    pub fn area(&self) -> u64 {
        self.runs.iter().skip(1).step_by(2).map(|run| u64::from(*run)).sum()
    }

    /// The smallest box around all pixels inside; zeros where there are none.
    pub fn bounding_box(&self) -> Rectangle {
        let (mut low, mut high) = ([usize::MAX; 2], [0; 2]);
        for (first, len, _) in self.placed().filter(|run| run.2 && run.1 > 0) {
            let last = first + len - 1;
            let columns = [first / self.height, last / self.height];
            // A run that goes on in the next column reaches the lower edge and the upper one.
            let rows = match columns[0] == columns[1] {
                true => [first % self.height, last % self.height],
                false => [0, self.height - 1],
            };
            low = [low[0].min(columns[0]), low[1].min(rows[0])];
            high = [high[0].max(columns[1] + 1), high[1].max(rows[1] + 1)];
        }
        match low[0] == usize::MAX {
            true => [0.0; 4],
            false => [low[0], low[1], high[0] - low[0], high[1] - low[1]].map(|side| side as f64),
        }
    }

    /// The pixels that are inside `self` or `other`.
    ///
    /// # Errors
    /// [`Error::Usage`] for masks of different sizes.
    pub fn union(&self, other: &Rle) -> Result<Rle> {
        self.merged(other, |a, b| a || b)
    }

    /// The pixels that are inside both.
    ///
    /// # Errors
    /// As [`Rle::union`].
    pub fn intersection(&self, other: &Rle) -> Result<Rle> {
        self.merged(other, |a, b| a && b)
    }

    fn merged(&self, other: &Rle, of: fn(bool, bool) -> bool) -> Result<Rle> {
        let mut runs = Runs::default();
        self.beside(other, |len, a, b| runs.push(of(a, b), len))?;
        Ok(Rle { height: self.height, width: self.width, runs: runs.done() })
    }

    /// Calls `each` with the lengths over which neither mask changes, and what they are there.
    fn beside(&self, other: &Rle, mut each: impl FnMut(u32, bool, bool)) -> Result<()> {
        if self.size() != other.size() {
            let ([h, w], [oh, ow]) = (self.size(), other.size());
            return Err(Error::Usage(format!("a mask of {h}×{w} pixels beside one of {oh}×{ow}")));
        }
        let (mut i, mut j) = (0, 0);
        let (mut a, mut b) = (0, 0);
        loop {
            while a == 0 && i < self.runs.len() {
                (a, i) = (self.runs[i], i + 1);
            }
            while b == 0 && j < other.runs.len() {
                (b, j) = (other.runs[j], j + 1);
            }
            let len = a.min(b);
            if len == 0 {
                return Ok(());
            }
            // The run in the hand is the one before the next; every second one is inside.
            each(len, i % 2 == 0, j % 2 == 0);
            (a, b) = (a - len, b - len);
        }
    }

    /// |detection ∩ truth| / |detection ∪ truth|; of a `crowd`, which may hold many objects, over
    /// the detection's own area.
    ///
    /// # Errors
    /// As [`Rle::union`].
    pub fn overlap(detection: &Rle, truth: &Rle, crowd: bool) -> Result<f64> {
        let (mut both, mut either) = (0u64, 0u64);
        detection.beside(truth, |len, a, b| {
            both += u64::from(len) * u64::from(a && b);
            either += u64::from(len) * u64::from(a || b);
        })?;
        let of = if crowd { detection.area() } else { either };
        Ok(if both == 0 { 0.0 } else { both as f64 / of as f64 })
    }
}

/// The overlap of two boxes as [`Rle::overlap`] has it of two masks.
pub fn box_overlap(detection: &Rectangle, truth: &Rectangle, crowd: bool) -> f64 {
    let side = |axis: usize| {
        let end = |b: &Rectangle| b[axis] + b[axis + 2];
        end(detection).min(end(truth)) - detection[axis].max(truth[axis])
    };
    let (width, height) = (side(0), side(1));
    if !(width > 0.0 && height > 0.0) {
        return 0.0;
    }
    let area = |b: &Rectangle| b[2] * b[3];
    let both = width * height;
    both / if crowd { area(detection) } else { area(detection) + area(truth) - both }
}

/// H · W, both within bounds.
fn pixels(height: usize, width: usize) -> Result<usize> {
    match height.max(width) <= LONGEST_SIDE {
        true => Ok(height * width),
        false => Err(Error::Usage(format!("{height}×{width} pixels are too many for a mask"))),
    }
}

/// Runs being collected.
#[derive(Default)]
struct Runs {
    runs: Vec<u32>,
    /// The length of the last run, which is not among `runs` yet.
    len: u32,
}

impl Runs {
    fn push(&mut self, inside: bool, len: u32) {
        if inside != (self.runs.len() % 2 == 1) {
            self.runs.push(std::mem::take(&mut self.len));
        }
        self.len += len;
    }

    fn done(mut self) -> Vec<u32> {
        self.runs.push(self.len);
        self.runs
    }
}
