//! The processor as a [`Machine`]: spans become slices, and slices go to the kernels.

use super::step::step;
use super::{Flow, Machine, Norm, PoolShape, Staged, Statistics, StepNumbers, Stepper, Weights};
use crate::error::{Error, Result};
use crate::kernel::device::{Affine, Buffer, Layer, Mask, NormShape, Part, Pass, Span};
use crate::kernel::{Conv, Kernel, Precision, norm, pool};
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

/// The f32 numbers of a span that an operation reads.
fn slice<'a>(span: Span<'a>) -> &'a [f32] {
    assert!(span.is_host() && span.precision() == Precision::F32, "numbers of a device, or no f32");
    // SAFETY: they lie in this process and live for 'a. Only operations write to them, one at a
    // time: spans stay on one thread, and an operation ends before the next begins. Within this one
    // `slice_mut` has checked that nothing it writes is read.
    unsafe { std::slice::from_raw_parts(span.address() as *const f32, span.len()) }
}

/// The f32 numbers of a span that an operation writes while it reads or writes those of `others`.
#[allow(clippy::mut_from_ref)]
fn slice_mut<'a>(span: Span<'a>, others: &[Span]) -> &'a mut [f32] {
    assert!(span.is_writable() && span.precision() == Precision::F32, "numbers that are only read");
    assert!(others.iter().all(|other| !span.overlaps(other)), "an operation would write what it reads");
    // SAFETY: as in `slice`; that nobody else has borrowed them is what `is_writable` says.
    unsafe { std::slice::from_raw_parts_mut(span.address() as *mut f32, span.len()) }
}

/// 1/√(σ² + ε)
fn inverse_of(variance: f32) -> f32 {
    (1.0 / (f64::from(variance) + norm::EPSILON).sqrt()) as f32
}

/// The running statistics of one normalisation, as slices.
enum Running<'a> {
    Moving { mean: &'a mut [f32], variance: &'a mut [f32], momentum: f32 },
    Fixed { mean: &'a [f32], variance: &'a [f32] },
}

impl<'a> Running<'a> {
    fn of(Statistics { mean, variance, momentum }: Statistics<'a>, others: &[Span]) -> Self {
        match momentum {
            None => Running::Fixed { mean: slice(mean), variance: slice(variance) },
            Some(momentum) => Running::Moving {
                mean: slice_mut(mean, &[others, &[variance]].concat()),
                variance: slice_mut(variance, others),
                momentum,
            },
        }
    }

    /// Mean and 1/√(σ²+ε) of a view x (rows, C).
    fn view(&mut self, x: &[f32], mean: &mut [f32], inverse: &mut [f32], scratch: &mut [f32]) {
        match self {
            Running::Fixed { mean: fixed, variance } => {
                mean.copy_from_slice(fixed);
                inverse.iter_mut().zip(*variance).for_each(|(i, v)| *i = inverse_of(*v));
            }
            Running::Moving { mean: running_mean, variance, momentum } => {
                norm::statistics(x, mean, inverse, scratch);
                let rows = (x.len() / mean.len()) as f32;
                let unbiased = rows / (rows - 1.0).max(1.0);
                let step = |running: &mut [f32], values: &[f32], factor: f32| {
                    for (r, v) in running.iter_mut().zip(values) {
                        *r = (1.0 - *momentum) * *r + *momentum * (v * factor);
                    }
                };
                step(running_mean, mean, 1.0);
                step(variance, inverse, unbiased);
                inverse.iter_mut().for_each(|i| *i = inverse_of(*i));
            }
        }
    }
}

impl NormShape {
    /// Numbers of a view.
    fn view_len(&self) -> usize {
        self.rows * self.channels
    }

    fn check(&self, values: &[Span]) {
        let len = self.views * self.view_len();
        assert!(values.iter().all(|value| value.len() == len), "values of another shape than {self:?}");
    }
}

impl Machine for Processor {
    fn gpu(&self) -> Option<usize> {
        None
    }

    fn storage(&self, _: Precision) -> Precision {
        Precision::F32
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
        let NormShape { views, channels, .. } = n.shape;
        let read: Vec<Span> = [n.x].into_iter().chain(residual).chain(n.affine.0).chain(n.affine.1).collect();
        n.shape.check(&[n.x, y]);
        residual.iter().for_each(|residual| n.shape.check(&[*residual]));
        let y_out = slice_mut(y, &read);
        let saved = slice_mut(n.saved, &[&read[..], &[y]].concat());
        let scratch = slice_mut(n.scratch, &[&read[..], &[y, n.saved]].concat());
        let mut running = Running::of(running, &[&read[..], &[y, n.saved, n.scratch]].concat());
        let (x, residual) = (slice(n.x), residual.map(slice));
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let (scale, shift) = (n.affine.0.map_or(&ones[..], slice), n.affine.1.map_or(&zeros[..], slice));
        let len = n.shape.view_len();
        for (view, saved) in saved.chunks_exact_mut(2 * channels).take(views).enumerate() {
            let rows = view * len..(view + 1) * len;
            let (mean, inverse) = saved.split_at_mut(channels);
            running.view(&x[rows.clone()], mean, inverse, scratch);
            let folded: Vec<f32> = scale.iter().zip(&*inverse).map(|(s, i)| s * i).collect();
            let residual = residual.map(|residual| &residual[rows.clone()]);
            norm::apply(&x[rows.clone()], mean, &folded, shift, residual, relu, &mut y_out[rows]);
        }
        Ok(())
    }

