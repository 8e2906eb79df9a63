//! The moving picture of a film: an SVG that animates itself.

use super::{Film, FilmArm, MARGIN};
use crate::report::pen::{Place, colour};
use plotters::prelude::RGBColor;
use std::fmt::Write;

/// Seconds of a run through the film.
const SECONDS: f64 = 14.0;
/// Side of a plane in units.
pub(super) const PLANE: f64 = 300.0;
/// Height of the curve below a plane, and the space between.
const CURVE: f64 = 64.0;
const GAP: f64 = 26.0;
/// Above a plane, for its title.
const ABOVE: f64 = 28.0;

impl Film {
    /// The moving picture; `id` is unique on its page.
    pub(super) fn moving(&self, id: usize) -> String {
        let extent = self.extent();
        let width = self.arms.len() as f64 * (PLANE + MARGIN) + MARGIN;
        let height = ABOVE + PLANE + GAP + CURVE + 28.0;
        let mut svg = format!(
            "<svg id=\"film{id}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\" \
             style=\"max-width:{width:.0}px;width:100%;height:auto;cursor:pointer\" font-family=\"DejaVu Sans, Verdana, sans-serif\" \
             font-size=\"11\">\n",
            escaped(&self.title)
        );
        for (index, arm) in self.arms.iter().enumerate() {
            let left = MARGIN + index as f64 * (PLANE + MARGIN);
            arm.draw(&mut svg, (left, ABOVE), extent, &format!("begin=\"0s;film{id}.click\""));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl FilmArm {
    /// Draws the arm's plane and curve, with their left upper corner at `at`, to begin as `begin`
    /// says.
    fn draw(&self, svg: &mut String, (left, top): Place, extent: f64, begin: &str) {
        let times = self.times();
        let key_times = listed(times.iter().copied(), 4);
        let animate = |attribute: &str, values: &str| {
            format!(
                "<animate attributeName=\"{attribute}\" dur=\"{SECONDS}s\" repeatCount=\"2\" fill=\"freeze\" {begin} \
                 keyTimes=\"{key_times}\" values=\"{values}\"/>"
            )
        };
        let middle = (left + PLANE / 2.0, top + PLANE / 2.0);
        text(svg, (middle.0, top - 9.0), "middle", "#282828", &self.title);
        frame(svg, (left, top), PLANE);
        let unit = PLANE / 2.0 / extent;
        for (image, label) in self.labels.iter().enumerate() {
            let xs = listed(self.frames.iter().map(|frame| middle.0 + unit * frame.places[image].0), 1);
            let ys = listed(self.frames.iter().map(|frame| middle.1 - unit * frame.places[image].1), 1);
            let RGBColor(red, green, blue) = colour(*label as usize);
            let _ = writeln!(
                svg,
                "<circle r=\"4\" fill=\"#{red:02X}{green:02X}{blue:02X}\" fill-opacity=\"0.85\">{}{}</circle>",
                animate("cx", &xs),
                animate("cy", &ys)
            );
        }
        self.draw_curve(svg, (left, top + PLANE + GAP), &times, &animate);
    }

    /// The std through the `times` of the frames, and a dot that goes along it.
    fn draw_curve(
        &self,
        svg: &mut String,
        (left, top): Place,
        times: &[f64],
        animate: &dyn Fn(&str, &str) -> String,
    ) {
        text(svg, (left, top - 6.0), "start", "#696969", "std·√d");
        frame(svg, (left, top), CURVE);
        let most = self.frames.iter().map(|frame| frame.z_std).fold(1.0, f64::max);
        let height = |z_std: f64| top + CURVE * (1.0 - z_std.max(0.0) / most);
        for z_std in [0.0, 1.0] {
            text(svg, (left - 3.0, height(z_std) + 4.0), "end", "#696969", &z_std.to_string());
        }
        let at: Vec<Place> = times
            .iter()
            .zip(&self.frames)
            .map(|(t, frame)| (left + PLANE * t, height(frame.z_std)))
            .collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#696969\"/>", line.join(" "));
        let (xs, ys) = (listed(at.iter().map(|(x, _)| *x), 1), listed(at.iter().map(|(_, y)| *y), 1));
        let (cx, cy) = (animate("cx", &xs), animate("cy", &ys));
        let _ = writeln!(svg, "<circle r=\"4\" fill=\"#282828\">{cx}{cy}</circle>");
        if let (Some(first), Some(last)) = (self.frames.first(), self.frames.last()) {
            let below = top + CURVE + 15.0;
            text(svg, (left, below), "start", "#696969", &first.time());
            text(svg, (left + PLANE, below), "end", "#696969", &last.time());
        }
    }
}

/// Numbers as an animation lists them.
fn listed(values: impl Iterator<Item = f64>, digits: usize) -> String {
    values.map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(";")
}

fn text(svg: &mut String, (x, y): Place, anchor: &str, fill: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
    );
}

/// A frame as wide as a plane.
fn frame(svg: &mut String, (left, top): Place, height: f64) {
    let _ = writeln!(
        svg,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{PLANE}\" height=\"{height}\" fill=\"none\" stroke=\"#E4E4E4\"/>"
    );
}

/// `text` inside an SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
