//! The processor as a [`Machine`]: spans become slices, and slices go to the kernels.

use super::norms;
use super::slices::{slice, slice_mut};
use super::step::step;
use super::{Flow, Machine, Norm, PoolShape, Staged, Statistics, StepNumbers, Stepper, Weights};
use crate::error::{Error, Result};
use crate::kernel::device::{Affine, Buffer, Layer, NormShape, Part, Pass, Span};
use crate::kernel::{Conv, Kernel, Precision, norm, pool, ranks};
use std::sync::Arc;

/// A machine that computes with a kernel of the processor. Its values are f32; `bf16` is what such
/// a kernel multiplies.
pub struct Processor(Arc<dyn Kernel>);

impl Processor {
    /// A machine that convolves with `kernel`.
    pub fn new(kernel: Arc<dyn Kernel>) -> Self {
        Self(kernel)
    }
}

impl Machine for Processor {
    fn gpu(&self) -> Option<usize> {
        None
    }

    fn storage(&self, _: Precision) -> Precision {
        Precision::F32
    }

    fn mixes_images(&self) -> bool {
        false
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        Ok(Buffer::of_host(bytes.div_ceil(size_of::<f32>())))
    }

    fn upload(&self, values: &[f32], to: Span) -> Result<()> {
        slice_mut(to, &[]).copy_from_slice(values);
        Ok(())
    }

    fn download(&self, from: Span) -> Result<Vec<f32>> {
        Ok(slice(from).to_vec())
    }

    fn copy(&self, from: Span, to: Span) -> Result<()> {
        slice_mut(to, &[from]).copy_from_slice(slice(from));
        Ok(())
    }

    fn add(&self, from: Span, to: Span) -> Result<()> {
        ranks::add(slice_mut(to, &[from]), slice(from));
        Ok(())
    }

    fn weights(&self, _: &Conv, _: Precision) -> Weights {
        Weights::AsTheta
    }

    fn unfolded(&self, _: &Conv, _: Precision) -> Option<Conv> {
        None
    }

    fn unfold(&self, conv: &Conv, _: Span, _: Span) -> Result<()> {
        Err(Error::Failure(format!("the processor unfolds no images, here of {conv}")))
    }

    fn staged(&self, _: &[Layer]) -> Result<Option<Staged>> {
        Ok(None)
    }

    fn conv_scratch(&self, conv: &Conv) -> usize {
        self.0.conv_scratch(conv)
    }

    fn norm_scratch(&self, shape: &NormShape) -> usize {
        norm::scratch_len(shape.views * shape.rows, shape.channels)
    }

    fn pool_scratch(&self, _: usize) -> usize {
        0
    }

    fn conv(&self, pass: Pass, conv: &Conv, [a, b]: [Span; 2], out: Span, scratch: Span) -> Result<()> {
        assert_eq!([a.len(), b.len(), out.len()], pass.lengths(conv), "{pass:?} of {conv}");
        let (y, scratch) = (slice_mut(out, &[a, b]), slice_mut(scratch, &[a, b, out]));
        let (a, b, kernel) = (slice(a), slice(b), self.0.as_ref());
        match pass {
            Pass::Forward => kernel.conv_forward(conv, a, b, y, scratch),
            Pass::InputGradient => kernel.conv_input_gradient(conv, a, b, y, scratch),
            Pass::WeightGradient => kernel.conv_weight_gradient(conv, a, b, y, scratch),
        }
        Ok(())
    }

    fn norm(&self, n: &Norm, running: Statistics, residual: Option<Span>, relu: bool, y: Span) -> Result<()> {
        norms::norm(n, running, residual, relu, y)
    }

    fn norm_gradient(&self, n: &Norm, flow: &Flow, d_affine: Affine, dx: Option<Span>) -> Result<()> {
        norms::norm_gradient(n, flow, d_affine, dx)
    }

    fn bias(&self, shape: &NormShape, x: Span, bias: Span, relu: bool, y: Span) -> Result<()> {
        shape.check(&[x, y]);
        let (ones, zeros) = (vec![1.0; shape.channels], vec![0.0; shape.channels]);
        let to = slice_mut(y, &[x, bias]);
        norm::apply(slice(x), &zeros, &ones, slice(bias), None, relu, to);
        Ok(())
    }

