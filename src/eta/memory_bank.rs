//! The memory bank: η_x ← m·η_x + (1−m)·F_θ(T′(x)), one vector for each of the N images, the first
//! visit taking the output as it is (Sec. 5.2, "Expectation over augmentations"). With it the paper
//! leaves out the predictor. m = 0 keeps nothing of the past: a one-sample target without predictor. With
//! k > 1 the images of the next k batches move with one θ, so the bank and the multi-step alternation meet; an
//! image that two of them show has one η for both.
//!
//! A bank too large for memory lies in a memory-mapped file: a step touches the pages of its own images, and
//! neither a checkpoint nor going on from one copies the whole. Beside a GPU that has room for it, it lies there, and goes into a
//! checkpoint and back piece by piece. What that costs: paper-notes/memory-bank.md.

use super::device_rows::DeviceRows;
use super::{EStep, Frozen, Held, Views};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::store::{Plain, Store};
use candle_core::{Device, Tensor};
use std::path::PathBuf;

/// Where a bank's N × d numbers are kept.
#[derive(Clone, Debug)]
pub struct BankPlace {
    /// Banks of more bytes than this that are not beside a device go into a memory-mapped file.
    pub memory_limit_bytes: u64,
    /// The folder of that file; it is deleted with the bank.
    pub folder: PathBuf,
    /// Where a device makes the encoder's outputs: there, and how many bytes a bank may have there.
    pub beside: Option<(Device, u64)>,
}

/// In the processor's memory, however large.
impl Default for BankPlace {
    fn default() -> Self {
        Self { memory_limit_bytes: u64::MAX, folder: std::env::temp_dir(), beside: None }
    }
}

/// Bytes of a bank of `images` vectors of `dim` numbers.
pub fn bank_bytes(images: usize, dim: usize, precision: Precision) -> u64 {
    (images as u64).saturating_mul(dim as u64).saturating_mul(precision.bytes() as u64)
}

/// η for all images, kept as T: f32, or bf16 by its bits.
#[derive(Debug)]
pub struct MemoryBank<T> {
    m: f32,
    /// SGD steps between two updates.
    k: u64,
    dim: usize,
    eta: Rows<T>,
    /// 1 where image x was visited, else 0, (N).
    visited: Vec<f32>,
    /// The step at which the samples in η of image x were made, averaged as they are, (N).
    made: Vec<f32>,
}

/// (N, d)
#[derive(Debug)]
enum Rows<T> {
    Host(Store<T>),
    Device(DeviceRows),
}

impl<T: Plain> MemoryBank<T> {
    /// An empty bank of `images` vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Disk`] when the mapped file cannot be made, for one because the disk lacks the space: the
    /// file is written in full before anything is trained. [`Error::Device`] when a GPU has no room for it, or fails.
    pub fn new(m: f32, images: usize, dim: usize, place: &BankPlace) -> Result<Self> {
        let len = images
            .checked_mul(dim)
            .ok_or_else(|| Error::Usage("a bank of N × d numbers overflows".into()))?;
        let bytes = bank_bytes(images, dim, T::PRECISION);
        let beside = place.beside.as_ref().filter(|(_, limit)| bytes <= *limit);
        let beside = beside.filter(|_| DeviceRows::can_hold(images, dim));
        let gb = bytes as f64 / 1e9;
        let eta = if let Some((device, _)) = beside {
            let made = DeviceRows::new::<T>(images, dim, device);
            Rows::Device(made.map_err(|e| e.of_device(&format!("a memory bank of {gb:.1} GB")))?)
        } else if bytes > place.memory_limit_bytes {
            Rows::Host(Store::mapped(&place.folder, len).map_err(|e| {
                let cost = format!(
                    "it takes {gb:.1} GB for {images} images × {dim} numbers, and as much for each of two checkpoints: {e}"
                );
                let source = std::io::Error::new(e.kind(), cost);
                Error::Disk { path: place.folder.clone(), action: "make the memory bank's file", source }
            })?)
        } else {
            Rows::Host(Store::memory(len))
        };
        Ok(Self { m, k: 1, dim, eta, visited: vec![0.0; images], made: vec![0.0; images] })
    }

    /// The same bank, updated before every k SGD steps with the images of their k batches.
    pub fn refreshed_every(self, k: u64) -> Self {
        Self { k, ..self }
    }

    /// η of one image, (d), and whether it was ever visited.
    ///
    /// # Errors
    /// [`Error::Failure`] when a device that holds it fails.
    pub fn get(&self, index: usize) -> Result<(Vec<f32>, bool)> {
        let row = match &self.eta {
            Rows::Device(rows) => rows.get(&[index as u32])?.flatten_all()?.to_vec1()?,
            Rows::Host(eta) => row(eta, self.dim, index).collect(),
        };
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
        let eta = match &mut self.eta {
            Rows::Device(rows) => return rows.absorb(&views.indices, &keep, z),
            Rows::Host(eta) => eta,
        };
        let z = z.flatten_all()?.to_vec1::<f32>()?;
        let rows = views.indices.iter().map(|&index| index as usize * dim..(index as usize + 1) * dim);
        eta.fetch(rows.clone());
        for ((row, keep), z) in rows.zip(keep).zip(z.chunks_exact(dim)) {
            // Without a past z stays as it is, to the sign of a zero.
            let moved = |eta: T, z: f32| if keep == 0.0 { z } else { keep * eta.widen() + (1.0 - keep) * z };
            for (eta, z) in eta.as_mut_slice()[row].iter_mut().zip(z) {
                *eta = T::round(moved(*eta, *z));
            }
        }
        Ok(())
    }
}

