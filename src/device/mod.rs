//! Where a run computes: the processor, or an NVIDIA GPU in builds with the `cuda` feature.
//!
//! The one place where candle's arrays in GPU memory become the [`Span`]s of
//! [`crate::kernel::device`] and back. A build without the feature has the same functions; there
//! are no such arrays then, and no way to ask for one.

mod choice;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
use cuda as gpu;
#[cfg(not(feature = "cuda"))]
mod none;
pub mod ranks;
mod reading;
#[cfg(not(feature = "cuda"))]
use none as gpu;

pub use choice::{forced_kernel, kernel_named, processor_kernel};
pub use gpu::{Upload, span, span_mut, unset_like};
pub use reading::Reading;

use crate::error::{Error, Result};
use crate::kernel::device::{Device as KernelDevice, Span};
use crate::kernel::machine::{Accelerator, Machine, Processor};
use crate::kernel::{Kernel, Precision};
use candle_core::{CpuStorage, CudaStorage, Device, DeviceLocation, Layout, Storage, Tensor};
use ranks::{One, Ranks};
use std::sync::Arc;

/// The word of `--device` by which each rank takes a GPU of its own.
const AUTO: &str = "cuda:auto";

/// A device that runs may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl Place {
    /// What `--device` says: `cpu`, `cuda`, `cuda:N`, or `cuda:auto`, by which each of the ranks of
    /// a machine takes another GPU; the GPU is looked for.
    ///
    /// # Errors
    /// [`Error::Usage`] for another word, and where this build, the driver or the machine has no
    /// such GPU.
    pub fn find(device: &str) -> Result<Place> {
        let (kind, index) =
            device.split_once(':').map_or((device, None), |(kind, index)| (kind, Some(index)));
        let place = match (kind, index.map(str::parse)) {
            ("cpu", None) => return Ok(Place::Cpu),
            ("cuda", None) => Place::Cuda(0),
            ("cuda", Some(Ok(index))) => Place::Cuda(index),
            ("cuda", Some(Err(_))) if device == AUTO => Place::Cuda(ranks::rank_here()),
            _ => return Err(Error::Usage(format!("--device {device}: expected cpu, cuda:N or {AUTO}"))),
        };
        let usage = |what: String| {
            Error::Usage(format!("--device {device}: {what}; leave --device out to train on the CPU"))
        };
        let count = gpu::count().map_err(usage)?;
        place.among_gpus(count, device == AUTO).map_err(usage)
    }

    /// This place where there are `count` GPUs, of which a launcher has chosen one where `auto`.
    fn among_gpus(self, count: usize, auto: bool) -> Result<Place, String> {
        match self {
            // A launcher that gives each process a GPU of its own shows it no other.
            Place::Cuda(_) if auto && count == 1 => Ok(Place::Cuda(0)),
            Place::Cuda(index) if index >= count && auto => {
                Err(format!("{} ranks and {count} NVIDIA GPUs on this machine", index + 1))
            }
            Place::Cuda(index) if index >= count => {
                Err(format!("this machine has {count} NVIDIA GPUs, numbered from 0"))
            }
            place => Ok(place),
        }
    }

    /// The place, opened, with a stream of its own on a GPU.
    ///
    /// # Errors
    /// [`Error::Device`] when the GPU cannot be used, [`Error::Usage`] for a word in SIM_CUDNN that
    /// means nothing.
    pub fn open(self) -> Result<Site> {
        self.open_for(&(Arc::new(One) as Arc<dyn Ranks>), 1)
    }

    /// The place, opened for runs whose batches are cut into so many `shards`, which `ranks` share:
    /// then every process computes with the same algorithms.
    ///
    /// # Errors
    /// As [`Place::open`], and [`Error::Usage`] where ranks have different GPUs or libraries.
    pub fn open_for(self, ranks: &Arc<dyn Ranks>, shards: usize) -> Result<Site> {
        let site = match self {
            Place::Cpu => Site::default(),
            Place::Cuda(index) => gpu::open(index, shards > 1)?,
        };
        if let Some(kernels) = &site.kernels {
            ranks::alike(ranks.as_ref(), &kernels.kind()?)?;
        }
        Ok(site.among(ranks.clone()))
    }

    /// Bytes of GPU memory that are taken, by whomever; 0 on the processor.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver does not tell, [`Error::Usage`] in a build without GPUs.
    pub fn memory_bytes(self) -> Result<usize> {
        match self {
            Place::Cpu => Ok(0),
            Place::Cuda(index) => gpu::taken_bytes(index),
        }
    }
}

