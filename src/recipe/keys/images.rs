//! The keys `data.*` and `augment.*`.

use super::super::key::{CHOICE, Key, Kind, Range, rows};
use std::f64::consts::PI;

use Kind::{Fours, Number, Numbers, Switch, Text, Whole, WholeOr};
use Range::{Above, AboveTo, Any, AtLeast, Said, Within, Words};

const COUNT: Range = AtLeast(1.0);
const SHARE: Range = Within(0.0, 1.0);
const PIXELS: Range = Within(4.0, 1024.0);
const MANY: Range = Within(1.0, 4096.0);

/// Images and their views.
pub const IMAGES: &[Key] = rows! {
    "data.source", Text, Said("shapes, glyphs, folder:DIR, tar:DIR, parquet:DIR, cifar10:PATH, cifar100:PATH, stl10:PATH, tiny-imagenet:DIR"), None, "sim":
        "Where images come from; `--data` sets it.";
    "data.train_images", Whole, AtLeast(0.0), None, "sim":
        "Training images used, the first of each class in equal parts; 0 means all.";
    "data.test_images", Whole, AtLeast(0.0), None, "sim":
        "Held-out images used, likewise.";
    "data.shapes_size", Whole, PIXELS, None, "sim":
        "Side in pixels of the procedural images.";
    "data.shapes_seed", WholeOr("run"), AtLeast(0.0), None, "sim":
        "Which procedural images are drawn: those of this number, or those of the run's own seed.";
    "data.shapes.classes", Whole, Within(1.0, 20.0), Some("10"), "sim":
        "Classes of the procedural images `shapes`.";
    "data.shapes.spacing", Numbers(2), Within(4.0, 48.0), Some("[9.0, 12.0]"), "sim":
        "Distance between neighbouring motifs, lowest and highest, in 24ths of the image's side.";
    "data.shapes.scatter", Number, Within(0.0, 0.5), Some("0.2"), "sim":
        "Largest displacement of a motif from its place, as a part of the spacing.";
    "data.shapes.tilt", Number, Within(0.0, PI), Some("0.25"), "sim":
        "Largest tilt of the motifs in radians.";
    "data.shapes.noise", Number, SHARE, Some("0.04"), "sim":
        "Standard deviation of each channel's noise, where 1 is the whole range.";
    "data.glyphs.alphabets", Whole, MANY, Some("10"), "sim":
        "Styles of strokes of procedural handwriting, glyphs; identities take turns among them.";
    "data.glyphs.identities", Whole, MANY, Some("100"), "sim":
        "Its identities, the classes of training and held-out images.";
    "data.glyphs.unseen", Whole, Within(0.0, 4096.0), Some("20"), "sim":
        "Identities of each alphabet that neither shows: of them verification and one-shot recognition ask.";
    "data.glyphs.writings", Whole, MANY, Some("20"), "sim":
        "Images of each of these.";
    "data.glyphs.forgeries", Whole, Within(0.0, 4096.0), Some("5"), "sim":
        "Forgeries of each of these, by other hands.";
    "data.glyphs.jitter", Number, SHARE, Some("0.06"), "sim":
        "Standard deviation of a control point from its place, where the image's half side is 1; a forger's is three times that.";
    "data.glyphs.noise", Number, SHARE, Some("0.04"), "sim":
        "Standard deviation of each channel's noise, where 1 is the whole range.";
    "data.skip_bad", Switch, Any, None, "sim":
        "Counts files that cannot be decoded and goes on, instead of stopping at the first; `--skip-bad` sets it.";
    "data.held_out", Text, Words(&["test", "val"]), CHOICE, "sim":
        "Which folder of folder:DIR is held out where both are there; left out: test.";
    "data.exif", Switch, Any, Some("false"), "sim":
        "Turns images of folder:DIR as their EXIF orientation asks, instead of reading them as they are stored.";
    "data.unlabelled", Switch, Any, Some("false"), "sim":
        "Trains on the images of stl10:PATH without labels; kNN and the probe read the labels of its 5,000 training images.";

    "augment.size", Whole, PIXELS, None, "Sec. 3; App. D":
        "Side of a view in pixels.";
    "augment.crop_scale", Numbers(2), AboveTo(0.0, 1.0), None, "Sec. 3":
        "Area of the random crop as a part of the image's, lowest and highest.";
    "augment.flip", Number, SHARE, None, "Sec. 3":
        "Probability of a horizontal flip.";
    "augment.jitter", Number, SHARE, None, "Sec. 3":
        "Probability of colour jitter.";
    "augment.jitter_strength", Numbers(4), Said("0 to 1; the hue's 0 to 0.5"), None, "Sec. 3":
        "Strength of brightness, contrast, saturation and hue, as in torchvision's ColorJitter.";
    "augment.grayscale", Number, SHARE, None, "Sec. 3":
        "Probability of grayscale.";
    "augment.blur", Number, SHARE, None, "Sec. 3; App. D":
        "Probability of Gaussian blur.";
    "augment.blur_sigma", Numbers(2), Above(0.0), None, "Sec. 3":
        "σ of the blur in pixels, lowest and highest.";
    "augment.mean", Numbers(3), Any, None, "the data set":
        "What is subtracted from each channel of values in [0, 1].";
    "augment.std", Numbers(3), Above(0.0), None, "the data set":
        "What each channel is divided by.";
    "augment.finite.flips", Switch, Any, None, "sim":
        "A finite set of views in place of random ones: whether it has both mirror images. 2 to 256 views in all.";
    "augment.finite.scales", Numbers(0), AboveTo(0.0, 1.0), None, "sim":
        "Sides of the square crop as parts of the image's shorter side.";
    "augment.finite.translations", Whole, COUNT, None, "sim":
        "Places of the crop along each axis: n gives n × n.";
    "augment.finite.colours", Fours, Said("factors 0 to 4; hue −0.5 to 0.5"), None, "sim":
        "Colour shifts: factors of brightness, contrast and saturation, and a turn of the hue.";
    "augment.finite.exhaustive", Switch, Any, Some("false"), "sim":
        "Whether view v of a batch is element v of the set instead of a drawn one.";
    "augment.multi_crop.count", Whole, Within(1.0, 64.0), None, "SwAV":
        "Small crops of every image beside its views.";
    "augment.multi_crop.size", Whole, PIXELS, None, "SwAV":
        "Their side in pixels.";
    "augment.multi_crop.crop_scale", Numbers(2), AboveTo(0.0, 1.0), None, "SwAV":
        "Their area as a part of the image's, lowest and highest.";
};
