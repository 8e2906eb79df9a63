//! The one place where the network meets candle: a node with two inputs, x and flat θ, whose backward
//! pass returns the gradient of both.

use super::device_passes::DeviceArena;
use super::layers::Network;
use super::on_device::OnDevice;
use super::passes::{Arena, Statistics, backward, forward};
use super::plan::{Mode, Plan};
use super::running::{HeldRunning, Running};
use crate::device;
use crate::error::{Error, Result};
use crate::kernel::device::Device as KernelDevice;
use crate::kernel::{Kernel, Precision};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Storage, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A network with what runs it: kernel, plans, arenas, running statistics.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    network: Network,
    kernel: Arc<dyn Kernel>,
    plans: Mutex<HashMap<(usize, usize, Mode), Arc<Plan>>>,
    /// Arenas that no pass is using.
    arenas: Mutex<Vec<Arena>>,
    /// Shared with engines of the same network for images of other sizes.
    running: Arc<Running>,
    /// How a device stores values.
    precision: Precision,
    /// The network on the device that it was moved to.
    on_device: OnceLock<OnDevice>,
}

/// A lock whose holder panicked still guards plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Inner {
    fn plan(&self, views: usize, batch: usize, mode: Mode) -> Arc<Plan> {
        let make = || Arc::new(Plan::new(&self.network, self.kernel.as_ref(), views, batch, mode));
        lock(&self.plans).entry((views, batch, mode)).or_insert_with(make).clone()
    }

    fn arena(&self, plan: &Plan) -> Arena {
        let mut arena = lock(&self.arenas).pop().unwrap_or_default();
        arena.fit(plan);
        arena
    }

    fn give_back(&self, arena: Arena) {
        lock(&self.arenas).push(arena);
    }

    /// The network on the GPU whose memory its tensors are in.
    fn on_gpu(&self) -> Result<&OnDevice> {
        let on_gpu = self.on_device.get().filter(|on_device| on_device.device().gpu().is_some());
        on_gpu.ok_or_else(|| Error::Failure("tensors of a GPU were given to a network elsewhere".into()))
    }
}

/// Numbers of f32 that a training pass of `network` over `views` × `batch` images holds beside θ and its
/// input: values, gradients, statistics, scratch.
pub fn pass_floats(network: &Network, kernel: &dyn Kernel, views: usize, batch: usize) -> usize {
    let plan = Plan::new(network, kernel, views, batch, Mode::Train);
    plan.values_len + plan.gradients_len + plan.statistics_len + plan.scratch_len
}

impl Engine {
    /// An engine for `network` with the running statistics of a new network.
    pub fn new(network: Network, kernel: Arc<dyn Kernel>) -> Self {
        Self::with_precision(network, kernel, Precision::F32)
    }

    /// The same, whose values a device stores as `precision`.
    pub fn with_precision(network: Network, kernel: Arc<dyn Kernel>, precision: Precision) -> Self {
        let running = Arc::new(Running::new(network.init_running()));
        Self::of(network, kernel, precision, running)
    }

    /// An engine for the same layers on images of another size: its passes move these running statistics.
    ///
    /// # Errors
    /// [`Error::Usage`] when the layers' parameters depend on the size.
    pub fn resized(&self, network: Network) -> Result<Self> {
        let (own, inner) = (&self.inner.network, &self.inner);
        if (network.theta_len(), network.running_len()) != (own.theta_len(), own.running_len()) {
            return Err(Error::Usage(
                "augment.multi_crop: this backbone takes images of one size only".into(),
            ));
        }
        Ok(Self::of(network, inner.kernel.clone(), inner.precision, inner.running.clone()))
    }

    fn of(network: Network, kernel: Arc<dyn Kernel>, precision: Precision, running: Arc<Running>) -> Self {
        let (plans, arenas, on_device) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { inner: Arc::new(Inner { network, kernel, plans, arenas, running, precision, on_device }) }
    }

