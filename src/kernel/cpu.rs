//! The kernels on the processor: one per instruction set, chosen when the program runs.

use std::marker::PhantomData;
use std::sync::Arc;

use super::gather::Gather;
use super::pack::Weights;
use super::simd::{Portable, PortableBf16, Simd};
use super::winograd::Stride1;
use super::winograd_pass::Pass;
use super::winograd_strided::{Stride2, Stride2Gradient};
use super::{Conv, Kernel, direct, weight_gradient, winograd_gradient, winograd_pass};
use crate::error::{Error, Result};

/// The kernels on instruction set `S`, `W` for Winograd's algorithm; made only where the CPU has
/// both.
struct Cpu<S, W = S> {
    /// Uses Winograd's algorithm where it wins; otherwise every sum is direct.
    winograd: bool,
    sets: PhantomData<(S, W)>,
}

impl<S: Simd, W: Simd> Cpu<S, W> {
    fn make(winograd: bool) -> Option<Arc<dyn Kernel>> {
        let supported = S::supported() && W::supported();
        supported.then(|| Arc::new(Self { winograd, sets: PhantomData }) as Arc<dyn Kernel>)
    }

    /// The stride for which Winograd's algorithm is used, if it is.
    fn stride(&self, s: &Conv) -> Option<usize> {
        (self.winograd && suits_winograd(s)).then_some(s.stride)
    }
}

/// The fastest supported instruction set without Winograd's algorithm, for comparing trajectories
/// with another framework.
///
/// A trajectory with ReLU is chaotic: an activation within rounding of zero falls on the other
/// side, and the difference grows tenfold with each step. PyTorch differs from itself by 7e-3 after
/// eight steps when only its memory layout changes. Direct sums, ten times as accurate as
/// transformed ones, keep such events rare.
///
/// # Errors
/// [`Error::Failure`] on a machine that no kernel is made for; there is none so far.
pub fn direct_sums() -> Result<Arc<dyn Kernel>> {
    let fastest = on_supported_sets(false).into_iter().next();
    fastest.ok_or_else(|| Error::Failure("no kernel runs on this machine".into()))
}

/// The implementations that this machine can run, the fastest first; [`bf16`] is none of them.
pub fn all_supported() -> Vec<Arc<dyn Kernel>> {
    on_supported_sets(true)
}

/// A kernel for each instruction set that this machine has, the widest first.
fn on_supported_sets(winograd: bool) -> Vec<Arc<dyn Kernel>> {
    let all = [
        #[cfg(target_arch = "x86_64")]
        Cpu::<super::x86::Avx512>::make(winograd),
        #[cfg(target_arch = "x86_64")]
        Cpu::<super::x86::Avx2>::make(winograd),
        Cpu::<Portable>::make(winograd),
    ];
    all.into_iter().flatten().collect()
}

