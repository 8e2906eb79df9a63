//! The one place where the network meets candle: a node with two inputs, x and flat θ, whose
//! backward pass returns the gradient of both.

use super::arena::Arena;
use super::cut;
use super::layers::Network;
use super::passes::{By, Pass};
use super::plan::{Mode, Plan, Plans};
use super::running::{HeldRunning, Running};
use crate::device::{self, Unset};
use crate::error::{Error, Result};
use crate::kernel::device::Span;
use crate::kernel::machine::{Machine, Processor};
use crate::kernel::ranks::Shards;
use crate::kernel::{Kernel, Precision};
use crate::threads::lock;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex};

/// A network with what runs it: machine, plans, arenas, running statistics.
///
/// Its methods fail with [`Error::Failure`] for tensors of another shape or in another memory, and
/// with [`Error::Device`] when a GPU fails or has no room.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// How batches are cut that pass in training mode.
    shards: Arc<Shards>,
}

struct Inner {
    network: Network,
    machine: Arc<dyn Machine>,
    /// What the recipe asks for; the machine says how values are stored.
    precision: Precision,
    plans: Mutex<Plans>,
    /// Arenas that no pass is using.
    arenas: Mutex<Vec<Arena>>,
    /// Shared with engines of the same network for images of other sizes.
    running: Arc<Running>,
}

impl Inner {
    /// The plan of so many shards, views of each, and images of each view.
    fn plan(&self, shape: [usize; 3], mode: Mode) -> Arc<Plan> {
        let make = || Arc::new(Plan::cut(&self.network, self.machine.as_ref(), shape, mode));
        lock(&self.plans).entry((shape, mode)).or_insert_with(make).clone()
    }

    fn arena(&self, plan: &Plan) -> Result<Arena> {
        let mut arena = lock(&self.arenas).pop().unwrap_or_default();
        arena.fit(self.machine.as_ref(), &self.network, plan, self.storage())?;
        Ok(arena)
    }

    fn give_back(&self, arena: Arena) {
        lock(&self.arenas).push(arena);
    }

    fn storage(&self) -> Precision {
        self.machine.storage(self.precision)
    }

    fn pass<'a>(
        &'a self,
        plan: &'a Plan,
        arena: &'a Arena,
        [x, theta]: [Span<'a>; 2],
        shards: Option<&'a Shards>,
    ) -> Result<Pass<'a>> {
        if x.is_host() != self.machine.gpu().is_none() {
            return Err(Error::Failure("tensors in one memory, and a network that runs in another".into()));
        }
        let (machine, network) = (self.machine.as_ref(), &self.network);
        Ok(Pass { machine, network, plan, storage: self.storage(), x, theta, arena, shards })
    }

    /// A pass in training mode: x and θ in, the output out. The arena is what the backward pass
    /// needs.
    fn train(&self, plan: &Plan, inputs: [Span; 2], output: Span, shards: Option<&Shards>) -> Result<Arena> {
        let arena = self.arena(plan)?;
        let pass = self.pass(plan, &arena, inputs, shards)?;
        self.running.with(|running| pass.forward(By::Batch, running))?;
        self.machine.copy(pass.value(self.network.values.len() - 1), output)?;
        Ok(arena)
    }

    /// The gradients of the pass that left `arena`, θ's summed over all shards.
    fn backward(
        &self,
        op: &NetworkOp,
        arena: &Arena,
        inputs: [Span; 2],
        [dy, d_theta]: [Span; 2],
        d_x: Option<Span>,
    ) -> Result<()> {
        let shards = op.shards.as_deref();
        let pass = self.pass(&op.plan, arena, inputs, shards)?;
        pass.backward(dy, d_theta)?;
        shards.map_or(Ok(()), |shards| self.machine.sum_over_ranks(shards, d_theta))?;
        d_x.map_or(Ok(()), |d_x| self.machine.copy(pass.input_gradient()?, d_x))
    }

    /// A pass by running statistics: the pooled features and the output.
    fn evaluate(&self, plan: &Plan, inputs: [Span; 2], outputs: [Span; 2]) -> Result<()> {
        let arena = self.arena(plan)?;
        let pass = self.pass(plan, &arena, inputs, None)?;
        self.running.with(|running| pass.forward(By::Running, running))?;
        for (value, to) in [self.network.features, self.network.values.len() - 1].into_iter().zip(outputs) {
            self.machine.copy(pass.value(value), to)?;
        }
        self.give_back(arena);
        Ok(())
    }
}

