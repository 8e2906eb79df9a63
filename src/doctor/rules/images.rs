//! What can be wrong with the images.

use crate::doctor::Facts;
use crate::doctor::diagnosis::{Bound, Diagnosis, Severity};

/// One image in twenty: fewer hardly move a gradient.
const SOME: Bound = Bound::AtMost(0.05);
/// Most of them: then they are what is learnt.
const MOST: f64 = 0.5;
/// One held-out image in a hundred moves kNN by a point.
const LEAKED: Bound = Bound::AtMost(0.01);
/// A border of a quarter of the area: crops of a fifth of it, the smallest of SimSiam's, can then
/// show nothing else.
const BORDER: Bound = Bound::AtMost(0.25);
/// A part of the picture as large as twenty of the 1,024 places of the grid: a mark that a crop can
/// show whole.
const SHARED: Bound = Bound::AtMost(0.02);
/// Classes that differ in size by more make kNN, which counts votes, prefer the large one.
const UNBALANCED: Bound = Bound::AtMost(10.0);
/// Fewer images give fewer than four batches of 32 in an epoch.
pub const FEWEST: Bound = Bound::AtLeast(128.0);
/// Of fewer held-out images no spread is told.
const JUDGED: Bound = Bound::AtLeast(crate::doctor::trials::JUDGED as f64);
/// An image of half a view's side is enlarged four times in area, and a crop of it more.
const ENLARGED: Bound = Bound::AtMost(2.0);

pub fn diagnose(facts: &Facts, found: &mut Vec<Diagnosis>) {
    let checks = [flat, copies, leaked, border, shared, few, unbalanced, enlarged];
    found.extend(checks.iter().filter_map(|check| check(facts)));
}

fn graded(value: f64) -> Severity {
    if value > MOST { Severity::Fault } else { Severity::Warning }
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        part if part > 0.0 && part < 1.0 => format!("{part:.1} %"),
        part => format!("{part:.0} %"),
    }
}

fn flat(facts: &Facts) -> Option<Diagnosis> {
    let images = &facts.images;
    SOME.is_broken_by(images.flat).then(|| {
        let what = format!("{} of the images are of nearly one colour", percent(images.flat));
        let why = "All views of such an image are the same but for their colour, which jitter changes: nothing in them \
                   can be learnt, and equal outputs for all images are a solution.";
        Diagnosis::new("flat-images", graded(images.flat), what, why)
            .advise("look at the files below: they may be damaged, black frames, or saved with too few grey levels")
            .rests_on("share of images of nearly one colour", images.flat, SOME, "one image in twenty hardly moves a gradient")
            .shown_by(&images.flat_files)
    })
}

fn copies(facts: &Facts) -> Option<Diagnosis> {
    let images = &facts.images;
    // Images of one colour look alike; that is said already.
    let copies = images.copies - images.flat;
    SOME.is_broken_by(copies).then(|| {
        let what = format!("{} of the training images are copies of another one", percent(images.copies));
        let why = "Copies are trained on as if they were different images. They add steps and no content, and a method with \
                   negatives pushes them apart.";
        Diagnosis::new("copies", graded(copies), what, why)
            .advise("keep one of each; frames of a video are copies too, take one in many")
            .rests_on("share of training images that are copies", images.copies, SOME, "one image in twenty hardly moves a gradient")
            .shown_by(&images.copied_files)
    })
}

fn leaked(facts: &Facts) -> Option<Diagnosis> {
    let images = &facts.images;
    let told = SOME.is_broken_by(images.copies) || SOME.is_broken_by(images.flat);
    (!told && LEAKED.is_broken_by(images.leaked)).then(|| {
        let what = format!("{} of the held-out images are copies of training images", percent(images.leaked));
        let why = "Their nearest neighbour is their copy, so that kNN and linear probe are better than on new images.";
        Diagnosis::new("held-out-copies", Severity::Warning, what, why)
            .advise("move copies into the same half")
            .rests_on("share of held-out images that are copies", images.leaked, LEAKED, "one in a hundred moves kNN by a point")
            .shown_by(&images.leaked_files)
    })
}

