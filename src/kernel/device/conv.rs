//! Convolutions, products and pooling on a device: a library's where it has one for the shape,
//! plain loops otherwise.

use super::{Arg, Device, Launch, Span, THREADS, int, long};
use crate::error::Result;
use crate::kernel::pool::max_pool_side;
use crate::kernel::{Conv, Precision};

/// One of the three passes of a convolution, with what it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// x, w → y.
    Forward,
    /// dy, w → dx.
    InputGradient,
    /// x, dy → dw.
    WeightGradient,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward pass",
            Pass::InputGradient => "input's gradient",
            Pass::WeightGradient => "weights' gradient",
        })
    }
}

impl Pass {
    /// Every pass.
    pub const ALL: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

    /// The lengths of the two inputs and the result.
    pub fn lengths(self, s: &Conv) -> [usize; 3] {
        let (x, w, y) = (s.input_len(), s.weight_len(), s.output_len());
        match self {
            Pass::Forward => [x, w, y],
            Pass::InputGradient => [y, w, x],
            Pass::WeightGradient => [x, y, w],
        }
    }
}

/// How weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// (K, K, I, O), as in θ.
    Theta,
    /// (O, K, K, I), as cuDNN wants them.
    Filters,
}

/// The convolution as a product of (rows, I) and (I, O), where it is one: its rows.
pub fn as_product(s: &Conv) -> Option<usize> {
    (s.kernel == 1 && s.stride == 1 && s.padding == 0).then_some(s.batch * s.height * s.width)
}

/// Most columns of unfolded images, as in `cu/conv.cu`.
const MOST_COLUMNS: usize = 256;

/// A convolution of images with so few channels that it is better unfolded: the product of its
/// patches, whose rows are K·K·I numbers and zeros up to a multiple of 16 bytes, with weights to
/// which rows of zeros are added.
pub fn unfolded(s: &Conv, precision: Precision) -> Option<Conv> {
    let columns = (s.kernel * s.kernel * s.in_channels).next_multiple_of(16 / precision.bytes());
    (s.in_channels < 8 && s.kernel > 1 && columns <= MOST_COLUMNS).then(|| Conv {
        height: s.out_height(),
        width: s.out_width(),
        in_channels: columns,
        kernel: 1,
        stride: 1,
        padding: 0,
        ..*s
    })
}

fn check(pass: Pass, s: &Conv, a: Span, b: Span, out: Span) {
    assert_eq!([a.len(), b.len(), out.len()], pass.lengths(s), "{pass:?} of {s:?}");
}