    fn norm_gradient(&self, n: &Norm, flow: &Flow, d_affine: Affine, dx: Option<Span>) -> Result<()> {
        let NormShape { views, channels, .. } = n.shape;
        let in_place = dx.is_some_and(|dx| dx.address() == flow.g.address());
        let dx = dx.filter(|_| !in_place);
        let mut d = vec![0f64; 2 * channels];
        let beside: Vec<Span> = [n.x, n.saved].into_iter().chain(n.affine.0).collect();
        let mut passes = Backward::new(n, flow, &beside);
        let to = dx.map(|dx| slice_mut(dx, &[&beside[..], &[flow.g, n.scratch]].concat()));
        let mut to = to.map(|to| to.chunks_exact_mut(n.shape.view_len()));
        let gamma = n.affine.0.map(slice);
        for (view, saved) in slice(n.saved).chunks_exact(2 * channels).take(views).enumerate() {
            let (mean, inverse) = saved.split_at(channels);
            let (g, x, sums) = passes.sums(view, mean);
            let rows = n.shape.rows as f64;
            let [mut a, mut b, mut c] = [const { Vec::new() }; 3].map(|_: Vec<f32>| vec![0f32; channels]);
            for i in 0..channels {
                let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[i]));
                let (inverse, sum, product) = (f64::from(inverse[i]), sums[i], sums[channels + i]);
                a[i] = (gamma * inverse) as f32;
                b[i] = (-gamma * inverse.powi(3) * product / rows) as f32;
                c[i] = (-gamma * inverse * sum / rows) as f32;
                d[i] += product * inverse;
                d[channels + i] += sum;
            }
            let coefficients = [&a[..], &b[..], &c[..], mean];
            match to.as_mut().and_then(Iterator::next) {
                Some(dx) => norm::gradient_apply(g, x, coefficients, dx),
                None if in_place => norm::gradient_apply_in_place(g, x, coefficients),
                None => {}
            }
        }
        for (to, sums) in [(d_affine.0, &d[..channels]), (d_affine.1, &d[channels..])] {
            to.iter().for_each(|to| put(sums, *to));
        }
        Ok(())
    }

    fn bias(&self, shape: &NormShape, x: Span, bias: Span, relu: bool, y: Span) -> Result<()> {
        shape.check(&[x, y]);
        let (ones, zeros) = (vec![1.0; shape.channels], vec![0.0; shape.channels]);
        let to = slice_mut(y, &[x, bias]);
        norm::apply(slice(x), &zeros, &ones, slice(bias), None, relu, to);
        Ok(())
    }

    fn bias_gradient(&self, n: &Norm, flow: &Flow, d_bias: Span) -> Result<()> {
        let zeros = vec![0f32; n.shape.channels];
        let mut passes = Backward::new(n, flow, &[n.x]);
        let (_, _, sums) = passes.sums(0, &zeros);
        put(&sums[..n.shape.channels], d_bias);
        Ok(())
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

/// Writes f64 sums as f32.
fn put(sums: &[f64], to: Span) {
    slice_mut(to, &[]).iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum as f32);
}

/// The first pass of a gradient over the views: masks g in its place and sums it.
struct Backward<'a> {
    g: &'a mut [f32],
    other: Option<&'a [f32]>,
    y: Option<&'a [f32]>,
    x: &'a [f32],
    scratch: &'a mut [f32],
    view_len: usize,
}

impl<'a> Backward<'a> {
    /// `beside` is what is read beside the flow.
    fn new(n: &Norm<'a>, flow: &Flow<'a>, beside: &[Span]) -> Self {
        let read: Vec<Span> = beside.iter().copied().chain(flow.other).chain([flow.y]).collect();
        n.shape.check(&[flow.g, flow.y, n.x]);
        flow.other.iter().for_each(|other| n.shape.check(&[*other]));
        Self {
            g: slice_mut(flow.g, &read),
            other: flow.other.map(slice),
            y: (flow.mask != Mask::None).then(|| slice(flow.y)),
            x: slice(n.x),
            scratch: slice_mut(n.scratch, &[&read[..], &[flow.g]].concat()),
            view_len: n.shape.view_len(),
        }
    }

    /// The masked gradient and the input of a view, with Σg and Σg·(x − μ) of each channel.
    fn sums(&mut self, view: usize, mean: &[f32]) -> (&mut [f32], &[f32], Vec<f64>) {
        let rows = view * self.view_len..(view + 1) * self.view_len;
        let part = |array: Option<&'a [f32]>| array.map(|array| &array[rows.clone()]);
        let mut sums = vec![0f64; 2 * mean.len()];
        let (other, y, x) = (part(self.other), part(self.y), &self.x[rows.clone()]);
        let g = &mut self.g[rows];
        norm::gradient_sums(g, other, y, x, mean, &mut sums, self.scratch);
        (g, x, sums)
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
