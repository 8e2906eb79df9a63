//! Batch normalisation and pooling against plain loops in f64, and against the difference quotient.

use crate::support::relative_difference;
use rand::Rng;
use simsiam_em::kernel::{norm, pool};
use simsiam_em::rng::{Purpose, stream};

/// (rows, channels): one row, odd counts, fewer and more channels than a vector, several blocks.
const SHAPES: [(usize, usize); 8] =
    [(1, 1), (2, 5), (7, 16), (33, 17), (64, 48), (65, 512), (1025, 32), (5000, 3)];

fn random(len: usize, seed: u64, scale: f32, shift: f32) -> Vec<f32> {
    let mut rng = stream(seed, Purpose::Test, 1, 0);
    (0..len).map(|_| scale * (rng.random::<f32>() - 0.5) + shift).collect()
}

/// Per channel, the sum over rows of `term(index of the number, channel)`, in f64.
fn channel_sums(len: usize, channels: usize, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    (0..len).for_each(|i| sums[i % channels] += term(i, i % channels));
    sums
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

#[test]
fn statistics_are_those_of_f64_even_far_from_zero() {
    for (rows, channels) in SHAPES {
        // A mean 170 times the spread: as Σx² − (Σx)²/n the variance would lose four of its digits.
        let x = random(rows * channels, 1, 2.0, 100.0);
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        let mut scratch = vec![f32::NAN; norm::scratch_len(rows, channels)];
        norm::statistics(&x, &mut mean, &mut variance, &mut scratch);
        let n = rows as f64;
        let expected = channel_sums(x.len(), channels, |i, _| f64::from(x[i]) / n);
        let spread = channel_sums(x.len(), channels, |i, c| (f64::from(x[i]) - expected[c]).powi(2) / n);
        assert!(relative_difference(&mean, &narrow(&expected)) < 1e-6, "{rows}×{channels}");
        assert!(relative_difference(&variance, &narrow(&spread)) < 1e-4, "{rows}×{channels}");
    }
}

#[test]
fn applying_equals_plain_loops_with_and_without_residual_and_relu() {
    for (rows, channels) in SHAPES {
        let [x, residual] = [2, 3].map(|seed| random(rows * channels, seed, 4.0, 0.3));
        let [mean, scale, shift] = [4, 5, 6].map(|seed| random(channels, seed, 2.0, 0.1));
        for (with_residual, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut y = vec![f32::NAN; x.len()];
            norm::apply(&x, &mean, &scale, &shift, with_residual.then_some(&residual[..]), relu, &mut y);
            let expected: Vec<f32> = (0..x.len())
                .map(|i| {
                    let c = i % channels;
                    let r = if with_residual { residual[i] } else { 0.0 };
                    let value = (x[i] - mean[c]) * scale[c] + shift[c] + r;
                    if relu { value.max(0.0) } else { value }
                })
                .collect();
            assert!(relative_difference(&y, &expected) < 1e-6, "{rows}×{channels} {with_residual} {relu}");
        }
    }
}

#[test]
fn not_a_number_passes_through_the_relu() {
    let mut y = [0.0; 2];
    norm::apply(&[f32::NAN, 1.0], &[0.0], &[1.0], &[0.0], None, true, &mut y);
    assert!(y[0].is_nan() && y[1] == 1.0);
}

#[test]
fn gradient_sums_mask_and_sum_as_plain_loops_do() {
    for (rows, channels) in SHAPES {
        let len = rows * channels;
        let [gradient, other, y, x] = [7, 8, 9, 10].map(|seed| random(len, seed, 2.0, 0.05));
        let mean = random(channels, 11, 1.0, 0.0);
        for (with_other, with_relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut g = gradient.clone();
            let mut sums = vec![f64::NAN; 2 * channels];
            let mut scratch = vec![f32::NAN; norm::scratch_len(rows, channels)];
            norm::gradient_sums(
                &mut g,
                with_other.then_some(&other[..]),
                with_relu.then_some(&y[..]),
                &x,
                &mean,
                &mut sums,
                &mut scratch,
            );
            let expected: Vec<f32> = (0..len)
                .map(|i| {
                    let sum = gradient[i] + if with_other { other[i] } else { 0.0 };
                    if with_relu && y[i] <= 0.0 { 0.0 } else { sum }
                })
                .collect();
            assert_eq!(g, expected, "{rows}×{channels}");
            let sum = channel_sums(len, channels, |i, _| f64::from(g[i]));
            let product =
                channel_sums(len, channels, |i, c| f64::from(g[i]) * (f64::from(x[i]) - f64::from(mean[c])));
            // Sums cancel: the error is measured against the number of terms.
            let allowed = 1e-6 * rows as f64;
            for c in 0..channels {
                assert!((sums[c] - sum[c]).abs() < allowed, "{rows}×{channels}");
                assert!((sums[channels + c] - product[c]).abs() < allowed, "{rows}×{channels}");
            }
        }
    }
}

#[test]
fn both_ways_to_apply_the_gradient_equal_plain_loops() {
    for (rows, channels) in SHAPES {
        let [g, x] = [12, 13].map(|seed| random(rows * channels, seed, 2.0, 0.1));
        let [a, b, c, mean] = [14, 15, 16, 17].map(|seed| random(channels, seed, 2.0, 0.0));
        let expected: Vec<f32> = (0..g.len())
            .map(|i| {
                let k = i % channels;
                a[k] * g[i] + b[k] * (x[i] - mean[k]) + c[k]
            })
            .collect();
        let mut dx = vec![f32::NAN; g.len()];
        norm::gradient_apply(&g, &x, [&a, &b, &c, &mean], &mut dx);
        let mut in_place = g.clone();
        norm::gradient_apply_in_place(&mut in_place, &x, [&a, &b, &c, &mean]);
        assert!(relative_difference(&dx, &expected) < 1e-6, "{rows}×{channels}");
        assert_eq!(dx, in_place, "{rows}×{channels}");
    }
}

/// The 3×3 windows with stride 2 and padding 1: for each output, the inputs under it, in order.
fn windows((height, width): (usize, usize)) -> Vec<Vec<usize>> {
    let under = |o: usize, n: usize| (0..n).filter(move |i| i + 1 >= 2 * o && *i <= 2 * o + 1);
    let mut all = Vec::new();
    for oy in 0..height.div_ceil(2) {
        for ox in 0..width.div_ceil(2) {
            all.push(under(oy, height).flat_map(|y| under(ox, width).map(move |x| y * width + x)).collect());
        }
    }
    all
}

#[test]
fn max_pooling_and_its_gradient_equal_plain_loops() {
    for (batch, height, width, channels) in [(1, 1, 1, 1), (2, 7, 5, 3), (3, 8, 8, 16), (1, 16, 11, 21)] {
        let windows = windows((height, width));
        assert_eq!(windows.len(), pool::max_pool_side(height) * pool::max_pool_side(width));
        let (pixels, outputs) = (height * width, windows.len());
        // After a ReLU: many zeros, so many windows whose largest value stands more than once.
        let x: Vec<f32> =
            random(batch * pixels * channels, 18, 2.0, 0.0).into_iter().map(|v| v.max(0.0)).collect();
        let [dy, other] = [19, 20].map(|seed| random(batch * outputs * channels, seed, 2.0, 0.0));
        let mut y = vec![f32::NAN; dy.len()];
        pool::max_pool(&x, (height, width, channels), &mut y);
        let mut expected = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        for (at, y) in expected.0.iter_mut().enumerate() {
            let (image, c) = (at / channels / outputs, at % channels);
            let tap = |pixel: &usize| (image * pixels + pixel) * channels + c;
            let taps: Vec<usize> = windows[at / channels % outputs].iter().map(tap).collect();
            *y = taps.iter().map(|t| x[*t]).fold(f32::NEG_INFINITY, f32::max);
            let first = taps.iter().find(|t| x[**t] == *y).unwrap();
            expected.1[*first] += dy[at] + other[at];
        }
        assert_eq!(y, expected.0);
        let mut dx = vec![f32::NAN; x.len()];
        pool::max_pool_gradient(&dy, Some(&other), &x, &y, (height, width, channels), &mut dx);
        assert_eq!(dx, expected.1, "{height}×{width}×{channels}");
    }
}

#[test]
fn average_pooling_and_its_gradient_are_transposed_maps() {
    let (batch, pixels, channels) = (3, 49, 19);
    let x = random(batch * pixels * channels, 21, 2.0, 0.1);
    let dy = random(batch * channels, 22, 2.0, 0.1);
    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
    pool::average_pool(&x, pixels, channels, &mut y);
    pool::average_pool_gradient(&dy, pixels, channels, &mut dx);
    for (at, y) in y.iter().enumerate() {
        let image = at / channels * pixels;
        let mean: f32 = (image..image + pixels).map(|p| x[p * channels + at % channels]).sum::<f32>() / 49.0;
        assert!((y - mean).abs() < 1e-6);
    }
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    assert!((product(&y, &dy) - product(&x, &dx)).abs() < 1e-5);
}
