//! The one place where the network meets candle: a node with two inputs, x and flat θ, whose backward
//! pass returns the gradient of both.

use super::layers::Network;
use super::passes::{Arena, Statistics, backward, forward};
use super::plan::{Mode, Plan};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Storage, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

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
    running: Arc<Mutex<Vec<f32>>>,
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
        let running = Arc::new(Mutex::new(network.init_running()));
        Self::on(network, kernel, running)
    }

    /// An engine for the same layers on images of another size: its passes move these running statistics.
    ///
    /// # Errors
    /// [`Error::Usage`] when the layers' parameters depend on the size.
    pub fn resized(&self, network: Network) -> Result<Self> {
        let own = &self.inner.network;
        if (network.theta_len(), network.running_len()) != (own.theta_len(), own.running_len()) {
            return Err(Error::Usage(
                "augment.multi_crop: this backbone takes images of one size only".into(),
            ));
        }
        Ok(Self::on(network, self.inner.kernel.clone(), self.inner.running.clone()))
    }

    fn on(network: Network, kernel: Arc<dyn Kernel>, running: Arc<Mutex<Vec<f32>>>) -> Self {
        let (plans, arenas) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { network, kernel, plans, arenas, running }) }
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// A copy of the running statistics.
    pub fn running(&self) -> Vec<f32> {
        lock(&self.inner.running).clone()
    }

    /// Replaces the running statistics.
    pub fn set_running(&self, values: &[f32]) -> Result<()> {
        let mut running = lock(&self.inner.running);
        if running.len() != values.len() {
            return Err(Error::Failure("running statistics of another architecture".into()));
        }
        running.copy_from_slice(values);
        Ok(())
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
        let op = NetworkOp { inner: self.inner.clone(), plan, saved: Mutex::new(None) };
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

    /// Evaluation mode: x (B, H, W, C) → (features (B, D), output (B, d)), by running statistics.
    pub fn evaluate(&self, x: &Tensor, theta: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = &self.inner;
        let dims: Vec<usize> = std::iter::once(1).chain(x.dims().iter().copied()).collect();
        let (_, batch) = self.check(&dims, theta)?;
        let plan = inner.plan(1, batch, Mode::Forget);
        let mut arena = inner.arena(&plan);
        let running = self.running();
        let x = x.contiguous()?;
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
    saved: Mutex<Option<Arena>>,
}

impl Drop for NetworkOp {
    fn drop(&mut self) {
        if let Some(arena) = lock(&self.saved).take() {
            self.inner.give_back(arena);
        }
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
        let mut arena = inner.arena(plan);
        let mut running = lock(&inner.running);
        forward(
            &inner.network,
            inner.kernel.as_ref(),
            plan,
            &mut arena,
            slice(x, x_layout)?,
            slice(theta, theta_layout)?,
            Statistics::Batch(&mut running),
        );
        let output = arena.value(&inner.network, plan, inner.network.values.len() - 1).to_vec();
        *lock(&self.saved) = Some(arena);
        let shape = (plan.views, plan.batch, inner.network.output_dim());
        Ok((CpuStorage::F32(output), shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        theta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (inner, plan) = (&self.inner, &self.plan);
        let Some(mut arena) = lock(&self.saved).take() else {
            candle_core::bail!("the network's gradient was asked for twice; one forward pass has one");
        };
        let dy = dy.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
        let mut d_theta = vec![0.0; inner.network.theta_len()];
        let mut d_x = inner.network.input_gradient.then(|| vec![0.0; x.elem_count()]);
        with_slices(x, theta, |x, theta| {
            let kernel = inner.kernel.as_ref();
            let d_x = d_x.as_deref_mut();
            backward(&inner.network, kernel, plan, &mut arena, x, theta, &dy, &mut d_theta, d_x);
            Ok(())
        })?;
        inner.give_back(arena);
        let d_x = d_x.map(|d_x| Tensor::from_vec(d_x, x.dims(), x.device())).transpose()?;
        Ok((d_x, Some(Tensor::from_vec(d_theta, theta.dims(), theta.device())?)))
    }
}
