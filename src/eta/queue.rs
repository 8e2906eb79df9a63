//! The last L outputs of earlier batches, oldest first out: MoCo's negatives (He et al. 2020), and
//! the outputs that SwAV assigns together with a small batch (Caron et al. 2020).

use super::Held;
use crate::error::{Error, Result};
use crate::rng::{Purpose, stream};
use candle_core::{Device, Tensor};
use rand_distr::{Distribution, StandardNormal};

/// A ring of L rows of d numbers, on the device of what is pushed.
#[derive(Debug)]
pub struct Queue {
    /// (L, d)
    rows: Tensor,
    /// Rows pushed so far.
    pushed: u64,
}

/// What a checkpoint calls its parts.
const ROWS: &str = "rows";
const PUSHED: &str = "pushed";
/// 2²⁴, up to which an f32 counts exactly.
const EXACT: u64 = 1 << 24;

impl Queue {
    /// L = `len` random directions, as MoCo starts from; `place` tells several queues of a run
    /// apart.
    ///
    /// # Errors
    /// [`Error::Failure`] when there is no memory for them.
    pub fn random(len: usize, dim: usize, seed: u64, place: u64) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Queue, place, 0);
        let rows: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(len * dim).collect();
        Ok(Self { rows: Tensor::from_vec(rows, (len, dim), &Device::Cpu)?, pushed: 0 })
    }

    /// Its length L, in rows.
    pub fn len(&self) -> usize {
        self.rows.dims()[0]
    }

    /// Whether its length is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every row is the output of a batch.
    pub fn is_full(&self) -> bool {
        self.pushed >= self.len() as u64
    }

    /// A copy of all rows on `device`, (L, d); their order is that of their places, not of their
    /// age.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(self.rows.to_device(device)?.copy()?)
    }

    /// Puts the rows of `z` (…, d) in the place of the oldest.
    ///
    /// # Errors
    /// [`Error::Failure`] when they have another length.
    pub fn push(&mut self, z: &Tensor) -> Result<()> {
        let (len, dim) = self.rows.dims2()?;
        if z.dims().last() != Some(&dim) || len == 0 {
            return Err(Error::Failure(format!("a queue of dimension {dim} was given {:?}", z.dims())));
        }
        self.rows = self.rows.to_device(z.device())?;
        let count = z.elem_count() / dim;
        let z = z.detach().reshape((count, dim))?.contiguous()?;
        let mut done = 0;
        while done < count {
            let place = (self.pushed % len as u64) as usize;
            let piece = (count - done).min(len - place);
            self.rows.slice_set(&z.narrow(0, done, piece)?.contiguous()?, 0, place)?;
            self.pushed += piece as u64;
            done += piece;
        }
        Ok(())
    }

    /// What a checkpoint keeps of it, its names beginning with `name`.
    ///
    /// # Errors
    /// [`Error::Failure`] when the rows cannot be read from their device.
    pub fn state(&self, name: &str) -> Result<[Held<'static>; 2]> {
        let counts = vec![(self.pushed / EXACT) as f32, (self.pushed % EXACT) as f32];
        let rows = self.rows.flatten_all()?.to_vec1::<f32>()?;
        Ok([
            (format!("{name}.{ROWS}"), self.rows.dims().to_vec(), rows.into()),
            (format!("{name}.{PUSHED}"), vec![2], counts.into()),
        ])
    }

    /// Takes back one tensor that [`Queue::state`] gave, called `part` behind the queue's name.
    ///
    /// # Errors
    /// [`Error::Failure`] when it has another size.
    pub fn restore(&mut self, part: &str, values: Vec<f32>) -> Result<()> {
        match (part, &values[..]) {
            (ROWS, _) if values.len() == self.rows.elem_count() => {
                self.rows = Tensor::from_vec(values, self.rows.dims(), &Device::Cpu)?;
            }
            (PUSHED, &[high, low]) => self.pushed = high as u64 * EXACT + low as u64,
            _ => return Err(Error::Failure(format!("the checkpoint's queue has another {part}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of_one(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (values.len(), 1), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_oldest_rows_go_first() {
        let mut queue = Queue::random(3, 1, 0, 0).unwrap();
        queue.push(&rows_of_one(&[1.0, 2.0])).unwrap();
        assert!(!queue.is_full());
        queue.push(&rows_of_one(&[3.0, 4.0])).unwrap();
        assert!(queue.is_full());
        let rows = |queue: &Queue| {
            queue.tensor(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(rows(&queue), [4.0, 2.0, 3.0]);
        // More rows than there are places: the last ones stay.
        queue.push(&rows_of_one(&[5.0, 6.0, 7.0, 8.0])).unwrap();
        assert_eq!(rows(&queue), [7.0, 8.0, 6.0]);
    }

    #[test]
    fn restore_after_state_is_the_identity() {
        let mut queue = Queue::random(3, 2, 0, 0).unwrap();
        queue.push(&Tensor::ones((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let mut other = Queue::random(3, 2, 1, 0).unwrap();
        for (name, _, values) in queue.state("q").unwrap() {
            other.restore(&name["q.".len()..], values.into_f32().unwrap()).unwrap();
        }
        let rows = |queue: &Queue| queue.tensor(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!((rows(&other), other.pushed), (rows(&queue), queue.pushed));
        assert!(other.restore(ROWS, vec![0.0]).is_err());
    }
}