impl Engine {
    /// An engine for `network` on the processor, with the running statistics of a new network.
    pub fn new(network: Network, kernel: Arc<dyn Kernel>) -> Result<Self> {
        Self::with_precision(network, kernel, Precision::F32)
    }

    /// An engine as [`Engine::new`] makes it, whose values a device stores as `precision`.
    pub fn with_precision(network: Network, kernel: Arc<dyn Kernel>, precision: Precision) -> Result<Self> {
        let machine: Arc<dyn Machine> = Arc::new(Processor::new(kernel));
        let running = Arc::new(Running::new(machine.clone(), &network.init_running())?);
        Ok(Self::of(network, machine, precision, running))
    }

    /// An engine for the same layers on images of another size: its passes move these running
    /// statistics.
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
        let resized = Self::of(network, inner.machine.clone(), inner.precision, inner.running.clone());
        Ok(resized.cut_by(&self.shards))
    }

    fn of(network: Network, machine: Arc<dyn Machine>, precision: Precision, running: Arc<Running>) -> Self {
        let (plans, arenas) = (Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { network, machine, precision, plans, arenas, running });
        Self { inner, shards: Arc::new(Shards::one()) }
    }

    /// This engine, whose passes in training mode cut their batches into `shards`, and pass this
    /// rank's part of them.
    pub fn cut_by(&self, shards: &Arc<Shards>) -> Self {
        Self { inner: self.inner.clone(), shards: shards.clone() }
    }

    /// The same network on `machine`, with the same running statistics, which move there.
    pub fn on(&self, machine: &Arc<dyn Machine>) -> Result<Self> {
        let Inner { network, precision, running, .. } = self.inner.as_ref();
        running.move_to(machine)?;
        let there = Self::of(network.clone(), machine.clone(), *precision, running.clone());
        Ok(there.cut_by(&self.shards))
    }

    /// The part of a batch of `batch` images that this rank passes in training mode, of how many.
    pub fn part(&self, batch: usize) -> [usize; 2] {
        let ranks = self.shards.ranks();
        if self.shards.cut(batch) { [ranks.rank(), ranks.size()] } else { [0, 1] }
    }

    /// What runs it.
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.inner.machine
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// A copy of the running statistics, flat as [`Network::running`] lists them.
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

    /// Replaces the running statistics, flat as [`Network::running`] lists them.
    pub fn set_running(&self, values: &[f32]) -> Result<()> {
        self.inner.running.set(values)
    }

    /// Batch norm in training mode, differentiable in x and θ: x (V, B, H, W, C) or (V, B, d), θ
    /// (P) → (V, B, output). Each view has its own statistics; running statistics move in the order
    /// of views. Of a batch that is cut, this rank reads its own images only, and gets all outputs.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use candle_core::{Device, Tensor};
    /// use simsiam_em::kernel::direct_sums;
    /// use simsiam_em::network::config::{Backbone, EncoderConfig, HeadNorm, ProjectorConfig};
    /// use simsiam_em::network::{Engine, Network};
    ///
    /// let projector = ProjectorConfig { layers: 2, hidden: None, dim: 32, norm: HeadNorm::All };
    /// let config = EncoderConfig::new(Backbone::Resnet8 { width: 16 }, projector);
    /// let network = Network::encoder(&config, (16, 16))?;
    /// let theta = Tensor::from_vec(network.init(0, 0), network.theta_len(), &Device::Cpu)?;
    /// let engine = Engine::new(network, direct_sums()?)?;
    /// let views = Tensor::rand(-1f32, 1f32, (2, 4, 16, 16, 3), &Device::Cpu)?;
    /// assert_eq!(engine.train(&views, &theta)?.dims(), [2, 4, 32]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn train(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.apply(x, theta, Mode::Train)
    }

    /// The values of [`Engine::train`], in the same shapes and with the same movement of the
    /// running statistics, without gradient.
    pub fn target(&self, x: &Tensor, theta: &Tensor) -> Result<Tensor> {
        self.apply(&x.detach(), &theta.detach(), Mode::Forget)
    }

    fn apply(&self, x: &Tensor, theta: &Tensor, mode: Mode) -> Result<Tensor> {
        let (views, batch) = self.check(x.dims(), theta)?;
        let pass = |x: Tensor, shape, shards| {
            let plan = self.inner.plan(shape, mode);
            x.apply_op2(theta, NetworkOp { inner: self.inner.clone(), plan, saved: Mutex::default(), shards })
        };
        if !self.shards.cut(batch) {
            return Ok(pass(x.contiguous()?, [1, views, batch], None)?);
        }
        let shards = &self.shards;
        let shape = [shards.own(), views, batch / shards.count()];
        cut::leave(&pass(cut::enter(x, shards)?, shape, Some(shards.clone()))?, views, shards)
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
        let plan = Plan::new(&self.inner.network, self.inner.machine.as_ref(), 1, batch, Mode::Forget);
        plan.values_len + plan.statistics_len + plan.scratch_len
    }

    /// Evaluation mode, by running statistics: x (B, H, W, C), θ (P) → features (B, D) and output
    /// (B, d).
    pub fn evaluate(&self, x: &Tensor, theta: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = &self.inner;
        let dims: Vec<usize> = std::iter::once(1).chain(x.dims().iter().copied()).collect();
        let (_, batch) = self.check(&dims, theta)?;
        let plan = inner.plan([1, 1, batch], Mode::Forget);
        let x = x.contiguous()?;
        let mut features = Unset::beside(&x, batch * inner.network.features_dim())?;
        let mut output = Unset::beside(&x, batch * inner.network.output_dim())?;
        device::with_spans([&x, theta], |inputs| {
            let outputs = [features.span()?, output.span()?];
            inner.evaluate(&plan, inputs, outputs).map_err(device::to_candle)
        })?;
        let [features_dim, output_dim] = [inner.network.features_dim(), inner.network.output_dim()];
        Ok((features.tensor(&[batch, features_dim])?, output.tensor(&[batch, output_dim])?))
    }
}

