//! Max pooling of the ImageNet stem (3×3, stride 2, padding 1) and global average pooling.

use rayon::prelude::*;

/// Side of the max-pooled output of an input of side `n`.
pub fn max_pool_side(n: usize) -> usize {
    (n - 1) / 2 + 1
}

/// The input rows or columns under output position `o` of an input of side `n`.
fn window(o: usize, n: usize) -> std::ops::Range<usize> {
    (2 * o).saturating_sub(1)..(2 * o + 2).min(n)
}

/// y (B, H', W', C) = the largest of each 3×3 window of x (B, H, W, C).
pub fn max_pool(x: &[f32], (height, width, channels): (usize, usize, usize), y: &mut [f32]) {
    let (out_height, out_width) = (max_pool_side(height), max_pool_side(width));
    let images = x.par_chunks(height * width * channels);
    images.zip(y.par_chunks_mut(out_height * out_width * channels)).for_each(|(x, y)| {
        for (position, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(f32::NEG_INFINITY);
            for iy in window(position / out_width, height) {
                for ix in window(position % out_width, width) {
                    let x = &x[(iy * width + ix) * channels..][..channels];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = if *x > *y || x.is_nan() { *x } else { *y });
                }
            }
        }
    });
}

/// dx (B, H, W, C): each dy (B, H', W', C) (plus `other`, the gradient of a second reader) goes to
/// the first largest of its window.
pub fn max_pool_gradient(
    dy: &[f32],
    other: Option<&[f32]>,
    x: &[f32],
    y: &[f32],
    (height, width, channels): (usize, usize, usize),
    dx: &mut [f32],
) {
    let (out_height, out_width) = (max_pool_side(height), max_pool_side(width));
    let out_len = out_height * out_width * channels;
    let images = x.par_chunks(height * width * channels).zip(y.par_chunks(out_len));
    images.zip(dx.par_chunks_mut(height * width * channels)).enumerate().for_each(|(image, ((x, y), dx))| {
        dx.fill(0.0);
        // What of each channel's gradient has not found its place yet.
        let mut left = vec![0.0; channels];
        for position in 0..out_height * out_width {
            let at = position * channels..(position + 1) * channels;
            let from = image * out_len + at.start..image * out_len + at.end;
            left.copy_from_slice(&dy[from.clone()]);
            if let Some(other) = other {
                left.iter_mut().zip(&other[from]).for_each(|(left, other)| *left += other);
            }
            let y = &y[at];
            for iy in window(position / out_width, height) {
                for ix in window(position % out_width, width) {
                    let tap = (iy * width + ix) * channels..(iy * width + ix + 1) * channels;
                    let values = x[tap.clone()].iter().zip(y);
                    for ((dx, left), (x, y)) in dx[tap].iter_mut().zip(&mut left).zip(values) {
                        let found = x == y;
                        *dx += if found { *left } else { 0.0 };
                        *left = if found { 0.0 } else { *left };
                    }
                }
            }
        }
    });
}

/// y (B, C) = the mean over the pixels of x (B, pixels, C).
pub fn average_pool(x: &[f32], pixels: usize, channels: usize, y: &mut [f32]) {
    let scale = 1.0 / pixels as f32;
    x.par_chunks(pixels * channels).zip(y.par_chunks_mut(channels)).for_each(|(x, y)| {
        y.fill(0.0);
        for x in x.chunks_exact(channels) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
        y.iter_mut().for_each(|y| *y *= scale);
    });
}

/// dx (B, pixels, C): dy (B, C) / pixels at each pixel.
pub fn average_pool_gradient(dy: &[f32], pixels: usize, channels: usize, dx: &mut [f32]) {
    let scale = 1.0 / pixels as f32;
    dy.par_chunks(channels).zip(dx.par_chunks_mut(pixels * channels)).for_each(|(dy, dx)| {
        for dx in dx.chunks_exact_mut(channels) {
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * scale);
        }
    });
}
