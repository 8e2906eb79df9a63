//! t-SNE (van der Maaten & Hinton 2008), exactly: points of many dimensions in the plane, so that
//! near ones stay near.
//!
//! ```text
//! p_j|i ∝ exp(−β_i ‖x_i − x_j‖²), β_i such that 2^entropy = perplexity; p_ij = (p_j|i + p_i|j) / 2n
//! q_ij ∝ 1 / (1 + ‖y_i − y_j‖²);  y minimises Σ p_ij ln(p_ij / q_ij)
//! ```
//!
//! By gradient descent with momentum and gains (Jacobs 1988) as scikit-learn makes it: its defaults
//! and its start, the principal plane. Time and memory are n², and each row sums in a fixed order,
//! so that the places do not depend on the number of threads.

use crate::error::{Result, go_on};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use std::sync::atomic::AtomicBool;

/// Points at most: 32 MiB for p, and some ten seconds of two cores.
pub const MOST_POINTS: usize = 2000;
/// Steps in all, and those at the beginning in which p is [`EXAGGERATION`] times as large.
const STEPS: usize = 1000;
const EARLY: usize = 250;
const EXAGGERATION: f64 = 12.0;
/// Numbers that are summed side by side.
const LANES: usize = 8;
/// A place that no point comes near to.
const AWAY: f64 = 1e100;

/// Places of points, and how well they keep neighbourhoods.
#[derive(Clone, Debug)]
pub struct Tsne {
    /// (n, 2).
    pub places: Array2<f64>,
    /// The Kullback-Leibler divergence of q from p.
    pub divergence: f64,
}

/// The places of `points` (n, D) after `steps` steps, from `start` (n, 2), with neighbourhoods of
/// about `perplexity` points (below n).
///
/// # Errors
/// [`crate::Error::Stopped`] once `stop` is set.
pub fn descend(
    points: ArrayView2<f32>,
    start: ArrayView2<f64>,
    perplexity: f64,
    steps: usize,
    stop: &AtomicBool,
) -> Result<Tsne> {
    let n = points.nrows();
    // Rows of whole lanes: what is added lies so far away that nothing feels it.
    let stride = n.next_multiple_of(LANES);
    let p = neighbourhoods(points, perplexity, stride);
    let rate = (n as f64 / EXAGGERATION / 4.0).max(50.0);
    let mut y = [0, 1].map(|axis| start.column(axis).to_vec());
    y.iter_mut().for_each(|axis| axis.resize(stride, AWAY));
    let (mut update, mut gains) = ([vec![0.0f64; n], vec![0.0; n]], [vec![1.0f64; n], vec![1.0; n]]);
    for step in 0..steps {
        go_on(stop)?;
        if step == EARLY {
            (update, gains) = ([vec![0.0; n], vec![0.0; n]], [vec![1.0; n], vec![1.0; n]]);
        }
        let (exaggeration, momentum) = if step < EARLY { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        let rows = pulls(&p, &y, n);
        let all: f64 = rows.iter().map(|row| row.weight).sum();
        for axis in 0..2 {
            for (i, row) in rows.iter().enumerate() {
                let gradient = 4.0 * (exaggeration * row.towards[axis] - row.away[axis] / all);
                let (update, gain) = (&mut update[axis][i], &mut gains[axis][i]);
                *gain = if *update * gradient < 0.0 { *gain + 0.2 } else { (*gain * 0.8).max(0.01) };
                *update = momentum * *update - rate * *gain * gradient;
                y[axis][i] += *update;
            }
        }
    }
    let places = Array2::from_shape_fn((n, 2), |(i, axis)| y[axis][i]);
    Ok(Tsne { places, divergence: divergence(&p, &y, n) })
}

/// The usual map of `points` (n, D), n being 4 at least and [`MOST_POINTS`] at most: from their
/// principal plane `start` (n, 2), with a perplexity of 30 or, for few points, a third of them.
///
/// # Errors
/// As [`descend`].
pub fn tsne(points: ArrayView2<f32>, start: ArrayView2<f64>, stop: &AtomicBool) -> Result<Tsne> {
    let perplexity = 30f64.min((points.nrows() as f64 - 1.0) / 3.0);
    let first = start.column(0);
    let mean = first.mean().unwrap_or(0.0);
    let spread = (first.mapv(|v| (v - mean).powi(2)).mean().unwrap_or(0.0)).sqrt().max(f64::MIN_POSITIVE);
    descend(points, start.mapv(|v| 1e-4 * v / spread).view(), perplexity, STEPS, stop)
}

/// p, (n, stride), row by row.
fn neighbourhoods(points: ArrayView2<f32>, perplexity: f64, stride: usize) -> Vec<f64> {
    let n = points.nrows();
    let wide = |row: ndarray::ArrayView1<f32>| row.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let rows: Vec<_> = points.rows().into_iter().map(wide).collect();
    let mut conditional = vec![0.0; n * n];
    conditional.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        let far = |other: &Vec<f64>| other.iter().zip(&rows[i]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        row.iter_mut().zip(&rows).for_each(|(square, other)| *square = far(other));
        shares(row, i, perplexity);
    });
    // Each row sums to 1.
    let at = |i: usize, j: usize| conditional[i * n + j];
    let both = |i: usize, j: usize| ((at(i, j) + at(j, i)) / (2.0 * n as f64)).max(f64::EPSILON);
    let mut p = vec![0.0; n * stride];
    p.par_chunks_mut(stride.max(1)).enumerate().for_each(|(i, row)| {
        row[..n].iter_mut().enumerate().filter(|(j, _)| *j != i).for_each(|(j, p)| *p = both(i, j));
    });
    p
}

