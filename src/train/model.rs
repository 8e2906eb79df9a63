//! θ in memory: the encoder's and the predictor's weights, each one flat vector, with the engines
//! that run them.

use crate::error::{Error, Result};
use crate::eta::FrozenEncoder;
use crate::kernel::Kernel;
use crate::network::config::{DirectConfig, EncoderConfig};
use crate::network::{Engine, Network};
use crate::optim::Layer;
use crate::recipe::Predictor;
use candle_core::{Device, Tensor, Var};
use std::sync::Arc;

/// F_θ and, where there are such, h and h⁻¹.
pub struct Model {
    encoder: Engine,
    theta: Var,
    predictor: Option<Head>,
    inverse: Option<Head>,
    direct: Option<DirectConfig>,
}

/// h or h⁻¹ with its weights.
struct Head {
    engine: Engine,
    theta: Var,
}

/// One part of a model.
pub struct Part<'a> {
    /// "encoder", "predictor" or "inverse".
    pub name: &'static str,
    /// What runs it.
    pub engine: &'a Engine,
    /// Its weights, flat.
    pub theta: &'a Var,
}

impl Part<'_> {
    /// Its parameters in the order of θ.
    pub fn layers(&self) -> Vec<Layer> {
        let parameters = self.engine.network().parameters().iter();
        parameters.map(|p| Layer { len: p.len, weights: p.torch_shape.len() > 1 }).collect()
    }
}

/// The streams of initial weights.
const ENCODER: u64 = 0;
const PREDICTOR: u64 = 1;
const INVERSE: u64 = 2;

impl Model {
    /// A model with the initial weights of `seed`, for square images of `size` pixels.
    pub fn new(
        encoder: &EncoderConfig,
        predictor: &Predictor,
        size: usize,
        seed: u64,
        kernel: &Arc<dyn Kernel>,
    ) -> Result<Self> {
        let network = Network::encoder(encoder, (size, size))?;
        let theta = flat(network.init(seed, ENCODER))?;
        let head = |(network, stream): (Network, u64)| -> Result<Head> {
            let theta = flat(network.init(seed, stream))?;
            Ok(Head { engine: Engine::new(network, kernel.clone()), theta })
        };
        let networks = predictor.networks(encoder.projector.dim)?;
        let mut heads = networks.into_iter().zip([PREDICTOR, INVERSE]).map(head);
        let (h, inverse) = (heads.next().transpose()?, heads.next().transpose()?);
        let direct = match predictor {
            Predictor::Direct(config) => Some(config.clone()),
            _ => None,
        };
        Ok(Self { encoder: Engine::new(network, kernel.clone()), theta, predictor: h, inverse, direct })
    }

    /// z = F_θ(x), differentiable: (V, B, H, W, C) → (V, B, d).
    pub fn z(&self, x: &Tensor) -> Result<Tensor> {
        self.encoder.train(x, &self.theta)
    }

    /// z = F_θ(x) with θ frozen, batch norm in training mode: (V, B, H, W, C) → (V, B, d).
    pub fn frozen_z(&self, x: &Tensor) -> Result<Tensor> {
        self.encoder.target(x, &self.theta)
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

    /// How h is set directly, where it is.
    pub fn direct(&self) -> Option<&DirectConfig> {
        self.direct.as_ref()
    }

    /// Evaluation mode: x (B, H, W, C) → (pooled backbone features (B, D), z (B, d)).
    pub fn evaluate(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.encoder.evaluate(x, &self.theta.as_detached_tensor())
    }

    /// p = h(z) in evaluation mode, or z itself where there is no predictor: (B, d) → (B, d).
    pub fn evaluate_p(&self, z: &Tensor) -> Result<Tensor> {
        match &self.predictor {
            None => Ok(z.clone()),
            Some(h) => Ok(h.engine.evaluate(z, &h.theta.as_detached_tensor())?.1),
        }
    }

    /// What `measure` gives, the running statistics left as they were.
    pub fn unmoved<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        let before: Vec<Vec<f32>> = self.parts().map(|part| part.engine.running()).collect();
        let measured = measure();
        for (part, running) in self.parts().zip(&before) {
            part.engine.set_running(running)?;
        }
        measured
    }

    /// The parts: "encoder", then, where there are such, "predictor" and "inverse".
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let encoder = Part { name: "encoder", engine: &self.encoder, theta: &self.theta };
        let heads = [("predictor", &self.predictor), ("inverse", &self.inverse)];
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

    /// Puts weights and running statistics into the part called `part`.
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
        part.theta.set(&Tensor::from_vec(theta, part.theta.dims(), &Device::Cpu)?)?;
        part.engine.set_running(running)
    }
}

impl FrozenEncoder for Model {
    fn z(&self, x: &Tensor) -> Result<Tensor> {
        self.frozen_z(x)
    }

    fn theta(&self) -> Result<Tensor> {
        Ok(self.theta.as_detached_tensor().copy()?)
    }

    fn z_by(&self, theta: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.unmoved(|| self.encoder.target(x, theta))
    }
}

fn flat(theta: Vec<f32>) -> Result<Var> {
    let len = theta.len();
    Ok(Var::from_vec(theta, len, &Device::Cpu)?)
}