/// The kernel whose Winograd products take factors rounded to bf16, where this machine has one.
///
/// Tiles and weights are transformed in f32, rounded, multiplied, and added up in f32; everything
/// else is as in f32. Twice the multiplications in the same time.
pub fn bf16() -> Option<Arc<dyn Kernel>> {
    #[cfg(target_arch = "x86_64")]
    return Cpu::<super::x86::Avx512, super::x86::Avx512Bf16>::make(true);
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// [`bf16`]'s algorithms in plain Rust, for tests on machines without it.
pub fn portable_bf16() -> Arc<dyn Kernel> {
    Arc::new(Cpu::<Portable, PortableBf16> { winograd: true, sets: PhantomData })
}

impl<S: Simd, W: Simd> Kernel for Cpu<S, W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn operations(&self, s: &Conv) -> f64 {
        let points = match self.stride(s) {
            Some(1) => 36,
            Some(_) => 81,
            None => return s.flops(),
        };
        let tiles = s.batch * s.out_height().div_ceil(4) * s.out_width().div_ceil(4);
        2.0 * (points * tiles) as f64 * (s.in_channels * s.out_channels) as f64
    }

    fn conv_scratch(&self, s: &Conv) -> usize {
        if self.stride(s).is_some() {
            let passes = [Pass::forward(s), Pass::input_gradient(s)].map(|p| winograd_pass::scratch::<W>(&p));
            return passes[0].max(passes[1]).max(winograd_gradient::scratch(s));
        }
        let gradients = Gather::input_gradient(s).map(|g| direct::scratch::<S>(&g));
        let all =
            gradients.chain([direct::scratch::<S>(&Gather::forward(s)), weight_gradient::scratch::<S>(s)]);
        all.max().unwrap_or(0)
    }

    fn conv_forward(&self, s: &Conv, x: &[f32], w: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        check(s, x, w, y);
        let weights =
            Weights { w, in_channels: s.in_channels, out_channels: s.out_channels, transposed: false };
        // SAFETY: this kernel exists only where the CPU has `S`; the lengths were just checked.
        unsafe {
            match self.stride(s) {
                Some(1) => {
                    winograd_pass::pass::<W, Stride1, _, _, _>(&Pass::forward(s), x, weights, y, scratch)
                }
                Some(_) => {
                    winograd_pass::pass::<W, Stride2, _, _, _>(&Pass::forward(s), x, weights, y, scratch)
                }
                None => direct::gather::<S>(&Gather::forward(s), x, weights, y, scratch),
            }
        }
    }

    fn conv_input_gradient(&self, s: &Conv, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        check(s, dx, w, dy);
        let weights =
            Weights { w, in_channels: s.in_channels, out_channels: s.out_channels, transposed: true };
        // SAFETY: this kernel exists only where the CPU has `S`; the lengths were just checked.
        unsafe {
            let pass = Pass::input_gradient;
            match self.stride(s) {
                Some(1) => winograd_pass::pass::<W, Stride1, _, _, _>(&pass(s), dy, weights, dx, scratch),
                Some(_) => {
                    winograd_pass::pass::<W, Stride2Gradient, _, _, _>(&pass(s), dy, weights, dx, scratch)
                }
                None => {
                    Gather::input_gradient(s).for_each(|g| direct::gather::<S>(&g, dy, weights, dx, scratch))
                }
            }
        }
    }

    fn conv_weight_gradient(&self, s: &Conv, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
        check(s, x, dw, dy);
        // SAFETY: this kernel exists only where the CPU has `S`; the lengths were just checked.
        unsafe {
            match self.stride(s) {
                Some(1) => winograd_gradient::weight_gradient::<W, Stride1, _, _>(s, x, dy, dw, scratch),
                Some(_) => winograd_gradient::weight_gradient::<W, Stride2, _, _>(s, x, dy, dw, scratch),
                None => weight_gradient::weight_gradient::<S>(s, x, dy, dw, scratch),
            }
        }
    }
}

/// Whether Winograd's algorithm beats the direct sum: 3×3, stride 1 or 2, and enough channels and
/// tiles to pay for the transforms. A function of the shape only.
fn suits_winograd(s: &Conv) -> bool {
    let [height, width] = [s.out_height(), s.out_width()];
    let strides = match s.stride {
        1 => s.padding <= 2 && height.min(width).min(s.height).min(s.width) >= 4,
        // 81 products stand for 144: the tiles must not reach far beyond the image.
        2 => {
            let tiled = height.next_multiple_of(4) * width.next_multiple_of(4);
            s.padding == 1 && 5 * tiled <= 7 * height * width
        }
        _ => false,
    };
    s.kernel == 3 && s.in_channels.min(s.out_channels) >= 16 && strides
}

/// The lengths that the unsafe code below relies on; a mismatch is a defect of the caller.
fn check(s: &Conv, x: &[f32], w: &[f32], y: &[f32]) {
    assert_eq!(x.len(), s.input_len(), "input of {s:?}");
    assert_eq!(w.len(), s.weight_len(), "weights of {s:?}");
    assert_eq!(y.len(), s.output_len(), "output of {s:?}");
}
