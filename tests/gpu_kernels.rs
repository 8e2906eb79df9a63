//! The kernels of a device one by one, at the sizes that networks of real width have: blocks side
//! by side, many chunks of rows, images that are not square. Whole networks are in `gpu.rs`; they
//! are small.

use crate::gpu::{buffer_of, devices, random};
use crate::support::relative_difference;
use simsiam_em::kernel::device::{
    Buffer, Device, Mask, NormShape, Pass, Span, pool_scratch_len, scratch_len, unfolded,
};
use simsiam_em::kernel::norm::EPSILON;
use simsiam_em::kernel::pool::{max_pool, max_pool_gradient, max_pool_side};
use simsiam_em::kernel::{Conv, Precision};
use simsiam_em::store::Plain;

/// `values` as `precision` stores them.
fn stored(values: Vec<f32>, precision: Precision) -> Vec<f32> {
    match precision {
        Precision::F32 => values,
        Precision::Bf16 => values.into_iter().map(|value| u16::round(value).widen()).collect(),
    }
}

/// Device memory with its length and kind.
struct Values {
    buffer: Buffer,
    len: usize,
    precision: Precision,
}

impl Values {
    fn new(device: &dyn Device, values: &[f32], precision: Precision) -> Self {
        let (wide, len) = (buffer_of(device, values), values.len());
        if precision == Precision::F32 {
            return Self { buffer: wide, len, precision };
        }
        let result = Self { buffer: device.allocate(2 * len).unwrap(), len, precision };
        device.copy(wide.span(Precision::F32, 0, len), result.span()).unwrap();
        result
    }

    /// To be written: a number that is not stays NaN.
    fn unset(device: &dyn Device, len: usize, precision: Precision) -> Self {
        Self::new(device, &vec![f32::NAN; len], precision)
    }

    fn span(&self) -> Span<'_> {
        self.buffer.span(self.precision, 0, self.len)
    }

    fn read(&self, device: &dyn Device) -> Vec<f32> {
        if self.precision == Precision::F32 {
            return device.download_f32(self.span()).unwrap();
        }
        let wide = Self::unset(device, self.len, Precision::F32);
        device.copy(self.span(), wide.span()).unwrap();
        wide.read(device)
    }
}

/// A value's number is off by half of its last bit, 2⁻⁸ of it at most, and by a few roundings of
/// f32 in any case.
fn allowed(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::Bf16 => 1.0 / 256.0 + 1e-4,
    }
}

fn check(what: &str, got: &[f32], expected: &[f64], allowed: f64) {
    let expected: Vec<f32> = expected.iter().map(|value| *value as f32).collect();
    let error = relative_difference(got, &expected);
    assert!(error < allowed, "{what}: off by {error:.1e} of {allowed:.1e}");
}

/// Statistics, the value, and both halves of the gradient, against the formulas in f64.
#[test]
fn norms_of_real_width_keep_to_their_formulas() {
    // (views, rows, channels): the widest layer and a pack more; as many chunks as there are
    // blocks; neither a pack nor a chunk full.
    let shapes = [(2, 70, 2056), (1, 20_000, 256), (2, 333, 20), (3, 2_500, 64)];
    for under in devices() {
        let device = under.kernels();
        for precision in [Precision::F32, Precision::Bf16] {
            for (views, rows, channels) in shapes {
                let s = NormShape { shards: 1, views, rows, channels };
                let what = format!("{} {precision:?} {s:?}", under.name);
                check_norm(device.as_ref(), &s, precision, &what);
            }
        }
    }
}

