//! `sim neighbours`: held-out images beside the training images that trained weights find most like
//! them.

use super::flags::{device_flag, option, path_option, place, switch};
use super::map::{Features, name_of, shown};
use super::output::Output;
use super::pretrained::{dataset_for, opened, preprocessing_flags, weights_and_images};
use crate::data::{Dataset, first_of_each_class};
use crate::device::Site;
use crate::error::Result;
use crate::measure::knn::nearest;
use crate::record::{csv_bytes, make_folder, write_durable};
use crate::report::{Row, Tile, contact_sheet, tile_of};
use crate::train::Pretrained;
use clap::{ArgMatches, Command, value_parser};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// `sim neighbours` and its flags.
pub fn command() -> Command {
    let count = |name: &'static str, help: &'static str, default: &'static str, most: u64| {
        option(name, "N", help).default_value(default).value_parser(value_parser!(u64).range(1..=most))
    };
    Command::new("neighbours")
        .about("Show held-out images beside their nearest training images, as trained weights see them")
        .args(weights_and_images())
        .arg(path_option("out", "DIR", "Where neighbours.png and neighbours.csv go").default_value("."))
        .arg(count("queries", "Held-out images, the first of each class in equal parts", "20", 500))
        .arg(count("nearest", "Training images beside each", "8", 30))
        .arg(switch("projection", "By the projector's output z instead of the pooled backbone features"))
        .args(preprocessing_flags())
        .arg(device_flag())
}

/// What is shown.
pub struct Asked {
    /// Held-out images.
    pub queries: usize,
    /// Training images beside each.
    pub nearest: usize,
    /// By z instead of the backbone's features.
    pub projection: bool,
}

/// Runs `sim neighbours` as `matches` say; the exit code.
pub fn run(matches: &ArgMatches, output: &Output) -> Result<i32> {
    let count = |name: &str| matches.get_one::<u64>(name).map(|n| *n as usize);
    let (Some(path), Some(out), Some(queries), Some(nearest)) = (
        matches.get_one::<PathBuf>("run"),
        matches.get_one::<PathBuf>("out"),
        count("queries"),
        count("nearest"),
    ) else {
        return Ok(2);
    };
    let pretrained = opened(path, matches)?;
    let place = place(matches)?;
    let dataset = dataset_for(&pretrained, matches)?;
    let asked = Asked { queries, nearest, projection: matches.get_flag("projection") };
    let found = neighbours(&pretrained, &dataset, &place.open()?, &asked)?;
    make_folder(out)?;
    for (name, bytes) in
        [("neighbours.png", found.sheet(&pretrained, &dataset)?), ("neighbours.csv", found.csv(&dataset)?)]
    {
        let path = out.join(name);
        write_durable(&path, &bytes)?;
        output.tell_of(&path, &path.display().to_string())?;
    }
    if let Some(said) = found.in_words(&dataset) {
        output.line(&said)?;
    }
    Ok(0)
}

/// Held-out images, each with its nearest training images and their cosines.
pub struct Neighbours(Vec<(usize, Vec<(usize, f32)>)>);

/// The neighbours of held-out images of `dataset` by the weights `pretrained`.
///
/// # Errors
/// [`crate::Error::Data`] for weights that give all images the same features, or no numbers.
pub fn neighbours(
    pretrained: &Pretrained,
    dataset: &Dataset,
    site: &Site,
    asked: &Asked,
) -> Result<Neighbours> {
    let queries = first_of_each_class(dataset.test.labels(), dataset.classes.len(), asked.queries);
    let all: Vec<usize> = (0..dataset.labelled().len()).collect();
    let of = |split, rows: &[usize]| Features::of(pretrained, split, rows, site, asked.projection);
    let (train, test) = (of(dataset.labelled(), &all)?, of(&dataset.test, &queries)?);
    train.check_apart(pretrained)?;
    let found = nearest(train.rows.view(), test.rows.view(), asked.nearest, &AtomicBool::new(false))?;
    Ok(Neighbours(queries.into_iter().zip(found).collect()))
}

impl Neighbours {
    /// How many neighbours there are, and how many have their image's class; none where there are
    /// no classes to compare.
    fn right(&self, dataset: &Dataset) -> Option<(usize, usize)> {
        let same = |query: usize, row: usize| dataset.test.label(query) == dataset.labelled().label(row);
        let pairs = || self.0.iter().flat_map(|(query, near)| near.iter().map(|(row, _)| (*query, *row)));
        let right = pairs().filter(|(query, row)| same(*query, *row)).count();
        (dataset.classes.len() > 1).then(|| (pairs().count(), right))
    }

    fn in_words(&self, dataset: &Dataset) -> Option<String> {
        let (all, right) = self.right(dataset)?;
        let share = 100.0 * right as f64 / all.max(1) as f64;
        Some(format!("{right} of {all} neighbours have the class of their image ({share:.0} %)"))
    }

    /// The contact sheet as PNG bytes.
    ///
    /// # Errors
    /// [`crate::Error::Data`] where an image cannot be decoded, [`crate::Error::Usage`] for more
    /// than a picture can hold.
    pub fn sheet(&self, pretrained: &Pretrained, dataset: &Dataset) -> Result<Vec<u8>> {
        let Dataset { test, classes, .. } = dataset;
        let train = dataset.labelled();
        let labelled = classes.len() > 1;
        let by = shown(&pretrained.path);
        let mut heading = vec![format!("Held-out images, each beside its nearest training images by {by}")];
        heading.push(match self.in_words(dataset) {
            Some(said) => format!("Blue with a tick: the same class. Orange with a cross: another. {said}."),
            None => "Below each: the cosine of its features with those of the image.".into(),
        });
        let tile = |query: usize, row: usize, cosine: f32| -> Result<Tile> {
            let right = labelled.then(|| test.label(query) == train.label(row));
            let note = match right {
                Some(_) => classes[train.label(row) as usize].clone(),
                None => format!("{cosine:.3}"),
            };
            Ok(Tile { image: tile_of(&*train.image(row)?), note, right })
        };
        let row = |(query, near): &(usize, Vec<(usize, f32)>)| -> Result<Row> {
            let name =
                if labelled { classes[test.label(*query) as usize].clone() } else { query.to_string() };
            let own: Tile = tile_of(&*test.image(*query)?).into();
            let near = near.iter().map(|(row, cosine)| tile(*query, *row, *cosine)).collect::<Result<_>>()?;
            Ok(Row { name, groups: vec![vec![own], near] })
        };
        contact_sheet(&heading, &self.0.iter().map(row).collect::<Result<Vec<_>>>()?)
    }

    /// A row for each pair, the nearest first.
    fn csv(&self, dataset: &Dataset) -> Result<Vec<u8>> {
        let Dataset { test, classes, .. } = dataset;
        let train = dataset.labelled();
        let header =
            ["row", "image", "label", "rank", "neighbour", "neighbour_image", "neighbour_label", "cosine"];
        let mut rows = vec![header.map(String::from).to_vec()];
        for (query, near) in &self.0 {
            for (rank, (row, cosine)) in near.iter().enumerate() {
                let class = |label: u32| classes.get(label as usize).cloned().unwrap_or_default();
                rows.push(vec![
                    query.to_string(),
                    name_of(test, *query),
                    class(test.label(*query)),
                    (rank + 1).to_string(),
                    row.to_string(),
                    name_of(train, *row),
                    class(train.label(*row)),
                    format!("{cosine:.6}"),
                ]);
            }
        }
        csv_bytes(rows)
    }
}
