//! What can be wrong with the views.

use crate::doctor::Facts;
use crate::doctor::diagnosis::{Bound, Diagnosis, Severity};

/// Crops of a fifth of the area and more, SimSiam's, miss each other once in a hundred times.
const APART: Bound = Bound::AtMost(0.2);
/// Views of nearly one colour: of SimSiam's crops of photographs hardly any.
pub const EMPTY: f64 = 0.1;
/// How far two views of an image are from each other, beside views of two images.
const ALIKE: Bound = Bound::AtLeast(0.25);
/// Below this they are all but equal.
const EQUAL: f64 = 0.1;
/// Below this they are equal but for rounding.
const SAME: f64 = 0.01;
/// The same by colours alone: with SimSiam's jitter and grayscale 0.5 on photographs and 0.9 on
/// procedural images, without them 0.1.
const BY_COLOUR: Bound = Bound::AtLeast(0.2);
/// Fewer images are told apart by anything.
const FEW: usize = 16;
/// Most of them.
const MOST: f64 = 0.5;

pub fn diagnose(facts: &Facts, found: &mut Vec<Diagnosis>) {
    // Of images that show nothing, and of few, nothing more is to be said.
    if facts.images.flat > MOST || facts.views.images < FEW {
        return;
    }
    let checks = [apart, alike, empty, by_colour];
    found.extend(checks.iter().filter_map(|check| check(facts)));
}

fn apart(facts: &Facts) -> Option<Diagnosis> {
    let apart = facts.views.apart;
    APART.is_broken_by(apart).then(|| {
        let what = format!("two crops of an image have no pixel in common in {:.0} % of cases", 100.0 * apart);
        let why = "Their outputs are to agree, and they show different things. What is left to agree on is what all crops of \
                   all images share.";
        let severity = if apart > MOST { Severity::Fault } else { Severity::Warning };
        let found = Diagnosis::new("crops-apart", severity, what, why);
        let found = match facts.finite {
            false => found.set("augment.crop_scale", "[0.2,1.0]"),
            true => found.set("augment.finite.scales", "[0.6,0.8]"),
        };
        found.rests_on("share of pairs of crops without a common pixel", apart, APART,
            "crops of a fifth of the area and more, SimSiam's, miss each other once in a hundred times")
    })
}

fn alike(facts: &Facts) -> Option<Diagnosis> {
    let ratio = facts.views.pixels.ratio?;
    ALIKE.is_broken_by(ratio).then(|| {
        let what = match ratio {
            0.0 => "both views of an image are the same picture".to_string(),
            _ => format!("two views of an image are {:.0} % as far apart as views of two images", 100.0 * ratio),
        };
        let why = "Their outputs agree whatever the encoder does: the loss falls to -1 at once, and the gradient says nothing \
                   of what the images show.";
        let severity = if ratio < EQUAL { Severity::Fault } else { Severity::Warning };
        let found = Diagnosis::new("views-alike", severity, what, why);
        let found = match facts.finite {
            false => found.set("augment.crop_scale", "[0.2,1.0]").also("--set augment.jitter=0.8 --set augment.grayscale=0.2"),
            true => found.set("augment.finite.scales", "[0.6,0.8]"),
        };
        found.rests_on("distance of two views of an image over that of views of two images, in pixels", ratio, ALIKE,
            "SimSiam's views have 0.6 on photographs and 0.8 on procedural images")
    })
}

fn empty(facts: &Facts) -> Option<Diagnosis> {
    let (empty, bound) = (facts.views.empty, Bound::AtMost(EMPTY));
    (bound.is_broken_by(empty) && facts.images.flat < empty / 2.0).then(|| {
        let what = format!("{:.0} % of the views are of nearly one colour", 100.0 * empty);
        let why = "A crop that shows an empty part of an image tells nothing of it, and its output is to agree with that of \
                   the other view.";
        let severity = if empty > MOST { Severity::Fault } else { Severity::Warning };
        Diagnosis::new("empty-views", severity, what, why)
            .set("augment.crop_scale", "[0.5,1.0]")
            .rests_on("share of views of nearly one colour", empty, bound, "of SimSiam's crops of photographs hardly any are")
    })
}

fn by_colour(facts: &Facts) -> Option<Diagnosis> {
    let ratio = facts.views.colours.ratio?;
    // Of views that are the same everything is.
    let same = facts.views.pixels.ratio.is_some_and(|ratio| ratio < SAME);
    (!same && BY_COLOUR.is_broken_by(ratio)).then(|| {
        let what = format!(
            "colours tell images apart: by them alone the other view is found among {} in {:.0} % of cases",
            facts.views.images,
            100.0 * facts.views.colours.found
        );
        let why = "Six numbers, the mean and the spread of red, green and blue, are nearly the same in both views of an \
                   image. An encoder finds them before it finds shapes.";
        Diagnosis::new("colour-shortcut", Severity::Warning, what, why)
            .set("augment.jitter", "0.8")
            .also("--set augment.grayscale=0.2")
            .rests_on(
                "distance of two views of an image over that of views of two images, in colours",
                ratio,
                BY_COLOUR,
                "SimSiam's jitter and grayscale leave 0.5 on photographs",
            )
    })
}