    fn bias_gradient(&self, n: &Norm, flow: &Flow, d_bias: Span) -> Result<()> {
        norms::bias_gradient(n, flow, d_bias)
    }

    fn max_pool(&self, [height, width, channels]: PoolShape, x: Span, y: Span) -> Result<()> {
        pool::max_pool(slice(x), (height, width, channels), slice_mut(y, &[x]));
        Ok(())
    }

    fn max_pool_gradient(
        &self,
        [height, width, channels]: PoolShape,
        flow: &Flow,
        x: Span,
        dx: Span,
        _: Span,
    ) -> Result<()> {
        let Flow { g, other, y, .. } = *flow;
        let read: Vec<Span> = [g, x, y].into_iter().chain(other).collect();
        let (to, other) = (slice_mut(dx, &read), other.map(slice));
        pool::max_pool_gradient(slice(g), other, slice(x), slice(y), (height, width, channels), to);
        Ok(())
    }

    fn average_pool(&self, [height, width, channels]: PoolShape, x: Span, y: Span) -> Result<()> {
        pool::average_pool(slice(x), height * width, channels, slice_mut(y, &[x]));
        Ok(())
    }

    fn average_pool_gradient(&self, [height, width, channels]: PoolShape, g: Span, dx: Span) -> Result<()> {
        pool::average_pool_gradient(slice(g), height * width, channels, slice_mut(dx, &[g]));
        Ok(())
    }

    fn stepper(&self, parts: &[Part]) -> Result<Box<dyn Stepper>> {
        Ok(Box::new(Steps(parts.to_vec())))
    }
}

struct Steps(Vec<Part>);

impl Stepper for Steps {
    fn step(&self, theta: Span, velocity: Span, gradient: Span, numbers: &StepNumbers) -> Result<()> {
        let len: usize = self.0.iter().map(|part| part.len).sum();
        assert!([theta, velocity, gradient].iter().all(|span| span.len() == len));
        let (t, v) = (slice_mut(theta, &[velocity, gradient]), slice_mut(velocity, &[gradient]));
        step(&self.0, t, v, slice(gradient), numbers);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Array;
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn processor() -> Arc<dyn Machine> {
        Arc::new(Processor::new(crate::kernel::direct_sums().unwrap()))
    }

    #[test]
    fn what_an_operation_reads_or_may_only_read_is_not_written() {
        let machine = processor();
        let refused = |run: &dyn Fn() -> Result<()>| catch_unwind(AssertUnwindSafe(run)).is_err();
        let buffer = Buffer::of_host(8);
        let span = |start, len| buffer.span(Precision::F32, start, len);
        assert!(refused(&|| machine.copy(span(0, 4), span(3, 4))));
        let values = [1.0; 4];
        assert!(refused(&|| machine.upload(&[2.0; 4], Span::of(&values))));
        assert!(refused(&|| machine.average_pool([2, 1, 1], span(0, 2), span(1, 1))));
        machine.copy(Span::of(&values), span(4, 4)).unwrap();
        assert_eq!(machine.download(span(2, 4)).unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn arrays_keep_their_length_and_take_each_others_numbers_on_one_machine_only() {
        let (here, there) = (processor(), processor());
        let array = Array::new(here.clone(), &[1.0, 2.0]).unwrap();
        let copy = array.copy().unwrap();
        array.set(&[3.0, 4.0]).unwrap();
        assert_eq!((array.values().unwrap(), copy.values().unwrap()), (vec![3.0, 4.0], vec![1.0, 2.0]));
        array.take(&copy).unwrap();
        assert_eq!(array.values().unwrap(), [1.0, 2.0]);
        assert!(array.set(&[0.0]).is_err() && array.take(&Array::new(there, &[0.0, 0.0]).unwrap()).is_err());
        assert!(Array::new(here, &[]).unwrap().values().unwrap().is_empty());
    }
}
