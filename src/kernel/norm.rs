//! Batch normalisation with ReLU and residual addition, in the fewest passes over memory.
//!
//! x is (rows, C), one view's pixels: statistics are per channel over the rows of a view, because
//! the views pass through the encoder separately (Sec. 3). Forward: y = ReLU(γ·(x − μ)/√(σ² + ε) +
//! β + r). Work is cut into blocks of rows fixed by the shape; a block's second moment is taken
//! about its own mean, and blocks are merged in order in f64 (Chan et al. 1979), so nothing cancels
//! and nothing depends on the number of threads.

use rayon::prelude::*;

/// PyTorch's ε.
pub const EPSILON: f64 = 1e-5;

/// Numbers per block: a block and its like stay in the second-level cache.
const BLOCK_LEN: usize = 1 << 14;

/// Channels that are summed side by side in registers. The wide group reads whole rows of narrow
/// images in the order in which they lie, which is what memory is fast at.
const LANES: usize = 16;
const WIDE_LANES: usize = 4 * LANES;

fn block_rows(channels: usize) -> usize {
    (BLOCK_LEN / channels).max(1)
}

/// Numbers of scratch that the passes over (rows, channels) need.
pub fn scratch_len(rows: usize, channels: usize) -> usize {
    rows.div_ceil(block_rows(channels)) * 2 * channels
}

/// Compiles a function for AVX-512, AVX2 and the baseline, and calls what the machine has. All
/// three do the same operations in the same order; Rust never fuses a multiplication with an
/// addition.
macro_rules! for_each_instruction_set {
    (fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $type),*) { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) { body($($arg),*) }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the feature was detected just now; the function is safe otherwise.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

/// Mean and biased variance of each channel of x (rows, C).
pub fn statistics(x: &[f32], mean: &mut [f32], variance: &mut [f32], scratch: &mut [f32]) {
    let rows = (x.len() / mean.len()) as f64;
    moments(x, mean.len(), scratch, |c, m, m2| (mean[c], variance[c]) = (m as f32, (m2 / rows) as f32));
}

/// Gives `take` each channel of x (rows, C) with its mean and its sum of squares about the mean.
pub fn moments(x: &[f32], channels: usize, scratch: &mut [f32], mut take: impl FnMut(usize, f64, f64)) {
    let step = block_rows(channels) * channels;
    x.par_chunks(step).zip(scratch.par_chunks_mut(2 * channels)).for_each(|(x, out)| {
        let (mean, moment) = out.split_at_mut(channels);
        block_moments(x, mean, moment);
    });
    for c in 0..channels {
        let (mut count, mut m, mut m2) = (0f64, 0f64, 0f64);
        for (x, block) in x.chunks(step).zip(scratch.chunks(2 * channels)) {
            let (n, delta) = ((x.len() / channels) as f64, f64::from(block[c]) - m);
            let total = count + n;
            m += delta * n / total;
            m2 += f64::from(block[channels + c]) + delta * delta * count * n / total;
            count = total;
        }
        take(c, m, m2);
    }
}

/// Rows that are summed in f32 before the sum goes on in f64.
const RUN: usize = 32;

/// Sums `terms` of each row over the rows of two (rows, C) arrays, for `N` channels from `at`.
#[inline(always)]
fn lane_sums<const N: usize, const TERMS: usize>(
    a: &[f32],
    b: &[f32],
    channels: usize,
    at: usize,
    terms: impl Fn(usize, f32, f32) -> [f32; TERMS],
) -> [[f64; N]; TERMS] {
    let mut sums = [[0f64; N]; TERMS];
    for (a, b) in a.chunks(RUN * channels).zip(b.chunks(RUN * channels)) {
        let mut run = [[0f32; N]; TERMS];
        for (a, b) in a.chunks_exact(channels).zip(b.chunks_exact(channels)) {
            let (a, b) = (&a[at..at + N], &b[at..at + N]);
            for i in 0..N {
                let values = terms(i, a[i], b[i]);
                for t in 0..TERMS {
                    run[t][i] += values[t];
                }
            }
        }
        for t in 0..TERMS {
            for i in 0..N {
                sums[t][i] += f64::from(run[t][i]);
            }
        }
    }
    sums
}

/// Calls `lanes::<N>(…, at)` for groups of [`LANES`] channels, then for each channel that is left.
macro_rules! over_lanes {
    ($lanes:ident, $channels:expr, ($($arg:expr),*)) => {
        let mut at = 0;
        while at < $channels {
            if at + WIDE_LANES <= $channels {
                $lanes::<WIDE_LANES>($($arg),*, at);
                at += WIDE_LANES;
            } else if at + 2 * LANES <= $channels {
                $lanes::<{ 2 * LANES }>($($arg),*, at);
                at += 2 * LANES;
            } else if at + LANES <= $channels {
                $lanes::<LANES>($($arg),*, at);
                at += LANES;
            } else {
                $lanes::<1>($($arg),*, at);
                at += 1;
            }
        }
    };
}

