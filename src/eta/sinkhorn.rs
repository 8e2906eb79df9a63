//! SwAV's E-step: η is the code of the other view, its assignment to K clusters under the
//! constraint that a batch uses all of them alike (Caron et al. 2020, Sec. 3.1; Sec. 6.2 of the
//! paper: "online clustering").
//!
//! A code is one row of Q = argmax tr(Q Sᵀ) + ε H(Q) with equal sums over columns and equal sums
//! over rows, S the scores; Sinkhorn–Knopp finds it by turns. Everything stays in logarithms, so no
//! ε overflows, and η is log Q: the cross-entropy's softmax(η) is then the code itself.

use super::queue::Queue;
use super::{EStep, Frozen, Held, Views, other_views};
use crate::error::{Error, Result};
use crate::objective::log_sum_exp;
use candle_core::Tensor;

/// Assigns the outputs of a batch to clusters, together with earlier outputs where it keeps some.
#[derive(Debug)]
pub struct Sinkhorn {
    /// ε: the larger, the more even a code.
    pub epsilon: f64,
    /// Normalisations of columns and rows.
    pub iterations: usize,
    /// False for Table 6b, where the codes are differentiated through.
    pub stop_gradient: bool,
    /// Outputs of earlier batches, one queue for each view; empty where a batch is assigned alone.
    pub queues: Vec<Queue>,
    /// The step from which on they are filled.
    pub queued_from: u64,
}

/// What a checkpoint calls the queue of a view.
const QUEUE: &str = "queue";

impl Sinkhorn {
    /// The log-codes of view `v`, (B, K): of `scores` (B, K) together with those of the queue.
    fn log_codes(&self, v: usize, scores: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let Some(queue) = self.queues.get(v).filter(|queue| queue.is_full()) else {
            return log_codes(scores, self.epsilon, self.iterations);
        };
        let earlier = frozen.scores(&queue.tensor(scores.device())?.unsqueeze(0)?)?.squeeze(0)?.detach();
        let codes = log_codes(&Tensor::cat(&[&earlier, scores], 0)?, self.epsilon, self.iterations)?;
        Ok(codes.narrow(0, queue.len(), scores.dim(0)?)?)
    }
}

/// log Q (N, K) for scores S (N, K): each of `iterations` times the columns are scaled to equal
/// sums, then the rows to 1. Differentiable.
///
/// # Errors
/// [`Error::Device`] when a GPU fails.
pub fn log_codes(scores: &Tensor, epsilon: f64, iterations: usize) -> Result<Tensor> {
    let mut log_q = (scores / epsilon)?;
    for _ in 0..iterations {
        log_q = log_q.broadcast_sub(&log_sum_exp(&log_q, 0)?)?;
        log_q = log_q.broadcast_sub(&log_sum_exp(&log_q, 1)?)?;
    }
    Ok(log_q)
}

impl EStep for Sinkhorn {
    fn targets(&mut self, views: &Views, z: &Tensor, frozen: Frozen) -> Result<Tensor> {
        let (all, given) = (views.x.dim(0)?, z.dim(0)?);
        let z = match given < all {
            true => Tensor::cat(&[z, &frozen.z(&views.x.narrow(0, given, all - given)?)?], 0)?,
            false => z.clone(),
        };
        let z = if self.stop_gradient { z.detach() } else { z };
        let scores = frozen.scores(&z)?;
        let codes: Result<Vec<Tensor>> =
            (0..all).map(|v| self.log_codes(v, &scores.get(v)?, frozen)).collect();
        let eta = other_views(&Tensor::stack(&codes?, 0)?)?.narrow(0, 0, given)?;
        if views.step >= self.queued_from {
            for (v, queue) in self.queues.iter_mut().enumerate() {
                queue.push(&z.get(v)?.detach())?;
            }
        }
        Ok(if self.stop_gradient { eta.detach() } else { eta })
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let mut held = Vec::new();
        for (v, queue) in self.queues.iter().enumerate() {
            held.extend(queue.state(&format!("{QUEUE}{v}"))?);
        }
        Ok(held)
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        for (name, _, values) in held {
            let unread =
                |what: String| Error::Failure(format!("the checkpoint's {name} cannot be read: {what}"));
            let values = values.into_f32().map_err(|e| unread(e.to_string()))?;
            let queues = self.queues.iter_mut().enumerate();
            let mut own = queues.filter_map(|(v, queue)| {
                Some((queue, name.strip_prefix(&format!("{QUEUE}{v}."))?.to_string()))
            });
            let (queue, part) = own.next().ok_or_else(|| unread("this rule keeps no such queue".into()))?;
            queue.restore(&part, values)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn many_iterations_use_every_cluster_alike() {
        let scores =
            Tensor::from_slice(&[0.9f32, 0.1, 0.8, 0.3, 0.7, 0.2, 0.9, 0.5], (4, 2), &Device::Cpu).unwrap();
        let codes = log_codes(&scores, 0.05, 200).unwrap().exp().unwrap();
        let columns = codes.sum(0).unwrap().to_vec1::<f32>().unwrap();
        assert!(columns.iter().all(|sum| (sum - 2.0).abs() < 1e-3), "{columns:?}");
        let rows = codes.sum(1).unwrap().to_vec1::<f32>().unwrap();
        assert!(rows.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{rows:?}");
    }

    #[test]
    fn an_epsilon_that_overflows_an_exponential_gives_hard_codes() {
        let scores = Tensor::from_slice(&[1f32, -1.0, -1.0, 1.0], (2, 2), &Device::Cpu).unwrap();
        let codes = log_codes(&scores, 1e-4, 3).unwrap().exp().unwrap();
        assert_eq!(codes.to_vec2::<f32>().unwrap(), [[1.0, 0.0], [0.0, 1.0]]);
    }
}
