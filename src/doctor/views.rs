//! What the views are like: how far two views of an image are from each other beside views of two
//! images, and what the other view is found by.

use super::looks::{FLAT, deviation};
use crate::augment::{self, CropBox, Scratch};
use crate::data::Split;
use crate::device::Site;
use crate::error::{Error, Result, go_on};
use crate::measure::knn::unit_rows;
use crate::recipe::Recipe;
use crate::rng::{Purpose, stream};
use crate::train::{BATCH, Model};
use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::AtomicBool;

/// Images whose views are compared at most: every one with every other.
const IMAGES: usize = 256;
/// Pairs of crops that are drawn of each.
const CROPS: u64 = 16;
/// Names the streams of these measurements.
const KEY: u64 = 1 << 40;

/// Numbers about two views each of some training images, as the recipe draws them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ViewFacts {
    /// Images.
    pub images: usize,
    /// The share of pairs of crops of an image that have no pixel in common.
    pub apart: f64,
    /// The part of the smaller crop of a pair that the other shows too, in the mean.
    pub overlap: f64,
    /// The share of views that are of nearly one colour.
    pub empty: f64,
    /// By normalised pixels.
    pub pixels: Distances,
    /// By the backbone's features at its initial weights.
    pub features: Distances,
    /// By the mean and the standard deviation of the three channels alone.
    pub colours: Distances,
    /// The share of other views that guessing finds.
    pub chance: f64,
}

/// How far views are from each other, by some of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distances {
    /// The mean squared distance of two views of an image over that of views of two images: 0 where
    /// both views are the same, 1 where they are as far apart as strangers. None where all are the
    /// same.
    pub ratio: Option<f64>,
    /// The share of views whose nearest among the second views of all images is that of their own.
    pub found: f64,
}

/// The facts of the views that `recipe` draws of the first images of each class in `split`.
///
/// # Errors
/// [`Error::Data`] for an image that cannot be decoded, [`Error::Stopped`] once `stop` is set,
/// [`Error::Usage`] for a network that cannot be made.
pub fn facts(split: &Split, recipe: &Recipe, site: &Site, stop: &AtomicBool) -> Result<ViewFacts> {
    let step = split.len().div_ceil(IMAGES).max(1);
    let indices: Vec<usize> = (0..split.len()).step_by(step).collect();
    let both = [0, 1].map(|view| views(split, &indices, recipe, view, stop));
    let [first, second] = both;
    let (first, second) = (first?, second?);
    let crops = crops(split, &indices, recipe)?;
    let empty =
        |views: &Array2<f32>| views.rows().into_iter().filter(|row| is_empty(&row.to_vec(), recipe)).count();
    let features = [features(&first, recipe, site, stop)?, features(&second, recipe, site, stop)?];
    let [a, b] = &features;
    let [of_first, of_second] = [&first, &second].map(colours);
    let (of_first, of_second) = standardised(of_first, of_second);
    let n = indices.len();
    Ok(ViewFacts {
        images: n,
        apart: crops.0,
        overlap: crops.1,
        empty: (empty(&first) + empty(&second)) as f64 / (2 * n.max(1)) as f64,
        pixels: distances(first.view(), second.view()),
        features: distances(unit_rows(a.view()).view(), unit_rows(b.view()).view()),
        colours: distances(of_first.view(), of_second.view()),
        chance: 1.0 / n.max(1) as f64,
    })
}

/// View `view` of each of the images `indices`, (N, size · size · 3), normalised.
fn views(
    split: &Split,
    indices: &[usize],
    recipe: &Recipe,
    view: u64,
    stop: &AtomicBool,
) -> Result<Array2<f32>> {
    let config = &recipe.augment;
    let len = config.size * config.size * 3;
    let mut out = vec![0.0; indices.len() * len];
    out.par_chunks_mut(len).zip(indices).try_for_each(|(out, index)| {
        go_on(stop)?;
        let mut rng = stream(recipe.seed, Purpose::Measure, KEY + view, *index as u64);
        augment::view(config, &*split.image(*index)?, &mut rng, &mut Scratch::default(), out);
        Ok::<_, Error>(())
    })?;
    matrix(indices.len(), len, out)
}

fn matrix(rows: usize, columns: usize, values: Vec<f32>) -> Result<Array2<f32>> {
    Array2::from_shape_vec((rows, columns), values).map_err(|e| Error::Failure(e.to_string()))
}

/// The share of pairs of crops without a common pixel, and the mean part of the smaller one that is
/// common.
fn crops(split: &Split, indices: &[usize], recipe: &Recipe) -> Result<(f64, f64)> {
    let (mut apart, mut common, mut pairs) = (0usize, 0.0, 0usize);
    for index in indices {
        let image = split.image(*index)?;
        let mut rng = stream(recipe.seed, Purpose::Measure, KEY + 2, *index as u64);
        for _ in 0..CROPS {
            let mut draw = || augment::shown_part(&recipe.augment, image.height, image.width, &mut rng);
            let (a, b) = (draw(), draw());
            let area = |part: &CropBox| (part.height * part.width).max(1);
            let both = common_pixels(&a, &b);
            apart += usize::from(both == 0);
            common += both as f64 / area(&a).min(area(&b)) as f64;
            pairs += 1;
        }
    }
    let pairs = pairs.max(1) as f64;
    Ok((apart as f64 / pairs, common / pairs))
}

fn common_pixels(a: &CropBox, b: &CropBox) -> usize {
    let along = |a: usize, la: usize, b: usize, lb: usize| (a + la).min(b + lb).saturating_sub(a.max(b));
    along(a.top, a.height, b.top, b.height) * along(a.left, a.width, b.left, b.width)
}