/// An open place: where tensors are, what runs the networks there, and who shares a run.
#[derive(Clone)]
pub struct Site {
    tensors: Device,
    kernels: Option<Arc<dyn KernelDevice>>,
    ranks: Arc<dyn Ranks>,
}

/// The processor.
impl Default for Site {
    fn default() -> Self {
        Site { tensors: Device::Cpu, kernels: None, ranks: Arc::new(One) }
    }
}

impl Site {
    /// Tensors on candle's `tensors`, run by `kernels`.
    ///
    /// # Errors
    /// [`Error::Failure`] when the two are not in the same memory.
    pub fn new(tensors: Device, kernels: Arc<dyn KernelDevice>) -> Result<Site> {
        let gpu = match tensors.location() {
            DeviceLocation::Cpu => Some(None),
            DeviceLocation::Cuda { gpu_id } => Some(Some(gpu_id)),
            DeviceLocation::Metal { .. } => None,
        };
        if gpu != Some(kernels.gpu()) {
            return Err(Error::Failure("tensors in one memory, and kernels that run in another".into()));
        }
        Ok(Site { tensors, kernels: Some(kernels), ranks: Arc::new(One) })
    }

    /// This place, where a run is shared by `ranks`.
    pub fn among(self, ranks: Arc<dyn Ranks>) -> Site {
        Site { ranks, ..self }
    }

    /// What a person should know of how numbers come to the devices of other ranks: nothing where
    /// they go there by themselves, or where there are none. Asked on all ranks at once.
    ///
    /// # Errors
    /// [`Error::Device`] where the library between the devices fails.
    pub fn way_between_ranks(&self) -> Result<Option<String>> {
        let Some(kernels) = self.kernels.as_ref().filter(|_| self.ranks.size() > 1) else {
            return Ok(None);
        };
        Ok(kernels.carrier(&self.ranks)?.is_none().then(|| {
            "gradients pass through the processor's memory on their way to other ranks, which is slower: not every rank has \
             libnccl.so.2 and a GPU of its own"
                .to_string()
        }))
    }

    /// Who shares a run here.
    pub fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.ranks
    }

    /// Where tensors are.
    pub fn tensors(&self) -> &Device {
        &self.tensors
    }

    /// What runs the networks, where it is not the processor's kernel.
    pub fn kernels(&self) -> Option<&Arc<dyn KernelDevice>> {
        self.kernels.as_ref()
    }

    /// What runs networks here whose values are of `precision`.
    ///
    /// # Errors
    /// As [`processor_kernel`] on the processor.
    pub fn machine(&self, precision: Precision) -> Result<Arc<dyn Machine>> {
        Ok(match &self.kernels {
            Some(kernels) => Arc::new(Accelerator::new(kernels.clone())),
            None => Arc::new(Processor::new(processor_kernel(precision)?)),
        })
    }

    /// The processor's kernel for networks here: where something else runs them it plans and
    /// computes nothing.
    ///
    /// # Errors
    /// As [`processor_kernel`] on the processor.
    pub fn host_kernel(&self, precision: Precision) -> Result<Arc<dyn Kernel>> {
        if self.kernels.is_none() { processor_kernel(precision) } else { crate::kernel::direct_sums() }
    }

    /// The name of the kernels that train here, for env.json.
    ///
    /// # Errors
    /// As [`processor_kernel`] on the processor.
    pub fn kernel_name(&self, precision: Precision) -> Result<&'static str> {
        match &self.kernels {
            Some(kernels) => Ok(kernels.name(precision)),
            None => Ok(processor_kernel(precision)?.name()),
        }
    }

    /// Where a memory bank lies that is beside the outputs of a device, and the bytes it may have:
    /// a quarter of a GPU's free memory (a bank may have a twin), or `on_host` where a device
    /// computes in the processor's.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver does not tell.
    pub fn room_for_bank(&self, on_host: u64) -> Result<Option<(Device, u64)>> {
        let bytes = match (&self.kernels, &self.tensors) {
            (None, _) => return Ok(None),
            (Some(_), Device::Cuda(device)) => gpu::free_bytes(device)? as u64 / 4,
            (Some(_), _) => on_host,
        };
        Ok(Some((self.tensors.clone(), bytes)))
    }

    /// What `work` gives, which computes here. After an error, what runs here stays for ever if it
    /// has failed for good: closing it would panic.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        work().inspect_err(|_| match &self.tensors {
            Device::Cuda(device) if gpu::has_failed(device) => std::mem::forget(self.clone()),
            _ => {}
        })
    }
}

