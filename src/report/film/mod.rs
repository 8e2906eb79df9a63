//! A film of outputs: a point for each image, moving from epoch to epoch, one plane for each arm;
//! and the same as a strip of frames.
//!
//! The moving picture is an SVG that animates itself (SMIL): it needs no script and no network,
//! runs twice, and again where somebody clicks on it. Whoever asks for reduced motion, and paper,
//! get the strip.

mod moving;
mod still;

use super::head::head;
use super::sheet::encode;
use super::surface;
use super::thumbnail::data_uri;
use crate::error::Result;
use crate::record::{csv_bytes, write_durable};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::path::{Path, PathBuf};

/// A film: the same images in several arms.
pub struct Film {
    /// Its title.
    pub title: String,
    /// The arms, side by side.
    pub arms: Vec<FilmArm>,
    /// Arms with a film that are not shown.
    pub left_out: usize,
    /// Where the numbers come from.
    pub origin: String,
}

/// An arm of a film.
pub struct FilmArm {
    /// Its name.
    pub title: String,
    /// The run's seed.
    pub seed: u64,
    /// Classes of the images.
    pub labels: Vec<u32>,
    /// In order.
    pub frames: Vec<Frame>,
}

/// What is seen at one step.
pub struct Frame {
    /// SGD steps made.
    pub step: u64,
    /// Epochs made, where it is known.
    pub epoch: Option<f64>,
    /// std of z/‖z‖ times √d of these images.
    pub z_std: f64,
    /// Where the images' z/‖z‖ lie, around their mean.
    pub places: Vec<(f64, f64)>,
}

/// Frames of the strip at most.
const MOST_CELLS: usize = 7;
/// Around and between planes, in units.
const MARGIN: f64 = 14.0;

impl Frame {
    fn time(&self) -> String {
        match self.epoch {
            Some(epoch) if epoch.fract() == 0.0 => format!("epoch {epoch:.0}"),
            Some(epoch) => format!("epoch {epoch:.1}"),
            None => format!("step {}", self.step),
        }
    }
}

impl FilmArm {
    /// When each frame is shown, from 0 to 1: what happens early needs more time, so that it goes
    /// with the logarithm of the steps.
    fn times(&self) -> Vec<f64> {
        let first = self.frames.iter().map(|frame| frame.step).find(|step| *step > 0).unwrap_or(1) as f64;
        let at = |frame: &Frame| (1.0 + frame.step as f64 / first).ln();
        let last = self.frames.last().map_or(1.0, at).max(f64::MIN_POSITIVE);
        self.frames.iter().map(|frame| at(frame) / last).collect()
    }

    /// The frames of the strip: evenly spaced in time.
    fn chosen(&self) -> Vec<usize> {
        let times = self.times();
        let count = MOST_CELLS.min(times.len());
        let nearest = |wanted: f64| {
            let far = |index: &usize| (times[*index] - wanted).abs();
            (0..times.len()).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0)
        };
        let mut chosen: Vec<usize> =
            (0..count).map(|i| nearest(i as f64 / count.saturating_sub(1).max(1) as f64)).collect();
        chosen.dedup();
        chosen
    }
}

impl Film {
    /// The distance from the middle of a plane to its edge: all frames of all arms have one scale.
    fn extent(&self) -> f64 {
        let places = self.arms.iter().flat_map(|arm| &arm.frames).flat_map(|frame| &frame.places);
        1.06 * places.map(|(x, y)| x.abs().max(y.abs())).fold(1e-6, f64::max)
    }

    /// How it is to be read.
    fn caption(&self) -> String {
        let images = self.arms.iter().map(|arm| arm.labels.len()).max().unwrap_or(0);
        let left_out = match self.left_out {
            0 => String::new(),
            n => format!(" {n} more arms are left out."),
        };
        format!(
            "A point for each of {images} held-out images, in the colour of its class: z divided by its length, in the plane of \
             the first two principal directions of these outputs at that time, turned to the frame before. One scale for all: \
             where points run together, outputs are the same for all images.{left_out}"
        )
    }

