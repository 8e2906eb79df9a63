//! The last L outputs of earlier batches, oldest first out: MoCo's negatives (He et al. 2020), and the outputs that SwAV
//! assigns together with a small batch (Caron et al. 2020).

use super::Held;
use crate::error::{Error, Result};
use crate::rng::{Purpose, stream};
use candle_core::{Device, Tensor};
use rand_distr::{Distribution, StandardNormal};

/// A ring of L rows of d numbers.
#[derive(Debug)]
pub struct Queue {
    dim: usize,
    /// (L, d)
    rows: Vec<f32>,
    /// Rows pushed so far.
    pushed: u64,
}

/// What a checkpoint calls its parts.
const ROWS: &str = "rows";
const PUSHED: &str = "pushed";
/// 2²⁴, up to which an f32 counts exactly.
const EXACT: u64 = 1 << 24;

impl Queue {
    /// L = `len` random directions, as MoCo starts from; `place` tells several queues of a run apart.
    pub fn random(len: usize, dim: usize, seed: u64, place: u64) -> Self {
        let mut rng = stream(seed, Purpose::Queue, place, 0);
        let rows = StandardNormal.sample_iter(&mut rng).take(len * dim).collect();
        Self { dim, rows, pushed: 0 }
    }

    /// L.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim.max(1)
    }

    /// Whether it holds nothing, now or ever.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether every row is the output of a batch.
    pub fn is_full(&self) -> bool {
        self.pushed >= self.len() as u64
    }

    /// All rows, (L, d); their order is that of their places, not of their age.
    pub fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.rows, (self.len(), self.dim), &Device::Cpu)?)
    }

    /// Puts the rows of `z` (…, d) in the place of the oldest.
    ///
    /// # Errors
    /// [`Error::Failure`] when they have another length.
    pub fn push(&mut self, z: &Tensor) -> Result<()> {
        let values = z.flatten_all()?.to_vec1::<f32>()?;
        if z.dims().last() != Some(&self.dim) || self.is_empty() {
            return Err(Error::Failure(format!(
                "a queue of dimension {} was given {:?}",
                self.dim,
                z.dims()
            )));
        }
        for row in values.chunks_exact(self.dim) {
            let place = (self.pushed % self.len() as u64) as usize;
            self.rows[place * self.dim..][..self.dim].copy_from_slice(row);
            self.pushed += 1;
        }
        Ok(())
    }

    /// What a checkpoint keeps of it, its names beginning with `name`.
    pub fn state(&self, name: &str) -> [Held<'_>; 2] {
        let counts = vec![(self.pushed / EXACT) as f32, (self.pushed % EXACT) as f32];
        [
            (format!("{name}.{ROWS}"), vec![self.len(), self.dim], self.rows.as_slice().into()),
            (format!("{name}.{PUSHED}"), vec![2], counts.into()),
        ]
    }

    /// Takes back one tensor that [`Queue::state`] gave, called `part` behind the queue's name.
    ///
    /// # Errors
    /// [`Error::Failure`] when it has another size.
    pub fn restore(&mut self, part: &str, values: Vec<f32>) -> Result<()> {
        match (part, &values[..]) {
            (ROWS, _) if values.len() == self.rows.len() => self.rows = values,
            (PUSHED, &[high, low]) => self.pushed = high as u64 * EXACT + low as u64,
            _ => return Err(Error::Failure(format!("the checkpoint's queue has another {part}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (values.len(), 1), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_oldest_rows_go_first() {
        let mut queue = Queue::random(3, 1, 0, 0);
        queue.push(&rows(&[1.0, 2.0])).unwrap();
        assert!(!queue.is_full());
        queue.push(&rows(&[3.0, 4.0])).unwrap();
        assert!(queue.is_full());
        assert_eq!(queue.tensor().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, 2.0, 3.0]);
    }

    #[test]
    fn restore_after_state_is_the_identity() {
        let mut queue = Queue::random(3, 2, 0, 0);
        queue.push(&Tensor::ones((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let mut other = Queue::random(3, 2, 1, 0);
        for (name, _, values) in queue.state("q") {
            other.restore(&name["q.".len()..], values.into_f32().unwrap()).unwrap();
        }
        assert_eq!((&other.rows, other.pushed), (&queue.rows, queue.pushed));
        assert!(other.restore(ROWS, vec![0.0]).is_err());
    }
}
