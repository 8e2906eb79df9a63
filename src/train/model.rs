//! θ in memory: the encoder's and the predictor's weights, each one flat vector, with the engines
//! that run them.

use super::linear;
use super::part::Part;
use crate::device::Site;
use crate::error::{Error, Result};
use crate::eta::FrozenEncoder;
use crate::kernel::ranks::Shards;
use crate::kernel::{Kernel, Precision};
use crate::network::config::EncoderConfig;
use crate::network::{Engine, Network};
use crate::objective::unit_rows;
use crate::recipe::{Predictor, Recipe};
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// F_θ and, where there are such, h, h⁻¹ and prototypes.
///
/// Methods that take tensors fail with [`Error::Failure`] for another shape, and with
/// [`Error::Device`] when a GPU fails.
pub struct Model {
    encoder: Engine,
    /// F_θ for small crops: other passes over the same θ and running statistics.
    small: Option<Engine>,
    theta: Var,
    predictor: Option<Head>,
    inverse: Option<Head>,
    prototypes: Option<Head>,
    /// Images that passed through F without gradient.
    passed: AtomicU64,
    /// What h is, as the recipe has it.
    configured: Predictor,
    site: Site,
}

/// h, h⁻¹ or the prototypes with its weights.
struct Head {
    engine: Engine,
    theta: Var,
}

/// A pass in evaluation mode holds no more.
const MOST_EVALUATION_BYTES: usize = 4 << 30;

/// The streams of initial weights.
const ENCODER: u64 = 0;
const PREDICTOR: u64 = 1;
const INVERSE: u64 = 2;
const PROTOTYPES: u64 = 3;

impl Model {
    /// A model with the initial weights of `seed`, for square images of `size` pixels.
    ///
    /// # Errors
    /// [`Error::Usage`] for widths out of range, and for images that are too small.
    pub fn new(
        encoder: &EncoderConfig,
        predictor: &Predictor,
        size: usize,
        seed: u64,
        kernel: &Arc<dyn Kernel>,
    ) -> Result<Self> {
        let engine = |network| Engine::with_precision(network, kernel.clone(), encoder.precision);
        let network = Network::encoder(encoder, (size, size))?;
        let theta = flat(network.init(seed, ENCODER))?;
        let head = |(network, stream): (Network, u64)| -> Result<Head> {
            let theta = flat(network.init(seed, stream))?;
            Ok(Head { engine: engine(network)?, theta })
        };
        let networks = predictor.networks(encoder.projector.dim)?;
        let mut heads = networks.into_iter().zip([PREDICTOR, INVERSE]).map(head);
        let (h, inverse) = (heads.next().transpose()?, heads.next().transpose()?);
        if let (Predictor::Linear(config), Some(h)) = (predictor, &h) {
            linear::begin(&h.theta, encoder.projector.dim, *config)?;
        }
        Ok(Self {
            encoder: engine(network)?,
            small: None,
            theta,
            predictor: h,
            inverse,
            prototypes: None,
            passed: AtomicU64::new(0),
            configured: predictor.clone(),
            site: Site::default(),
        })
    }

    /// This model with its weights at `site`, where tensors that are given to it go too.
    ///
    /// # Errors
    /// [`Error::Device`] when a GPU fails, [`Error::Failure`] for a model that runs on a device
    /// already.
    pub fn on(mut self, site: &Site) -> Result<Self> {
        let heads = [&mut self.predictor, &mut self.inverse, &mut self.prototypes].into_iter().flatten();
        for theta in std::iter::once(&mut self.theta).chain(heads.map(|head| &mut head.theta)) {
            *theta = Var::from_tensor(&theta.to_device(site.tensors())?)?;
        }
        if site.kernels().is_some() {
            let machine = site.machine(Precision::F32)?;
            let heads = [&mut self.predictor, &mut self.inverse, &mut self.prototypes].into_iter().flatten();
            let engines = [&mut self.encoder].into_iter().chain(&mut self.small);
            for engine in engines.chain(heads.map(|head| &mut head.engine)) {
                *engine = engine.on(&machine)?;
            }
        }
        self.site = site.clone();
        Ok(self)
    }

    /// This model, whose encoder passes its part of each batch in training mode and gathers the
    /// outputs; h and what else follows takes all of them, on every rank.
    pub fn cut_by(mut self, shards: &Arc<Shards>) -> Self {
        for engine in [&mut self.encoder].into_iter().chain(&mut self.small) {
            *engine = engine.cut_by(shards);
        }
        self
    }

    /// The part of a batch of `batch` images that this rank passes in training mode, of how many:
    /// nobody reads its other images here.
    pub fn part(&self, batch: usize) -> [usize; 2] {
        self.encoder.part(batch)
    }

    /// Where the weights are, and what runs them.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Where tensors are.
    pub fn device(&self) -> &Device {
        self.site.tensors()
    }