/// Whether a normalised view is of nearly one colour.
fn is_empty(view: &[f32], recipe: &Recipe) -> bool {
    let (mean, std) = (recipe.augment.mean, recipe.augment.std);
    let byte = |channel: usize, value: &f32| {
        (255.0 * (value * std[channel] + mean[channel])).round().clamp(0.0, 255.0) as u8
    };
    let spread = |channel: usize| deviation(view.iter().skip(channel).step_by(3).map(|v| byte(channel, v)));
    (0..3).all(|channel| spread(channel) < FLAT)
}

/// Features (N, D) of views (N, size · size · 3) at the initial weights of `recipe`.
fn features(views: &Array2<f32>, recipe: &Recipe, site: &Site, stop: &AtomicBool) -> Result<Array2<f32>> {
    let model = Model::of(recipe, &site.host_kernel(recipe.encoder.precision)?)?.on(site)?;
    let (size, batch) = (recipe.augment.size, model.evaluation_batch(BATCH)?);
    let mut out = Vec::new();
    for chunk in views.axis_chunks_iter(Axis(0), batch) {
        go_on(stop)?;
        let x: Vec<f32> = chunk.iter().copied().collect();
        let x = Tensor::from_vec(x, (chunk.nrows(), size, size, 3), &Device::Cpu)?;
        out.extend(model.evaluate(&x)?.0.flatten_all()?.to_vec1::<f32>()?);
    }
    matrix(views.nrows(), model.features_dim(), out)
}

/// Mean and standard deviation of the channels of views (N, …), (N, 6).
fn colours(views: &Array2<f32>) -> Array2<f32> {
    let pixels = (views.ncols() / 3).max(1) as f64;
    let mut out = Array2::zeros((views.nrows(), 6));
    for (row, mut numbers) in views.rows().into_iter().zip(out.rows_mut()) {
        for channel in 0..3 {
            let values = || row.slice(s![channel..;3]).to_vec().into_iter().map(f64::from);
            let mean = values().sum::<f64>() / pixels;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / pixels;
            (numbers[channel], numbers[3 + channel]) = (mean as f32, variance.sqrt() as f32);
        }
    }
    out
}

/// Both with their columns divided by the standard deviation over all rows, where that is not 0.
fn standardised(mut a: Array2<f32>, mut b: Array2<f32>) -> (Array2<f32>, Array2<f32>) {
    for column in 0..a.ncols() {
        let all = || a.column(column).to_vec().into_iter().chain(b.column(column).to_vec()).map(f64::from);
        let n = all().count().max(1) as f64;
        let mean = all().sum::<f64>() / n;
        let deviation = (all().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        if deviation > 0.0 {
            a.column_mut(column).mapv_inplace(|value| (f64::from(value) / deviation) as f32);
            b.column_mut(column).mapv_inplace(|value| (f64::from(value) / deviation) as f32);
        }
    }
    (a, b)
}

/// How far rows of `a` (N, D) are from those of `b` (N, D), the other views of the same images.
fn distances(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Distances {
    let n = a.nrows();
    let between = |i: usize, j: usize| -> f64 {
        a.row(i).iter().zip(b.row(j)).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    };
    let rows: Vec<Vec<f64>> =
        (0..n).into_par_iter().map(|i| (0..n).map(|j| between(i, j)).collect()).collect();
    let own: f64 = (0..n).map(|i| rows[i][i]).sum::<f64>() / n.max(1) as f64;
    let all: f64 = rows.iter().flatten().sum();
    let others = (all - own * n as f64) / (n * n.saturating_sub(1)).max(1) as f64;
    // Of equally near ones one in so many is found by chance.
    let finds = |(i, row): (usize, &Vec<f64>)| {
        let nearest = row.iter().copied().fold(f64::INFINITY, f64::min);
        let equal = row.iter().filter(|distance| **distance <= nearest).count().max(1);
        if row[i] <= nearest { 1.0 / equal as f64 } else { 0.0 }
    };
    let found = rows.iter().enumerate().map(finds).sum::<f64>() / n.max(1) as f64;
    Distances { ratio: (others > 0.0 && own.is_finite()).then(|| own / others), found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_ratio_is_0_for_equal_views_and_1_for_strangers() {
        let a = array![[0.0f32, 0.0], [1.0, 0.0], [0.0, 2.0]];
        let same = distances(a.view(), a.view());
        assert_eq!((same.ratio, same.found), (Some(0.0), 1.0));
        // Second views that are those of another image: 1 + 5 + 4 within, the rest between.
        let turned = array![[1.0f32, 0.0], [0.0, 2.0], [0.0, 0.0]];
        let strange = distances(a.view(), turned.view());
        assert!((strange.ratio.unwrap() - (10.0 / 3.0) / (10.0 / 6.0)).abs() < 1e-9, "{strange:?}");
        assert_eq!(strange.found, 0.0);
        let one = array![[3.0f32], [3.0], [3.0]];
        let equal = distances(one.view(), one.view());
        assert_eq!(equal.ratio, None);
        assert!((equal.found - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn crops_share_what_lies_in_both() {
        let part = |top, left, height, width| CropBox { top, left, height, width };
        assert_eq!(common_pixels(&part(0, 0, 4, 4), &part(2, 1, 4, 2)), 4);
        assert_eq!(common_pixels(&part(0, 0, 4, 4), &part(4, 0, 4, 4)), 0);
    }
}
