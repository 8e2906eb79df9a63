//! The SGD step on θ: v ← μ·v + s·(g + λ·θ), θ ← θ − lr·v, in one pass.

use super::super::device::{Part, Span};
use crate::error::Result;
use rayon::prelude::*;

/// The numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepNumbers {
    /// The learning rate.
    pub lr: f32,
    /// μ.
    pub momentum: f32,
    /// λ, on penalised parts.
    pub weight_decay: f64,
    /// LARS's factor, where penalised parts have rates of their own:
    /// s = trust · ‖θ‖ / (‖g‖ + λ‖θ‖), of each part (You, Gitman & Ginsburg 2017).
    pub trust: Option<f64>,
}

/// What makes the steps of one vector on a machine.
pub trait Stepper: Send {
    /// One step on `theta` with its momentum `velocity` along `gradient`, all f32 and of one
    /// length.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where a GPU fails.
    fn step(&self, theta: Span, velocity: Span, gradient: Span, numbers: &StepNumbers) -> Result<()>;
}

/// Numbers per task: large enough that a small network is one task.
const CHUNK: usize = 1 << 16;

/// One step on slices, part after part.
pub fn step(
    parts: &[Part],
    theta: &mut [f32],
    velocity: &mut [f32],
    gradient: &[f32],
    numbers: &StepNumbers,
) {
    if numbers.trust.is_none() && parts.iter().all(|part| part.penalised) {
        return step_part(theta, velocity, gradient, numbers, [numbers.weight_decay as f32, 1.0]);
    }
    let mut start = 0;
    for part in parts {
        let range = start..start + part.len;
        start = range.end;
        let (theta, gradient) = (&mut theta[range.clone()], &gradient[range.clone()]);
        let decay = if part.penalised { numbers.weight_decay } else { 0.0 };
        let trust = numbers.trust.filter(|_| part.penalised);
        let rate = trust.map_or(1.0, |trust| lars(trust, theta, gradient, decay));
        step_part(theta, &mut velocity[range], gradient, numbers, [decay as f32, rate as f32]);
    }
}

fn step_part(
    theta: &mut [f32],
    velocity: &mut [f32],
    gradient: &[f32],
    numbers: &StepNumbers,
    [decay, rate]: [f32; 2],
) {
    let StepNumbers { lr, momentum, .. } = *numbers;
    let chunk = |((theta, velocity), gradient): ((&mut [f32], &mut [f32]), &[f32])| {
        for ((t, v), g) in theta.iter_mut().zip(velocity.iter_mut()).zip(gradient) {
            *v = momentum * *v + rate * (g + decay * *t);
            *t -= lr * *v;
        }
    };
    if theta.len() <= CHUNK {
        return chunk(((theta, velocity), gradient));
    }
    let parts = theta.par_chunks_mut(CHUNK).zip(velocity.par_chunks_mut(CHUNK));
    parts.zip(gradient.par_chunks(CHUNK)).for_each(chunk);
}

/// s of one part; 1 where its weights or its gradient are zero, as nothing could be learned
/// otherwise.
fn lars(trust: f64, theta: &[f32], gradient: &[f32], decay: f64) -> f64 {
    let (theta, gradient) = (norm(theta), norm(gradient));
    if theta > 0.0 && gradient > 0.0 { trust * theta / (gradient + decay * theta) } else { 1.0 }
}

/// ‖x‖, summed in f64 over fixed chunks, so that threads do not change it.
fn norm(x: &[f32]) -> f64 {
    let squares = |chunk: &[f32]| chunk.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let sums: Vec<f64> = x.par_chunks(CHUNK).map(squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lars_leaves_a_part_of_zeros_its_gradient() {
        assert_eq!(lars(0.01, &[0.0, 0.0], &[1.0, 2.0], 0.1), 1.0);
        assert_eq!(lars(0.01, &[1.0, 2.0], &[0.0, 0.0], 0.1), 1.0);
    }
}