fn border(facts: &Facts) -> Option<Diagnosis> {
    let images = &facts.images;
    BORDER.is_broken_by(images.border).then(|| {
        let colour = images.border_colour.map_or("one colour".to_string(), colour);
        let what = format!("a border of {colour} takes {} of a typical image", percent(images.border));
        let why = "Crops show much of it. It is the same in all images, so that it tells none from another, and views that \
                   show little else pull all outputs together.";
        let many = facts.views.empty > super::views::EMPTY;
        let severity = if many { Severity::Fault } else { graded(images.border) };
        Diagnosis::new("border", severity, what, why)
            .advise("cut the border off (ImageMagick: mogrify -trim); if it belongs to the pictures, as the paper around a \
                     digit does, raise the lower end of augment.crop_scale")
            .rests_on("share of an image's area in its border, median", images.border, BORDER,
                "the smallest crops show a fifth of the area, and could show nothing else")
            .shown_by(&images.bordered_files)
    })
}

fn colour([red, green, blue]: [u8; 3]) -> String {
    match (red.min(green).min(blue), red.max(green).max(blue)) {
        (least, _) if least >= 240 => "white".into(),
        (_, most) if most <= 15 => "black".into(),
        _ => format!("the colour {red}, {green}, {blue}"),
    }
}

fn shared(facts: &Facts) -> Option<Diagnosis> {
    let shared = facts.images.shared?;
    // Copies share everything; that is said already.
    let told = SOME.is_broken_by(facts.images.copies);
    (!told && SHARED.is_broken_by(shared)).then(|| {
        let what = format!("{} of the picture is the same in all images", percent(shared));
        let why = "A watermark, a caption or the frame of a microscope is found in both views of an image, and in those of \
                   all others: agreeing on it costs nothing and teaches nothing.";
        Diagnosis::new("shared-region", Severity::Warning, what, why)
            .advise("look at the images (sim data preview) and cut the common part away")
            .rests_on("share of the picture that is the same in all images", shared, SHARED,
                "a mark of that size is shown whole by a crop")
    })
}

fn few(facts: &Facts) -> Option<Diagnosis> {
    let (images, held_out) = (facts.method.images as f64, facts.images.looked_at[1] as f64);
    let (train, test) = (FEWEST.is_broken_by(images), JUDGED.is_broken_by(held_out));
    (train || test).then(|| {
        let what = format!("there are {images} training and {held_out} held-out images");
        let why = "Few training images are learnt by heart, and an epoch of them has a handful of steps. Of few held-out ones \
                   neither collapse nor accuracy can be told.";
        let mut found = Diagnosis::new("few-images", Severity::Warning, what, why)
            .advise("take more images, or begin with weights that were trained on others");
        if train {
            found = found.rests_on("training images", images, FEWEST, "four batches of 32 in an epoch");
        }
        if test {
            let reason = "N outputs have a RankMe of N at most";
            found = found.rests_on("held-out images looked at", held_out, JUDGED, reason);
        }
        found
    })
}

fn unbalanced(facts: &Facts) -> Option<Diagnosis> {
    let [least, most] = facts.images.class_sizes?;
    let ratio = most as f64 / least.max(1) as f64;
    UNBALANCED.is_broken_by(ratio).then(|| {
        let what = format!("the largest class has {most} training images, the smallest {least}");
        let why = "Training does not read classes. kNN and linear probe do, and prefer the large ones; top-1 says most about \
                   those.";
        Diagnosis::new("unbalanced-classes", Severity::Note, what, why)
            .advise("compare accuracies with the share of the largest class, not with 1 / classes")
            .rests_on("largest class over smallest", ratio, UNBALANCED, "beyond ten, votes are mostly of the large class")
    })
}

fn enlarged(facts: &Facts) -> Option<Diagnosis> {
    let (side, size) = (facts.images.shorter_side, facts.method.size);
    let factor = size as f64 / side.max(1) as f64;
    ENLARGED.is_broken_by(factor).then(|| {
        let what = format!("views of {size} pixels are made of images of {side}");
        let why = "The pixels in between are invented, and cost time.";
        Diagnosis::new("enlarged", Severity::Note, what, why)
            .set("augment.size", &side.max(16).to_string())
            .rests_on(
                "side of a view over that of an image",
                factor,
                ENLARGED,
                "twice the side is four times the pixels",
            )
    })
}