    /// From here on `device` runs the network; it computes in host memory if tensors are there.
    ///
    /// # Errors
    /// [`Error::Failure`] when another device already does.
    pub fn move_to(&self, device: Arc<dyn KernelDevice>) -> Result<()> {
        let (precision, running) = (self.inner.precision, self.inner.running.clone());
        let moved = self.inner.on_device.set(OnDevice::new(device, precision, running));
        moved.map_err(|_| Error::Failure("a network moves to a device once".into()))
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// A copy of the running statistics.
    ///
    /// # Errors
    /// [`Error::Failure`] when a device that holds them fails.
    pub fn running(&self) -> Result<Vec<f32>> {
        self.inner.running.values()
    }

    /// Lays a copy of the running statistics aside, where they lie.
    pub fn hold_running(&self) -> Result<HeldRunning> {
        self.inner.running.hold()
    }

    /// Takes back what [`Engine::hold_running`] gave.
    pub fn put_back_running(&self, held: &HeldRunning) -> Result<()> {
        self.inner.running.put_back(held)
    }

    /// Replaces the running statistics.
    pub fn set_running(&self, values: &[f32]) -> Result<()> {
        self.inner.running.set(values)
    }

    /// Batch norm in training mode, differentiable in x and θ: x (V, B, H, W, C) or (V, B, d), θ (P) →
    /// (V, B, output). Each view has its own statistics; running statistics move in the order of views.
    pub fn train(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.apply(x, theta, Mode::Train)
    }

    /// The same values and the same movement of the running statistics, without gradient.
    pub fn target(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.apply(&x.detach(), &theta.detach(), Mode::Forget)
    }

    fn apply(&self, x: &Tensor, theta: &Tensor, mode: Mode) -> Result<Tensor> {
        let (views, batch) = self.check(x.dims(), theta)?;
        let plan = self.inner.plan(views, batch, mode);
        let op = NetworkOp { inner: self.inner.clone(), plan, saved: Mutex::new(Saved::Nothing) };
        Ok(x.contiguous()?.apply_op2(theta, op)?)
    }

    /// (V, B), when x and θ are what this network takes.
    fn check(&self, dims: &[usize], theta: &Tensor) -> Result<(usize, usize)> {
        let network = &self.inner.network;
        let input = network.input();
        let (views, batch, rest) = match dims {
            [views, batch, rest @ ..] => (*views, *batch, rest),
            _ => (0, 0, dims),
        };
        let image = [input.height, input.width, input.channels];
        let vector = [input.len()];
        if views * batch == 0 || !(rest == image || rest == vector) || theta.dims() != [network.theta_len()] {
            return Err(Error::Failure(format!(
                "the network takes (V, B, {}, {}, {}) and θ of {} numbers, not {dims:?} and {:?}",
                input.height,
                input.width,
                input.channels,
                network.theta_len(),
                theta.dims()
            )));
        }
        Ok((views, batch))
    }

    /// Numbers of f32 that a pass in evaluation mode over `batch` images holds beside θ and its
    /// input.
    pub fn evaluation_floats(&self, batch: usize) -> usize {
        let plan = Plan::new(&self.inner.network, self.inner.kernel.as_ref(), 1, batch, Mode::Forget);
        plan.values_len + plan.statistics_len + plan.scratch_len
    }

    /// Evaluation mode: x (B, H, W, C) → (features (B, D), output (B, d)), by running statistics.
    pub fn evaluate(&self, x: &Tensor, theta: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = &self.inner;
        let dims: Vec<usize> = std::iter::once(1).chain(x.dims().iter().copied()).collect();
        let (_, batch) = self.check(&dims, theta)?;
        let plan = inner.plan(1, batch, Mode::Forget);
        let x = x.contiguous()?;
        if x.device().is_cuda() {
            return inner.on_gpu()?.evaluate_on_gpu(&inner.network, &plan, &x, theta);
        }
        if let Some(on_device) = inner.on_device.get() {
            return with_slices(&x, theta, |x, theta| {
                on_device.evaluate_in_place(&inner.network, &plan, [x, theta]).map_err(device::to_candle)
            })
            .map_err(Error::from);
        }
        let mut arena = inner.arena(&plan);
        let running = self.running()?;
        with_slices(&x, theta, |x, theta| {
            let statistics = Statistics::Running(&running);
            forward(&inner.network, inner.kernel.as_ref(), &plan, &mut arena, x, theta, statistics);
            Ok(())
        })?;
        let result = |value: usize| {
            let values = arena.value(&inner.network, &plan, value).to_vec();
            let dim = values.len() / batch;
            Tensor::from_vec(values, (batch, dim), x.device())
        };
        let outputs = (result(inner.network.features)?, result(inner.network.values.len() - 1)?);
        inner.give_back(arena);
        Ok(outputs)
    }
}

/// The contiguous f32 numbers of a storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("the network takes contiguous f32 tensors"),
    }
}

/// Calls `run` with the numbers of two CPU tensors.
fn with_slices<T>(
    a: &Tensor,
    b: &Tensor,
    run: impl FnOnce(&[f32], &[f32]) -> candle_core::Result<T>,
) -> candle_core::Result<T> {
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    match (&*a, &*b) {
        (Storage::Cpu(a), Storage::Cpu(b)) => run(slice(a, a_layout)?, slice(b, b_layout)?),
        _ => candle_core::bail!("this engine runs on the CPU"),
    }
}