for_each_instruction_set! {
    fn block_moments(x: &[f32], mean: &mut [f32], moment: &mut [f32]) {
        #[inline(always)]
        fn lanes<const N: usize>(x: &[f32], mean: &mut [f32], moment: &mut [f32], at: usize) {
            let channels = mean.len();
            let rows = (x.len() / channels) as f64;
            let [sum] = lane_sums::<N, 1>(x, x, channels, at, |_, a, _| [a]);
            let m: [f32; N] = std::array::from_fn(|i| (sum[i] / rows) as f32);
            let [squares] = lane_sums::<N, 1>(x, x, channels, at, |i, a, _| [(a - m[i]) * (a - m[i])]);
            for i in 0..N {
                mean[at + i] = m[i];
                moment[at + i] = squares[i] as f32;
            }
        }
        over_lanes!(lanes, mean.len(), (x, mean, moment));
    }
}

/// y = scale·(x − mean) + shift (+ residual), then ReLU where `relu`; x and y (rows, C), the rest
/// (C).
///
/// The mean is taken away first: folded into the shift it would cancel there.
pub fn apply(
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let step = block_rows(scale.len()) * scale.len();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let blocks = x.par_chunks(step).zip(y.par_chunks_mut(step));
    match residual {
        None => blocks.for_each(|(x, y)| apply_block(x, mean, scale, shift, floor, y)),
        Some(residual) => blocks
            .zip(residual.par_chunks(step))
            .for_each(|((x, y), residual)| apply_block_residual(x, mean, scale, shift, residual, floor, y)),
    }
}

for_each_instruction_set! {
    fn apply_block(x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], floor: f32, y: &mut [f32]) {
        let channels = scale.len();
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for ((((y, x), mean), scale), shift) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                let value = (x - mean) * scale + shift;
                // A comparison, not f32::max: NaN has to go through.
                *y = if value < floor { floor } else { value };
            }
        }
    }
}

for_each_instruction_set! {
    fn apply_block_residual(
        x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], residual: &[f32], floor: f32, y: &mut [f32],
    ) {
        let channels = scale.len();
        let rows = x.chunks_exact(channels).zip(residual.chunks_exact(channels));
        for ((x, r), y) in rows.zip(y.chunks_exact_mut(channels)) {
            for (((((y, x), r), mean), scale), shift) in
                    y.iter_mut().zip(x).zip(r).zip(mean).zip(scale).zip(shift)
                {
                let value = (x - mean) * scale + shift + r;
                *y = if value < floor { floor } else { value };
            }
        }
    }
}

/// First pass of the gradient, over one view: g ← (g + other)·[y > 0] in place, and per channel
/// Σg and Σg·(x − μ).
///
/// `y` is the output where a ReLU followed; `other` the gradient of a second reader of y.
pub fn gradient_sums(
    g: &mut [f32],
    other: Option<&[f32]>,
    y: Option<&[f32]>,
    x: &[f32],
    mean: &[f32],
    sums: &mut [f64],
    scratch: &mut [f32],
) {
    let channels = mean.len();
    let rows = x.len() / channels;
    let step = block_rows(channels) * channels;
    let scratch = &mut scratch[..scratch_len(rows, channels)];
    g.par_chunks_mut(step)
        .zip(x.par_chunks(step))
        .zip(scratch.par_chunks_mut(2 * channels))
        .enumerate()
        .for_each(|(block, ((g, x), out))| {
            let range = block * step..block * step + g.len();
            let (sum, product) = out.split_at_mut(channels);
            let [other, y] = [other, y].map(|array| array.map(|array| &array[range.clone()]));
            // Where one group of lanes reads whole rows, one pass does both; with several groups,
            // or rows of one cache line, the second pass over a block costs less than their jumps.
            if channels == 2 * LANES || channels == WIDE_LANES {
                masked_products(g, [other, y], x, mean, sum, product);
            } else {
                mask_block(g, other, y);
                block_products(g, x, mean, sum, product);
            }
        });
    sums.fill(0.0);
    for block in scratch.chunks(2 * channels) {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += f64::from(*value);
        }
    }
}

for_each_instruction_set! {
    fn mask_block(g: &mut [f32], other: Option<&[f32]>, y: Option<&[f32]>) {
        match (other, y) {
            (None, None) => {}
            (Some(other), None) => g.iter_mut().zip(other).for_each(|(g, o)| *g += o),
            (None, Some(y)) => g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 }),
            (Some(other), Some(y)) => {
                for ((g, o), y) in g.iter_mut().zip(other).zip(y) {
                    let sum = *g + o;
                    *g = if *y > 0.0 { sum } else { 0.0 };
                }
            }
        }
    }
}

for_each_instruction_set! {
    fn block_products(g: &[f32], x: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        #[inline(always)]
        fn lanes<const N: usize>(
            g: &[f32], x: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32], at: usize,
        ) {
            let m: [f32; N] = std::array::from_fn(|i| mean[at + i]);
            let [s, p] = lane_sums::<N, 2>(g, x, mean.len(), at, |i, g, x| [g, g * (x - m[i])]);
            for i in 0..N {
                sum[at + i] = s[i] as f32;
                product[at + i] = p[i] as f32;
            }
        }
        over_lanes!(lanes, mean.len(), (g, x, mean, sum, product));
    }
}