    /// The model that `recipe` trains, with its initial weights.
    ///
    /// # Errors
    /// [`Error::Usage`] for widths out of range, and for small crops of a backbone that takes one
    /// size only.
    pub fn of(recipe: &Recipe, kernel: &Arc<dyn Kernel>) -> Result<Self> {
        let Recipe { encoder, predictor, augment, seed, .. } = recipe;
        let mut model = Self::new(encoder, predictor, augment.size, *seed, kernel)?;
        if let Some(crops) = &augment.multi_crop {
            let network = Network::encoder(encoder, (crops.size, crops.size))?;
            model.small = Some(model.encoder.resized(network)?);
        }
        if let Some(prototypes) = &recipe.objective.prototypes {
            model = model.with_prototypes(prototypes.count, *seed, kernel)?;
        }
        Ok(model)
    }

    /// This model with `count` prototypes drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the count is out of range.
    pub fn with_prototypes(mut self, count: usize, seed: u64, kernel: &Arc<dyn Kernel>) -> Result<Self> {
        let network = Network::prototypes(self.output_dim(), count)?;
        let theta = flat(network.init(seed, PROTOTYPES))?;
        self.prototypes = Some(Head { engine: Engine::new(network, kernel.clone())?, theta });
        Ok(self)
    }

    /// z = F_θ(x) of small crops, differentiable: (n, B, h, w, C) → (n, B, d).
    ///
    /// # Errors
    /// [`Error::Failure`] where the model was made without such.
    pub fn z_of_small(&self, x: &Tensor) -> Result<Tensor> {
        let none = || Error::Failure("this model takes no small crops".into());
        self.small.as_ref().ok_or_else(none)?.train(&self.moved(x)?, &self.theta)
    }

    /// Divides each prototype by its length, as every step begins with it (official SwAV code).
    pub fn normalise_prototypes(&self) -> Result<()> {
        let Some(Head { theta, engine }) = &self.prototypes else { return Ok(()) };
        // A linear layer's weights lie as (d, K).
        let shape = (self.output_dim(), engine.network().output_dim());
        let columns = theta.as_detached_tensor().reshape(shape)?.to_dtype(DType::F64)?;
        let length = (columns.sqr()?.sum_keepdim(0)? + 1e-24)?.sqrt()?;
        Ok(theta.set(&columns.broadcast_div(&length)?.to_dtype(DType::F32)?.flatten_all()?)?)
    }

