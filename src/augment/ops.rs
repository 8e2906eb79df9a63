//! The colour and filter operations of T, on planes (3, H, W) of values in [0, 1].
//!
//! Equal to `torchvision.transforms.functional` on float tensors: every blend is clamped to [0, 1].
//! Planes rather than interleaved pixels, and selects rather than branches, so that the compiler
//! turns each loop into vector instructions.

/// Luma weights of torchvision's `rgb_to_grayscale`.
const LUMA: [f32; 3] = [0.2989, 0.587, 0.114];
/// Independent partial sums of a mean: fixed, so the order of additions never changes.
const LANES: usize = 16;

fn channels(planes: &mut [f32]) -> (&mut [f32], &mut [f32], &mut [f32]) {
    let area = planes.len() / 3;
    let (r, rest) = planes.split_at_mut(area);
    let (g, b) = rest.split_at_mut(area);
    (r, g, b)
}

fn unit(x: f32) -> f32 {
    let x = if x > 0.0 { x } else { 0.0 };
    if x < 1.0 { x } else { 1.0 }
}

fn luma(r: f32, g: f32, b: f32) -> f32 {
    LUMA[0] * r + LUMA[1] * g + LUMA[2] * b
}

/// `adjust_brightness`: scales by `factor`.
pub fn brightness(planes: &mut [f32], factor: f32) {
    for x in planes {
        *x = unit(*x * factor);
    }
}

