//! `sim map`: held-out images as trained weights see them, in a plane.

use super::as_given::as_given;
use super::flags::{device_flag, option, path_option, place, switch};
use super::output::Output;
use super::pretrained::{dataset_for, opened, preprocessing_flags, weights_and_images};
use crate::data::{Dataset, Split, first_of_each_class};
use crate::device::Site;
use crate::error::{Error, Result};
use crate::measure::collapse::{is_collapsed, rankme, singular_values, std};
use crate::measure::knn::unit_rows;
use crate::measure::plane::principal_plane;
use crate::measure::tsne::{MOST_POINTS, tsne};
use crate::record::make_folder;
use crate::report::{Map, Mapped, Projector, View, thumbnail_of};
use crate::train::{Pretrained, embed_some};
use clap::{ArgMatches, Command, value_parser};
use ndarray::{Array2, s};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Held-out images of a map where nothing else is said: t-SNE of them takes seconds.
const IMAGES: &str = "1000";
/// Fewer have no neighbourhoods.
const FEWEST: usize = 4;
/// Features whose variance is less than this share of their length differ by rounding alone.
const SAME: f64 = 1e-10;

/// `sim map` and its flags.
pub fn command() -> Command {
    Command::new("map")
        .about("Draw held-out images in a plane, as trained weights see them: PCA and t-SNE")
        .args(weights_and_images())
        .arg(path_option("out", "DIR", "Where map.svg, map.png and map.csv go").default_value("."))
        .arg(
            option("images", "N", "Held-out images at most, the first of each class in equal parts")
                .default_value(IMAGES)
                .value_parser(value_parser!(u64).range(FEWEST as u64..=MOST_POINTS as u64)),
        )
        .arg(switch("projector", "Also write a folder projector/ there, which TensorBoard's projector reads"))
        .arg(switch("projection", "By the projector's output z instead of the pooled backbone features"))
        .args(preprocessing_flags())
        .arg(device_flag())
}

/// Runs `sim map` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let (Some(path), Some(out), Some(images)) = (
        matches.get_one::<PathBuf>("run"),
        matches.get_one::<PathBuf>("out"),
        matches.get_one::<u64>("images"),
    ) else {
        return Ok(2);
    };
    let pretrained = opened(path, matches)?;
    let place = place(matches)?;
    let dataset = dataset_for(&pretrained, matches)?;
    let asked =
        Asked { images: *images as usize, projection: matches.get_flag("projection"), command: as_given() };
    let rows = rows(&dataset, &asked)?;
    let features = features(&pretrained, &dataset, &rows, &place.open()?, &asked)?;
    let map = map_of(&pretrained, &dataset, &rows, &features, &asked)?;
    make_folder(out)?;
    let mut written = map.save(&out.join("map"))?;
    if matches.get_flag("projector") {
        written.extend(
            projector(&map, features, &dataset.test, asked.projection)?.save(&out.join("projector"))?,
        );
    }
    for path in written {
        output.tell_of(&path, &path.display().to_string())?;
    }
    Ok(0)
}

/// The images of `map` with their `features`, for TensorBoard.
fn projector(map: &Map, features: Features, split: &Split, projection: bool) -> Result<Projector> {
    let picture = |image: &Mapped| Ok(thumbnail_of(&*split.image(image.row)?));
    let label = |image: &Mapped| map.classes.get(image.class).cloned().unwrap_or_default();
    Ok(Projector {
        name: if projection { "z" } else { "features" }.into(),
        features: features.rows,
        images: map.images.iter().map(|image| image.name.clone()).collect(),
        labels: map.images.iter().map(label).collect(),
        pictures: map.images.iter().map(picture).collect::<Result<_>>()?,
    })
}

/// What a map is to show.
pub struct Asked {
    /// Images at most.
    pub images: usize,
    /// z instead of the backbone's features.
    pub projection: bool,
    /// Stands below it.
    pub command: String,
}

/// The map of the held-out images of `dataset` by the weights `pretrained`.
///
/// # Errors
/// [`Error::Data`] for too few images, for weights that give all of them the same features, and for
/// such that give no numbers.
pub fn map(pretrained: &Pretrained, dataset: &Dataset, site: &Site, asked: &Asked) -> Result<Map> {
    let rows = rows(dataset, asked)?;
    map_of(pretrained, dataset, &rows, &features(pretrained, dataset, &rows, site, asked)?, asked)
}

/// The held-out images that are shown.
fn rows(dataset: &Dataset, asked: &Asked) -> Result<Vec<usize>> {
    let rows = first_of_each_class(dataset.test.labels(), dataset.classes.len(), asked.images);
    if rows.len() < FEWEST {
        let there = super::count(rows.len(), "held-out image");
        return Err(Error::data(&dataset.name, format!("has {there}; a map needs {FEWEST} at least")));
    }
    Ok(rows)
}

/// Their features, which differ.
fn features(
    pretrained: &Pretrained,
    dataset: &Dataset,
    rows: &[usize],
    site: &Site,
    asked: &Asked,
) -> Result<Features> {
    let features = Features::of(pretrained, &dataset.test, rows, site, asked.projection)?;
    features.check_apart(pretrained)?;
    Ok(features)
}

