//! The cross-correlation of feature maps as a node of candle's graph, differentiable in both
//! (SiamFC; Bertinetto et al. 2016): the exemplar's map is the weights of a convolution over the
//! search window's, so that the response and both gradients are passes of the convolution kernels.

use crate::error::{Error, Result};
use crate::kernel::{Conv, Kernel};
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use std::sync::Arc;

/// The response (B·m, H − K + 1, W − K + 1) of `search` (B·m, H, W, C) to `exemplar` (B, K, K, C),
/// on the processor: exemplar b is looked for in the m search windows from b·m on. At each place
/// the sum over the products of the exemplar and what lies below it.
///
/// # Errors
/// [`Error::Failure`] for maps of other shapes, or an exemplar larger than a search window.
///
/// ```
/// # fn main() -> simsiam_em::Result<()> {
/// use candle_core::{Device, Tensor};
/// use simsiam_em::kernel::direct_sums;
/// use simsiam_em::network::correlate;
///
/// let search = Tensor::new(&[0f32, 0.0, 2.0, 0.0], &Device::Cpu)?.reshape((1, 2, 2, 1))?;
/// let exemplar = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
/// let response = correlate(&search, &exemplar, &direct_sums()?)?;
/// assert_eq!(response.to_vec3::<f32>()?, [[[0.0, 0.0], [6.0, 0.0]]]);
/// # Ok(())
/// # }
/// ```
pub fn correlate(search: &Tensor, exemplar: &Tensor, kernel: &Arc<dyn Kernel>) -> Result<Tensor> {
    let (searches, height, width, channels) = search.dims4()?;
    let (exemplars, side, across, of_exemplar) = exemplar.dims4()?;
    let fits = exemplars > 0 && searches.is_multiple_of(exemplars) && searches > 0;
    let within = side == across && (1..=height.min(width)).contains(&side) && channels == of_exemplar;
    if !fits || !within {
        let (search, exemplar) = (search.dims(), exemplar.dims());
        return Err(Error::Failure(format!("maps of {exemplar:?} cannot be looked for in {search:?}")));
    }
    let shape = Conv {
        batch: searches / exemplars,
        height,
        width,
        in_channels: channels,
        out_channels: 1,
        kernel: side,
        stride: 1,
        padding: 0,
    };
    let op = Correlation { shape, exemplars, kernel: kernel.clone() };
    Ok(search.contiguous()?.apply_op2(&exemplar.contiguous()?, op)?)
}

/// As many convolutions as there are exemplars, each of its own search windows.
struct Correlation {
    /// Of one exemplar.
    shape: Conv,
    exemplars: usize,
    kernel: Arc<dyn Kernel>,
}

/// The contiguous f32 numbers of a storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("maps are contiguous f32 tensors"),
    }
}

impl Correlation {
    fn scratch(&self) -> Vec<f32> {
        vec![0.0; self.kernel.conv_scratch(&self.shape)]
    }
}

impl CustomOp2 for Correlation {
    fn name(&self) -> &'static str {
        "correlate"
    }

    fn cpu_fwd(
        &self,
        search: &CpuStorage,
        search_layout: &Layout,
        exemplar: &CpuStorage,
        exemplar_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (search, exemplar) = (slice(search, search_layout)?, slice(exemplar, exemplar_layout)?);
        let (conv, mut scratch) = (&self.shape, self.scratch());
        let mut response = vec![0.0; self.exemplars * conv.output_len()];
        let parts = search.chunks(conv.input_len()).zip(exemplar.chunks(conv.weight_len()));
        for ((x, w), y) in parts.zip(response.chunks_mut(conv.output_len())) {
            self.kernel.conv_forward(conv, x, w, y, &mut scratch);
        }
        let shape = (self.exemplars * conv.batch, conv.out_height(), conv.out_width());
        Ok((CpuStorage::F32(response), shape.into()))
    }

    fn bwd(
        &self,
        search: &Tensor,
        exemplar: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let numbers = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let (x, w, dy) = (numbers(search)?, numbers(exemplar)?, numbers(gradient)?);
        let (conv, mut scratch) = (&self.shape, self.scratch());
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        let of_search = x.chunks(conv.input_len()).zip(dx.chunks_mut(conv.input_len()));
        let of_exemplar = w.chunks(conv.weight_len()).zip(dw.chunks_mut(conv.weight_len()));
        let of_both = of_search.zip(of_exemplar).zip(dy.chunks(conv.output_len()));
        for (((x, dx), (w, dw)), dy) in of_both {
            self.kernel.conv_input_gradient(conv, dy, w, dx, &mut scratch);
            self.kernel.conv_weight_gradient(conv, x, dy, dw, &mut scratch);
        }
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.dims(), like.device());
        Ok((Some(tensor(dx, search)?), Some(tensor(dw, exemplar)?)))
    }
}
