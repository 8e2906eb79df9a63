//! A finite T: so few views of an image that E_T[F_θ(T(x))] is a sum (Sec. 5.1, eq. 9, without
//! sampling).

use super::ops::{brightness, contrast, horizontal_flip, hue, saturation};
use super::sample::CropBox;
use super::{AugmentConfig, Image, Scratch};
use crate::defaults::is_default;
use crate::error::{Error, Result};
use crate::rng::{Stream, below};
use serde::{Deserialize, Serialize};

/// More views of one image are taken for a slip of the hand: an exact E-step passes each through
/// F_θ.
pub const MOST_ELEMENTS: usize = 256;

/// The set: every combination of its transforms, each as likely as any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FiniteConfig {
    /// Both mirror images instead of one.
    pub flips: bool,
    /// Sides of the square crop, as fractions of the image's shorter side, in (0, 1].
    pub scales: Vec<f32>,
    /// Places of the crop along each axis, evenly spaced from edge to edge: n gives n × n. One is
    /// the centre.
    pub translations: usize,
    /// Colour shifts: factors of brightness, contrast and saturation, and a turn of the hue in
    /// [-0.5, 0.5].
    pub colours: Vec<[f32; 4]>,
    /// View v of a batch is element v of the set instead of a drawn one: with as many pairs as
    /// elements and an asymmetric loss an SGD step sees all of T.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exhaustive: bool,
}

impl FiniteConfig {
    /// How many views of an image there are.
    pub fn len(&self) -> usize {
        (1 + usize::from(self.flips))
            .saturating_mul(self.scales.len())
            .saturating_mul(self.translations.saturating_mul(self.translations))
            .saturating_mul(self.colours.len())
    }

    /// Whether there are none, which [`FiniteConfig::check`] refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses sets of fewer than 2 or more than [`MOST_ELEMENTS`] views, and transforms out of
    /// range.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let fail = |key: &str, what: String| Err(Error::Usage(format!("augment.finite{key}: {what}")));
        let len = self.len();
        if !(2..=MOST_ELEMENTS).contains(&len) {
            return fail(
                "",
                format!(
                    "{len} views of each image; from 2 to {MOST_ELEMENTS}, each a forward pass in an exact E-step"
                ),
            );
        }
        if let Some(scale) = self.scales.iter().find(|scale| !(**scale > 0.0 && **scale <= 1.0)) {
            return fail(".scales", format!("{scale} is not a fraction above 0 and at most 1"));
        }
        if self.translations > 1 && self.scales.contains(&1.0) {
            return fail(".translations", "a crop of scale 1 is the whole image and has one place".into());
        }
        for shift in &self.colours {
            let [factors @ .., turn] = shift;
            if !factors.iter().all(|f| (0.0..=4.0).contains(f)) || !(-0.5..=0.5).contains(turn) {
                let range = "three factors in [0, 4] and a turn of the hue in [-0.5, 0.5]";
                return fail(".colours", format!("{shift:?} is not {range}"));
            }
        }
        Ok(())
    }

    /// Which flip, step down, step to the right, scale and colour `element` is.
    fn digits(&self, element: usize) -> [usize; 5] {
        let bases = [
            1 + usize::from(self.flips),
            self.translations,
            self.translations,
            self.scales.len(),
            self.colours.len(),
        ];
        let mut rest = element;
        bases.map(|base| {
            let digit = rest % base.max(1);
            rest /= base.max(1);
            digit
        })
    }

    /// The part of an image of `height` × `width` pixels that `element` shows.
    pub(super) fn part(&self, element: usize, height: usize, width: usize) -> CropBox {
        let [_, down, right, scale, _] = self.digits(element);
        let side = (self.scales[scale] * height.min(width) as f32).round_ties_even().max(1.0) as usize;
        let place = |step: usize, room: usize| match self.translations {
            0 | 1 => room / 2,
            n => step * room / (n - 1),
        };
        CropBox {
            top: place(down, height - side),
            left: place(right, width - side),
            height: side,
            width: side,
        }
    }

    /// Draws an element.
    pub(super) fn draw(&self, rng: &mut Stream) -> usize {
        below(self.len().max(1), rng)
    }
}

/// Writes view `element` of `image` into `out`, (size, size, 3), normalised. Mirror images change
/// first, then places, then scales, then colours.
///
/// Elements are counted modulo the size of `set`, which must not be empty; nor must `image`.
pub fn element(
    config: &AugmentConfig,
    set: &FiniteConfig,
    image: &Image,
    element: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let [flip, .., colour] = set.digits(element);
    let [b, c, s, turn] = set.colours[colour];

    let size = config.size;
    let Scratch { resize, planes, .. } = scratch;
    planes.resize(3 * size * size, 0.0);
    let region = set.part(element, image.height, image.width);
    resize.crop(image, region, size, size, planes);
    if flip == 1 {
        horizontal_flip(planes, size);
    }
    for (factor, operation) in [(b, brightness as fn(&mut [f32], f32)), (c, contrast), (s, saturation)] {
        if factor != 1.0 {
            operation(planes, factor);
        }
    }
    if turn != 0.0 {
        hue(planes, turn);
    }
    super::normalise(planes, config.mean, config.std, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> FiniteConfig {
        FiniteConfig {
            flips: true,
            scales: vec![0.5, 0.75],
            translations: 2,
            colours: vec![[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]],
            exhaustive: false,
        }
    }

    #[test]
    fn every_combination_is_one_view_and_no_two_are_equal() {
        let pixels = (0..16 * 20 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let image = Image { height: 16, width: 20, pixels };
        let config = AugmentConfig { finite: Some(set()), ..AugmentConfig::none(8, [0.0; 3], [1.0; 3]) };
        let view = |index: usize| {
            let mut out = vec![0.0; 8 * 8 * 3];
            element(&config, &set(), &image, index, &mut Scratch::default(), &mut out);
            out
        };
        assert_eq!(set().len(), 32);
        let views: Vec<_> = (0..32).map(view).collect();
        for (i, a) in views.iter().enumerate() {
            assert!(views[..i].iter().all(|b| a != b), "element {i}");
        }
        // Element 1 is element 0 in the mirror; the second half is without colour.
        for (row, mirrored) in views[0].chunks_exact(24).zip(views[1].chunks_exact(24)) {
            assert!(row.chunks_exact(3).eq(mirrored.chunks_exact(3).rev()));
        }
        assert!(views[16].chunks_exact(3).all(|p| (p[0] - p[1]).abs() < 1e-6 && (p[1] - p[2]).abs() < 1e-6));
        assert_eq!(view(32), views[0]);
    }

    #[test]
    fn a_set_that_is_too_large_or_out_of_range_is_refused_with_its_cost() {
        let refused = |change: &dyn Fn(&mut FiniteConfig)| {
            let mut set = set();
            change(&mut set);
            set.check().unwrap_err().to_string()
        };
        assert!(refused(&|s| s.translations = 6).contains("288 views of each image; from 2 to 256"));
        assert!(refused(&|s| s.translations = usize::MAX).contains("views of each image"));
        assert!(refused(&|s| s.colours.clear()).contains("0 views"));
        assert!(refused(&|s| s.scales = vec![1.5]).contains("scales: 1.5"));
        assert!(refused(&|s| s.scales = vec![1.0]).contains("has one place"));
        assert!(refused(&|s| s.colours[0][3] = 0.7).contains("[-0.5, 0.5]"));
        assert!(refused(&|s| s.colours[0][0] = f32::NAN).contains("factors in [0, 4]"));
        set().check().unwrap();
    }
}