/// η of one image.
fn row<T: Plain>(eta: &Store<T>, dim: usize, index: usize) -> impl Iterator<Item = f32> {
    eta.as_slice()[index * dim..][..dim].iter().map(|eta| eta.widen())
}

impl<T: Plain> EStep for MemoryBank<T> {
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
        let eta = match &self.eta {
            Rows::Device(rows) => rows.get(&views.indices)?.unsqueeze(0)?,
            Rows::Host(eta) => {
                let rows = views.indices.iter().flat_map(|index| row(eta, self.dim, *index as usize));
                Tensor::from_vec(rows.collect(), (1, views.indices.len(), self.dim), z.device())?
            }
        };
        Ok(eta.broadcast_as(z.dims())?.contiguous()?)
    }

    fn age(&self, views: &Views) -> f64 {
        let age = |index: &u32| views.step as f64 - f64::from(self.made[*index as usize]);
        views.indices.iter().map(age).sum::<f64>() / views.indices.len() as f64
    }

    fn state(&self) -> Result<Vec<Held<'_>>> {
        let images = self.visited.len();
        let bank = match &self.eta {
            Rows::Device(rows) => rows.numbers::<T>(),
            Rows::Host(eta) => {
                eta.fetch_in_order();
                eta.as_slice().into()
            }
        };
        Ok(vec![
            ("bank".into(), vec![images, self.dim], bank),
            ("visited".into(), vec![images], self.visited.as_slice().into()),
            ("made".into(), vec![images], self.made.as_slice().into()),
        ])
    }

    fn restore(&mut self, held: Vec<Held<'static>>) -> Result<()> {
        for (name, _, numbers) in held {
            let lost =
                |e| Error::Failure(format!("the checkpoint's memory bank does not fit this run's: {e}"));
            let slot = match name.as_str() {
                "bank" => {
                    let part = T::part(&numbers).ok_or_else(|| {
                        Error::Failure("the checkpoint's memory bank has another precision".into())
                    })?;
                    match &mut self.eta {
                        Rows::Device(rows) => rows.fill(part)?,
                        Rows::Host(eta) => {
                            eta.fetch_in_order();
                            part.fill(eta.as_mut_slice()).map_err(lost)?;
                        }
                    }
                    continue;
                }
                "made" => &mut self.made,
                _ => &mut self.visited,
            };
            let part = f32::part(&numbers)
                .ok_or_else(|| Error::Failure("the checkpoint's visits are not f32".into()))?;
            part.fill(slot).map_err(lost)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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

    fn bank<T: Plain>(m: f32, place: &BankPlace) -> MemoryBank<T> {
        MemoryBank::new(m, 3, 2, place).unwrap()
    }

    fn visit<T: Plain>(bank: &mut MemoryBank<T>, index: u32, z: [f32; 2]) {
        let z = Tensor::from_slice(&z, (1, 2), &Device::Cpu).unwrap();
        bank.absorb(
            &Views { step: 0, indices: vec![index], labels: Vec::new(), x: z.clone(), small: None },
            &z,
        )
        .unwrap();
    }

    fn visits<T: Plain>(place: &BankPlace) {
        let mut bank = bank::<T>(0.75, place);
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
            visits::<f32>(&place);
            visits::<u16>(&place);
        }
    }

    #[test]
    fn bf16_keeps_the_rounded_mean() {
        let mut bank = bank::<u16>(0.75, &BankPlace::default());
        visit(&mut bank, 0, [1.0, 1.0 + 1.0 / 256.0]);
        // The second lay half-way to 1 + 1/128 and went to the even one of the two, 1.
        assert_eq!(bank.get(0).unwrap().0, [1.0, 1.0]);
        // A quarter of the way to 1 + 1/128 rounds back, of the way to 1.125 it does not.
        visit(&mut bank, 0, [1.0 + 1.0 / 128.0, 1.125]);
        assert_eq!(bank.get(0).unwrap().0, [1.0, 1.03125]);
    }

    fn restores<T: Plain>() {
        let own = |held: Vec<Held<'_>>| held.into_iter().map(|(n, s, v)| (n, s, v.into_owned())).collect();
        for (from, to) in places().iter().flat_map(|from| places().map(|to| (from.clone(), to))) {
            let mut full = bank::<T>(0.5, &from);
            visit(&mut full, 2, [1.0, -1.0]);
            let mut empty = bank::<T>(0.5, &to);
            empty.restore(own(full.state().unwrap())).unwrap();
            assert_eq!(empty.get(2).unwrap(), (vec![1.0, -1.0], true));
            assert!(!empty.get(0).unwrap().1);
        }
    }

    #[test]
    fn restore_after_state_is_the_identity() {
        restores::<f32>();
        restores::<u16>();
    }

    #[test]
    fn a_bank_of_another_size_or_precision_is_refused() {
        let held = |numbers| vec![("bank".to_string(), vec![], numbers)];
        for place in places() {
            let mut bank = bank::<u16>(0.5, &place);
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
        let is_beside = |place| matches!(bank::<f32>(0.5, place).eta, Rows::Device(_));
        assert_eq!(places.each_ref().map(is_beside), [false, true]);
        // More numbers than candle's kernels can count.
        assert!(!DeviceRows::can_hold(1 << 21, 2048) && DeviceRows::can_hold(1_281_167, 2048));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_the_disks_fault_and_tells_its_size() {
        let folder = std::env::temp_dir().join("no such folder of sim");
        let place = BankPlace { memory_limit_bytes: 0, folder, beside: None };
        let refused = MemoryBank::<u16>::new(0.8, 1_281_167, 2048, &place).unwrap_err();
        assert_eq!(refused.exit_code(), 5);
        assert!(refused.to_string().contains("5.2 GB"), "{refused}");
    }
}