impl dyn Device + '_ {
    /// One pass of a convolution with weights (O, K, K, I), everything stored alike.
    pub fn convolve(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> Result<()> {
        check(pass, s, a, b, out);
        if self.conv(pass, s, a, b, out)? {
            return Ok(());
        }
        self.plain_conv(pass, s, a, b, out, Order::Filters)
    }

    /// One pass of a 1×1 convolution with weights (I, O). The gradient of the weights is f32.
    pub fn multiply(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span) -> Result<()> {
        check(pass, s, a, b, out);
        assert!(as_product(s).is_some(), "{s:?} is no product");
        if self.product(pass, s, a, b, out)? {
            return Ok(());
        }
        self.plain_conv(pass, s, a, b, out, Order::Theta)
    }

    /// The patches of f32 images x (B, H, W, I), which [`unfolded`] multiplies: (B·H'·W', columns),
    /// each K·K·I numbers and zeros.
    pub fn unfold(&self, s: &Conv, x: Span, patches: Span) -> Result<()> {
        let product = unfolded(s, patches.precision());
        assert!(x.len() == s.input_len() && x.precision() == Precision::F32);
        assert_eq!(product.map(|product| product.input_len()), Some(patches.len()), "{s:?}");
        let columns = patches.len() / (s.batch * s.out_height() * s.out_width());
        let sizes = [s.height, s.width, s.in_channels, s.kernel, s.stride, s.padding];
        let args: Vec<Arg> = [x.into(), patches.into()]
            .into_iter()
            .chain(sizes.map(int))
            .chain([s.out_height(), s.out_width(), columns].map(int))
            .collect();
        let (grid, block) = ([s.batch * s.out_height(), 1, 1], [THREADS, 1]);
        let kernel = format!("unfold_{}", patches.suffix());
        // SAFETY: the lengths were just checked; the arguments are those of cu/conv.cu.
        unsafe { self.launch(&Launch { kernel, grid, block, args }) }
    }

    /// [`Self::convolve`] and, with θ's own order, [`Self::multiply`] in plain loops.
    pub fn plain_conv(&self, pass: Pass, s: &Conv, a: Span, b: Span, out: Span, order: Order) -> Result<()> {
        check(pass, s, a, b, out);
        assert_eq!(a.precision(), b.precision());
        let rows = s.kernel * s.kernel * s.in_channels;
        let (by_row, by_column) = match order {
            Order::Theta => (s.out_channels, 1),
            Order::Filters => (1, rows),
        };
        let single = pass == Pass::WeightGradient && out.precision() == Precision::F32;
        let name = match pass {
            Pass::Forward => "conv_forward",
            Pass::InputGradient => "conv_input_gradient",
            Pass::WeightGradient if single => "product_weight_gradient",
            Pass::WeightGradient => "conv_weight_gradient",
        };
        assert!(single || out.precision() == a.precision());
        let sizes =
            [s.batch, s.height, s.width, s.in_channels, s.out_channels, s.kernel, s.stride, s.padding];
        let args: Vec<Arg> = [a.into(), b.into(), out.into()]
            .into_iter()
            .chain(sizes.map(int))
            .chain([int(s.out_height()), int(s.out_width()), long(by_row), long(by_column)])
            .collect();
        // SAFETY: the lengths were just checked; the arguments are those of cu/conv.cu.
        unsafe { self.launch_flat(format!("{name}_{}", a.suffix()), out.len(), args) }
    }

    /// y (B, H', W', C) = the largest of each 3×3 window of x (B, H, W, C).
    pub fn max_pool(&self, [height, width, channels]: [usize; 3], x: Span, y: Span) -> Result<()> {
        let images = pooled_images([height, width, channels], x, y);
        let (name, pack) = packed("max_pool", channels, &[x, y]);
        let sizes = [images, height, width, channels].map(int);
        let args = [x.into(), y.into(), Arg::from(None)].into_iter().chain(sizes).collect();
        // SAFETY: the lengths were just checked; the arguments are those of cu/pool.cu.
        unsafe { self.launch_flat(name, y.len() / pack, args) }
    }

    /// dx (B, H, W, C): each dy (B, H', W', C) (plus `other`) goes to the first largest of its
    /// window; `scratch` as [`pool_scratch_len`] says.
    pub fn max_pool_gradient(
        &self,
        [height, width, channels]: [usize; 3],
        (dy, other): (Span, Option<Span>),
        x: Span,
        dx: Span,
        scratch: Span,
    ) -> Result<()> {
        let images = pooled_images([height, width, channels], x, dy);
        assert!(dx.len() == x.len() && scratch.len() >= pool_scratch_len(dy.len()));
        assert!(other.is_none_or(|other| other.len() == dy.len()));
        let sizes = [images, height, width, channels].map(int);
        let all: Vec<Span> = [x, dy, dx].into_iter().chain(other).collect();
        let (pool, pack) = packed("max_pool", channels, &all);
        let (gradient, _) = packed("max_pool_gradient", channels, &all);
        // The places alone; y is there already.
        let of_places = [x.into(), Arg::from(None), scratch.into()].into_iter().chain(sizes).collect();
        let of_gradient = [dy.into(), other.into(), scratch.into(), dx.into()].into_iter().chain(sizes);
        // SAFETY: the lengths were just checked; the arguments are those of cu/pool.cu.
        unsafe {
            self.launch_flat(pool, dy.len() / pack, of_places)?;
            self.launch_flat(gradient, dx.len() / pack, of_gradient.collect())
        }
    }

    /// y (B, C) = the mean over the pixels of x (B, pixels, C).
    pub fn average_pool(&self, pixels: usize, channels: usize, x: Span, y: Span) -> Result<()> {
        let images = y.len() / channels;
        assert_eq!(x.len(), images * pixels * channels);
        let (name, pack) = packed("average_pool", channels, &[x, y]);
        let args = vec![x.into(), y.into(), int(images), int(pixels), int(channels)];
        // SAFETY: the lengths were just checked; the arguments are those of cu/pool.cu.
        unsafe { self.launch_flat(name, y.len() / pack, args) }
    }

    /// dx (B, pixels, C): dy (B, C) / pixels at each pixel.
    pub fn average_pool_gradient(&self, pixels: usize, channels: usize, dy: Span, dx: Span) -> Result<()> {
        let images = dy.len() / channels;
        assert_eq!(dx.len(), images * pixels * channels);
        let (name, pack) = packed("average_pool_gradient", channels, &[dy, dx]);
        let args = vec![dy.into(), dx.into(), int(images), int(pixels), int(channels)];
        // SAFETY: the lengths were just checked; the arguments are those of cu/pool.cu.
        unsafe { self.launch_flat(name, dx.len() / pack, args) }
    }
}

/// Numbers of f32 that the gradient of a pooling with `len` outputs needs: a byte for each.
pub fn pool_scratch_len(len: usize) -> usize {
    len.div_ceil(4)
}

fn pooled_images([height, width, channels]: [usize; 3], x: Span, y: Span) -> usize {
    let images = x.len() / (height * width * channels);
    assert_eq!(x.len(), images * height * width * channels);
    assert_eq!(y.len(), images * max_pool_side(height) * max_pool_side(width) * channels);
    images
}

/// The kernel's name with its suffix, and the numbers of a pack.
fn packed(kernel: &str, channels: usize, spans: &[Span]) -> (String, usize) {
    let pack = 16 / spans[0].precision().bytes();
    let whole = channels.is_multiple_of(pack) && spans.iter().all(Span::is_aligned);
    let pack = if whole { pack } else { 1 };
    (format!("{kernel}_{}_{pack}", spans[0].suffix()), pack)
}