/// From squared distances of point `own` the p_j|i of one row, whose entropy is ln `perplexity`;
/// where it cannot be, of the nearest that can.
fn shares(row: &mut [f64], own: usize, perplexity: f64) {
    let squares = row.to_vec();
    // Distances count from the nearest: of far ones all shares would be zero.
    let others = || squares.iter().enumerate().filter(|(j, _)| *j != own).map(|(_, square)| *square);
    let nearest = others().fold(f64::INFINITY, f64::min);
    let (mut low, mut high, mut beta) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..100 {
        row.iter_mut().zip(&squares).for_each(|(share, square)| *share = (-beta * (square - nearest)).exp());
        row[own] = 0.0;
        let sum: f64 = row.iter().sum();
        let mean =
            row.iter().zip(&squares).map(|(share, square)| share * (square - nearest)).sum::<f64>() / sum;
        row.iter_mut().for_each(|share| *share /= sum);
        let surplus = sum.ln() + beta * mean - perplexity.ln();
        if surplus.abs() <= 1e-5 {
            return;
        }
        if surplus > 0.0 {
            low = beta
        } else {
            high = beta
        }
        beta = if high.is_finite() { (low + high) / 2.0 } else { beta * 2.0 };
    }
}

/// What point i feels: Σ p q (y_i − y_j), Σ q² (y_i − y_j) and Σ q over j, q being 1/(1 + ‖·‖²).
struct Pull {
    towards: [f64; 2],
    away: [f64; 2],
    weight: f64,
}

/// Of every point; a row of `p` is as long as an axis of `y`, which ends on places [`AWAY`].
fn pulls(p: &[f64], y: &[Vec<f64>; 2], n: usize) -> Vec<Pull> {
    p.par_chunks(y[0].len().max(1)).take(n).enumerate().map(|(i, p)| pull(p, y, i)).collect()
}

fn pull(p: &[f64], [x, y]: &[Vec<f64>; 2], i: usize) -> Pull {
    let mut sums = [[0.0; LANES]; 5];
    let ((p, _), (xs, _), (ys, _)) = (p.as_chunks(), x.as_chunks(), y.as_chunks());
    for ((p, xs), ys) in p.iter().zip(xs).zip(ys) {
        add(&mut sums, p, [xs, ys], (x[i], y[i]));
    }
    let [weight, tx, ty, ax, ay] = sums.map(|lanes| lanes.iter().sum::<f64>());
    // The point itself is among the others, with q = 1 and no distance.
    Pull { towards: [tx, ty], away: [ax, ay], weight: weight - 1.0 }
}

#[inline(always)]
fn add(sums: &mut [[f64; LANES]; 5], p: &[f64; LANES], [x, y]: [&[f64; LANES]; 2], own: (f64, f64)) {
    for lane in 0..LANES {
        let (dx, dy) = (own.0 - x[lane], own.1 - y[lane]);
        let q = 1.0 / (1.0 + dx * dx + dy * dy);
        let (near, far) = (p[lane] * q, q * q);
        sums[0][lane] += q;
        sums[1][lane] += near * dx;
        sums[2][lane] += near * dy;
        sums[3][lane] += far * dx;
        sums[4][lane] += far * dy;
    }
}

/// Σ p ln(p/q).
fn divergence(p: &[f64], y: &[Vec<f64>; 2], n: usize) -> f64 {
    let all: f64 = pulls(p, y, n).iter().map(|row| row.weight).sum();
    let q = |i: usize, j: usize| {
        let square = (y[0][i] - y[0][j]).powi(2) + (y[1][i] - y[1][j]).powi(2);
        (1.0 / (1.0 + square) / all).max(f64::EPSILON)
    };
    let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|(i, j)| i != j);
    pairs.map(|(i, j)| (p[i * y[0].len() + j], q(i, j))).map(|(p, q)| p * (p / q).ln()).sum()
}