    /// Images that passed through F without gradient so far, at an E-step's request.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    fn count(&self, x: &Tensor) {
        let images: usize = x.dims().iter().take(2).product();
        self.passed.fetch_add(images as u64, Ordering::Relaxed);
    }

    /// `x` where θ is. A part of a larger tensor moves alone; candle would take the whole along.
    fn moved(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().same_device(self.device()) {
            return Ok(x.clone());
        }
        Ok(x.force_contiguous()?.to_device(self.device())?)
    }

    /// z = F_θ(x), differentiable: (V, B, H, W, C) → (V, B, d).
    pub fn z(&self, x: &Tensor) -> Result<Tensor> {
        self.encoder.train(&self.moved(x)?, &self.theta)
    }

    /// z = F_θ(x) with θ frozen, batch norm in training mode: (V, B, H, W, C) → (V, B, d).
    pub fn frozen_z(&self, x: &Tensor) -> Result<Tensor> {
        self.encoder.target(&self.moved(x)?, &self.theta)
    }

    /// p = h(z), or z itself where there is no predictor: (V, B, d) → (V, B, d).
    pub fn p(&self, z: &Tensor) -> Result<Tensor> {
        match &self.predictor {
            None => Ok(z.clone()),
            Some(h) => h.engine.train(z, &h.theta),
        }
    }

    /// p = h(z), differentiable in z, with the weights of h fixed: (V, B, d) → (V, B, d).
    pub fn p_of_fixed(&self, z: &Tensor) -> Result<Tensor> {
        match &self.predictor {
            None => Ok(z.clone()),
            Some(h) => h.engine.train(z, &h.theta.as_detached_tensor()),
        }
    }

    /// p = h(z) without gradient: (V, B, d) → (V, B, d).
    pub fn frozen_p(&self, z: &Tensor) -> Result<Tensor> {
        match &self.predictor {
            None => Ok(z.detach()),
            Some(h) => Ok(h.engine.target(z, &h.theta)?.detach()),
        }
    }

    /// h⁻¹(p), differentiable: (V, B, d) → (V, B, d).
    ///
    /// # Errors
    /// [`Error::Failure`] where there is no h⁻¹.
    pub fn inverse(&self, p: &Tensor) -> Result<Tensor> {
        let inverse = self.inverse_head()?;
        inverse.engine.train(p, &inverse.theta)
    }

    /// h⁻¹(p) without gradient: (V, B, d) → (V, B, d).
    ///
    /// # Errors
    /// [`Error::Failure`] where there is no h⁻¹.
    pub fn frozen_inverse(&self, p: &Tensor) -> Result<Tensor> {
        let inverse = self.inverse_head()?;
        Ok(inverse.engine.target(p, &inverse.theta)?.detach())
    }

    fn inverse_head(&self) -> Result<&Head> {
        self.inverse.as_ref().ok_or_else(|| Error::Failure("this model has no inverse predictor".into()))
    }

    /// What h is, as the recipe has it.
    pub fn predictor(&self) -> &Predictor {
        &self.configured
    }

    /// Evaluation mode: x (B, H, W, C) → (pooled backbone features (B, D), z (B, d)).
    pub fn evaluate(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.encoder.evaluate(&self.moved(x)?, &self.theta.as_detached_tensor())
    }

    /// How many images, at most `most`, pass at once in evaluation mode without holding more than
    /// some gigabytes.
    ///
    /// # Errors
    /// [`Error::Failure`] where one image alone would hold more.
    pub fn evaluation_batch(&self, most: usize) -> Result<usize> {
        let bytes = |batch: usize| self.encoder.evaluation_floats(batch).saturating_mul(size_of::<f32>());
        let batches =
            std::iter::successors(Some(most), |batch| Some(batch / 2)).take_while(|batch| *batch > 0);
        batches.into_iter().find(|batch| bytes(*batch) <= MOST_EVALUATION_BYTES).ok_or_else(|| {
            let (input, gib) = (self.encoder.network().input(), bytes(1) >> 30);
            let (height, width) = (input.height, input.width);
            Error::Failure(format!(
                "one image of {height}×{width} pixels would take {gib} GiB in this network"
            ))
        })
    }

    /// Whether z is the projector's output, and not the features themselves.
    pub fn has_projector(&self) -> bool {
        self.encoder.network().has_projector()
    }

    /// p = h(z) in evaluation mode, or z itself where there is no predictor: (B, d) → (B, d).
    pub fn evaluate_p(&self, z: &Tensor) -> Result<Tensor> {
        match &self.predictor {
            None => Ok(z.clone()),
            Some(h) => Ok(h.engine.evaluate(z, &h.theta.as_detached_tensor())?.1),
        }
    }

    /// The parts: "encoder", then, where there are such, "predictor", "inverse" and "prototypes".
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let encoder = Part { name: "encoder", engine: &self.encoder, theta: &self.theta };
        let heads =
            [("predictor", &self.predictor), ("inverse", &self.inverse), ("prototypes", &self.prototypes)];
        let there = heads.into_iter().filter_map(|(name, head)| Some((name, head.as_ref()?)));
        std::iter::once(encoder).chain(there.map(|(name, h)| Part {
            name,
            engine: &h.engine,
            theta: &h.theta,
        }))
    }

    /// d, the dimension of z.
    pub fn output_dim(&self) -> usize {
        self.encoder.network().output_dim()
    }

    /// The dimension of the pooled backbone features.
    pub fn features_dim(&self) -> usize {
        self.encoder.network().features_dim()
    }

    /// Puts weights and running statistics, both flat, into the part called `part`.
    ///
    /// # Errors
    /// [`Error::Failure`] where there is no such part, or one of other lengths.
    pub fn set(&self, part: &str, theta: Vec<f32>, running: &[f32]) -> Result<()> {
        let part = self
            .parts()
            .find(|p| p.name == part)
            .ok_or_else(|| Error::Failure(format!("this model has no {part}")))?;
        let network = part.engine.network();
        if theta.len() != network.theta_len() || running.len() != network.running_len() {
            return Err(Error::Failure(format!(
                "the {}'s weights are those of another architecture: {} numbers where {} are needed",
                part.name,
                theta.len(),
                network.theta_len()
            )));
        }
        part.theta.set(&Tensor::from_vec(theta, part.theta.dims(), self.device())?)?;
        part.engine.set_running(running)
    }
}

impl FrozenEncoder for Model {
    fn z(&self, x: &Tensor) -> Result<Tensor> {
        self.count(x);
        self.frozen_z(x)
    }

    fn theta(&self) -> Result<Tensor> {
        Ok(self.theta.as_detached_tensor())
    }

    fn z_by(&self, theta: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.count(x);
        let (x, theta) = (self.moved(x)?, theta.to_device(self.device())?);
        let running = self.encoder.hold_running()?;
        let z = self.encoder.target(&x, &theta);
        self.encoder.put_back_running(&running)?;
        z
    }

    fn scores(&self, z: &Tensor) -> Result<Tensor> {
        // A queue's rows come from the CPU.
        let z = &z.to_device(self.device())?;
        match &self.prototypes {
            None => Ok(z.clone()),
            Some(c) => c.engine.train(&unit_rows(z)?, &c.theta),
        }
    }
}

fn flat(theta: Vec<f32>) -> Result<Var> {
    let len = theta.len();
    Ok(Var::from_vec(theta, len, &Device::Cpu)?)
}