/// One forward pass, and the memory its backward pass needs.
struct NetworkOp {
    inner: Arc<Inner>,
    plan: Arc<Plan>,
    saved: Mutex<Saved>,
}

/// The arena of a forward pass whose gradient has not been asked for.
enum Saved {
    Nothing,
    Host(Arena),
    Device(DeviceArena),
}

impl Inner {
    fn take_back(&self, saved: Saved) {
        match saved {
            Saved::Nothing => {}
            Saved::Host(arena) => self.give_back(arena),
            Saved::Device(arena) => {
                if let Some(on_device) = self.on_device.get() {
                    on_device.give_back(arena);
                }
            }
        }
    }
}

impl Drop for NetworkOp {
    fn drop(&mut self) {
        self.inner.take_back(std::mem::replace(&mut *lock(&self.saved), Saved::Nothing));
    }
}

impl CustomOp2 for NetworkOp {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        theta: &CpuStorage,
        theta_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (inner, plan) = (&self.inner, &self.plan);
        let (x, theta) = (slice(x, x_layout)?, slice(theta, theta_layout)?);
        let shape = (plan.views, plan.batch, inner.network.output_dim());
        if let Some(on_device) = inner.on_device.get() {
            let (output, arena) =
                on_device.train_in_place(&inner.network, plan, [x, theta]).map_err(device::to_candle)?;
            *lock(&self.saved) = Saved::Device(arena);
            return Ok((CpuStorage::F32(output), shape.into()));
        }
        let mut arena = inner.arena(plan);
        let done = inner.running.on_host(|running| {
            let statistics = Statistics::Batch(running);
            forward(&inner.network, inner.kernel.as_ref(), plan, &mut arena, x, theta, statistics);
        });
        done.map_err(device::to_candle)?;
        let output = arena.value(&inner.network, plan, inner.network.values.len() - 1).to_vec();
        *lock(&self.saved) = Saved::Host(arena);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        theta: &CudaStorage,
        theta_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (inner, plan) = (&self.inner, &self.plan);
        let shape = (plan.views, plan.batch, inner.network.output_dim());
        let on_device = inner.on_gpu().map_err(device::to_candle)?;
        let mut output = device::unset_like(x, shape.0 * shape.1 * shape.2)?;
        let whole = Layout::contiguous(shape);
        let inputs = [device::span(x, x_layout)?, device::span(theta, theta_layout)?];
        let arena = on_device.train(&inner.network, plan, inputs, device::span_mut(&mut output, &whole)?);
        *lock(&self.saved) = Saved::Device(arena.map_err(device::to_candle)?);
        Ok((output, shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        theta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (inner, plan) = (&self.inner, &self.plan);
        let mut arena = std::mem::replace(&mut *lock(&self.saved), Saved::Nothing);
        let dy = dy.contiguous()?;
        let on_device = inner.on_device.get();
        if let (Saved::Device(device_arena), Some(on_device), true) =
            (&arena, on_device, x.device().is_cuda())
        {
            let made = on_device.backward_on_gpu(&inner.network, plan, device_arena, [x, theta, &dy])?;
            inner.take_back(arena);
            return Ok(made);
        }
        let dy = dy.flatten_all()?.to_vec1::<f32>()?;
        let mut d_theta = vec![0.0; inner.network.theta_len()];
        let mut d_x = inner.network.input_gradient.then(|| vec![0.0; x.elem_count()]);
        with_slices(x, theta, |x, theta| {
            let d_x = d_x.as_deref_mut();
            match (&mut arena, on_device) {
                (Saved::Nothing, _) | (Saved::Device(_), None) => {
                    candle_core::bail!("the network's gradient was asked for twice; one forward pass has one")
                }
                (Saved::Host(arena), _) => {
                    let kernel = inner.kernel.as_ref();
                    backward(&inner.network, kernel, plan, arena, x, theta, &dy, &mut d_theta, d_x);
                    Ok(())
                }
                (Saved::Device(arena), Some(on_device)) => on_device
                    .backward_in_place(&inner.network, plan, arena, [x, theta, &dy], &mut d_theta, d_x)
                    .map_err(device::to_candle),
            }
        })?;
        inner.take_back(arena);
        let d_x = d_x.map(|d_x| Tensor::from_vec(d_x, x.dims(), x.device())).transpose()?;
        Ok((d_x, Some(Tensor::from_vec(d_theta, theta.dims(), theta.device())?)))
    }
}
