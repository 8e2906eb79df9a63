//! RoIAlign as a node of candle's graph, differentiable in the features.

use crate::error::{Error, Result};
use crate::kernel::roi_align::{Roi, RoiAlign};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

/// The boxes `rois` of features f (B, H, W, C), (boxes, rows, columns, C), on the processor.
///
/// # Errors
/// [`Error::Failure`] for boxes of images that there are not or that are infinite, and features of
/// another shape.
pub fn roi_align(features: &Tensor, rois: Vec<Roi>, shape: RoiAlign) -> Result<Tensor> {
    let RoiAlign { batch, height, width, channels, .. } = shape;
    let good = |roi: &Roi| roi.image < batch && roi.corners.iter().all(|corner| corner.is_finite());
    if features.dims() != [batch, height, width, channels] || !rois.iter().all(good) {
        return Err(Error::Failure("boxes of other features, or without an end".into()));
    }
    Ok(features.contiguous()?.apply_op1(Reading { rois, shape })?)
}

/// Boxes that are read from features of one shape.
struct Reading {
    rois: Vec<Roi>,
    shape: RoiAlign,
}

impl CustomOp1 for Reading {
    fn name(&self) -> &'static str {
        "roi-align"
    }

    fn cpu_fwd(&self, features: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (features, layout.contiguous_offsets()) else {
            candle_core::bail!("boxes are read from contiguous f32 features")
        };
        let RoiAlign { rows, columns, channels, .. } = self.shape;
        let mut read = vec![0.0; self.rois.len() * self.shape.output_len()];
        self.shape.forward(&values[start..end], &self.rois, &mut read);
        Ok((CpuStorage::F32(read), (self.rois.len(), rows, columns, channels).into()))
    }

    fn bwd(&self, features: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let mut of_features = vec![0.0; features.elem_count()];
        self.shape.gradient(&self.rois, &gradient, &mut of_features);
        Ok(Some(Tensor::from_vec(of_features, features.dims(), features.device())?))
    }
}