    /// Both pictures, for a page on which no other film has this `id`.
    ///
    /// # Errors
    /// [`crate::Error::Failure`] where the strip cannot be drawn.
    pub fn figure(&self, id: usize) -> Result<Markup> {
        Ok(html! {
            figure .film {
                div .moving { (PreEscaped(self.moving(id))) }
                img .still src=(data_uri(&self.png()?)) alt=(self.title) style="max-width:100%";
                figcaption {
                    (self.title) ". " (self.caption())
                    " Below each plane the std of z/‖z‖ times √d of these images, 1 where they are spread in all directions. Time goes \
                     with the logarithm of the steps. "
                    span .moving { "It runs twice; a click begins it again." }
                    br;
                    (self.origin)
                }
            }
        })
    }

    /// A page with nothing else.
    ///
    /// # Errors
    /// As [`Film::figure`].
    pub fn page(&self) -> Result<String> {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&self.title))
                body { main { (self.figure(0)?) } }
            }
        };
        Ok(page.into_string())
    }

    /// The strip as PNG bytes.
    ///
    /// # Errors
    /// [`crate::Error::Failure`] where it cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        encode(&surface::png(self)?)
    }

    /// Rows: arm, seed, step, epoch, z_std, image, label, x, y.
    fn csv(&self) -> Result<Vec<u8>> {
        let header = ["arm", "seed", "step", "epoch", "z_std", "image", "label", "x", "y"].map(String::from);
        let mut rows = vec![header.to_vec()];
        for arm in &self.arms {
            for frame in &arm.frames {
                let epoch = frame.epoch.map_or(String::new(), |epoch| epoch.to_string());
                for (image, (x, y)) in frame.places.iter().enumerate() {
                    let [x, y] = [x, y].map(|value| format!("{value:.6}"));
                    let (z_std, label) = (format!("{:.6}", frame.z_std), arm.labels[image].to_string());
                    let [seed, step, image] = [arm.seed, frame.step, image as u64].map(|n| n.to_string());
                    rows.push(vec![arm.title.clone(), seed, step, epoch.clone(), z_std, image, label, x, y]);
                }
            }
        }
        csv_bytes(rows)
    }

    /// Writes `stem.html`, `stem.png` and `stem.csv`.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] when a file cannot be written.
    pub fn save(&self, stem: &Path) -> Result<Vec<PathBuf>> {
        let paths = ["html", "png", "csv"].map(|kind| stem.with_extension(kind));
        write_durable(&paths[0], self.page()?.as_bytes())?;
        write_durable(&paths[1], &self.png()?)?;
        write_durable(&paths[2], &self.csv()?)?;
        Ok(paths.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(title: &str) -> Film {
        let frame = |step: u64| Frame {
            step,
            epoch: (step != 7).then_some(step as f64 / 2.0),
            z_std: 1.0 / (1 + step) as f64,
            places: vec![(0.5, -0.25), (-1.0, step as f64)],
        };
        let arm =
            FilmArm { title: title.into(), seed: 3, labels: vec![0, 9], frames: [0, 2, 4].map(frame).into() };
        Film { title: "a film".into(), arms: vec![arm], left_out: 0, origin: "sim run".into() }
    }

    #[test]
    fn the_page_needs_no_script_no_network_and_respects_reduced_motion() {
        let page = film("<b>&\"").page().unwrap();
        for absent in ["<script", "http://", "https://", "url(", "<b>"] {
            assert!(!page.contains(absent), "{absent}");
        }
        assert!(page.contains("prefers-reduced-motion") && page.contains("&lt;b&gt;&amp;&quot;"));
        assert!(page.contains("begin=\"0s;film0.click\"") && page.contains("repeatCount=\"2\""));
    }

    #[test]
    fn points_go_through_their_places_in_time() {
        let film = film("one");
        let svg = film.moving(1);
        let (unit, middle) = (150.0 / film.extent(), MARGIN + 150.0);
        let xs = format!("values=\"{0:.1};{0:.1};{0:.1}\"", middle + unit * 0.5);
        assert!(svg.contains(&xs), "{xs}");
        let times = film.arms[0].times();
        assert_eq!((times[0], times[2]), (0.0, 1.0));
        assert!(times[1] > 0.5, "early frames have more time: {times:?}");
    }

    #[test]
    fn the_csv_has_a_row_for_each_point_of_each_frame() {
        let csv = String::from_utf8(film("one").csv().unwrap()).unwrap();
        assert_eq!(csv.lines().count(), 1 + 3 * 2);
        assert!(
            csv.lines().nth(2).unwrap().starts_with("one,3,0,0,1.000000,1,9,-1.000000,0.000000"),
            "{csv}"
        );
    }
}