fn check_norm(device: &dyn Device, s: &NormShape, precision: Precision, what: &str) {
    let (channels, len) = (s.channels, s.views * s.rows * s.channels);
    let numbers =
        |len, seed, shift: f32| random(len, seed).into_iter().map(|v| v + shift).collect::<Vec<_>>();
    let x = stored(numbers(len, 1, 0.7), precision);
    let residual = stored(numbers(len, 2, 0.0), precision);
    let (scale, shift) = (numbers(channels, 3, 1.0), numbers(channels, 4, 0.0));
    let single = |values: &[f32]| Values::new(device, values, Precision::F32);
    let (on_x, on_residual) = (Values::new(device, &x, precision), Values::new(device, &residual, precision));
    let (on_scale, on_shift) = (single(&scale), single(&shift));
    let affine = (Some(on_scale.span()), Some(on_shift.span()));
    let saved = Values::unset(device, 2 * s.views * channels, Precision::F32);
    let scratch = Values::unset(device, scratch_len(s), Precision::F32);

    let (mean, variance) = (single(&vec![0.25; channels]), single(&vec![0.5; channels]));
    let running = (mean.span(), variance.span());
    device.norm_statistics(s, on_x.span(), saved.span(), running, 0.1, scratch.span()).unwrap();
    let (mut expected, mut moved) = (vec![0.0; saved.len], (vec![0.25; channels], vec![0.5; channels]));
    for view in 0..s.views {
        for channel in 0..channels {
            let column = (0..s.rows).map(|row| f64::from(x[(view * s.rows + row) * channels + channel]));
            let mean = column.clone().sum::<f64>() / s.rows as f64;
            let variance = column.map(|v| (v - mean).powi(2)).sum::<f64>() / s.rows as f64;
            expected[2 * view * channels + channel] = mean;
            expected[(2 * view + 1) * channels + channel] = 1.0 / (variance + EPSILON).sqrt();
            let unbiased = variance * s.rows as f64 / (s.rows - 1) as f64;
            moved.0[channel] += 0.1 * (mean - moved.0[channel]);
            moved.1[channel] += 0.1 * (unbiased - moved.1[channel]);
        }
    }
    let of_views = saved.read(device);
    check(&format!("{what}: statistics"), &of_views, &expected, 1e-5);
    check(&format!("{what}: running means"), &mean.read(device), &moved.0, 1e-5);
    check(&format!("{what}: running variances"), &variance.read(device), &moved.1, 1e-5);

    // What follows is given the device's own statistics, so that every sign is the same here and
    // there.
    let at = |i: usize| {
        let (view, channel) = (i / (s.rows * channels), i % channels);
        let of_view = &of_views[2 * view * channels..];
        (channel, of_view[channel], of_view[channels + channel])
    };
    let before = |i: usize| {
        let (channel, mean, inverse) = at(i);
        (x[i] - mean).mul_add(scale[channel] * inverse, shift[channel])
    };
    for with_residual in [false, true] {
        let y = Values::unset(device, len, precision);
        let added = with_residual.then(|| on_residual.span());
        device.norm_apply(s, on_x.span(), added, Some(saved.span()), affine, y.span(), true).unwrap();
        let expected: Vec<f64> = (0..len)
            .map(|i| f64::from((before(i) + if with_residual { residual[i] } else { 0.0 }).max(0.0)))
            .collect();
        check(&format!("{what}: value"), &y.read(device), &expected, allowed(precision));
    }

    let (g, other) = (stored(numbers(len, 5, 0.1), precision), stored(numbers(len, 6, 0.0), precision));
    for mask in [Mask::None, Mask::ByOutput, Mask::Again] {
        for with_other in [false, true] {
            if with_other && mask == Mask::Again {
                continue;
            }
            let what = format!("{what}, {mask:?}, two gradients: {with_other}");
            let (on_g, on_other) =
                (Values::new(device, &g, precision), Values::new(device, &other, precision));
            let (d_scale, d_shift) = (
                Values::unset(device, channels, Precision::F32),
                Values::unset(device, channels, Precision::F32),
            );
            let second = with_other.then(|| on_other.span());
            let d_affine = (Some(d_scale.span()), Some(d_shift.span()));
            let (g_span, x_span, by) = (on_g.span(), on_x.span(), Some(saved.span()));
            // Any values serve as outputs to mask by.
            let y = on_residual.span();
            device
                .norm_gradient_sums(s, g_span, second, y, x_span, by, affine, d_affine, mask, scratch.span())
                .unwrap();
            let dx = Values::unset(device, len, precision);
            device
                .norm_gradient_apply(s, g_span, x_span, by, affine, dx.span(), mask, scratch.span())
                .unwrap();

            let masked: Vec<f32> = (0..len)
                .map(|i| {
                    let sum = g[i] + if with_other { other[i] } else { 0.0 };
                    let passes = match mask {
                        Mask::None => true,
                        Mask::ByOutput => residual[i] > 0.0,
                        Mask::Again => before(i) > 0.0,
                    };
                    if passes { sum } else { 0.0 }
                })
                .collect();
            let masked = stored(masked, precision);
            let (mut sums, mut products) = (vec![0.0; s.views * channels], vec![0.0; s.views * channels]);
            for (i, g) in masked.iter().enumerate() {
                let (channel, mean, _) = at(i);
                let of = i / (s.rows * channels) * channels + channel;
                sums[of] += f64::from(*g);
                products[of] += f64::from(*g) * f64::from(x[i] - mean);
            }
            let (mut to_scale, mut to_shift) = (vec![0.0; channels], vec![0.0; channels]);
            for (of, (sum, product)) in sums.iter().zip(&products).enumerate() {
                let (_, _, inverse) = at(of / channels * s.rows * channels + of % channels);
                to_scale[of % channels] += product * f64::from(inverse);
                to_shift[of % channels] += sum;
            }
            let expected: Vec<f64> = (0..len)
                .map(|i| {
                    let (channel, mean, inverse) = at(i);
                    let of = i / (s.rows * channels) * channels + channel;
                    let (inverse, rows) = (f64::from(inverse), s.rows as f64);
                    let centred = f64::from(x[i] - mean) * inverse * inverse * products[of] / rows;
                    f64::from(scale[channel]) * inverse * (f64::from(masked[i]) - sums[of] / rows - centred)
                })
                .collect();
            check(&format!("{what}: gradient"), &dx.read(device), &expected, allowed(precision));
            // Sums of numbers of both signs: a rounding of each term against what is left of them.
            check(&format!("{what}: gradient of the scale"), &d_scale.read(device), &to_scale, 1e-4);
            check(&format!("{what}: gradient of the shift"), &d_shift.read(device), &to_shift, 1e-4);
            if with_other || mask == Mask::ByOutput {
                assert!(on_g.read(device) == masked, "{what}: what is kept");
            }
        }
    }
}