for_each_instruction_set! {
    fn masked_products(
        g: &mut [f32], others: [Option<&[f32]>; 2], x: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32],
    ) {
        // One loop for each of the four cases, so that none asks for each number what there is.
        #[inline(always)]
        fn lanes<const N: usize>(
            g: &mut [f32], others: [Option<&[f32]>; 2], x: &[f32], mean: &[f32], sum: &mut [f32],
            product: &mut [f32], at: usize,
        ) {
            match others {
                [None, None] => masked::<N, false, false>(g, x, x, x, mean, sum, product, at),
                [Some(other), None] => masked::<N, true, false>(g, other, x, x, mean, sum, product, at),
                [None, Some(y)] => masked::<N, false, true>(g, x, y, x, mean, sum, product, at),
                [Some(other), Some(y)] => masked::<N, true, true>(g, other, y, x, mean, sum, product, at),
            }
        }
        over_lanes!(lanes, mean.len(), (g, others, x, mean, sum, product));
    }
}

/// g ← (g + other)·[y > 0], where ADDED with other and where MASKED with y, and the sums of g and
/// of g·(x − μ), for `N` channels from `at`; added up as [`lane_sums`] does.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn masked<const N: usize, const ADDED: bool, const MASKED: bool>(
    g: &mut [f32],
    other: &[f32],
    y: &[f32],
    x: &[f32],
    mean: &[f32],
    sum: &mut [f32],
    product: &mut [f32],
    at: usize,
) {
    let channels = mean.len();
    let m: [f32; N] = std::array::from_fn(|i| mean[at + i]);
    let (mut sums, mut products) = ([0f64; N], [0f64; N]);
    let run = RUN * channels;
    for (((g, other), y), x) in g.chunks_mut(run).zip(other.chunks(run)).zip(y.chunks(run)).zip(x.chunks(run))
    {
        let (mut run_sum, mut run_product) = ([0f32; N], [0f32; N]);
        let rows = g.chunks_exact_mut(channels).zip(other.chunks_exact(channels));
        for (((g, other), y), x) in rows.zip(y.chunks_exact(channels)).zip(x.chunks_exact(channels)) {
            let (g, other, y, x) = (&mut g[at..at + N], &other[at..at + N], &y[at..at + N], &x[at..at + N]);
            for i in 0..N {
                let mut value = g[i];
                if ADDED {
                    value += other[i];
                }
                if MASKED {
                    value = if y[i] > 0.0 { value } else { 0.0 };
                }
                g[i] = value;
                run_sum[i] += value;
                run_product[i] += value * (x[i] - m[i]);
            }
        }
        for i in 0..N {
            sums[i] += f64::from(run_sum[i]);
            products[i] += f64::from(run_product[i]);
        }
    }
    for i in 0..N {
        sum[at + i] = sums[i] as f32;
        product[at + i] = products[i] as f32;
    }
}

/// Second pass of the gradient: dx = a·g + b·(x − μ) + c, with a, b, c and μ per channel.
pub fn gradient_apply(g: &[f32], x: &[f32], coefficients: [&[f32]; 4], dx: &mut [f32]) {
    let step = block_rows(coefficients[0].len()) * coefficients[0].len();
    g.par_chunks(step)
        .zip(x.par_chunks(step))
        .zip(dx.par_chunks_mut(step))
        .for_each(|((g, x), dx)| gradient_block(g, x, coefficients, dx));
}

/// [`gradient_apply`] with dx in place of g.
pub fn gradient_apply_in_place(g: &mut [f32], x: &[f32], coefficients: [&[f32]; 4]) {
    let step = block_rows(coefficients[0].len()) * coefficients[0].len();
    g.par_chunks_mut(step)
        .zip(x.par_chunks(step))
        .for_each(|(g, x)| gradient_block_in_place(g, x, coefficients));
}

for_each_instruction_set! {
    fn gradient_block(g: &[f32], x: &[f32], coefficients: [&[f32]; 4], dx: &mut [f32]) {
        let [a, b, c, mean] = coefficients;
        let channels = a.len();
        let rows = g.chunks_exact(channels).zip(x.chunks_exact(channels));
        for ((g, x), dx) in rows.zip(dx.chunks_exact_mut(channels)) {
            let (a, b, c, mean) = (&a[..channels], &b[..channels], &c[..channels], &mean[..channels]);
            for i in 0..channels {
                dx[i] = a[i] * g[i] + b[i] * (x[i] - mean[i]) + c[i];
            }
        }
    }
}

for_each_instruction_set! {
    fn gradient_block_in_place(g: &mut [f32], x: &[f32], coefficients: [&[f32]; 4]) {
        let [a, b, c, mean] = coefficients;
        let channels = a.len();
        for (g, x) in g.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            let (a, b, c, mean) = (&a[..channels], &b[..channels], &c[..channels], &mean[..channels]);
            for i in 0..channels {
                g[i] = a[i] * g[i] + b[i] * (x[i] - mean[i]) + c[i];
            }
        }
    }
}