/// An array in GPU memory as a tensor without history.
pub fn tensor_of(storage: CudaStorage, shape: &[usize]) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, candle_core::op::BackpropOp::none(), false)
}

/// An array beside a tensor, to be filled before it becomes one.
pub struct Unset {
    numbers: Numbers,
    len: usize,
}

enum Numbers {
    Host(Vec<f32>),
    Gpu(CudaStorage),
}

impl Unset {
    /// An array of `len` numbers, where `like` is.
    ///
    /// # Errors
    /// candle's, when a GPU has no room.
    pub fn beside(like: &Tensor, len: usize) -> candle_core::Result<Self> {
        let numbers = match &*like.storage_and_layout().0 {
            Storage::Cuda(storage) => Numbers::Gpu(unset_like(storage, len)?),
            _ => Numbers::Host(vec![0.0; len]),
        };
        Ok(Self { numbers, len })
    }

    /// The array's numbers, to be written.
    ///
    /// # Errors
    /// candle's, for an array that is not f32.
    pub fn span(&mut self) -> candle_core::Result<Span<'_>> {
        match &mut self.numbers {
            Numbers::Host(values) => Ok(Span::of_mut(values)),
            Numbers::Gpu(storage) => span_mut(storage, &Layout::contiguous(self.len)),
        }
    }

    /// The tensor, without history.
    ///
    /// # Errors
    /// candle's, where `shape` has another number of numbers.
    pub fn tensor(self, shape: &[usize]) -> candle_core::Result<Tensor> {
        match self.numbers {
            Numbers::Host(values) => Tensor::from_vec(values, shape, &Device::Cpu),
            Numbers::Gpu(storage) => Ok(tensor_of(storage, shape)),
        }
    }
}

/// Calls `run` with the numbers of contiguous f32 tensors.
///
/// # Errors
/// candle's, for tensors that are something else.
pub fn with_spans<const N: usize, T>(
    tensors: [&Tensor; N],
    run: impl FnOnce([Span; N]) -> candle_core::Result<T>,
) -> candle_core::Result<T> {
    let held = tensors.map(Tensor::storage_and_layout);
    let mut spans = Vec::with_capacity(N);
    for (storage, layout) in &held {
        spans.push(match (&**storage, layout.contiguous_offsets()) {
            (Storage::Cuda(storage), _) => span(storage, layout)?,
            (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Span::of(&values[start..end]),
            _ => candle_core::bail!("the network takes contiguous f32 tensors"),
        });
    }
    match <[Span; N]>::try_from(spans) {
        Ok(spans) => run(spans),
        Err(_) => unreachable!("one span was made of each tensor"),
    }
}

/// `error` as candle's.
pub fn to_candle(error: Error) -> candle_core::Error {
    match error {
        Error::Tensor(error) => error,
        error => candle_core::Error::msg(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rank_takes_a_gpu_of_its_own() {
        let chosen = |index, count, auto| Place::Cuda(index).among_gpus(count, auto);
        assert_eq!(chosen(3, 4, true), Ok(Place::Cuda(3)));
        assert_eq!(chosen(3, 1, true), Ok(Place::Cuda(0)));
        assert_eq!(chosen(3, 2, true), Err("4 ranks and 2 NVIDIA GPUs on this machine".into()));
        assert_eq!(chosen(1, 1, false), Err("this machine has 1 NVIDIA GPUs, numbered from 0".into()));
        let said = Place::find("cuda:x").unwrap_err().to_string();
        assert!(said.contains("cpu, cuda:N or cuda:auto"), "{said}");
    }
}
