//! The arithmetic of the encoder on slices and shapes: no candle, no study, no files.
//!
//! One small trait, [`Kernel`]; [`reference`] is its specification in plain loops, every other
//! implementation is tested against it. Images are (B, H, W, C), channels last; convolution weights
//! are (K, K, I, O), so that a convolution is the product of a (B·H'·W') × (K·K·I) matrix of
//! patches and a (K·K·I) × O matrix. A linear layer is a 1×1 convolution of 1×1 images.
//!
//! Results never depend on the number of threads: work is cut into chunks fixed by the shape, and
//! sums over chunks are taken in a fixed order.

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
mod direct;
mod gather;
pub mod machine;
pub mod norm;
mod pack;
mod peak;
pub mod pool;
pub mod ranks;
pub mod reference;
pub mod roi_align;
mod simd;
pub mod spectral;
mod tile;
mod weight_gradient;
mod winograd;
mod winograd_gradient;
mod winograd_output;
mod winograd_pass;
mod winograd_strided;
mod winograd_tiles;
mod work;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use cpu::{all_supported, bf16, direct_sums, portable_bf16};
pub use peak::multiply_adds;

use serde::{Deserialize, Serialize};

/// How numbers are rounded: what the products of the encoder multiply, whose sums are f32 in either
/// case, or what a memory bank keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 significant bits.
    #[default]
    F32,
    /// 8 significant bits: in a bank, half the bytes; in an encoder, only in the 3×3 convolutions
    /// that suit Winograd's algorithm, and twice as fast there.
    Bf16,
}

/// The shape of a convolution with a square kernel, zero padding and no bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Input height in pixels.
    pub height: usize,
    /// Input width in pixels.
    pub width: usize,
    /// Input channels (I).
    pub in_channels: usize,
    /// Output channels (O).
    pub out_channels: usize,
    /// Kernel side (K).
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on every side.
    pub padding: usize,
}

impl std::fmt::Display for Conv {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Conv { batch, height, width, in_channels, out_channels, kernel, stride, padding } = self;
        write!(
            f,
            "{batch}×{height}×{width}×{in_channels} → {out_channels}, {kernel}×{kernel}/{stride}+{padding}"
        )
    }
}

impl Conv {
    /// Output height in pixels.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// Output width in pixels.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }
    /// Numbers in the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }
    /// Numbers in the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.out_channels
    }
    /// Numbers in the weights.
    pub fn weight_len(&self) -> usize {
        self.kernel * self.kernel * self.in_channels * self.out_channels
    }
    /// Multiply-adds of one pass by the direct algorithm, counted as two operations each.
    pub fn flops(&self) -> f64 {
        2.0 * self.output_len() as f64 * (self.kernel * self.kernel * self.in_channels) as f64
    }
}

/// The convolution family. Every slice has exactly the length its shape says, and a pass may panic
/// for another; `scratch` has at least [`Kernel::conv_scratch`] numbers and no meaning before or
/// after a call.
pub trait Kernel: Send + Sync {
    /// The name recorded in env.json, e.g. `avx512`.
    fn name(&self) -> &'static str;
    /// Multiply-adds of one pass by the algorithm that `shape` gets, counted as two operations
    /// each; the transforms of Winograd's algorithm are not among them.
    fn operations(&self, shape: &Conv) -> f64 {
        shape.flops()
    }
    /// Numbers of scratch that the three passes of `shape` need at most.
    fn conv_scratch(&self, shape: &Conv) -> usize;
    /// y = x ∗ w: x (B, H, W, I), w (K, K, I, O) → y (B, H', W', O).
    fn conv_forward(&self, shape: &Conv, x: &[f32], w: &[f32], y: &mut [f32], scratch: &mut [f32]);
    /// dx = dy ∗ᵀ w, overwriting dx: the gradient of Σ dy·y with respect to x, in x's shape.
    fn conv_input_gradient(&self, shape: &Conv, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]);
    /// dw = x ⋆ dy, overwriting dw: the gradient of Σ dy·y with respect to w, in w's shape.
    fn conv_weight_gradient(&self, shape: &Conv, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]);
}
