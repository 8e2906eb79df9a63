//! The memory bank: η_x ← m·η_x + (1−m)·F_θ(T′(x)), one vector for each of the N images, the first
//! visit taking the output as it is (Sec. 5.2, "Expectation over augmentations"). With it the paper
//! leaves out the predictor. m = 0 keeps nothing of the past: a one-sample target without
//! predictor. With k > 1 the images of the next k batches move with one θ, so the bank and the
//! multi-step alternation meet; an image that two of them show has one η for both.
//!
//! A bank too large for memory lies in a memory-mapped file: a step touches the pages of its own
//! images, and neither a checkpoint nor going on from one copies the whole. Beside a GPU that has
//! room for it, it lies there, and goes into a checkpoint and back piece by piece. What that costs:
//! paper-notes/memory-bank.md.

use super::bank_place::{BankPlace, zeros};
use super::rows::Rows;
use super::{EStep, Frozen, Held, Views};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::store::Plain;
use candle_core::{Device, Tensor};

/// η for all images.
#[derive(Debug)]
pub struct MemoryBank {
    m: f32,
    /// SGD steps between two updates.
    k: u64,
    dim: usize,
    /// (N, d)
    eta: Box<dyn Rows>,
    /// 1 where image x was visited, else 0, (N).
    visited: Vec<f32>,
    /// The step at which the samples in η of image x were made, averaged as they are, (N).
    made: Vec<f32>,
}

impl MemoryBank {
    /// An empty bank of `images` vectors of `dim` numbers, stored as `precision` at `place`.
    ///
    /// # Errors
    /// As [`zeros`].
    pub fn new(m: f32, [images, dim]: [usize; 2], precision: Precision, place: &BankPlace) -> Result<Self> {
        let eta = zeros(images, dim, precision, place)?;
        Ok(Self { m, k: 1, dim, eta, visited: vec![0.0; images], made: vec![0.0; images] })
    }

    /// This bank, updated before every k SGD steps with the images of their k batches.
    pub fn refreshed_every(self, k: u64) -> Self {
        Self { k, ..self }
    }

    /// η of one image, (d), and whether it was ever visited.
    ///
    /// # Errors
    /// [`Error::Failure`] when a device that holds it fails.
    pub fn get(&self, index: usize) -> Result<(Vec<f32>, bool)> {
        let row = self.eta.get(&[index as u32], &Device::Cpu)?.flatten_all()?.to_vec1()?;
        Ok((row, self.visited[index] > 0.0))
    }

    /// Moves η of the images in the rows `rows` of `views` towards those rows of `z` (B, d), their
    /// outputs at that step.
    pub(super) fn absorb_rows(&mut self, views: &Views, z: &Tensor, rows: &[u32]) -> Result<()> {
        if rows.len() == views.indices.len() {
            return self.absorb(views, z);
        }
        let indices = rows.iter().map(|row| views.indices[*row as usize]).collect();
        let chosen = Tensor::from_slice(rows, rows.len(), z.device())?;
        self.absorb(&Views { indices, ..views.clone() }, &z.index_select(&chosen, 0)?)
    }

    /// Moves η of the images in `views` towards `z` (B, d), their outputs at that step.
    pub(super) fn absorb(&mut self, views: &Views, z: &Tensor) -> Result<()> {
        let (batch, dim) = z.dims2()?;
        if batch != views.indices.len() || dim != self.dim {
            return Err(Error::Failure(format!(
                "a bank of dimension {} was given ({batch}, {dim})",
                self.dim
            )));
        }
        let now = views.step as f32;
        let visit = |&index: &u32| {
            let (visited, made) = (&mut self.visited[index as usize], &mut self.made[index as usize]);
            let keep = if std::mem::replace(visited, 1.0) > 0.0 { self.m } else { 0.0 };
            *made = keep * *made + (1.0 - keep) * now;
            keep
        };
        let keep: Vec<f32> = views.indices.iter().map(visit).collect();
        self.eta.absorb(&views.indices, &keep, z)
    }
}

impl EStep for MemoryBank {
    fn chunk(&self) -> u64 {
        self.k
    }

    fn reads(&self, steps: u64) -> std::ops::Range<u64> {
        0..steps
    }

    fn read(&mut self, frozen: Frozen, views: &Views) -> Result<()> {
        let z = frozen.z(&views.x.narrow(0, 1, 1)?)?;
        self.absorb(views, &z.squeeze(0)?)
    }

    fn targets(&mut self, views: &Views, z: &Tensor, _: Frozen) -> Result<Tensor> {
        let eta = self.eta.get(&views.indices, z.device())?.unsqueeze(0)?;
        Ok(eta.broadcast_as(z.dims())?.contiguous()?)
    }