/// `adjust_contrast`: moves away from the mean luma of the image by `factor`.
pub fn contrast(planes: &mut [f32], factor: f32) {
    let (r, g, b) = channels(planes);
    let area = r.len();
    let mut sums = [0f32; LANES];
    let whole = area - area % LANES;
    for ((r, g), b) in
        r[..whole].chunks_exact(LANES).zip(g[..whole].chunks_exact(LANES)).zip(b[..whole].chunks_exact(LANES))
    {
        for lane in 0..LANES {
            sums[lane] += luma(r[lane], g[lane], b[lane]);
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for i in whole..area {
        sum += luma(r[i], g[i], b[i]);
    }
    let offset = (1.0 - factor) * (sum / area.max(1) as f32);
    for x in planes {
        *x = unit(*x * factor + offset);
    }
}

/// `adjust_saturation`: moves away from each pixel's luma by `factor`.
pub fn saturation(planes: &mut [f32], factor: f32) {
    let (r, g, b) = channels(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let offset = (1.0 - factor) * luma(*r, *g, *b);
        *r = unit(*r * factor + offset);
        *g = unit(*g * factor + offset);
        *b = unit(*b * factor + offset);
    }
}

/// `adjust_hue`: turns the hue by `turn` of a full circle, in [-0.5, 0.5].
///
/// HSV without its six cases: with chroma c, value v and hue position k in [0, 6) of a channel,
/// the channel is v − c · clamp(min(k, 4 − k), 0, 1).
pub fn hue(planes: &mut [f32], turn: f32) {
    let shift = 6.0 * turn;
    let (r, g, b) = channels(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let (x, y, z) = (*r, *g, *b);
        let high = larger(larger(x, y), z);
        let low = smaller(smaller(x, y), z);
        let chroma = high - low;
        let inverse = 1.0 / if chroma > 0.0 { chroma } else { 1.0 };
        // Position of the hue in sixths of the circle; the red case wraps into [0, 6) below.
        let at_red = (y - z) * inverse;
        let at_green = (z - x) * inverse + 2.0;
        let at_blue = (x - y) * inverse + 4.0;
        let rest = if y == high { at_green } else { at_blue };
        let position = if x == high { at_red } else { rest };
        let position = wrap(position + shift);
        *r = channel(high, chroma, position + 5.0);
        *g = channel(high, chroma, position + 3.0);
        *b = channel(high, chroma, position + 1.0);
    }
}

/// x in [-6, 12) into [0, 6).
fn wrap(x: f32) -> f32 {
    let x = x + if x < 0.0 { 6.0 } else { 0.0 };
    x - if x >= 6.0 { 6.0 } else { 0.0 }
}

fn channel(value: f32, chroma: f32, position: f32) -> f32 {
    let k = wrap(position);
    value - chroma * unit(smaller(k, 4.0 - k))
}

// `f32::max` treats NaN, which costs two more instructions per lane.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// `rgb_to_grayscale` with three output channels.
pub fn grayscale(planes: &mut [f32]) {
    let (r, g, b) = channels(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let l = luma(*r, *g, *b);
        (*r, *g, *b) = (l, l, l);
    }
}

/// `hflip` of planes whose rows are `width` long.
pub fn horizontal_flip(planes: &mut [f32], width: usize) {
    for row in planes.chunks_exact_mut(width.max(1)) {
        row.reverse();
    }
}

/// Side of the blur's kernel for a view of `size` pixels: a tenth of it, odd, at least 3.
pub fn blur_kernel_size(size: usize) -> usize {
    ((size / 10) | 1).max(3)
}

/// `gaussian_blur` with an odd `kernel` and σ = `sigma` pixels; borders are reflected.
pub fn gaussian_blur(planes: &mut [f32], height: usize, width: usize, kernel: usize, sigma: f32) {
    blur_with(planes, height, width, kernel, sigma, &mut Vec::new());
}

/// [`gaussian_blur`] in kept working memory.
pub(super) fn blur_with(
    planes: &mut [f32],
    height: usize,
    width: usize,
    kernel: usize,
    sigma: f32,
    spare: &mut Vec<f32>,
) {
    if height * width == 0 {
        return;
    }
    let radius = kernel / 2;
    let mut weights: Vec<f32> = (0..2 * radius + 1)
        .map(|i| {
            let x = (i as f32 - radius as f32) / sigma;
            (-0.5 * x * x).exp()
        })
        .collect();
    let total: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);

    let area = height * width;
    spare.resize(area + width + 2 * radius, 0.0);
    let (rows, padded) = spare.split_at_mut(area);
    for plane in planes.chunks_exact_mut(area) {
        // Down the columns: whole rows at a time.
        for (y, out) in rows.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (tap, &weight) in weights.iter().enumerate() {
                let from = reflect(y as isize + tap as isize - radius as isize, height);
                for (o, &x) in out.iter_mut().zip(&plane[from * width..][..width]) {
                    *o += weight * x;
                }
            }
        }
        // Along the rows: each padded once, then shifted by every tap.
        for (row, out) in rows.chunks_exact(width).zip(plane.chunks_exact_mut(width)) {
            padded[radius..radius + width].copy_from_slice(row);
            for i in 0..radius {
                padded[i] = row[reflect(i as isize - radius as isize, width)];
                padded[radius + width + i] = row[reflect((width + i) as isize, width)];
            }
            out.fill(0.0);
            for (tap, &weight) in weights.iter().enumerate() {
                for (o, &x) in out.iter_mut().zip(&padded[tap..][..width]) {
                    *o += weight * x;
                }
            }
        }
    }
}

/// Mirrors `i` into 0..n without repeating the border, however far outside it lies.
fn reflect(i: isize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as isize - 1);
    let i = i.rem_euclid(period);
    (if i < n as isize { i } else { period - i }) as usize
}

/// (x − mean) / std of planes (3, H, W), written interleaved (H, W, 3).
pub fn normalise(planes: &[f32], mean: [f32; 3], std: [f32; 3], out: &mut [f32]) {
    let area = planes.len() / 3;
    let (r, rest) = planes.split_at(area);
    let (g, b) = rest.split_at(area);
    let scale = std.map(|s| 1.0 / s);
    for (((pixel, r), g), b) in out.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
        pixel[0] = (r - mean[0]) * scale[0];
        pixel[1] = (g - mean[1]) * scale[1];
        pixel[2] = (b - mean[2]) * scale[2];
    }
}