/// The contiguous f32 numbers of a storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("the network takes contiguous f32 tensors"),
    }
}

/// One forward pass, and the memory its backward pass needs.
struct NetworkOp {
    inner: Arc<Inner>,
    plan: Arc<Plan>,
    /// The arena of the forward pass, until its gradient is asked for.
    saved: Mutex<Option<Arena>>,
    /// How the batch is cut, where it is.
    shards: Option<Arc<Shards>>,
}

impl NetworkOp {
    fn shape(&self) -> (usize, usize, usize) {
        (self.plan.views, self.plan.batch, self.inner.network.output_dim())
    }

    fn forward(&self, inputs: [Span; 2], output: Span) -> candle_core::Result<()> {
        let arena = self.inner.train(&self.plan, inputs, output, self.shards.as_deref());
        let arena = arena.map_err(device::to_candle)?;
        *lock(&self.saved) = Some(arena);
        Ok(())
    }
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
        let mut output = vec![0.0; Shape::from(self.shape()).elem_count()];
        let inputs = [Span::of(slice(x, x_layout)?), Span::of(slice(theta, theta_layout)?)];
        self.forward(inputs, Span::of_mut(&mut output))?;
        Ok((CpuStorage::F32(output), self.shape().into()))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        theta: &CudaStorage,
        theta_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let mut output = device::unset_like(x, Shape::from(self.shape()).elem_count())?;
        let inputs = [device::span(x, x_layout)?, device::span(theta, theta_layout)?];
        self.forward(inputs, device::span_mut(&mut output, &Layout::contiguous(self.shape()))?)?;
        Ok((output, self.shape().into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        theta: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(arena) = lock(&self.saved).take() else {
            candle_core::bail!("the network's gradient was asked for twice; one forward pass has one")
        };
        let (inner, dy) = (&self.inner, dy.contiguous()?);
        let mut d_theta = Unset::beside(theta, theta.elem_count())?;
        let d_x = inner.network.input_gradient.then(|| Unset::beside(x, x.elem_count()));
        let mut d_x = d_x.transpose()?;
        device::with_spans([x, theta, &dy], |[x, theta, dy]| {
            let d_x = d_x.as_mut().map(Unset::span).transpose()?;
            inner.backward(self, &arena, [x, theta], [dy, d_theta.span()?], d_x).map_err(device::to_candle)
        })?;
        inner.give_back(arena);
        let d_x = d_x.map(|d_x| d_x.tensor(x.dims())).transpose()?;
        Ok((d_x, Some(d_theta.tensor(theta.dims())?)))
    }
}