    fn age(&self, views: &Views) -> f64 {
        let age = |index: &u32| views.step as f64 - f64::from(self.made[*index as usize]);
        views.indices.iter().map(age).sum::<f64>() / views.indices.len() as f64
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let images = self.visited.len();
        Ok(vec![
            ("bank".into(), vec![images, self.dim], self.eta.numbers()),
            ("visited".into(), vec![images], self.visited.as_slice().into()),
            ("made".into(), vec![images], self.made.as_slice().into()),
        ])
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        for (name, _, numbers) in held {
            let slot = match name.as_str() {
                "bank" => {
                    self.eta.fill(&numbers)?;
                    continue;
                }
                "made" => &mut self.made,
                _ => &mut self.visited,
            };
            let wrong = || Error::Failure("the checkpoint's visits are not f32".into());
            let lost = |e| Error::Failure(format!("the checkpoint's visits do not fit this run's: {e}"));
            f32::part(&numbers).ok_or_else(wrong)?.fill(slot).map_err(lost)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::device_rows::DeviceRows;
    use super::*;

    /// In memory, in a mapped file, beside a device's outputs.
    fn places() -> [BankPlace; 3] {
        let beside = Some((Device::Cpu, u64::MAX));
        [
            BankPlace::default(),
            BankPlace { memory_limit_bytes: 0, ..BankPlace::default() },
            BankPlace { beside, ..BankPlace::default() },
        ]
    }

    fn bank(m: f32, precision: Precision, place: &BankPlace) -> MemoryBank {
        MemoryBank::new(m, [3, 2], precision, place).unwrap()
    }

    fn visit(bank: &mut MemoryBank, index: u32, z: [f32; 2]) {
        let z = Tensor::from_slice(&z, (1, 2), &Device::Cpu).unwrap();
        bank.absorb(
            &Views { step: 0, indices: vec![index], labels: Vec::new(), x: z.clone(), small: None },
            &z,
        )
        .unwrap();
    }

    fn visits(precision: Precision, place: &BankPlace) {
        let mut bank = bank(0.75, precision, place);
        visit(&mut bank, 1, [4.0, 8.0]);
        assert_eq!(bank.get(1).unwrap(), (vec![4.0, 8.0], true));
        visit(&mut bank, 1, [0.0, 0.0]);
        assert_eq!(bank.get(1).unwrap(), (vec![3.0, 6.0], true));
        assert_eq!(bank.get(0).unwrap(), (vec![0.0, 0.0], false));
        if place.beside.is_none() {
            visit(&mut bank, 2, [-0.0, 0.0]);
            assert_eq!(bank.get(2).unwrap().0.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [1 << 31, 0]);
        }
    }

    #[test]
    fn the_first_visit_takes_the_output_and_later_ones_move_towards_it() {
        for place in places() {
            Precision::ALL.into_iter().for_each(|precision| visits(precision, &place));
        }
    }

    #[test]
    fn bf16_keeps_the_rounded_mean() {
        let mut bank = bank(0.75, Precision::Bf16, &BankPlace::default());
        visit(&mut bank, 0, [1.0, 1.0 + 1.0 / 256.0]);
        // The second lay half-way to 1 + 1/128 and went to the even one of the two, 1.
        assert_eq!(bank.get(0).unwrap().0, [1.0, 1.0]);
        // A quarter of the way to 1 + 1/128 rounds back, of the way to 1.125 it does not.
        visit(&mut bank, 0, [1.0 + 1.0 / 128.0, 1.125]);
        assert_eq!(bank.get(0).unwrap().0, [1.0, 1.03125]);
    }

    fn restores(precision: Precision) {
        let own = |held: Vec<Held<'_>>| held.into_iter().map(|(n, s, v)| (n, s, v.into_owned())).collect();
        for (from, to) in places().iter().flat_map(|from| places().map(|to| (from.clone(), to))) {
            let mut full = bank(0.5, precision, &from);
            visit(&mut full, 2, [1.0, -1.0]);
            let mut empty = bank(0.5, precision, &to);
            empty.restore(own(full.state().unwrap())).unwrap();
            assert_eq!(empty.get(2).unwrap(), (vec![1.0, -1.0], true));
            assert!(!empty.get(0).unwrap().1);
        }
    }

    #[test]
    fn restore_after_state_is_the_identity() {
        Precision::ALL.into_iter().for_each(restores);
    }

    #[test]
    fn a_bank_of_another_size_or_precision_is_refused() {
        let held = |numbers| vec![("bank".to_string(), vec![], numbers)];
        for place in places() {
            let mut bank = bank(0.5, Precision::Bf16, &place);
            for wrong in [vec![0f32; 6].into(), (&[0u16; 5][..]).into()] {
                assert!(bank.restore(held(wrong)).is_err());
            }
            bank.restore(held((&[0u16; 6][..]).into())).unwrap();
        }
    }

    #[test]
    fn a_bank_that_a_device_has_no_room_for_stays_on_the_host() {
        let places =
            [16, 24].map(|limit| BankPlace { beside: Some((Device::Cpu, limit)), ..BankPlace::default() });
        // Only numbers of a device are read when they are written.
        let is_beside =
            |place| format!("{:?}", bank(0.5, Precision::F32, place).eta.numbers()).contains("device");
        assert_eq!(places.each_ref().map(is_beside), [false, true]);
        // More numbers than candle's kernels can count.
        assert!(!DeviceRows::<f32>::can_hold(1 << 21, 2048) && DeviceRows::<f32>::can_hold(1_281_167, 2048));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_the_disks_fault_and_tells_its_size() {
        let folder = std::env::temp_dir().join("no such folder of sim");
        let place = BankPlace { memory_limit_bytes: 0, folder, ..BankPlace::default() };
        let refused = MemoryBank::new(0.8, [1_281_167, 2048], Precision::Bf16, &place).unwrap_err();
        assert_eq!(refused.exit_code(), 5);
        assert!(refused.to_string().contains("5.2 GB"), "{refused}");
    }
}