/// The map of the images `rows` with their `features`.
fn map_of(
    pretrained: &Pretrained,
    dataset: &Dataset,
    rows: &[usize],
    features: &Features,
    asked: &Asked,
) -> Result<Map> {
    let split = &dataset.test;
    let views = views(&features.rows)?;
    let images = rows.iter().map(|row| Mapped {
        row: *row,
        name: name_of(split, *row),
        class: split.label(*row) as usize,
    });
    let mut map = Map {
        title: format!("{} held-out images as {} sees them", rows.len(), shown(&pretrained.path)),
        caption: [
            reading(asked.projection, features.collapsed, dataset.classes.len()),
            format!("{}   ·   sim {}", asked.command, env!("CARGO_PKG_VERSION")),
        ],
        classes: dataset.classes.clone(),
        images: images.collect(),
        views,
        pictures: Default::default(),
    };
    for index in map.shown() {
        map.pictures.insert(index, thumbnail_of(&*split.image(rows[index])?));
    }
    Ok(map)
}

/// Features of images, each divided by its length.
pub struct Features {
    /// (N, D).
    pub rows: Array2<f32>,
    /// Whether the outputs z of these images have collapsed.
    pub collapsed: bool,
}

impl Features {
    /// Those of the images `rows` of `split`, or their outputs z.
    ///
    /// # Errors
    /// [`Error::Data`] for weights that give no numbers, or have no z where it is asked for.
    pub fn of(
        pretrained: &Pretrained,
        split: &Split,
        rows: &[usize],
        site: &Site,
        projection: bool,
    ) -> Result<Features> {
        let augment = pretrained.preprocessing.augment();
        let mut found = (Array2::zeros((0, 0)), Array2::zeros((0, 0)));
        let mut headless = false;
        site.guard(|| {
            let model = pretrained.model(site)?;
            headless = !model.has_projector();
            if projection && headless {
                let what = "has no projector that is known here; leave out --projection";
                return Err(Error::data(&pretrained.path, what));
            }
            // A signal ends the program here, which leaves nothing behind.
            found = embed_some(&model, split, rows, &augment, &AtomicBool::new(false))?;
            Ok(())
        })?;
        let (features, z) = found;
        if !features.iter().chain(&z).all(|value| value.is_finite()) {
            return Err(pretrained.overflow());
        }
        let first = z.slice(s![..z.nrows().min(MOST_POINTS), ..]);
        let spread = std(first) * (z.ncols() as f64).sqrt();
        let collapsed = !headless && is_collapsed(spread, rankme(&singular_values(first)), z.ncols());
        Ok(Features { rows: unit_rows(if projection { z.view() } else { features.view() }), collapsed })
    }

    /// Refuses features that are the same for all images: nothing is near or far then.
    ///
    /// # Errors
    /// [`Error::Data`] naming the weights.
    pub fn check_apart(&self, pretrained: &Pretrained) -> Result<()> {
        let Some(mean) = self.rows.mean_axis(ndarray::Axis(0)) else { return Ok(()) };
        let apart: f64 = (&self.rows - &mean).iter().map(|v| f64::from(*v).powi(2)).sum();
        // One image has nothing to differ from.
        if self.rows.nrows() > 1 && apart <= SAME * self.rows.nrows() as f64 {
            let what = "gives all images the same features, so that none is nearer than another: its outputs have collapsed";
            return Err(Error::data(&pretrained.path, what));
        }
        Ok(())
    }
}

/// The principal plane and t-SNE of rows that differ.
fn views(features: &Array2<f32>) -> Result<Vec<View>> {
    let plane = principal_plane(features)
        .ok_or_else(|| Error::Failure("features of one dimension have no plane".into()))?;
    let places = |of: &Array2<f64>| of.rows().into_iter().map(|row| (row[0], row[1])).collect();
    let share = |axis: usize, which: &str| {
        format!("{which} principal direction: {:.0} % of the variance", 100.0 * plane.shares[axis])
    };
    let pca = View {
        name: "pca",
        title: "PCA: as much of the distances as a plane can hold".into(),
        labels: [share(0, "first"), share(1, "second")],
        places: places(&plane.places),
    };
    let tsne = tsne(features.view(), plane.places.view(), &AtomicBool::new(false))?;
    let tsne = View {
        name: "tsne",
        title: "t-SNE: neighbours stay neighbours".into(),
        labels: ["how far apart groups lie, and how large they are, says nothing".into(), String::new()],
        places: places(&tsne.places),
    };
    Ok(vec![pca, tsne])
}

/// How a map is to be read.
fn reading(projection: bool, collapsed: bool, classes: usize) -> String {
    let which = match classes {
        0 | 1 => "",
        2..=Map::MOST_CLASSES => ", in the colour and shape of its class",
        _ => ", in a colour and shape that several classes share (the CSV names them)",
    };
    let of = if projection { "Outputs z" } else { "Backbone features" };
    let what = format!(
        "A marker for each image{which}; lines lead from some to their \
         pictures. {of}, divided by their length, as kNN compares them."
    );
    match collapsed {
        true => {
            format!("{what} The outputs z have collapsed: the little in which images differ is enlarged.")
        }
        false => what,
    }
}

/// The file of an image from its class's folder on, or its number.
pub fn name_of(split: &Split, row: usize) -> String {
    let Some(path) = split.path(row) else { return row.to_string() };
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// A run as study, arm and seed; a file by its name.
pub fn shown(weights: &Path) -> String {
    let parts: Vec<_> = weights.iter().map(|part| part.to_string_lossy()).collect();
    let of_run = parts.last().is_some_and(|name| name == crate::record::WEIGHTS_FILE);
    let (end, most) = if of_run { (parts.len() - 1, 3) } else { (parts.len(), 1) };
    parts[end.saturating_sub(most)..end].join("/")
}
