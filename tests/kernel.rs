//! Every kernel against the reference loops in f64, and against itself on other numbers of threads.

use std::sync::Arc;

use simsiam_em::device::kernel_named;
use simsiam_em::kernel::{Conv, Kernel, Precision, all_supported, bf16, portable_bf16, reference::Reference};

fn conv(b: usize, hw: [usize; 2], io: [usize; 2], kernel: usize, stride: usize, padding: usize) -> Conv {
    Conv {
        batch: b,
        height: hw[0],
        width: hw[1],
        in_channels: io[0],
        out_channels: io[1],
        kernel,
        stride,
        padding,
    }
}

/// Shapes of every class: the networks' own, odd ones, and ones smaller than any block.
fn shapes() -> Vec<Conv> {
    let mut shapes = vec![
        conv(2, [32, 32], [3, 32], 3, 1, 1),
        conv(2, [32, 32], [32, 32], 3, 1, 1),
        conv(2, [32, 32], [32, 64], 3, 2, 1),
        conv(2, [32, 32], [32, 64], 1, 2, 0),
        conv(3, [16, 16], [64, 64], 3, 1, 1),
        conv(3, [16, 16], [64, 128], 3, 2, 1),
        conv(5, [8, 8], [128, 128], 3, 1, 1),
        conv(9, [4, 4], [160, 96], 3, 1, 1),
        conv(64, [4, 4], [16, 32], 3, 1, 1),
        conv(64, [1, 1], [512, 256], 1, 1, 0),
        conv(33, [1, 1], [100, 10], 1, 1, 0),
        conv(1, [40, 56], [3, 16], 7, 2, 3),
        conv(2, [18, 22], [16, 24], 3, 1, 1),
        conv(2, [24, 24], [16, 16], 3, 1, 1),
        conv(2, [9, 7], [33, 16], 3, 1, 0),
        conv(2, [7, 6], [20, 50], 3, 1, 2),
        conv(2, [5, 6], [4, 9], 1, 1, 1),
        conv(2, [5, 6], [18, 20], 3, 1, 3),
        conv(2, [6, 5], [6, 20], 2, 2, 3),
        conv(1, [5, 5], [256, 8], 3, 1, 1),
        conv(4, [6, 6], [512, 40], 3, 1, 1),
        conv(2, [7, 7], [512, 48], 1, 2, 0),
        conv(1, [70, 130], [64, 16], 3, 1, 1),
    ];
    for channels in [[1, 1], [3, 5], [5, 33], [16, 17], [33, 64], [64, 3]] {
        for (kernel, padding) in [(1, 0), (3, 1), (3, 0), (5, 2), (2, 1)] {
            for stride in [1, 2, 3] {
                shapes.push(conv(3, [7, 9], channels, kernel, stride, padding));
            }
        }
        shapes.push(conv(1, [1, 1], channels, 3, 1, 1));
        shapes.push(conv(2, [2, 3], channels, 3, 2, 1));
    }
    shapes
}

/// Numbers in [−1, 1) that only look random.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The three passes of one kernel on fixed numbers.
#[derive(PartialEq)]
struct Passes {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

fn passes(kernel: &dyn Kernel, s: &Conv) -> Passes {
    let (x, w, dy) = inputs(s);
    let mut scratch = vec![f32::NAN; kernel.conv_scratch(s)];
    let nan = |len| vec![f32::NAN; len];
    let (mut y, mut dx, mut dw) = (nan(s.output_len()), nan(s.input_len()), nan(s.weight_len()));
    kernel.conv_forward(s, &x, &w, &mut y, &mut scratch);
    kernel.conv_input_gradient(s, &dy, &w, &mut dx, &mut scratch);
    kernel.conv_weight_gradient(s, &x, &dy, &mut dw, &mut scratch);
    Passes { y, dx, dw }
}

fn inputs(s: &Conv) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    (numbers(s.input_len(), 1), numbers(s.weight_len(), 2), numbers(s.output_len(), 3))
}

/// The three passes in f64.
fn exact(s: &Conv) -> [Vec<f64>; 3] {
    let (x, w, dy) = inputs(s);
    let (i_len, o_len) = (s.in_channels, s.out_channels);
    let mut y = vec![0.0; s.output_len()];
    let mut dx = vec![0.0; s.input_len()];
    let mut dw = vec![0.0; s.weight_len()];
    for pixel in 0..s.batch * s.out_height() * s.out_width() {
        let (row, ox) = (pixel / s.out_width(), pixel % s.out_width());
        let (b, oy) = (row / s.out_height(), row % s.out_height());
        for tap in 0..s.kernel * s.kernel {
            let iy = (oy * s.stride + tap / s.kernel).wrapping_sub(s.padding);
            let ix = (ox * s.stride + tap % s.kernel).wrapping_sub(s.padding);
            if iy >= s.height || ix >= s.width {
                continue;
            }
            for i in 0..i_len {
                let xi = ((b * s.height + iy) * s.width + ix) * i_len + i;
                let row = (tap * i_len + i) * o_len;
                let mut to_input = 0.0;
                for o in 0..o_len {
                    y[pixel * o_len + o] += f64::from(x[xi]) * f64::from(w[row + o]);
                    to_input += f64::from(dy[pixel * o_len + o]) * f64::from(w[row + o]);
                    dw[row + o] += f64::from(x[xi]) * f64::from(dy[pixel * o_len + o]);
                }
                dx[xi] += to_input;
            }
        }
    }
    [y, dx, dw]
}

