//! The memory bank: η_x ← m·η_x + (1−m)·F_θ(T′(x)), one vector for each of the N images, the first
//! visit taking the output as it is (Sec. 5.2, "Expectation over augmentations"). With it the paper
//! leaves out the predictor. m = 0 keeps nothing of the past: a one-sample target without predictor. With
//! k > 1 the images of the next k batches move with one θ, so the bank and the multi-step alternation meet; an
//! image that two of them show has one η for both.

use super::{EStep, Frozen, Held, Views};
use crate::error::{Error, Result};
use crate::kernel::mapped::Store;
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use std::path::PathBuf;

/// Where a bank's N × d numbers are kept.
#[derive(Clone, Debug)]
pub struct BankPlace {
    /// Banks of more bytes than this go into a memory-mapped file.
    pub memory_limit_bytes: u64,
    /// The folder of that file; it is deleted with the bank.
    pub folder: PathBuf,
}

/// η for all images.
#[derive(Debug)]
pub struct MemoryBank {
    m: f32,
    /// SGD steps between two updates.
    k: u64,
    dim: usize,
    /// (N, d)
    eta: Store,
    /// 1 where image x was visited, else 0, (N).
    visited: Vec<f32>,
}

impl MemoryBank {
    /// An empty bank of `images` vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Disk`] when the mapped file cannot be made.
    pub fn new(m: f32, images: usize, dim: usize, place: &BankPlace) -> Result<Self> {
        let len = images
            .checked_mul(dim)
            .ok_or_else(|| Error::Usage("a bank of N × d numbers overflows".into()))?;
        let eta = if len as u64 * 4 > place.memory_limit_bytes {
            Store::mapped(&place.folder, len)
                .map_err(Error::disk(&place.folder, "map the memory bank's file"))?
        } else {
            Store::memory(len)
        };
        Ok(Self { m, k: 1, dim, eta, visited: vec![0.0; images] })
    }

    /// The same bank, updated before every k SGD steps with the images of their k batches.
    pub fn refreshed_every(self, k: u64) -> Self {
        Self { k, ..self }
    }

    /// η of one image, (d), and whether it was ever visited.
    pub fn get(&self, index: usize) -> (&[f32], bool) {
        (&self.eta.as_slice()[index * self.dim..][..self.dim], self.visited[index] > 0.0)
    }

    /// Moves η of the images `indices` towards `z` (B, d).
    fn absorb(&mut self, indices: &[u32], z: &Tensor) -> Result<()> {
        let (batch, dim) = z.dims2()?;
        if batch != indices.len() || dim != self.dim {
            return Err(Error::Failure(format!(
                "a bank of dimension {} was given ({batch}, {dim})",
                self.dim
            )));
        }
        let z = z.flatten_all()?.to_vec1::<f32>()?;
        for (&index, z) in indices.iter().zip(z.chunks_exact(dim)) {
            let index = index as usize;
            let eta = &mut self.eta.as_mut_slice()[index * dim..][..dim];
            if std::mem::replace(&mut self.visited[index], 1.0) > 0.0 {
                for (eta, z) in eta.iter_mut().zip(z) {
                    *eta = self.m * *eta + (1.0 - self.m) * z;
                }
            } else {
                eta.copy_from_slice(z);
            }
        }
        Ok(())
    }
}

impl EStep for MemoryBank {
    fn chunk(&self) -> u64 {
        self.k
    }

    fn reads(&self, steps: u64) -> std::ops::Range<u64> {
        0..steps
    }

    fn refresh(&mut self, frozen: Frozen, batches: &mut dyn Iterator<Item = Result<Views>>) -> Result<()> {
        for views in batches {
            let views = views?;
            let z = frozen(&views.x.narrow(0, 1, 1)?)?;
            self.absorb(&views.indices, &z.squeeze(0)?)?;
        }
        Ok(())
    }

    fn targets(&mut self, views: &Views, z: &Tensor, _: Frozen) -> Result<Tensor> {
        let mut eta = Vec::with_capacity(views.indices.len() * self.dim);
        for &index in &views.indices {
            eta.extend_from_slice(self.get(index as usize).0);
        }
        let eta = Tensor::from_vec(eta, (1, views.indices.len(), self.dim), &Device::Cpu)?;
        Ok(eta.broadcast_as(z.dims())?.contiguous()?)
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let images = self.visited.len();
        Ok(vec![
            ("bank".into(), vec![images, self.dim], Cow::Borrowed(self.eta.as_slice())),
            ("visited".into(), vec![images], Cow::Borrowed(&self.visited)),
        ])
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        let wrong = || Error::Failure("the checkpoint's memory bank has another size".into());
        for (name, _, values) in held {
            let slot = match name.as_str() {
                "bank" => self.eta.as_mut_slice(),
                _ => &mut self.visited[..],
            };
            if slot.len() != values.len() {
                return Err(wrong());
            }
            slot.copy_from_slice(&values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(m: f32, limit: u64) -> MemoryBank {
        let place = BankPlace { memory_limit_bytes: limit, folder: std::env::temp_dir() };
        MemoryBank::new(m, 3, 2, &place).unwrap()
    }

    fn visit(bank: &mut MemoryBank, index: u32, z: [f32; 2]) {
        bank.absorb(&[index], &Tensor::from_slice(&z, (1, 2), &Device::Cpu).unwrap()).unwrap();
    }

    #[test]
    fn the_first_visit_takes_the_output_and_later_ones_move_towards_it() {
        for limit in [u64::MAX, 0] {
            let mut bank = bank(0.75, limit);
            visit(&mut bank, 1, [4.0, 8.0]);
            assert_eq!(bank.get(1), (&[4.0, 8.0][..], true));
            visit(&mut bank, 1, [0.0, 0.0]);
            assert_eq!(bank.get(1), (&[3.0, 6.0][..], true));
            assert_eq!(bank.get(0), (&[0.0, 0.0][..], false));
        }
    }

    #[test]
    fn restore_after_state_is_the_identity() {
        let mut full = bank(0.5, u64::MAX);
        visit(&mut full, 2, [1.0, -1.0]);
        let held = full.state().unwrap();
        let owned = held.into_iter().map(|(n, s, v)| (n, s, Cow::Owned(v.into_owned()))).collect();
        let mut empty = bank(0.5, 0);
        empty.restore(owned).unwrap();
        assert_eq!(empty.get(2), (&[1.0, -1.0][..], true));
        assert!(!empty.get(0).1);
    }
}