#[test]
fn pooling_on_a_device_is_the_processors_to_the_bit() {
    for under in devices() {
        let device = under.kernels();
        for precision in [Precision::F32, Precision::Bf16] {
            for shape @ [height, width, channels] in [[9, 14, 16], [14, 9, 5], [1, 3, 8]] {
                let images = 3;
                let (len, out) = (
                    images * height * width * channels,
                    images * max_pool_side(height) * max_pool_side(width) * channels,
                );
                // Few different numbers, so that the largest often comes twice.
                let x: Vec<f32> = random(len, 1).into_iter().map(|v| (8.0 * v).round() / 8.0).collect();
                let (dy, other) = (stored(random(out, 2), precision), stored(random(out, 3), precision));
                let (mut y, mut dx) = (vec![0.0; out], vec![0.0; len]);
                let sides = (height, width, channels);
                max_pool(&x, sides, &mut y);
                max_pool_gradient(&dy, Some(&other), &x, &y, sides, &mut dx);

                let device = device.as_ref();
                let make = |values: &[f32]| Values::new(device, values, precision);
                let (on_x, on_dy, on_other) = (make(&x), make(&dy), make(&other));
                let (on_y, on_dx) =
                    (Values::unset(device, out, precision), Values::unset(device, len, precision));
                let scratch = Values::unset(device, pool_scratch_len(out), Precision::F32);
                device.max_pool(shape, on_x.span(), on_y.span()).unwrap();
                let gradients = (on_dy.span(), Some(on_other.span()));
                device
                    .max_pool_gradient(shape, gradients, on_x.span(), on_dx.span(), scratch.span())
                    .unwrap();
                let what = format!("{} {precision:?} {shape:?}", under.name);
                assert!(on_y.read(device) == y, "{what}: value");
                assert!(on_dx.read(device) == stored(dx, precision), "{what}: gradient");
            }
        }
    }
}