/// Largest difference over largest value.
fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    let scale = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let difference = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs();
    // A NaN must not vanish in a maximum.
    got.iter().zip(want).map(difference).fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m })
        / scale
}

fn all() -> Vec<Arc<dyn Kernel>> {
    all_supported().into_iter().chain([Arc::new(Reference) as Arc<dyn Kernel>]).collect()
}

#[test]
fn every_kernel_computes_every_pass_of_every_shape() {
    for s in shapes() {
        let want = exact(&s);
        for kernel in all() {
            let got = passes(&*kernel, &s);
            let pairs = [("y", &got.y, &want[0]), ("dx", &got.dx, &want[1]), ("dw", &got.dw, &want[2])];
            for (pass, got, want) in pairs {
                let error = relative_error(got, want);
                assert!(error <= 1e-5, "{} {pass} {s:?}: relative error {error:e}", kernel.name());
            }
        }
    }
}

/// Measured, numbers uniform in [−1, 1), stride 1: 0.6e-6 to 3.6e-6 of the largest value, growing
/// slowly with the number of channels summed; the points ±1, ±2 gave 3e-6 to 9e-6 on the same
/// shapes.
#[test]
fn transformed_passes_lose_hardly_any_precision() {
    let shapes = [
        conv(2, [32, 32], [32, 64], 3, 2, 1),
        conv(2, [16, 16], [64, 128], 3, 2, 1),
        conv(4, [8, 8], [256, 64], 3, 2, 1),
        conv(3, [15, 23], [48, 40], 3, 2, 1),
        conv(1, [32, 32], [16, 16], 3, 1, 1),
        conv(1, [32, 32], [32, 32], 3, 1, 1),
        conv(2, [16, 16], [64, 64], 3, 1, 1),
        conv(4, [8, 8], [128, 128], 3, 1, 1),
        conv(8, [4, 4], [512, 64], 3, 1, 1),
        conv(16, [5, 7], [48, 40], 3, 1, 1),
        conv(64, [8, 8], [32, 32], 3, 1, 1),
    ];
    for s in shapes {
        let want = exact(&s);
        for kernel in all_supported() {
            let got = passes(&*kernel, &s);
            let pairs = [("y", &got.y, &want[0]), ("dx", &got.dx, &want[1]), ("dw", &got.dw, &want[2])];
            for (pass, got, want) in pairs {
                let error = relative_error(got, want);
                println!("{} {pass} {s:?}: relative error {error:e}", kernel.name());
                assert!(error <= 5e-6, "{} {pass} {s:?}: relative error {error:e}", kernel.name());
            }
        }
    }
}

/// Factors rounded to 8 significant bits have an error of u = 2⁻⁹ of themselves at most. The
/// transforms back add 36 products of either sign and larger than their sum: measured, 3 u to 10 u
/// of the largest value over all shapes and passes, where direct sums of the same factors would
/// have 1 u to 2 u.
#[test]
fn products_of_bf16_numbers_are_as_good_as_their_bits() {
    for kernel in bf16().into_iter().chain([portable_bf16()]) {
        for s in shapes() {
            let want = exact(&s);
            let got = passes(&*kernel, &s);
            let pairs = [("y", &got.y, &want[0]), ("dx", &got.dx, &want[1]), ("dw", &got.dw, &want[2])];
            for (pass, got, want) in pairs {
                let error = relative_error(got, want);
                println!("{} {pass} {s:?}: relative error {error:e}", kernel.name());
                assert!(error <= 15.0 / 512.0, "{} {pass} {s:?}: relative error {error:e}", kernel.name());
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let shapes = [
        conv(16, [32, 32], [3, 32], 3, 1, 1),
        conv(16, [16, 16], [32, 32], 3, 1, 1),
        conv(16, [16, 16], [32, 64], 3, 2, 1),
        conv(16, [16, 16], [32, 64], 1, 2, 0),
        conv(32, [8, 8], [64, 128], 3, 1, 1),
        conv(128, [1, 1], [512, 384], 1, 1, 0),
        conv(16, [4, 4], [256, 256], 3, 1, 1),
        conv(16, [8, 8], [256, 256], 3, 2, 1),
    ];
    for s in shapes {
        for kernel in all_supported().into_iter().chain(bf16()).chain([portable_bf16()]) {
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| passes(&*kernel, &s))
            };
            let one = on(1);
            for threads in [2, 3, 8] {
                assert!(on(threads) == one, "{} on {threads} threads, {s:?}", kernel.name());
            }
        }
    }
}

#[test]
fn an_unknown_kernel_is_an_error_that_lists_the_choices() {
    let named = |name| kernel_named(Some(name), Precision::F32);
    let message = named("avx9000").err().map(|e| e.to_string()).unwrap_or_default();
    for kernel in all_supported() {
        assert!(message.contains(kernel.name()), "{message}");
        assert!(named(kernel.name()).is_ok());
    }
}