#[test]
fn unfolded_images_are_what_a_convolution_sees() {
    for under in devices() {
        let device = under.kernels();
        for precision in [Precision::F32, Precision::Bf16] {
            for [height, width, in_channels, kernel, stride, padding] in
                [[9, 14, 3, 3, 1, 1], [14, 9, 3, 7, 2, 3], [5, 6, 1, 2, 2, 0]]
            {
                let s =
                    Conv { batch: 2, height, width, in_channels, out_channels: 4, kernel, stride, padding };
                let x = random(s.input_len(), 1);
                let product = unfolded(&s, precision).unwrap();
                let columns = product.in_channels;
                let mut expected = vec![0.0; product.input_len()];
                for (row, expected) in expected.chunks_exact_mut(columns).enumerate() {
                    let (ox, oy) = (row % s.out_width(), row / s.out_width() % s.out_height());
                    let image = row / s.out_width() / s.out_height();
                    for (column, value) in expected.iter_mut().enumerate() {
                        let (tap, channel) = (column / in_channels, column % in_channels);
                        let (y, x_at) = (oy * stride + tap / kernel, ox * stride + tap % kernel);
                        let inside = tap < kernel * kernel
                            && (padding..height + padding).contains(&y)
                            && (padding..width + padding).contains(&x_at);
                        if inside {
                            let pixel = (image * height + y - padding) * width + x_at - padding;
                            *value = x[pixel * in_channels + channel];
                        }
                    }
                }
                let device = device.as_ref();
                let on_x = Values::new(device, &x, Precision::F32);
                let patches = Values::unset(device, expected.len(), precision);
                device.unfold(&s, on_x.span(), patches.span()).unwrap();
                let what = format!("{} {precision:?} {s:?}", under.name);
                assert!(patches.read(device) == stored(expected, precision), "{what}");
            }
        }
    }
}

/// A result of bf16 is off by its own rounding, 2⁻⁸ at most, if all sums are f32. Sums cut into
/// pieces that are rounded one by one are off by several.
#[test]
fn long_products_of_bf16_numbers_are_summed_in_f32() {
    for under in devices() {
        let device = under.kernels();
        let (rows, inputs, outputs) = (24, 4096, 40);
        let s = Conv {
            batch: rows,
            height: 1,
            width: 1,
            in_channels: inputs,
            out_channels: outputs,
            kernel: 1,
            stride: 1,
            padding: 0,
        };
        let turned = Conv { in_channels: outputs, out_channels: inputs, ..s };
        let (x, w) = (random(rows * inputs, 1), random(inputs * outputs, 2));
        let (x, w) = (stored(x, Precision::Bf16), stored(w, Precision::Bf16));
        // The gradient of a layer's input sums over outputs: the same product with the weights the
        // other way round.
        let w_turned: Vec<f32> = (0..w.len()).map(|i| w[i % inputs * outputs + i / inputs]).collect();
        let expected: Vec<f64> = (0..rows * outputs)
            .map(|i| {
                let (row, column) = (i / outputs, i % outputs);
                let term = |k: usize| f64::from(x[row * inputs + k]) * f64::from(w[k * outputs + column]);
                (0..inputs).map(term).sum()
            })
            .collect();
        for (pass, shape, w) in [(Pass::Forward, s, &w), (Pass::InputGradient, turned, &w_turned)] {
            let make = |values: &[f32]| Values::new(device.as_ref(), values, Precision::Bf16);
            let (on_x, on_w, out) = (make(&x), make(w), make(&vec![f32::NAN; rows * outputs]));
            device.multiply(pass, &shape, on_x.span(), on_w.span(), out.span()).unwrap();
            let what = format!("{} {pass:?}", under.name);
            check(&what, &out.read(device.as_ref()), &expected, allowed(Precision::Bf16));
        }
    }
}
